"""Checksums that a server or a file beside tells, compared with what came."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Protocol

from etl.errors import SourceCorrupt, SourceError
from sinks import checksum


class _Hash(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def digest(self) -> bytes: ...


class _Crc32c:
    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: bytes) -> None:
        self._crc = checksum.extend(self._crc, data)

    def digest(self) -> bytes:
        return self._crc.to_bytes(4, "big")


class Checksums:
    """The checksums that a content should have, and those that it has, as long as it is read front to back.

    What is not read front to back (zip, Parquet, a content that an earlier run began) is not compared.
    """

    def __init__(self) -> None:
        self._expected: list[tuple[str, _Hash, bytes]] = []
        self._at = 0
        self.in_order = True

    def expect(self, name: str, kind: str, digest: bytes) -> None:
        """Expect a digest.

        Args:
            name: who told it: `Content-MD5`.
            kind: `md5`, `sha256` or `crc32c`.
            digest: what the whole content should have.
        """
        # what a server uses a hash for is its choice: here it finds damage, not forgery
        made: Any = _Crc32c() if kind == "crc32c" else hashlib.new(kind, usedforsecurity=False)
        self._expected.append((name, made, digest))

    def expect_told(self, headers: Mapping[str, str]) -> None:
        """Expect what an answer tells of the whole content.

        `Content-MD5` is that of the body (RFC 1864; RFC 7231 dropped it for what it means of a range, Azure and
        others send it), `x-goog-hash` that of the object as it is stored (Cloud Storage documentation, "HTTP
        headers"): not of one that is decompressed on its way.
        """
        coding = headers.get("Content-Encoding", "").lower() or "identity"
        if "Content-Range" not in headers:
            self._expect_base64("Content-MD5", "md5", headers.get("Content-MD5", ""), 16)
        if headers.get("x-goog-stored-content-encoding", coding).lower() == coding:
            for part in headers.get("x-goog-hash", "").split(","):
                kind, _, digest = part.strip().partition("=")
                if kind in ("md5", "crc32c"):
                    self._expect_base64(f"x-goog-hash ({kind})", kind, digest, 16 if kind == "md5" else 4)

    def add(self, position: int, data: bytes) -> None:
        """Take in what came from `position` on; what was taken in before may come again."""
        if not self.in_order or position + len(data) <= self._at:
            return
        if position > self._at:
            self.in_order = False
            return
        data = data[self._at - position :] if position < self._at else data
        self._at += len(data)
        for _, made, _ in self._expected:
            made.update(data)

    @property
    def to_compare(self) -> bool:
        """Whether there is something to compare, once the rest is read."""
        return self.in_order and bool(self._expected)

    def compare(self, shown: str) -> None:
        """Compare, at the content's end.

        Raises:
            SourceCorrupt: what came is something else.
        """
        if not self.to_compare:
            return
        for name, made, expected in self._expected:
            if made.digest() != expected:
                raise SourceCorrupt(
                    f"{shown}: what came ({self._at} bytes) has the checksum {made.digest().hex()}, and {name} says "
                    f"{expected.hex()}: it was damaged on its way or where it is stored. Its records, as far as they "
                    "are loaded, are in doubt; run again, and if this stays, tell those who keep the file"
                )

    def _expect_base64(self, name: str, kind: str, text: str, size: int) -> None:
        try:
            digest = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return
        if len(digest) == size:
            self.expect(name, kind, digest)


def sha256_of(text: str, name: str, shown: str) -> bytes:
    """Find a file's SHA-256 in what stands in a `.sha256` file, as sha256sum writes it, with or without `--tag`.

    Args:
        text: the content of the file.
        name: the name of the file that the checksum is of.
        shown: the URL of the `.sha256` file, for the message.

    Raises:
        SourceError: there is none.
    """
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
    found: list[tuple[str, str]] = []
    for line in lines:
        if match := re.fullmatch(r"\\?([0-9a-fA-F]{64})(?:\s+\*?(.+))?", line):
            found.append((match[2] or "", match[1]))
        elif match := re.fullmatch(r"SHA2?-?256 ?\((.+)\) ?= ?([0-9a-fA-F]{64})", line):
            found.append((match[1], match[2]))
    named = [digest for of, digest in found if of.rpartition("/")[2] == name]
    if not named and len(found) == 1:
        named = [found[0][1]]
    if not named:
        raise SourceError(
            f"{shown}: no SHA-256 of {name} stands there, as sha256sum would write it; leave `checksum` out, or "
            "look what the server has beside the file"
        )
    return bytes.fromhex(named[0])
