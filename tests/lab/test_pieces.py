"""The pieces of the experiment: the stream, the strategies by name, the check of what they wrote, the samples."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.lab.report import Outcome, Report, table
from etl.lab.sampling import Sample, disk_bytes, thin
from etl.lab.strategies import Strategy, all_strategies, select
from etl.lab.stream import Stream
from etl.lab.verification import verify

MIB = 2**20
SMALL = Stream(lines=5_500, line_bytes=64, part_bytes=100_000)


@given(st.integers(1, 3_000), st.integers(40, 100), st.integers(65_536, 200_000))
def test_batches_and_blocks_are_the_same_bytes(lines: int, line_bytes: int, part_bytes: int) -> None:
    stream = Stream(lines=lines, line_bytes=line_bytes, part_bytes=part_bytes)
    batches = [b"".join(b"".join(batch) for batch in stream.batches(part)) for part in range(stream.parts)]
    assert batches == [b"".join(stream.blocks(part)) for part in range(stream.parts)]
    assert len(b"".join(batches)) == stream.length


def test_every_line_has_the_length_that_was_asked_for() -> None:
    lines = b"".join(b"".join(SMALL.blocks(part)) for part in range(SMALL.parts)).splitlines(keepends=True)
    assert {len(line) for line in lines} == {64}
    assert len(lines) == 5_500


def test_a_part_is_no_larger_than_was_asked_for() -> None:
    sizes = [sum(map(len, SMALL.blocks(part))) for part in range(SMALL.parts)]
    assert max(sizes) <= 100_000
    assert len(sizes) == 4


def test_a_sink_s_name_means_all_that_it_is_run_as() -> None:
    names = [strategy.name for strategy in select(["reused_file"])]
    assert names == ["reused_file (keep)", "reused_file (drop)", "reused_file (transit)"]


def test_a_pattern_chooses_several_strategies_each_once() -> None:
    names = [strategy.name for strategy in select(["naive_*", "naive_big_file"])]
    assert names == ["naive_big_file", "naive_numbered_files", "naive_reused_file"]


def test_the_caches_of_the_machine_are_dropped_only_when_it_is_asked_for_by_its_full_name() -> None:
    assert not any(strategy.drops_caches for strategy in select([]) + select(["*"]))
    assert len(select([])) == len(all_strategies()) - 1
    assert [strategy.drops_caches for strategy in select(["naive_drop_caches"])] == [True]


@pytest.mark.parametrize("strategy", all_strategies(), ids=lambda strategy: strategy.name)
def test_what_a_strategy_writes_is_the_stream(strategy: Strategy, tmp_path: Path) -> None:
    told: list[int] = []
    strategy.write(SMALL, tmp_path, told.append)
    assert verify(SMALL, strategy, tmp_path, sum(told)) == (SMALL.length if strategy.keeps else None, "")


class TestWrongFiles:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        [strategy] = select(["naive_numbered_files"])
        strategy.write(SMALL, tmp_path, lambda _: None)
        return sorted(tmp_path.iterdir())

    def said(self, files: list[Path]) -> str:
        [strategy] = select(["naive_numbered_files"])
        return verify(SMALL, strategy, files[0].parent, SMALL.length)[1]

    def test_a_byte_that_was_changed_is_found(self, files: list[Path]) -> None:
        data = bytearray(files[1].read_bytes())
        data[1000] ^= 1
        files[1].write_bytes(data)
        assert self.said(files) == "its files do not hold what it was to write"

    def test_a_file_that_is_missing_is_found(self, files: list[Path]) -> None:
        files[-1].unlink()
        assert "bytes, not 352,000" in self.said(files)

    def test_bytes_that_were_not_told_of_are_found(self, files: list[Path]) -> None:
        [strategy] = select(["naive_numbered_files"])
        assert verify(SMALL, strategy, files[0].parent, 1)[1] == "it wrote 1 bytes, not 352,000"


def sample(number: int, cache: int) -> Sample:
    return Sample(
        seconds=number / 50, written_bytes=number, page_cache_bytes=cache, working_set_bytes=0,
        dirty_bytes=0, anonymous_bytes=0,
    )  # fmt: skip


@given(st.lists(st.integers(0, 1000), max_size=200), st.integers(1, 30))
def test_thinned_samples_are_few_in_order_and_keep_the_peak(caches: list[int], points: int) -> None:
    samples = [sample(number, cache) for number, cache in enumerate(caches)]
    thinned = thin(samples, points)
    assert len(thinned) <= points
    assert thinned == sorted(thinned, key=lambda kept: kept.seconds)
    assert max((kept.page_cache_bytes for kept in thinned), default=0) == max(caches, default=0)


def test_the_disk_used_is_what_files_take_not_how_long_they_are(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MIB)
    assert disk_bytes(tmp_path) < MIB
    (tmp_path / "full").write_bytes(bytes(MIB))
    assert disk_bytes(tmp_path) >= MIB


def report(*outcomes: Outcome) -> Report:
    return Report(
        lines=1, line_bytes=100, stream_bytes=100, part_bytes=MIB, limit_bytes=None, measured_in="nothing",
        kernel="Linux", file_system=None, python="3", outcomes=list(outcomes),
    )  # fmt: skip


def test_reasons_stand_below_the_table_each_once_and_do_not_widen_it() -> None:
    reason = "it is on tmpfs, which is memory. " * 8
    names = ("big_file (keep)", "big_file (drop)")
    failed = [Outcome(strategy=name, kind="keep", status="failed", reason=reason) for name in names]
    done = Outcome(strategy="dev_null", kind="control", status="done", method="none")
    *rows, empty, below = table(report(*failed, done)).splitlines()
    assert (len(rows), empty) == (5, "")
    assert max(map(len, rows)) < 110
    assert [row.split()[-1] for row in rows[2:]] == ["failed", "failed", "none"]
    assert below == f"big_file (keep), big_file (drop): failed: {reason}"


def test_a_table_in_which_all_is_done_ends_with_its_last_row() -> None:
    done = Outcome(strategy="dev_null", kind="control", status="done", method="none")
    assert table(report(done)).splitlines()[-1].startswith("dev_null")


def test_a_directory_that_is_gone_takes_nothing(tmp_path: Path) -> None:
    assert disk_bytes(tmp_path / "gone") == 0
