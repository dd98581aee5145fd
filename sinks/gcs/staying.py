"""Objects that are not needed any more: deleted, or left where the storage keeps them, and counted."""

from __future__ import annotations

from sinks.errors import NotDeleted
from sinks.gcs.objects import Objects, StoredObject

# After so many refusals nothing more is deleted: it is the account that may not, and each costs a request.
MOST_REFUSED = 10


class Staying:
    """Deletes objects, and counts those that it cannot delete.

    Args:
        objects: the objects of the bucket.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._kept = 0
        self._refused = 0
        self._error: NotDeleted | None = None

    def delete(self, stored: StoredObject) -> None:
        """Delete an object, unless it is kept, as its resource says, or too much was refused."""
        if stored.kept or self._refused >= MOST_REFUSED:
            self._kept += 1
            return
        try:
            self._objects.delete(stored.name, stored.generation)
        except NotDeleted as error:
            self._kept += 1
            self._refused += 1
            self._error = error

    def tell(self, path: str) -> None:
        """Raise if anything stays.

        Raises:
            NotDeleted: something does.
        """
        if self._kept:
            why = f": {self._error}" if self._error else ", which a retention policy or a hold keeps"
            raise NotDeleted(
                f"{self._kept:,} objects of {path} that are not needed any more stay{why}"
            ) from self._error
