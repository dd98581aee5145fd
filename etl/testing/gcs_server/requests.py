"""A request as the routes see it: decoded path, parameters, headers, body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from etl.testing.gcs_server.answers import ApiError, invalid
from etl.testing.gcs_server.contents import Body

# Metadata is small; a client that sends more than this as JSON has mixed something up.
LONGEST_JSON = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `url` is how the client reached the server, which may be through a proxy."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: Body
    url: str

    def required(self, name: str) -> str:
        """Return a parameter.

        Raises:
            ApiError: 400, it is missing or empty.
        """
        if not self.query.get(name):
            raise ApiError(400, "required", f"Required parameter: {name}")
        return self.query[name]

    def json(self) -> dict[str, Any]:
        """Read the body as a JSON object; an empty body is an empty one.

        Raises:
            ApiError: 400, it is something else.
        """
        return parse_object(self.body.read(LONGEST_JSON))


def parse_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in `text`; {} when there is no text.

    Raises:
        ApiError: 400, it is something else.
    """
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ApiError(400, "parseError", f"Parse Error: {error}") from error
    if not isinstance(found, dict):
        raise invalid("The body is no JSON object.")
    return found
