"""Files in folders that all may write to: nothing that another user planted there is followed, cut or trusted."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from etl.errors import CheckpointError
from etl.stores.gcs import GcsStore
from etl.stores.local import LocalStore
from sinks import BigFile, SinkOccupied
from tests.shared_folders import ATTACKED, NAMES, OTHER, PLANTS, PRECIOUS, plant

ROOT = Path(__file__).parent.parent
CASES = [(kind, name, what) for kind, found in NAMES.items() for name in found for what in PLANTS]

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two other users")


@pytest.fixture(scope="module")
def outcomes():
    """What came of a job in each folder in which something was planted, and the folders."""
    with tempfile.TemporaryDirectory(prefix="shared-") as place:  # pytest's own only this user may enter
        Path(place).chmod(0o755)
        folders = {}
        for number, (kind, name, what) in enumerate(CASES):
            folder = Path(place, str(number), "shared")
            folder.mkdir(parents=True)
            folder.chmod(0o1777)
            precious = folder.parent / "home" / "precious"
            precious.parent.mkdir()
            precious.write_text(PRECIOUS)
            for path in (precious, precious.parent):
                os.chown(path, ATTACKED, ATTACKED)
            plant(what, folder / name, precious)
            folders[kind, name, what] = folder
        told = json.dumps([[kind, str(folder)] for (kind, _, _), folder in folders.items()])
        command = [sys.executable, "-m", "tests.shared_folders"]
        done = subprocess.run(command, input=told, capture_output=True, text=True, cwd=ROOT, timeout=300)
        said = [json.loads(line)[1] for line in done.stdout.splitlines()]
        assert len(said) == len(CASES), done.stderr
        yield {case: (folder, text) for (case, folder), text in zip(folders.items(), said, strict=True)}


@AS_ROOT
@pytest.mark.parametrize(("kind", "name", "what"), CASES)
def test_what_was_planted_is_refused_by_name_and_nothing_is_touched(outcomes, kind, name, what):
    folder, said = outcomes[kind, name, what]
    if (name, what) != (".job.json.new", "hard link"):  # which is removed, and the file keeps its other name
        assert name in said
    home = folder.parent / "home"
    assert {path.name: path.read_text() for path in home.iterdir()} == {"precious": PRECIOUS}
    path = folder / name
    if what == "directory":
        assert not list(path.iterdir())
    elif what.endswith("file of theirs"):
        assert path.read_text() == ("" if what.startswith("empty") else "theirs\n")


@pytest.fixture
def shared(tmp_path):
    """A folder that all may write to."""
    tmp_path.chmod(0o1777)
    return tmp_path


@AS_ROOT
def test_another_user_s_mark_does_not_have_a_file_cut(shared):
    with closing(BigFile(shared / "out.ndjson")) as sink, sink.open_part(1) as part:
        part.write(b"{}\n")
    mark = shared / f".out.ndjson.after-1-3-{part.sealed.crc32c:08x}"
    mark.touch()
    os.chown(mark, OTHER, OTHER)
    with (
        closing(BigFile(shared / "out.ndjson")) as sink,
        pytest.raises(SinkOccupied, match=r"cannot trust .*after-1-3"),
    ):
        sink.recover([], part.sealed)
    assert (shared / "out.ndjson").read_bytes() == b"{}\n"


@AS_ROOT
def test_a_link_in_the_way_to_the_checkpoint_is_another_user_s(shared):
    (shared / "home").mkdir()
    (shared / "jobs").symlink_to(shared / "home")
    os.chown(shared / "jobs", OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(CheckpointError, match=r"a symbolic link of the user with the id .*jobs"):
        LocalStore(shared / "jobs" / "job.json")


def test_what_is_left_of_a_run_that_was_killed_is_one_s_own(shared):
    store = LocalStore(shared / "job.json")
    for name in (".job.json.lock", ".job.json.new"):
        (shared / name).write_text("left")
    with store.hold(wait=False):
        store.swap(b"one", None)
    assert [path.name for path in shared.iterdir()] == ["job.json"]


@AS_ROOT
@pytest.mark.parametrize("what", ["symbolic link", "file of theirs", "directory"])
def test_the_folder_of_locks_is_one_s_own(shared, monkeypatch, what):
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    (shared / "precious").mkdir()
    plant(what, shared / f"etl-sinks-{os.geteuid()}", shared / "precious")
    with (
        pytest.raises(CheckpointError, match=f"etl-sinks-{os.geteuid()}"),
        GcsStore("gs://b/o").hold(wait=False),
    ):
        pass
    assert not list((shared / "precious").iterdir())


def test_the_folder_of_locks_is_closed_to_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"etl-sinks-{os.geteuid()}"
    folder.mkdir(0o777)
    with GcsStore("gs://b/o").hold(wait=False):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o600), (0o077, 0o600), (0o002, 0o660), (0o000, 0o660)])
def test_what_is_the_library_s_own_is_nobody_else_s_but_a_team_s(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        store = LocalStore(tmp_path / "job.json")
        with store.hold(wait=False):
            store.swap(b"one", None)
            with store.dead_letters("job").open_part(1) as part:
                part.write(b"{}\n")
            found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    names = ("job.json", ".job.json.lock", "job-rejects-000001.ndjson")
    assert found == dict.fromkeys(names, mode)


def test_a_checkpoint_keeps_the_permissions_that_its_owner_gave_it(tmp_path):
    store = LocalStore(tmp_path / "job.json")
    version = store.swap(b"one", None)
    store.path.chmod(0o640)
    store.swap(b"two", version)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o640
