"""A job goes on where its folder was moved, linked, or is written differently; and not where it is another one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pytest

from etl.errors import DefinitionChanged, SinkFailed, SourceChanged
from tests import jobs
from tests.moved_jobs import KINDS, LETTERS, NUMBERS, POINTS, TRUTH, fill, job, letters, table


@pytest.fixture(scope="module")
def made():
    """Jobs that ended at each point; a folder in memory where there is one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        command = [sys.executable, "-m", "tests.moved_jobs", name]
        subprocess.run(command, cwd=Path(__file__).parent.parent, check=True, timeout=600)
        yield Path(name)


@pytest.fixture
def began(made):
    """Give what puts a job where it ended at a point, at the very path where it ran."""
    places = []

    def put(point, sink="reused_file"):
        place = made / sink / point
        aside = made / "aside" / sink / point
        if not aside.exists():
            shutil.copytree(place, aside)
        places.append((place, aside))
        return place

    yield put
    for place, aside in places:
        for path in (place, place.parent / "elsewhere"):
            if path.is_symlink():
                path.unlink()
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(aside, place)


def elsewhere(place):
    return place.parent / "elsewhere"


def the_folder(place):
    place.rename(elsewhere(place))
    return job(elsewhere(place))


def the_folder_with_a_link_in_its_place(place):
    place.rename(elsewhere(place))
    place.symlink_to(elsewhere(place))
    return job(place)


def nothing_but_a_link_leads_to_it(place):
    elsewhere(place).symlink_to(place)
    return job(elsewhere(place))


def nothing_but_dots_are_in_its_path(place):
    return job(place / "in" / ".." / ".." / place.name)


def nothing_but_its_paths_are_relative(place):
    os.chdir(place / "out")
    return job("..")


def the_folder_and_its_paths_are_relative(place):
    place.rename(elsewhere(place))
    os.chdir(elsewhere(place))
    return job(".")


def the_checkpoint(place):
    elsewhere(place).mkdir()
    (place / "job.json").rename(elsewhere(place) / "checkpoint.json")
    changes = {"type": "numbered_chunks", "path": str(place / "job-rejects.ndjson")}
    return job(place, checkpoint=elsewhere(place) / "checkpoint.json", rejects=changes)


def the_database(place):
    elsewhere(place).mkdir()
    for path in place.glob("w.duckdb*"):
        path.rename(elsewhere(place) / path.name.replace("w.", "other."))
    return job(place, warehouse=warehouse(elsewhere(place) / "other.duckdb"))


def all_but_the_database(place):
    place.rename(elsewhere(place))
    place.mkdir()
    for path in elsewhere(place).glob("w.duckdb*"):
        path.rename(place / path.name)
    return job(elsewhere(place), warehouse=warehouse(place / "w.duckdb"))


def the_folder_and_the_database_apart(place):
    place.rename(elsewhere(place))
    for path in elsewhere(place).glob("w.duckdb*"):
        path.rename(elsewhere(place) / "out" / path.name)
    return job(elsewhere(place), warehouse=warehouse(elsewhere(place) / "out" / "w.duckdb"))


def nothing_but_links_lead_to_its_files(place):
    other = elsewhere(place)
    other.mkdir()
    for path in (*place.glob("*.json"), *place.glob("w.duckdb"), place / "in", place / "out"):
        (other / path.name).symlink_to(path)
    letters_ = {"type": "numbered_chunks", "path": str(place / "job-rejects.ndjson")}
    return job(other, rejects=letters_)


MOVED = {
    function.__name__.replace("_", " "): function
    for function in (
        the_folder,
        the_folder_with_a_link_in_its_place,
        nothing_but_a_link_leads_to_it,
        nothing_but_dots_are_in_its_path,
        nothing_but_its_paths_are_relative,
        the_folder_and_its_paths_are_relative,
        the_checkpoint,
        the_database,
        all_but_the_database,
        the_folder_and_the_database_apart,
        nothing_but_links_lead_to_its_files,
    )
}


def warehouse(path):
    return {"type": "duckdb", "path": str(path), "table": "numbers"}


def assert_all_is_there_once(pipeline):
    assert table(pipeline.warehouse.path) == TRUTH
    assert sorted(letters(pipeline.rejects.path.parent)) == LETTERS


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("moved", MOVED)
def test_a_job_goes_on_wherever_its_files_were_moved(began, monkeypatch, moved, point):
    place = began(point)
    monkeypatch.chdir(place.parent)
    pipeline = MOVED[moved](place)
    result = pipeline.run()
    assert_all_is_there_once(pipeline)
    if point == "finished":
        assert result.records == 0
    assert pipeline.run().records == 0


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("sink", [kind for kind in KINDS if kind != "reused_file"])
def test_what_a_sink_keeps_is_taken_up_where_it_was_moved(began, sink, point):
    place = began(point, sink)
    place.rename(elsewhere(place))
    pipeline = job(elsewhere(place), sink)
    pipeline.run()
    assert_all_is_there_once(pipeline)
    left = jobs.lines([path for path in (elsewhere(place) / "out").iterdir() if path.is_file()])
    kept = [] if sink == "numbered_chunks_not_kept" else [number for number, _ in TRUTH]
    assert sorted(record["number"] for record in left) == kept


def test_what_is_sealed_is_loaded_where_it_was_moved_and_not_pulled_again(began):
    place = began("killed with a part sealed")
    place.rename(elsewhere(place))
    events = []
    job(elsewhere(place)).run(listeners=[events.append])
    assert not [event for event in events if "again" in getattr(event, "message", "")]


def test_a_copy_of_a_job_goes_on_by_itself_exactly_once_in_its_own_table(began):
    place = began("killed with a plan")
    shutil.copytree(place, elsewhere(place))
    for folder in (place, elsewhere(place)):
        pipeline = job(folder)
        pipeline.run()
        assert_all_is_there_once(pipeline)


@pytest.mark.parametrize("point", POINTS)
def test_a_job_that_goes_on_with_a_copy_of_its_database_is_once_in_that(began, point):
    place = began(point)
    elsewhere(place).mkdir()
    for path in place.glob("w.duckdb*"):
        shutil.copy(path, elsewhere(place))
    job(place).run()
    copied = job(place, warehouse=warehouse(elsewhere(place) / "w.duckdb"))
    copied.run()  # the checkpoint is ahead of the copy's ledger: it goes back to that
    assert_all_is_there_once(copied)
    assert table(place / "w.duckdb") == TRUTH


def test_a_job_whose_checkpoint_is_gone_follows_the_ledger_that_was_moved_with_its_files(began):
    place = began("killed with a plan")
    for path in (place / "job.json", *place.glob("job-rejects-*")):
        path.unlink()
    shutil.rmtree(place / "out")
    place.rename(elsewhere(place))
    pipeline = job(elsewhere(place))
    assert 0 < pipeline.run().records < len(TRUTH)
    assert table(elsewhere(place) / "w.duckdb") == TRUTH


def test_a_job_that_is_moved_again_before_it_loads_is_still_known_to_a_ledger_that_stayed(began):
    place = began("finished")
    all_but_the_database(place).run()
    third = place.parent / "third"
    elsewhere(place).rename(third)
    try:
        fill(third, len(NUMBERS) // 40 + 1)
        pipeline = job(third, warehouse=warehouse(place / "w.duckdb"))
        assert pipeline.run().records == 36
        assert len(table(place / "w.duckdb")) == len(TRUTH) + 36
    finally:
        shutil.rmtree(third)


def test_files_that_come_after_a_move_are_loaded_and_those_before_are_not(began):
    place = began("finished")
    place.rename(elsewhere(place))
    fill(elsewhere(place), 4)
    pipeline = job(elsewhere(place))
    assert pipeline.run().records == 36
    assert len(table(pipeline.warehouse.path)) == len(TRUTH) + 36


def test_a_dropped_file_is_loaded_again_where_the_job_was_moved(began):
    place = began("finished")
    (place / "w.duckdb").unlink()
    place.rename(elsewhere(place))
    pipeline = job(elsewhere(place))
    assert pipeline.run().records == len(TRUTH)
    assert table(pipeline.warehouse.path) == TRUTH


def another_new_database(place):
    return job(place, warehouse=warehouse(place / "other.duckdb"))


def a_database_that_others_made(place):
    duckdb.connect(place / "other.duckdb").execute("CREATE TABLE numbers (number BIGINT)").close()
    return job(place, warehouse=warehouse(place / "other.duckdb"))


def the_database_of_another_job_of_that_name(place):
    fill(elsewhere(place))
    job(elsewhere(place)).run()
    return job(place, warehouse=warehouse(elsewhere(place) / "w.duckdb"))


def files_of_the_same_names_in_another_folder(place):
    fill(elsewhere(place))
    source = {"type": "files", "paths": str(elsewhere(place) / "in" / "*.ndjson")}
    return job(place, source=source)


def files_of_the_same_names_without_the_checkpoint(place):
    fill(elsewhere(place))
    return job(elsewhere(place), warehouse=warehouse(place / "w.duckdb"))


def another_pattern_where_it_was_moved(place):
    place.rename(elsewhere(place))
    source = {"type": "files", "paths": str(elsewhere(place) / "in" / "*.csv")}
    return job(elsewhere(place), source=source)


def another_sink_for_what_is_sealed(place):
    return job(place, sink={"type": "reused_file", "path": str(place / "other" / "job.ndjson")})


def another_format_where_it_was_moved(place):
    place.rename(elsewhere(place))
    return job(elsewhere(place), format="parquet")


def another_table_where_it_was_moved(place):
    place.rename(elsewhere(place))
    other = {**warehouse(elsewhere(place) / "w.duckdb"), "table": "other"}
    return job(elsewhere(place), warehouse=other)


OTHERS = {
    another_new_database: r"its destination was duckdb.*w\.duckdb.*now it is .*other\.duckdb.*Change it back",
    a_database_that_others_made: "another database: its id is not there, that of the other one is",
    the_database_of_another_job_of_that_name: r"its destination was duckdb.*w\.duckdb.*now it is .*another database: "
    r"its id is \w{16}, that of the other one is \w{16}.*Change it back, or put the database that it loaded into there",
    files_of_the_same_names_in_another_folder: "its source was",
    files_of_the_same_names_without_the_checkpoint: "its source was",
    another_pattern_where_it_was_moved: "its source was",
    another_sink_for_what_is_sealed: "parts that are not loaded yet are in",
    another_format_where_it_was_moved: "parts that are not loaded yet are in",
    another_table_where_it_was_moved: "its destination was",
}


@pytest.mark.parametrize("other", OTHERS, ids=lambda function: function.__name__.replace("_", " "))
def test_what_is_really_another_one_is_refused_and_nothing_is_touched(began, other):
    place = began("killed with a part sealed")
    pipeline = other(place)
    path = pipeline.warehouse.path
    found = table(path) if path.exists() else None
    for _ in range(2):
        with pytest.raises(DefinitionChanged, match=OTHERS[other]):
            pipeline.run()
    assert (table(path) if path.exists() else None) == found
    if (place / "w.duckdb").exists():
        back = job(place)
        back.run()
        assert_all_is_there_once(back)


def test_another_file_under_the_name_of_the_one_that_was_read_last_is_refused_after_a_move(began):
    place = began("finished")
    place.rename(elsewhere(place))
    last = sorted((elsewhere(place) / "in").iterdir())[-1]
    last.write_text(last.read_text().replace("x", "y"))
    with pytest.raises(SourceChanged, match="is not what it was"):
        job(elsewhere(place)).run()


def test_dead_letters_of_another_job_stand_in_the_way_still(began):
    place = began("finished")
    fill(elsewhere(place))
    job(elsewhere(place)).run()
    letters_ = {"type": "numbered_chunks", "path": str(elsewhere(place) / "job-rejects.ndjson")}
    with pytest.raises(SinkFailed, match="stands where job 'job' would write"):
        job(place, rejects=letters_).run()
