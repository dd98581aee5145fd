"""What the README, the pages in docs/ and the examples show is run as it stands there."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import duckdb
import pytest

import etl
from etl import config
from etl.sources.content_options import ContentOptions
from etl.sources.files import Files
from etl.sources.http import Http
from etl.sources.pages import Pages

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
ALL = "\n".join([README, *PAGES.values()])
ETL = Path(sys.executable).with_name("etl")

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
    "origin,dest,air_time,distance,hour,minute,time_hour\n"
)
FLOWN = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z\n"
NEVER_LEFT = "2013,1,1,NA,1630,NA,NA,1815,NA,EV,4308,N18120,EWR,RDU,NA,416,16,30,2013-01-01T21:00:00Z\n"

METHODS = ("write_behind", "fdatasync", "direct", "keep")  # the last one where all is memory


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


[MAIN] = blocks("python", README)
JOB = blocks("toml", README)[0]
CLEAN = MAIN.split("result =")[0]
PIECES = blocks("toml", ALL)[1:]


def flights(path: Path) -> None:
    """Write 300 flights in the form of the package's, of which 100 never left."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("flights.csv", HEADER + (FLOWN * 2 + NEVER_LEFT) * 100)


def run(directory: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def rows(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as warehouse:
        return warehouse.execute("SELECT count(*) FROM flights").fetchone()[0]


def test_the_python_of_the_readme_and_of_the_pages_runs_as_it_stands(tmp_path):
    flights(tmp_path / "flights.csv.zip")
    sinks_alone, page_cache_alone = blocks("python", PAGES["sinks"])
    [with_a_server] = blocks("python", PAGES["google-cloud"])
    assert run(tmp_path, sys.executable, "-c", MAIN).startswith("200 records in 1 parts, 0 rejects")
    assert rows(tmp_path / "flights.duckdb") == 200
    assert "job-000001.ndjson" in run(tmp_path, sys.executable, "-c", sinks_alone)
    assert run(tmp_path, sys.executable, "-c", page_cache_alone).split()[0] in METHODS
    assert "'flights/000001/000001-" in run(tmp_path, sys.executable, "-c", with_a_server)


def test_the_job_file_of_the_readme_runs_as_it_stands_with_each_command(tmp_path):
    flights(tmp_path / "flights.csv.zip")
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "flights.py").write_text(CLEAN)
    commands = re.findall(r"^\$ (etl \w+ job\.toml)", README, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["check", "run", "status", "doctor"]
    for command in commands:
        run(tmp_path, str(ETL), *command.split()[1:])
    assert rows(tmp_path / "flights.duckdb") == 200


@pytest.mark.parametrize("piece", PIECES, ids=[f"piece {number}" for number in range(len(PIECES))])
def test_a_piece_of_a_job_file_fits_into_the_job_file_of_the_readme(tmp_path, monkeypatch, piece):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", "secret")
    monkeypatch.setenv("CLIENT_SECRET", "secret")
    (tmp_path / "schema.json").write_text('[{"name": "id", "type": "INTEGER"}]')
    (tmp_path / "flights.py").write_text(CLEAN)
    whole = tomllib.loads(JOB) | tomllib.loads(piece)
    job = config._decode(tmp_path / "job.toml", whole)
    assert job.pipeline().name == "flights"


@pytest.mark.parametrize("sink", ["reused_file", "numbered_chunks", "big_file"])
def test_the_example_runs_with_each_sink_by_its_name_alone(tmp_path, sink):
    flights(tmp_path / "demo" / "flights.csv.zip")
    (tmp_path / "examples").mkdir()
    for name in ("flights.py", "flights_answers.py"):
        (tmp_path / "examples" / name).write_text((ROOT / "examples" / name).read_text())
    job = (ROOT / "examples" / "flights.toml").read_text()
    (tmp_path / "examples" / "flights.toml").write_text(
        job.replace('type = "reused_file"', f'type = "{sink}"')
    )
    run(tmp_path, str(ETL), "run", "examples/flights.toml")
    answers = run(tmp_path, sys.executable, "examples/flights_answers.py")
    assert re.search(r"EWR-IAH +200 +2\.0", answers)


def test_every_command_is_in_the_pages():
    listed = re.findall(r"^  (\w+)  ", run(ROOT, str(ETL), "--help").partition("Commands:")[2], re.MULTILINE)
    assert listed
    assert [command for command in listed if f"etl {command}" not in ALL] == []


@pytest.mark.parametrize("source", [Files, Http, Pages])
def test_every_option_of_a_source_is_in_the_page_on_sources(source):
    options = {*inspect.signature(source).parameters} - {"content"} | ContentOptions.__annotations__.keys()
    assert [
        name
        for name in sorted(options)
        if f"`{name}`" not in PAGES["sources"] and f"\n{name} = " not in PAGES["sources"]
    ] == []


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in PAGES)])
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", (ROOT / page).read_text().replace("\n", " "))
    assert links
    for target, heading in links:
        path = (ROOT / page).parent / target
        assert path.exists(), target
        titles = (
            [line.lower().replace(" ", "-") for line in path.read_text().splitlines()] if heading else [""]
        )
        assert any(title.lstrip("#").lstrip("-") == heading for title in titles), heading


def test_the_wheel_holds_both_packages_typed_and_nothing_else(tmp_path):
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"etl/py.typed", "sinks/py.typed", "etl/pipeline.py", "sinks/base.py"} <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "etl",
        "sinks",
        f"etl_sinks-{etl.__version__}.dist-info",
    }
