"""One request, sent over a connection whose every wait ends: at its deadline, or when the source is told to leave."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from etl.errors import SourceError, SourceUntrusted
from etl.sources.private import Hops
from etl.sources.waiting import Waiting
from etl.sources.web_answers import Body, Trouble
from etl.sources.web_refusals import untrusted
from etl.sources.web_session import open_session
from sinks import google_errors

if TYPE_CHECKING:
    import requests


class Watch:
    """Ends waits; as `sinks.connections.Guard`.

    Args:
        waiting: is told to leave.
        hops: say which addresses may be asked.
    """

    least_speed = 0.0  # who reads a body measures it

    def __init__(self, waiting: Waiting, hops: Hops) -> None:
        self._waiting = waiting
        self._until = float("inf")
        self.may_connect = hops.may_connect
        self.connected = hops.connected

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let all that is waited for in here end after so many seconds, whatever comes meanwhile."""
        before, self._until = self._until, min(self._until, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._until = before

    def look(self, idle: float) -> None:  # noqa: ARG002 - as the protocol has it
        """Return if a wait may go on.

        Raises:
            SourceStopped: the source was told to leave.
            TimeoutError: it has taken too long.
        """
        self._waiting.look()
        if time.monotonic() >= self._until:
            raise TimeoutError("timed out")


class Sender:
    """Sends requests, one after the other, over connections that stay open in between. Close it.

    Args:
        headers: those of all requests, for the session alone; each request brings them.
        own_credentials: whether requests bring others besides.
        pause: the seconds from one request to the next, at least.
        timeout: the seconds to connect, and for an answer's head to come.
        waiting: ends waits when it is told to.
        watch: looks after the connections.
        hidden: takes the secrets out of a text.
        shown: makes a URL fit to be shown.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        own_credentials: bool,
        pause: float,
        timeout: tuple[float, float],
        waiting: Waiting,
        watch: Watch,
        hidden: Callable[[str], str],
        shown: Callable[[str], str],
    ) -> None:
        self._headers = headers
        self._own_credentials = own_credentials
        self._pause = pause
        self._timeout = timeout
        self._waiting = waiting
        self._watch = watch
        self._hidden = hidden
        self._shown = shown
        self._session: requests.Session | None = None
        self._next_at = 0.0

    def close(self) -> None:
        """Close the connections. May be repeated."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def send(
        self, url: str, params: Mapping[str, Any] | None, headers: Mapping[str, str], body: Body | None
    ) -> requests.Response:
        """Return an answer whose head has come.

        Raises:
            Trouble: there is none, and another attempt may help.
            SourceError: there is none.
        """
        import requests
        import urllib3.exceptions

        if self._session is None:
            self._session = open_session(
                self._headers, own_credentials=self._own_credentials, guard=self._watch
            )
        if (wait := self._next_at - time.monotonic()) > 0:
            self._waiting.sleep(wait)
        self._next_at = time.monotonic() + self._pause
        failure: Exception
        try:
            kind = {"Content-Type": body.kind} if body is not None and body.kind else {}
            return self._session.request(
                "GET" if body is None else "POST",
                url,
                params=dict(params) if params else None,
                data=None if body is None else body.content,
                headers={**kind, **headers},
                timeout=self._timeout,
                stream=True,
                allow_redirects=False,
            )
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
        ) as error:
            said = re.sub(r"^HTTPS?Connection(Pool)?\([^)]*\): ", "", google_errors.words(error))
            reason = self._hidden(said)
            what = f"{self._shown(url)}: {reason}"
            if untrusted(error):
                failure = SourceUntrusted(
                    f"{what}; let SSL_CERT_FILE name the certificates of who signed the server's"
                )
            elif google_errors.unanswered(error):
                failure = Trouble(f"no answer ({reason})")
            else:
                failure = SourceError(f"{what}; correct the URL, or the setting that it names")
        # not `from error`: what the client raised holds the URL, with all that is in it
        raise failure
