"""The server as a child process: started on a socket that is ours, known to answer, stopped by its process."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from etl.testing.bigquery_server.install import home_of

LAUNCH = Path(__file__).with_name("launch.py")
PYTHON = Path(".venv-bigquery/bin/python")


class BigQueryServer:
    """Serve BigQuery's REST API on 127.0.0.1, with load jobs that read `gs://` from a folder; a context manager.

    It answers as BigQuery does where loading exactly once hangs on it: a job id is taken once, also by a job that
    fails; a load job lands whole or not at all; tables and finished jobs outlive the server, also when it is killed.
    It differs in this: every location is taken, and told as `US`; partition decorators, fields that the schema
    does not have and REQUIRED are not enforced; a failed load does not say which row; a job that was running
    when the server was killed runs for ever. What protects a table is in `protection`: policies are dropped, and
    statements refused, where BigQuery's documentation says so.

    Args:
        root: The folder in which `<bucket>/<object>` is what `gs://<bucket>/<object>` names: a `GcsServer.root`.
        data: The folder for tables and jobs; made when it is missing. The log is beside it, as `<data>.log`.
        python: The interpreter that has local-bigquery, as `install` makes it; `.venv-bigquery/bin/python` in the
            current directory when not given.
        project: The project that is there from the start.
        port: The port; any free one when 0. It stays the same when the server is started again.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        data: str | os.PathLike[str],
        *,
        python: Path | None = None,
        project: str = "test",
        port: int = 0,
    ) -> None:
        self.root = Path(root)
        self.data = Path(data)
        self.project = project
        self.log = self.data.with_name(f"{self.data.name}.log")
        self._python = python or PYTHON
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, without a slash at the end."""
        if not self._port:
            raise RuntimeError("the server has no address before it is started")
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process that serves."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """Return what makes google-cloud-bigquery come here, and look for no credentials elsewhere.

        It wants some all the same: `AnonymousCredentials` of google.auth.
        """
        return {
            "BIGQUERY_EMULATOR_HOST": self.url,
            "NO_GCE_CHECK": "true",
            "GCE_METADATA_HOST": "127.0.0.1:9",
        }

    def start(self, *, within: float = 120.0) -> None:
        """Start the process, and return when it answers.

        Args:
            within: Seconds until then, at the most; it takes one or two.

        Raises:
            FileNotFoundError: It is not installed.
            RuntimeError: It ended, or did not answer in time; with the end of its log.
        """
        if self._process is not None:
            raise RuntimeError(f"the server runs already, at {self.url}")
        if not self._python.exists():
            raise FileNotFoundError(
                f"local-bigquery is not installed at {self._python}: "
                "run python -m etl.testing.bigquery_server install .venv-bigquery, and give its bin/python"
            )
        self.data.mkdir(parents=True, exist_ok=True)
        # The child gets a socket that listens already. Nobody can take the port in between, what answers there is
        # this child and no other, and a request that comes early waits.
        with (
            socket.create_server(("127.0.0.1", self._port), backlog=512) as listener,
            self.log.open("ab") as log,
        ):
            self._port = listener.getsockname()[1]
            self._process = subprocess.Popen(  # noqa: S603 (the interpreter that the user names)
                [
                    *(str(self._python.absolute()), str(LAUNCH)),
                    *("--socket", str(listener.fileno())),
                    *("--project", self.project),
                    *("--data", str(self.data.absolute())),
                ],
                stdin=subprocess.PIPE,  # its end tells the child that we are gone
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                env=self._environment_of_the_child(),
            )
        try:
            self._wait_for_an_answer(within)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Let running jobs end, and stop; a server that does not run is left alone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process; a server that does not run is left alone."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> BigQueryServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _environment_of_the_child(self) -> dict[str, str]:
        """Return little: the server reads its settings out of many plain names, such as GROUPS and CALLER."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home_of(self._python.absolute().parent.parent)),
            "GCS_LOCAL_ROOT": str(self.root.absolute()),
        }

    def _wait_for_an_answer(self, within: float) -> None:
        deadline = time.monotonic() + within
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=within)
        try:
            # This waits in the listener's queue until the child takes it; when the child ends, it is reset.
            connection.request("GET", f"/bigquery/v2/projects/{self.project}/datasets")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            late = "did not answer in time" if time.monotonic() > deadline else "ended at once"
            raise RuntimeError(f"local-bigquery {late}; {self._last_words()}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"local-bigquery answered {answer.status}; {self._last_words()}")

    def _last_words(self) -> str:
        return f"the end of {self.log}:\n" + self.log.read_text(errors="replace")[-2000:]

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        with process.stdin:
            process.send_signal(how)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
