"""What comes over HTTP is told by its content, as files are; Content-Type says nothing against it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma

import pytest
from http_sources import RECORDS, serving, source
from pulling import taken, values

from etl.errors import SourceError
from etl.records import Mark
from tests.web import Answer, Request, WebServer, ranged

NDJSON = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
CSV = "id,name\n" + "".join(f"{record['id']},{record['name']}\n" for record in RECORDS)
ROWS = [{"id": record["id"], "name": record["name"]} for record in RECORDS]
CONTENTS = {
    "/a.csv": ("\ufeff" + CSV).encode("utf-16-le"),
    "/a.ndjson": NDJSON.encode("utf-16"),
    "/a.csv.bz2": bz2.compress(CSV.encode()),
    "/a.ndjson.xz": lzma.compress(NDJSON.encode()),
    "/a.csv.gz": gzip.compress(gzip.compress(CSV.encode())),
}


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", CONTENTS)
def test_it_is_read_and_gone_on_with_at_every_mark(name: str, ranges: bool) -> None:
    def answer(request: Request) -> Answer:
        return ranged(request, CONTENTS[name], etag='"1"') if ranges else Answer(body=CONTENTS[name])

    with WebServer(answer) as server:
        made = source(server.url + name)
        made._content._block_bytes = 20
        items = list(made.pull(None))
        assert values(items) == (ROWS if "csv" in name else RECORDS)
        for number, item in enumerate(items):
            if isinstance(item, Mark):
                assert taken(made, item.cursor) == values(items[number:])  # type: ignore[arg-type]


NO_DATA = {
    "a page": (b"\xef\xbb\xbf\n<!-- a --><!doctype html><p>Log in", "HTML|a page"),
    "a page in gzip": (gzip.compress(b"<html>"), "HTML|a page"),
    "an error of S3": (b"<Error><Code>AccessDenied</Code></Error>", "XML|a page"),
    "an error in JSON": (b'{"error": "slow down"}', "slow down"),
    "an object of JSON": (b'{"id": 1}', "its name says that it is CSV, and its content is one JSON object"),
    "PDF": (b"%PDF-1.7", "PDF"),
}


@pytest.mark.parametrize("content_type", ["text/csv", "text/html", "application/octet-stream"])
@pytest.mark.parametrize("no_data", NO_DATA)
def test_what_is_no_data_is_an_error_before_the_first_mark(no_data: str, content_type: str) -> None:
    body, said = NO_DATA[no_data]
    answer = Answer(headers={"Content-Type": content_type}, body=body)
    with WebServer(lambda _: answer) as server:
        pulling = source(server.url + "/a.csv").pull(None)
        with pytest.raises(SourceError, match=f"a.csv.*({said})"):
            next(pulling)


def test_a_later_run_takes_what_an_error_stood_for() -> None:
    pages = [b'{"error": "slow down"}', CSV.encode()]
    with WebServer(lambda _: Answer(body=pages[0])) as server:
        urls = [server.url + "/a.csv"]
        with pytest.raises(SourceError, match="slow down"):
            list(source(urls).pull(None))
        del pages[0]
        assert taken(source(urls)) == ROWS  # type: ignore[arg-type]


def test_parquet_that_is_none_is_told_from_its_first_bytes() -> None:
    with serving(b"<html>Gone</html>", "/a.parquet") as (server, made):
        with pytest.raises(SourceError, match=r"HTML|a page"):
            list(made().pull(None))
        assert len(server.requests) == 1
