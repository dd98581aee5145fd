"""A strict Google Cloud Storage server for tests: standard library only, objects as plain files.

    python -m etl.testing.gcs_server --root DIRECTORY --port 4443 --bucket parts

prints its URL when it is ready; `STORAGE_EMULATOR_HOST=<that URL>` makes Google's client go there. In tests it runs on
threads of the test's own process: see `GcsServer`.

It is strict where other emulators are not, because the bugs of an uploader live there: true offsets and partial
persistence in resumable uploads, every precondition on every kind of request, checksums verified, sessions that end
as the real ones do, retention policies, holds, requester pays, and the limits of custom metadata. What it does not
know (versions, batches, access control, encryption keys) it refuses with 501 or 404 rather than ignore.
"""

from etl.testing.gcs_server.answers import ApiError
from etl.testing.gcs_server.server import GcsServer

__all__ = ["ApiError", "GcsServer"]
