"""HTTP as the sources speak it: one connection, one retry policy, named errors, and no secret in a message.

Proxies (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`), certificates (`REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, or else
`SSL_CERT_FILE` or `SSL_CERT_DIR`) and `~/.netrc` are taken from the environment. What passes by itself is tried
again: connections that break, timeouts, and the statuses in `PASSING`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from etl.errors import (
    SourceCorrupt,
    SourceError,
    SourceMissing,
    SourceRefused,
    SourceUnavailable,
    TooManyRedirects,
)
from etl.sources import urls
from etl.sources.private import Hops
from etl.sources.waiting import Waiting
from etl.sources.web_answers import Answer, Body, Download, Short, Trouble, ungzipped
from etl.sources.web_refusals import is_header_value, words_of
from etl.sources.web_sending import Sender, Watch
from etl.sources.web_session import waits_for
from sinks.retry import CONNECT_SECONDS, Retry

if TYPE_CHECKING:
    import requests

    from etl.sources.web_tokens import Tokens

__all__ = ["MOST_BYTES", "PASSING", "READ_TIMEOUT", "REFUSED", "Answer", "Download", "Trouble", "Web"]

T = TypeVar("T")

# RFC 9110 (202, 408, 500, 502, 503, 504), RFC 8470 (425), RFC 6585 (429); 520 to 524 are Cloudflare's, when the
# server behind it is in trouble ("Cloudflare 5xx errors"). 202 is no content yet: Socrata says it while it makes an
# answer, to be asked again (https://dev.socrata.com/docs/response-codes.html).
PASSING = frozenset({202, 408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})

# Those of them after which the server has done nothing.
_NOT_DONE = (425, 429, 503)

# What says that nothing is there (RFC 9110).
MISSING = (404, 410)

# What says that credentials are missing or wrong (RFC 9110).
REFUSED = (401, 403, 407)

READ_TIMEOUT = 30.0
MOST_REDIRECTS = 10
MOST_BYTES = 64 << 20

_NO_VALID_TOKEN = 401  # expired, revoked or malformed (RFC 6750, section 3.1)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# After these a POST is one still; after the others clients make a GET of it (RFC 9110, section 15.4).
_KEEP_METHOD = (307, 308)
_PIECE = 1 << 16
# What every server may be told; other headers may hold a secret, whatever they are called.
_HARMLESS = frozenset({"accept", "accept-encoding", "accept-language", "if-range", "range", "user-agent"})


class Web:
    """Makes requests, one after the other; not from several threads at once. Close it.

    Args:
        headers: sent with each request, and to no other host that a redirect leads to.
        requests_per_second: no more than these; None: as fast as the server answers.
        deadline: for how many seconds a request is tried again when what went wrong may pass.
        read_timeout: the seconds after which a server that sends nothing hangs.
        secrets: what is replaced by `***` in each message: tokens, passwords, keys.
        missing: the statuses that say that nothing is there.
        first_wait: the longest wait after the first attempt, in seconds; it doubles with each.
        tokens: gives a header with a token to each request, and to no other host; None: there is none.
        allow_private: whether redirects of public servers may lead to addresses of private networks.
        waiting: ends waits between two requests when it is told to; None: nobody will.

    Raises:
        ValueError: an argument is wrong.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, str],
        requests_per_second: float | None,
        deadline: float,
        read_timeout: float,
        secrets: Sequence[str],
        missing: Collection[int] = MISSING,
        first_wait: float = 0.5,
        tokens: Tokens | None = None,
        allow_private: bool = False,
        waiting: Waiting | None = None,
    ) -> None:
        for name, value in headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not is_header_value(value):
                raise ValueError(
                    f"headers: {name!r} or its value cannot be sent: one line of Latin-1, please"
                )
        if requests_per_second is not None and not requests_per_second > 0:
            raise ValueError(f"requests_per_second: {requests_per_second} is not greater than 0")
        if not read_timeout > 0:
            raise ValueError(f"read_timeout: {read_timeout} seconds is not greater than 0")
        self._headers = dict(headers)
        self._retry = Retry(deadline=deadline, first_wait=first_wait)
        self._own_secrets = tuple(secrets)
        self._tokens = tokens
        self._missing = frozenset(missing)
        self._waiting = waiting or Waiting()
        self._hops = Hops(allow_private=allow_private)
        self._watch = Watch(self._waiting, self._hops)
        self._read_timeout = read_timeout
        self._sender = Sender(
            self._headers,
            own_credentials=tokens is not None,
            pause=1 / requests_per_second if requests_per_second else 0.0,
            timeout=(min(CONNECT_SECONDS, deadline / 2), read_timeout),
            waiting=self._waiting,
            watch=self._watch,
            hidden=self.hidden,
            shown=self.shown,
        )

    def shown(self, text: str) -> str:
        """Return a URL, or a text that holds secrets, as a message may hold it."""
        return self.hidden(urls.without_credentials(text))

    def hidden(self, text: str) -> str:
        """Return a text without the secrets and the tokens in it."""
        return urls.hide(text, self._secrets)

    @property
    def _secrets(self) -> tuple[str, ...]:
        return (*self._own_secrets, *(self._tokens.secrets if self._tokens is not None else ()))

    def close(self) -> None:
        """Close the connection. May be repeated."""
        if self._tokens is not None:
            self._tokens.close()
        self._sender.close()

    def open(self, url: str, *, headers: Mapping[str, str] | None = None) -> Download:
        """Return an answer whose status is 200 to 299, but not 202; its body is still to be read, and may break.

        Raises:
            SourceError: there is none; one of its kinds says why.
        """
        return self.trying(lambda: self.attempt(url, headers=headers), url)

    def fetch(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        also: Collection[int] = (),
        limit: int = MOST_BYTES,
        check: Callable[[Answer], object] = lambda _: None,
    ) -> Answer:
        """Return a whole answer whose status is 200 to 299, but not 202. One that breaks off is asked for again.

        Args:
            url: what to get.
            params: added to its query.
            headers: added to those of all requests.
            body: sent by POST, which is repeated like a GET: it must do nothing but read. None: it is a GET.
            also: statuses whose answers are returned as well.
            limit: how large the content may be, in bytes.
            check: may raise `Trouble` to have the request made again: the content is no whole JSON, say. (That
                a body is cut cannot always be seen here: without a length and chunks it ends when the connection
                does.)

        Raises:
            SourceError: there is none, or it is too large.
        """
        lost = False

        def attempt() -> Answer:
            nonlocal lost
            try:
                return once()
            except Trouble as trouble:
                lost = lost or not trouble.refused
                raise

        def once() -> Answer:
            begun = time.monotonic()
            asked = {"Accept-Encoding": "gzip", **(headers or {})}
            with closing(self.attempt(url, params=params, headers=asked, body=body, also=also)) as download:
                content = bytearray()
                while piece := download.read(_PIECE):
                    content += piece
                    self._within(len(content), limit, url)
                    if time.monotonic() - begun > self._retry.deadline:
                        raise Trouble(f"its content takes longer than {self._retry.deadline:.0f} s to come")
                whole = bytes(content)
                coding = download.headers.get("Content-Encoding", "").lower()
                if coding in ("gzip", "x-gzip") and whole:
                    whole = ungzipped(whole, limit + 1)
                    self._within(len(whole), limit, url)
                elif whole and coding not in ("", "identity"):
                    raise SourceError(f"{self.shown(url)}: sent as {coding!r}, which was not asked for")
                answer = Answer(
                    url=download.url,
                    status=download.status,
                    headers=download.headers,
                    body=whole,
                    repeated=lost,
                )
            check(answer)
            return answer

        return self.trying(attempt, url)

    def trying(self, attempt: Callable[[], T], url: str) -> T:
        """Call `attempt` until it does not raise `Trouble`, under the one retry policy.

        Raises:
            SourceStopped: it was told to stop, and would have waited.
            SourceUnavailable: it did until the deadline, or the server asks to wait longer than that.
            SourceCorrupt: the body ended before its length each time.
        """
        begun = time.monotonic()
        try:
            return self._retry.call(
                attempt,
                passing=lambda error: isinstance(error, Trouble),
                least_wait=lambda error: error.wait if isinstance(error, Trouble) else 0.0,
                sleep=self._waiting.sleep,
                what=self.shown(url),
            )
        except Trouble as trouble:
            if trouble.wait:
                advice = (
                    f"it asks to wait {trouble.wait:.0f} s (Retry-After), longer than the deadline of "
                    f"{self._retry.deadline:.0f} s leaves: run again after that, or raise `deadline`"
                )
            else:
                advice = (
                    f"it was tried for {time.monotonic() - begun:.0f} s (deadline = {self._retry.deadline:g}); look at "
                    "the network, the proxy and the server, and run again: the job goes on from its last checkpoint"
                )
            kind = SourceCorrupt if isinstance(trouble, Short) else SourceUnavailable
            raise kind(f"{self.shown(url)}: {trouble}; {advice}") from trouble

    def attempt(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        also: Collection[int] = (),
    ) -> Download:
        """Make a request once, and follow redirects.

        Args:
            url: what to get.
            params: added to its query.
            headers: added to those of all requests.
            body: sent by POST; None: it is a GET.
            also: statuses that are returned as well as 200 to 299, of which 202 is not.

        Raises:
            Trouble: it failed, and another attempt may not.
            SourceError: it failed for good; one of its kinds says why.
        """
        sent = {**self._headers, "Accept-Encoding": "identity", **(headers or {})}
        limited = partial(self._watch.within, self._read_timeout)
        # a chain of redirects, or an answer that is begun again and again (100), is one answer to wait for
        with self._watch.within(max(self._retry.deadline, self._read_timeout)):
            response = self._with_token(url, params, sent, body)
        status = response.status_code
        if (200 <= status < 300 and status not in PASSING) or status in also:
            return Download(response, self._secrets, limited)
        with closing(response), limited():
            secrets = [*self._secrets, *urls.credentials_of(url), *urls.credentials_of(response.url)]
            said = words_of(response, secrets)
        what = f"{self.shown(url)}: the server said {status}{said}"
        if status in self._missing:
            raise SourceMissing(f"{what}: nothing is there; correct the URL, or see whether it has moved")
        if status in PASSING:
            refused = status in _NOT_DONE
            raise Trouble(f"the server said {status}{said}", waits_for(response.headers), refused=refused)
        if status in REFUSED:
            if self._headers and not urls.may_be_told(url, response.url):
                raise SourceRefused(
                    f"{what} where it redirects to, {self.shown(response.url)}: `headers` go to no other host; if they "
                    "are meant for that one, put it in place of the URL"
                )
            if self._tokens is not None:
                raise SourceRefused(
                    f"{what}, though the token is a new one: look at scope and audience of oauth2, and at the right of "
                    "the client"
                )
            raise SourceRefused(
                f"{what}: give the credentials that it wants (`headers`; `secrets` of pages), or ask for the right"
            )
        raise SourceError(
            f"{what}, which no other attempt will change; look at the URL and the server's words"
        )

    def _with_token(
        self, url: str, params: Mapping[str, Any] | None, headers: Mapping[str, str], body: Body | None
    ) -> requests.Response:
        """Send a request with a token if there is one, and once more with another one where it is refused."""
        if self._tokens is None:
            return self._follow(url, params, headers, body)
        response = self._follow(url, params, {**headers, "Authorization": self._tokens.authorization()}, body)
        if response.status_code == _NO_VALID_TOKEN and urls.may_be_told(url, response.url):
            response.close()
            self._tokens.renew()
            response = self._follow(
                url, params, {**headers, "Authorization": self._tokens.authorization()}, body
            )
        return response

    def _follow(
        self, url: str, params: Mapping[str, Any] | None, headers: Mapping[str, str], body: Body | None
    ) -> requests.Response:
        target = url
        self._hops.begin(url, self.shown(url))
        for _ in range(MOST_REDIRECTS + 1):
            response = self._sender.send(target, params, headers, body)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return response
            response.close()
            # as requests does: the header's bytes are UTF-8 where they are not ASCII
            location = location.encode("latin-1").decode("utf-8", "replace")
            before, params = response.url, None
            try:
                target = urljoin(before, location)
                urlsplit(target).port  # noqa: B018 - which is looked at later, and may be none
            except ValueError as error:
                raise SourceError(f"{self.shown(url)}: redirected to what is no URL ({error})") from None
            if urlsplit(target).scheme.lower() not in ("http", "https"):
                raise SourceError(f"{self.shown(url)}: redirected to {self.shown(target)}, which is not HTTP")
            self._hops.follow(target, self.shown(url))
            told = urls.may_be_told(before, target)
            if body is not None and (response.status_code not in _KEEP_METHOD or not told):
                raise SourceError(
                    f"{self.shown(url)}: what is sent by POST is redirected ({response.status_code}) to "
                    f"{self.shown(target)}, which would get no body, or is another host that must not be told: put "
                    "that URL in its place if it is the API's own"
                )
            if not told:
                headers = {name: value for name, value in headers.items() if name.lower() in _HARMLESS}
        raise TooManyRedirects(
            f"{self.shown(url)}: redirected more than {MOST_REDIRECTS} times, last to {self.shown(target)}; correct "
            "the URL, or look whether the server wants a cookie or credentials"
        )

    def _within(self, size: int, limit: int, url: str) -> None:
        if size > limit:
            raise SourceError(
                f"{self.shown(url)}: its content is larger than {limit} bytes, which is held in memory as a whole; "
                "ask for less at once, or, where it is a page of an API, raise max_page_bytes and the memory of the job"
            )
