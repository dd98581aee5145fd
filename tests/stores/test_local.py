"""The local store: the suite, and what is its own: the lock of a run, and what a crash leaves."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.checkpoint import READABLE, Checkpoint, Part, State, Totals, decode, encode
from etl.errors import CheckpointCorrupt, CheckpointError, CheckpointTooNew, Fenced
from etl.moves import Moves
from etl.records import Position
from etl.stores.local import LocalStore
from etl.testing.stores import StoreSuite
from sinks import SealedPart

HOLD = """
import sys
from etl.stores.local import LocalStore
with LocalStore(sys.argv[1]).hold(wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


class TestLocalStore(StoreSuite):
    def make_store(self, directory: Path) -> LocalStore:
        return LocalStore(directory / "sub" / "job.checkpoint.json")


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the job."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "job.json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_job_that_another_process_holds_is_fenced_and_says_by_whom(tmp_path, holder):
    with (
        pytest.raises(Fenced, match=f"process {holder.pid} on "),
        LocalStore(tmp_path / "job.json").hold(wait=False),
    ):
        pass


def test_waiting_takes_the_job_when_the_other_process_is_killed(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    with LocalStore(tmp_path / "job.json").hold(wait=True):
        pass


def test_nothing_but_the_document_is_left_behind(tmp_path):
    store = LocalStore(tmp_path / "job.json")
    with store.hold(wait=False):
        store.swap(b"one", None)
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


def test_a_read_only_directory_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CheckpointError, match="directory"),
        LocalStore(tmp_path / "file" / "x").hold(wait=False),
    ):
        pass


def test_a_document_that_is_a_directory_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        LocalStore(tmp_path).read()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"version": 1}', b'{"version": "x"}', b"\xff\xfe", b"null"]
)
def test_a_damaged_document_is_named_and_says_what_to_do(data):
    with pytest.raises(CheckpointCorrupt, match="is not a checkpoint"):
        decode(data, "job.json")


def test_a_document_of_a_newer_version_is_refused_before_its_fields_are_read():
    with pytest.raises(CheckpointTooNew, match="version 99"):
        decode(b'{"version": 99, "anything": "else"}', "job.json")


def test_a_document_survives_the_way_through_its_bytes():
    document = Checkpoint(pipeline="job", fingerprint={"source": "x"}, epoch=3, part_bytes=7)
    assert decode(encode(document), "job.json") == document


DOCUMENTS = {
    "indented": Checkpoint(pipeline="job", fingerprint={"source": "x"}, epoch=3, part_bytes=7).left(
        finished=True
    ),
    "in one line": Checkpoint(pipeline="job", fingerprint={"source": "ü" * READABLE}),
}


def test_a_document_of_which_any_bit_was_changed_is_refused():
    data = encode(DOCUMENTS["indented"])
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises((CheckpointCorrupt, CheckpointTooNew)):
                decode(bytes(changed), "job.json")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_that_lost_bytes_or_got_some_is_refused(document):
    data = encode(DOCUMENTS[document])
    assert decode(data, "job.json") == DOCUMENTS[document]
    at = range(0, len(data), max(1, len(data) // 2000))
    changes = (
        [data[:cut] for cut in at]
        + [data[:cut] + data[cut + 1 :] for cut in at]
        + [data + b"\n", b" " + data]
    )
    for changed in changes:
        with pytest.raises(CheckpointCorrupt, match="put back a copy of it"):
            decode(changed, "job.json")


def test_a_document_with_a_key_that_is_not_known_is_refused():
    body = opened(Checkpoint(pipeline="job")).replace(b'"epoch"', b'"epoc"')
    with pytest.raises(CheckpointCorrupt, match="unknown field `epoc`"):
        decode(sealed_again(body), "job.json")


def opened(document: Checkpoint) -> bytes:
    """Return a document as it is stored, without its checksum and its end."""
    return encode(document).partition(b',\n "checksum"')[0]


def sealed_again(body: bytes) -> bytes:
    """Put the right checksum to what was changed, as a person or a program could."""
    checksum = hashlib.blake2b(body, digest_size=16).hexdigest()
    return body + f',\n "checksum": "{checksum}"\n}}\n'.encode()


def state(sequence: int) -> State:
    position = Position(cursor={"file": "a"}, skip=1, number=sequence * 10)
    return State(sequence=sequence, position=position, totals=Totals(records=sequence * 10))


def part(sequence: int) -> Part:
    sealed = SealedPart(sequence=sequence, uri=f"file:///out/{sequence}", bytes=9, crc32c=7)
    return Part.of(sealed, 10, state(sequence), None)


def waiting(loaded: int, parts: tuple[int, ...], reached: int) -> Checkpoint:
    sealed = tuple(part(sequence) for sequence in parts)
    return Checkpoint(pipeline="job", state=state(reached), loaded=state(loaded), sealed=sealed)


def without_one_key(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a document without each of the keys in it, but those of a cursor, which are the source's."""
    items = enumerate(value) if isinstance(value, list) else value.items()
    for key, held in items:
        if isinstance(held, dict | list) and key != "cursor":
            for name, changed in without_one_key(held):
                copy = value.copy()
                copy[key] = changed
                yield f"{key}.{name}", copy
        if isinstance(value, dict):
            yield key, {name: each for name, each in value.items() if name != key}


def test_a_document_that_lacks_a_key_is_refused():
    whole = json.loads(opened(waiting(1, (2, 3), 3)) + b"}")
    lacking = dict(without_one_key(whole))
    assert {"epoch", "state.position.cursor", "sealed.0.after.position.number"} < lacking.keys()
    for key, document in lacking.items():
        body = json.dumps(document).encode().removesuffix(b"}")
        with pytest.raises(CheckpointCorrupt, match="put back a copy of it"):
            decode(sealed_again(body), f"job.json without {key}")


@pytest.mark.parametrize(
    ("loaded", "parts", "reached"), [(1, (), 0), (1, (1,), 1), (1, (3, 2), 3), (1, (2, 2), 2), (1, (2, 3), 2)]
)
def test_a_document_whose_parts_contradict_each_other_is_refused(loaded, parts, reached):
    with pytest.raises(CheckpointCorrupt, match="its parts are out of order"):
        decode(encode(waiting(loaded, parts, reached)), "job.json")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ((b'"succeeded": null', b'"succeeded": 1e300'), "succeeded"),
        ((b'"owner": null', b'"owner": {"host": "h", "pid": 1, "since": 18446744073709551616}'), "since"),
    ],
)
def test_a_document_with_a_moment_that_no_calendar_has_is_refused(change, named):
    body = opened(Checkpoint(pipeline="job")).replace(*change)
    with pytest.raises(CheckpointCorrupt, match=named):
        decode(sealed_again(body), "job.json")


@pytest.mark.parametrize(
    "places",
    ["-1", "{", '{"parts": {"what": "", "paths": []}}', '{"parts": {"what": "", "paths": ["\\u0000"]}}'],
)
def test_a_note_of_places_that_is_none_is_refused_by_name(places):
    with pytest.raises(CheckpointCorrupt, match="holds no note of where its files were"):
        Moves({"places": places}, {}, "checkpoint")


def test_a_process_whose_lock_was_taken_away_leaves_the_lock_of_its_successor(tmp_path):
    first, second, third = (LocalStore(tmp_path / "job.json") for _ in range(3))
    with first.hold(wait=False):
        (tmp_path / ".job.json.lock").unlink()
        successor = second.hold(wait=False)
        successor.__enter__()
    with pytest.raises(Fenced), third.hold(wait=False):
        pass
    successor.__exit__(None, None, None)
