"""Code of a job that ends the program (`sys.exit(0)` in a helper, argparse, click): a failure, never "done"."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import etl
from etl.cli import main

JOB = """
part_records = 3
on_error = "{on_error}"
transforms = ["{module}:transform"]
source = {{function = "{module}:source"}}
sink = {{type = "big_file", path = "job.ndjson"}}
"""

CODE = """
import argparse, asyncio, os, sys
import click

class Own(BaseException):
    pass

class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no text")

class Ending(Exception):
    def __str__(self):
        sys.exit(0)

def end(*_):
{end}

def nothing(*_):
    pass

def at(place):
    if place == "{where}" and not os.path.exists("fixed"):
        end()

def source(cursor=None):
    for n in range(cursor or 0, 10):
        if n == 5:
            at("source")
        yield {{"n": n}}

def transform(records):
    for record in records:
        if record["n"] == 5:
            at("transform")
        yield record
    at("the end of a slice")

at("import")
"""

ENDS = {
    "sys.exit(0)": "sys.exit(0)",
    "sys.exit()": "sys.exit()",
    "exit with a message": "sys.exit('bye')",
    "argparse": "argparse.ArgumentParser().parse_args(['--help'])",
    "click, standalone": "click.command()(nothing).main(['--help'])",
    "click's own Exit": "raise click.exceptions.Exit(0)",
    "click's Abort": "raise click.Abort",
    "a broken pipe": "raise BrokenPipeError",
    "a task that is cancelled": "raise asyncio.CancelledError",
    "a generator that is closed": "raise GeneratorExit",
    "a base exception": "raise Own",
    "a group with an exit": "raise BaseExceptionGroup('two', [ValueError('one'), SystemExit(0)])",
    "a group": "raise ExceptionGroup('two', [ValueError('one'), OSError('other')])",
    "half of a character": "raise OSError('caf' + chr(0xDCE9))",
    "no text": "raise Silent",
    "an exit in place of text": "raise Ending",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(module: str, on_error: str) -> Result:
    Path("job.toml").write_text(JOB.format(module=module, on_error=on_error))
    return CliRunner().invoke(main, ["run", "job.toml"])


def rows() -> list[int]:
    return [json.loads(line)["n"] for line in Path("job.ndjson").read_text().splitlines()]


def letters() -> list[dict[str, Any]]:
    paths = sorted(Path().glob("job-rejects*"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


# These are errors like any other: one that a transform raises at a record may be that record's.
ERRORS = {
    "click's own Exit",
    "click's Abort",
    "a broken pipe",
    "a group",
    "half of a character",
    "no text",
    "an exit in place of text",
}
# What a message says of them.
SAID = {
    "a task that is cancelled": "CancelledError",
    "a generator that is closed": "GeneratorExit",
    "a base exception": "Own",
    "a group with an exit": "two (2 sub-exceptions): ValueError: one; SystemExit: 0",
    "a group": "two (2 sub-exceptions): ValueError: one; OSError: other",
    "half of a character": "OSError: caf\\udce9",
    "no text": "Silent: its message cannot be shown: RuntimeError",
    "an exit in place of text": "Ending: its message cannot be shown: SystemExit",
}


@pytest.mark.parametrize("on_error", ["fail", "reject"])
@pytest.mark.parametrize("where", ["source", "transform", "the end of a slice", "import"])
@pytest.mark.parametrize("end", ENDS)
def test_code_that_ends_the_program_fails_the_run(folder: Path, end: str, where: str, on_error: str) -> None:
    module = f"module_of_{folder.name}".replace("-", "_")
    Path(f"{module}.py").write_text(CODE.format(end=f"    {ENDS[end]}", where=where))
    result = run(module, on_error)
    if end in ERRORS and where == "transform" and on_error == "reject":
        assert result.exit_code == 0
        assert rows() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        (letter,) = letters()
        assert SAID.get(end, "") in letter["reason"]
        return
    assert result.exit_code == (2 if where == "import" else 1)
    assert "failed" in result.output
    assert " at record 6" in result.output or where != "transform"
    assert "the source" in result.output or where != "source"
    assert SAID.get(end, "") in result.output
    Path("fixed").touch()
    sys.modules.pop(module, None)
    assert run(module, on_error).exit_code == 0
    assert rows() == list(range(10))


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


def odd_items() -> Iterator[Any]:
    yield from ({"n": 0}, Unshown(), chr(0xDCE9), {"n": 3})


def odd_reasons(records: Iterator[Any]) -> Iterator[Any]:
    for record in records:
        yield etl.Reject(record, Unshown()) if record["n"] == 3 else record  # type: ignore[arg-type]  # on purpose


def test_what_cannot_be_shown_is_a_dead_letter(folder: Path) -> None:
    result = etl.Pipeline(
        "job",
        source=odd_items,
        transforms=[odd_reasons],
        sink={"type": "big_file", "path": str(folder / "job.ndjson")},
        on_error="reject",
    ).run()
    assert (result.records, result.rejects) == (1, 3)
    assert [letter["number"] for letter in letters()] == [2, 3, 4]
    assert "Unshown" in letters()[0]["record"]
    assert "Unshown" in letters()[2]["reason"]
