"""Accounts of Google Cloud: a proxy for each, which refuses, hides and redacts what its roles do not allow.

Permissions of requests and of roles: BigQuery documentation, "BigQuery IAM roles and permissions" and the pages of the
REST reference's methods; Cloud Storage documentation, "IAM permissions for JSON methods" and "IAM roles".
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.google import GoogleServers

ROLES = {
    "roles/bigquery.jobUser": {"bigquery.jobs.create"},
    "roles/bigquery.user": {"bigquery.jobs.create", "bigquery.jobs.list", "bigquery.datasets.get"},
    "roles/bigquery.resourceViewer": {"bigquery.jobs.get", "bigquery.jobs.list", "bigquery.jobs.listAll"},
    "roles/bigquery.dataEditor": {
        "bigquery.datasets.get",
        *(f"bigquery.tables.{what}" for what in ("create", "delete", "get", "getData", "list")),
        *(f"bigquery.tables.{what}" for what in ("update", "updateData")),
    },
    "roles/storage.objectUser": {
        f"storage.objects.{what}" for what in ("create", "delete", "get", "list", "update")
    },
    "roles/storage.bucketViewer": {"storage.buckets.get", "storage.buckets.list"},
}

PROJECT = r"/bigquery/v2/projects/[^/]+"
TABLES = PROJECT + r"/datasets/[^/]+/tables"
OBJECT = r"/storage/v1/b/[^/]+/o"

# What a request takes; one that is not here is refused to everybody.
NEEDS: dict[tuple[str, str], set[str]] = {
    ("GET", PROJECT + r"/datasets/[^/]+"): {"bigquery.datasets.get"},
    ("GET", TABLES): {"bigquery.tables.list"},
    ("POST", TABLES): {"bigquery.tables.create"},
    ("GET", TABLES + r"/[^/]+"): {"bigquery.tables.get"},
    ("PATCH", TABLES + r"/[^/]+"): {"bigquery.tables.update"},
    ("DELETE", TABLES + r"/[^/]+"): {"bigquery.tables.delete"},
    ("GET", TABLES + r"/[^/]+/rowAccessPolicies"): {"bigquery.rowAccessPolicies.list"},
    ("POST", PROJECT + r"/jobs"): {"bigquery.jobs.create"},
    ("POST", PROJECT + r"/queries"): {"bigquery.jobs.create"},
    ("GET", PROJECT + r"/queries/[^/]+"): set(),  # of one's own query
    ("GET", PROJECT + r"/jobs"): set(),  # one's own; see `_list`
    ("GET", PROJECT + r"/jobs/[^/]+"): set(),  # one's own; see `_may_see`
    ("POST", "/upload" + PROJECT + r"/jobs"): {"bigquery.jobs.create"},
    ("PUT", "/upload" + PROJECT + r"/jobs"): {"bigquery.jobs.create"},
    ("GET", OBJECT): {"storage.objects.list"},
    ("GET", OBJECT + r"/[^/]+"): {"storage.objects.get"},
    ("GET", "/download" + OBJECT + r"/[^/]+"): {"storage.objects.get"},
    ("PATCH", OBJECT + r"/[^/]+"): {"storage.objects.update"},
    ("DELETE", OBJECT + r"/[^/]+"): {"storage.objects.delete"},
    ("POST", "/upload" + OBJECT): {"storage.objects.create"},
    ("PUT", "/upload" + OBJECT): {"storage.objects.create"},
    ("DELETE", "/upload" + OBJECT): {"storage.objects.create"},
    ("GET", r"/storage/v1/b/[^/]+"): {"storage.buckets.get"},
}

# What the configuration of a job takes besides, by its kind.
CHANGES = {"bigquery.tables.updateData"}
LOAD = {"bigquery.tables.create", "bigquery.tables.update", *CHANGES}
COPY = {"bigquery.tables.create", "bigquery.tables.getData", *CHANGES}


@dataclass
class Memory:
    """What BigQuery knows of jobs.

    Attributes:
        owners: which account submitted a job.
        forgotten: whether all of them were too long ago.
    """

    owners: dict[str, str] = field(default_factory=dict)
    forgotten: bool = False


class Account:
    """An account with some roles; open while the context lasts.

    Attributes:
        permissions: what it may do; may be changed.
        targets: the servers behind it, or fault proxies in front of those.
        refused: what was refused to it: the method, the path, and the permissions that it lacks.
    """

    def __init__(self, servers: GoogleServers, memory: Memory, name: str, roles: Iterable[str]) -> None:
        self.name = name
        self.memory = memory
        self.permissions = {permission for role in roles for permission in ROLES[role]}
        self.refused: list[tuple[str, str, set[str]]] = []
        self.targets = {"bigquery": servers.bigquery.url, "storage": servers.gcs.url}
        self._servers = servers
        self._stack = ExitStack()

    def __enter__(self) -> Account:
        self.bigquery = self._stack.enter_context(self._proxy("bigquery"))
        self.storage = self._stack.enter_context(self._proxy("storage"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def environment(self) -> dict[str, str]:
        """Return what makes Google's clients act as this account."""
        return {
            **self._servers.environment(),
            "BIGQUERY_EMULATOR_HOST": self.bigquery,
            "STORAGE_EMULATOR_HOST": self.storage,
        }

    def grant(self, role: str) -> None:
        """Give it another role."""
        self.permissions |= ROLES[role]

    @contextmanager
    def _proxy(self, service: str) -> Iterator[str]:
        handler = type("Handler", (_Handler,), {"account": self, "service": service})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    account: Account
    service: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _serve(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        job = _job(body) if path.endswith(("/jobs", "/queries")) else {}
        if lacking := self._needs(path, job) - self.account.permissions:
            self.account.refused.append((self.command, path, lacking))
            self._refuse(path, lacking)
            return
        if found := re.fullmatch(PROJECT + r"/jobs/([^/]+)", path):
            if self.account.memory.forgotten:
                self._error(404, "notFound", f"Not found: Job {unquote(found[1])}")
                return
            if not self._may_see(unquote(found[1]), "bigquery.jobs.get"):
                self.account.refused.append((self.command, path, {"bigquery.jobs.get"}))
                self._refuse(path, {"bigquery.jobs.get"})
                return
        status, headers, answer = self._pass_on(body)
        if re.fullmatch(PROJECT + "/jobs", path) and self.command == "GET" and status == 200:
            answer = json.dumps(self._list(json.loads(answer))).encode()
        if status < 300 and (name := job.get("jobReference", {}).get("jobId")):
            self.account.memory.owners.setdefault(name, self.account.name)
        elif status < 300 and path.endswith("/queries"):
            self.account.memory.owners.setdefault(
                json.loads(answer)["jobReference"]["jobId"], self.account.name
            )
        self._answer(status, headers, answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - the server's names

    def _needs(self, path: str, job: dict[str, Any]) -> set[str]:
        query = parse_qs(urlsplit(self.path).query)
        needed = next(
            (
                needed
                for (method, pattern), needed in NEEDS.items()
                if method == self.command and re.fullmatch(pattern, path)
            ),
            {f"whatever {self.command} {path} takes"},
        )
        if path.endswith("/jobs") and _everybody(query):
            return {"bigquery.jobs.list"}
        configuration = job.get("configuration", {})
        text = configuration.get("query", {}).get("query") or job.get("query") or ""
        if "load" in configuration:
            return needed | LOAD
        if "copy" in configuration:
            return needed | COPY
        if isinstance(text, str) and re.search(r"\b(MERGE|INSERT|TRUNCATE)\b", text):
            return needed | CHANGES | {"bigquery.tables.getData"}
        return needed | ({"bigquery.tables.getData"} if " FROM " in str(text) else set())

    def _may_see(self, name: str, permission: str) -> bool:
        owner = self.account.memory.owners.get(name, self.account.name)
        return owner == self.account.name or permission in self.account.permissions

    def _list(self, found: dict[str, Any]) -> dict[str, Any]:
        everybody = _everybody(parse_qs(urlsplit(self.path).query))
        jobs = []
        for job in [] if self.account.memory.forgotten else found.get("jobs", []):
            name = job["jobReference"]["jobId"]
            if name not in self.account.memory.owners:
                continue  # of another test
            if self._may_see(name, "bigquery.jobs.listAll"):
                jobs.append(job)
            elif everybody:
                jobs.append(_redacted(job))
        return {**found, "jobs": jobs}

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(
            urlsplit(self.account.targets[self.service]).netloc, timeout=120
        )
        headers = {key: value for key, value in self.headers.items() if key.lower() not in HOPS}
        if self.path.startswith(("/bigquery/", "/upload/bigquery/")):
            headers = {key: value for key, value in headers.items() if key.lower() != "accept-encoding"}
        connection.request(self.command, self.path, body or None, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        return answer.status, answer.getheaders(), read

    def _refuse(self, path: str, lacking: set[str]) -> None:
        permission = ", ".join(sorted(lacking))
        if "/storage/" in path:
            said = (
                f"somebody does not have {permission} access to the Google Cloud Storage object. Permission "
            )
            self._error(403, "forbidden", f"{said}'{permission}' denied on resource (or it may not exist).")
            return
        names = re.search(r"projects/([^/]+)(?:/(\w+)/([^/]+))?", path)
        assert names is not None
        kind = {"datasets": "Dataset", "jobs": "Job"}.get(names[2] or "", "Project")
        what = f"{kind} {names[1]}:{names[3]}" if names[3] else f"Project {names[1]}"
        said = f"Access Denied: {what}: User does not have {permission} permission for {what.lower()}."
        self._error(403, "accessDenied", said)

    def _error(self, status: int, reason: str, message: str) -> None:
        error = {"domain": "global", "reason": reason, "message": message}
        body = {"error": {"code": status, "message": message, "errors": [error]}}
        self._answer(status, [("Content-Type", "application/json")], json.dumps(body).encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for key, value in headers:
            if key.lower() not in HOPS:
                self.send_header(key, value)
        if status not in (204, 304) and (status != 308):
            self.send_header("Content-Length", str(len(body)))
        elif status == 308:
            self.send_header("Content-Length", "0")
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304, 308):
            self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data


HOPS = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})


def _everybody(query: dict[str, list[str]]) -> bool:
    return query.get("allUsers", [""])[0].lower() == "true"  # the client writes True


def _job(body: bytes) -> dict[str, Any]:
    """Return the job that the body of a request submits; nothing for one that does not."""
    try:
        found = json.loads(body)
    except ValueError:  # the data of an upload
        return {}
    return found if isinstance(found, dict) else {}


def _redacted(job: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of a job to those who lack bigquery.jobs.listAll."""
    statistics = {key: value for key, value in job["statistics"].items() if key.endswith("Time")}
    return {"kind": "bigquery#job", "state": job["state"], "status": job["status"], "statistics": statistics}
