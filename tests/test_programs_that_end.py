"""Code of a job that ends the program (`sys.exit(0)` in a helper, argparse, click): a failure, never "done"."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from etl.cli import main

JOB = """
part_records = 3
on_error = "{on_error}"
transforms = ["{module}:transform"]
source = {{function = "{module}:source"}}
sink = {{type = "big_file", path = "job.ndjson"}}
"""

CODE = """
import argparse, os, sys
import click

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


# These are errors like any other: one that a transform raises at a record may be that record's.
ERRORS = {"click's own Exit", "click's Abort", "a broken pipe"}


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
        return
    assert result.exit_code == (2 if where == "import" else 1)
    assert "failed" in result.output
    Path("fixed").touch()
    sys.modules.pop(module, None)
    assert run(module, on_error).exit_code == 0
    assert rows() == list(range(10))
