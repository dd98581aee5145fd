"""The arguments of `Pages` that make a request a POST, checked: what its body holds, and what it must not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from etl.sources import urls
from etl.sources.paging.paths import MISSING, lookup, with_value


def posts(arguments: Mapping[str, Any]) -> bool:
    """Say whether the API is asked by POST.

    Raises:
        ValueError: the method does not go with a body.
    """
    method = arguments["method"]
    given = [name for name in ("body", "form", "query") if arguments[name] is not None]
    if method == "GET" and given:
        raise ValueError(f"{given[0]}: a GET has none: leave method out, or make it POST")
    return method == "POST" or bool(given)


def in_body_of(arguments: Mapping[str, Any]) -> bool:
    """Say whether what asks for a page goes into the body.

    Raises:
        ValueError: it should, and there is none.
    """
    has_body = any(arguments[name] is not None for name in ("body", "form", "query"))
    if arguments["paging_in"] == "body" and not has_body:
        raise ValueError('paging_in: "body", but there is none: give body (which may be {}), form or query')
    return has_body and arguments["paging_in"] != "query"


def body_of(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what each body holds besides what asks for a page; None: there is no body.

    Raises:
        ValueError: more than one is given.
    """
    given = [name for name in ("body", "form", "query") if arguments[name] is not None]
    if len(given) > 1:
        raise ValueError(f"{given[1]}: give {given[0]} or {given[1]}, not both")
    if arguments["variables"] is not None and given != ["query"]:
        raise ValueError("variables: are for a query of GraphQL")
    if given == ["query"]:
        if not str(arguments["query"]).strip():
            raise ValueError("query: it is empty")
        return {"query": arguments["query"], "variables": dict(arguments["variables"] or {})}
    if given == ["form"]:
        return {name: written(name, value, "form") for name, value in arguments["form"].items()}
    return dict(arguments["body"]) if given else None


def check_body(body: Mapping[str, Any], own: Sequence[str], secrets: Sequence[str], *, form: bool) -> None:
    """See that a body can be sent, and says nothing twice and nothing secret.

    Args:
        body: as it is given.
        own: the paths that are put into it for each page.
        secrets: the paths of the secrets that are put into it.
        form: whether it is a form, whose fields have names and no paths.

    Raises:
        ValueError: it cannot, or does.
    """
    try:
        msgspec.json.encode(body)
    except (TypeError, ValueError) as error:
        raise ValueError(f"body: it cannot be written as JSON ({error})") from error
    for path, name in _names(body, ""):
        if urls.is_secret(name):
            raise ValueError(
                f'body: {path} is a secret by its name: put it into secrets, with secrets_in = "body"; they are kept '
                "nowhere"
            )
    for path in (*own, *secrets):
        if lookup(body, path) is not MISSING:
            hint = "secrets" if path in secrets else "the style, page_size or updated_at"
            raise ValueError(f"body: {path!r} is set by {hint}: leave it out")
        if not form:
            try:
                body = with_value(body, path, None)
            except ValueError as error:
                raise ValueError(f"body: {error}") from error


def written(name: str, value: Any, what: str = "params") -> str:
    """Return a parameter as text.

    Raises:
        ValueError: it is no plain value.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"{what}: {name!r} is neither text nor a number nor true or false: {value!r}")


def _names(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the name of each text in a document."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            if isinstance(below, str) and below:
                yield f"{path}{name}", str(name)
            yield from _names(below, f"{path}{name}.")
    elif isinstance(value, (list, tuple)):
        for below in value:
            yield from _names(below, path)
