"""What is sent for each page: the URL and its query, or a body; and where in it pages are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import msgspec

from etl.sources.paging.paths import with_value
from etl.sources.paging.styles import Asked, Param
from etl.sources.web_answers import Body

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request: where to, with what.

    Attributes:
        url: without the parameters.
        params: of its query, secrets too.
        body: with which it is a POST; None: a GET.
    """

    url: str
    params: dict[str, str]
    body: Body | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """How requests are made.

    Args:
        url: of the source.
        post: whether it is asked by POST.
        params: of each query.
        size: the parameter for the page's size, if there is one.
        secrets: parameters that nobody may see.
        body: JSON, or the fields of a form; None: there is none.
        form: whether it is a form.
        in_body: whether what asks for a page goes into the body, rather than into the query.
        within: where in the body, with a dot at its end: `variables.` of GraphQL.
        secrets_in_body: whether the secrets go there.
    """

    url: str
    post: bool
    params: Mapping[str, str]
    size: Mapping[str, int]
    secrets: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any] | None
    form: bool
    in_body: bool
    within: str
    secrets_in_body: bool

    def of(self, asked: Asked, since: Mapping[str, Param]) -> Sent:
        """Return the request for a page.

        Args:
            asked: which page.
            since: what asks for the rows since a time.
        """
        if asked.link is not None:
            return self._of_link(asked.link, asked.body)
        paging = {**self.size, **asked.params, **since}
        params = dict(self.params)
        body = dict(self.body or {})
        if self.in_body:
            for name, value in paging.items():
                body = self._with(body, self.within + name, value)
        else:
            params.update({name: str(value) for name, value in paging.items()})
        return self._sent(self.url, params, body, self.post)

    def _of_link(self, link: str, given: Mapping[str, Any] | None) -> Sent:
        # a link is followed by GET (RFC 8288 leads to what GET gives), unless it says itself what to post
        if given is None:
            return Sent(link, {} if self.secrets_in_body else dict(self.secrets), None)
        body = {**(self.body or {}), **given["merge"]} if "merge" in given else dict(given["whole"])
        return self._sent(link, {}, body, post=True)

    def _sent(self, url: str, params: dict[str, str], body: dict[str, Any], post: bool) -> Sent:
        if not self.secrets_in_body:
            params = {**params, **self.secrets}
        else:
            for name, value in self.secrets.items():
                body = self._with(body, name, value)
        if not post:
            return Sent(url, params, None)
        if not body and self.body is None:
            return Sent(url, params, Body(b"", None))
        if self.form:
            return Sent(url, params, Body(urlencode(body).encode(), _FORM))
        return Sent(url, params, Body(msgspec.json.encode(body), _JSON))

    def _with(self, body: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
        return {**body, name: value} if self.form else with_value(body, name, value)
