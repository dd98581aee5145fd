"""The command line, as its users meet it: output, errors, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import duckdb
import pytest
from click.testing import CliRunner, Result

import etl
from etl.checkpoint import decode
from etl.cli import COMMANDS, main
from etl.commands import tell
from etl.stores.local import LocalStore

SCRIPT = Path(sys.executable).with_name("etl")

MODULE = """
import os, signal

def pull(cursor=None):
    for number in range(2500):
        yield {"number": number, "text": "x" * 20}

def stopping(cursor=None):
    for record in pull():
        # as if somebody stopped the job here, so many times
        if record["number"] == 1500 and not os.path.exists("stopped"):
            open("stopped", "x").close()
            for _ in range(int(os.environ["SIGNALS"])):
                os.kill(os.getpid(), signal.SIGTERM)
        yield record

def odd(records):
    for record in records:
        if record["number"] % 2:
            yield record

def broken(records):
    for record in records:
        yield {"number": 1 // (record["number"] - 3)}
"""

JOB = """
name = "numbers"
transforms = ["{module}:{transform}"]
part_records = 1000

[source]
function = "{module}:{source}"

[sink]
type = "reused_file"
path = "numbers.ndjson"

[warehouse]
type = "duckdb"
path = "${{WAREHOUSE}}"
table = "numbers"
"""

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Go to an empty directory, and write a job there: `job.toml` and a module of its own."""
    module = "module_" + "".join(letter for letter in str(tmp_path) if letter.isalnum())
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("WAREHOUSE", "secret-place.duckdb")
    monkeypatch.chdir(tmp_path)

    def job(source: str = "pull", transform: str = "odd") -> None:
        Path("job.toml").write_text(JOB.format(module=module, source=source, transform=transform))

    job()
    return job


def call(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, arguments, prog_name="etl")


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command by the installed script."""
    return subprocess.run(
        [SCRIPT, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def loaded() -> list[int]:
    with duckdb.connect("secret-place.duckdb", read_only=True) as connection:
        return [
            number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY 1").fetchall()
        ]


def test_the_help_lists_every_command_and_exit_code() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for word in (
        *COMMANDS,
        "   0  done",
        "  75  stopped early",
        "  73  another process",
        "   2  the job file",
        "   1  failed",
    ):
        assert word in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_its_exit_codes(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Exit codes: 0 " in result.stdout


def test_the_script_and_the_module_are_the_same() -> None:
    module = subprocess.run([sys.executable, "-m", "etl", "--version"], capture_output=True, check=True)
    assert module.stdout.decode() == start("--version").stdout == f"etl {etl.__version__} (etl-sinks)\n"


def test_a_run_loads_everything_and_says_so(write: Write) -> None:
    done = start("run", "job.toml")
    assert done.returncode == 0
    first, cache, _, last = done.stderr.splitlines()
    assert "numbers: starting from the beginning (epoch 1, parts of " in first
    assert "numbers: page cache: plain writes (parts in transit need not touch the disk)" in cache
    assert "numbers: finished: 1,250 records, " in last
    assert done.stdout == ""
    assert loaded() == list(range(1, 2500, 2))


def test_a_second_run_finds_nothing_to_do(write: Write) -> None:
    assert call("run", "job.toml").exit_code == 0
    again = call("run", "job.toml")
    assert again.exit_code == 0
    assert "numbers: finished: 0 records" in again.stderr
    assert len(loaded()) == 1250


def test_the_log_as_json_has_an_object_on_each_line(write: Write) -> None:
    result = call("run", "job.toml", "--log-format", "json")
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert [event["event"] for event in events] == ["RunStarted", "SinkHygiene", "SinkHygiene", "RunEnded"]
    assert events[-1]["records"] == 1250


def test_a_quiet_run_says_nothing(write: Write) -> None:
    result = call("run", "job.toml", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_a_run_that_is_stopped_can_be_taken_up_again(write: Write) -> None:
    write(source="stopping")
    first = start("run", "job.toml", SIGNALS="1")
    assert first.returncode == 75
    assert "numbers: stopped by SIGTERM: " in first.stderr
    assert first.stderr.endswith("go on with: etl run job.toml\n")
    status = call("status", "job.toml").stdout
    assert re.search(
        r"last run +stopped on 2\d{3}-.* \(SIGTERM\), in order, before the source's end; go on", status
    )
    assert "last success" not in status
    assert start("run", "job.toml").returncode == 0
    assert loaded() == list(range(1, 2500, 2))


def test_a_second_signal_stops_at_once_and_loses_nothing(write: Write) -> None:
    write(source="stopping")
    first = start("run", "job.toml", SIGNALS="2")
    assert first.returncode == 75
    assert "numbers: interrupted; what is committed stays, go on with: etl run job.toml" in first.stderr
    assert "Traceback" not in first.stderr
    status = call("status", "job.toml").stdout
    assert re.search(
        r"last run +killed: it was process \d+ on .* since .*; go on with: etl run job\.toml", status
    )
    assert start("run", "job.toml").returncode == 0
    assert loaded() == list(range(1, 2500, 2))


def test_a_wrong_job_file_is_told_in_one_line(write: Write) -> None:
    text = Path("job.toml").read_text()
    Path("job.toml").write_text(text.replace("reused_file", "reused_fil"))
    before = sorted(Path().iterdir())
    done = start("run", "job.toml")
    assert done.returncode == 2
    assert done.stderr == (
        'error: job.toml: sink.type: no sink is called "reused_fil" (did you mean "reused_file"?); '
        "there are: big_file, gcs_stream, null, numbered_chunks, reused_file\n"
    )
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "lab"])  # it takes no job
def test_a_missing_job_file_is_a_wrong_configuration(write: Write, command: str) -> None:
    result = call(command, "nothing.toml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: nothing.toml: there is no such file")


def test_an_unknown_command_is_refused() -> None:
    assert call("rum", "job.toml").exit_code == 2


def test_a_failing_transform_is_told_without_a_traceback(write: Write) -> None:
    write(transform="broken")
    result = call("run", "job.toml")
    assert result.exit_code == 1
    assert "error: transform " in result.stderr
    assert "failed at record 4 " in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(write: Write) -> None:
    write(transform="broken")
    result = call("run", "job.toml", "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError" in result.stderr


def test_an_error_in_a_json_log_is_an_object_too(write: Write) -> None:
    write(transform="broken")
    result = call("run", "job.toml", "--log-format", "json")
    line = json.loads(result.stderr.splitlines()[-1])
    assert (line["level"], line["event"]) == ("error", "TransformError")


def test_an_error_that_nobody_expected_says_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("no idea")
    except RuntimeError as error:
        code = tell(click.Context(click.Command("run")), error)
    assert code == 1
    text = capsys.readouterr().err
    assert text.startswith(f"error: unexpected RuntimeError: no idea ({__file__}, line ")


def test_a_job_that_is_being_run_is_left_alone(write: Write) -> None:
    with LocalStore("numbers.checkpoint.json").hold(wait=False):
        done = start("run", "job.toml")
    assert done.returncode == 73
    assert "the job is being run by" in done.stderr
    assert not Path("secret-place.duckdb").exists()


def test_an_error_that_cannot_be_told_has_its_exit_code(write: Write) -> None:
    with LocalStore("numbers.checkpoint.json").hold(wait=False), Path("/dev/full").open("w") as full:
        assert subprocess.run([SCRIPT, "run", "job.toml"], stderr=full, check=False).returncode == 73
    Path("job.toml").write_text("[")
    with Path("/dev/full").open("w") as full:
        assert subprocess.run([SCRIPT, "check", "job.toml"], stderr=full, check=False).returncode == 2


def test_the_status_of_a_new_job_says_how_to_start_it(write: Write) -> None:
    result = call("status", "job.toml")
    assert result.exit_code == 0
    assert result.stdout == (
        f"numbers has not been run yet: there is no checkpoint at {Path('numbers.checkpoint.json').absolute()}\n"
        "Start it with: etl run job.toml\n"
    )
    assert json.loads(call("status", "job.toml", "--json").stdout)["state"] == "new"


def test_the_status_of_a_finished_job_shows_what_is_loaded(write: Write) -> None:
    call("run", "job.toml")
    found = dict(line.split("  ", 1) for line in call("status", "job.toml").stdout.splitlines())
    found = {key.strip(): value.strip() for key, value in found.items()}
    assert found["job"] == "numbers"
    assert found["last run"].startswith("finished")
    assert found["position"].endswith("(after record 2,500)")
    assert found["sealed"] == found["planned"] == "nothing waits"
    assert found["loaded"].startswith("1,250 records in ")
    assert found["page cache"].startswith(
        "plain writes (parts in transit need not touch the disk); the sink held "
    )


def test_the_status_says_where_the_dead_letters_are(write: Write) -> None:
    write(transform="broken")
    Path("job.toml").write_text(f'on_error = "reject"\n{Path("job.toml").read_text()}')
    assert call("run", "job.toml").exit_code == 0
    place = Path("numbers-rejects-*.ndjson").resolve()
    assert re.search(rf"rejected +1 record, in {re.escape(str(place))}\n", call("status", "job.toml").stdout)
    (letters,) = place.parent.glob(place.name)
    assert "ZeroDivisionError" in letters.read_text()


def test_the_status_as_json_has_the_numbers_of_the_checkpoint(write: Write) -> None:
    call("run", "job.toml")
    found = json.loads(call("status", "job.toml", "--json").stdout)
    document = decode(Path("numbers.checkpoint.json").read_bytes(), "")
    assert found["state"] == "finished"
    assert found["position"]["number"] == 2500
    assert found["loaded"]["records"] == found["totals"]["records"] == 1250
    assert found["epoch"] == document.epoch == 1
    assert document.hygiene is not None
    assert found["sink"]["hygiene"]["method"] == document.hygiene.method == "keep"
    assert found["sink"]["hygiene"]["peak"] == document.hygiene.peak > 0


def test_the_status_of_a_job_that_failed_says_when_and_why_and_when_it_last_succeeded(write: Write) -> None:
    write(transform="broken")
    assert call("run", "job.toml").exit_code == 1
    found = json.loads(call("status", "job.toml", "--json").stdout)
    assert (found["state"], found["ended"]["how"], found["succeeded"]) == ("failed", "failed", None)
    assert "ZeroDivisionError" in found["failure"]
    text = call("status", "job.toml").stdout
    assert re.search(
        r"last run +failed on 2\d{3}-.*; fix its cause, then go on with: etl run job\.toml\n", text
    )
    assert re.search(r"failure +transform .*ZeroDivisionError", text)
    write()
    assert call("run", "job.toml").exit_code == 0
    found = json.loads(call("status", "job.toml", "--json").stdout)
    assert (found["state"], found["failure"]) == ("finished", None)
    assert found["succeeded"] == found["ended"]["at"]
    assert re.search(r"last run +finished on .*\nlast success +2\d{3}-", call("status", "job.toml").stdout)


def test_the_status_tells_a_job_that_is_running_from_one_that_was_killed(write: Write) -> None:
    assert call("run", "job.toml").exit_code == 0
    with LocalStore("numbers.checkpoint.json").hold(wait=False):
        found = json.loads(call("status", "job.toml", "--json").stdout)
        assert found["state"] == "running"
        assert f"last run      running now: process {os.getpid()} on " in call("status", "job.toml").stdout
    assert json.loads(call("status", "job.toml", "--json").stdout)["state"] == "finished"


def test_the_status_of_a_damaged_checkpoint_is_an_error(write: Write) -> None:
    Path("numbers.checkpoint.json").write_text("{")
    result = call("status", "job.toml")
    assert result.exit_code == 1
    assert "numbers.checkpoint.json is not a checkpoint, or a damaged one" in result.stderr


def test_a_check_prints_a_sample_and_writes_nothing(write: Write) -> None:
    before = sorted(Path().rglob("*"))
    done = start("check", "job.toml")
    assert done.returncode == 0
    assert [json.loads(line)["number"] for line in done.stdout.splitlines()] == list(range(1, 20, 2))
    assert "source's first records (1,000 at most) gave " in done.stderr
    assert sorted(Path().rglob("*")) == before


def test_a_check_shows_the_job_but_no_secret(write: Write) -> None:
    text = call("check", "job.toml").stderr
    assert 'sink        type="reused_file" path="numbers.ndjson"' in text
    assert "${WAREHOUSE}" in text
    assert "secret-place" not in text


def test_a_check_of_a_failing_transform_fails(write: Write) -> None:
    write(transform="broken")
    result = call("check", "job.toml")
    assert result.exit_code == 1
    assert "failed at record 4 " in result.stderr


def test_a_check_warns_of_what_stands_in_the_way(write: Write) -> None:
    Path("numbers.ndjson").write_text("mine\n")
    result = call("check", "job.toml")
    assert result.exit_code == 0
    assert "numbers.ndjson stands where the sink would write" in result.stderr
    assert Path("numbers.ndjson").read_text() == "mine\n"


def test_a_reader_that_went_away_is_no_traceback(write: Write) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run([SCRIPT, "check", "job.toml"], stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_a_closed_output_is_no_traceback(write: Write) -> None:
    command = f"'{SCRIPT}' check job.toml >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_a_run_whose_log_nobody_reads_goes_on(write: Write) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run([SCRIPT, "run", "job.toml"], stderr=pipe, check=False)
    assert done.returncode == 0
    assert len(loaded()) == 1250


def test_a_terminal_shows_a_live_line(write: Write) -> None:
    terminal, other = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    run = subprocess.Popen([SCRIPT, "run", "job.toml"], stdout=other, stderr=other, env=environment)
    os.close(other)
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
    except OSError:  # EIO: what Linux says when the other side of a terminal is closed
        pass
    finally:
        os.close(terminal)
    assert run.wait() == 0
    text = shown.decode()
    assert "numbers: starting from the beginning" in text
    assert "1,250 records · " in text
    assert " parts sealed, " in text
    assert "numbers: finished: 1,250 records" in text
    assert len(loaded()) == 1250
