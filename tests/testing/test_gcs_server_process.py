"""The server as a process, and what is left when it is stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from etl.testing.gcs_server import GcsServer
from tests.ports import kept_port
from tests.testing.gcs_wire import BUCKET, QUANTUM, Wire, crc32c

DATA = os.urandom(2 * QUANTUM + 1000)
FIRST = ("bytes 0-262143/*", DATA[:QUANTUM])
REST = (f"bytes 262144-{len(DATA) - 1}/{len(DATA)}", DATA[QUANTUM:])


@contextmanager
def process(root: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], Wire]]:
    """Run the server as a process, until the end or until it is killed."""
    command = [sys.executable, "-m", "etl.testing.gcs_server", "--root", str(root)]
    command += ["--port", str(port), "--bucket", BUCKET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        wire = Wire(child.stdout.readline().strip())
        try:
            with wire.session:
                yield child, wire
        finally:
            child.terminate()


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is still there when a server comes again."""
    with kept_port() as kept:
        yield kept


def test_the_process_prints_its_url_when_it_is_ready_and_ends_on_sigterm(tmp_path: Path) -> None:
    with process(tmp_path / "gcs") as (child, wire):
        assert wire.upload("a", b"hello").status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 0
    assert (tmp_path / "gcs" / BUCKET / "a").read_bytes() == b"hello"


def test_a_killed_server_goes_on_where_it_was(tmp_path: Path, port: int) -> None:
    with process(tmp_path / "gcs", port) as (child, wire):
        known = wire.upload("a b", b"hello").json()
        location = wire.location("big", {"metadata": {"k": "v"}}, ifGenerationMatch=0)
        finished = wire.location("c")
        wire.put(finished, "bytes 0-0/1", b"c")
        wire.put(location, *FIRST)
        child.kill()
        child.wait()
    with process(tmp_path / "gcs", port) as (_, wire):
        assert wire.on("GET", "a b").json() == known
        assert wire.put(finished, "bytes */*").json()["name"] == "c"
        assert wire.put(location, "bytes */*").headers["Range"] == "bytes=0-262143"
        found = wire.put(location, *REST).json()
        assert (found["crc32c"], found["metadata"]) == (crc32c(DATA), {"k": "v"})


def test_memory_does_not_grow_with_the_objects(tmp_path: Path) -> None:
    def peak(pid: int) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    block = bytes(32 * 1024 * 1024)
    with process(tmp_path / "gcs") as (child, wire):
        wire.upload("warm", block[: 4 * 1024 * 1024])
        before = peak(child.pid)
        wire.upload("a", block)
        assert (
            wire.put(wire.location("b"), f"bytes 0-{len(block) - 1}/{len(block)}", block).status_code == 200
        )
        wire.multipart({"name": "c"}, block)
        assert wire.download("c").content == block
        assert peak(child.pid) - before < len(block) // 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "gcs"


@contextmanager
def served(root: Path, port: int = 0) -> Iterator[tuple[GcsServer, Wire]]:
    with GcsServer(root, port=port) as server, requests.Session():
        if BUCKET not in {path.name for path in root.iterdir()}:
            server.create_bucket(BUCKET)
        wire = Wire(server.url)
        with wire.session:
            yield server, wire


def test_bytes_that_were_not_stored_in_a_whole_piece_are_gone_after_a_restart(root: Path, port: int) -> None:
    with served(root, port) as (server, wire):
        location = wire.location("a")
        wire.put(location, *FIRST)
    (data,) = server.state.glob("uploads/*.data")
    with data.open("ab") as file:
        file.write(b"half of a block")
    with served(root, port) as (_, wire):
        assert wire.put(location, "bytes */*").headers["Range"] == "bytes=0-262143"
        assert wire.put(location, *REST).json()["crc32c"] == crc32c(DATA)


def test_an_object_that_was_recorded_and_not_yet_moved_is_there_after_a_restart(
    root: Path, port: int
) -> None:
    with served(root, port) as (server, wire):
        location = wire.location("a")
        wire.put(location, "bytes 0-4/5", b"hello")
    # As the disk is when the server is killed between the two.
    session = location.rpartition("=")[2]
    record = server.state / "uploads" / f"{session}.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "state": "open", "result": None}))
    (root / BUCKET / "a").rename(server.state / "uploads" / f"{session}.data")
    with served(root, port) as (server, wire):
        assert server.objects(BUCKET) == {"a": 5}
        assert wire.download("a").content == b"hello"
        assert wire.put(location, "bytes */*").json()["size"] == "5"
        assert server.sessions() == 0


def test_uploads_in_one_request_leave_nothing_of_a_killed_server(root: Path) -> None:
    with served(root) as (server, _):
        leftover = server.state / "uploads" / "x.part"
        leftover.write_bytes(b"half")
    with served(root) as (server, _):
        assert not leftover.exists()
        assert server.objects(BUCKET) == {}


def test_a_deleted_object_stays_deleted(root: Path) -> None:
    with served(root) as (_, wire):
        wire.upload("a/b", b"")
        wire.on("DELETE", "a/b")
    with served(root) as (server, wire):
        assert server.objects(BUCKET) == {}
        assert wire.on("GET", "a/b").status_code == 404


def test_a_server_can_be_stopped_and_started_on_its_port(root: Path, port: int) -> None:
    with served(root, port) as (server, wire):
        url = server.url
        server.stop()
        server.stop()
        with pytest.raises(requests.ConnectionError):
            wire.upload("a", b"")
        server.start()
        assert server.url == url
        assert wire.upload("a", b"").status_code == 200


def test_a_server_that_stops_breaks_connections_that_wait(root: Path) -> None:
    with served(root) as (server, wire):
        wire.upload("a", b"")
        server.stop()
        with pytest.raises(requests.ConnectionError):
            wire.on("GET", "a")


def test_objects_and_state_are_on_one_file_system(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two file systems"):
        GcsServer(tmp_path / "gcs", state=Path(f"/dev/shm/{tmp_path.parent.name}-{os.getpid()}"))


def test_the_environment_leads_googles_client_here(root: Path) -> None:
    from google.cloud import storage

    with served(root) as (server, _):
        script = "from google.cloud import storage; print(*storage.Client().list_buckets())"
        environment = {"PATH": os.environ["PATH"], **server.environment()}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{storage.Bucket(None, BUCKET)!r}\n"
