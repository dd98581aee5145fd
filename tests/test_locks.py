"""Locks end with the process that took them: no child has them, and where one has, it is named."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from etl.errors import CheckpointError, Fenced
from etl.stores.gcs import GcsStore
from etl.stores.local import LocalStore
from sinks import BigFile

# A process that takes a lock, has a child in one of many ways, says so, and waits to be killed.
PROGRAM = """
import concurrent.futures, ctypes, multiprocessing, os, subprocess, sys, threading, time
from contextlib import ExitStack

def begin(how):
    if how == "none":
        return
    if how in ("fork", "forkserver", "spawn"):
        pool = multiprocessing.get_context(how).Pool(2)
        pool.map(abs, range(4))
        return pool
    if how == "executor":
        pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))
        list(pool.map(abs, range(4)))
        return pool
    if how == "program":
        return subprocess.Popen(["sleep", "60"], close_fds=False)
    fork = ctypes.CDLL(None).fork if how == "fork in C" else os.fork
    told, tells = os.pipe()
    if fork() == 0:
        if how == "daemon":
            os.setsid()
            if os.fork():
                os._exit(0)
        os.write(tells, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(told, 1)  # before that, it has its parent's files for a moment

def hold(what, path, stack):
    if what == "store":
        from etl.stores.local import LocalStore
        stack.enter_context(LocalStore(path).hold(wait=False))
    elif what == "bucket":
        from etl.stores.gcs import GcsStore
        stack.enter_context(GcsStore("gs://bucket/object").hold(wait=False))
    elif what == "big_file":
        from sinks import BigFile
        sink = BigFile(path)
        sink.open_part(1).write(b"x")
        stack.callback(sink.close)
    else:
        import duckdb
        stack.enter_context(duckdb.connect(path))

if __name__ == "__main__":
    what, how, path = sys.argv[1:]
    with ExitStack() as stack:
        hold(what, path, stack)
        child = begin(how)
        print("held", flush=True)
        sys.stdin.read()
"""
WAYS = ["fork", "forkserver", "spawn", "executor", "os.fork", "daemon", "program"]


@contextmanager
def killed(tmp_path, monkeypatch, what, how):
    """A process that held a lock and was killed, while its children live."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, program, what, how, tmp_path / "held"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    children = []
    try:
        assert process.stdout.readline() == b"held\n"
        children = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        yield process.pid
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue


def descendants(pid):
    """The processes of a session but its first, however they were made; a daemon is found by its program."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != pid:
            try:
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                environment = (entry / "environ").read_bytes()
            except (OSError, ValueError):
                continue
            mine = f"TMPDIR={os.environ['TMPDIR']}".encode()
            if session == pid or mine in environment.split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("what", ["store", "big_file"])
def test_a_lock_ends_with_its_process_whatever_children_live(tmp_path, monkeypatch, what, how):
    with killed(tmp_path, monkeypatch, what, how):
        take(what, tmp_path / "held")


@pytest.mark.parametrize("what", ["bucket", "duckdb"])
def test_so_do_the_others(tmp_path, monkeypatch, what):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with killed(tmp_path, monkeypatch, what, "fork"):
        take(what, tmp_path / "held")


def take(what, path):
    """Take a lock, which must be free."""
    if what == "big_file":
        sink = BigFile(path)
        sink.recover([], None)
        sink.open_part(1)
        sink.close()
    elif what == "duckdb":
        import duckdb

        duckdb.connect(path).close()
    else:
        store = LocalStore(path) if what == "store" else GcsStore("gs://bucket/object")
        assert store.holder() is None
        with store.hold(wait=False):
            pass


@pytest.mark.parametrize("wait", [False, True])
def test_a_lock_that_a_child_has_in_a_way_that_nobody_sees_names_who_has_it(tmp_path, monkeypatch, wait):
    store = LocalStore(tmp_path / "held")
    with killed(tmp_path, monkeypatch, "store", "fork in C") as pid:
        said = rf"process {pid} on \S+ since .*, which has ended, but process (\d+) \(.*python"
        found = re.search(said, store.holder())
        assert found, store.holder()
        with pytest.raises(Fenced, match=said), store.hold(wait=wait):
            pass
        os.kill(int(found[1]), signal.SIGKILL)  # which is what the message says
        with store.hold(wait=True):
            pass


def test_a_child_that_ends_leaves_its_parent_s_lock_alone(tmp_path):
    store, sink = LocalStore(tmp_path / "job.json"), BigFile(tmp_path / "out.ndjson")
    with store.hold(wait=False):
        part = sink.open_part(1)
        part.write(b"{}\n")
        for _ in range(2):
            if os.fork() == 0:
                os._exit(0)
            os.wait()
        assert "process" in str(store.holder())
        with pytest.raises(Fenced), LocalStore(tmp_path / "job.json").hold(wait=False):
            pass
        part.seal()
        sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.ndjson"]


def test_a_child_that_unwinds_what_its_parent_was_in_does_not_end_the_parent_s_hold(tmp_path):
    store = LocalStore(tmp_path / "job.json")
    holding = store.hold(wait=False)
    holding.__enter__()
    if os.fork() == 0:
        try:
            os.open(os.devnull, os.O_RDONLY)  # gets the number that was the lock's
            holding.__exit__(None, None, None)
        finally:
            os._exit(0)
    os.wait()
    assert store.holder() is not None
    holding.__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_process_has_locked_is_waited_for_and_then_named(tmp_path, monkeypatch):
    monkeypatch.setattr("etl.stores.local._SWAP_SECONDS", 0.1)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_SH)
        with pytest.raises(CheckpointError, match=rf"cannot write .*has been locked.*process {os.getpid()} "):
            LocalStore(tmp_path / "job.json").swap(b"one", None)
    finally:
        os.close(folder)
    LocalStore(tmp_path / "job.json").swap(b"one", None)


def test_two_who_only_look_do_not_take_each_other_for_the_holder(tmp_path):
    store = LocalStore(tmp_path / "job.json")
    (tmp_path / ".job.json.lock").write_text("left by a run that was killed")
    looking = os.open(tmp_path / ".job.json.lock", os.O_RDONLY)
    try:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert store.holder() is None
    finally:
        os.close(looking)


def test_a_job_that_runs_in_a_container_is_not_taken_for_one_that_has_ended(tmp_path, monkeypatch):
    """There its number is another one, and the name of the machine is the same, as with a network of the host's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    contained = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.geteuid() or subprocess.run([*contained, "true"], check=False).returncode:
        pytest.skip("needs root and namespaces")
    with subprocess.Popen(
        [*contained, sys.executable, program, "store", "none", tmp_path / "held"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as process:
        assert process.stdout.readline() == b"held\n"
        store = LocalStore(tmp_path / "held")
        assert re.fullmatch(r"process 1 on \S+ since [^,]*", store.holder())
        with pytest.raises(Fenced, match="the job is being run by process 1 "), store.hold(wait=False):
            pass
        process.stdin.close()
        with store.hold(wait=True):
            pass
