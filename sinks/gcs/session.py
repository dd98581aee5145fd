"""One resumable upload: the protocol alone, used by one thread at a time.

As Cloud Storage documents it ("Resumable uploads", "Perform resumable uploads"): a POST begins a session; each PUT
carries a chunk, and the answer's `Range` says what the server keeps of it; `bytes */*` asks how far it is; a PUT that
names the total makes the object; DELETE (answered 499) ends the session. What makes an upload safe is here: after
anything ambiguous the server is asked before a byte is sent again, and only what it says it has counts as sent.

The client library's own upload cannot be used for it: on a `Range` that is short it raises, and its DELETE goes to
the wrong address. So the session begins by the library's public call, and the rest is sent over the library's
transport, `client._http`: the one object that holds the credentials, renews them and knows of client certificates.
The library offers it under no public name.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from sinks import google_errors
from sinks.errors import SinkError, SinkOccupied, UploadLost
from sinks.gcs.client import Client
from sinks.gcs.objects import Objects, StoredObject, described, explained
from sinks.retry import Retry

# Sent at a time, at least. Python's socket counts its timeout over a whole `sendall`; one call for 8 MiB would need a
# line of 0.8 MB/s to get through in 10 s. So the first piece is small, and each that goes quickly is followed by one
# twice as large: at every call and return of the socket, this thread waits for its turn with the thread that encodes.
PIECE = 256 * 1024
LARGEST_PIECE = 8 * 1024 * 1024
QUICK_SECONDS = 0.1

# The session is not there, any more, or was ended (499): nothing can be finalised by it.
ENDED = frozenset({404, 410, 499})

# The name of the custom metadata that tells one's own object from one that another upload put there.
MARK = "upload"


class Stopped(Exception):
    """The upload was called off; not an error."""


class Session:
    """One resumable upload of one object, which must not exist.

    Args:
        client: a `google.cloud.storage.Client`.
        bucket: the bucket's name.
        name: the object's name.
        content_type: as in HTTP.
        retry: how long to try; its deadline begins again whenever the server has got more.
        user_project: the project that pays for it, where the requester does.

    Attributes:
        metadata: custom metadata; what it is when the session begins goes along. Replaced, never changed.
        described: what went along; None: the session has not begun.
        size: how many bytes were handed over to be sent.
        crc32c: the CRC-32C of all that is to be sent, as the server must find it; set before the last chunk is sent.
        finishing: whether the object may exist, or may yet come to exist by a request that was sent.
        finished: the object, once the server has said that it is there.
    """

    def __init__(
        self,
        client: Client,
        bucket: str,
        name: str,
        *,
        content_type: str,
        retry: Retry,
        user_project: str | None = None,
    ) -> None:
        self._transport = client._http  # made on first use, which two threads must not be
        self._blob = client.bucket(bucket, user_project=user_project).blob(name)
        self._client = client
        self._objects = Objects(client, bucket, retry=retry, user_project=user_project)
        self._uri: str | None = None
        self._content_type = content_type
        self._retry = retry
        self._stop = threading.Event()
        self._pace = Pace()
        self._stored = 0
        self._uncertain = False
        self.place = f"gs://{bucket}/{name}"
        self.metadata: Mapping[str, str] = {}
        self.described: Mapping[str, str] | None = None
        self.size = 0
        self.crc32c = 0
        self.finishing = False
        self.finished: StoredObject | None = None

    @property
    def stopped(self) -> bool:
        """Whether it was called off."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Call it off: what is being sent ends soon. From any thread."""
        self._stop.set()

    def send(self, chunk: memoryview, *, last: bool = False) -> None:
        """Send what comes next; returns when the server has all of it, or with the last: when the object is there.

        Args:
            chunk: must not change before this returns; but for the last, a multiple of 256 KiB.
            last: whether it is all; may be empty then.

        Raises:
            SinkOccupied: an object of that name exists, and this upload did not make it.
            UploadLost: the server has lost the session, and no object was made by it.
            SinkError: anything else; the session is of no use any more.
            Stopped: `stop` was called.
        """
        start = self.size
        self.size += len(chunk)
        with explained(f"write {self.place}", "storage.objects.create"):
            if self._uri is None:
                self._retry.call(
                    lambda: self._begin(self.size if last else None),
                    passing=google_errors.passing,
                    sleep=self._pause,
                )
            while self.finished is None and (last or self._stored < self.size):
                self._retry.call(
                    lambda: self._advance(chunk, start, last=last),
                    passing=google_errors.passing,
                    sleep=self._pause,
                )
        if self.finished is not None and not last:
            raise SinkError(f"{self.place} was finalised before its end: abort the part, and write it again")

    def cancel(self, retry: Retry) -> None:
        """End the session; on return nothing can be finalised by it any more. May be repeated.

        Raises:
            SinkError: nobody knows whether it was ended.
        """
        if self._uri is None:
            return

        def delete() -> None:
            response = self._request("DELETE", {}, retry=retry)
            if response.status_code not in ENDED and not 200 <= response.status_code < 300:
                raise _refusal(response)

        with explained(f"end the upload of {self.place}", "storage.objects.create"):
            retry.call(delete, passing=google_errors.passing)

    def _begin(self, size: int | None) -> None:
        """Begin the session. If the answer is lost another is begun: what nobody finalises is never an object."""
        from google.api_core.exceptions import PreconditionFailed

        self._check()
        metadata = self.metadata
        self._blob.metadata = dict(metadata)
        try:
            self._uri = self._blob.create_resumable_upload_session(
                content_type=self._content_type,
                size=size,
                client=self._client,
                timeout=self._retry.timeout,
                checksum=None,
                if_generation_match=0,
                retry=None,
            )
        except PreconditionFailed as error:
            raise self._occupied() from error
        self.described = metadata

    def _advance(self, chunk: memoryview, start: int, *, last: bool) -> None:
        """Try once to get the server further; returns if it got anywhere."""
        self._check()
        before = self._stored
        if self._uncertain:
            self._take(self._request("PUT", {"Content-Range": "bytes */*"}), start)
            if self.finished is not None or self._stored > before:
                return
        end = start + len(chunk)
        rest = chunk[self._stored - start :]
        total = str(end) if last else "*"
        span = f"{self._stored}-{end - 1}" if len(rest) else "*"
        headers = {"Content-Range": f"bytes {span}/{total}"}
        if last:
            headers["x-goog-hash"] = f"crc32c={_encoded(self.crc32c)}"
            self.finishing = True
        self._uncertain = True
        self._take(self._request("PUT", headers, rest), start)
        if self.finished is None and self._stored == before:
            raise ConnectionError("the server kept nothing of what was sent")

    def _take(self, response: Any, start: int) -> None:
        """Note what an answer says of how far the server is."""
        status = response.status_code
        if status in (200, 201):
            try:
                found = response.json()
            except ValueError as error:
                raise ConnectionError("the answer is not whole") from error
            self.finished = described(found)
        elif status == 308:
            found = re.fullmatch(r"bytes=0-(\d+)", response.headers.get("Range", "bytes=0-"))
            stored = int(found[1]) + 1 if found else 0
            if not start <= stored <= self.size:
                raise SinkError(
                    f"cannot write {self.place}: the server says that it has {stored:,} bytes, where it had {start:,} "
                    f"of {self.size:,} before: abort the part, and write it again"
                )
            self._stored = stored
        elif status in ENDED:
            self.finished = self._made()
            if self.finished is None:
                raise UploadLost(
                    f"cannot write {self.place}: its upload session was lost ({status}): abort the part, and write it "
                    "again"
                )
        elif status == 412:
            self.finished = self._made()
            if self.finished is None:
                self.finishing = False  # what stands there is not ours, and ours never will
                raise self._occupied()
        else:
            raise _refusal(response)
        self._uncertain = False

    def _made(self) -> StoredObject | None:
        """Return the object if this session made it: an answer that was lost may have said so.

        A session that has made its object is forgotten some time later, and what asks for it is answered 404 or 410; a
        last chunk that is sent twice may be answered 412. The name says nothing: the mark does, which the metadata
        have that went along when the session began.
        """
        if not self.finishing or self.described is None:
            return None
        found = self._objects.find(self._blob.name)
        return found if found is not None and found.metadata.get(MARK) == self.described.get(MARK) else None

    def _request(
        self,
        method: str,
        headers: dict[str, str],
        body: memoryview | None = None,
        *,
        retry: Retry | None = None,
    ) -> Any:
        """Send one request to the session's address."""
        try:
            return self._transport.request(
                method,
                self._uri,
                data=_Body(body, self._pace, self._stop) if body else None,
                headers=headers,
                timeout=(retry or self._retry).timeout,
                allow_redirects=False,
            )
        except Exception as error:
            if not google_errors.unanswered(error):
                raise
            # Not `from error`: its text holds the session's address, which is a secret, and tracebacks show it.
            raise ConnectionError(google_errors.words(error)) from None

    def _pause(self, seconds: float) -> None:
        self._retry.hurry.sleep(seconds, self._stop.wait)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _occupied(self) -> SinkOccupied:
        return SinkOccupied(
            f"{self.place} exists already, and this upload did not write it; nothing was overwritten; "
            "choose another name"
        )


class Pace:
    """How much is sent at a time, by how long the last piece took."""

    def __init__(self) -> None:
        self.piece = PIECE

    def note(self, seconds: float) -> None:
        """Choose the length of the next piece, in bytes."""
        if seconds < QUICK_SECONDS:
            self.piece = min(self.piece * 2, LARGEST_PIECE)
        else:
            self.piece = max(self.piece // 2, PIECE)


class _Body:
    """A request's body that is sent in pieces, is not copied, and may be called off."""

    def __init__(self, data: memoryview, pace: Pace, stop: threading.Event) -> None:
        self._data = data
        self._pace = pace
        self._stop = stop

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[memoryview]:
        start = 0
        while start < len(self._data):
            if self._stop.is_set():
                raise Stopped
            end = min(start + self._pace.piece, len(self._data))
            began = time.monotonic()
            yield self._data[start:end]
            self._pace.note(time.monotonic() - began)
            start = end


def _encoded(crc: int) -> str:
    import base64

    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def _refusal(response: Any) -> Exception:
    """Return the error that a status stands for, with the server's words and reasons and without the address."""
    from google.api_core.exceptions import from_http_status

    said, errors = response.text[:300], ()
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        found = response.json()["error"]
        said, errors = found["message"], found.get("errors") or ()
    refusal: Exception = from_http_status(  # type: ignore[no-untyped-call]
        response.status_code, said or response.reason, errors=errors
    )
    return refusal
