"""An upload on its own: what it makes, what it takes along, and what it leaves behind, when nothing goes wrong."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.testing.gcs_server import GcsServer
from sinks import SinkError, SinkOccupied, checksum
from sinks.gcs import Objects, Upload, connect
from sinks.gcs.upload import CHUNK_UNIT, METADATA_BYTES, fitting
from tests.sinks.conftest import BUCKET


@pytest.fixture
def client(gcs: GcsServer) -> Iterator[Any]:
    made = connect()
    yield made
    made.close()


def stored(gcs: GcsServer, name: str = "object") -> bytes:
    return (gcs.root / BUCKET / name).read_bytes()


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_UNIT - 1, CHUNK_UNIT, CHUNK_UNIT + 1, 4 * CHUNK_UNIT, 5 * CHUNK_UNIT - 7]
)
def test_an_object_of_any_size_is_what_was_written(gcs: GcsServer, client: Any, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    with Upload(client, BUCKET, "object", chunk_bytes=CHUNK_UNIT) as upload:
        for start in range(0, size, 100_003):
            upload.write(memoryview(data)[start : start + 100_003])
        assert upload.bytes == size
    made = upload.finish()
    assert (made.bytes, made.crc32c) == (size, checksum.extend(0, data))
    assert stored(gcs) == data
    found = Objects(client, BUCKET).find("object")
    assert found is not None
    assert found == made
    assert gcs.sessions() == 0


def test_nothing_is_there_before_it_is_finished(gcs: GcsServer, client: Any) -> None:
    upload = Upload(client, BUCKET, "object", chunk_bytes=CHUNK_UNIT)
    upload.write(bytes(4 * CHUNK_UNIT))
    assert gcs.objects(BUCKET) == {}
    upload.finish()
    assert gcs.objects(BUCKET) == {"object": 4 * CHUNK_UNIT}


def test_an_exception_in_the_middle_leaves_no_object_and_no_session(gcs: GcsServer, client: Any) -> None:
    with pytest.raises(ZeroDivisionError), Upload(client, BUCKET, "object", chunk_bytes=CHUNK_UNIT) as upload:  # noqa: PT012
        upload.write(bytes(4 * CHUNK_UNIT))
        raise ZeroDivisionError
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0


def test_an_upload_that_is_dropped_leaves_no_object_and_no_session(gcs: GcsServer, client: Any) -> None:
    upload = Upload(client, BUCKET, "object", chunk_bytes=CHUNK_UNIT)
    upload.write(bytes(4 * CHUNK_UNIT))
    (thread,) = (each for each in threading.enumerate() if each.name == "upload object")
    del upload
    gc.collect()
    thread.join()
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0


def test_an_aborted_upload_ends_its_thread(gcs: GcsServer, client: Any) -> None:
    upload = Upload(client, BUCKET, "object", chunk_bytes=CHUNK_UNIT)
    upload.write(bytes(4 * CHUNK_UNIT))
    upload.abort()
    upload.abort()
    assert "upload object" not in [each.name for each in threading.enumerate()]
    with pytest.raises(RuntimeError, match="aborted"):
        upload.finish()
    assert gcs.objects(BUCKET) == {}


def test_an_object_that_exists_is_never_overwritten(gcs: GcsServer, client: Any) -> None:
    with Upload(client, BUCKET, "object") as upload:
        upload.write(b"theirs")
    with (
        pytest.raises(SinkOccupied, match="gs://parts/object exists"),
        Upload(client, BUCKET, "object") as upload,
    ):
        upload.write(b"ours")
    assert stored(gcs) == b"theirs"


def test_of_two_uploads_to_one_name_one_makes_the_object_and_the_other_leaves_it(
    gcs: GcsServer, client: Any
) -> None:
    late = Upload(client, BUCKET, "object", chunk_bytes=CHUNK_UNIT)
    late.write(bytes(4 * CHUNK_UNIT))
    with Upload(client, BUCKET, "object") as early:
        early.write(b"early")
    with pytest.raises(SinkOccupied):
        late.finish()
    late.abort()
    assert stored(gcs) == b"early"
    assert gcs.sessions() == 0


def test_what_is_known_early_and_what_is_known_late_are_both_kept(client: Any) -> None:
    with Upload(client, BUCKET, "object", chunk_bytes=CHUNK_UNIT, metadata={"epoch": "1"}) as upload:
        upload.write(bytes(4 * CHUNK_UNIT))
        upload.describe({"records": "17"})
    found = Objects(client, BUCKET).find("object")
    assert found is not None
    assert found == upload.finish()
    assert {name: found.metadata[name] for name in ("epoch", "records")} == {"epoch": "1", "records": "17"}
    assert found.metageneration == 2


def test_the_metadata_of_one_chunk_take_no_request_of_their_own(client: Any) -> None:
    with Upload(client, BUCKET, "object", metadata={"epoch": "1"}) as upload:
        upload.write(b"x")
        upload.describe({"records": "1"})
    assert upload.finish().metageneration == 1


def test_long_metadata_are_cut_to_what_the_storage_takes(client: Any) -> None:
    long = {"first": "ä" * 10_000, "last": "x" * 10_000, "epoch": "1"}
    with Upload(client, BUCKET, "object", metadata=long):
        pass
    found = Objects(client, BUCKET).find("object")
    assert found is not None
    assert (
        sum(len(name.encode()) + len(value.encode()) for name, value in found.metadata.items())
        <= METADATA_BYTES
    )
    assert found.metadata["epoch"] == "1"
    assert set(found.metadata["first"]) == {"ä"}
    assert fitting({}) == {}


def test_the_content_type_is_kept(gcs: GcsServer, client: Any) -> None:
    with Upload(client, BUCKET, "object", content_type="application/json"):
        pass
    assert client.bucket(BUCKET).get_blob("object").content_type == "application/json"
    assert gcs.sessions() == 0


@pytest.mark.parametrize("size", [0, 1, CHUNK_UNIT - 1, CHUNK_UNIT + 1])
def test_chunks_are_multiples_of_what_the_protocol_takes(client: Any, size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 262144"):
        Upload(client, BUCKET, "object", chunk_bytes=size)


def test_buffers_are_used_again(client: Any) -> None:
    spare: list[bytearray] = []
    for name in ("one", "two"):
        with Upload(client, BUCKET, name, chunk_bytes=CHUNK_UNIT, spare=spare) as upload:
            upload.write(bytes(4 * CHUNK_UNIT))
        assert len(spare) == 2
    assert len({id(each) for each in spare}) == 2


def test_a_file_in_the_place_of_a_key_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(SinkError, match="no Google credentials can be used") as caught:
        connect(5.0)
    assert "\n" not in str(caught.value)
