"""A manifest: names the objects of a sink that count, for those who read its bucket.

    <folder>/_manifest/<name>/000001.json
    {"sequence":1,"uri":"gs://bucket/flights/job/000001/000001-1a2b….ndjson","bytes":51200,"crc32c":42,"generation":1764}
    {"sequence":2,"uri":…}

It is a folder of files, each with one object a line (newline-delimited JSON, as DuckDB, BigQuery and Spark read it) and
called after the first number in it. A file is written in one step and only added to the others, so that who reads all
of them sees every object that counted at that moment, each once. It lies beside the folder of the objects, not in it: a
pattern such as `gs://bucket/flights/job/*` must not take it for data.

That no object is named twice follows from the names: who adds begins where the files before end, so a half-dead process
and its successor, which both have the same to add, want to make the same file, and only one of them can.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from sinks.base import SealedPart
from sinks.errors import SinkError
from sinks.gcs.objects import Objects, StoredObject

FOLDER = "_manifest"


class Manifest:
    """The manifest of the objects below one folder.

    Args:
        objects: the objects of the bucket.
        directory: the folder of the objects, with a slash at its end; empty: the bucket itself.
        epoch_of: says in which epoch an object was made, by its URI.
    """

    def __init__(self, objects: Objects, directory: str, epoch_of: Callable[[str], int]) -> None:
        above, name = posixpath.split(directory.rstrip("/"))
        self._objects = objects
        self._epoch_of = epoch_of
        self._folder = "/".join(piece for piece in (above, FOLDER, name) if piece) + "/"
        self._files = re.compile(rf"{re.escape(self._folder)}(\d{{6}}|[1-9]\d{{6,}})\.json")

    def add(self, parts: Sequence[SealedPart], *, epoch: int) -> None:
        """Name `parts`, in ascending order, which follow all that are named. Durable on return; may be repeated.

        Args:
            parts: the parts.
            epoch: of the process that adds them.

        Raises:
            SinkError: they cannot be named.
        """
        while parts:
            name = f"{self._folder}{parts[0].sequence:06d}.json"
            stored = self._objects.find(name)
            there = [] if stored is None else self._read(stored)
            if any(self._epoch_of(each.uri) > epoch for each in there):
                return  # a successor's: this process is fenced, and will hear of it
            known = {each.uri for each in there}
            if parts[0].uri in known:
                parts = [part for part in parts if part.uri not in known]
            elif self._objects.put(
                name, _lines(parts), generation=0 if stored is None else stored.generation
            ):
                return

    def names(self, part: SealedPart) -> bool:
        """Say whether a part is named.

        Raises:
            SinkError: nobody can say.
        """
        before = [stored for first, stored in self._all() if first <= part.sequence]
        return bool(before) and any(each.uri == part.uri for each in self._read(before[-1]))

    def cut(self, last: int, *, epoch: int) -> None:
        """Name no part any more whose number is greater than `last`. May be repeated, and interrupted.

        Args:
            last: the number.
            epoch: what a later epoch than that made is a successor's, and stays.

        Raises:
            NotDeleted: a retention policy or a hold keeps what names them.
            SinkError: anything else.
        """
        files = list(self._all())
        for first, stored in reversed(files):
            there = self._read(stored)
            kept = [part for part in there if part.sequence <= last or self._epoch_of(part.uri) > epoch]
            if not kept:
                self._objects.delete(stored.name, stored.generation)
            elif len(kept) < len(there):
                self._objects.put(stored.name, _lines(kept), generation=stored.generation)
            if first <= last:
                return

    def _all(self) -> Iterable[tuple[int, StoredObject]]:
        """Yield the files in order, each with the first number in it; a few bytes for each file."""
        found = [(self._files.fullmatch(stored.name), stored) for stored in self._objects.under(self._folder)]
        return sorted(((int(match[1]), stored) for match, stored in found if match), key=lambda each: each[0])

    def _read(self, stored: StoredObject) -> list[SealedPart]:
        try:
            return [SealedPart(**json.loads(line)) for line in self._objects.content(stored).splitlines()]
        except (TypeError, ValueError) as error:
            raise SinkError(
                f"{self._objects.uri(stored.name)} is no manifest of this sink, or a damaged one ({error}): "
                "put it back"
            ) from error


def _lines(parts: Iterable[SealedPart]) -> bytes:
    return b"".join(json.dumps(asdict(part), separators=(",", ":")).encode() + b"\n" for part in parts)
