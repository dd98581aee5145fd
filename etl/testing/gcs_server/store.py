"""Finished objects on disk: the bytes where other programs find them, what is known of them beside.

    <root>/<bucket>/<object name>                 the bytes; a slash in a name is a directory
    <state>/objects/<bucket>/<hash of the name>   what is known of the object, as JSON
    <state>/buckets/<bucket>.json                 what the bucket demands, if anything
    <state>/uploads/…                             bytes on their way in

An object's JSON names the file its bytes came in. Written first, it is the moment at which the object is there;
a server that is killed before it has moved the bytes moves them when it starts again.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from etl.testing.gcs_server.answers import ApiError, invalid, no_bucket, no_object
from etl.testing.gcs_server.conditions import Conditions
from etl.testing.gcs_server.contents import Checksums, Incoming
from etl.testing.gcs_server.policies import Policies
from etl.testing.gcs_server.resources import Description, StoredObject, now

# Source: https://cloud.google.com/storage/docs/buckets#naming
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")

# Source: https://cloud.google.com/storage/docs/objects#naming; and what a directory entry may take on Linux.
LONGEST_NAME, LONGEST_COMPONENT = 1024, 255


def check_name(name: str) -> None:
    """Raise unless an object of this name can be a file below its bucket's directory.

    Raises:
        ApiError: 400.
    """
    components = name.split("/")
    if not name or len(name.encode()) > LONGEST_NAME or re.search(r"[\r\n\0]", name):
        raise invalid(f"Invalid object name: {name[:100]!r}.")
    if {"", ".", ".."}.intersection(components):
        raise invalid(f"Invalid object name: {name!r} is no path below the bucket; this server stores files.")
    if max(len(component.encode()) for component in components) > LONGEST_COMPONENT:
        raise invalid(
            f"Invalid object name: a piece between slashes is longer than {LONGEST_COMPONENT} bytes."
        )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a small JSON file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid4().hex}.draft")
    draft.write_text(json.dumps(value))
    draft.replace(path)


class Store:
    """The buckets and objects below `root`; safe to use from many threads."""

    def __init__(self, root: Path, state: Path, *, md5: bool) -> None:
        self.root = root
        self.uploads = state / "uploads"
        self._known = state / "objects"
        self._buckets = state / "buckets"
        self._policies: dict[str, Policies] = {}
        self._md5 = md5
        self._lock = threading.RLock()
        self._objects: dict[str, dict[str, StoredObject]] = {}
        self._last_generation = 0
        # Which upload an object came from, for the sessions that must be told so after a restart.
        self.origins: dict[str, StoredObject] = {}
        for directory in (root, self.uploads, self._known):
            directory.mkdir(parents=True, exist_ok=True)
        if root.stat().st_dev != state.stat().st_dev:
            raise ValueError(f"{root} and {state} are on two file systems: objects could not appear at once")
        self._recover()

    # Buckets

    def create_bucket(self, name: str) -> None:
        """Make an empty bucket.

        Raises:
            ApiError: 400, no name for a bucket; 409, it exists.
        """
        if not BUCKET_NAME.fullmatch(name):
            raise invalid(f"Invalid bucket name: {name!r}")
        with self._lock:
            if name in self._objects:
                message = "Your previous request to create the named bucket succeeded and you already own it."
                raise ApiError(409, "conflict", message)
            (self.root / name).mkdir(exist_ok=True)
            self._objects[name] = {}

    def delete_bucket(self, name: str) -> None:
        """Take an empty bucket away.

        Raises:
            ApiError: 404, there is none; 409, it is not empty.
        """
        with self._lock:
            if self.objects(name):
                raise ApiError(409, "conflict", "The bucket you tried to delete is not empty.")
            (self.root / name).rmdir()
            del self._objects[name]
            self._policies.pop(name, None)
            self._settings(name).unlink(missing_ok=True)

    def policies(self, bucket: str) -> Policies:
        """Return what a bucket demands.

        Raises:
            ApiError: 404, there is no such bucket.
        """
        with self._lock:
            if bucket not in self._objects:
                raise no_bucket()
            return self._policies.get(bucket, Policies())

    def pays(self, bucket: str) -> bool:
        """Say whether who asks for a bucket must pay for it; one that does not exist costs nothing."""
        with self._lock:
            return self._policies.get(bucket, Policies()).requester_pays

    def configure(self, bucket: str, policies: Policies) -> None:
        """Let a bucket demand something else from now on, of the objects that are there, too."""
        with self._lock:
            self._policies[bucket] = policies
            write_json(self._settings(bucket), asdict(policies))

    def buckets(self) -> list[str]:
        """Return the buckets' names, sorted."""
        with self._lock:
            return sorted(self._objects)

    def objects(self, bucket: str) -> dict[str, StoredObject]:
        """Return a copy of a bucket's index.

        Raises:
            ApiError: 404, there is no such bucket.
        """
        with self._lock:
            if bucket not in self._objects:
                raise no_bucket()
            policies = self.policies(bucket)
            return {name: policies.dated(found) for name, found in self._objects[bucket].items()}

    # Objects

    def find(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        """Return what is known of an object.

        Raises:
            ApiError: 404, there is no such bucket, object or generation.
        """
        with self._lock:
            found = self._live(bucket, name)
            if found is None or generation not in (None, found.generation):
                raise no_object(bucket, name)
            return self.policies(bucket).dated(found)

    def open(
        self, bucket: str, name: str, conditions: Conditions, generation: int | None = None
    ) -> tuple[StoredObject, BinaryIO]:
        """Return an object and its bytes, which stay readable when it is replaced or deleted.

        Raises:
            ApiError: 404; 412 or 304, `conditions` do not hold.
        """
        with self._lock:
            found = self.find(bucket, name, generation)
            conditions.check(found, reading=True)
            return found, self._path(found).open("rb")

    def check(self, bucket: str, name: str, conditions: Conditions) -> None:
        """Raise when an object could not be written now.

        Raises:
            ApiError: 404, no such bucket; 400, no name for a file; 412, `conditions` do not hold.
        """
        with self._lock:
            live = self._live(bucket, name)
            check_name(name)
            conditions.check(live)
            path = self.root / bucket / name
            bucket_path = self.root / bucket
            above = [parent for parent in path.parents if parent.is_relative_to(bucket_path)]
            if path.is_dir() or any(parent.is_file() for parent in above):
                raise invalid(
                    f"{name!r} cannot be beside an object that has it, or a start of it, as its folder."
                )

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """Open a new file for bytes on their way in; it is deleted unless it was committed."""
        path = self.uploads / f"{uuid4().hex}.part"
        try:
            with Incoming(path, Checksums(md5=self._md5)) as incoming:
                yield incoming
        finally:
            path.unlink(missing_ok=True)

    def commit(
        self,
        bucket: str,
        name: str,
        data: Path,
        checksums: Checksums,
        description: Description,
        conditions: Conditions,
        *,
        components: int | None = None,
    ) -> StoredObject:
        """Make the file `data` the object's next generation; it appears whole or not at all.

        Raises:
            ApiError: as `check`; 403, what is there must not be replaced now.
        """
        with self._lock:
            self.check(bucket, name, conditions)
            policies = self.policies(bucket)
            if (live := self._live(bucket, name)) is not None:
                policies.check_free(live)
            if policies.holds and "eventBasedHold" not in description.holds:
                description = replace(description, holds={**description.holds, "eventBasedHold": True})
            # Real generations are the microseconds since 1970, too.
            self._last_generation = max(self._last_generation + 1, time.time_ns() // 1000)
            created = now()
            new = StoredObject(
                bucket=bucket,
                name=name,
                generation=self._last_generation,
                metageneration=1,
                size=data.stat().st_size,
                crc32c=checksums.crc32c,
                md5=checksums.md5 if components is None else None,
                created=created,
                updated=created,
                description=description,
                components=components,
            )
            new = policies.dated(new)
            self._write(new, data.name)
            self._move(new, data)
            self._objects[bucket][name] = new
            return new

    def describe(
        self, bucket: str, name: str, conditions: Conditions, changes: dict[str, Any], *, whole: bool
    ) -> StoredObject:
        """Change an object's description: its next metageneration.

        Args:
            bucket: the bucket.
            name: the object.
            conditions: what must hold.
            changes: fields of the resource.
            whole: `changes` replace all that is there, in place of being merged into it.

        Raises:
            ApiError: 404; 412, `conditions` do not hold; 400, a value is no text.
        """
        with self._lock:
            found = self.find(bucket, name)
            conditions.check(found)
            new = found.described((Description() if whole else found.description).patched(changes))
            new = self.policies(bucket).dated(new)
            self._write(new, "")
            self._objects[bucket][name] = new
            return new

    def delete(self, bucket: str, name: str, conditions: Conditions, generation: int | None = None) -> None:
        """Take an object away.

        Raises:
            ApiError: 404; 412, `conditions` do not hold; 403, it must not be deleted now.
        """
        with self._lock:
            found = self.find(bucket, name, generation)
            conditions.check(found)
            self.policies(bucket).check_free(found)
            path = self._path(found)
            path.unlink()
            with suppress(OSError):  # folders exist only while something is in them
                for parent in path.parents:
                    if parent == self.root / bucket:
                        break
                    parent.rmdir()
            self._record(found).unlink()
            del self._objects[bucket][name]

    def _live(self, bucket: str, name: str) -> StoredObject | None:
        if bucket not in self._objects:
            raise no_bucket()
        return self._objects[bucket].get(name)

    def _path(self, found: StoredObject) -> Path:
        return self.root / found.bucket / found.name

    def _record(self, found: StoredObject) -> Path:
        return self._known / found.bucket / hashlib.sha256(found.name.encode()).hexdigest()

    def _settings(self, bucket: str) -> Path:
        return self._buckets / f"{bucket}.json"

    def _write(self, found: StoredObject, origin: str) -> None:
        write_json(self._record(found), {"object": asdict(found), "origin": origin})

    def _move(self, found: StoredObject, data: Path) -> None:
        path = self._path(found)
        path.parent.mkdir(parents=True, exist_ok=True)
        data.replace(path)

    def _recover(self) -> None:
        """Read what is there, and finish what a killed server had begun."""
        self._objects = {path.name: {} for path in self.root.iterdir() if path.is_dir()}
        for path in self._buckets.glob("*.json"):
            self._policies[path.stem] = Policies(**json.loads(path.read_text()))
        for record in self._known.glob("*/*"):
            if record.suffix == ".draft":
                record.unlink()
                continue
            values = json.loads(record.read_text())
            found = StoredObject.load(values["object"])
            if values["origin"]:
                self.origins[values["origin"]] = found
                if (self.uploads / values["origin"]).exists():
                    self._move(found, self.uploads / values["origin"])
            if not self._path(found).is_file():
                record.unlink()
                continue
            self._objects[found.bucket][found.name] = found
            self._last_generation = max(self._last_generation, found.generation)
        for leftover in self.uploads.glob("*.part"):
            leftover.unlink()
