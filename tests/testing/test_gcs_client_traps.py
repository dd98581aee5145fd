"""What Google's client does at the edges, and so why this project owns its upload protocol.

Each test holds a fact about google-cloud-storage against the strict server. One that fails after an upgrade of the
client is good news: see what of the project's own protocol may go.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from etl.testing.gcs_server import GcsServer
from tests.testing.gcs_wire import BUCKET, QUANTUM

if TYPE_CHECKING:
    from google.cloud import storage

DATA = os.urandom(3 * QUANTUM + 1000)


class Oops(Exception):
    """What goes wrong in the middle of writing."""


def test_text_mode_finalises_a_partial_object_when_an_exception_leaves_it(
    gcs: GcsServer, bucket: storage.Bucket
) -> None:
    with suppress(Oops), bucket.blob("a").open("wt", if_generation_match=0) as file:
        file.write("the first half, ")
        raise Oops
    assert gcs.objects(BUCKET) == {"a": len("the first half, ")}


def test_a_writer_that_is_dropped_finalises_a_partial_object(gcs: GcsServer, bucket: storage.Bucket) -> None:
    writer = bucket.blob("a").open("wb", if_generation_match=0)
    writer.write(b"the first half, ")
    del writer
    gc.collect()
    assert gcs.objects(BUCKET) == {"a": len(b"the first half, ")}


def test_binary_mode_aborts_on_an_exception_but_its_session_stays_open(
    gcs: GcsServer, bucket: storage.Bucket
) -> None:
    with suppress(Oops), bucket.blob("a").open("wb", chunk_size=QUANTUM) as file:
        file.write(DATA)
        raise Oops
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 1  # the DELETE went to the address that the upload began at


def test_a_short_308_ends_the_upload_though_the_rest_could_be_sent(
    gcs: GcsServer, bucket: storage.Bucket
) -> None:
    gcs.persist_at_most(QUANTUM)
    writer = bucket.blob("a").open("wb", chunk_size=2 * QUANTUM)
    with pytest.raises(ValueError, match="Bytes stream is in unexpected state"):
        writer.write(DATA + DATA)
    writer.terminate()


def test_a_short_308_ends_the_upload_of_a_file_too(gcs: GcsServer, bucket: storage.Bucket) -> None:
    from io import BytesIO

    gcs.persist_at_most(QUANTUM)
    blob = bucket.blob("a", chunk_size=2 * QUANTUM)
    with pytest.raises(ValueError, match="Bytes stream is in unexpected state"):
        blob.upload_from_file(BytesIO(DATA + DATA))


def test_a_short_308_to_the_last_chunk_leaves_no_object_and_no_error(
    gcs: GcsServer, bucket: storage.Bucket
) -> None:
    writer = bucket.blob("a").open("wb", chunk_size=4 * QUANTUM)
    writer.write(DATA)
    gcs.persist_at_most(QUANTUM)
    writer.close()
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 1


def test_the_generation_of_what_was_written_is_not_known(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    with blob.open("wb") as file:
        file.write(DATA)
    assert blob.generation is None
    found = bucket.get_blob("a")
    assert found is not None
    assert found.generation is not None


def test_an_expired_session_is_not_begun_again(gcs: GcsServer, bucket: storage.Bucket) -> None:
    from google.cloud.storage.exceptions import InvalidResponse

    writer = bucket.blob("a").open("wb", chunk_size=QUANTUM)
    writer.write(DATA[:QUANTUM])
    gcs.expire_sessions()
    with pytest.raises(InvalidResponse, match="410"):
        writer.write(DATA[:QUANTUM])
    writer.terminate()


class FlipsABit(HTTPAdapter):
    """A bad line: one bit of each chunk is another on the other side; it may lose the checksum's header, too."""

    def __init__(self, *, loses_checksum: bool) -> None:
        super().__init__()
        self.loses_checksum = loses_checksum

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        if request.method == "PUT" and isinstance(request.body, bytes):
            request.body = bytes([request.body[0] ^ 1]) + request.body[1:]
            if self.loses_checksum:
                request.headers.pop("x-goog-hash", None)
        return super().send(request, *args, **options)


def test_bytes_that_changed_on_the_way_are_refused_when_the_checksum_is_with_them(
    gcs: GcsServer, client: storage.Client, bucket: storage.Bucket
) -> None:
    from google.cloud.storage.exceptions import InvalidResponse

    client._http.mount(gcs.url, FlipsABit(loses_checksum=False))
    writer = bucket.blob("a").open("wb", chunk_size=4 * QUANTUM)
    writer.write(DATA)
    with pytest.raises(InvalidResponse) as caught:
        writer.close()
    assert "doesn't match calculated CRC32C" in caught.value.response.text
    writer.terminate()
    assert gcs.objects(BUCKET) == {}


def test_bytes_that_changed_on_the_way_stay_as_an_object_when_the_client_finds_out_afterwards(
    gcs: GcsServer, client: storage.Client, bucket: storage.Bucket
) -> None:
    from google.cloud.storage.exceptions import DataCorruption

    client._http.mount(gcs.url, FlipsABit(loses_checksum=True))
    writer = bucket.blob("a").open("wb", chunk_size=4 * QUANTUM)
    writer.write(DATA)
    with pytest.raises(DataCorruption):
        writer.close()
    writer.terminate()
    assert gcs.objects(BUCKET) == {"a": len(DATA)}


def test_one_of_its_precondition_parameters_is_misspelt(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"old")
    blob.upload_from_string(
        b"new", if_metageneration_not_match=1
    )  # sent as ifMetaGenerationNotMatch, and ignored
    assert blob.download_as_bytes() == b"new"
