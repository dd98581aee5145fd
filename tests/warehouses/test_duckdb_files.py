"""The file: who may have it, what is wrong with it, a full disk, and how it is let go."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest
from conftest import BUDGET, MIB, Loader

import etl
from etl import Pipeline
from etl.errors import WarehouseError
from etl.memory import Budget
from etl.warehouses.base import Job
from etl.warehouses.duckdb import DuckDB, database
from etl.warehouses.duckdb import file as duckdb_file
from etl.warehouses.duckdb import warehouse as module
from sinks import hurry

HOLD = """
import sys
import threading
import duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reading")
print("held", flush=True)
sys.stdin.read()
"""


def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_file_stays_locked_where_loads_follow_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 600.0)
    loader = Loader(tmp_path)
    loader.load({"a": 1})
    loader.load({"a": 2})
    result = run("import duckdb, sys; duckdb.connect(sys.argv[1])", loader.warehouse.path)
    loader.warehouse.close()
    assert "lock" in result.stderr, result.stderr


def test_the_file_is_closed_after_many_loads_because_what_duckdb_knows_of_its_rows_stays_in_memory(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "IDLE_SECONDS", 600.0)
    monkeypatch.setattr(database, "LONG_LOG", 0)  # so that each load is written into the file
    loader = Loader(tmp_path)
    is_open = []
    for number in range(2 * module.LOADS_OPEN):
        loader.load({"a": number})
        is_open.append(loader.warehouse.path in map(Path.resolve, Path("/proc/self/fd").iterdir()))
    loader.warehouse.close()
    assert is_open == 2 * [*[True] * (module.LOADS_OPEN - 1), False]


def let_go(loader):
    """Wait until the file is closed because nothing is loaded."""
    until = time.monotonic() + 30
    while True:
        with loader.warehouse._lock:  # it is held until the file is closed
            if loader.warehouse._session is None:
                return
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def resting(tmp_path, monkeypatch):
    """A job whose database is closed soon after each load; one load is in it."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.02)
    loader = Loader(tmp_path)
    loader.warehouse.identity(draw=True)
    loader.load({"a": 1})
    let_go(loader)
    yield loader
    loader.warehouse.close()


def test_the_file_is_closed_where_nothing_is_loaded_and_opened_for_the_next_load(resting):
    path = resting.warehouse.path
    code = (
        "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute('from t').fetchall())"
    )
    for number in (2, 3):
        assert run(code, path).stdout == f"{[(n,) for n in range(1, number)]}\n"
        assert not path.with_name(f"{path.name}.wal").exists()
        resting.load({"a": number})
        let_go(resting)


def test_a_plan_that_is_loaded_is_known_when_the_file_was_closed_since(resting):
    plan = resting.plan(resting.part([{"a": 2}]))
    assert resting.warehouse.load(resting.job, plan) == 1
    let_go(resting)
    assert resting.warehouse.load(resting.job, plan) == 1
    assert resting.sql("SELECT count(*) FROM t") == [(2,)]


def test_what_a_load_did_to_the_columns_is_told_when_the_file_was_closed_since(resting):
    resting.warehouse.changes()
    resting.load({"a": 2, "b": "x"})
    let_go(resting)
    assert [change.name for change in resting.warehouse.changes()] == ["b"]
    assert resting.warehouse.changes() == ()


def test_who_reads_between_two_loads_is_waited_for_at_the_next_one(resting, caplog):
    command = [sys.executable, "-c", HOLD, resting.warehouse.path, "reading"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        resting.warehouse._retry = dataclasses.replace(resting.warehouse._retry, deadline=0.1)
        with pytest.raises(WarehouseError, match=rf"open.*PID {process.pid}.*raise `deadline`"):
            resting.load({"a": 2})
    assert "is open in another process: waiting until it is closed" in caplog.text
    assert resting.load({"a": 3}) == 1


def removed(path):
    path.unlink()


def replaced(path):
    path.unlink()
    duckdb_file.ensure(path)


def replaced_by_one_of_others(path):
    path.unlink()
    duckdb.connect(path).execute("CREATE TABLE t (a BIGINT)").close()


def dropped(path):
    duckdb.connect(path).execute("DROP TABLE t").close()


def emptied(path):
    duckdb.connect(path).execute("DELETE FROM _etl_loads").close()


CHANGES = {
    removed: "w.duckdb is gone: it was moved or removed while the job ran.*put it back",
    replaced: r"w.duckdb is another database than.*its id is \w{16}, not \w{16}.*Put the one that was there back",
    replaced_by_one_of_others: "w.duckdb is another database than.*its id is not there",
    dropped: r"the ledger has 0 loads of job 'job' into main\.t, where this run left it at 1.*run again",
    emptied: "the ledger has 0 loads .* this run left it at 1",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda function: function.__name__.replace("_", " "))
def test_what_became_of_the_file_between_two_loads_is_noticed_and_nothing_is_loaded(resting, change):
    path = resting.warehouse.path
    change(path)
    before = path.exists()
    plan = resting.plan(resting.part([{"a": 2}]))
    for _ in range(2):
        with pytest.raises(WarehouseError, match=CHANGES[change]):
            resting.warehouse.load(resting.job, plan)
    resting.warehouse.close()
    assert path.exists() == before
    if change in (replaced_by_one_of_others, emptied):
        with duckdb.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM t WHERE a = 2").fetchone() == (0,)


def test_a_file_that_was_put_back_from_a_copy_between_two_loads_is_noticed(resting):
    path = resting.warehouse.path
    shutil.copy(path, f"{path}.copy")
    resting.load({"a": 2})
    let_go(resting)
    shutil.move(f"{path}.copy", path)
    with pytest.raises(WarehouseError, match=r"the ledger has 1 loads .* this run left it at 2"):
        resting.load({"a": 3})


@pytest.mark.parametrize("change", [removed, replaced], ids=["removed", "replaced"])
def test_a_file_that_is_replaced_while_it_is_open_is_noticed_at_the_next_load(tmp_path, monkeypatch, change):
    monkeypatch.setattr(module, "IDLE_SECONDS", 600.0)
    loader = Loader(tmp_path)
    loader.warehouse.identity(draw=True)
    loader.load({"a": 1})
    change(loader.warehouse.path)
    with pytest.raises(WarehouseError, match=CHANGES[change]):
        loader.load({"a": 2})
    loader.warehouse.close()


def test_a_job_whose_file_is_closed_after_each_load_loads_all_of_it_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    etl.Pipeline(
        "job",
        source=lambda: ({"n": number} for number in range(300)),
        sink={"type": "reused_file", "path": str(tmp_path / "job.ndjson")},
        warehouse={"type": "duckdb", "path": str(tmp_path / "w.duckdb"), "table": "t"},
        checkpoint=tmp_path / "job.json",
        part_records=20,
    ).run(handle_signals=False)
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT n) FROM t").fetchone() == (300, 300)


def test_a_file_behind_a_symbolic_link_is_loaded_into_also_where_there_is_none_yet(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "w.duckdb").symlink_to(tmp_path / "real" / "other.duckdb")
    loader = Loader(tmp_path)
    loader.load({"a": 1})
    loader.warehouse.close()
    assert (tmp_path / "w.duckdb").is_symlink()
    with duckdb.connect(tmp_path / "real" / "other.duckdb") as connection:
        assert connection.execute("FROM t").fetchall() == [(1,)]


def test_after_close_another_process_may_open_it(loader):
    loader.load({"a": 1})
    loader.warehouse.close()
    loader.warehouse.close()
    code = "import duckdb, sys; print(duckdb.connect(sys.argv[1]).execute('from t').fetchall())"
    assert run(code, loader.warehouse.path).stdout == "[(1,)]\n"
    with pytest.raises(WarehouseError, match="not open"):
        loader.load({"a": 1})


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "w.duckdb"
    path.write_bytes(b"hello" * 5000)
    with pytest.raises(WarehouseError, match=r"w.duckdb.*not a valid DuckDB database.*give a path"):
        DuckDB(path, table="t").open(BUDGET)
    assert path.read_bytes() == b"hello" * 5000


def test_a_damaged_database_is_named(loader):
    loader.load(*({"a": n} for n in range(1000)))
    loader.warehouse.close()
    with loader.warehouse.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))
    with pytest.raises(WarehouseError, match=r"w\.duckdb"):
        loader.warehouse.open(BUDGET)


def test_the_directories_above_are_made(tmp_path):
    warehouse = DuckDB(tmp_path / "a" / "b" / "w.duckdb", table="t")
    warehouse.open(BUDGET)
    assert warehouse.latest(Job(pipeline="job", fingerprint={})) is None
    warehouse.close()


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WarehouseError, match=r"file/w.duckdb.*Not a directory"):
        DuckDB(tmp_path / "file" / "w.duckdb", table="t").open(BUDGET)
    with pytest.raises(WarehouseError, match=r"cannot open /proc/w\.duckdb"):
        DuckDB("/proc/w.duckdb", table="t").open(BUDGET)
    with pytest.raises(WarehouseError, match=f"cannot open {tmp_path}"):
        DuckDB(tmp_path, table="t").open(BUDGET)


@pytest.fixture(params=["reading", "writing"])
def held(tmp_path, request):
    """Give a database file that another process has open, and that process."""
    path = tmp_path / "w.duckdb"
    duckdb.connect(path).execute("CREATE TABLE other (n INTEGER)").close()
    command = [sys.executable, "-c", HOLD, path, request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_a_file_that_another_process_has_open_is_waited_for_with_a_word(held, caplog, monkeypatch):
    path, process = held
    waited = []

    def wait(seconds):
        waited.append(seconds)
        process.communicate()  # which closes its input: it ends, and the file is closed

    monkeypatch.setattr("etl.warehouses.duckdb.warehouse.time.sleep", wait)
    warehouse = DuckDB(path, table="t")
    warehouse.open(BUDGET)
    warehouse.close()
    assert waited
    (word,) = [record.getMessage() for record in caplog.records if record.name == "etl.warehouses"]
    assert word == f"{path} is open in another process: waiting until it is closed, for 30 s at most"


def test_a_signal_ends_the_wait_for_a_file_that_is_open_elsewhere(held, tmp_path, monkeypatch):
    path, process = held
    monkeypatch.setattr(hurry, "GRACE_SECONDS", 0.1)
    pipeline = Pipeline(
        "job",
        source=lambda: [{"n": 1}],
        sink={"type": "reused_file", "path": tmp_path / "part.ndjson"},
        warehouse=DuckDB(path, table="t", deadline=1000),
        checkpoint=tmp_path / "job.checkpoint.json",
    )
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt, match="the next run goes on from there"):
        pipeline.run()
    process.communicate()
    assert pipeline.run().records == 1


def test_a_file_that_stays_open_elsewhere_is_one_error_that_names_who_has_it(held):
    path, process = held
    with pytest.raises(
        WarehouseError,
        match=rf"cannot open {path}.*PID {process.pid}.*close it there, or raise `deadline`, and run",
    ):
        DuckDB(path, table="t", deadline=0.2).open(BUDGET)


def test_jobs_of_one_process_that_begin_on_a_new_file_at_once_all_load(tmp_path):
    failures = []

    def run(name):
        try:
            etl.Pipeline(
                name,
                source=lambda: ({"n": number} for number in range(300)),
                sink={"type": "reused_file", "path": str(tmp_path / f"{name}.ndjson")},
                warehouse={"type": "duckdb", "path": str(tmp_path / "w.duckdb"), "table": name},
                checkpoint=tmp_path / f"{name}.json",
                part_records=50,
            ).run(handle_signals=False)
        except Exception as error:
            failures.append(error)

    names = ("a", "b", "c")
    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in names]
    assert counts == [(300,)] * 3


def test_nothing_is_fetched_from_the_network(loader):
    settings = "autoinstall_known_extensions", "autoload_known_extensions"
    assert loader.sql(f"SELECT value FROM duckdb_settings() WHERE name IN {settings}") == [("false",)] * 2
    loaded = {name for (name,) in loader.sql("SELECT extension_name FROM duckdb_extensions() WHERE loaded")}
    assert {"json", "parquet", "icu"} <= loaded


SCRIPT = """
import sys
import threading
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from conftest import Loader

loader = Loader(Path(sys.argv[2]))
loader.load({"a": 1, "at": "2024-02-29T12:00:00Z"})
"""
ENDINGS = {
    "closed": "loader.warehouse.close()",
    "forgotten": "",
    "forgotten after an error": """
try:
    loader.load({"a": "x"})
except Exception as error:
    kept = error
""",
    "left by an exception": "loader.load({'a': 'x'})",
    "deleted": "del loader",
    "opened twice": "loader.warehouse.open(loader.warehouse._budget); loader.load({'a': 2})",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_printed_when_the_interpreter_exits(tmp_path, ending):
    result = run(SCRIPT + ENDINGS[ending], Path(__file__).parent, tmp_path)
    error = result.stderr
    if ending == "left by an exception":
        assert "SchemaMismatch" in error
        assert "leaked" not in error
    else:
        assert error == ""
        assert result.returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A job whose database is on a tmpfs of 12 MiB; needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    loader = Loader(tmp_path)
    loader.warehouse.close()
    loader.warehouse = DuckDB(folder / "w.duckdb", table="t")
    loader.warehouse.open(BUDGET)
    yield loader
    loader.warehouse.close()
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_named_and_what_was_loaded_is_safe(small_disk):
    loader = small_disk
    noise = [{"n": n, "text": os.urandom(100).hex()} for n in range(20_000)]
    loaded = []
    with pytest.raises(WarehouseError, match=r"(?i)space.*bytes are free in .*small") as caught:
        loaded.extend(loader.load(*noise) for _ in range(10))
    loaded = sum(loaded)
    assert "\n" not in str(caught.value)
    entry = loader.warehouse.latest(loader.job)
    assert entry is not None
    assert entry.loads * len(noise) == loaded > 0
    assert loader.sql("SELECT count(*), count(text) FROM t") == [(loaded, loaded)]
    loader.warehouse.close()
    code = (
        "import duckdb, sys; print(duckdb.connect(sys.argv[1]).execute('select count(*) from t').fetchall())"
    )
    assert run(code, loader.warehouse.path).stdout == f"[({loaded},)]\n"


def test_memory_and_threads_are_bounded_by_the_budget(loader):
    loader.warehouse.open(Budget(limit=None, warehouse=48 * MIB, threads=2))
    names = "threads", "memory_limit", "preserve_insertion_order", "temp_directory", "max_temp_directory_size"
    settings = dict(loader.sql(f"SELECT name, value FROM duckdb_settings() WHERE name IN {names}"))
    assert settings == {
        "threads": "2",
        "memory_limit": "48.0 MiB",
        "preserve_insertion_order": "false",
        "temp_directory": f"{loader.warehouse.path}.tmp",
        "max_temp_directory_size": "1.0 GiB",
    }
