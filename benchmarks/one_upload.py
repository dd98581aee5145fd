"""Write records to Cloud Storage in one way; the process that the benchmark of `gcs_stream` starts and measures.

python -m benchmarks.one_upload WHAT URL BYTES [PART]

WHAT is one of

encode   encode the records as NDJSON, and drop the bytes
bare     send bytes that are ready by the plain protocol: requests, one session, nothing of ours
stream   encode the records into `sinks.GcsStream`
job      the whole job: `gcs_stream`, a checkpoint in the bucket, BigQuery

URL is that of a Cloud Storage server with the bucket `bench`, PART the length of an object in bytes; BigQuery is where
the environment says. It prints a line of JSON, and leaves the bucket as it was, but for the checkpoint of `job`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import orjson

BUCKET = "bench"
PROJECT = "test"
TABLE = f"{PROJECT}.bench.flights"
CHUNK = 8 * 1024 * 1024  # what `GcsStream` sends with one request, by default
PART = 8 * CHUNK  # what a job writes to one object, by default
MARKED = 10_000  # records between two marks of the job's source
TIMEOUT = 60.0  # seconds for a request of the bare loop

Record = dict[str, Any]


def flights(count: int = 1000) -> list[Record]:
    """Return records like those of the main job, the same ones each time; some 170 bytes each, as NDJSON."""
    chance = random.Random(1)
    found = []
    for _ in range(count):
        origin, destination = (
            chance.choice(["EWR", "JFK", "LGA"]),
            chance.choice(["ATL", "BOS", "LAX", "SFO"]),
        )
        late = chance.randrange(-10, 120)
        found.append(
            {
                "dep_delay": late,
                "arr_delay": late + chance.randrange(-20, 20) if chance.random() > 0.02 else None,
                "carrier": chance.choice(["AA", "B6", "DL", "UA"]),
                "flight": chance.randrange(1, 6000),
                "tailnum": f"N{chance.randrange(100, 999)}UA",
                "origin": origin,
                "dest": destination,
                "distance": chance.randrange(200, 2800),
                "at": f"2013-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T05:00:00Z",
                "route": f"{origin}-{destination}",
            }
        )
    return found


def lines(records: list[Record]) -> bytes:
    """Return the records as NDJSON."""
    return b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)


def encode(records: list[Record], size: int, write: Callable[[Any], None]) -> None:
    """Encode `records` over and over, as a job does, until they make about `size` bytes."""
    from etl import formats

    def refuse(_: Record, why: str) -> None:
        raise AssertionError(why)

    count = size * len(records) // len(lines(records))
    again = islice(cycle(records), count)
    for _ in formats.make("ndjson").encode(again, write, refuse, formats.BATCH_BYTES):
        pass


def parts(size: int, part: int) -> list[int]:
    """Return the lengths of the objects that `size` bytes become."""
    return [min(part, size - start) for start in range(0, size, part)]


class Clock:
    """Times a `with`."""

    seconds = 0.0

    def __enter__(self) -> None:
        self.seconds = -time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()


def encoded(records: list[Record], lengths: list[int], clock: Clock) -> int:
    """Encode alone; return how many bytes it made."""
    made = 0

    def count(data: bytearray) -> None:
        nonlocal made
        made += len(data)

    with clock:
        for length in lengths:
            encode(records, length, count)
    return made


def bare(url: str, records: list[Record], lengths: list[int], clock: Clock) -> int:
    """Send ready bytes in chunks as large as ours, to objects as large as ours; return how many were sent."""
    import requests

    ready = lines(records)
    chunk = (ready * (CHUNK // len(ready) + 1))[:CHUNK]
    names = [f"bare/{number}.ndjson" for number, _ in enumerate(lengths)]
    with requests.Session() as session:
        with clock:
            for name, length in zip(names, lengths, strict=True):
                begun = session.post(
                    f"{url}/upload/storage/v1/b/{BUCKET}/o",
                    params={"uploadType": "resumable", "name": name, "ifGenerationMatch": "0"},
                    timeout=TIMEOUT,
                )
                begun.raise_for_status()
                for start in range(0, length, CHUNK):
                    end = min(start + CHUNK, length)
                    total = length if end == length else "*"
                    answer = session.put(
                        begun.headers["Location"],
                        data=chunk if end - start == CHUNK else chunk[: end - start],
                        headers={"Content-Range": f"bytes {start}-{end - 1}/{total}"},
                        timeout=TIMEOUT,
                    )
                    if answer.status_code != (200 if end == length else 308):
                        raise RuntimeError(f"{answer.status_code} for bytes {start} to {end}: {answer.text}")
        for name in names:
            address = f"{url}/storage/v1/b/{BUCKET}/o/{name.replace('/', '%2F')}"
            session.delete(address, timeout=TIMEOUT).raise_for_status()
    return sum(lengths)


def stream(records: list[Record], lengths: list[int], clock: Clock) -> int:
    """Encode into the sink; return how many bytes it wrote."""
    from sinks import GcsStream, SealedPart

    sealed: list[SealedPart] = []
    with contextlib.closing(GcsStream(BUCKET, prefix="stream/job.ndjson")) as sink:
        sink.recover(
            [], None
        )  # makes the client, whose first connection and credentials are not the question
        with clock:
            for sequence, length in enumerate(lengths, 1):
                with sink.open_part(sequence) as part:
                    encode(records, length, part.write)
                if part.sealed is None:
                    raise AssertionError
                sealed.append(part.sealed)
        for each in sealed:
            sink.release(each)
    return sum(each.bytes for each in sealed)


def job(records: list[Record], size: int, clock: Clock) -> int:
    """Run the whole job; return how many bytes its parts had."""
    import etl

    total = size * len(records) // len(lines(records))

    def pull(cursor: int | None = None) -> Iterator[Any]:
        start = cursor or 0
        for number, record in enumerate(islice(cycle(records), total - start), start):
            if number % MARKED == 0:
                yield etl.Mark(number)
            yield record

    pipeline = etl.Pipeline(
        f"bench-{size}",
        source=pull,
        sink={"type": "gcs_stream", "bucket": BUCKET, "prefix": f"{size}/job.ndjson"},
        warehouse={"type": "bigquery", "table": TABLE, "location": "US"},
        checkpoint=f"gs://{BUCKET}/{size}.checkpoint.json",
    )
    with clock:
        return pipeline.run().bytes


def resident(name: str) -> int:
    """Return a field of /proc/self/status, in bytes: `VmRSS` is what is resident now, `VmHWM` the most there was."""
    for line in Path("/proc/self/status").read_text().splitlines():
        field, value = line.split(":", 1)
        if field == name:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/self/status has no {name}")


def main(what: str, url: str, size: int, part: int = PART) -> None:
    """Do it, and print what it took."""
    os.environ |= {
        "STORAGE_EMULATOR_HOST": url,
        "NO_GCE_CHECK": "true",
        "GCE_METADATA_HOST": "127.0.0.1:9",
    }
    records, lengths = flights(), parts(size, part)
    clock = Clock()
    if what in ("stream", "job"):
        from google.cloud import bigquery, storage  # noqa: F401 - what a worker's memory is compared with
    gc.collect()  # the garbage of the imports, which would be cleared away while the clock runs
    imported = resident("VmRSS")
    # Importing takes more for a moment than it leaves; from here on the peak is that of the work (proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    done = {
        "encode": lambda: encoded(records, lengths, clock),
        "bare": lambda: bare(url, records, lengths, clock),
        "stream": lambda: stream(records, lengths, clock),
        "job": lambda: job(records, size, clock),
    }[what]()
    print(
        json.dumps({"seconds": clock.seconds, "bytes": done, "imported": imported, "peak": resident("VmHWM")})
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
