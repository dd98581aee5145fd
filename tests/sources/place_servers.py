"""Places that keep files, each served on 127.0.0.1 by a real server, or kept in memory by fsspec."""

from __future__ import annotations

import os
import socket
import threading
import uuid
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import paramiko
import requests

from etl.sources import Files
from etl.testing.gcs_server import GcsServer

with warnings.catch_warnings():
    # Python 3.11 says of asyncore that 3.12 will be without it; there pyftpdlib brings its own
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import DTPHandler, FTPHandler
    from pyftpdlib.servers import ThreadedFTPServer

USER, PASSWORD = "reader", "a secret word"


class Place(ABC):
    """Where tests put files.

    Attributes:
        root: the URI of a directory that holds nothing yet, without a slash at its end.
        storage: what reaches it.
        tags: whether the place has a word for each content of a file.
    """

    tags = False

    def __init__(self, root: str, storage: dict[str, Any]) -> None:
        self.root = root
        self.storage = storage

    @abstractmethod
    def put(self, name: str, data: bytes) -> str:
        """Keep a file, and return its URI."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Let a file go."""

    def fresh(self) -> None:
        """Begin a directory of its own for a test."""
        self.root = f"{self.root.rpartition('/')[0]}/{uuid.uuid4().hex[:8]}"

    @property
    def folder(self) -> str:
        """The directory's name."""
        return self.root.rpartition("/")[2]

    def uri(self, name: str) -> str:
        return f"{self.root}/{name}"

    def files(self, *names: str, **arguments: Any) -> Files:
        """Make a source of files of the place."""
        return Files([self.uri(name) for name in names], storage=self.storage, **arguments)


class Directory(Place):
    """A directory that a server shows. Each file is some seconds younger than the one before."""

    def __init__(self, root: str, storage: dict[str, Any], directory: Path) -> None:
        super().__init__(root, storage)
        self.directory = directory
        self.time = 1_700_000_000

    def fresh(self) -> None:
        super().fresh()
        (self.directory / self.folder).mkdir()

    def put(self, name: str, data: bytes) -> str:
        path = self.directory / self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.time += 10
        os.utime(path, (self.time, self.time))
        return self.uri(name)

    def remove(self, name: str) -> None:
        (self.directory / self.folder / name).unlink()


class Ftp(Directory):
    """Served by pyftpdlib.

    Attributes:
        cut_after: the next transfer that has sent so many bytes breaks off; None: none does.
    """

    cut_after: int | None = None

    def break_connections(self) -> None:
        for handler in list(self.handlers):
            with suppress(OSError):
                handler.socket.shutdown(socket.SHUT_RDWR)

    handlers: list[Any]


@contextmanager
def ftp(tmp: Path) -> Iterator[Ftp]:
    directory = tmp / "ftp"
    directory.mkdir()
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, str(directory), perm="elr")
    handlers: list[Any] = []

    class Transfer(DTPHandler):  # type: ignore[misc]
        def send(self, data: bytes) -> int:
            if place.cut_after is not None and self.tot_bytes_sent + len(data) > place.cut_after:
                data = data[: max(place.cut_after - self.tot_bytes_sent, 0)]
                sent: int = super().send(data) if data else 0
                place.cut_after = None
                self._resp = ("426 The transfer was cut.", None)  # else the server says nothing at all
                self.close()
                return sent
            return super().send(data)  # type: ignore[no-any-return]

    class Handler(FTPHandler):  # type: ignore[misc]
        def on_connect(self) -> None:
            handlers.append(self)

    Handler.authorizer = authorizer
    Handler.dtp_handler = Transfer
    Handler.use_sendfile = False
    Handler.auth_failed_timeout = 0
    server = ThreadedFTPServer(("127.0.0.1", 0), Handler)
    host, port = server.address
    place = Ftp(f"ftp://{host}:{port}/data", {"username": USER, "password": PASSWORD}, directory)
    place.handlers = handlers
    thread = threading.Thread(target=server.serve_forever, kwargs={"handle_exit": False})
    thread.start()
    try:
        yield place
    finally:
        server.close_all()
        thread.join()


class Sftp(Directory):
    """Served by paramiko."""

    transports: list[paramiko.Transport]

    def break_connections(self) -> None:
        for transport in list(self.transports):
            transport.close()


class _Login(paramiko.ServerInterface):  # type: ignore[misc]
    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == (USER, PASSWORD)
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


def _sftp_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    return call


class _Handle(paramiko.SFTPHandle):  # type: ignore[misc]
    def stat(self) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


class _Folder(paramiko.SFTPServerInterface):  # type: ignore[misc]
    def __init__(self, server: Any, directory: Path) -> None:
        super().__init__(server)
        self.directory = directory

    def _path(self, name: str) -> Path:
        return self.directory / name.lstrip("/")

    @_sftp_errors
    def open(self, path: str, flags: int, attr: Any) -> Any:
        handle = _Handle(flags)
        handle.readfile = self._path(path).open("rb")
        return handle

    @_sftp_errors
    def list_folder(self, path: str) -> Any:
        return [
            paramiko.SFTPAttributes.from_stat(entry.lstat(), entry.name)
            for entry in self._path(path).iterdir()
        ]

    @_sftp_errors
    def stat(self, path: str) -> Any:
        return paramiko.SFTPAttributes.from_stat(self._path(path).stat())

    @_sftp_errors
    def lstat(self, path: str) -> Any:
        return paramiko.SFTPAttributes.from_stat(self._path(path).lstat())


@contextmanager
def sftp(tmp: Path) -> Iterator[Sftp]:
    directory = tmp / "sftp"
    directory.mkdir()
    key = paramiko.ECDSAKey.generate()
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    place = Sftp(
        f"sftp://{host}:{port}/data",
        {
            "username": USER,
            "password": PASSWORD,
            "host_key_policy": "auto_add",
            "look_for_keys": False,
            "allow_agent": False,
        },
        directory,
    )
    place.transports = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Folder, directory)
            place.transports.append(transport)
            with suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(threading.Event(), _Login())

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield place
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        place.break_connections()
        for transport in place.transports:
            transport.join()


class S3(Place):
    """Served by moto."""

    tags = True

    def __init__(self, url: str) -> None:
        bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        super().__init__(
            f"s3://{bucket}/data",
            {
                "key": USER,
                "secret": PASSWORD,
                "endpoint_url": url,
                "client_kwargs": {"region_name": "us-east-1"},
            },
        )
        self.bucket = bucket
        self.url = url
        requests.put(f"{url}/{bucket}", timeout=30).raise_for_status()

    def _system(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(**self.storage)

    def put(self, name: str, data: bytes) -> str:
        self._system().pipe_file(f"{self.bucket}/{self.folder}/{name}", data)
        return self.uri(name)

    def remove(self, name: str) -> None:
        self._system().rm_file(f"{self.bucket}/{self.folder}/{name}")


@contextmanager
def s3(tmp: Path) -> Iterator[S3]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()


class Gs(Place):
    """Served by the GCS server of `etl.testing`."""

    tags = True

    def __init__(self, server: GcsServer, bucket: str, url: str) -> None:
        super().__init__(f"gs://{bucket}/data", {"token": "anon", "endpoint_url": url, "project": "test"})
        self.bucket = bucket
        self.server = server

    def put(self, name: str, data: bytes) -> str:
        # not by gcsfs: the body that it uploads does not end as RFC 2046 says, and the server is strict
        requests.post(
            f"{self.server.url}/upload/storage/v1/b/{self.bucket}/o",
            data,
            params={"uploadType": "media", "name": f"{self.folder}/{name}"},
            timeout=30,
        ).raise_for_status()
        return self.uri(name)

    def remove(self, name: str) -> None:
        url = f"{self.server.url}/storage/v1/b/{self.bucket}/o/{quote(f'{self.folder}/{name}', safe='')}"
        requests.delete(url, timeout=30).raise_for_status()


@contextmanager
def gs(tmp: Path) -> Iterator[Gs]:
    with GcsServer(tmp / "gcs") as server:
        server.create_bucket("bucket")
        yield Gs(server, "bucket", server.url)


class Memory(Place):
    """What fsspec keeps in this process."""

    def __init__(self, name: str) -> None:
        super().__init__(f"memory://{name}/data", {})
        self.name = name

    def _system(self) -> Any:
        import fsspec

        return fsspec.filesystem("memory")

    def put(self, name: str, data: bytes) -> str:
        self._system().pipe_file(f"/{self.name}/{self.folder}/{name}", data)
        return self.uri(name)

    def remove(self, name: str) -> None:
        self._system().rm_file(f"/{self.name}/{self.folder}/{name}")


@contextmanager
def memory(tmp: Path) -> Iterator[Memory]:
    place = Memory(uuid.uuid4().hex)
    yield place
    with suppress(FileNotFoundError):
        place._system().rm(f"/{place.name}", recursive=True)


SERVERS: dict[str, Any] = {"memory": memory, "ftp": ftp, "sftp": sftp, "s3": s3, "gs": gs}
