"""Google Cloud Storage: the client, objects, and an upload that never leaves a part of an object behind.

Nothing of Google's is imported before it is used.
"""

from sinks.gcs.client import connect
from sinks.gcs.objects import Objects, StoredObject
from sinks.gcs.upload import Upload

__all__ = ["Objects", "StoredObject", "Upload", "connect"]
