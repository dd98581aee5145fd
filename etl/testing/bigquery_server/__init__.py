"""BigQuery on this machine, for tests: local-bigquery as a process of its own, installed apart from everything else.

    python -m etl.testing.bigquery_server install .venv-bigquery      # once; needs Python 3.13
    python -m etl.testing.bigquery_server serve --root gcs --data bigquery

or in a test:

    with GcsServer(Path("gcs")) as gcs, BigQueryServer(gcs.root, Path("bigquery")) as bigquery:
        environment = gcs.environment() | bigquery.environment()

Google's client finds it by `BIGQUERY_EMULATOR_HOST`, and asks for credentials all the same: give it
`google.auth.credentials.AnonymousCredentials()`.
"""

from etl.testing.bigquery_server.server import BigQueryServer

__all__ = ["BigQueryServer"]
