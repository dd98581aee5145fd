"""A client of Cloud Storage, with the credentials that Google's libraries find by themselves."""

from __future__ import annotations

from typing import Any

from sinks.google_clients import made, watched
from sinks.hurry import Hurry

# google-cloud-storage publishes no types.
Client = Any


def connect(deadline: float = 120.0, hurry: Hurry | None = None) -> Client:
    """Make a `google.cloud.storage.Client`; sends no request to Cloud Storage.

    The credentials are the Application Default Credentials. Where `STORAGE_EMULATOR_HOST` is set that server is
    used, without any. No project is asked for: objects are reached without one.

    Args:
        deadline: how long to look for credentials, in seconds. The metadata server of a virtual machine is asked
            last, and google.auth waits for it as it sees fit, whatever it is told.
        hurry: cuts its waits short; None: nothing does.

    Raises:
        SinkError: there are no credentials, or they were not found by then.
    """
    # Here, and not in the thread that looks for credentials: a process that ends while it imports these is aborted.
    from google.cloud import storage

    hurry = hurry or Hurry(deadline)

    def make() -> Client:
        return watched(_without_traces(storage.Client(project=None)), hurry)

    return made(
        make, service="Cloud Storage", emulator="STORAGE_EMULATOR_HOST", deadline=deadline, hurry=hurry
    )


def _without_traces(client: Client) -> Client:
    """Keep the client from asking for its buckets behind our backs.

    google-cloud-storage 3.17 does so in a thread of its own, at the first use of each, for the labels of traces that
    are off: a request that nobody waits for, with retries, and for a permission that the job does not need. The public
    switch is the environment variable DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA, which is not ours to set.
    """
    client._bucket_metadata_cache = None
    return client
