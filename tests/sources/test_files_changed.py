"""A file that is another one under the same name is named, or read again; the same bytes are the same file.

Producers overwrite files in place, put others in their place, copy them to other machines, and write on in them.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from place_servers import S3, s3
from pulling import compress, last_cursor, ndjson, pull, small_blocks, taken, values, write

from etl.errors import SourceChanged, SourceError
from etl.reader import Reader
from etl.records import Mark, Position
from etl.sources import Files
from etl.sources.identity import ALL_OF

Rows = list[dict[str, Any]]


def rows(day: int, count: int) -> Rows:
    """Make rows that are as wide on each day."""
    return [{"day": f"d{day}", "n": 1000 * day + number} for number in range(count)]


def csv(records: Rows) -> bytes:
    return b"day,n\n" + b"".join(f"{row['day']},{row['n']}\n".encode() for row in records)


def parquet(records: Rows) -> bytes:
    made = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), made, row_group_size=20)
    return made.getvalue()


def zipped(records: Rows) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a.ndjson"), ndjson(records))
    return made.getvalue()


# The same bytes whenever they are made.
FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "a.ndjson": ndjson,
    "a.csv": csv,
    "a.json": lambda records: json.dumps(records).encode(),
    "a.ndjson.gz": lambda records: gzip.compress(ndjson(records), mtime=0),
    "a.ndjson.xz": lambda records: compress(ndjson(records), "xz"),
    "a.csv.zst": lambda records: compress(csv(records), "zstd"),
    "a.zip": zipped,
    "a.parquet": parquet,
}
PLAIN = ["a.ndjson", "a.csv"]
BEFORE = rows(1, 60)


def in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def by_another_file(path: Path, data: bytes) -> None:
    beside = path.with_name("beside")
    beside.write_bytes(data)
    beside.replace(path)


def with_its_time_kept(path: Path, data: bytes) -> None:
    about = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


WAYS = [in_place, by_another_file, with_its_time_kept]


def source_of(path: Path, **arguments: Any) -> Files:
    return small_blocks(Files(path, **arguments), 500)


def cursors(source: Files) -> list[Any]:
    return [json.loads(json.dumps(item.cursor)) for item in pull(source) if isinstance(item, Mark)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("after", [rows(2, 60), rows(2, 130), rows(2, 20), []], ids=len)
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_was_replaced_is_named_from_any_mark_behind_some_of_it(
    tmp_path: Path, name: str, after: Rows, way: Callable[[Path, bytes], None]
) -> None:
    source = source_of(write(tmp_path / name, FORMATS[name](BEFORE)))
    marks = cursors(source)
    way(tmp_path / name, FORMATS[name](after) if after else b"")
    if name != "a.parquet":  # its rows are found from its end, which is kept
        first = marks.pop(0)
        if after or name != "a.zip":
            assert taken(source, first) == after
    for cursor in marks:
        with pytest.raises(SourceChanged, match=rf"{name}.* is not what it was: .*on_changed"):
            taken(source, cursor)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_was_replaced_may_be_read_again_from_its_beginning(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(write(tmp_path / name, FORMATS[name](BEFORE)), on_changed="restart")
    marks = cursors(source)
    after = rows(2, 70)
    write(tmp_path / name, FORMATS[name](after))
    for cursor in marks:
        items = pull(source, cursor)
        assert values(items) == after
        # a run that was stopped after it had begun again goes on from there
        for index, item in enumerate(items):
            if isinstance(item, Mark):
                assert taken(source, json.loads(json.dumps(item.cursor))) == values(items[index:])
    assert "60 records that were read of it before stay" in caplog.text


def test_records_after_the_mark_are_not_skipped_in_a_file_that_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ndjson", ndjson(BEFORE))
    source = Files(path, on_changed="restart")
    reader = Reader(source, Position(), lambda *_: None)
    for record in reader.slice():
        if record == BEFORE[6]:
            reader.end_slice("records")
    position = reader.position
    reader.close()
    assert (position.skip, position.number) == (7, 7)
    write(path, ndjson(rows(2, 10)))
    again = Reader(source, position, lambda *_: None)
    assert list(again.slice()) == rows(2, 10)
    assert (again.position.skip, again.position.number) == (0, 17)
    again.close()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bytes_in_another_file_are_gone_on_with(tmp_path: Path, name: str, kept: bool) -> None:
    """As on another machine, to which they were copied; with their time, or without."""
    path = write(tmp_path / name, FORMATS[name](BEFORE))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    source = source_of(path)
    items = pull(source)
    by_another_file(path, FORMATS[name](BEFORE))
    if kept:
        os.utime(path, (1_700_000_000, 1_700_000_000))
    for index, item in enumerate(items):
        if isinstance(item, Mark):
            assert taken(source, item.cursor) == values(items[index:])


@pytest.mark.parametrize("way", [in_place, by_another_file])
@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_file_that_grew_gives_the_rest_and_what_is_new(
    tmp_path: Path, name: str, way: Callable[[Path, bytes], None]
) -> None:
    source = source_of(write(tmp_path / name, FORMATS[name](BEFORE)))
    items = pull(source)
    new = rows(2, 30)
    way(tmp_path / name, FORMATS[name](BEFORE + new))
    for index, item in enumerate(items):
        if isinstance(item, Mark):
            assert taken(source, item.cursor) == values(items[index:]) + new


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "a.parquet"])
def test_a_file_of_no_bytes_may_get_some(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, b"")
    source = source_of(path)
    marks = cursors(source)
    assert taken(source, marks[-1]) == []
    write(path, FORMATS[name](BEFORE))
    assert taken(source, marks[-1]) == BEFORE


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in PLAIN])
def test_growth_of_what_is_not_read_on_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, FORMATS[name](BEFORE))
    source = Files(path)
    cursor = last_cursor(source)
    write(path, FORMATS[name](BEFORE + rows(2, 1)))
    with pytest.raises(SourceChanged, match=r"is not what it was"):
        pull(source, cursor)


def tarred(records: Rows) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, part in (("a.ndjson", records[:30]), ("b.ndjson", records[30:])):
            about = tarfile.TarInfo(name)
            about.size, about.mtime = len(ndjson(part)), len(records)
            archive.addfile(about, io.BytesIO(ndjson(part)))
    return made.getvalue()


def two_zipped(records: Rows) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a.csv"), csv(records[:30]))
        archive.writestr(zipfile.ZipInfo("b.csv"), csv(records[30:]))
    return made.getvalue()


TEXTS: dict[str, Callable[[Rows], bytes]] = {
    "a.ndjson": ndjson,
    "a.csv": csv,
    "a.json": FORMATS["a.json"],
    "documents.json": lambda records: b"\n".join(json.dumps(row, indent=1).encode() for row in records),
    "a.geojsonseq": lambda records: b"".join(b"\x1e%s\n" % json.dumps(row).encode() for row in records),
    "bom.csv": lambda records: b"\xef\xbb\xbf" + csv(records),
    "utf16.csv": lambda records: csv(records).decode().encode("utf-16"),
    "a.ndjson.gz": FORMATS["a.ndjson.gz"],
    "twice.ndjson.gz": lambda records: gzip.compress(gzip.compress(ndjson(records), mtime=0), mtime=0),
    "a.csv.bz2": lambda records: compress(csv(records), "bzip2"),
    "a.csv.zst": FORMATS["a.csv.zst"],
    "utf16.csv.xz": lambda records: compress(csv(records).decode().encode("utf-16"), "xz"),
    "a.tar": tarred,
    "a.tgz": lambda records: gzip.compress(tarred(records), mtime=0),
    "a.zip": two_zipped,
}


def before(cursor: Any) -> int:
    """Say how many rows stand before a cursor."""
    return cursor.get("record", 0) + (30 if cursor.get("member", "").startswith("b") else 0)


@pytest.mark.parametrize("more", [10, 90])
@pytest.mark.parametrize("name", TEXTS)
def test_what_comes_after_the_cursor_may_be_corrected(tmp_path: Path, name: str, more: int) -> None:
    """As messages say: `fix it and run again`. It may be shorter by that, or longer."""
    path = write(tmp_path / name, TEXTS[name](BEFORE))
    source = small_blocks(Files(path), 120)
    marks = [cursor for cursor in cursors(source) if not cursor.get("done")]
    assert len(marks) > 3
    for cursor in marks:
        after = BEFORE[: before(cursor)] + rows(2, more)
        write(path, TEXTS[name](after))
        items = pull(source, cursor)
        assert values(items) == after[before(cursor) :]
        index = next(at for at in range(len(items) // 2, len(items)) if isinstance(items[at], Mark))
        assert taken(source, items[index].cursor) == values(items[index:])


@pytest.mark.parametrize("name", TEXTS)
def test_what_comes_before_the_cursor_may_not_change(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, TEXTS[name](BEFORE))
    source = small_blocks(Files(path), 120)
    marks = cursors(source)
    write(path, TEXTS[name]([{"day": "d0", "n": 1000}, *BEFORE[1:]]))
    for cursor in marks:
        if before(cursor) or cursor.get("done"):
            with pytest.raises(SourceChanged, match="is not what it was"):
                taken(source, cursor)
    write(path, TEXTS[name](BEFORE[:3]))
    for cursor in marks:
        if before(cursor) > 3:
            with pytest.raises(SourceChanged, match="is not what it was"):
                taken(source, cursor)


def position_after(source: Files, count: int) -> Position:
    """Take so many records, as a part does, and say where that is."""
    reader = Reader(source, Position(), lambda *_: None)
    for _ in reader.slice():
        if reader.number == count:
            reader.end_slice("records")
    position = reader.position
    reader.close()
    return position


WRONG: dict[str, tuple[bytes, bytes]] = {
    "a.ndjson": (b'"n": 1040}', b'"n": 1040'),
    "a.csv": (b",1040\n", b",1040,y\n"),
    "a.json": (b'"n": 1040}', b'"n": 1040 "y"}'),
    "documents.json": (b'"n": 1040\n}', b'"n": 1040 "y"\n}'),
    "a.geojsonseq": (b'"n": 1040}', b'"n": 1040'),
}


@pytest.mark.parametrize("count", [1, 7, 33, 39, 40])
@pytest.mark.parametrize("name", WRONG)
def test_a_bad_record_may_be_corrected_that_stands_in_one_block_with_what_was_taken(
    tmp_path: Path, name: str, count: int
) -> None:
    right, wrong = WRONG[name]
    good = TEXTS[name](BEFORE)
    assert good.count(right) == 1
    path = write(tmp_path / name, good.replace(right, wrong))
    position = position_after(Files(path), count)
    assert position.skip == count
    write(path, good)
    reader = Reader(Files(path), position, lambda *_: None)
    assert list(reader.slice()) == BEFORE[count:]
    reader.close()


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "a.json", "a.ndjson.gz", "utf16.csv", "a.tar"])
def test_what_was_taken_after_the_mark_may_not_change(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, TEXTS[name](BEFORE))
    source = source_of(path)
    for count in (5, 17, 29):
        write(path, TEXTS[name](BEFORE))
        position = position_after(source, count)
        assert position.skip
        write(path, TEXTS[name]([*BEFORE[: count - 1], *BEFORE[count:]]))
        reader = Reader(source, position, lambda *_: None)
        with pytest.raises(SourceChanged, match="is not what it was"):
            list(reader.slice())
        reader.close()


@pytest.mark.parametrize("seed", range(60))
def test_wherever_a_file_changes_the_rest_is_exact_or_it_is_named(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    name = chance.choice(list(TEXTS))
    records = rows(1, chance.randint(35, 90))
    path = write(tmp_path / name, TEXTS[name](records))
    source = small_blocks(Files(path), chance.choice([60, 500, 32768]))
    count = chance.randint(1, len(records) - 1)
    position = position_after(source, count)
    changed, at = list(records), chance.randrange(len(records))
    changed[at : at + chance.choice([0, 1])] = chance.choice([[], [{"day": "other", "n": 7}]])
    write(path, TEXTS[name](changed))
    reader = Reader(source, position, lambda *_: None)
    try:
        assert list(reader.slice()) == changed[count:]
        assert changed[:count] == records[:count]
    except SourceChanged:
        assert changed != records
    reader.close()


# Where a large file differs, how large it then is, and whether its time tells: all but the middle is always compared.
LONG = ndjson([{"n": number, "text": "x" * 2000} for number in range(ALL_OF // 2000)])


@pytest.mark.parametrize("at", [9, len(LONG) // 2, len(LONG) - 9])
@pytest.mark.parametrize("more", [b"", b'{"n":0}\n'])
def test_a_large_file_is_compared_in_parts(tmp_path: Path, at: int, more: bytes) -> None:
    path = write(tmp_path / "a.ndjson", LONG)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    source = Files(path)
    cursor = last_cursor(source)
    write(path, LONG[:at] + b"y" + LONG[at + 1 :] + more)
    os.utime(path, (1_700_000_001, 1_700_000_001))
    if more and at == len(LONG) // 2:
        assert taken(source, cursor) == [{"n": 0}]  # the documents say so
    else:
        with pytest.raises(SourceChanged, match="bytes that were read of it are others"):
            taken(source, cursor)


MANY = [{"n": number, "text": "x" * 100} for number in range(11_000)]


@pytest.mark.parametrize(
    ("way", "after", "said"),
    [
        (in_place, list(reversed(MANY)), "was changed while it was being read: "),
        (in_place, MANY[:9_000], "was changed while it was being read: it is shorter"),
        (by_another_file, list(reversed(MANY)) + MANY, "was changed while it was being read: "),
        (by_another_file, MANY, ""),
        (in_place, MANY + MANY[:1], ""),
    ],
)
def test_a_file_that_is_replaced_while_it_is_read_is_named(
    tmp_path: Path, way: Callable[[Path, bytes], None], after: Rows, said: str
) -> None:
    path = write(tmp_path / "a.ndjson", ndjson(MANY))
    pulling = Files(path).pull(None)
    first = [next(pulling) for _ in range(100)]
    way(path, ndjson(after))
    if said:
        with pytest.raises(SourceChanged, match=said):
            list(pulling)
    else:
        assert values([*first, *pulling])[: len(MANY)] == MANY


def test_a_file_that_is_deleted_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ndjson", ndjson(MANY))
    pulling = Files(path).pull(None)
    first = next(pulling)
    path.unlink()
    assert values([first, *pulling]) == MANY


def test_a_pipe_is_read_once_and_compared_with_nothing(tmp_path: Path) -> None:
    import threading

    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=write, args=(tmp_path / "pipe", ndjson(BEFORE)))
    writer.start()
    assert taken(Files(tmp_path / "pipe", format="ndjson")) == BEFORE
    writer.join()


def test_a_cursor_of_a_former_version_is_gone_on_from(tmp_path: Path) -> None:
    source = source_of(write(tmp_path / "a.ndjson", ndjson(BEFORE)))
    for cursor in cursors(source):
        rest = taken(source, cursor)
        del cursor["version"], cursor["seen"]
        assert taken(source, cursor) == rest


def test_a_word_that_on_changed_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="on_changed: 'again' is none of: fail, restart"):
        Files("a.csv", on_changed="again")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3(tmp_path_factory.mktemp("s3")) as place:
        yield place


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("a.csv", rows(2, 60)),
        ("a.csv", rows(2, 130)),
        ("a.ndjson.gz", rows(2, 20)),
        ("a.parquet", rows(2, 60)),
    ],
)
def test_an_object_that_was_replaced_is_named_or_read_again(bucket: S3, name: str, after: Rows) -> None:
    bucket.fresh()
    bucket.put(name, FORMATS[name](BEFORE))
    source = small_blocks(bucket.files(name), 500)
    marks = cursors(source)
    bucket.put(name, FORMATS[name](after))
    for cursor in (marks[2], marks[-1]):
        with pytest.raises(SourceChanged, match="is not what it was"):
            taken(source, cursor)
    assert taken(bucket.files(name, on_changed="restart"), marks[2]) == after


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson.gz", "a.tar"])
def test_what_comes_after_the_cursor_may_be_corrected_in_an_object(bucket: S3, name: str) -> None:
    bucket.fresh()
    bucket.put(name, TEXTS[name](BEFORE))
    source = small_blocks(bucket.files(name), 120)
    cursor = next(cursor for cursor in cursors(source) if before(cursor) > 20)
    after = BEFORE[: before(cursor)] + rows(2, 20)
    bucket.put(name, TEXTS[name](after))
    assert taken(source, cursor) == after[before(cursor) :]
    bucket.put(name, TEXTS[name]([{"day": "d0", "n": 1000}, *after[1:]]))
    with pytest.raises(SourceChanged, match="is not what it was"):
        taken(source, cursor)


def test_an_object_that_grew_is_read_on_and_the_same_bytes_under_another_tag_are_the_same(bucket: S3) -> None:
    bucket.fresh()
    bucket.put("a.csv", csv(BEFORE))
    source = small_blocks(bucket.files("a.csv"), 500)
    items = pull(source)
    marks = [(index, item.cursor) for index, item in enumerate(items) if isinstance(item, Mark)]
    bucket.put("a.csv", csv(BEFORE + rows(2, 1)))
    for index, cursor in (marks[1], marks[-1]):
        assert taken(source, cursor) == values(items[index:]) + rows(2, 1)
    bucket.put("a.csv", csv(BEFORE))
    for index, cursor in (marks[1], marks[-1]):
        cursor["version"]["tag"] = '"of parts that were larger"'
        assert taken(source, cursor) == values(items[index:])


def test_errors_of_a_file_that_cannot_be_looked_at_at_its_end_are_named(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.ndjson"
    path.parent.mkdir()
    write(path, ndjson(MANY))
    pulling = Files(path).pull(None)
    next(pulling)
    path.parent.rename(tmp_path / "elsewhere")
    write(tmp_path / "below", b"a file")
    with pytest.raises(SourceError, match="cannot be looked at any more"):
        list(pulling)
