"""What comes back from a web server: a whole answer, one that is read as it comes, or trouble."""

from __future__ import annotations

import http.client
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.errors import SourceCorrupt
from etl.sources import urls
from sinks import google_errors

if TYPE_CHECKING:
    import requests


class Trouble(Exception):
    """One attempt went wrong, and another one may not: raised within `Web.trying`.

    Args:
        reason: what went wrong; holds no secret.
        wait: the seconds that the server asks to wait at least.
        refused: whether the server said that it did nothing.
    """

    def __init__(self, reason: str, wait: float = 0.0, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.refused = refused


class Short(Trouble):
    """A body ended before its length was reached: the connection broke, or the length is wrong."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request brings with it.

    Attributes:
        content: its bytes.
        kind: its media type; None: it has none.
    """

    content: bytes
    kind: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer.

    Attributes:
        url: where it came from, after redirects; it may hold a secret that the request's parameters held.
        status: 200 to 299.
        headers: its headers; names in any case.
        body: the content, decompressed if the server compressed it.
        repeated: whether it was asked for before, and the server may have answered that, too.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    repeated: bool = False


class Download:
    """An answer whose body is read as it comes; close it. Its bytes are as they were sent, not decoded.

    Args:
        response: its status and headers have come.
        secrets: what no message may hold.
        limited: what is waited for within it ends, whatever comes meanwhile: chunks without content, say.
    """

    def __init__(
        self,
        response: requests.Response,
        secrets: Sequence[str],
        limited: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._response = response
        self._limited = limited
        self._raw: Any = response.raw
        self._secrets = secrets
        self.url: str = response.url
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    @property
    def length(self) -> int | None:
        """How many bytes of the body are still to come; None: the server does not say."""
        left: int | None = self._raw.length_remaining
        return left

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes as soon as there are some; none: the end, as far as the server told it.

        Raises:
            Trouble: the connection broke or hangs, or the body is shorter than was promised.
            SourceCorrupt: it is longer.
        """
        import urllib3.exceptions

        left = self.length
        try:
            with self._limited():
                if left == 1:
                    self._look_for_more()
                piece = self._raw.read1(min(size, left - 1) if left is not None and left > 1 else size, False)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            self.close()
            said = (
                error.args[0] if error.args and isinstance(error.args[0], str) else google_errors.words(error)
            )
            reason = urls.hide(said, self._secrets)
            cause = error.args[1] if len(error.args) > 1 else error
            short = isinstance(cause, http.client.IncompleteRead)  # urllib3's own is one of these too
        else:
            return piece or b""
        kind = Short if short else Trouble
        raise kind(f"the connection broke while the content came ({reason})")

    def close(self) -> None:
        """Let the connection go: for the next request if the body was read to its end, for good otherwise."""
        self._response.close()

    def _look_for_more(self) -> None:
        """See whether more has come than the last byte that was promised.

        By the protocol, what follows is another answer, and what came is a whole content. In truth, the length is
        wrong and the content cut. Seen only when it has come by now, and through urllib3's insides (2.8.0):
        without them it is not seen.
        """
        reader = getattr(getattr(self._raw, "_fp", None), "fp", None)
        if reader is None or not reader.peek(2)[1:].strip(b"\r\n"):
            return
        self.close()
        raise SourceCorrupt(
            f"{urls.hide(urls.without_credentials(self.url), self._secrets)}: the server sends more than its "
            f"Content-Length of {self.headers.get('Content-Length')} bytes: one of both is wrong; tell those who run "
            "it, or get the file by other means"
        )


def ungzipped(body: bytes, limit: int) -> bytes:
    """Decompress a whole body, all of its members, up to `limit` bytes.

    Raises:
        Trouble: it is none, or cut short.
    """
    whole = bytearray()
    try:
        while body and len(whole) < limit:
            member = zlib.decompressobj(wbits=31)
            whole += member.decompress(body, limit - len(whole))
            if not member.eof and len(whole) < limit:
                raise Trouble("its content is cut short: it ends in the middle of gzip")
            body = member.unused_data
    except zlib.error as error:
        raise Trouble(f"its content is no gzip, as the server says it is ({error})") from error
    return bytes(whole)
