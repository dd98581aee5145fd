"""How the document is stored: JSON that ends with a checksum of its own bytes, so that nothing is guessed from it."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import msgspec

from etl.checkpoint.document import VERSION, Checkpoint
from etl.errors import CheckpointCorrupt, CheckpointTooNew

# How a document ends: the checksum of all that stands before it, as bytes. Exact, so that nothing after it can change.
_SEAL = ',\n "checksum": "{}"\n}}\n'
_SEALED = re.compile(rb',\n "checksum": "([0-9a-f]{32})"\n}\n\Z')

# Up to this many bytes a document is indented, for people: that makes it half as long again.
READABLE = 64 * 1024


def encode(document: Checkpoint) -> bytes:
    """Return the document as JSON with a checksum; indented, unless thousands of parts wait."""
    data = msgspec.json.encode(document)
    body = msgspec.json.format(data, indent=1) if len(data) <= READABLE else data
    body = body.removesuffix(b"}").rstrip()
    return body + _SEAL.format(_checksum(body)).encode()


def decode(data: bytes, uri: str) -> Checkpoint:
    """Read a document.

    Args:
        data: its bytes.
        uri: where they came from, for the message.

    Raises:
        CheckpointTooNew: a newer version of this library wrote it.
        CheckpointCorrupt: it is not JSON, or not this document, or a byte of it is not what was written.
    """
    try:
        found = _SEALED.search(data)
        if found is None:
            _see_version(data, uri)
            raise _corrupt(uri, "it does not end with its checksum")
        body = data[: found.start()]
        if _checksum(body).encode() != found[1]:
            raise _corrupt(uri, "its checksum does not fit: it was changed since it was written")
        _see_version(body + b"}", uri)
        document = msgspec.json.decode(body + b"}", type=Checkpoint)
        # A key that is missing would be read as if the job had not begun.
        if msgspec.json.decode(body + b"}") != msgspec.json.decode(msgspec.json.encode(document)):
            raise _corrupt(uri, "keys of it are missing, or are not known")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _corrupt(uri, str(error)) from error
    numbers = [document.loaded.sequence, *(part.sequence for part in document.outstanding)]
    if any(one >= other for one, other in pairwise(numbers)) or numbers[-1] > document.state.sequence:
        raise _corrupt(uri, "its parts are out of order")
    return document


def _checksum(body: bytes) -> str:
    """Return a checksum that no change of a few bits leaves as it is (BLAKE2b, RFC 7693, 16 bytes)."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _see_version(data: bytes, uri: str) -> None:
    version = msgspec.json.decode(data, type=_Version).version
    if version > VERSION:
        raise CheckpointTooNew(
            f"{uri} is a checkpoint of version {version}; this library reads version {VERSION}: "
            "run the job with the version of etl-sinks that wrote it, or a newer one"
        )


def _corrupt(uri: str, why: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"{uri} is not a checkpoint, or a damaged one ({why}); put back a copy of it. With a warehouse "
        "that keeps a ledger (DuckDB) it may be deleted: the job then goes on from the ledger"
    )


class _Version(msgspec.Struct):
    version: int
