"""Access tokens of OAuth 2.0 (RFC 6749), asked for when they are needed and kept in memory alone.

oauthlib writes and reads what the protocol says. The requests themselves are made by `Web`, as all others of a
source: one retry policy, which obeys the token endpoint's `Retry-After`, and no secret in a message.
"""

from __future__ import annotations

import logging
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol
from urllib.parse import quote_plus

import msgspec

from etl.errors import SourceError, SourceRefused, SourceStopped
from etl.sources import urls
from etl.sources.web_answers import Answer, Body

LOG = logging.getLogger("etl.sources")

# A token is renewed so many seconds before it expires, or a tenth of its life if that is less: clocks and requests
# take their time.
_MARGIN = 30.0
_MARGIN_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """Who asks for tokens, where, and for what; `Pages` documents the fields."""

    token_url: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | list[str] | None = None
    audience: str | None = None
    params: dict[str, str] = field(default_factory=dict, repr=False)
    client_auth: Literal["basic", "body"] = "basic"

    @classmethod
    def of(cls, table: Mapping[str, Any] | None) -> OAuth2 | None:
        """Make it of a table of a job file; None stays None.

        Raises:
            ValueError: the table is wrong.
        """
        if table is None:
            return None
        names = [one.name for one in fields(cls)]
        for name in table:
            if name not in names:
                raise ValueError(f"oauth2: {name!r} is unknown; it takes: {', '.join(names)}")
        try:
            made = msgspec.convert(dict(table), cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"oauth2: {error}; it takes: {', '.join(names)}") from None
        urls.check(made.token_url, "oauth2: token_url")
        if not made.client_id:
            raise ValueError("oauth2: client_id is empty")
        if not made.client_secret and not made.refresh_token:
            raise ValueError(
                'oauth2: client_secret is missing: write "${CLIENT_SECRET}"; or give a refresh_token'
            )
        return made

    @property
    def secrets(self) -> list[str]:
        """What no message may hold."""
        basic = self._basic().removeprefix("Basic ")
        return [one for one in (self.client_secret, self.refresh_token, basic, *self.params.values()) if one]

    @property
    def headers(self) -> dict[str, str]:
        """What goes with each request for a token (RFC 6749, section 2.3.1)."""
        return {"Accept": "application/json"} | ({} if self._in_body else {"Authorization": self._basic()})

    def request(self) -> Body:
        """Return the body of a request for a token (RFC 6749, sections 4.4.2 and 6)."""
        from oauthlib.oauth2 import BackendApplicationClient

        scope = self.scope.split() if isinstance(self.scope, str) else self.scope
        in_body = self._in_body
        further: dict[str, Any] = {"audience": self.audience, **self.params}
        if in_body:
            further["client_secret"] = self.client_secret
        client = BackendApplicationClient(self.client_id)
        if self.refresh_token is None:
            body = client.prepare_request_body(scope=scope, include_client_id=in_body, **further)
        else:
            if in_body:
                further["client_id"] = self.client_id
            body = client.prepare_refresh_body(
                refresh_token=self.refresh_token, scope=scope, include_client_id=in_body, **further
            )
        return Body(body.encode(), "application/x-www-form-urlencoded")

    @property
    def _in_body(self) -> bool:
        return self.client_auth == "body" or not self.client_secret

    def _basic(self) -> str:
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret or '')}"
        return f"Basic {b64encode(pair.encode()).decode()}"


class Fetches(Protocol):
    """Makes the request for a token; `etl.sources.web.Web` does."""

    def fetch(self, url: str, *, body: Body | None = None) -> Answer:
        """Return a whole answer of success."""

    def shown(self, text: str) -> str:
        """Return a text without the secrets in it."""

    def close(self) -> None:
        """Close the connection."""


class Tokens:
    """Gives the header with the token; asks for another one when it expires, or is refused.

    Args:
        oauth2: who asks, where.
        web: makes the requests, with the headers of `oauth2`, and hides its secrets. It is closed with this.
    """

    def __init__(self, oauth2: OAuth2, web: Fetches) -> None:
        self._oauth2 = oauth2
        self._web = web
        self._token = ""
        self._until = 0.0
        self.secrets: list[str] = []

    def authorization(self) -> str:
        """Return the value of the header `Authorization` (RFC 6750, section 2.1).

        Raises:
            SourceRefused: the token endpoint gives none.
            SourceError: it cannot be asked; one of its kinds says why.
        """
        if not self._token or time.monotonic() >= self._until:
            self._ask()
        return f"Bearer {self._token}"

    def renew(self) -> None:
        """Forget the token: the API does not take it any more."""
        self._token = ""

    def close(self) -> None:
        """Close the connection. May be repeated."""
        self._web.close()

    def _ask(self) -> None:
        where = self._web.shown(self._oauth2.token_url)
        try:
            answer = self._web.fetch(self._oauth2.token_url, body=self._oauth2.request())
        except SourceStopped:
            raise
        except SourceError as error:
            kind = SourceRefused if type(error) is SourceError else type(error)
            raise kind(f"oauth2: no token is given: {error}; {_ADVICE}") from error
        token = self._read(answer, where)
        self._token = str(token["access_token"])
        # those before stay hidden: what is under way may still hold them
        self.secrets = [*self.secrets[-8:], self._token]
        try:
            life = float(token.get("expires_in") or "inf")
        except (TypeError, ValueError):
            life = float("inf")
        self._until = time.monotonic() + life - min(_MARGIN, life * _MARGIN_SHARE)
        given = token.get("refresh_token")
        if given and self._oauth2.refresh_token and given != self._oauth2.refresh_token:
            self.secrets.append(str(given))
            LOG.warning(
                "%s gives another refresh token with each access token. It is not kept, as no secret is, so the one of "
                "the job may not be taken any more: use client credentials, or put a new one into the job",
                where,
            )

    def _read(self, answer: Answer, where: str) -> Mapping[str, Any]:
        from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error

        try:
            text = answer.body.decode()
            token: Mapping[str, Any] = BackendApplicationClient("").parse_request_body_response(text)
        except OAuth2Error as error:
            said = self._web.shown(
                f"{error.error}: {error.description}" if error.description else error.error
            )
            reason = said[:200]
        except (AttributeError, TypeError, ValueError):
            reason = "its answer is not what RFC 6749, section 5.1, has"
        else:
            kind = str(token.get("token_type") or "bearer")
            if kind.lower().startswith("bearer"):
                return token
            reason = f"the token is of the type {kind!r}, and only bearer tokens (RFC 6750) are known"
        raise SourceRefused(f"oauth2: {where} gives no token ({reason}); {_ADVICE}")


_ADVICE = (
    "look at token_url, client_id, client_secret, scope and audience (and refresh_token) of oauth2; some servers "
    'take the client\'s secret in the body only: client_auth = "body"'
)
