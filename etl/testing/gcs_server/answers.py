"""What the server answers, and Google's form of an error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

Headers = Sequence[tuple[str, str]]

JSON = "application/json; charset=UTF-8"
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Slice:
    """`count` bytes of an open file, from `first` on; the one that sends them closes the file."""

    file: BinaryIO
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers, and the body as bytes or as a piece of a file."""

    status: int
    headers: Headers = ()
    body: bytes | Slice = b""


class ApiError(Exception):
    """A request that is refused; its answer has the form of Google's JSON API.

    Source: https://cloud.google.com/storage/docs/json_api/v1/status-codes
    """

    def __init__(self, status: int, reason: str, message: str, *, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.headers = headers

    def answer(self) -> Answer:
        """Return the error as what goes back to the client."""
        detail = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.reason == "conditionNotMet":
            detail |= {"locationType": "header", "location": "If-Match"}
        error = {"error": {"code": self.status, "message": self.message, "errors": [detail]}}
        return Answer(self.status, (("Content-Type", JSON), *self.headers), json.dumps(error).encode())


def as_json(value: dict[str, Any], *, headers: Headers = ()) -> Answer:
    """Return `value` as an answer 200."""
    return Answer(200, (("Content-Type", JSON), *headers), json.dumps(value).encode())


def invalid(message: str) -> ApiError:
    """Return the error for a request that makes no sense."""
    return ApiError(400, "invalid", message)


def no_bucket() -> ApiError:
    """Return the error for a bucket that does not exist."""
    return ApiError(404, "notFound", "The specified bucket does not exist.")


def no_object(bucket: str, name: str) -> ApiError:
    """Return the error for an object, or one generation of it, that does not exist."""
    return ApiError(404, "notFound", f"No such object: {bucket}/{name}")


def condition_not_met() -> ApiError:
    """Return the error for a precondition that does not hold."""
    return ApiError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def not_implemented(what: str) -> ApiError:
    """Return the error for what Google's service can do and this one cannot: better than a wrong answer."""
    return ApiError(501, "notImplemented", f"{what} is not implemented by this test server.")
