"""The running CRC-32C of what is written, over any kind of bytes."""

from __future__ import annotations

from sinks.base import Data

# Copied at a time for the checksum: fits a second-level cache, where the copy is all but free.
BLOCK = 256 * 1024


def flat(data: Data) -> Data:
    """Return `data` so that its length is its number of bytes; copies only a view that has gaps."""
    if isinstance(data, memoryview) and not (data.contiguous and data.ndim == 1 and data.itemsize == 1):
        return data.cast("B") if data.c_contiguous else data.tobytes()
    return data


def extend(crc: int, data: Data) -> int:
    """Return the CRC-32C of what gave `crc`, followed by `data`.

    google_crc32c takes `bytes` alone; anything else is copied in blocks, so that memory stays flat.

    Args:
        crc: the CRC-32C so far; 0: of nothing.
        data: what comes next; flat.
    """
    import google_crc32c

    if isinstance(data, bytes):
        return int(google_crc32c.extend(crc, data))
    with memoryview(data) as view:
        for start in range(0, len(view), BLOCK):
            crc = google_crc32c.extend(crc, bytes(view[start : start + BLOCK]))
    return crc
