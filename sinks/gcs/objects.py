"""Objects of one bucket: found, listed, described and deleted, each under a precondition and within the deadline.

A request whose answer was lost is sent again, and then finds what it did itself: a deletion that finds nothing
has succeeded, and so has a change that finds the values it wanted.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from sinks import checksum, google_errors
from sinks.errors import NotDeleted, SinkError
from sinks.gcs.client import Client
from sinks.retry import Retry

T = TypeVar("T")

# How many objects are asked for at once; the most that there are (REST reference, "Objects: list").
PAGE = 1000
FIELDS = (
    "items(name,generation,metageneration,size,crc32c,metadata,retentionExpirationTime,temporaryHold,eventBasedHold),"
    "nextPageToken"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What Cloud Storage says of an object.

    Attributes:
        name: its name within the bucket.
        generation: tells two contents of one name apart.
        metageneration: grows with each change of the metadata.
        bytes: its length in bytes.
        crc32c: the CRC-32C of its bytes; None: the server did not say.
        metadata: the custom metadata.
        held: whether a hold keeps it from being deleted.
        retained_until: until when a retention policy keeps it from being deleted; None: none does.
    """

    name: str
    generation: int
    metageneration: int
    bytes: int
    crc32c: int | None
    metadata: Mapping[str, str] = field(default_factory=dict)
    held: bool = False
    retained_until: datetime | None = None

    @property
    def kept(self) -> bool:
        """Whether to delete it now would be refused, as far as its resource says."""
        return self.held or (self.retained_until is not None and datetime.now(UTC) < self.retained_until)

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> Self:
        """Read it from the JSON API's resource ("Objects", REST reference).

        Raises:
            KeyError, TypeError, ValueError: it is no such resource.
        """
        crc = resource.get("crc32c")
        until = resource.get("retentionExpirationTime")
        return cls(
            name=resource["name"],
            generation=int(resource["generation"]),
            metageneration=int(resource.get("metageneration", 1)),
            bytes=int(resource.get("size", 0)),  # some servers leave out what is 0
            crc32c=int.from_bytes(base64.b64decode(crc), "big") if crc else None,
            metadata=dict(resource.get("metadata") or {}),
            held=bool(resource.get("temporaryHold") or resource.get("eventBasedHold")),
            retained_until=datetime.fromisoformat(until) if until else None,
        )


def described(resource: Mapping[str, Any]) -> StoredObject:
    """Read what a server says of an object.

    Raises:
        ConnectionError: it is no resource of an object; asked again, the server may say something else.
    """
    try:
        return StoredObject.of(resource)
    except (KeyError, TypeError, ValueError) as error:
        raise ConnectionError("the answer is not whole") from error


@contextmanager
def explained(what: str, needs: str) -> Iterator[None]:
    """Turn what Google's clients raise within into a SinkError that says what to do.

    Args:
        what: what is tried, and where, to be read after "cannot".
        needs: the permission that it takes.
    """
    try:
        yield
    except Exception as error:
        if not google_errors.known(error):
            raise
        raise SinkError(google_errors.explain(error, what, needs=needs)) from error


class Objects:
    """The objects of a bucket.

    Args:
        client: a `google.cloud.storage.Client`.
        bucket: the bucket's name.
        retry: how long each request is tried again.
        user_project: the project that pays for each request, where the requester does.
    """

    def __init__(
        self, client: Client, bucket: str, *, retry: Retry | None = None, user_project: str | None = None
    ) -> None:
        self._client = client
        self._bucket = client.bucket(bucket, user_project=user_project)
        self._retry = retry or Retry()

    def uri(self, name: str) -> str:
        """Return the object's URI."""
        return f"gs://{self._bucket.name}/{name}"

    def under(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose names begin with `prefix`, in order; asks for a page when it is needed.

        Raises:
            SinkError: the bucket does not exist, or cannot be listed.
        """
        token: str | None = None
        while True:
            page, token = self._page(prefix, token)
            yield from page
            if token is None:
                return

    def _page(self, prefix: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        def ask() -> tuple[list[StoredObject], str | None]:
            # One page each time: the library's iterator cannot go on after an error.
            found = self._client.list_blobs(
                self._bucket,
                prefix=prefix,
                page_token=token,
                page_size=PAGE,
                fields=FIELDS,
                timeout=self._retry.timeout,
                retry=None,
            )
            page = next(found.pages, ())
            return [described(blob._properties) for blob in page], found.next_page_token

        return self._call(ask, f"list gs://{self._bucket.name}/{prefix}", "storage.objects.list")

    def find(self, name: str) -> StoredObject | None:
        """Return what the object is now; None: there is none.

        Raises:
            SinkError: nobody can say.
        """

        def ask() -> StoredObject | None:
            blob = self._bucket.get_blob(name, timeout=self._retry.timeout, retry=None)
            return None if blob is None else described(blob._properties)

        return self._call(ask, f"look at {self.uri(name)}", "storage.objects.get")

    def delete(self, name: str, generation: int) -> bool:
        """Delete the object if it is of that generation still; return whether nothing stands there now.

        Raises:
            NotDeleted: a retention policy or a hold keeps it, or the account may not delete it.
            SinkError: it cannot be deleted.
        """
        from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed

        def ask() -> bool:
            try:
                self._bucket.blob(name).delete(
                    if_generation_match=generation, timeout=self._retry.timeout, retry=None
                )
            except NotFound:
                return True
            except PreconditionFailed:
                return False
            except Forbidden as error:
                raise NotDeleted(
                    f"{self.uri(name)} stays: it cannot be deleted ({google_errors.words(error)}); unless a retention "
                    "policy or a hold keeps it, give the account storage.objects.delete"
                ) from error
            return True

        return self._call(ask, f"delete {self.uri(name)}", "storage.objects.delete")

    def content(self, stored: StoredObject) -> bytes:
        """Return the bytes of a small object, of that generation, as they were stored.

        Raises:
            SinkError: it is gone, it cannot be read, or what comes has another checksum each time until the deadline.
        """

        def ask() -> bytes:
            blob = self._bucket.blob(stored.name, generation=stored.generation)
            data: bytes = blob.download_as_bytes(checksum=None, timeout=self._retry.timeout, retry=None)
            if stored.crc32c is not None and checksum.extend(0, data) != stored.crc32c:
                raise ConnectionError("what came has not the checksum that Cloud Storage has for it")
            return data

        return self._call(ask, f"read {self.uri(stored.name)}", "storage.objects.get")

    def put(self, name: str, data: bytes, *, generation: int) -> bool:
        """Make a small object, or replace one of that generation (0: there is none); return whether that is done.

        Raises:
            NotDeleted: a retention policy or a hold keeps what is there, or the account may not replace it.
            SinkError: it cannot be made.
        """
        from google.api_core.exceptions import Forbidden, PreconditionFailed

        def ask() -> bool:
            try:
                self._bucket.blob(name).upload_from_string(
                    data,
                    content_type="application/json",
                    if_generation_match=generation,
                    checksum="crc32c",
                    timeout=self._retry.timeout,
                    retry=None,
                )
            except PreconditionFailed:
                return False  # or its answer was lost: who asks again finds that it is there
            except Forbidden as error:
                if not generation:
                    raise
                raise NotDeleted(
                    f"{self.uri(name)} stays as it is: it cannot be replaced ({google_errors.words(error)})"
                ) from error
            return True

        return self._call(ask, f"write {self.uri(name)}", "storage.objects.create and storage.objects.delete")

    def describe(self, stored: StoredObject, metadata: Mapping[str, str]) -> None:
        """Set custom metadata of the object as it is known; other keys stay.

        Raises:
            SinkError: somebody else changed it meanwhile, or it cannot be changed.
        """
        from google.api_core.exceptions import PreconditionFailed

        def ask() -> None:
            blob = self._bucket.blob(stored.name)
            blob.metadata = dict(metadata)
            try:
                blob.patch(
                    if_generation_match=stored.generation,
                    if_metageneration_match=stored.metageneration,
                    timeout=self._retry.timeout,
                    retry=None,
                )
            except PreconditionFailed:
                now = self.find(stored.name)
                ours = now is not None and now.generation == stored.generation
                if now is None or not ours or not metadata.items() <= now.metadata.items():
                    raise

        self._call(ask, f"describe {self.uri(stored.name)}", "storage.objects.update")

    def _call(self, ask: Callable[[], T], what: str, needs: str) -> T:
        with explained(what, needs):
            return self._retry.call(ask, passing=google_errors.passing)
