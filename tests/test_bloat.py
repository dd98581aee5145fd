"""The article's scripts: the same program twice, whose numbers are those of the control group."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control_groups import real_group

BLOAT = Path(__file__).parent.parent / "examples" / "bloat"
LINES, BATCH = 25_500, 10_000
MIB = 1024 * 1024

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
each_language = pytest.mark.parametrize(
    "program",
    [
        pytest.param([sys.executable, str(BLOAT / "bloat.py")], id="python"),
        pytest.param(["node", str(BLOAT / "bloat.js")], id="node", marks=needs_node),
    ],
)


def run(command: list[str], **options) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout.splitlines()


def table(output: list[str]) -> list[dict[str, float | None]]:
    names = output[1].split()
    return [
        {
            name: None if value == "-" else float(value)
            for name, value in zip(names, line.split(), strict=True)
        }
        for line in output[2:-1]
    ]


def written(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def options(mode: str, directory: Path, lines: int = LINES) -> list[str]:
    return ["--bloat", mode, "--lines", str(lines), "--batch", str(BATCH), "--directory", str(directory)]


@each_language
@pytest.mark.parametrize(
    ("mode", "files"),
    [
        ("single", {"bloat.txt": range(LINES)}),
        (
            "many",
            {
                "bloat-000001.txt": range(BATCH),
                "bloat-000002.txt": range(BATCH, 2 * BATCH),
                "bloat-000003.txt": range(2 * BATCH, LINES),
            },
        ),
        ("reuse", {"bloat.txt": range(2 * BATCH, LINES)}),
    ],
)
def test_each_mode_writes_its_files_line_by_line(tmp_path, program, mode, files):
    rows = table(run([*program, *options(mode, tmp_path)]))
    found = written(tmp_path)
    assert found.keys() == files.keys()
    for name, numbers in files.items():
        assert [int(line.split()[0]) for line in found[name].splitlines()] == list(numbers)
        assert len(found[name]) == 100 * len(numbers)
    assert [row["lines"] for row in rows] == [10_000, 20_000, 25_500]
    assert rows[-1]["written"] == pytest.approx(25_500 * 100 / MIB, abs=0.05)


@needs_node
@pytest.mark.parametrize("mode", ["single", "many", "reuse"])
def test_both_languages_write_the_same_bytes(tmp_path, mode):
    run([sys.executable, str(BLOAT / "bloat.py"), *options(mode, tmp_path / "python")])
    run(["node", str(BLOAT / "bloat.js"), *options(mode, tmp_path / "node")])
    assert written(tmp_path / "python") == written(tmp_path / "node")


@each_language
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--bloat", "some"],
        ["--bloat", "many", "--lines=0"],
        ["--bloat", "many", "--batch=-1"],
        ["--sink"],
    ],
)
def test_wrong_options_are_refused(tmp_path, program, arguments):
    finished = subprocess.run([*program, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert finished.returncode == 2
    assert "error: " in finished.stderr
    assert list(tmp_path.iterdir()) == []


@each_language
def test_what_is_printed_is_what_its_control_group_says(tmp_path, program):
    with real_group(256 * MIB) as group:
        rows = table(run(group.inside([*program, *options("single", tmp_path, 300_000)])))
        left = group.memory()
    last = rows[-1]
    assert {row["limit"] for row in rows} == {256.0}
    assert all(row["dirty"] <= row["cache"] <= row["usage"] <= 256 for row in rows)
    # The kernel adds its statistics up in steps; the file of 28.6 MiB is all that is left in the group.
    assert last["cache"] == pytest.approx(left.file / MIB, abs=3)
    assert last["cache"] > 25
    assert left.peak is None or last["usage"] <= left.peak / MIB + 0.1


@each_language
def test_a_file_that_is_reused_takes_no_more_cache_than_one_batch(tmp_path, program):
    with real_group() as group:
        run(group.inside([*program, "--help"]))  # so that the program's own pages do not count
        before = group.memory().file / MIB
        rows = table(run(group.inside([*program, *options("reuse", tmp_path, 300_000)])))
    assert max(row["cache"] for row in rows) < before + 10


@pytest.fixture
def second_version(tmp_path):
    """A control group of version 2 with numbers of its own: only one version can have the memory controller."""
    group = tmp_path / "hierarchy" / "job"
    group.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/job\n")
    (tmp_path / "mountinfo").write_text(
        f"35 24 0:30 / {tmp_path}/hierarchy rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    (group / "memory.stat").write_text(f"anon {MIB}\nfile {5 * MIB}\nfile_dirty {2 * MIB}\n")
    (group / "memory.current").write_text(f"{7 * MIB}\n")
    (group / "memory.max").write_text(f"{9 * MIB}\n")
    (group / "memory.peak").write_text(f"{8 * MIB}\n")
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 0\noom_kill 1\n")
    return group


@each_language
@pytest.mark.parametrize("limit", [9 * MIB, None])
def test_control_groups_of_version_2_are_read_too(tmp_path, second_version, program, limit):
    if limit is None:
        (second_version / "memory.max").write_text("max\n")
    # A mount namespace of the program's own, in which its two files under /proc are ours.
    script = 'mount --bind cgroup /proc/$$/cgroup && mount --bind mountinfo /proc/$$/mountinfo && exec "$@"'
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        *program,
        *options("single", tmp_path / "out", 10),
    ]
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be had here")
    output = run(command, cwd=tmp_path)
    assert output[0].endswith("control group v2; MiB")
    (row,) = table(output)
    assert (row["cache"], row["dirty"], row["usage"]) == (5, 2, 7)
    assert row["limit"] == (None if limit is None else 9)
    assert output[-1] == "peak usage 8.0, failed charges 3, OOM kills 1"


def test_truncation_and_the_last_close_free_the_page_cache_and_fsync_and_deletion_do_not(tmp_path):
    with real_group() as group:
        lines = run(
            group.inside([sys.executable, str(BLOAT / "freed.py")]),
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    cached = {line[:22].strip(): float(line[22:].split()[0]) for line in lines}
    start = cached["at the start"]
    assert [round(value - start, -1) for value in cached.values()] == [0, 40, 40, 20, 20, 0]


@each_language
def test_help_says_what_is_taken_when_nothing_is_given(tmp_path, program):
    said = "\n".join(run([*program, "--help"], cwd=tmp_path))
    assert {"20000000", "100000"} <= set(re.findall(r"\d+", said))
    assert list(tmp_path.iterdir()) == []


def test_help_of_freed_writes_nothing_and_says_what_it_does(tmp_path):
    said = run([sys.executable, str(BLOAT / "freed.py"), "--help"])
    assert said[0].startswith("usage: freed.py")
    assert not any("MiB" in line for line in said)


@needs_node
def test_the_pipeline_runs_commands_that_work(tmp_path):
    text = (BLOAT / "codefresh.yml").read_text()
    commands = re.findall(r"^ +- ((?:python3|node) .*)$", text, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)
        words[words.index("--lines") + 1] = "1000"
        words[words.index("--directory") + 1] = str(tmp_path)
        run(words, cwd=BLOAT.parent.parent)
