"""Run examples/flights_bigquery.toml against a Cloud Storage and a BigQuery on this machine: no account, no network.

    make demo-gcp

The servers are those that tests use (`etl.testing`). What they hold is in a temporary directory and gone in the end.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from etl.testing.bigquery_server import BigQueryServer
from etl.testing.gcs_server import GcsServer

EXAMPLES = Path(__file__).parent
LOCAL_BIGQUERY = EXAMPLES.parent / ".venv-bigquery/bin/python"
JOB = EXAMPLES / "flights_bigquery.toml"
ANSWERS = EXAMPLES / "flights_bigquery_answers.py"
PROJECT, BUCKET = "test", "open-data"


def run(what: str, *command: str | Path) -> None:
    """Say what is run, and run it; end with its exit code if it fails."""
    print(f"\n$ {what}", flush=True)
    if code := subprocess.run([sys.executable, *command], check=False).returncode:  # noqa: S603 - our own
        sys.exit(code)


def main() -> None:
    """Start the servers, run the job, verify it, ask for the answers."""
    if not LOCAL_BIGQUERY.exists():
        sys.exit("what serves as BigQuery is not installed: run `make bigquery`, which takes Python 3.13")
    with tempfile.TemporaryDirectory() as name:
        root, data = Path(name) / "gcs", Path(name) / "bigquery"
        with (
            GcsServer(root) as storage,
            BigQueryServer(root, data, python=LOCAL_BIGQUERY, project=PROJECT) as warehouse,
        ):
            print(f"on this machine: Cloud Storage at {storage.url}, BigQuery at {warehouse.url}")
            os.environ |= storage.environment() | warehouse.environment()
            os.environ |= {"BUCKET": BUCKET, "PROJECT": PROJECT}
            storage.create_bucket(BUCKET)
            client = bigquery.Client(PROJECT, location="EU", credentials=AnonymousCredentials())
            client.create_dataset("flights")
            client.close()

            run("etl run examples/flights_bigquery.toml", "-m", "etl", "run", JOB)
            run("etl verify examples/flights_bigquery.toml", "-m", "etl", "verify", JOB)
            run("python examples/flights_bigquery_answers.py", ANSWERS)
            print(f"\nleft in the bucket: {', '.join(storage.objects(BUCKET))}")


if __name__ == "__main__":
    main()
