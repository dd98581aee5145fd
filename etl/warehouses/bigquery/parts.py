"""The bytes of parts that lie on this machine, read as they were sealed or not at all."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

from sinks import checksum, page_cache
from sinks.base import SealedPart
from sinks.errors import PartLost
from sinks.local_files import locate

# Read at a time, in bytes.
BLOCK = 256 * 1024

# What a block may become when it is decompressed, in bytes: the rest comes with the next one.
TEXT = 1024 * 1024

# To zlib: with the header and the checksum of gzip.
GZIP = 31


def blocks(part: SealedPart) -> Iterator[bytes]:
    """Yield a part's bytes. The last of them come only when all of them have the checksum that was sealed.

    So a process that completes nothing before it has the last bytes never completes a part that was changed.

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


def text(format: str, data: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a part's lines, in blocks of at most 1 MiB; what is no gzip passes as it is."""
    if format != "ndjson.gz":
        yield from data
        return
    member = zlib.decompressobj(wbits=GZIP)
    for block in data:
        rest = block
        while rest:
            if member.eof:
                member = zlib.decompressobj(wbits=GZIP)  # members follow one another
            if lines := member.decompress(rest, TEXT):
                yield lines
            rest = member.unused_data if member.eof else member.unconsumed_tail


def sent_along(parts: Sequence[SealedPart], format: str) -> Iterator[bytes]:
    """Yield parts as the bytes of the one file that goes along with a job.

    Lines are sent as they are, one part's after the other's. Those of gzip are decompressed: BigQuery does not say
    whether it reads a file of several members to its end, and a load that took a part of the rows cannot be undone.

    Raises:
        SinkError: as `blocks`.
    """
    for part in parts:
        yield from text(format, blocks(part))
