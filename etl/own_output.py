"""Sees that a job does not read what it writes: its source may match its own parts, and it would never end."""

from __future__ import annotations

from etl.records import ReadsFiles
from sinks import SealedPart, SinkError
from sinks.local_files import locate


class OwnOutput:
    """Compares the first parts of a run with what the source reads; their names all follow one scheme.

    Args:
        source: the job's source; one that reads no files of this machine is not asked.
    """

    def __init__(self, source: object) -> None:
        self._source = source if isinstance(source, ReadsFiles) else None
        self._seen: set[str] = set()

    def see(self, **parts: SealedPart | None) -> None:
        """Look at parts that are there, and not committed yet, by what they are called in a job file.

        Raises:
            SinkError: the source would read one of them.
        """
        for name, part in parts.items():
            if self._source is None or part is None or name in self._seen or not part.uri.startswith("file:"):
                continue
            self._seen.add(name)
            path = locate(part.uri).path
            if self._source.reads(str(path)):
                raise SinkError(
                    f"the source reads {path}, which {name} writes: the job would read its own output. Write it to "
                    "another folder, or let `paths` of the source leave it out; nothing of this part was kept"
                )
