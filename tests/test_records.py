"""Marks, positions, slices, transforms and rejects, without any file."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import SourceError, SourceStopped, TransformError
from etl.reader import Reader
from etl.records import Mark, Position, Reject, Unreadable
from etl.sources.waiting import Waiting
from etl.transforms import Stages, each


def refuse(found, number):
    raise AssertionError((found, number))


def numbers(marks_every, total):
    """A source of `total` records with a mark after every few."""

    def pull(cursor=None):
        for n in range(cursor or 0, total):
            if n and n % marks_every == 0:
                yield Mark(n)
            yield {"n": n}

    return pull


def take(reader, count):
    """One slice of `count` records."""
    reader.begin_slice()
    taken = []
    for record in reader.slice():
        taken.append(record["n"])
        if len(taken) == count:
            reader.end_slice("test")
    return taken


@given(marks_every=st.integers(1, 7), total=st.integers(0, 30), cut=st.integers(1, 31))
def test_a_position_resumes_exactly_wherever_it_was_taken(marks_every, total, cut):
    source = numbers(marks_every, total)
    reader = Reader(source, Position(), refuse)
    first = take(reader, cut)
    rest = take(Reader(source, reader.position, refuse), -1)
    assert first + rest == list(range(total))


@given(total=st.integers(0, 20), sizes=st.lists(st.integers(1, 5), min_size=25))
def test_slices_of_one_pull_follow_each_other_without_gap(total, sizes):
    reader = Reader(numbers(3, total), Position(), refuse)
    taken = []
    for size in sizes:
        taken += take(reader, size)
    assert taken == list(range(total))
    assert reader.exhausted


def test_a_source_without_marks_or_cursor_is_skipped_into():
    def pull():
        yield from ({"n": n} for n in range(5))

    reader = Reader(pull, Position(), refuse)
    take(reader, 2)
    assert reader.position == Position(cursor=None, skip=2, number=2)
    assert take(Reader(pull, reader.position, refuse), -1) == [2, 3, 4]


def test_a_source_that_lost_records_is_not_resumed():
    with pytest.raises(SourceError, match="ended 3 records before the position"):
        take(Reader(numbers(10, 2), Position(skip=5, number=5), refuse), -1)


@pytest.mark.parametrize("marks_every", [3, 100])
@pytest.mark.parametrize("after", range(12))
def test_the_way_to_a_position_can_be_left_and_begun_anew(marks_every, after):
    def pull(cursor=None):
        for count, item in enumerate(numbers(marks_every, 20)(cursor)):
            if count == after and stops:
                reader.end_slice(stops.pop())
            yield item

    stops = ["SIGTERM"]
    reader = Reader(pull, Position(cursor=None, skip=10, number=10), refuse)
    assert reader.position == Position(cursor=None, skip=10, number=10)
    reader.begin_slice()
    first = [record["n"] for record in reader.slice()]
    assert reader.position.number == 10 + len(first)
    later = Reader(numbers(marks_every, 20), reader.position, refuse)
    assert first + take(later, 100) == list(range(10, 20))
    assert first + take(reader, 100) == list(range(10, 20))


def test_what_a_source_raises_comes_with_the_record_number_and_the_position():
    def pull(cursor):
        yield Mark("page 2")
        yield {"n": 1}
        raise OSError("the line went dead")

    with pytest.raises(
        SourceError, match=r"after record 1 \(position: \"page 2\" \+ 1\): OSError: the line went dead"
    ):
        take(Reader(pull, Position(), refuse), -1)


@pytest.mark.parametrize(
    ("item", "kind"), [(1, "a number"), ("x", "a string"), ([1], "an array"), (None, "null")]
)
def test_what_is_no_object_counts_as_a_record_and_is_refused(item, kind):
    found = []
    reader = Reader(lambda: iter([{"n": 1}, item, {"n": 3}]), Position(), lambda *args: found.append(args))
    assert take(reader, -1) == [1, 3]
    assert reader.position.number == 3
    [(unreadable, number)] = found
    assert number == 2
    assert kind in unreadable.reason


def test_what_a_source_could_not_decode_is_handed_over():
    found = []
    bad = Unreadable("{", "line 2")
    take(Reader(lambda: iter([{"n": 1}, bad]), Position(), lambda *args: found.append(args)), -1)
    assert found == [(bad, 2)]


def run(transforms, records, *, on_error="fail", size=-1):
    """Run transforms over slices of `size` records; return outputs by slice, and rejects."""
    rejects = []
    reader = Reader(lambda: iter(records), Position(), refuse)

    def sliced(records):
        for count, record in enumerate(records, 1):
            if count == size:
                reader.end_slice("test")
            yield record

    stages = Stages([sliced, *transforms], on_error, lambda *args: rejects.append(args))
    slices = []
    while not reader.exhausted:
        reader.begin_slice()
        slices.append(list(stages.run(reader)))
    return slices, rejects


def test_a_transform_that_holds_records_flushes_them_when_its_slice_ends():
    def pairs(records):
        held = []
        for record in records:
            held.append(record["n"])
            if len(held) == 2:
                yield {"pair": held}
                held = []
        if held:
            yield {"pair": held}

    slices, _ = run([pairs], [{"n": n} for n in range(7)], size=3)
    assert slices == [
        [{"pair": [0, 1]}, {"pair": [2]}],
        [{"pair": [3, 4]}, {"pair": [5]}],
        [{"pair": [6]}],
    ]


def test_each_turns_a_function_into_a_transform():
    @each
    def spread(record):
        n = record["n"]
        return (
            None
            if n == 0
            else record
            if n == 1
            else [{"n": n}, {"n": -n}]
            if n == 2
            else Reject(record, "odd")
        )

    slices, rejects = run([spread], [{"n": n} for n in range(4)])
    assert slices == [[{"n": 1}, {"n": 2}, {"n": -2}]]
    assert [(record, reason) for record, reason, _ in rejects] == [({"n": 3}, "odd")]


def test_a_reject_does_not_reach_the_transforms_that_follow():
    def odd_ones_out(records):
        for record in records:
            yield Reject(record, "odd") if record["n"] % 2 else record

    def double(records):
        for record in records:
            yield {"n": record["n"] * 2}

    slices, rejects = run([odd_ones_out, double], [{"n": n} for n in range(4)])
    assert slices == [[{"n": 0}, {"n": 4}]]
    assert [record for record, _, _ in rejects] == [{"n": 1}, {"n": 3}]


def parse(records):
    for record in records:
        yield {"n": int(record["n"])}


def test_a_transform_that_raises_stops_with_record_position_and_name():
    with pytest.raises(
        TransformError, match=r"tests?.*:parse failed at record 2 \(position: .* \+ 2\): ValueError"
    ):
        run([parse], [{"n": "1"}, {"n": "x"}])


def test_with_reject_the_record_that_raised_is_a_dead_letter_and_the_rest_goes_on():
    slices, rejects = run([parse], [{"n": "1"}, {"n": "x"}, {"n": "3"}, {"n": "y"}], on_error="reject")
    assert slices == [[{"n": 1}, {"n": 3}]]
    assert [record for record, _, _ in rejects] == [{"n": "x"}, {"n": "y"}]


def test_with_reject_each_transform_rejects_what_it_was_given_itself():
    def rename(records):
        for record in records:
            yield {"n": record["raw"]}

    slices, rejects = run([rename, parse], [{"raw": "1"}, {"raw": "x"}, {"wrong": 1}], on_error="reject")
    assert slices == [[{"n": 1}]]
    assert [record for record, _, _ in rejects] == [{"n": "x"}, {"wrong": 1}]


def test_a_transform_that_ends_before_its_input_is_an_error_and_not_a_loss():
    def first_only(records):
        for record in records:
            yield record
            return

    with pytest.raises(TransformError, match="ended before its input"):
        run([first_only], [{"n": 1}, {"n": 2}])


def test_a_transform_that_yields_no_record_is_an_error():
    def names(records):
        for record in records:
            yield record["n"]

    with pytest.raises(TransformError, match="yielded a number, not a record"):
        run([names], [{"n": 1}])


def takes_one(record):
    return {"n": record["n"] + 1}


async def waits(records):
    yield {}


@pytest.mark.parametrize(
    ("transform", "what"),
    [
        (
            takes_one,
            r"takes_one \(.*test_records\.py, line \d+\) could not be called with all records \(TypeError: ",
        ),
        (lambda records: None, r"<lambda> \(.*, line \d+\) returned null"),
        (lambda record: {"n": 1}, "returned a dict"),
        (lambda record, context: record, r"could not be called with all records .*missing 1 required"),
        (waits, "returned a async_generator"),
    ],
)
@pytest.mark.parametrize("on_error", ["fail", "reject"])
def test_a_function_that_is_no_generator_over_records_is_told_what_makes_it_one(transform, what, on_error):
    with pytest.raises(TransformError, match=rf"{what}.*yields records.*etl\.each\([a-z_<>]+\)$") as raised:
        run([transform], [{"n": 1}], on_error=on_error)
    assert "on_error" not in str(raised.value)


def test_a_transform_that_failed_is_told_with_the_line_of_its_own_file():
    def parse(records):
        for record in records:
            yield {"n": int(record["n"], base=10)}

    with pytest.raises(
        TransformError, match=r"failed at record 1 .*TypeError: .* \(.*test_records\.py, line \d+\); fix"
    ):
        run([parse], [{"n": None}])


def test_a_later_transform_that_ends_early_is_noticed_also_behind_one_that_holds_everything():
    def in_order(records):
        yield from sorted(records, key=lambda record: record["n"])

    def five(records):
        for count, record in enumerate(records, 1):
            yield record
            if count == 5:
                return

    with pytest.raises(TransformError, match=r"five \(.*\) ended before its input"):
        run([in_order, five], [{"n": n} for n in range(10)])


def test_none_among_the_records_is_skipped_like_any_other():
    def pull():
        yield from [{"n": 0}, None, {"n": 2}, {"n": 3}]

    found = []
    reader = Reader(pull, Position(skip=3, number=3), lambda *args: found.append(args))
    assert take(reader, -1) == [3]


def test_a_transform_that_drains_its_input_when_it_is_closed_ends_before_the_source_is_opened_again():
    def drains(records):
        try:
            yield from records
        finally:
            list(records)

    reader = Reader(numbers(3, 10), Position(), refuse)
    outputs = Stages([drains], "fail", refuse).run(reader)
    next(outputs)
    outputs.close()
    reader.open(Position())
    assert take(reader, -1) == list(range(10))


def test_a_position_is_shown_without_what_says_nothing_to_a_person() -> None:
    cursor = {"file": "a.csv", "line": 3, "version": {"tag": "x" * 200}, "columns": ["a"]}
    assert str(Position(cursor=cursor, skip=2)) == '{"file":"a.csv","line":3} + 2'
    assert str(Position(cursor={"since": {"bound": 1}})) == '{"since":{"bound":1}}'


class Waits:
    """Waits for ever before its fourth record, unless it is told to leave."""

    def __init__(self):
        self.waiting = Waiting()
        self.patient = True

    def leave(self):
        self.waiting.leave()

    def pull(self, cursor):
        self.waiting.begin()
        for number in range(cursor or 0, 6):
            if number == 3 and self.patient:
                self.waiting.sleep(3600)
            if number % 2 == 0:
                yield Mark(number)
            yield {"number": number}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("skip", [0, 1])
def test_a_source_that_waits_is_left_at_an_exact_position(skip):
    source = Waits()
    reader = Reader(source, Position(skip=skip, number=skip), on_unreadable=lambda found, number: None)
    timer = threading.Timer(0.1, reader.leave, ["SIGTERM"])
    timer.start()
    reader.begin_slice()
    taken = [record["number"] for record in reader.slice()]
    timer.join()
    assert taken == list(range(skip, 3))
    assert (reader.ended, reader.exhausted, reader.cut) == (True, False, "SIGTERM")
    assert (reader.position.cursor, reader.position.skip, reader.position.number) == (2, 1, 3)
    source.patient = False
    reader.begin_slice()
    assert [record["number"] for record in reader.slice()] == [3, 4, 5]


@pytest.mark.timeout(300)
def test_a_source_is_left_while_it_is_on_its_way_to_the_position():
    source = Waits()
    reader = Reader(source, Position(cursor=None, skip=4, number=4), on_unreadable=lambda found, number: None)
    timer = threading.Timer(0.1, reader.leave, ["SIGTERM"])
    timer.start()
    reader.begin_slice()
    assert list(reader.slice()) == []
    timer.join()
    assert reader.position.number == 4
    source.patient = False
    reader.begin_slice()
    assert [record["number"] for record in reader.slice()] == [4, 5]


def test_a_source_that_says_it_was_stopped_without_having_been_told_is_an_error():
    def pull():
        yield {"number": 0}
        raise SourceStopped("on its own account")

    reader = Reader(pull, Position(), on_unreadable=lambda found, number: None)
    with pytest.raises(SourceStopped):
        list(reader.slice())
