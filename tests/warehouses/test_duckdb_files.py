"""The file: who may have it, what is wrong with it, a full disk, and how it is let go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from conftest import BUDGET, MIB, Loader

import etl
from etl.errors import WarehouseError
from etl.memory import Budget
from etl.warehouses.base import Job
from etl.warehouses.duckdb import DuckDB

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


def test_the_file_stays_locked_after_a_load(loader):
    loader.load({"a": 1})
    loader.load({"a": 2})
    result = run("import duckdb, sys; duckdb.connect(sys.argv[1])", loader.warehouse.path)
    assert "lock" in result.stderr, result.stderr


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
