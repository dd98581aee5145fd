"""JSON numbers of fields that are declared as decimals keep each digit (RFC 8259, section 6, sets no limit to them)."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pulling import assert_resumes_everywhere, small_blocks, taken, write

import etl
from etl.records import Declared
from etl.sources import Files, Pages
from tests.web import Answer, WebServer

# As programs print doubles by `%.17g`; none of them is the shortest form of its double.
WRITTEN = ("0.10000000000000001", "1.1000000000000001", "2.20000000000000018", "1.00000000000000008e-5")
LINES = [
    f'{{"id": {number}, "price": {text}, "ratio": {text}, "in": {{"price": {text}, "all": [{text}]}}}}'
    for number, text in enumerate(WRITTEN)
]
ROWS = [
    {
        "id": number,
        "price": Decimal(text),
        "ratio": float(text),
        "in": {"price": Decimal(text), "all": [float(text)]},
    }
    for number, text in enumerate(WRITTEN)
]
# How the same rows stand in a file; with the options that they are read with.
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a.ndjson": ("\n".join(LINES), {}),
    "array.json": (f"[{','.join(LINES)}]", {}),
    "documents.json": ("\n".join(line.replace(", ", ",\n ") for line in LINES), {}),
    "a.json-seq": ("".join(f"\x1e{line}\n" for line in LINES), {}),
    "under.json": (f'{{"meta": 1, "rows": [{", ".join(LINES)}]}}', {"records": "rows"}),
    "lines.ndjson": ("\n".join(f'{{"rows": [{line}]}}' for line in LINES), {"records": "rows"}),
}


def declared(field: str) -> Declared | None:
    return Declared(type="NUMERIC") if field in ("price", "in.price") else None


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("block", [64, 1 << 15])
def test_a_declared_decimal_keeps_each_digit_and_a_float_beside_it_is_one(
    tmp_path: Path, name: str, block: int
) -> None:
    text, options = LAYOUTS[name]
    source = small_blocks(Files(write(tmp_path / name, text), **options), block)
    source.declare(declared)
    assert repr(taken(source)) == repr(ROWS)
    assert_resumes_everywhere(source)


def test_a_declared_decimal_of_a_member_keeps_each_digit(tmp_path: Path) -> None:
    text = json.dumps({"a": {"price": 0.5}}).replace("0.5", WRITTEN[0])
    source = Files(write(tmp_path / "a.json", text), records="*")
    source.declare(declared)
    assert taken(source) == [{"_key": "a", "price": Decimal(WRITTEN[0])}]


def test_a_declared_decimal_of_a_page_keeps_each_digit() -> None:
    body = f'[{{"id": 1, "price": {WRITTEN[0]}, "ratio": {WRITTEN[0]}}}]'.encode()
    with WebServer(
        lambda request: Answer(body=b"[]" if request.query.get("offset") == "1" else body)
    ) as server:
        source = Pages(server.url, style="offset")
        source.declare(declared)
        assert taken(source) == [{"id": 1, "price": Decimal(WRITTEN[0]), "ratio": 0.1}]
    pickle.dumps(source)


def test_each_digit_of_a_declared_decimal_is_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.ndjson", LAYOUTS["a.ndjson"][0])
    etl.Pipeline(
        "job",
        source={"type": "files", "paths": "a.ndjson"},
        sink={"type": "reused_file", "path": "job.ndjson"},
        warehouse={
            "type": "duckdb",
            "path": "out.duckdb",
            "table": "t",
            "schema": {"cost": "DECIMAL(38, 22)", "ratio": "DOUBLE"},
        },
        transforms=[etl.drop(["in"]), etl.rename({"price": "cost"})],
    ).run()
    with duckdb.connect("out.duckdb", read_only=True) as connection:
        found = connection.execute("SELECT cost, ratio FROM t ORDER BY id").fetchall()
    assert [cost for cost, _ in found] == [Decimal(text) for text in WRITTEN]
    assert [ratio for _, ratio in found] == [float(text) for text in WRITTEN]
