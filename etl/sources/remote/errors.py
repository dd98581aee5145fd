"""What fsspec's packages raise: which of it may pass by itself, and what it means in words.

Each of them has errors of its own, and none is imported here before it was used: their classes are looked at by
name, statuses and error numbers by value, messages never.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from sinks.google_errors import PASSING

_TIMES = frozenset(
    {
        *(errno.EIO, getattr(errno, "EREMOTEIO", errno.EIO), errno.EAGAIN, errno.EBUSY, errno.EPIPE),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN),
    }
)
_BROKEN = {
    "ConnectionError",  # Python's, and what is derived from it; that of requests is called so too
    "TimeoutError",
    "EOFError",  # ftplib: the connection was closed
    "error_temp",  # ftplib: 4xx
    "error_proto",
    "error_reply",
    "SSHException",  # paramiko
    "NoValidConnectionsError",
    "ClientConnectionError",  # aiohttp: gcsfs, s3fs
    "ClientPayloadError",
    "HTTPClientError",  # botocore
    "IncompleteReadError",
    "ResponseParserError",
    "ServiceRequestError",  # azure
    "ServiceResponseError",
    "TransportError",  # google.auth
    "ChecksumError",
}
_REFUSED = {
    "AuthenticationException",  # paramiko, below SSHException
    "BadHostKeyException",
    "HostKeyRefused",
    "RefreshError",  # google.auth
    "ClientAuthenticationError",  # azure
}
_MISSING_OR_FORBIDDEN = {"FileNotFoundError", "PermissionError"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or storage.key and storage.secret; storage.anon = true "
    "reads a public bucket",
    "gs": "run `gcloud auth application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name a key file; "
    'storage.token = "anon" reads a public bucket',
    "az": "set storage.account_name, and storage.account_key, sas_token or connection_string; storage.anon = true "
    "reads a public container",
    "sftp": "set storage.username, and storage.password or storage.key_filename",
    "ftp": "set storage.username and storage.password",
}


class HostKeyRefused(Exception):
    """Nobody vouches for the key that an SSH server showed."""


def passing(error: BaseException, scheme: str) -> bool:
    """Say whether trying again may help.

    Args:
        error: what a package raised.
        scheme: of the place: `s3`, `gs`, `az`, `sftp`, `ftp`.
    """
    for each in _chain(error):
        names = _names_of(each)
        if names & (_REFUSED | _NO_CREDENTIALS):
            return False
        status = _status_of(each)
        if status is not None or names & _BROKEN:
            return status in PASSING or bool(names & _BROKEN)
        if isinstance(each, OSError) and not names & _MISSING_OR_FORBIDDEN:
            # paramiko gives no number to what is neither missing nor forbidden: a socket that is closed, mostly
            return each.errno in _TIMES or (each.errno is None and scheme == "sftp")
    return False


def changed(error: BaseException) -> bool:
    """Say whether the error is that a file is not the one any more that was opened, or shorter than it was."""
    return "FileExpired" in _names(error) or _status(error) in (412, 416)


def missing(error: BaseException) -> bool:
    """Say whether the error is that there is nothing of that name."""
    names = _names(error)
    # fsspec says so of an FTP server too that had no time for the question
    return bool(names & {"FileNotFoundError", "ResourceNotFoundError"}) and not names & _BROKEN


def explain(error: BaseException, scheme: str, secrets: frozenset[str]) -> str:
    """Say in one line what went wrong, and what to do about it.

    Args:
        error: what a package raised.
        scheme: of the place.
        secrets: words that must not be shown.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    for secret in sorted(secrets, key=len, reverse=True):
        said = said.replace(secret, "***")
    said = said[:300]
    names = _names(error)
    credentials = _CREDENTIALS.get(scheme, "look at `storage`")
    if names & _NO_CREDENTIALS:
        return f"there are no credentials ({said}): {credentials}"
    if "HostKeyRefused" in names or "BadHostKeyException" in names:
        return said
    if (
        names & _REFUSED
        or isinstance(error, PermissionError)
        or _status(error) in (401, 403)
        or "error_perm" in names
    ):
        return f"it is refused ({said}): {credentials}; or ask for the permission to list and read"
    if missing(error):
        return f"it is not there ({said}): correct the path, or put it there"
    if isinstance(error, (TypeError, ValueError)):
        return f"`storage` is wrong, or something is missing there ({said}): {credentials}"
    if "gaierror" in names:
        return f"its host is not known ({said}): correct the host's name, or look at the network"
    if passing(error, scheme):
        return (
            f"no answer, or a broken one ({said}); it was tried again until the deadline: look at the host's name, "
            "the network and the server, and run again"
        )
    return f"{type(error).__name__}: {said}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    for _ in range(5):
        if error is None:
            return
        yield error
        error = error.__cause__


def _names_of(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _names(error: BaseException) -> set[str]:
    return {name for each in _chain(error) for name in _names_of(each)}


def _status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error stands for; None: it has none."""
    answer = getattr(error, "response", None)
    metadata = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
    for status in (
        getattr(error, "status_code", None),  # azure
        metadata.get("HTTPStatusCode"),  # botocore
        getattr(error, "code", None),  # gcsfs
    ):
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return None


def _status(error: BaseException) -> int | None:
    return next((status for each in _chain(error) if (status := _status_of(each)) is not None), None)
