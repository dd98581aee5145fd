"""Job files, right and wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sinks
from etl import config
from etl.errors import ConfigError
from etl.warehouses.duckdb import DuckDB

MINIMAL = """
[source]
function = "{module}:pull"

[sink]
type = "big_file"
path = "job.ndjson"
"""

MODULE = """
NUMBER = 3

def pull(cursor=None):
    yield {"a": 1}

def clean(records):
    yield from records
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module beside the job file; named after the test's folder, so that tests do not share it."""
    name = "module_" + "".join(letter for letter in str(tmp_path) if letter.isalnum())
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return name


def job(text: str, name: str = "flights.toml") -> Path:
    """Write a job file into the current directory."""
    path = Path(name)
    path.write_text(text)
    return path


def wrong(text: str) -> str:
    """Read and build, and return the message of the error, without the path before it."""
    path = job(text)
    with pytest.raises(ConfigError) as caught:
        config.read(path).pipeline()
    message = str(caught.value)
    assert "\n" not in message
    prefix, _, rest = message.partition(": ")
    assert prefix == "flights.toml"
    return rest


def test_every_key_reaches_the_pipeline(module: str) -> None:
    text = f"""
    name = "all-keys"
    transforms = ["{module}:clean"]
    format = "ndjson.gz"
    part_bytes = "2MiB"
    part_records = 1000
    part_seconds = 1.5
    on_error = "reject"
    max_rejects = 7
    memory = "128MiB"
    [source]
    function = "{module}:pull"
    [sink]
    type = "reused_file"
    path = "job.ndjson.gz"
    slots = 1
    [warehouse]
    type = "duckdb"
    path = "job.duckdb"
    table = "t"
    [checkpoint]
    uri = "state/check.json"
    [rejects]
    type = "big_file"
    path = "bad.ndjson"
    """
    made = config.read(job(text)).pipeline()
    assert (made.name, made.format, made.on_error, made.max_rejects) == ("all-keys", "ndjson.gz", "reject", 7)
    assert (made.part_bytes, made.part_records, made.part_seconds) == (2 * 1024**2, 1000, 1.5)
    assert made.memory == 128 * 1024**2
    assert [transform.__name__ for transform in made.transforms] == ["clean"]
    assert made.source.__name__ == "pull"
    assert isinstance(made.sink, sinks.ReusedFile)
    assert made.sink.slots == 1
    assert isinstance(made.warehouse, DuckDB)
    assert isinstance(made.rejects, sinks.BigFile)
    assert made.store.uri == str(Path("state/check.json").absolute())


def test_the_name_is_the_files_by_default(module: str) -> None:
    assert config.read(job(MINIMAL.format(module=module), "trips.toml")).pipeline().name == "trips"


def test_paths_are_relative_to_the_current_directory(module: str) -> None:
    Path("jobs").mkdir()
    Path(f"{module}.py").rename(f"jobs/{module}.py")
    made = config.read(job(MINIMAL.format(module=module), "jobs/a.toml")).pipeline()
    assert Path(made.sink.path).absolute() == Path("job.ndjson").absolute()  # type: ignore[attr-defined]  # BigFile's


def test_reading_creates_nothing(module: str) -> None:
    before = {path for path in Path().rglob("*") if "__pycache__" not in path.parts}
    path = job(MINIMAL.format(module=module))
    config.read(path).pipeline()
    assert {path for path in Path().rglob("*") if "__pycache__" not in path.parts} == before | {path}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("[sink]", "nmae = 1\n[sink]"),
            "source.nmae: unknown key; a source that is a function takes: function",
        ),
        (
            ("[sink]", "[snik]"),
            'snik: unknown key (did you mean "sink"?); a job file takes: name, source, sink, ',
        ),
        (
            ("big_file", "big_fil"),
            'sink.type: no sink is called "big_fil" (did you mean "big_file"?); there are: ',
        ),
        (
            ("path =", "pth ="),
            'sink.pth: unknown key (did you mean "path"?); a sink of type "big_file" takes: path',
        ),
        (('"job.ndjson"', "3"), "sink.path: expected a string, found 3"),
        ((":pull", ":pul"), "source.function: the module '{module}' ("),
        ((":pull", ":NUMBER"), "source.function: {module}:NUMBER is not a function but a number"),
        ((":pull", ""), 'source.function: expected "package.module:function", found "{module}"'),
        (
            ("{module}:", "no_such_module:"),
            "source.function: there is no module 'no_such_module' beside the job file",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(module: str, change: tuple[str, str], message: str) -> None:
    text = MINIMAL.replace(*change).replace("{module}", module)
    assert wrong(text).startswith(message.replace("{module}", module))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nmae = 'a'", 'nmae: unknown key (did you mean "name"?); a job file takes: name, source, sink, '),
        ("name = 3", "name: expected a string, found 3"),
        ("name = 'a b'", "name: expected 1 to 128 letters, digits, underscores or dashes, found 'a b'"),
        ("transforms = 'a:b'", 'transforms: expected a list of strings, found "a:b"'),
        ("transforms = ['a.b.no:x']", "transforms[0]: there is no module 'a' "),
        ("part_records = 'many'", 'part_records: expected an integer, found "many"'),
        ("part_records = 0", "part_records: expected a whole number greater than 0, found 0"),
        (
            "part_bytes = '64M'",
            'part_bytes: expected a size greater than 0, in bytes or with a unit ("64MiB", "10MB"), found "64M"',
        ),
        ("on_error = 'ignore'", 'on_error: expected one of "fail", "reject", found "ignore"'),
        ("format = 'xml'", "format: "),
        ("checkpoint = 'a.json'", 'checkpoint: expected a table, found "a.json"'),
        ("checkpoint = {path = 'a.json'}", "checkpoint.uri: missing"),
        (
            "warehouse = {type = 'duckdb', path = 'x'}",
            'warehouse.table: missing; a warehouse of type "duckdb" needs it',
        ),
        ("name = 'a", "is not valid TOML: "),
    ],
)
def test_a_wrong_line_is_named(module: str, line: str, message: str) -> None:
    assert wrong(f"{line}\n{MINIMAL.format(module=module)}").startswith(message)


def test_a_missing_table_is_named(module: str) -> None:
    assert wrong("[source]\nfunction = 'a:b'") == "sink: missing; a job file needs it: a table"


def test_an_error_of_syntax_has_its_line_and_column(module: str) -> None:
    assert wrong("\n[sink\n") == (
        "is not valid TOML: Expected ']' at the end of a table declaration (at line 2, column 6)"
    )


def test_a_module_that_fails_names_its_line(module: str) -> None:
    Path(f"{module}.py").write_text("import no_such_module\n")
    message = wrong(MINIMAL.format(module=module))
    assert message.startswith(f"source.function: importing '{module}' failed: ModuleNotFoundError: ")
    assert message.endswith(f"{module}.py, line 1)")


def test_a_module_with_a_mistake_names_its_line(module: str) -> None:
    Path(f"{module}.py").write_text("\nx = (\n")
    assert wrong(MINIMAL.format(module=module)).endswith(f"{module}.py, line 2)")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: there is no such file"):
        config.read(tmp_path / "nothing.toml")


def test_a_directory_is_no_job_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a directory; name the job file in it"):
        config.read(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(at byte 8\)"):
        config.read(tmp_path / "job.toml")


def test_the_environment_is_put_into_values(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "out")
    monkeypatch.setenv("COUNT", "5")
    text = "part_records = '${COUNT}'\n" + MINIMAL.format(module=module).replace(
        "job.nd", "${PLACE}/${PLACE}.nd"
    )
    read = config.read(job(text))
    assert read.part_records == 5
    assert read.sink["path"] == "out/out.ndjson"
    assert read.written["sink"]["path"] == "${PLACE}/${PLACE}.ndjson"


def test_two_dollars_stand_for_one(module: str) -> None:
    read = config.read(job(MINIMAL.format(module=module).replace("job.nd", "$${HOME}.$x.nd")))
    assert read.sink["path"] == "${HOME}.$x.ndjson"


def test_a_variable_that_is_not_set_is_named_with_its_key(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    text = MINIMAL.format(module=module).replace("job.nd", "${NO_SUCH}.nd")
    assert wrong(text) == "sink.path: the environment variable NO_SUCH is not set"
    assert wrong("transforms = ['a', '${NO_SUCH}']") == (
        "transforms[1]: the environment variable NO_SUCH is not set"
    )


@pytest.mark.parametrize("text", ["${", "${}", "${1a}", "${a-b}", "a ${HOME"])
def test_what_is_no_variable_is_refused(module: str, text: str) -> None:
    assert wrong(f"name = '{text}'").startswith("name: expected the name of an environment variable")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("1kB", 1000),
        ("1 KiB", 1024),
        ("10MB", 10_000_000),
        ("64MiB", 64 * 1024**2),
        ("1.5gib", 3 * 1024**3 // 2),
        ("1TB", 10**12),
    ],
)
def test_sizes_have_units(text: int | str, size: int) -> None:
    assert config.parse_bytes(text) == size


@pytest.mark.parametrize("text", [0, -1, True, 1.5, "", "MiB", "64M", "64 miles", "-1MB", "0", "1e6"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match=r"^memory: expected a size greater than 0"):
        config.parse_bytes(text, "memory")


RESHAPED = """
[rename]
a = "b"
"u.login" = "login"
[drop]
fields = ["u"]
[cast]
b = "string"
login = {type = "string", null = ["-"]}
"""


def test_tables_rename_drop_and_cast_before_the_transforms(module: str) -> None:
    text = (
        'drift = "freeze"\n' + f'transforms = ["{module}:clean"]' + MINIMAL.format(module=module) + RESHAPED
    )
    pipeline = config.read(job(text)).pipeline()
    assert pipeline.drift == "freeze"
    assert [transform.__qualname__ for transform in pipeline.transforms] == [
        "rename",
        "drop",
        "cast",
        "clean",
    ]
    pipeline.source = lambda: iter([{"a": 1, "u": {"login": "-", "id": 7}}])
    assert pipeline.check(1) == [{"b": "1", "login": None}]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "[rename]\nuser.login = 'x'",
            'rename.user: expected the name of a field, found {"login": "x"}; with dots',
        ),
        (
            "[drop]\nfield = ['a']",
            'drop.field: unknown key (did you mean "fields"?); the table takes: fields',
        ),
        ("[drop]\nfields = 'a'", 'drop.fields: expected a list of strings, found "a"'),
        ("[drop]", "drop.fields: missing; the table needs it: a list of strings"),
        ("[cast]\na = 'number'", 'cast.a.type: expected one of "integer", "float"'),
        ("[cast]\nuser.age = 'integer'", "cast.user: expected one of integer, float"),
    ],
)
def test_what_is_wrong_with_reshaping_is_named(module: str, table: str, message: str) -> None:
    assert wrong(f"{MINIMAL.format(module=module)}\n{table}").startswith(message)


def test_a_policy_of_drift_that_there_is_not_is_named(module: str) -> None:
    assert wrong(f'drift = "frozen"\n{MINIMAL.format(module=module)}').startswith(
        'drift: expected one of "evolve", "freeze", "ignore", found "frozen"'
    )
