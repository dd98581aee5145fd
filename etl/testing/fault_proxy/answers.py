"""Errors as Google's JSON services tell them."""

from __future__ import annotations

import http.client
import json

from etl.testing.fault_proxy.faults import Answer

# The reason in the error body of a status, and the name of its code:
# cloud.google.com/storage/docs/json_api/v1/status-codes and cloud.google.com/bigquery/docs/error-messages.
REASONS = {
    400: ("invalid", "INVALID_ARGUMENT"),
    401: ("authError", "UNAUTHENTICATED"),
    403: ("forbidden", "PERMISSION_DENIED"),
    404: ("notFound", "NOT_FOUND"),
    408: ("uploadBrokenConnection", "DEADLINE_EXCEEDED"),
    409: ("conflict", "ALREADY_EXISTS"),
    412: ("conditionNotMet", "FAILED_PRECONDITION"),
    429: ("rateLimitExceeded", "RESOURCE_EXHAUSTED"),
    500: ("backendError", "INTERNAL"),
    503: ("backendError", "UNAVAILABLE"),
}


def head_and_body(answer: Answer) -> tuple[bytes, bytes]:
    """Return what is sent in place of the server's answer."""
    phrase = http.client.responses.get(answer.status, "")
    usual, name = REASONS.get(answer.status, ("backendError", "UNKNOWN"))
    message = answer.message or f"{phrase} (the fault proxy answers)"
    reason = {"domain": "global", "reason": answer.reason or usual, "message": message}
    error = {"code": answer.status, "message": message, "errors": [reason], "status": name}
    body = json.dumps({"error": error} if answer.body is None else answer.body).encode()
    headers = {
        "Content-Type": "application/json; charset=UTF-8",
        "Content-Length": str(len(body)),
        **answer.headers,
    }
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1"), body
