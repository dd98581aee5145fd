"""An object in Cloud Storage for each part, written as it comes: no local disk is touched."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sinks.base import Data, SealedPart
from sinks.errors import NotDeleted, PartLost, SinkError
from sinks.gcs.client import connect
from sinks.gcs.manifest import Manifest
from sinks.gcs.objects import Objects, StoredObject
from sinks.gcs.staying import Staying
from sinks.gcs.upload import CHUNK_BYTES, CHUNK_UNIT, Upload, check_chunk_bytes
from sinks.google_clients import STORAGE_NEEDS, checked
from sinks.hurry import Hurry
from sinks.parts import InOrder, Part
from sinks.retry import Retry

if TYPE_CHECKING:
    from sinks.gcs.client import Client

# Two chunks are in memory; a sixteenth of what the job may take is theirs.
SHARE_OF_A_CHUNK = 32

# An object's name has at most 1,024 bytes (Cloud Storage documentation, "Object names"); 64 are the sink's own.
PREFIX_BYTES = 960


class GcsStream(InOrder):
    """Writes each part to an object of its own, which never changes once it is there.

    Part 7 of a job in its first epoch is `gs://BUCKET/flights/job/000001/000007-1a2b3c4d5e6f7a8b.ndjson.gz` for the
    prefix `flights/job.ndjson.gz`. The digits at the end are random, and an object is only ever created: no two
    processes, and no two attempts of one, write to the same name. It appears when the part is sealed, and not before.

    Needs the permissions storage.objects.create, get, list, delete and update (role Storage Object User).

    Args:
        bucket: the bucket's name; it must exist.
        prefix: what the names begin with. What follows the first dot in its last piece is a suffix and stands at the
            end of each name; from it a job guesses its format. No other job may have the same prefix.
        keep: whether objects outlive their release; if not, they are deleted then.
        chunk_bytes: how much is sent with one request, a multiple of 256 KiB; two chunks are in memory. Default: what
            fits the budget, 8 MiB at most.
        deadline: how long a request that fails is tried again, in seconds, since the last progress.
        user_project: the project that pays for each request, where the bucket lets the requester pay.
        client: a `google.cloud.storage.Client`; default: one with the credentials that Google's libraries find, made
            when it is needed. It is not pickled.

    Raises:
        ValueError: no bucket or prefix can be called that, or chunks cannot have that size.
    """

    slots: int | None = None

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        keep: bool = False,
        chunk_bytes: int | None = None,
        deadline: float = 120.0,
        user_project: str | None = None,
        client: Client | None = None,
    ) -> None:
        super().__init__()
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", bucket):
            raise ValueError(
                f"GcsStream(bucket={bucket!r}): expected the name of a bucket alone, such as 'my-bucket'"
            )
        prefix = prefix.removesuffix("/")
        pieces = prefix.split("/") if prefix else []
        if any(piece in ("", ".", "..") for piece in pieces) or re.search(r"[\x00-\x1f\x7f*?\[\]#]", prefix):
            raise ValueError(
                f"GcsStream(prefix={prefix!r}): expected names with single slashes between them, without control "
                "characters and any of *?[]#, such as 'flights/job.ndjson.gz'"
            )
        if len(prefix.encode()) > PREFIX_BYTES:
            raise ValueError(f"GcsStream(prefix={prefix!r}): expected {PREFIX_BYTES} bytes at the most")
        if chunk_bytes is not None:
            check_chunk_bytes(chunk_bytes)
        self._hurry = Hurry(deadline)
        self._retry = Retry(deadline=deadline, hurry=self._hurry)
        self.bucket = bucket
        self.prefix = prefix
        self.path = f"gs://{bucket}/{prefix}"
        self.keep = keep
        self.lasting = keep
        self.chunk_bytes = chunk_bytes
        self.deadline = deadline
        self.user_project = user_project
        self._chunk_bytes = chunk_bytes or CHUNK_BYTES
        self._client = checked(client, "bucket")
        self._own: Client | None = None
        self._spare: list[bytearray] = []
        self._latest = 0
        stem, dot, suffix = (pieces[-1] if pieces else "").partition(".")
        self._suffix = dot + suffix
        self._directory = "".join(f"{piece}/" for piece in [*pieces[:-1], stem] if piece)
        number = r"(\d{6}|[1-9]\d{6,})"
        self._names = re.compile(
            rf"{re.escape(self._directory)}{number}/{number}-[0-9a-f]{{16}}{re.escape(self._suffix)}"
        )

    def least_memory(self) -> dict[str, int]:
        """Return what it needs; see `NeedsMemory`."""
        return {**STORAGE_NEEDS, "two chunks of the upload": 2 * (self.chunk_bytes or CHUNK_UNIT)}

    def take_budget(self, *, memory: int | None, durable: bool) -> None:  # noqa: ARG002
        """Hear what the run may take; as `TakesBudget`."""
        if self.chunk_bytes is None:
            size = CHUNK_BYTES if memory is None else memory // SHARE_OF_A_CHUNK
            self._chunk_bytes = max(CHUNK_UNIT, min(size, CHUNK_BYTES) // CHUNK_UNIT * CHUNK_UNIT)
            self._spare = []

    def hurry(self, now: bool) -> None:
        """Cut waits short, or wait as ever again; as `Hurries.hurry`."""
        self._hurry.tell(now)

    def occupied_by(self) -> str | None:
        """Return the URI of an object that is named as ours are, or None."""
        return next((self._objects.uri(name.stored.name) for name in self._ours()), None)

    def recover(self, sealed: Sequence[SealedPart], last: SealedPart | None, *, epoch: int = 0) -> None:
        """Keep what the job has use for, delete all else that it wrote up to `epoch`.

        With `keep=False` those are the objects of `sealed`. Otherwise it keeps the ones up to `last` too, but of an
        earlier epoch only those before the first of a later one: from there on the later epoch wrote them again. What
        a later epoch than `epoch` wrote is a successor's.

        What a retention policy or a hold keeps is not asked for; after some refusals nothing more is.
        """
        names = {self._name_of(part) for part in sealed}
        numbers = {part.sequence for part in sealed}
        found: dict[str, StoredObject] = {}
        first: dict[int, int] = {}  # of each epoch, the lowest sequence that it wrote
        # Listed twice, and never held: a job that keeps its objects may have any number of them.
        for each in self._ours():
            first[each.epoch] = min(first.get(each.epoch, each.sequence), each.sequence)
            if each.stored.name in names:
                found[each.stored.name] = each.stored
        self._latest = max(first, default=0)
        self._check_sealed(sealed, found)
        self._abort_open()
        highest = last.sequence if last else 0
        stays = Staying(self._objects)
        # Before what it names is deleted; where nothing is kept any more, what was named when it was.
        self._withdraw(highest if self.keep else 0, epoch)
        for each in self._ours() if first else ():
            if each.epoch > epoch or each.stored.name in names:
                continue
            again = any(each.epoch < other <= epoch and first[other] <= each.sequence for other in first)
            if not self.keep or each.sequence > highest or each.sequence in numbers or again:
                stays.delete(each.stored)
        self._start(last)
        stays.tell(self.path)

    def latest_epoch(self) -> int:
        """Return the highest epoch that `recover` found; as `SeesEpochs.latest_epoch`."""
        return self._latest

    def open_part(self, sequence: int, *, epoch: int = 0) -> Part:
        """Open part `sequence`; nothing is sent before a chunk is full, or the part is sealed.

        Raises:
            SinkError: there are no credentials.
        """
        self._expect(sequence)
        name = f"{self._directory}{epoch:06d}/{sequence:06d}-{secrets.token_hex(8)}{self._suffix}"
        upload = Upload(
            self._connected,
            self.bucket,
            name,
            chunk_bytes=self._chunk_bytes,
            retry=self._retry,
            spare=self._spare,
            user_project=self.user_project,
        )
        self._current = _Object(self, sequence, self._objects.uri(name), upload)
        return self._current

    def release(self, part: SealedPart) -> None:
        """Delete the object with `keep=False`, if it is the one that was sealed; otherwise do nothing.

        Raises:
            NotDeleted: a retention policy or a hold keeps it, or the account may not delete.
            SinkError: it could not be deleted; may be repeated.
        """
        name = self._name_of(part)
        if not self.keep and name is not None:
            self._objects.delete(name, part.generation)

    def discard(self, part: SealedPart) -> None:
        """Delete an object that nobody knows of, by its generation; as `Discards.discard`."""
        name = self._name_of(part)
        if name is not None:
            self._objects.delete(name, part.generation)

    def publish(self, parts: Sequence[SealedPart], *, epoch: int) -> None:
        """Name `parts` in the manifest (`sinks.gcs.manifest`); as `Publishes.publish`. Without `keep`, do nothing."""
        if self.keep:
            self._manifest.add(parts, epoch=epoch)

    def published(self, part: SealedPart) -> bool:
        """Say whether the manifest names `part`; as `Publishes.published`."""
        return self.keep and self._manifest.names(part)

    def publish_all(self, last: int) -> None:
        """Name what lies there up to part `last`; as `Publishes.publish_all`.

        For what was written before there were manifests. Where a number appears twice the later epoch's counts, and of
        one epoch the later object.
        """
        if not self.keep:
            return
        first: dict[int, int] = {}
        for each in self._ours():
            first[each.epoch] = min(first.get(each.epoch, each.sequence), each.sequence)
        count: dict[int, _Named] = {}  # of each number, the one that counts
        for each in self._ours() if first else ():
            again = any(each.epoch < other and first[other] <= each.sequence for other in first)
            twin = count.get(each.sequence)
            later = twin is None or each.stored.generation > twin.stored.generation
            if each.sequence <= last and not again and later:
                count[each.sequence] = each
        self._manifest.cut(0, epoch=max(first, default=0))
        parts = [
            SealedPart(
                sequence=number,
                uri=self._objects.uri(each.stored.name),
                bytes=each.stored.bytes,
                crc32c=each.stored.crc32c or 0,
                generation=each.stored.generation,
            )
            for number, each in sorted(count.items())
        ]
        if parts:
            self._manifest.add(parts, epoch=max(first))

    def close(self) -> None:
        """Abort a part that is open still, and close the connections of a client that was made here."""
        self._abort_open()
        self._spare = []
        if self._own is not None:
            self._own.close()
            self._own = None

    @property
    def _connected(self) -> Client:
        if self._client is not None:
            return self._client
        if self._own is None:
            self._own = connect(self.deadline, self._hurry)
        return self._own

    @property
    def _objects(self) -> Objects:
        return Objects(self._connected, self.bucket, retry=self._retry, user_project=self.user_project)

    @property
    def _manifest(self) -> Manifest:
        def epoch_of(uri: str) -> int:
            match = self._names.fullmatch(uri.removeprefix(f"gs://{self.bucket}/"))
            return int(match[1]) if match else 0

        return Manifest(self._objects, self._directory, epoch_of)

    def _withdraw(self, last: int, epoch: int) -> None:
        """Tell readers of no part any more whose number is greater than `last`.

        What may not be taken back is no reason to leave it: what is pulled again would be read twice.

        Raises:
            SinkError: they cannot be told.
        """
        try:
            self._manifest.cut(last, epoch=epoch)
        except NotDeleted as error:
            raise SinkError(
                f"readers of {self.path} are told of parts after number {last}, which do not count any more, and that "
                f"cannot be taken back: {error}. Put the newest checkpoint back if an older one is there; or let the "
                "manifest be changed, or give the job another prefix, and run again"
            ) from error

    def _ours(self) -> Iterator[_Named]:
        """Yield the objects that are named as ours are."""
        for stored in self._objects.under(self._directory):
            if match := self._names.fullmatch(stored.name):
                yield _Named(int(match[1]), int(match[2]), stored)

    def _name_of(self, part: SealedPart) -> str | None:
        """Return the name of a part's object; None: this sink does not write there."""
        name = part.uri.removeprefix(f"gs://{self.bucket}/")
        return name if name != part.uri and self._names.fullmatch(name) else None

    def _check_sealed(self, sealed: Sequence[SealedPart], stored: Mapping[str, StoredObject]) -> None:
        """Make sure that each part is there as it was sealed.

        Raises:
            PartLost: one is not.
        """
        for part in sealed:
            name = self._name_of(part)
            if name is None:
                raise PartLost(
                    f"part {part.sequence} is at {part.uri}, where {self!r} does not write; give the sink the bucket "
                    "and the prefix that it had, or the part must be written again"
                )
            found = stored.get(name)
            if found is None:
                raise PartLost(
                    f"part {part.sequence}, {part.uri}, is not there: somebody deleted it (a lifecycle rule?); it "
                    "must be written again, which the next run of a job does"
                )
            if (found.generation, found.bytes, found.crc32c) != (part.generation, part.bytes, part.crc32c):
                raise PartLost(
                    f"part {part.sequence}, {part.uri}, has {found.bytes:,} bytes in generation {found.generation}, "
                    f"not {part.bytes:,} in {part.generation} as it was sealed: somebody overwrote it; it must be "
                    "written again, which the next run of a job does"
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bucket!r}, prefix={self.prefix!r})"

    def __reduce__(self) -> tuple[partial[GcsStream], tuple[()]]:
        again = partial(
            GcsStream,
            self.bucket,
            prefix=self.prefix,
            keep=self.keep,
            chunk_bytes=self.chunk_bytes,
            deadline=self.deadline,
            user_project=self.user_project,
        )
        return again, ()


class _Named(NamedTuple):
    """An object that is named as ours are, and what its name says."""

    epoch: int
    sequence: int
    stored: StoredObject


class _Object(Part):
    def __init__(self, sink: GcsStream, sequence: int, uri: str, upload: Upload) -> None:
        super().__init__(sink, sequence)
        self._object = uri
        self._upload = upload

    def describe(self, facts: Mapping[str, str]) -> None:
        """Keep `facts` as custom metadata of the object; as `TakesFacts.describe`."""
        self._check()
        self._upload.describe(facts)

    def seal(self) -> SealedPart:
        """Make the object; as `PartWriter.seal`. May be repeated."""
        if self._sealed is None:
            self._check()
            try:
                self._generation = self._upload.finish().generation  # not known before
            except BaseException:
                self._failed = True
                raise
        return super().seal()

    def _take(self, data: Data) -> None:
        self._upload.write(data)

    def _checksum(self, data: Data) -> int:  # noqa: ARG002
        # Of the same bytes, and the server has confirmed it when the part is sealed. Making it twice takes time that
        # encoding does without.
        return self._upload.crc32c

    def _uri(self) -> str:
        return self._object

    def _finish(self, sealed: SealedPart) -> None:
        """Do nothing: `seal` did, before the generation was asked for."""

    def _undo(self) -> None:
        self._upload.abort()
