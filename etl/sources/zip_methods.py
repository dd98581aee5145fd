"""How the members of a zip file are packed, and which of that cannot be read."""

from __future__ import annotations

import zipfile

from etl.sources.refusals import Refused

# APPNOTE 6.3.10, 4.4.5, without those that zipfile reads (stored, deflated, bzip2, lzma).
_METHODS = {
    1: "Shrink",
    2: "Reduce",
    3: "Reduce",
    4: "Reduce",
    5: "Reduce",
    6: "Implode",
    9: "Deflate64",
    10: "PKWARE's Implode",
    16: "IBM z/OS CMPSC",
    18: "IBM TERSE",
    19: "IBM LZ77",
    20: "zstd, by its old number",
    93: "zstd",
    94: "MP3",
    95: "xz",
    96: "JPEG",
    97: "WavPack",
    98: "PPMd",
    99: "AES, which encrypts",
}
_READ_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Bits of the general purpose flag (4.4.4): encrypted, strongly encrypted, the directory's names too.
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13


def see_that_it_can_be_read(info: zipfile.ZipInfo) -> None:
    """Look at a member of a zip file before it is opened.

    Raises:
        Refused: it is encrypted, or compressed by a method that Python does not know.
    """
    if info.flag_bits & _ENCRYPTED or info.compress_type == 99:
        raise Refused(
            "encrypted zip",
            "it is encrypted, and no password is asked for or kept",
            "unpack it (7z x FILE), and pack it again without a password",
        )
    if info.compress_type not in _READ_METHODS:
        method = _METHODS.get(info.compress_type, "none that is known")
        raise Refused(
            "zip",
            f"it is packed by zip's method {info.compress_type} ({method}), which Python's zipfile does not read",
            "unpack it (7z x FILE), and pack it again with deflate (zip -r NEW.zip .)",
        )
