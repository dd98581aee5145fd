"""CSV: rows, headers, delimiters, types, nulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pulling import assert_resumes_everywhere, last_cursor, small_blocks, taken, write

from etl.errors import SourceError
from etl.records import Mark, Unreadable
from etl.sources import Files

# In the manner of nycflights13: NA for a flight that never left.
FLIGHTS = (
    "year,dep_time,dep_delay,carrier,tailnum,distance,gain,time_hour\n"
    "2013,517,2,UA,N14228,1400,-0.5,2013-01-01T10:00:00Z\n"
    "2013,NA,NA,B6,NA,229,NA,2013-01-01T11:00:00Z\n"
    '2013,554,-6,DL,"N668DN",762,1,2013-01-01T11:00:00Z\n'
)


def read(tmp_path: Path, text: str | bytes, **options: Any) -> list[Any]:
    return taken(Files(write(tmp_path / "a.csv", text), settle=0, **options))


def test_types_are_inferred_and_nulls_are_null(tmp_path: Path) -> None:
    hour = "2013-01-01T11:00:00Z"
    assert read(tmp_path, FLIGHTS) == [
        {
            "year": 2013,
            "dep_time": 517,
            "dep_delay": 2,
            "carrier": "UA",
            "tailnum": "N14228",
            "distance": 1400,
            "gain": -0.5,
            "time_hour": "2013-01-01T10:00:00Z",
        },
        {
            "year": 2013,
            "dep_time": None,
            "dep_delay": None,
            "carrier": "B6",
            "tailnum": "NA",
            "distance": 229,
            "gain": None,
            "time_hour": hour,
        },
        {
            "year": 2013,
            "dep_time": 554,
            "dep_delay": -6,
            "carrier": "DL",
            "tailnum": "N668DN",
            "distance": 762,
            "gain": 1.0,
            "time_hour": hour,
        },
    ]


@pytest.mark.parametrize(
    ("values", "type_", "found"),
    [
        ("1,-2,0,NA,", "integer", [1, -2, 0, None, None]),
        ("1,007", "string", ["1", "007"]),
        ("1,+7", "string", ["1", "+7"]),
        ("1,1_000", "string", ["1", "1_000"]),
        ("1.5,9007199254740993", "string", ["1.5", "9007199254740993"]),
        ("1,2.0", "float", [1.0, 2.0]),
        ("1.5,.5,5.,1e3,-1E-3", "float", [1.5, 0.5, 5.0, 1000.0, -0.001]),
        ("1,Inf,-Inf", "float", [1.0, float("inf"), float("-inf")]),
        ("1,1e999", "string", ["1", "1e999"]),
        ("9223372036854775807,1", "integer", [9223372036854775807, 1]),
        ("9223372036854775808,1", "string", ["9223372036854775808", "1"]),
        ("1.5,12345678901234567890", "string", ["1.5", "12345678901234567890"]),
        ("9" * 6000 + ",1", "string", ["9" * 6000, "1"]),
        ("true,FALSE,NA", "boolean", [True, False, None]),
        ("yes,no", "string", ["yes", "no"]),
        ("2013-01-31,NA", "date", ["2013-01-31", None]),
        ("2013-02-30", "string", ["2013-02-30"]),
        ("2013-01-31 10:00:00+01:00,2013-02-01", "timestamp", ["2013-01-31 10:00:00+01:00", "2013-02-01"]),
        ("2013-01-31T10:00:00.123Z", "timestamp", ["2013-01-31T10:00:00.123Z"]),
        ("20130131", "integer", [20130131]),
        ("NA,,NULL", "string", ["NA", None, "NULL"]),
        (",", "unknown", [None, None]),
        ("NaN,1", "float", None),
    ],
)
def test_the_narrowest_type_that_fits_is_inferred(
    tmp_path: Path, values: str, type_: str, found: Any
) -> None:
    path = write(tmp_path / "a.csv", "k,v\n" + "".join(f"x,{value}\n" for value in values.split(",")))
    assert last_cursor(Files(path))["types"]["v"] == type_
    if found is not None:
        records = [record["v"] for record in taken(Files(path))]
        assert records == found
        assert [type(value) for value in records] == [type(value) for value in found]


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        ("integer", "12345678901234567890", "1.0"),
        ("integer", "0", "1_000"),
        ("integer", "1", "1,2"),
        ("integer", "1", "[1]"),
        ("integer", "1", "true"),
        ("float", "1", "0x10"),
        ("float", "1", "1e999"),
        ("float", "1", "1,5"),
        ("float", "9007199254740992", "9007199254740993"),
        ("boolean", "TRUE", "1"),
        ("date", "2013-12-31", "2013-W01-1"),
        ("date", "2013-12-31", "20131231"),
        ("timestamp", "2013-12-31 00:00", "2013-12-31 25:00"),
    ],
)
def test_a_value_that_does_not_fit_a_declared_type_is_unreadable(
    tmp_path: Path, type_: str, good: str, bad: str
) -> None:
    text = f"k;v\n1;{good}\n2;{bad}\n3;{good}\n"
    first, (raw, reason), last = read(tmp_path, text, types={"v": type_}, delimiter=";")
    assert (first["k"], last["k"]) == (1, 3)
    assert raw == f"2;{bad}"
    assert reason == (
        f"{tmp_path}/a.csv, line 3 (byte {len(f'k;v/1;{good}/')}): column 'v' is {type_} and {bad!r} does not fit"
    )


def test_a_value_after_the_sample_that_does_not_fit_says_to_declare_the_type(tmp_path: Path) -> None:
    rows = "".join(f"{number},1\n" for number in range(10_500))
    path = write(tmp_path / "a.csv", "n,zip\n" + rows + "x,02134\n")
    *_, (raw, reason) = taken(Files(path))
    assert raw == "x,02134"
    assert f"line 10502 (byte {6 + len(rows)}): column 'n' is integer and 'x' does not fit" in reason
    assert 'types = { n = "string" }' in reason
    assert taken(Files(path, types={"n": "string", "zip": "string"}))[-1] == {"n": "x", "zip": "02134"}


def test_a_job_may_declare_a_type_while_it_is_under_way(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "n\n" + "".join(f"{number}\n" for number in range(10_500)) + "x\n")
    cursors = [item.cursor for item in Files(path).pull(None) if isinstance(item, Mark)]
    assert taken(Files(path, types={"n": "string"}), cursors[-3])[-1] == {"n": "x"}


def test_null_words_can_be_chosen(tmp_path: Path) -> None:
    found = read(tmp_path, "country,n\nNA,1\n,-\n", null=["-"])
    assert found == [{"country": "NA", "n": 1}, {"country": "", "n": None}]


@pytest.mark.parametrize(
    ("text", "null", "values"),
    [
        ("-999\n5\n", "-999", [None, 5]),
        ("5\n-999\n1.5\n", "-999", [5.0, None, 1.5]),
        ("-99.9\n1.5\n", "-99.9", [None, 1.5]),
        ("NaN\n1.5\n", "NaN", [None, 1.5]),
        ("true\nfalse\n", "false", [True, None]),
        ("2024-01-02\n1900-01-01\n", "1900-01-01", ["2024-01-02", None]),
    ],
)
def test_a_null_word_may_read_as_a_value(tmp_path: Path, text: str, null: str, values: list[Any]) -> None:
    assert [record["v"] for record in read(tmp_path, "v\n" + text, null=[null])] == values
    kind = {bool: "boolean", float: "float", int: "float", str: "date"}[type(values[0] or values[1])]
    assert [record["v"] for record in read(tmp_path, "v\n" + text, null=[null], types={"v": kind})] == values


def test_null_where_it_is_no_null_word_fits_no_number(tmp_path: Path) -> None:
    [_, (_, reason)] = read(tmp_path, "k,n\na,1\nb,null\n", null=["", "NA"], types={"n": "integer"})
    assert "'null' does not fit" in reason


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    rows = [["name", "n", "text"], ["a", "1", '"one, two; three | four"'], ["b", "2", '"a ""word"" 5"']]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    assert read(tmp_path, text) == [
        {"name": "a", "n": 1, "text": "one, two; three | four"},
        {"name": "b", "n": 2, "text": 'a "word" 5'},
    ]


def test_without_a_header_columns_are_numbered_or_named(tmp_path: Path) -> None:
    assert read(tmp_path, "1,a\n2,b\n", header=False) == [
        {"column_1": 1, "column_2": "a"},
        {"column_1": 2, "column_2": "b"},
    ]
    assert read(tmp_path, "1,a\n", header=["n", "text"], types={"n": "float"}) == [{"n": 1.0, "text": "a"}]


@pytest.mark.parametrize("text", ["", "a,b\n", "a,b", "\n\n", "\ufeff", "\ufeffa,b\r\n"])
def test_a_file_without_rows_holds_no_records(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == []


def test_a_file_without_rows_leaves_the_types_to_the_next(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "a\n")
    write(tmp_path / "2.csv", "a\n1\n")
    write(tmp_path / "3.csv", "b,a\n2013-01-01,2\n")
    assert taken(Files(tmp_path)) == [{"a": 1}, {"b": "2013-01-01", "a": 2}]
    assert_resumes_everywhere(Files(tmp_path))


@pytest.mark.parametrize("head", ["", "\ufeff", "a,b", "a,b\n"])
def test_a_file_of_a_header_or_less_may_grow(tmp_path: Path, head: str) -> None:
    source = Files(write(tmp_path / "a.csv", head), settle=0)
    cursor = last_cursor(source)
    write(tmp_path / "a.csv", ("\ufeff" if head == "\ufeff" else "") + "a,b\n1,x\n2\n")
    found, (_, reason) = taken(source, cursor)
    assert found == {"a": 1, "b": "x"}
    assert "line 3 " in reason


def test_the_types_of_the_first_file_hold_for_the_others(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", "a\nx\n")
    write(tmp_path / "2.csv", "a\n1\n")
    assert taken(Files(tmp_path)) == [{"a": "x"}, {"a": "1"}]


def test_rows_with_too_many_or_too_few_fields_are_unreadable(tmp_path: Path) -> None:
    text = "a,b\r\n1,2\r\n1,2,3\r\n\r\n4\r\n5,6\r\n"
    first, many, few, last = read(tmp_path, text)
    assert (first, last) == ({"a": 1, "b": 2}, {"a": 5, "b": 6})
    where = f"{tmp_path}/a.csv, line"
    assert many == ("1,2,3", f"{where} 3 (byte 10): 3 fields where the table has 2 columns")
    assert few == ("4", f"{where} 5 (byte 19): 1 fields where the table has 2 columns")


def test_broken_utf_8_is_unreadable_and_the_rows_around_it_are_not(tmp_path: Path) -> None:
    data = "a,b\n1,ü\n".encode() + b"2,\xff\n" + '3,"ü\n'.encode() + b'\xfe"\n' + "4,☃\n".encode()
    first, one, two, last = read(tmp_path, data)
    assert (first, last) == ({"a": 1, "b": "ü"}, {"a": 4, "b": "☃"})
    assert one[0] == "2,\\xff"
    assert one[1].startswith(f"{tmp_path}/a.csv, line 3 (byte 9): no valid utf-8 (0xff at its byte 2); ")
    assert two[0] == '3,"ü\n\\xfe"'
    assert two[1].startswith(f"{tmp_path}/a.csv, line 4 (byte 13): no valid utf-8 (0xfe at its byte 6); ")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1,Zoë".encode("cp1252"), 'set `encoding`, such as "cp1252" or "latin-1"'),
        ("1,Привет".encode("cp1251"), "such as cp1251 or koi8-r"),
        (b'1, "a, b"', "say skip_initial_space = true"),
        (rb'1,"a \\", b"'.replace(b"\\\\", b"\\"), 'say escape = "\\\\"'),
        (b"# the end", "say with `comment`"),
    ],
)
def test_a_row_that_is_none_names_the_option_that_may_read_it(tmp_path: Path, row: bytes, says: str) -> None:
    (_, reason), last = read(tmp_path, b"a,b\n" + row + b"\n2,c\n", types={"a": "integer"})
    assert says in reason
    assert last == {"a": 2, "b": "c"}


def test_other_encodings_are_read_and_resumed(tmp_path: Path) -> None:
    data = b"a,b\n" + b"".join(f"{number},é{number}\n".encode("cp1252") for number in range(300))
    source = small_blocks(Files(write(tmp_path / "a.csv", data), encoding="cp1252"), 100)
    assert taken(source)[299] == {"a": 299, "b": "é299"}
    assert_resumes_everywhere(source)


def test_text_after_a_closed_quote_is_unreadable(tmp_path: Path) -> None:
    first, (raw, reason), last = read(tmp_path, 'a,b\n1,"x"\n2,"x"y\n3,"z"\n')
    assert (first["a"], raw, last["a"]) == (1, '2,"x"y', 3)
    assert "line 3 (byte 10): no CSV row (',' expected after '\"')" in reason


def test_a_quote_that_is_never_closed_is_named_where_it_was_opened(tmp_path: Path) -> None:
    first, (raw, reason) = read(tmp_path, 'a,b\n1,x\n2,"y\n3,z\n')
    assert first == {"a": 1, "b": "x"}
    assert raw.startswith('2,"y\n3,z')
    assert "line 3 (byte 8): no CSV row (unexpected end of data): a quote is not closed" in reason


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n1,"x\n' + "2,y\n" * 100_000, 2),
        ("a,b\n1,x\n" + "2,y\n" * 20_000 + "3," + "z" * 70_000 + "\n", 20_003),
        ("a,b\r1,x\r2," + "z" * 70_000 + "\r", 3),
        ("a," + "b" * 70_000 + "\n1,x\n", 1),
    ],
)
def test_a_row_that_is_too_long_is_named_with_the_option_that_raises_the_bound(
    tmp_path: Path, text: str, line: int
) -> None:
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(SourceError, match=rf"a\.csv, line {line} .*longer than 65536 .*max_record_bytes"):
        taken(Files(path, max_record_bytes=1 << 16))
    if '"' not in text:
        assert len(taken(Files(path, max_record_bytes=1 << 17))) == len(text.splitlines()) - 1


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,x\n2,y\r3,z\n4,z\n", [(1, "x"), (2, "y"), (3, "z"), (4, "z")]),
        ("a,b\r1,x\r2,y\r", [(1, "x"), (2, "y")]),
        ("a,b\r1,x\r\n2,y\n3,z", [(1, "x"), (2, "y"), (3, "z")]),
        ("a,b\n" + "1,x\r" * 30, [(1, "x")] * 30),
        ("a,b\n1,x\r\n2,y\r3\n", [(1, "x"), (2, "y\r3")]),
        ('a,b\n1,"x\ry"\n2,y\rz,"\n', [(1, "x\ry"), None]),
        ("a,b\n1,x\n2\r3,z\n", [("1", "x"), ("2\r3", "z")]),
    ],
)
def test_a_carriage_return_ends_a_row_if_that_gives_rows_and_else_is_text(
    tmp_path: Path, text: str, rows: list[Any]
) -> None:
    found = read(tmp_path, text)
    assert [tuple(row.values()) if isinstance(row, dict) else None for row in found] == rows
    assert_resumes_everywhere(small_blocks(Files(tmp_path / "a.csv", settle=0), 4))


def test_a_field_may_be_longer_than_the_csv_module_lets_it(tmp_path: Path) -> None:
    long = "x" * 400_000
    assert read(tmp_path, f'a,b\n1,{long}\n2,"{long}"\n') == [{"a": 1, "b": long}, {"a": 2, "b": long}]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a,b,a", r"a\.csv, line 1 \(byte 0\): the header names 'a' more than once"),
        ('"",year', r"a\.csv, line 1 \(byte 0\): column 1 of the header has no name"),
        ('a,"b"c', r"a\.csv, line 1 \(byte 0\): the header cannot be read"),
    ],
)
def test_a_header_that_is_no_good_is_a_named_error(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, f"{header}\n1,2,3\n")


def test_a_declared_column_that_is_not_there_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"`types` names 'delay', which the file does not have; its columns are: a, b"
    ):
        read(tmp_path, "a,b\n1,2\n", types={"delay": "integer"})


def test_the_cursor_needs_nothing_of_the_files_head(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", FLIGHTS)
    source = small_blocks(Files(path), 100)
    cursor = [item.cursor for item in source.pull(None) if isinstance(item, Mark)][1]
    rest = taken(source, cursor)
    del cursor["version"], cursor["seen"]  # which would tell that it is another file
    write(path, "?" * (cursor["offset"] - 1) + FLIGHTS[cursor["offset"] - 1 :])
    assert taken(source, cursor) == rest


@pytest.mark.parametrize("size", [1, 8, 30, 10_000])
def test_offsets_are_exact_with_line_ends_in_quotes_and_text_that_is_not_ascii(
    tmp_path: Path, size: int
) -> None:
    row = '☃{0},"two\nlines, ""{0}""\r\n","ü\n\n"\r\n'
    text = "a,b,c\r\n" + "".join(row.format(number) + "\n" * (number % 3) for number in range(40))
    source = small_blocks(Files(write(tmp_path / "a.csv", text)), size)
    found = taken(source)
    assert found[7] == {"a": "☃7", "b": 'two\nlines, "7"\r\n', "c": "ü\n\n"}
    assert len(found) == 40
    assert_resumes_everywhere(source)


def test_lines_that_are_skipped_count_where_a_later_row_is_wrong(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"title\nn\n1\nx\n")
    items = [*Files(path, skip_lines=1, types={"n": "integer"}).pull(None)]
    (broken,) = [item for item in items if isinstance(item, Unreadable)]
    assert "line 4 (byte 10)" in broken.reason


def test_a_file_that_skips_its_first_lines_is_taken_up_again_anywhere(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"title\nn\n" + b"".join(b"%d\n" % n for n in range(100)))
    assert_resumes_everywhere(small_blocks(Files(path, skip_lines=1), 16))


@pytest.mark.parametrize(
    ("text", "lines", "rows"),
    [
        ("a,b\n1,2\n3,4\nTotal,3\n", 1, 2),
        ("a,b\n1,2\n3,4\nTotal,3", 1, 2),
        ("a,b\n1,2\n3,4\n\nTotal: 2 rows\nof 2024\n\n", 2, 2),
        ("a,b\nTotal,3\n", 1, 0),
        ("a,b\n", 1, 0),
    ],
)
@pytest.mark.parametrize("block", [4, 1 << 15])
def test_the_last_lines_are_no_rows_where_the_job_says_so(
    tmp_path: Path, text: str, lines: int, rows: int, block: int
) -> None:
    path = write(tmp_path / "a.csv", text)
    source = small_blocks(Files(path, skip_footer=lines, settle=0), block)
    assert len(taken(source)) == rows
    assert_resumes_everywhere(source)
