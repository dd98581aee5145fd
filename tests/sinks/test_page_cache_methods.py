"""Every method gives the same bytes, and when it does not work the next one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinks import SinkError, page_cache
from sinks.page_cache import POLICIES, choose, open_for_writing
from tests import disks

MIB = 1 << 20
WINDOW = MIB  # what a limit of 16 MiB gives
LIMIT = 16 * MIB

SIZES = st.one_of(
    st.integers(0, 5000),
    st.sampled_from([4095, 4096, 4097, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 1]),
    st.integers(200_000, 700_000),
)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(SIZES, max_size=12), position=st.sampled_from([0, 1, 4095, 4096, 100_003]))
def test_writes_of_any_size_give_the_same_bytes(
    tmp_path: Path, policy: page_cache.Policy, sizes: list[int], position: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (position + 9000))
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    with open_for_writing(path, position, policy=policy, memory=LIMIT) as file:
        for piece in pieces:
            file.write(piece)
    assert path.read_bytes() == b"x" * position + b"".join(pieces)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_file_may_be_larger_than_4_gib(tmp_path: Path, policy: page_cache.Policy) -> None:
    position, data = 4 * 1024 * MIB - 2 * MIB - 5, os.urandom(4 * MIB)
    with open_for_writing(tmp_path / "file", position, policy=policy, memory=LIMIT) as file:
        for start in range(0, len(data), 300_000):
            file.write(data[start : start + 300_000])
    with page_cache.open_for_reading(tmp_path / "file", position) as reader:
        assert reader.read() == data


@pytest.mark.parametrize("policy", POLICIES)
def test_writing_goes_on_after_a_sync(tmp_path: Path, policy: page_cache.Policy) -> None:
    with open_for_writing(tmp_path / "file", policy=policy, memory=LIMIT) as file:
        for _ in range(5):
            file.write(b"a" * 1_500_001)
            file.sync()
            file.write(b"b")
    assert (tmp_path / "file").read_bytes() == (b"a" * 1_500_001 + b"b") * 5


def test_a_descriptor_is_left_as_it_was_found(on_disk: Path) -> None:
    import fcntl

    opened = page_cache.writer.OpenFile.create(on_disk / "file")
    before = fcntl.fcntl(opened.descriptor, fcntl.F_GETFL)
    file = open_for_writing(opened, policy="direct")
    file.write(bytes(3 * MIB))
    assert fcntl.fcntl(opened.descriptor, fcntl.F_GETFL) & os.O_DIRECT
    file.abandon()
    assert fcntl.fcntl(opened.descriptor, fcntl.F_GETFL) == before


# ---------------------------------------------------------------------- forced fallbacks


def cached(path: Path) -> int:
    """Return how many bytes of a file are in the page cache."""
    with path.open("rb") as file:
        return page_cache.kernel.resident(file.fileno(), 0, path.stat().st_size) or 0


SCRIPT = """
import hashlib, json, os, sys
from sinks.page_cache import open_for_writing
path, policy, pieces = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = hashlib.shake_128(b"seed").digest(300_007)
with open_for_writing(path, 5, policy=policy, memory=16 << 20) as file:
    for _ in range(pieces):
        file.write(data)
    file.flush()
    print(json.dumps([file.hygiene.method, file.hygiene.reason, file.hygiene.peak]))
"""


def under_strace(path: Path, policy: str, *inject: str, pieces: int = 20) -> tuple[str, str, int]:
    """Write in a process whose system calls go wrong, check the bytes; return the method, its reason, the peak."""
    only = [word for rule in inject for word in ("-e", f"inject={rule}")]
    traced = ",".join(rule.partition(":")[0] for rule in inject)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={traced}", *only]
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT, path, policy, str(pieces)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = hashlib.shake_128(b"seed").digest(300_007)
    assert path.read_bytes() == bytes(5) + data * pieces
    method, reason, peak = json.loads(done.stdout)
    return method, reason, peak


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("policy", "inject", "method", "because"),
    [
        ("uncached", ["pwritev2:error=EOPNOTSUPP"], "write_behind", "RWF_DONTCACHE is not supported"),
        ("uncached", ["pwritev2:error=EOPNOTSUPP:when=3+"], "write_behind", "RWF_DONTCACHE is not supported"),
        ("write_behind", ["sync_file_range:error=ENOSYS"], "fdatasync", "sync_file_range is not supported"),
        ("write_behind", ["sync_file_range:error=ESPIPE:when=4+"], "fdatasync", "sync_file_range is not"),
        ("fdatasync", ["fdatasync:error=EINVAL"], "direct", "fdatasync is not supported"),
        (
            "write_behind",
            ["sync_file_range:retval=0", "fadvise64:retval=0"],
            "direct",
            "write_behind: it had no effect",
        ),
        (
            "fdatasync",
            ["fdatasync:retval=0", "fadvise64:retval=0"],
            "direct",
            "fdatasync: it had no effect",
        ),
        ("write_behind", ["fadvise64:error=EPERM"], "keep", "fadvise is not supported"),
    ],
)
def test_what_does_not_work_is_left_for_the_next_method(
    on_disk: Path, policy: str, inject: list[str], method: str, because: str
) -> None:
    found, reason, _ = under_strace(on_disk / "file", policy, *inject)
    assert found == method
    assert because in reason


@pytest.mark.usefixtures("strace")
def test_a_call_that_only_says_that_it_works_is_left_or_does_no_harm(on_disk: Path) -> None:
    # To drop dirty pages begins their writeback: with luck they go, and then the method is as good as any.
    found, reason, peak = under_strace(
        on_disk / "file", "write_behind", "sync_file_range:retval=0", pieces=200
    )
    assert found == "write_behind" or "write_behind: it had no effect: " in reason
    assert peak <= 16 * WINDOW


@pytest.mark.usefixtures("strace")
def test_where_direct_io_is_refused_the_window_is_kept_otherwise(on_disk: Path) -> None:
    path = on_disk / "file"
    # The flags are set with fcntl, which is used for other files too: only this one's are refused.
    found, reason, _ = under_strace(path, "direct", "pwrite64:error=EINVAL:when=2")
    assert found == "write_behind"
    assert "O_DIRECT is not supported" in reason


@disks.needs_root
@pytest.mark.parametrize(
    ("kind", "policy", "works"),
    [
        ("ext4", "auto", ["write_behind"]),
        ("xfs", "auto", ["write_behind"]),
        ("overlayfs", "auto", ["fdatasync"]),
        ("overlayfs", "write_behind", ["fdatasync", "direct"]),
        ("overlayfs", "uncached", ["fdatasync", "direct"]),
        ("volatile", "auto", ["direct"]),
        ("volatile", "write_behind", ["direct"]),
        ("tmpfs", "auto", ["keep"]),
        ("tmpfs", "direct", ["keep"]),
    ],
)
def test_each_file_system_gets_what_works_there(
    on_disk: Path, kind: str, policy: page_cache.Policy, works: list[str]
) -> None:
    data, most = os.urandom(MIB), 0
    with disks.disk(on_disk, kind) as place:
        if policy == "auto":
            assert choose(place).methods[0] == works[0]
        with open_for_writing(place / "file", policy=policy) as file:
            # On a busy machine, or where others sync, pages go without the method's doing, and it is kept until
            # a look finds that they do not: either it was left, or the cache is small all the same.
            for number in range(256):
                file.write(data)
                most = max(most, cached(place / "file"))
                if number > 64 and file.hygiene.method in works:
                    break
            file.flush()
            if works == ["keep"]:
                assert (file.hygiene.method, file.hygiene.peak) == ("keep", 0)
            else:
                windows = 4 if policy == "auto" else page_cache.writer.LOOKS_EVERY + 4
                assert most <= windows * file.hygiene.window, file.hygiene
                assert file.hygiene.peak <= 32 * MIB
        assert (place / "file").read_bytes() == data * (number + 1)


@disks.needs_root
def test_the_choice_is_told_before_the_first_byte(on_disk: Path) -> None:
    with disks.disk(on_disk, "overlayfs") as place:
        choice = choose(place / "not" / "yet" / "there")
        assert choice.file_system == "overlayfs"
        assert choice.methods[0] == "fdatasync"
        assert choose(place, "direct").reason == "asked for"
    with disks.disk(on_disk, "tmpfs") as place:
        assert choose(place).memory
    with pytest.raises(ValueError, match="it must be one of auto, write_behind"):
        choose(on_disk, "drop")  # type: ignore[arg-type]


# ---------------------------------------------------------------------- errors

ERRORS = """
import sys
from sinks.page_cache import open_for_writing
path, policy = sys.argv[1:]
file = open_for_writing(path, policy=policy, memory=16 << 20)
data = bytes(300_007)
def attempt(action):
    try:
        action()
    except Exception as error:
        print(type(error).__name__, "again" if "an earlier" in str(error) else "")
        return True
failed = [True for _ in range(20) if attempt(lambda: file.write(data))]
attempt(file.sync)
attempt(file.sync)
file.abandon()
with open_for_writing(path + ".next", policy="keep") as other:
    other.write(data)
"""


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(("error", "kind"), [("EIO", "SinkError"), ("ENOSPC", "SinkFull")])
@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        ("write_behind", {"pwrite64": 20, "sync_file_range": 8, "fsync": 1}),
        ("fdatasync", {"pwrite64": 20, "fdatasync": 5, "fsync": 1}),
        ("direct", {"pwrite64": 6, "fsync": 1}),
        ("uncached", {"pwritev2": 20, "sync_file_range": 8, "fsync": 1}),
    ],
)
def test_an_error_at_any_call_fails_this_file_for_good_and_no_other(
    on_disk: Path, policy: str, calls: dict[str, int], error: str, kind: str
) -> None:
    for name, count in calls.items():
        for n in {1, 2, count // 2 + 1, count} if count > 2 else range(1, count + 1):
            path = on_disk / f"{name}-{n}"
            rule = f"inject={name}:error={error}:when={n}"
            command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", rule]
            done = subprocess.run(
                [*command, sys.executable, "-c", ERRORS, path, policy],
                capture_output=True,
                text=True,
                check=True,
            )
            first, *rest = done.stdout.splitlines()
            assert first.strip() == kind, (name, n)
            assert rest, "the second sync must not say that all is well"
            assert {line.strip() for line in rest} == {"SinkError again"}, (name, n)


@disks.needs_root
@pytest.mark.parametrize("policy", ["auto", "fdatasync", "direct", "uncached", "keep"])
def test_a_full_disk_is_a_full_sink(tmp_path: Path, policy: page_cache.Policy) -> None:
    disks.make_image(tmp_path / "image", "ext4", 8 * MIB, "-m", "0", "-O", "^has_journal")
    with disks.mounted(tmp_path / "small", "ext4", "loop", source=tmp_path / "image") as place:
        file = open_for_writing(place / "file", policy=policy, memory=LIMIT)
        with pytest.raises(SinkError, match="No space left"):  # noqa: PT012
            for _ in range(20):
                file.write(bytes(MIB))
            file.sync()
        with pytest.raises(SinkError, match="an earlier write or sync"):
            file.sync()
        file.abandon()


@disks.needs_root
@pytest.mark.parametrize("policy", ["auto", "fdatasync", "direct", "uncached", "keep"])
def test_a_store_that_gives_out_behind_the_file_system_is_told_once_and_remembered(
    tmp_path: Path, policy: page_cache.Policy
) -> None:
    # A disk of 64 MiB that was promised on 12: writes succeed, their writeback fails.
    with disks.mounted(tmp_path / "thin", "tmpfs", "size=12m") as thin:
        disks.make_image(thin / "image", "ext4", 64 * MIB, "-O", "^has_journal")
        with disks.mounted(tmp_path / "disk", "ext4", "loop", source=thin / "image") as place:
            file = open_for_writing(place / "file", policy=policy, memory=LIMIT)
            with pytest.raises(SinkError):  # noqa: PT012
                for _ in range(30):
                    file.write(os.urandom(MIB))
                file.sync()
            with pytest.raises(SinkError, match="an earlier write or sync"):
                file.sync()
            file.abandon()


def test_a_system_without_these_calls_writes_plainly_and_says_so(tmp_path: Path) -> None:
    script = """
import io, os, sys
sys.platform = "darwin"
for name in ("posix_fadvise", "pwritev", "preadv", "fdatasync", "O_DIRECT", "sched_getaffinity", "RWF_NOWAIT"):
    if hasattr(os, name):
        delattr(os, name)
from sinks.page_cache import open_for_reading, open_for_writing, open_guest
with open_for_writing(sys.argv[1], policy="direct") as file:
    for _ in range(40):
        file.write(bytes(1_000_003))
    print(file.hygiene.reason)
with open_for_reading(sys.argv[1]) as reader, open_guest(sys.argv[1]) as guest:
    assert reader.read() == guest.read() == bytes(40 * 1_000_003)
    reader.seek(0)
    assert io.BufferedReader(reader).read(10) == bytes(10)
"""
    done: Any = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "file"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "darwin has no calls that keep the page cache small: plain writes\n"
