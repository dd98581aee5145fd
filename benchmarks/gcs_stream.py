"""Measure the sink `gcs_stream`: its speed against encoding alone and a bare upload, the memory of its worker.

make bench-gcs        on a machine that does nothing else; some two minutes

Everything is measured in processes of their own (`benchmarks.one_upload`), in turn, against a strict Cloud Storage
server on this machine, which is another process: `python -m etl.testing.gcs_server --no-md5`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.one_upload import BUCKET, CHUNK, PART, PROJECT, flights, lines
from etl.config import parse_bytes
from etl.testing.bigquery_server import BigQueryServer
from etl.words import size

MIB = 1 << 20
RATIO_LEAST = 0.8  # of the slower of encoding and sending
MEMORY_MOST = 40 * MIB  # beyond what importing Google's two clients leaves
GROWTH_MOST = 6 * MIB  # the same for any output; 10 MiB do not fill the two chunks, which takes 16

SPEED = ("encode", "bare", "stream")
BIGQUERY = Path(".venv-bigquery/bin/python")
SAID = {
    "encode": "encoding alone",
    "bare": "sending alone",
    "stream": "gcs_stream",
    "job": "the whole job",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one process did.

    Attributes:
        what: as `benchmarks.one_upload` calls it.
        bytes: how many it encoded, sent, or both.
        seconds: what that took, without starting and clearing up.
        imported: its resident memory before, in bytes.
        peak: the most that was resident from then on, in bytes.
    """

    what: str
    bytes: int
    seconds: float
    imported: int
    peak: int

    @property
    def speed(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds

    @property
    def beyond(self) -> int:
        """The most memory beyond what it had before, in bytes."""
        return self.peak - self.imported


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One promise, and whether it was kept."""

    what: str
    goal: str
    found: str
    reached: bool

    @property
    def verdict(self) -> str:
        """In a word."""
        return "reached" if self.reached else "MISSED"


def run(what: str, url: str, length: int, part: int = PART) -> Run:
    """Start a process that does it, and wait for its end.

    Raises:
        subprocess.CalledProcessError: it failed; it has said why.
    """
    command = [sys.executable, "-m", "benchmarks.one_upload", what, url, str(length), str(part)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    done = Run(what=what, **json.loads(said))
    print(
        f"  {SAID[what]:<14} {size(done.bytes):>10}   {done.speed / 1e6:7,.0f} MB/s   "
        f"{done.beyond / MIB:5.1f} MiB beyond {done.imported / MIB:.0f}",
        flush=True,
    )
    return done


@contextmanager
def storage(root: Path) -> Iterator[str]:
    """Run the strict server in a process of its own; yield its address."""
    command = [sys.executable, "-m", "etl.testing.gcs_server", "--no-md5", "--bucket", BUCKET]
    with subprocess.Popen([*command, "--root", str(root)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the Cloud Storage server did not start; it has said why")
            yield url
        finally:
            process.terminate()


def warehouse(root: Path, data: Path, running: ExitStack) -> bool:
    """Run what serves as BigQuery, with a dataset; return False where it is not installed."""
    if not BIGQUERY.exists():
        return False
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    server = running.enter_context(BigQueryServer(root, data, python=BIGQUERY, project=PROJECT))
    os.environ |= server.environment()
    client = bigquery.Client(PROJECT, credentials=AnonymousCredentials())
    client.create_dataset("bench")
    client.close()
    return True


def measure(options: argparse.Namespace) -> tuple[list[Run], list[Run]]:
    """Run everything; return the runs for the speed, and those for the memory."""
    with ExitStack() as running:
        work = Path(running.enter_context(tempfile.TemporaryDirectory(dir=options.directory, prefix="run-")))
        url = running.enter_context(storage(work / "gcs"))
        print(f"\nspeed: {options.rounds} rounds")
        speed = [run(what, url, options.bytes, options.part) for _ in range(options.rounds) for what in SPEED]
        workers = ["stream"]
        if warehouse(work / "gcs", work / "bigquery", running):
            workers.append("job")
        print("\nmemory")
        memory = [run(what, url, length) for what in workers for length in (options.small, options.large)]
    return speed, memory


def ratios(speed: Sequence[Run], against: str) -> list[float]:
    """Return the speed of `gcs_stream` over another one's, round by round."""
    ours = [each.speed for each in speed if each.what == "stream"]
    return [one / other.speed for one, other in zip(ours, _of(speed, against), strict=True)]


def targets(speed: Sequence[Run], memory: Sequence[Run]) -> list[Target]:
    """Hold what was measured against what was promised."""
    slower = min(
        ("encode", "bare"), key=lambda what: statistics.median(each.speed for each in _of(speed, what))
    )
    other = "bare" if slower == "encode" else "encode"
    ratio = statistics.median(ratios(speed, slower))
    rounds = ", ".join(f"{each:.2f}" for each in sorted(ratios(speed, slower)))
    found = [
        Target(
            what="speed, against the slower of encoding alone and sending alone",
            goal=f"{RATIO_LEAST} times or more",
            found=f"{ratio:.2f} times {SAID[slower]} (rounds: {rounds}); {statistics.median(ratios(speed, other)):.2f} "
            f"times {SAID[other]}",
            reached=ratio >= RATIO_LEAST,
        )
    ]
    for what in dict.fromkeys(each.what for each in memory):
        small, large = _of(memory, what)
        most = max(small.beyond, large.beyond)
        found += [
            Target(
                what=f"resident memory of {SAID[what]}, beyond the import of Google's two clients",
                goal=f"{MEMORY_MOST / MIB:.0f} MiB or less",
                found=f"{most / MIB:.1f} MiB beyond {large.imported / MIB:.0f} MiB",
                reached=most <= MEMORY_MOST,
            ),
            Target(
                what=f"the same for {size(small.bytes)} and {size(large.bytes)} of output",
                goal=f"{GROWTH_MOST / MIB:.0f} MiB more or less",
                found=f"{(large.beyond - small.beyond) / MIB:+.1f} MiB",
                reached=abs(large.beyond - small.beyond) <= GROWTH_MOST,
            ),
        ]
    return found


def _of(runs: Sequence[Run], what: str) -> list[Run]:
    return [each for each in runs if each.what == what]


def notes(options: argparse.Namespace, memory: Sequence[Run]) -> list[str]:
    """Say how and where it was measured, so that nobody takes the figures for more than they are."""
    records = flights()
    said = [
        f"{datetime.now(UTC):%Y-%m-%d}, Linux {platform.release()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}.",
        f"{size(options.bytes)} a run, in objects of {size(options.part)}, each sealed before the next one is begun, "
        f"and chunks of {size(CHUNK)}; {options.rounds} rounds, the three in turn, each in a process of its own; "
        "the clock runs without its start. Medians.",
        f"The records: NDJSON by `etl.formats`, {len(lines(records)) / len(records):.0f} bytes each, out of "
        f"{len(records):,} that are in memory.",
        "*Encoding alone* drops the bytes. *Sending alone* is a loop over one `requests.Session` that puts bytes which "
        "are ready, by the plain protocol of resumable uploads: no checksum, no check of what was stored.",
        "The server is `python -m etl.testing.gcs_server --no-md5`, strict, in Python, on the same machine: it shares "
        "the processors with what is measured, which has no more than one for itself. With a real network between, "
        "sending is slower, and more of it is hidden behind encoding.",
        "Resident memory is the process's peak (VmHWM of proc(5), set back after the import), less what was resident "
        "right after importing google.cloud.storage and google.cloud.bigquery. *The whole job* has a checkpoint in the "
        "bucket, and loads what it wrote into a BigQuery server (local-bigquery).",
    ]
    if "job" not in {each.what for each in memory}:
        said.append("Not measured: the whole job; it takes local-bigquery, which `make bigquery` installs.")
    return said


def markdown(found: Sequence[Target], said: Sequence[str]) -> str:
    """Return the report as Markdown."""
    return "\n".join(
        [
            "# The sink `gcs_stream`: speed and memory",
            "",
            f"{sum(target.reached for target in found)} of {len(found)} targets reached. `make bench-gcs` writes this.",
            "",
            "| | target | found | |",
            "|---|---|---|---|",
            *(f"| {each.what} | {each.goal} | {each.found} | {each.verdict} |" for each in found),
            "",
            "## How it was measured",
            "",
            *(f"- {note}" for note in said),
            "",
        ]
    )


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gcs_stream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bytes", type=parse_bytes, default="512MiB", help="of each run for the speed (512MiB)")
    add(
        "--part",
        type=parse_bytes,
        default="64MiB",
        help="of each object for the speed (64MiB)",
    )
    add("--rounds", type=int, default=5, help="for the speed (5)")
    add("--small", type=parse_bytes, default="10MiB", help="output of the first run for the memory (10MiB)")
    add("--large", type=parse_bytes, default="1000MiB", help="and of the second (1000MiB)")
    memory = Path("/dev/shm")  # how fast the server's disk is says nothing of who sends
    add("--directory", type=Path, default=memory if memory.is_dir() else Path("build"), help="where to work")
    add("--json", type=Path, help="file for every run")
    add("--markdown", type=Path, help="file for the report")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    options = arguments(given)
    options.directory.mkdir(parents=True, exist_ok=True)
    speed, memory = measure(options)
    found = targets(speed, memory)
    said = notes(options, memory)
    print()
    for each in found:
        print(f"{each.verdict:<8} {each.what}: {each.found} (target: {each.goal})")
    if options.json:
        whole = {"speed": [asdict(each) for each in speed], "memory": [asdict(each) for each in memory]}
        options.json.write_text(json.dumps(whole, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(found, said))


if __name__ == "__main__":
    main()
