"""Links to the next page: out of a header, made absolute, without secrets, and to no other host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus, urldefrag, urljoin, urlsplit

from etl.errors import SourceError
from etl.sources import urls

# A link with its parameters, and one of them (RFC 8288, section 3); commas and semicolons may stand within <> and
# within quotes.
_LINK = re.compile(r'<([^>]*)>((?:[^,<"]|"(?:[^"\\]|\\.)*")*)')
_PARAMETER = re.compile(r';\s*([^\s=;,"]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*)))?')


def next_of(header: str) -> str | None:
    """Return the target whose relation is `next` in the field `Link` of a header; None: there is none."""
    for target, parameters in _LINK.findall(header):
        relations = (
            quoted or plain.strip("'")
            for name, quoted, plain in _PARAMETER.findall(parameters)
            if name.lower() == "rel"
        )
        if "next" in next(relations, "").lower().split():  # the first one counts (RFC 8288, section 3.3)
            return str(target)
    return None


def absolute(link: str, base: str, first: str) -> str:
    """Return a link as an absolute URL; `http` becomes `https` where the first URL is that.

    Args:
        link: as the API gave it.
        base: where the answer came from.
        first: the URL of the source.

    Raises:
        SourceError: it leads to another host, which must not be told the secrets and the headers.
    """
    target = urldefrag(urljoin(base, link)).url
    parts, of_first = urlsplit(target), urlsplit(first)
    if (parts.scheme, of_first.scheme) == ("http", "https") and parts.port in (None, 80):
        # a server behind a proxy often does not know that it is asked by https
        target = parts._replace(scheme="https", netloc=parts.netloc.removesuffix(":80")).geturl()
    if not urls.may_be_told(first, target):
        raise SourceError(
            f"the link to the next page leads to {urlsplit(target).netloc or link!r}, not to "
            f"{of_first.netloc}: nothing of the headers and secrets is told to another host; if it is the API's own, "
            "make it the host of url"
        )
    return target


def without(url: str, names: Mapping[str, str]) -> str:
    """Return a URL without the parameters that are called as a secret, or whose value is one."""
    head, question, query = url.partition("?")
    values = set(names.values())
    kept = [
        pair
        for pair, name, value in _pairs(query)
        if pair and name not in names and (not value or value not in values)
    ]
    return f"{head}{question and '?'}{'&'.join(kept)}".removesuffix("?")


def query_of(url: str) -> tuple[str, dict[str, str]]:
    """Part a URL into what stands before its query, and the query's parameters."""
    parts = urlsplit(url)
    found = {name: value for pair, name, value in _pairs(parts.query) if pair}
    return parts._replace(query="", fragment="").geturl(), found


def _pairs(query: str) -> Iterator[tuple[str, str, str]]:
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        yield pair, unquote_plus(name), unquote_plus(value)
