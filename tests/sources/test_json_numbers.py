"""JSON numbers are exact: RFC 8259, section 6, sets no limit to their digits; IEEE 754 binary64 holds what it holds."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pulling import taken, write

from etl import Pipeline
from etl.errors import WarehouseError
from etl.sources import Files, json_numbers
from etl.sources.json_decoder import DECODER
from etl.sources.paging import answers
from etl.warehouses.base import Misfit
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.schema import declared

# As a number stands in JSON, and as what it is read.
NUMBERS: list[tuple[str, Any]] = [
    ("0", 0),
    ("-0", 0),
    ("-0.0", -0.0),
    ("0.000", 0.0),
    ("0e-99999", 0.0),
    ("1E2", 100.0),
    ("12.50", 12.5),
    ("123456789012.345", 123456789012.345),
    # what programs write of doubles: the shortest form, %.17g, %.20f
    ("0.1", 0.1),
    ("0.10000000000000001", 0.1),
    ("0.10000000000000000555", 0.1),
    ("0.10000000000000000000", 0.1),
    ("-122.41941550000001", -122.41941550000001),
    ("1.7976931348623157e308", 1.7976931348623157e308),
    ("5.960464477539063e-8", 2.0**-24),  # the shortest form, halfway between two of 16 digits
    ("2.2250738585072014E-308", 2.2250738585072014e-308),
    ("5e-324", 5e-324),
    ("100000000000000000000.0", 1e20),
    ("0.1000000000000000055511151231257827021181583404541015625", 0.1),
    # whole numbers of any size, around 64 bits
    ("9007199254740993", 2**53 + 1),
    ("9223372036854775808", 2**63),
    ("-9223372036854775808", -(2**63)),
    ("-9223372036854775809", -(2**63) - 1),
    ("18446744073709551616", 2**64),
    ("123456789012345678901234567890", 123456789012345678901234567890),
    # what no double holds
    ("1234567890123456.78", Decimal("1234567890123456.78")),
    ("-1234567890123456.78", Decimal("-1234567890123456.78")),
    ("9007199254740993.0", Decimal("9007199254740993.0")),
    ("0.1000000000000000055", Decimal("0.1000000000000000055")),
    ("0.12345678901234567890", Decimal("0.12345678901234567890")),
    ("12345678901234567e1", Decimal("12345678901234567e1")),
    ("1.2345678901234567891E-7", Decimal("1.2345678901234567891E-7")),
    # beyond its range, to either side
    ("1E400", Decimal("1E400")),
    ("-1e+400", Decimal("-1E400")),
    ("1.7976931348623159e308", Decimal("1.7976931348623159e308")),
    ("1e-400", Decimal("1E-400")),
    ("-12.5E-0400", Decimal("-12.5E-400")),
    ("4e-324", Decimal("4E-324")),
]
# What stands around it in the same block decides how the block is decoded.
AROUND = {
    "alone": "",
    "text": '"5e-4000","1234567890123456789.5e-3000 and 123456789012345678901.5",'
    '"2e-4124-9","\\"12345678901234567",',
    "coordinates": "-122.41941550000001,37.774929500000006," * 20,
    "coordinates and text": '"\\u0031234567890123456789",' + "-122.41941550000001," * 20,
    "identifiers": "1234567890123456789,-9223372036854775809," * 20,
    "one identifier": "1234567890123456789,",
    "hashes": '"693007171753927204e80822","00000000000000000000e-999",' * 20,
    "many digits": "0.10000000000000000555," * 40,
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("space", ["", " ", "\r\n\t"])
def test_a_number_is_what_it_says_whatever_stands_around_it(around: str, space: str) -> None:
    for text, value in NUMBERS:
        found = json_numbers.loads(f"[{around}{space}{text}{space}]".encode())[-1]
        assert (type(found), str(found)) == (type(value), str(value)), text
        member = json_numbers.loads(f'{{"x":[{around}1],"n":{space}{text}}}'.encode())["n"]
        assert (type(member), str(member)) == (type(value), str(value)), text


@pytest.mark.parametrize("format", ["ndjson", "json", "json-seq"])
def test_numbers_are_exact_in_every_layout(tmp_path: Path, format: str) -> None:
    rows = [f'{{"n": {text}, "in": [{{"n": {text}}}]}}' for text, _ in NUMBERS]
    text = {
        "ndjson": "\n".join(rows),
        "json": f"[{','.join(rows)}]",
        "json-seq": "\x1e" + "\n\x1e".join(rows),
    }
    wanted = [{"n": value, "in": [{"n": value}]} for _, value in NUMBERS]
    found = taken(Files(write(tmp_path / "a", text[format])))
    assert found == wanted
    assert list(map(repr, found)) == list(map(repr, wanted))
    within = write(tmp_path / "b.json", f'{{"n": 1E400, "rows": [{",".join(rows)}]}}')
    assert list(map(repr, taken(Files(within, records="rows")))) == list(map(repr, wanted))


@pytest.mark.parametrize("number", ["1e6145", "-1e-6200", "1e99999999999999999999", "1" + "0" * 5000])
def test_a_number_beyond_all_that_is_stored_makes_its_record_unreadable(tmp_path: Path, number: str) -> None:
    found = taken(Files(write(tmp_path / "a.ndjson", f'{{"n":1}}\n{{"n":{number}}}\n{{"n":3}}\n')))
    assert (found[0], found[2]) == ({"n": 1}, {"n": 3})
    assert "no JSON" in found[1][1]


@pytest.mark.parametrize("number", ["1e6144", "-1e-6144"])
def test_exponents_of_decimal128_are_read(number: str) -> None:
    assert json_numbers.loads(f"[{number}]".encode()) == [Decimal(number)]


@pytest.mark.parametrize(
    ("type_", "loaded"),
    [
        ("DECIMAL(38, 2)", "1234567890123456.78"),
        ("DOUBLE", None),
        ("DECIMAL(10, 2)", None),
    ],
)
def test_a_number_that_no_double_holds_reaches_duckdb_with_all_digits_or_is_refused(
    tmp_path: Path, type_: str, loaded: str | None
) -> None:
    path = write(tmp_path / "a.ndjson", '{"amount":1234567890123456.78}\n')
    job = Pipeline(
        "numbers",
        source=Files(path),
        sink={"type": "reused_file", "path": str(tmp_path / "part.ndjson")},
        warehouse={
            "type": "duckdb",
            "path": str(tmp_path / "out.duckdb"),
            "table": "t",
            "schema": {"amount": type_},
        },
        checkpoint=tmp_path / "checkpoint.json",
    )
    if loaded is None:
        with pytest.raises(WarehouseError, match="amount"):
            job.run()
        return
    job.run()
    with duckdb.connect(str(tmp_path / "out.duckdb")) as database:
        assert database.execute("SELECT amount::VARCHAR FROM t").fetchall() == [(loaded,)]


@pytest.mark.parametrize(
    ("type_", "written"),
    [
        ("NUMERIC(31, 2)", "1234567890123456.78"),
        ("BIGNUMERIC", "1234567890123456.78"),
        ("STRING", "1234567890123456.78"),
        ("FLOAT64", None),
        ("INT64", None),
        ("NUMERIC(10, 2)", None),
        ("NUMERIC(30, 1)", None),
    ],
)
def test_a_number_that_no_double_holds_passes_the_gate_of_bigquery_with_all_digits_or_not_at_all(
    type_: str, written: str | None
) -> None:
    gate = RecordGate(declared({"v": type_}), format="ndjson")
    [value] = json_numbers.loads(b"[1234567890123456.78]")
    if written is None:
        with pytest.raises(Misfit):
            gate.admit({"v": value})
    else:
        assert str(gate.admit({"v": value})["v"]) == written


def test_numbers_of_a_page_are_exact() -> None:
    body = (
        b'\xef\xbb\xbf{"rows":[{"n":1234567890123456.78}]}'  # RFC 8259, section 8.1: the mark may be ignored
    )
    assert answers.decode(body, "page 1", str, DECODER) == {"rows": [{"n": Decimal("1234567890123456.78")}]}
