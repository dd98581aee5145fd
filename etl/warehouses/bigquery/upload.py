"""A load job whose bytes are sent along: the resumable upload of BigQuery's REST API.

As documented (BigQuery documentation, "Batch load data using the API", resumable upload): a POST with the job begins a
session, each PUT carries a chunk, and the answer's `Range` says what the server keeps of it; `bytes */*` asks how far
it is; with the last chunk, which names the total, the job is made. What the client offers (`load_table_from_file`)
holds 100 MiB in memory and sends a chunk again without asking what became of it, so the requests are made here, over
the client's own transport.

A session that is left alone makes no job, and the job's id, which is given with the first request, is taken
once: so an upload may be begun again at any time, by anybody, after the job was looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from etl.warehouses.bigquery.jobs import Client, SessionLost, passing
from sinks import google_errors
from sinks.retry import Retry

# What every chunk but the last must be a multiple of, in bytes.
CHUNK_UNIT = 256 * 1024
CHUNK_BYTES = 8 * 1024 * 1024

# Sent at a time, in bytes.
PIECE = 256 * 1024

# The session is not there any more.
ENDED = frozenset({404, 410, 499})


def chunk_bytes(memory: int | None) -> int:
    """Return how much is sent with one request, in bytes, for a job that may be charged with `memory`."""
    if memory is None:
        return CHUNK_BYTES
    return min(CHUNK_BYTES, max(CHUNK_UNIT, memory // 32 // CHUNK_UNIT * CHUNK_UNIT))


class JobUpload:
    """One upload; `send` does all of it. Memory: one chunk, and one block of what is read.

    Args:
        client: a `google.cloud.bigquery.Client`.
        project: the project in which the job runs.
        resource: the job, as the REST API takes it.
        blocks: its bytes.
        chunk_bytes: what is sent with one request; a multiple of 256 KiB.
        retry: how long each request is tried again; its deadline begins again when the server has got more.
        sleep: waits so many seconds before that; what it raises ends the upload.
    """

    def __init__(
        self,
        client: Client,
        *,
        project: str,
        resource: Mapping[str, Any],
        blocks: Iterator[bytes],
        chunk_bytes: int,
        retry: Retry,
        sleep: Callable[[float], object],
    ) -> None:
        connection = client._connection
        self._transport = client._http
        # With a client certificate the host is another one; `load_table_from_file` asks the same way.
        self._host = connection.get_api_base_url_for_mtls()
        self._headers = {"User-Agent": connection.user_agent}
        self._project = project
        self._resource = resource
        self._blocks = blocks
        self._chunk_bytes = chunk_bytes
        self._retry = retry
        self._sleep = sleep
        self._uri = ""
        self._chunk = bytearray()
        self._start = 0  # how many bytes the server has; `_chunk` is what follows them
        self._uncertain = False
        self._job: dict[str, Any] | None = None

    def send(self) -> dict[str, Any]:
        """Send everything, and return the job that the server made of it.

        Raises:
            SessionLost: the upload cannot go on; the job may exist, or not.
            google.api_core.exceptions.GoogleAPIError: the server refused it; 409: the job exists already.
            ConnectionError: no answer until the deadline; the job may exist.
            SinkError: the bytes cannot be read; there is no job.
        """
        self._retry.call(self._begin, passing=passing, sleep=self._sleep)
        while self._job is None:
            self._fill()
            self._retry.call(self._advance, passing=self._may_pass, sleep=self._sleep)
        return self._job

    def _may_pass(self, error: BaseException) -> bool:
        return passing(error) and not isinstance(error, SessionLost)

    def _begin(self) -> None:
        """Begin the session. If the answer is lost another is begun: one that is left alone makes no job."""
        response = self._request(
            "POST",
            f"{self._host}/upload/bigquery/v2/projects/{self._project}/jobs?uploadType=resumable",
            {"X-Upload-Content-Type": "*/*"},
            json=self._resource,
        )
        if response.status_code != 200:
            raise _refusal(response)
        if "Location" not in response.headers:
            raise SessionLost("the server began no upload session")
        self._uri = response.headers["Location"]

    def _fill(self) -> None:
        """Read more than a chunk, or to the end, before which the checksums were compared."""
        while len(self._chunk) <= self._chunk_bytes and (block := next(self._blocks, b"")):
            self._chunk += block

    def _advance(self) -> None:
        """Try once to get the server further; returns if it got anywhere."""
        before = self._start
        length = min(len(self._chunk), self._chunk_bytes)
        end = self._start + length
        total = str(end) if length == len(self._chunk) else "*"
        if self._uncertain:
            self._take(self._request("PUT", self._uri, {"Content-Range": f"bytes */{total}"}))
            if self._job is not None or self._start > before:
                return
        span = f"{self._start}-{end - 1}" if length else "*"
        headers = {"Content-Range": f"bytes {span}/{total}", "Content-Type": "*/*"}
        self._uncertain = True
        self._take(self._request("PUT", self._uri, headers, data=_Body(self._chunk, length)))
        if self._job is None and self._start == before:
            raise ConnectionError("the server kept nothing of what was sent")

    def _take(self, response: Any) -> None:
        """Note what an answer says of how far the server is."""
        status = response.status_code
        if status in (200, 201):
            try:
                self._job = dict(response.json())
            except ValueError as error:
                raise ConnectionError("the answer is not whole") from error
        elif status == 308:
            found = re.fullmatch(r"bytes=0-(\d+)", response.headers.get("Range", ""))
            stored = int(found[1]) + 1 if found else 0
            if not self._start <= stored <= self._start + len(self._chunk):
                raise SessionLost(
                    f"the server says that it has {stored:,} bytes, not {self._start:,} or more"
                )
            del self._chunk[: stored - self._start]
            self._start = stored
        elif status in ENDED:
            raise SessionLost(f"the upload session was lost ({status})")
        else:
            raise _refusal(response)
        self._uncertain = False

    def _request(self, method: str, url: str, headers: Mapping[str, str], **body: Any) -> Any:
        try:
            return self._transport.request(
                method,
                url,
                headers={**self._headers, **headers},
                timeout=self._retry.timeout,
                allow_redirects=False,
                **body,
            )
        except Exception as error:
            if not google_errors.unanswered(error):
                raise
            # Not `from error`: its text holds the session's address, which is a secret, and tracebacks show it.
            raise ConnectionError(google_errors.words(error)) from None


class _Body:
    """A request's body that is sent in pieces, and never copied whole.

    Python's socket counts its timeout over a whole `sendall`: a chunk in one piece would need a fast line.
    """

    def __init__(self, data: bytearray, length: int) -> None:
        self._data = data
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self._length, PIECE):
            yield bytes(self._data[start : min(start + PIECE, self._length)])


def _refusal(response: Any) -> Any:
    """Return the error that an answer stands for, with the server's reasons and without the address."""
    from google.api_core.exceptions import from_http_status

    said, errors = response.text[:300] or response.reason, ()
    try:
        found = response.json()["error"]
        said, errors = found.get("message") or said, found.get("errors") or ()
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return from_http_status(response.status_code, said, errors=errors)  # type: ignore[no-untyped-call]
