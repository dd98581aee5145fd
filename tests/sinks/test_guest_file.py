"""Reading leaves the page cache as it was found: looked at with mincore(2)."""

import ctypes
import mmap
import os
import random

import pytest

from sinks.page_cache.guest import DROP_BYTES, READ_BYTES, open_guest

PAGES = 5000  # 20 MiB
PAGE = 4096


@pytest.fixture
def file(on_disk):
    """A file on a disk, none of it cached."""
    path = on_disk / "data"
    path.write_bytes(random.Random(1).randbytes(PAGES * PAGE + 17))
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return path


def cached(path):
    """Return the set of pages of `path` that are in the page cache."""
    size = path.stat().st_size
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapping:
        held = (ctypes.c_char * size).from_buffer(mapping)
        states = (ctypes.c_ubyte * -(-size // PAGE))()
        result = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(held)), ctypes.c_size_t(size), states
        )
        del held
        assert result == 0, os.strerror(ctypes.get_errno())
        return {page for page, state in enumerate(states) if state & 1}


def test_what_reading_brought_in_is_dropped_behind_the_cursor(file):
    most = 0
    with open_guest(file) as guest:
        while guest.read(100_000):
            most = max(most, len(cached(file)))
    assert 0 < most * PAGE <= 2 * DROP_BYTES
    assert len(cached(file)) <= 1


def lost_and_left(file):
    """Read the file, of which some is cached; return how many bytes are not any more, and how many now are."""
    with file.open("rb") as other:
        os.posix_fadvise(other.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(other.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for page in range(1000, 2000):
            os.pread(other.fileno(), PAGE, page * PAGE)
    before = cached(file)
    with open_guest(file) as guest:
        while guest.read(100_000):
            pass
    after = cached(file)
    return len(before - after) * PAGE, len(after - before) * PAGE


def test_what_was_cached_before_stays(file):
    # Once of three times: others lock pages now and then, and another test drops the whole machine's caches.
    found = [lost_and_left(file) for _ in range(3)]
    assert min(max(pair) for pair in found) <= READ_BYTES, f"more than at the edge of a read: {found}"


def test_the_bytes_are_those_of_the_file_from_any_offset(file):
    data = file.read_bytes()
    with open_guest(file) as guest:
        assert guest.read() == data
    for offset in (1, PAGE - 1, 3_000_001, len(data) - 1, len(data), len(data) + 5):
        with open_guest(file) as guest:
            guest.seek(offset)
            assert guest.read() == data[offset:]


def test_a_file_system_that_cannot_tell_is_read_as_usual():
    with open_guest("/proc/self/status") as guest:
        assert guest.read().startswith(b"Name:")
