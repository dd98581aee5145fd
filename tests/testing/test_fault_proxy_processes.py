"""The fault proxy kills and stops processes at the request that it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from etl.testing.fault_proxy import Fault, FaultProxy, Kill, Stop
from etl.testing.fault_proxy.faults import thread_states
from tests.testing.http_target import Target, wait_until

WORKER = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
for number in range(3):
    connection.request("PUT", f"/{number}", body=b"x")
    print(connection.getresponse().read().decode(), flush=True)
"""


@pytest.fixture
def worker(proxy: FaultProxy) -> Iterator[Worker]:
    worker = Worker(proxy)
    yield worker
    worker.end()


class Worker:
    """A process that makes three requests; it is started after the fault that names it was set."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.address = proxy.url.removeprefix("http://")
        self.process: subprocess.Popen[str] | None = None
        self.started = threading.Event()

    def pid(self) -> int:
        assert self.started.wait(60)
        assert self.process is not None
        return self.process.pid

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, self.address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.started.set()
        return self.process

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@pytest.mark.parametrize(("when", "seen"), [("before", ["/0"]), ("after", ["/0", "/1"])])
def test_a_process_is_killed_at_its_second_request(
    proxy: FaultProxy, target: Target, worker: Worker, when: Any, seen: list[str]
) -> None:
    fault = Kill(worker.pid, when)
    proxy.at(2, fault)
    process = worker.start()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert fault.happened.wait(60)
    assert [path for _method, path in target.seen] == seen
    assert len(printed.splitlines()) == 1  # it never read the answer


def test_a_process_is_gone_when_the_fault_has_happened(proxy: FaultProxy, worker: Worker) -> None:
    fault = Kill(worker.pid)
    proxy.at(1, fault)
    process = worker.start()
    assert fault.happened.wait(60)
    assert thread_states(process.pid) <= {"Z"}


@pytest.mark.parametrize(("when", "seen"), [("before", ["/0", "/1"]), ("after", ["/0", "/1"])])
def test_a_stopped_process_goes_on_where_it_stood(
    proxy: FaultProxy, target: Target, worker: Worker, when: Any, seen: list[str]
) -> None:
    fault = Stop(worker.pid, when)
    proxy.at(2, fault)
    process = worker.start()
    assert fault.happened.wait(60)
    assert thread_states(process.pid) == {"T"}
    wait_until(lambda: len(target.seen) == 2)
    assert [path for _method, path in target.seen] == seen
    process.send_signal(signal.SIGCONT)
    printed, _ = process.communicate(timeout=60)
    assert (process.returncode, len(printed.splitlines())) == (0, 3)


@pytest.mark.parametrize("make", [Kill, Stop])
def test_a_process_that_is_gone_already_is_no_error(
    proxy: FaultProxy, session: requests.Session, make: Any
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    fault: Fault = make(gone.pid, "after")
    proxy.at(1, fault)
    try:
        session.get(proxy.url, timeout=60)
    except requests.ConnectionError:
        assert make is Kill
    assert fault.happened.is_set()
