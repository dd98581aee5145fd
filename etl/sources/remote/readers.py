"""How a range of a file is read at each kind of place, and what its keeper says of the file."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from etl.sources.place import Version
from etl.sources.remote.errors import HostKeyRefused
from etl.sources.remote.file import FIRST_BYTES

_TAGS = ("ETag", "generation", "etag")
_TIMES = ("LastModified", "mtime", "last_modified", "modify", "created")
# RFC 3659, section 2.3; listings for people tell a time in another way when it is half a year ago
_FTP_TIME = re.compile(r"\d{14}(\.\d+)?")


class Reader(NamedTuple):
    """A file that is open at another place.

    Attributes:
        details: what its keeper said of it when it was opened.
        read: takes an offset and a size, returns that many bytes, or less at the file's end.
        close: frees the file.
    """

    details: dict[str, Any]
    read: Callable[[int, int], bytes]
    close: Callable[[], object]


def opener(scheme: str) -> Callable[[Any, str], Reader]:
    """Return what opens a file, told fsspec's file system and the file's name in it."""
    return {"s3": _s3, "sftp": _sftp, "ftp": _ftp}.get(scheme, _by_range)


def information(system: Any, name: str, scheme: str) -> dict[str, Any]:
    """Return what is said of a file, or of a directory.

    Raises:
        FileNotFoundError: there is none.
    """
    if scheme == "ftp" and name.strip("/"):
        return _ftp_information(system, name)
    details: dict[str, Any] = system.info(name)
    return details


def version_of(details: dict[str, Any]) -> Version:
    """Make a version of what is said of a file. Where there is a tag, a time says nothing more."""
    tag = next((details[key] for key in _TAGS if details.get(key)), None)
    time = next((details[key] for key in _TIMES if details.get(key)), None)
    return Version(
        tag=None if tag is None else str(tag),
        modified=None if time is None or tag is not None else _text(time),
        length=int(details["size"]),
    )


def changed_at(details: dict[str, Any]) -> float | None:
    """Return when a file was changed, in seconds since 1970; None: that is not said."""
    time = next((details[key] for key in _TIMES if details.get(key)), None)
    if isinstance(time, datetime.datetime):
        return (time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)).timestamp()
    if _FTP_TIME.fullmatch(str(time)):
        return datetime.datetime.strptime(f"{str(time)[:14]}+0000", "%Y%m%d%H%M%S%z").timestamp()
    return None


def known_hosts_only() -> Any:
    """Return what makes paramiko refuse a host whose key nobody vouched for; fsspec trusts all by default."""
    import paramiko

    class KnownHostsOnly(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko has no types
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:  # noqa: ARG002 - paramiko's
            file = Path("~/.ssh/known_hosts").expanduser()
            known = paramiko.HostKeys(str(file)) if file.exists() else paramiko.HostKeys()
            if not known.check(hostname, key):
                raise HostKeyRefused(
                    f"the host's key ({key.fingerprint}) is not that of {hostname} in {file}: if the host's owner "
                    "confirms it, connect once with ssh, which notes it; or trust every key, with "
                    'storage.host_key_policy = "auto_add"'
                )

    return KnownHostsOnly()


def _text(time: Any) -> str | None:
    if isinstance(time, datetime.datetime):
        return time.isoformat()
    return str(time) if _FTP_TIME.fullmatch(str(time)) else None


def _by_range(system: Any, name: str) -> Reader:
    details = system.info(name)

    def read(offset: int, size: int) -> bytes:
        data: bytes = system.cat_file(name, start=offset, end=offset + size)
        return data

    return Reader(details, read, lambda: None)


def _s3(system: Any, name: str) -> Reader:
    # Opened without being told its size, s3fs asks for the ETag and has each request depend on it (If-Match).
    file = system.open(name, "rb", block_size=FIRST_BYTES, cache_type="none")
    return Reader(file.details, _seeking(file), file.close)


def _sftp(system: Any, name: str) -> Reader:
    details = information(system, name, "sftp")
    file = system.open(name, "rb", block_size=0)

    def read(offset: int, size: int) -> bytes:
        # asks for all the packets of a range at once; `read` would wait for each of 32 KiB
        data: bytes = next(file.readv([(offset, size)]))
        # Where the answers come faster than paramiko's thread asks, it takes the range for done, asks again, and
        # keeps the packets that come twice for as long as the file is open (5.1): up to all of it.
        getattr(file, "_prefetch_data", {}).clear()
        return data

    def close() -> None:
        with suppress(OSError, EOFError):
            file.close()

    return Reader(details, read, close)


def _ftp(system: Any, name: str) -> Reader:
    from fsspec.implementations.ftp import FTPFile

    details = information(system, name, "ftp")
    # not system.open: that lists the whole directory to know the size
    file = FTPFile(system, name, block_size=FIRST_BYTES, cache_type="none", size=details["size"])
    return Reader(details, _seeking(file), file.close)


def _seeking(file: Any) -> Callable[[int, int], bytes]:
    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        data: bytes = file.read(size)
        return data

    return read


def _ftp_information(system: Any, name: str) -> dict[str, Any]:
    """Ask for size and time with the commands of RFC 3659, where a server knows them; fsspec lists the directory."""
    from ftplib import error_perm

    connection = system.ftp
    connection.voidcmd("TYPE I")
    try:
        size = connection.size(name)
    except error_perm:
        size = None  # a directory, or nothing of that name
    if size is None:
        details: dict[str, Any] = system.info(name)
        return details
    try:
        time = connection.sendcmd(f"MDTM {name}").partition(" ")[2]
    except error_perm:
        time = ""
    return {"name": name, "size": size, "type": "file", "modify": time}
