"""The conformance suite of sinks: inherit it in a test file, say how to make the sink, and run pytest.

    class TestMySink(SinkSuite):
        def make_sink(self, directory: Path) -> Sink:
            return MySink(directory / "job.ndjson")

Every promise of `sinks.base` is a test. The hardest ones kill a writing process at each of its system calls in
turn (with strace; skipped where there is none) and compare what `recover` makes of it, byte by byte. Those
carry the marker `slow`, which your pytest configuration must know.
"""

# ruff: noqa: D102  # a test's name is its sentence

from __future__ import annotations

import os
import pickle
import signal
import subprocess
from pathlib import Path

import pytest

from etl.testing.sink_harness import SinkHarness
from etl.testing.sink_runs import Ledger, content
from sinks import checksum
from sinks.base import Sink
from sinks.errors import PartLost, SinkError, SinkOccupied

__all__ = ["SinkSuite"]


class SinkSuite(SinkHarness):
    """The tests. What to override is in `SinkHarness`: `make_sink`, and for remote sinks a little more."""

    # --- one part ---

    def test_it_is_a_sink(self, sink: Sink) -> None:
        assert isinstance(sink, Sink)
        assert sink.slots is None or sink.slots >= 1

    def test_a_part_reads_back_as_it_was_written(self, sink: Sink, directory: Path) -> None:
        with sink.open_part(1) as part:
            part.write(content(1)[:100])
            assert part.bytes == 100
            part.write(content(1)[100:])
        assert part.sealed is not None
        assert part.bytes == part.sealed.bytes == len(content(1))
        assert part.sealed.sequence == 1
        assert part.sealed.crc32c == checksum.extend(0, content(1))
        self.assert_stored(directory, [part.sealed])

    def test_an_empty_part_is_a_part(self, sink: Sink) -> None:
        sealed = self.write(sink, 1, b"")
        assert (sealed.bytes, sealed.crc32c) == (0, 0)
        assert not self.keeps_bytes or self.read(sealed) == b""
        sink.recover([sealed], sealed)

    @pytest.mark.parametrize("sizes", [[1] * 5000, [180] * 5000, [3 << 20], [7, (1 << 20) + 1, 7]])
    def test_writes_of_any_size_come_out_in_order(self, sink: Sink, sizes: list[int]) -> None:
        pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
        with sink.open_part(1) as part:
            for piece in pieces:
                part.write(piece)
        data = b"".join(pieces)
        assert part.sealed is not None
        assert (part.sealed.bytes, part.sealed.crc32c) == (len(data), checksum.extend(0, data))
        assert not self.keeps_bytes or self.read(part.sealed) == data

    @pytest.mark.parametrize("size", [100, 1 << 20])
    def test_a_buffer_may_be_used_again_after_write(self, sink: Sink, size: int) -> None:
        buffer = bytearray(b"a" * size)
        with sink.open_part(1) as part:
            part.write(buffer)
            buffer[:] = b"b" * size
            part.write(memoryview(buffer))
            buffer.clear()
        assert part.sealed is not None
        assert part.sealed.crc32c == checksum.extend(0, b"a" * size + b"b" * size)
        assert not self.keeps_bytes or self.read(part.sealed) == b"a" * size + b"b" * size

    def test_a_view_counts_by_its_bytes(self, sink: Sink) -> None:
        with sink.open_part(1) as part:
            part.write(memoryview(b"abcdefgh").cast("I"))
            part.write(memoryview(b"a-b-c-")[::2])
        assert part.sealed is not None
        assert part.sealed.crc32c == checksum.extend(0, b"abcdefghabc")
        assert part.sealed.bytes == 11

    # --- the end of a part ---

    def test_an_aborted_part_leaves_no_trace(self, sink: Sink, directory: Path) -> None:
        part = sink.open_part(1)
        part.write(bytes(1 << 20))
        part.abort()
        part.abort()
        assert part.sealed is None
        sink.close()
        assert self.stored(directory) == {}

    def test_an_aborted_part_leaves_those_before_it_alone(self, sink: Sink, directory: Path) -> None:
        parts = self.write_all(sink)
        if len(parts) == sink.slots:
            sink.release(parts.pop(0))
        part = sink.open_part(9)
        part.write(bytes(1 << 20))
        part.abort()
        sink.close()
        self.assert_stored(directory, parts)

    def test_an_exception_aborts_the_part(self, sink: Sink, directory: Path) -> None:
        with pytest.raises(ZeroDivisionError), sink.open_part(1) as part:  # noqa: PT012
            part.write(b"half a record")
            raise ZeroDivisionError
        assert part.sealed is None
        sink.close()
        assert self.stored(directory) == {}

    def test_a_part_may_be_aborted_inside_of_with(self, sink: Sink, directory: Path) -> None:
        with sink.open_part(1) as part:
            part.write(b"half a record")
            part.abort()
        sink.close()
        assert self.stored(directory) == {}

    def test_an_aborted_part_may_be_written_anew(self, sink: Sink, directory: Path) -> None:
        part = sink.open_part(1)
        part.write(b"too much for the disk")
        part.abort()
        self.assert_stored(directory, [self.write(sink, 1)])

    def test_a_sealed_part_is_done(self, sink: Sink, directory: Path) -> None:
        part = sink.open_part(1)
        part.write(content(1))
        sealed = part.seal()
        part.abort()
        assert part.seal() == part.sealed == sealed
        with pytest.raises(RuntimeError, match="sealed"):
            part.write(b"more")
        self.assert_stored(directory, [sealed])

    # --- several parts ---

    def test_numbers_may_have_gaps_but_not_go_back(self, sink: Sink) -> None:
        first = self.write(sink, 3)
        sink.release(first)
        second = self.write(sink, 1_000_007, content(7))
        assert not self.keeps_bytes or self.read(second) == content(7)
        sink.release(second)
        with pytest.raises(ValueError, match="order"):
            sink.open_part(1_000_007)

    def test_one_part_is_open_at_a_time(self, sink: Sink) -> None:
        sink.open_part(1)
        with pytest.raises(RuntimeError, match="still open"):
            sink.open_part(2)

    def test_no_more_parts_wait_than_there_are_slots(self, sink: Sink, directory: Path) -> None:
        parts = [self.write(sink, sequence) for sequence in range(1, 1 + (sink.slots or 5))]
        self.assert_stored(directory, parts)
        if sink.slots is not None:
            with pytest.raises(RuntimeError, match="slots"):
                sink.open_part(9)
            sink.release(parts.pop(0))
            self.assert_stored_and_released(directory, [*parts, self.write(sink, 9)])

    def test_a_release_frees_the_space_unless_parts_last(self, sink: Sink, directory: Path) -> None:
        parts = self.write_all(sink)
        sink.release(parts[0])
        sink.release(parts[0])
        self.assert_stored_and_released(directory, parts if sink.lasting else parts[1:])

    def test_a_late_release_does_not_touch_the_part_after(self, sink: Sink, directory: Path) -> None:
        first = self.write(sink, 1)
        sink.release(first)
        second = self.write(sink, 2)
        sink.release(first)
        self.assert_stored_and_released(directory, [first, second] if sink.lasting else [second])

    def test_closing_keeps_what_is_sealed_and_aborts_what_is_open(self, sink: Sink, directory: Path) -> None:
        sealed = self.write(sink, 1)
        if sink.slots is None or sink.slots > 1:
            sink.open_part(2).write(bytes(1 << 20))
        sink.close()
        sink.close()
        self.assert_stored(directory, [sealed])

    def test_closing_leaves_nothing_of_what_was_released(self, sink: Sink, directory: Path) -> None:
        sealed = self.write(sink, 1)
        sink.release(sealed)
        sink.close()
        self.assert_stored(directory, [sealed] if sink.lasting else [])

    def test_an_unused_sink_survives_pickling(self, sink: Sink, directory: Path) -> None:
        copy = pickle.loads(pickle.dumps(sink))  # noqa: S301  # our own
        assert (copy.slots, copy.lasting) == (sink.slots, sink.lasting)
        self.assert_stored(directory, [self.write(copy, 1)])
        copy.close()

    # --- what was there before ---

    def test_an_empty_place_is_not_occupied(self, sink: Sink, directory: Path) -> None:
        assert sink.occupied_by() is None
        assert self.make_sink(directory / "not" / "yet").occupied_by() is None
        assert self.stored(directory) == {}

    def test_what_another_job_wrote_is_found_and_left_alone(self, sink: Sink, directory: Path) -> None:
        if not self.keeps_bytes:
            pytest.skip("nothing is kept that could be found")
        theirs = self.write(sink, 1)
        sink.close()
        ours = self.make_sink(directory)
        assert ours.occupied_by() is not None
        if self.is_local:
            with pytest.raises(SinkOccupied), ours.open_part(1) as part:
                part.write(b"ours")
            ours.close()
            self.assert_stored(directory, [theirs])
        else:  # it never takes a name that was taken: what it writes stands beside theirs
            beside = self.write(ours, 1)
            ours.close()
            self.assert_stored(directory, [theirs, beside])

    def test_a_place_that_cannot_be_made_is_a_sink_error(self, tmp_path: Path) -> None:
        if not self.is_local:
            pytest.skip("it writes to no local path")
        (tmp_path / "file").write_bytes(b"")
        sink = self.make_sink(tmp_path / "file")
        with pytest.raises(SinkError, match="file"):
            sink.open_part(1)
        sink.close()

    # --- coming back ---

    def test_recovering_keeps_the_sealed_parts_and_goes_on(self, sink: Sink, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path / "ledger")
        for part in self.write_all(sink):
            ledger.commit(part)
        sink.close()
        self.assert_recovers(tmp_path / "out", ledger)

    def test_recovering_may_be_repeated(self, sink: Sink, directory: Path) -> None:
        parts = self.write_all(sink)
        for _ in range(2):
            sink.recover(parts, parts[-1])
        sink.close()
        for _ in range(2):
            again = self.make_sink(directory)
            again.recover(parts, parts[-1])
            again.recover(parts, parts[-1])
            again.close()
        self.assert_stored(directory, parts)

    def test_recovering_drops_the_parts_after_the_last(self, sink: Sink, directory: Path) -> None:
        parts = self.write_all(sink)
        sink.close()
        sink = self.make_sink(directory)
        sink.recover(parts[:-1], parts[-2] if parts[:-1] else None)
        sink.close()
        self.assert_stored(directory, parts[:-1])

    def test_recovering_without_a_last_part_clears_everything(self, sink: Sink, directory: Path) -> None:
        self.write_all(sink)
        sink.close()
        sink = self.make_sink(directory)
        sink.recover([], None)
        assert sink.occupied_by() is None
        sink.close()
        assert self.stored(directory) == {}

    def test_recovering_where_nothing_is_left_starts_anew(self, sink: Sink, directory: Path) -> None:
        sealed = self.write(sink, 1)
        sink.release(sealed)
        sink.close()
        self.clear(directory)
        for _ in range(2):  # the second time after a part that was not committed
            sink = self.make_sink(directory)
            sink.recover([], sealed)
            second = self.write(sink, 2)
            sink.close()
        sink = self.make_sink(directory)
        sink.recover([second], second)
        sink.release(second)
        sink.close()
        self.assert_stored(directory, [second] if sink.lasting else [])

    def test_released_parts_stay_released(self, sink: Sink, directory: Path) -> None:
        parts = self.write_all(sink)
        sink.release(parts[0])
        sink.close()
        sink = self.make_sink(directory)
        sink.recover(parts[1:], parts[-1])
        sink.close()
        self.assert_stored(directory, parts if sink.lasting else parts[1:])

    def test_recovering_makes_up_for_a_release_that_was_missed(self, sink: Sink, directory: Path) -> None:
        parts = self.write_all(sink)
        sink.close()
        sink = self.make_sink(directory)
        sink.recover(parts[1:], parts[-1])
        sink.close()
        self.assert_stored(directory, parts if sink.lasting else parts[1:])

    def test_recovering_leaves_what_is_not_its_own(self, sink: Sink, directory: Path) -> None:
        self.put_notes(directory)
        self.write_all(sink)
        sink.close()
        sink = self.make_sink(directory)
        sink.recover([], None)
        sink.close()
        assert self.has_notes(directory)

    @pytest.mark.parametrize("harm", ["cut", "damage", "remove"])
    def test_a_part_that_was_harmed_is_lost(self, sink: Sink, directory: Path, harm: str) -> None:
        if not self.keeps_bytes:
            pytest.skip("no part can be lost where none is kept")
        parts = self.write_all(sink)
        sink.close()
        getattr(self, harm)(parts[-1])
        before = self.stored(directory)
        sink = self.make_sink(directory)
        with pytest.raises(PartLost):
            sink.recover(parts, parts[-1])
        sink.close()
        assert self.stored(directory) == before

    # --- dying ---

    def test_a_killed_writer_loses_its_open_part_alone(self, directory: Path, tmp_path: Path) -> None:
        ledger = tmp_path / "ledger"
        assert self.run("die", directory, ledger).returncode == -signal.SIGKILL
        assert len(Ledger(ledger).parts) == 3
        self.assert_recovers(directory, Ledger(ledger))

    @pytest.mark.slow
    def test_a_kill_at_any_system_call_loses_nothing(self, tmp_path: Path) -> None:
        for directory, ledger in self.at_every_call("write", "signal=SIGKILL", tmp_path):
            self.assert_recovers(directory, ledger)

    @pytest.mark.slow
    def test_a_kill_at_any_system_call_of_recover_loses_nothing(self, tmp_path: Path) -> None:
        for directory, ledger in self.at_every_call("recover", "signal=SIGKILL", tmp_path):
            assert len(ledger.parts) == 3
            self.assert_recovers(directory, ledger)

    @pytest.mark.slow
    def test_a_failure_of_any_system_call_is_a_sink_error_and_loses_nothing(self, tmp_path: Path) -> None:
        for directory, ledger in self.at_every_call("write", "error=EIO", tmp_path):
            self.assert_recovers(directory, ledger)

    def test_a_full_disk_is_named_and_the_abort_makes_room(self, tmp_path: Path) -> None:
        if not self.is_local:
            pytest.skip("it writes to no local disk")
        # The mount is in a namespace of its own: it goes with the process, however that ends.
        small = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"']
        if os.getuid() or subprocess.run([*small, tmp_path, "true"], capture_output=True).returncode:  # noqa: S603
            pytest.skip("mounting a small disk takes root and unshare")
        done = self.run("fill", tmp_path / "small", tmp_path / "ledger", *small, str(tmp_path / "small"))
        assert done.returncode == 0, done.stderr
        assert "bytes are free in" in done.stdout
