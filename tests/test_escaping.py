"""What comes from outside cannot give a terminal orders: set its title, clear it, forge lines, turn text around."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from etl.cli import main
from etl.display import JsonLines, LiveListener, TextLines
from etl.escaping import printable, printable_json
from etl.progress import Notice
from tests.web import Answer, Request, WebServer

TITLE = "\x1b]0;owned\x07"
CLEAR = "\x1b[2J"
HOSTILE = f"a{TITLE}{CLEAR}\x9b2J\r\u202e\u2028\x7f"
# The bytes that a terminal would obey; a line's end is the program's own.
OBEYED = [chr(code) for code in (*range(10), *range(11, 32), *range(127, 160), 0x202E, 0x2028, 0x2066)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_harmless(text: str) -> None:
    assert not [character for character in OBEYED if character in text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Grüße, 世界 😀 – “x”", "Grüße, 世界 😀 – “x”"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J\x85", "\\x9b2J\\x85"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\ud83d half", "\\ud83d half"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_is_not_printable_is_written_as_python_writes_it(text: str, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize("text", [HOSTILE, "\U000e0001 tag", "Grüße 😀", "\ud83d half"])
def test_json_means_the_same_when_it_is_escaped(text: str) -> None:
    line = json.dumps({text: text}, ensure_ascii=False)
    assert_harmless(printable_json(line))
    assert json.loads(printable_json(line)) == {text: text}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def job(source: str, more: str = "") -> None:
    Path("job.toml").write_text(
        f'{more}\n[source]\n{source}\n[sink]\ntype = "numbered_chunks"\npath = "out/job.ndjson"\n'
        '[warehouse]\ntype = "duckdb"\npath = "w.duckdb"\ntable = "t"\n'
    )


FILES = 'type = "files"\npaths = "in"'


def write(name: str, text: str) -> None:
    Path("in").mkdir(exist_ok=True)
    Path("in", name).write_text(text)


def from_a_transform() -> None:
    write("a.ndjson", '{"n": 1}\n')
    Path("hostile.py").write_text(f"def transform(records):\n    raise ValueError({HOSTILE!r})\n    yield\n")
    job(FILES, 'transforms = ["hostile:transform"]')


def from_a_column() -> None:
    write("a.ndjson", json.dumps({HOSTILE: 1}) + "\n" + json.dumps({HOSTILE: "x"}) + "\n")
    job(FILES)


def from_a_file_name() -> None:
    write(f"a{HOSTILE}.ndjson", "{broken\n")
    job(FILES)


def from_a_header() -> None:
    write("a.csv", f"{HOSTILE},{HOSTILE}\n1,2\n".replace("\r", ""))
    job(FILES)


def from_a_cell() -> None:
    write("a.csv", f'n,m\n1,"{CLEAR}\x9b2J"\nx,2,3\n')
    job(FILES)


@pytest.mark.parametrize("command", ["check", "run", "status", "verify"])
@pytest.mark.parametrize(
    "prepare", [from_a_transform, from_a_column, from_a_file_name, from_a_header, from_a_cell]
)
def test_no_command_hands_on_what_a_terminal_obeys(prepare: object, command: str) -> None:
    assert callable(prepare)
    prepare()
    if command in ("status", "verify"):
        call("run", "job.toml")
    result = call(command, "job.toml")
    assert result.output
    assert_harmless(result.output)


def test_what_a_server_answers_is_no_order_to_a_terminal() -> None:
    def answer(_request: Request) -> Answer:
        return Answer(status=400, headers={"Content-Type": "text/plain"}, body=HOSTILE.encode())

    with WebServer(answer) as server:
        job(f'type = "http"\nurls = "{server.url}/a.ndjson"')
        result = call("run", "job.toml")
    assert result.exit_code == 1
    assert_harmless(result.output)


@pytest.mark.parametrize("formatter", [TextLines(times=False), JsonLines()])
def test_a_line_of_the_log_is_one_line(formatter: logging.Formatter) -> None:
    record = logging.LogRecord(
        "etl", logging.WARNING, "", 0, "%s: %s", ("job", f"a\nerror: b{HOSTILE}"), None
    )
    line = formatter.format(record)
    assert_harmless(line)
    assert "\n" not in line


def test_the_live_display_prints_what_happens_without_orders() -> None:
    screen = io.StringIO()
    with LiveListener(lambda: 0.0, Console(file=screen, width=200)) as listener:
        listener(Notice(pipeline="job", message=f"found {HOSTILE}"))
    assert_harmless(screen.getvalue())
    assert "found a\\x1b]0;owned" in screen.getvalue()
