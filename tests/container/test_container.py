"""The main job in a real container: 128 MiB of memory, a read-only root file system, no network, a small disk."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.container import podman

# In one process of the test runner, so that the image is built once (pytest --dist loadgroup).
pytestmark = [pytest.mark.slow, pytest.mark.volume]

HERE = Path(__file__).parent
FLIGHTS = podman.ROOT / "demo" / "flights.csv.zip"
MIB = 1024 * 1024
LIMIT = 128 * MIB
DISK = 96 * MIB
FLIGHTS_THAT_LEFT = 328_521

# What the container's control group, version 1 or 2, says at the end; the exit code is the job's.
JOB = """
etl run /input/job.toml
code=$?
cd /sys/fs/cgroup
for file in memory/memory.limit_in_bytes memory/memory.max_usage_in_bytes memory.max memory.peak; do
    [ -r $file ] && echo "${file#memory/} $(cat $file)"
done
cat memory/memory.oom_control memory.events 2>/dev/null | grep '^oom_kill '
exit $code
"""

LIMITS = ["--memory", str(LIMIT), "--memory-swap", str(LIMIT), "--read-only"]


@pytest.fixture(scope="module")
def image():
    if not FLIGHTS.exists():
        pytest.skip("demo/flights.csv.zip is not there: make container-test")
    try:
        return podman.image()
    except podman.Lacking as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """The table of one year, as the job makes it without a container."""
    directory = tmp_path_factory.mktemp("outside")
    shutil.copy(podman.ROOT / "examples" / "flights.py", directory)
    text = (HERE / "job.toml").read_text().replace(', "halfway:tell"', "").replace("/input/", "")
    (directory / "job.toml").write_text(text)
    shutil.copy(FLIGHTS, directory / "flights-1.csv.zip")
    subprocess.run([sys.executable, "-m", "etl", "run", "--quiet", "job.toml"], cwd=directory, check=True)
    return directory / "flights.duckdb"


@pytest.fixture
def work(tmp_path):
    """The volume of the job: a small disk of its own."""
    try:
        with podman.small_volume(tmp_path, f"etl-sinks-test-{os.getpid()}", DISK) as name:
            yield name
    except podman.Lacking as reason:
        pytest.skip(str(reason))


def inputs(directory: Path, years: int) -> list[str]:
    """Mount the job, and the same year so many times, read only."""
    directory.chmod(0o755)  # the container's user is nobody here
    for file in (HERE / "job.toml", HERE / "halfway.py", podman.ROOT / "examples" / "flights.py"):
        shutil.copy(file, directory)
    for year in range(years):
        shutil.copy(FLIGHTS, directory / f"flights-{year}.csv.zip")
    return ["--volume", f"{directory}:/input:ro"]


def table(image: str, work: str, outside: Path, years: int, directory: Path) -> tuple[int, int, int]:
    """Return how many rows the database in the volume has, lacks and has too many."""
    copy = podman.run(
        "--user", "0", "--volume", f"{work}:/work", "--volume", f"{directory}:/out", "--entrypoint", "cp"
    )
    subprocess.run([*copy, image, "/work/flights.duckdb", "/out"], check=True, env=podman.ENVIRONMENT)
    with duckdb.connect() as comparison:
        comparison.execute(f"ATTACH '{outside}' AS outside (READ_ONLY)")
        comparison.execute(f"ATTACH '{directory}/flights.duckdb' AS inside (READ_ONLY)")
        truth = f"(SELECT flights.* FROM outside.flights, range({years}))"
        count = "SELECT count(*) FROM"
        queries = [
            f"{count} inside.flights",
            f"{count} ({truth} EXCEPT ALL FROM inside.flights)",
            f"{count} (FROM inside.flights EXCEPT ALL {truth})",
        ]
        return tuple(comparison.execute(query).fetchone()[0] for query in queries)


def numbers(output: str) -> dict[str, int]:
    """Read what the container's control group said: `memory.max 134217728`."""
    pairs = [line.split() for line in output.splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def test_the_image_runs_etl_as_a_user_who_is_not_root(image):
    shown = subprocess.run(
        podman.run("--read-only", image, "--version"), capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"etl {importlib.metadata.version('etl-sinks')} (etl-sinks)\n"
    user = subprocess.run(
        podman.run("--entrypoint", "id", image, "-u"), capture_output=True, text=True, check=True
    )
    assert user.stdout == "1000\n"


def test_the_job_finishes_in_a_small_container(image, work, outside, tmp_path):
    years = 3  # 203 MiB are written: more than the memory, and more than the disk
    (tmp_path / "input").mkdir()
    (tmp_path / "out").mkdir()
    volumes = [*inputs(tmp_path / "input", years), "--volume", f"{work}:/work"]
    command = podman.run(*LIMITS, *volumes, "--entrypoint", "sh", image, "-c", JOB)
    finished = subprocess.run(command, capture_output=True, text=True, env=podman.ENVIRONMENT, check=False)
    sys.stdout.write(finished.stderr + finished.stdout)  # `make container-test` shows it
    assert finished.returncode == 0, finished.stderr
    said = numbers(finished.stdout)
    assert (said.get("memory.limit_in_bytes") or said["memory.max"]) == LIMIT
    assert (said.get("memory.max_usage_in_bytes") or said.get("memory.peak", 0)) <= LIMIT
    assert said["oom_kill"] == 0
    assert table(image, work, outside, years, tmp_path / "out") == (years * FLIGHTS_THAT_LEFT, 0, 0)


def test_a_container_that_is_killed_is_followed_by_one_that_goes_on(image, work, outside, tmp_path):
    years = 2
    (tmp_path / "input").mkdir()
    (tmp_path / "out").mkdir()
    volumes = [*inputs(tmp_path / "input", years), "--volume", f"{work}:/work"]
    name = f"etl-sinks-test-{os.getpid()}"
    limits = [*LIMITS, *volumes, "--name", name]
    job = [image, "run", "/input/job.toml"]
    said = []
    with subprocess.Popen(
        podman.run(*limits, "--env", "HELD_AT_RECORD=600000", *job),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=podman.ENVIRONMENT,
    ) as first:
        assert first.stdout is not None
        for line in first.stdout:
            said.append(line)
            if line == "halfway\n":
                subprocess.run(
                    podman.command("kill", "--signal", "KILL", name), check=True, capture_output=True
                )
    assert first.returncode == 128 + signal.SIGKILL, "".join(said)
    second = subprocess.run(
        podman.run(*limits, *job), capture_output=True, text=True, env=podman.ENVIRONMENT, check=False
    )
    assert second.returncode == 0, second.stderr
    assert "starting from the beginning" not in second.stderr
    assert table(image, work, outside, years, tmp_path / "out") == (years * FLIGHTS_THAT_LEFT, 0, 0)
