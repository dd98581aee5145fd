"""The BigQuery server, with Google's client: what loading exactly once needs of it, and how it starts and ends."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound

from etl.testing.bigquery_server import BigQueryServer
from etl.testing.bigquery_server.install import NoPython, find_python
from etl.testing.fault_proxy import Drop, FaultProxy
from tests.google import (
    BIGQUERY_PYTHON,
    LOCATION,
    PROJECT,
    TIMEOUT,
    GoogleServers,
    bigquery_client,
    need_bigquery,
)

if TYPE_CHECKING:
    from google.cloud import bigquery

ONCE: dict[str, Any] = {"timeout": TIMEOUT, "retry": None}


@pytest.fixture
def client(google_servers: GoogleServers) -> Iterator[bigquery.Client]:
    client = google_servers.bigquery_client()
    yield client
    client.close()


@pytest.fixture
def table(google_servers: GoogleServers) -> str:
    return f"{PROJECT}.{google_servers.new_dataset()}.numbers"


def staged(servers: GoogleServers, *numbers: object) -> str:
    """Put rows into an object by Google's storage client, and return its URI."""
    bucket = servers.new_bucket()
    client = servers.storage_client()
    lines = b"".join(json.dumps({"number": number}).encode() + b"\n" for number in numbers)
    client.bucket(bucket).blob("part-1.ndjson.gz").upload_from_string(gzip.compress(lines), timeout=TIMEOUT)
    client.close()
    return f"gs://{bucket}/part-1.ndjson.gz"


def load(client: bigquery.Client, uri: str, table: str, job: str) -> bigquery.LoadJob:
    from google.cloud import bigquery

    config = bigquery.LoadJobConfig(
        source_format="NEWLINE_DELIMITED_JSON",
        write_disposition="WRITE_APPEND",
        schema=[bigquery.SchemaField("number", "INTEGER")],
        labels={"etl_plan": "p1"},
    )
    made = client.load_table_from_uri(
        uri, table, job_id=job, location=LOCATION, job_config=config, timeout=TIMEOUT, retry=None
    )
    made.exception(timeout=TIMEOUT)  # waits: a load that takes a moment is answered before it is done
    return made


def count(client: bigquery.Client, table: str) -> int:
    return int(client.get_table(table, **ONCE).num_rows)


def test_it_loads_what_the_gcs_server_was_given(
    google_servers: GoogleServers, client: bigquery.Client, table: str
) -> None:
    job = load(client, staged(google_servers, 1, 2, 3), table, table.replace(".", "_"))
    found = client.get_job(job.job_id, location=LOCATION, **ONCE)
    assert (found.state, found.error_result, found.output_rows) == ("DONE", None, 3)
    assert found.labels == {"etl_plan": "p1"}
    assert count(client, table) == 3


def test_a_job_id_is_taken_once(google_servers: GoogleServers, client: bigquery.Client, table: str) -> None:
    uri, job = staged(google_servers, 1), table.replace(".", "_")
    load(client, uri, table, job)
    with pytest.raises(Conflict):
        load(client, uri, table, job)
    with pytest.raises(Conflict):
        client.query("SELECT 1", job_id=job, location=LOCATION, job_retry=None, **ONCE)
    assert count(client, table) == 1


def test_of_many_that_insert_a_job_at_once_one_wins(
    google_servers: GoogleServers, client: bigquery.Client, table: str
) -> None:
    uri = staged(google_servers, 1)

    def insert(job: str) -> bool:
        own = google_servers.bigquery_client()
        try:
            load(own, uri, table, job)
        except Conflict:
            return False
        finally:
            own.close()
        return True

    with ThreadPoolExecutor(8) as threads:
        for number in range(5):
            job = f"{table.replace('.', '_')}_{number}"
            assert sum(threads.map(insert, [job] * 8)) == 1
    assert count(client, table) == 5


def test_the_id_of_a_failed_job_is_spent_and_nothing_of_it_is_loaded(
    google_servers: GoogleServers, client: bigquery.Client, table: str
) -> None:
    job = table.replace(".", "_")
    load(client, staged(google_servers, 1), table, f"{job}_before")
    failed = load(client, staged(google_servers, 2, "three"), table, job)
    assert failed.error_result["reason"] == "invalid"
    with pytest.raises(Conflict):
        load(client, staged(google_servers, 2), table, job)
    assert count(client, table) == 1


def test_a_query_burns_an_id(google_servers: GoogleServers, client: bigquery.Client, table: str) -> None:
    job = table.replace(".", "_")
    client.query("SELECT 1", job_id=job, location=LOCATION, job_retry=None, **ONCE)
    with pytest.raises(Conflict):
        load(client, staged(google_servers, 1), table, job)
    assert client.get_job(job, location=LOCATION, **ONCE).job_type == "query"


def test_a_merge_is_a_statement_of_its_transaction(
    google_servers: GoogleServers, client: bigquery.Client, table: str
) -> None:
    load(client, staged(google_servers, 1, 2), table, table.replace(".", "_"))
    merge = f"""
        MERGE `{table}` AS old USING (SELECT 2 AS number UNION ALL SELECT 3) AS new ON old.number = new.number
        WHEN MATCHED THEN UPDATE SET number = 20 WHEN NOT MATCHED THEN INSERT (number) VALUES (new.number)"""
    insert = f"INSERT INTO `{table}` (number) VALUES (4)"
    failed = client.query(
        f"BEGIN TRANSACTION; {insert}; {merge}; SELECT 1 / 0; COMMIT TRANSACTION;", job_retry=None
    )
    with pytest.raises(BadRequest):
        failed.result()
    assert count(client, table) == 2
    client.query(f"BEGIN TRANSACTION; {insert}; {merge}; COMMIT TRANSACTION;", job_retry=None).result()
    assert sorted(row.number for row in client.list_rows(table)) == [1, 3, 4, 20]


def test_a_job_that_nobody_inserted_is_not_found(client: bigquery.Client) -> None:
    with pytest.raises(NotFound):
        client.get_job("nobody-inserted-this", location=LOCATION, **ONCE)


def test_a_job_whose_answer_was_lost_is_there(
    google_servers: GoogleServers, client: bigquery.Client, table: str
) -> None:
    uri, job = staged(google_servers, 1), table.replace(".", "_")
    with FaultProxy(google_servers.bigquery.url) as proxy:
        through = bigquery_client(proxy.url)
        proxy.at(1, Drop("after"))
        with pytest.raises(OSError, match="aborted"):
            load(through, uri, table, job)
        found = through.get_job(job, location=LOCATION, **ONCE)  # it may be running yet
        assert found.result(**ONCE).output_rows == 1
        through.close()
    assert count(client, table) == 1


def test_the_environment_leads_the_client_there(google_environment: GoogleServers) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    client = bigquery.Client(PROJECT, credentials=AnonymousCredentials())
    assert [dataset.dataset_id for dataset in client.list_datasets(**ONCE)]
    client.close()


# How it starts and ends


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BigQueryServer]:
    """One that only this test uses, and may kill."""
    need_bigquery()
    with BigQueryServer(tmp_path / "gcs", tmp_path / "bigquery", python=BIGQUERY_PYTHON) as server:
        yield server


def test_tables_and_jobs_outlive_a_server_that_is_killed(server: BigQueryServer, tmp_path: Path) -> None:
    (tmp_path / "gcs" / "bucket").mkdir(parents=True)
    (tmp_path / "gcs" / "bucket" / "part").write_bytes(b'{"number": 1}\n')
    client = bigquery_client(server.url)
    client.create_dataset("kept", timeout=TIMEOUT, retry=None)
    load(client, "gs://bucket/part", "test.kept.numbers", "kept")
    url = server.url
    server.kill()
    with pytest.raises(OSError, match="refused"):
        client.get_job("kept", location=LOCATION, **ONCE)
    server.start()
    assert server.url == url
    assert client.get_job("kept", location=LOCATION, **ONCE).output_rows == 1
    assert count(client, "test.kept.numbers") == 1
    client.close()


def test_a_server_that_cannot_start_says_why(google_servers: GoogleServers) -> None:
    first = google_servers.bigquery
    second = BigQueryServer(first.root, first.data, python=BIGQUERY_PYTHON)
    with pytest.raises(RuntimeError, match=r"(?s)ended at once.*bigquery\.log.*lock"):
        second.start()
    assert first.log.exists()


def test_a_server_that_is_not_installed_says_how_to(tmp_path: Path) -> None:
    server = BigQueryServer(tmp_path, tmp_path / "bigquery", python=tmp_path / "bin" / "python")
    with pytest.raises(FileNotFoundError, match=r"etl\.testing\.bigquery_server install"):
        server.start()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    need_bigquery()
    command = [
        *(sys.executable, "-m", "etl.testing.bigquery_server", "serve", "--python", str(BIGQUERY_PYTHON)),
        *("--root", str(tmp_path / "gcs"), "--data", str(tmp_path / "bigquery")),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert url.startswith("http://127.0.0.1:")
        assert len(children) == 1
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{children[0]}").exists():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_python_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    if sys.version_info[:2] != (3, 13):
        with pytest.raises(NoPython, match=r"3\.13"):
            find_python()


def test_a_python_of_pyenv_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    python = tmp_path / "versions" / "3.13.9" / "bin" / "python3.13"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 3 13\n")
    python.chmod(0o755)
    if sys.version_info[:2] != (3, 13):
        assert find_python() in (python, Path("/usr/bin/python3.13"))
