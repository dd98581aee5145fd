"""Whether a strategy wrote what it was to write: a fast one that loses bytes would prove nothing."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from etl.lab.strategies import Strategy
from etl.lab.stream import Stream
from sinks import checksum, page_cache


def verify(stream: Stream, strategy: Strategy, directory: Path, told: int) -> tuple[int | None, str]:
    """Compare what was written with the stream: the bytes told, and each byte of the files that stayed.

    Args:
        stream: what was to be written.
        strategy: how.
        directory: where, and nothing else is in it.
        told: how many bytes the writer says that it wrote.

    Returns:
        The length of the files that stayed, None where none are to, and what is wrong: "" if all is well.

    Raises:
        SinkError: a file cannot be read.
    """
    if told != stream.length:
        return None, f"it wrote {told:,} bytes, not {stream.length:,}"
    if not strategy.keeps:
        return None, ""
    length = crc = 0
    for path in sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name)):
        with page_cache.open_for_reading(path) as file:
            while data := file.read(checksum.BLOCK):
                length += len(data)
                crc = checksum.extend(crc, data)
    if length != stream.length:
        return length, f"its files have {length:,} bytes, not {stream.length:,}"
    return length, "" if crc == _checksum(stream) else "its files do not hold what it was to write"


@lru_cache(maxsize=1)
def _checksum(stream: Stream) -> int:
    crc = 0
    for part in range(stream.parts):
        for block in stream.blocks(part):
            crc = checksum.extend(crc, block)
    return crc
