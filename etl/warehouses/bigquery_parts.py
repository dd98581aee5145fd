"""The bytes of parts that lie on this machine, read as they were sealed or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sinks import checksum, page_cache
from sinks.base import SealedPart
from sinks.errors import PartLost
from sinks.local_files import locate

# Read at a time, in bytes.
BLOCK = 256 * 1024


def is_local(part: SealedPart) -> bool:
    """Say whether the part is a file, or a range of one, and no object in a bucket."""
    return not part.uri.startswith("gs://")


def blocks(part: SealedPart) -> Iterator[bytes]:
    """Yield a part's bytes. The last of them come only when all of them have the checksum that was sealed.

    So whoever completes nothing before it has the last bytes never completes a part that was changed.

    Raises:
        PartLost: it is missing, or has another length or checksum.
        SinkError: it cannot be read.
    """
    where = locate(part.uri)
    with page_cache.open_for_reading(where.path, where.start, where.start + part.bytes) as file:
        crc, left = 0, part.bytes
        while left and (data := file.read(min(BLOCK, left))):
            crc = checksum.extend(crc, data)
            left -= len(data)
            if not left and crc != part.crc32c:
                break
            yield data
    if crc != part.crc32c:
        raise PartLost(
            f"part {part.sequence}, {part.uri}, has the CRC-32C {crc:08x}, not {part.crc32c:08x} as it was sealed: "
            "somebody changed it, or the disk did; it must be written again, which the next run of a job does"
        )


def all_blocks(parts: Sequence[SealedPart]) -> Iterator[bytes]:
    """Yield the bytes of several parts as those of one file: lines follow lines, gzip members each other.

    Raises:
        SinkError: as `blocks`.
    """
    for part in parts:
        yield from blocks(part)
