"""Pages through a pipeline into DuckDB: the first run, and the one after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from paged_api import STYLES, Api, rows_of, said

import etl
from etl.errors import SourceChanged, SourceError
from tests.web import Answer, Request


def pipeline(tmp_path: Path, api: Api, path: str = "offset", **changes: Any) -> etl.Pipeline:
    source = {
        "type": "pages",
        "url": f"{api.url}/{path}",
        "page_size": 20,
        "key": ["id"],
        "secrets": {"api_key": "s3cret-key"},
        "deadline": 30,
        **STYLES[path],
        **changes,
    }
    return etl.Pipeline(
        "rows",
        source=source,
        sink={"type": "reused_file", "path": str(tmp_path / "rows.ndjson")},
        warehouse={"type": "duckdb", "path": str(tmp_path / "rows.duckdb"), "table": "rows"},
        checkpoint=tmp_path / "rows.checkpoint.json",
        part_records=37,
        on_error="reject",
    )


def loaded(tmp_path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(tmp_path / "rows.duckdb"), read_only=True) as warehouse:
        return warehouse.execute(
            "SELECT id, name, CAST(updated_at AS VARCHAR) FROM rows ORDER BY 1, 3"
        ).fetchall()


def ids(tmp_path: Path) -> list[int]:
    return [row[0] for row in loaded(tmp_path)]


@pytest.mark.parametrize("path", STYLES)
def test_the_first_run_takes_all_rows_and_the_next_one_what_is_new(tmp_path: Path, path: str) -> None:
    with Api(rows_of(250)) as api:
        first = pipeline(tmp_path, api, path).run()
        assert (first.records, first.parts) == (250, 7)
        assert ids(tmp_path) == list(range(250))
        assert pipeline(tmp_path, api, path).run().records == 0
        api.rows += rows_of(31, 250)
        assert pipeline(tmp_path, api, path).run().records == 31
        assert ids(tmp_path) == list(range(281))
        for file in (f for f in tmp_path.rglob("*") if f.is_file()):
            assert b"s3cret-key" not in file.read_bytes(), file


def test_rows_that_changed_are_taken_again_by_their_time(tmp_path: Path) -> None:
    since = {"updated_at": {"field": "updated_at", "param": "since", "look_back": 60}}
    with Api(rows_of(100)) as api:
        pipeline(tmp_path, api, **since).run()
        api.rows[7] = {**api.rows[7], "updated_at": "2024-01-02T00:00:00Z"}
        assert pipeline(tmp_path, api, **since).run().records == 1
        assert pipeline(tmp_path, api, **since).run().records == 0
        assert sorted(ids(tmp_path)) == sorted([*range(100), 7])


def test_a_run_that_failed_goes_on_at_its_row_though_others_were_put_in_before_it(tmp_path: Path) -> None:
    with Api(rows_of(100, 1000)) as api:
        api.faults = lambda request: Answer(status=400) if int(request.query["offset"]) > 50 else None
        with pytest.raises(SourceError):
            pipeline(tmp_path, api).run()
        taken = len(ids(tmp_path))
        assert 0 < taken < 100
        api.faults = lambda _request: None
        api.rows[0:0] = rows_of(5)
        assert pipeline(tmp_path, api).run().records == 100 - taken
        assert ids(tmp_path) == list(range(1000, 1100))


def test_a_row_without_its_key_is_a_dead_letter_with_the_reason(tmp_path: Path) -> None:
    with Api(rows_of(30)) as api:
        del api.rows[25]["id"]
        assert pipeline(tmp_path, api).run().rejects == 1
        [letters] = tmp_path.glob("rows-rejects*")
        assert "it has no 'id', which is of the key" in letters.read_text()
        assert pipeline(tmp_path, api).run().rejects == 0


def test_a_scroll_that_was_interrupted_is_refused_until_it_begins_anew(tmp_path: Path) -> None:
    at = 0

    def scroll(request: Request) -> Answer:
        nonlocal at
        at = at + 20 if "scroll_id" in request.query else 0
        if at == broken:
            return Answer(status=400)
        return said({"_scroll_id": "DnF1", "items": rows_of(100)[at : at + 20]})

    with Api([]) as api:
        api.faults = scroll
        changes = {"cursor_param": "scroll_id", "cursor_path": "_scroll_id"}
        broken = 80
        with pytest.raises(SourceError, match="400"):
            pipeline(tmp_path, api, "cursor", **changes).run()
        assert ids(tmp_path) == list(range(37 * 2))
        broken = -1
        with pytest.raises(SourceChanged, match="--full-refresh"):
            pipeline(tmp_path, api, "cursor", **changes).run()
        pipeline(tmp_path, api, "cursor", **changes).run(full_refresh=True)
        assert ids(tmp_path) == list(range(100))
