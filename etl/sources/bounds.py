"""How much of a content is held in memory at once: shares of what the job may take.

A record is there several times over while it is read: its bytes, twice where a buffer grows; its text; its values.
Measured, a JSON record of one long string takes 6 times its bytes, a CSV row 15 to 35 times (the `csv` module has 4
bytes a character, and doubles its buffer; a field takes 50 bytes, a line within quotes more). A JSON value takes some
80 bytes besides, be it `[]` or `1.5`.
"""

from __future__ import annotations

from typing import Self

import msgspec

from etl import memory as budgets

MIB = 1 << 20
# A value counts for as many bytes, besides its own: six times that is what it takes.
VALUE = 16
_RECORDS_IN_LIMIT, _RECORD_LEAST, _RECORD_MOST = 32, MIB // 2, 64 * MIB
_ROWS_IN_RECORD = 4
# zstd's own programs go no further than 128 MiB either without being told (ZSTD_WINDOWLOG_LIMIT_DEFAULT, 27); RFC
# 8878, section 3.1.1.1.2, asks for 8 MB at least.
_WINDOWS_IN_LIMIT, _WINDOW_LEAST, _WINDOW_MOST = 6, 8 * MIB, 128 * MIB
# A workbook is held about twice over. A sheet of a million cells has some 30 MiB.
_WORKBOOKS_IN_LIMIT, _WORKBOOK_LEAST, _WORKBOOK_MOST = 4, 8 * MIB, 64 * MIB
# Of the members of a zip file; `zipfile` has each of them in memory, with some 600 bytes and its name three times.
_DIRECTORIES_IN_LIMIT, _DIRECTORY_LEAST, _DIRECTORY_MOST = 3, 16 * MIB, 1024 * MIB
# Of an answer that is a page: its rows are in memory all at once, once more as they were sent.
_PAGES_IN_LIMIT, _PAGE_LEAST, _PAGE_MOST = 16, MIB, 16 * MIB


class TooLarge(Exception):
    """A record is larger than it may be; the message says how large, and what raises the bound."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one of each may take, in bytes.

    Attributes:
        record: a line, an element, an object, or another text that is one record or several: its bytes, and
            `VALUE` for each of its values.
        row: a row of CSV, be it the header.
        window: what a decompressor holds of what it has written.
        workbook: a workbook, unpacked.
        directory: what tells the members of a zip file, in memory.
        page: a page of an API, counted like a record.
    """

    record: int = _RECORD_MOST
    row: int = _RECORD_MOST // _ROWS_IN_RECORD
    window: int = _WINDOW_MOST
    workbook: int = _WORKBOOK_MOST
    directory: int = _DIRECTORY_MOST
    page: int = _PAGE_MOST

    @classmethod
    def of(cls, memory: int | None, *, record: int | None = None) -> Self:
        """Divide what a job may take.

        Args:
            memory: what it may be charged with, in bytes; None: nobody set a limit.
            record: what the job says of a record or a row; None: nothing.
        """
        if memory is None:
            found = cls()
        else:
            of_record = _share(memory, _RECORDS_IN_LIMIT, _RECORD_LEAST, _RECORD_MOST)
            found = cls(
                record=of_record,
                row=of_record // _ROWS_IN_RECORD,
                window=_share(memory, _WINDOWS_IN_LIMIT, _WINDOW_LEAST, _WINDOW_MOST),
                workbook=_share(memory, _WORKBOOKS_IN_LIMIT, _WORKBOOK_LEAST, _WORKBOOK_MOST),
                directory=_share(memory, _DIRECTORIES_IN_LIMIT, _DIRECTORY_LEAST, _DIRECTORY_MOST),
                page=_share(memory, _PAGES_IN_LIMIT, _PAGE_LEAST, _PAGE_MOST),
            )
        return found if record is None else msgspec.structs.replace(found, record=record, row=record)

    @classmethod
    def here(cls, *, record: int | None = None) -> Self:
        """Divide what the control group allows, where nobody says what the job may take; see `of`."""
        return cls.of(budgets.budget().limit, record=record)


UNLIMITED = Bounds()


def too_long(most: int) -> str:
    """Say of a record that it is longer than `most` bytes, and what raises that."""
    return f"longer than {shown(most)}, the most that a record may take here; {advice(most)}"


def advice(most: int) -> str:
    """Say what raises the bound of a record, which is `most` bytes."""
    return (
        f"if it is right, raise max_record_bytes (it is {most}), with as much memory as that needs: a container or "
        f"`memory` of {_RECORDS_IN_LIMIT} times that is enough"
    )


def check_values(text: bytes, most: int) -> None:
    """See that the values of a JSON text fit into memory.

    Raises:
        TooLarge: they do not.
    """
    if said := many_values(text, most):
        raise TooLarge(f"too large: {said} are the most that a record may take here; {advice(most)}")


def many_values(text: bytes, most: int, signs: bytes = b",[{") -> str:
    """Say how large a text is, with its values, and that `most` bytes is what it may be; empty: it is no larger.

    Signs within strings are counted too, which makes little of it in a text for people.

    Args:
        text: of JSON, or CSV.
        most: how large it may be.
        signs: what stands before or behind a value.
    """
    if len(text) * VALUE <= most:
        return ""
    values = sum(text.count(bytes([sign])) for sign in signs)
    if (size := len(text) + VALUE * values) <= most:
        return ""
    return (
        f"with {len(text)} bytes and {values} values, each of which counts for {VALUE} bytes more, it is "
        f"{shown(size)}, and {shown(most)}"
    )


def shown(size: int) -> str:
    """Write a size in bytes for people."""
    if size < MIB:
        return f"{size} bytes"
    return f"{size / MIB:.1f} MiB" if size % MIB else f"{size // MIB} MiB"


def _share(memory: int, parts: int, least: int, most: int) -> int:
    return min(max(memory // parts, least), most)
