"""What tells one content of a URL from another: validators, lengths, ranges (RFC 9110, sections 8.8 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from etl.sources.place import Version
from etl.sources.web_answers import Download
from etl.sources.web_session import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an answer says about the content.

    Attributes:
        version: its ETag, when it was changed, its length.
        condition: what `If-Range` may hold; None: nothing tells that the bytes are the same.
        coding: its Content-Encoding; empty: none, or it is not said.
        first: where in the content the body begins.
        whole: whether the body is meant to be the whole content (200), not a range of it (206).
    """

    version: Version
    condition: str | None
    coding: str
    first: int
    whole: bool

    @classmethod
    def of(cls, download: Download) -> Found:
        """Read an answer of status 200, 206, 412 or 416."""
        headers = download.headers
        tag = headers.get("ETag") or None
        strong = tag if tag is not None and not tag.startswith("W/") else None
        modified = headers.get("Last-Modified") or None
        first, length = _extent(download)
        # A date tells contents apart only if it lies a second or more before the answer (section 8.8.2.2).
        dated = modified if modified is not None and _is_past(modified, headers) else None
        return cls(
            version=Version(
                tag=strong, weak_tag=tag if strong is None else None, modified=modified, length=length
            ),
            condition=strong or dated,
            coding=headers.get("Content-Encoding", "").strip().lower(),
            first=first,
            whole=download.status not in (206, 412, 416),
        )


def changed(before: Version, now: Version) -> str:
    """Say in which way a content is another one; empty: it is not, as far as the server tells.

    What only one of both has is not compared. Where both have a strong ETag, the date does not matter: the
    servers behind one name may have stored the same content at different times. A weak one may stay the same while
    the bytes change, but not the other way round.
    """
    for one, other in ((before.tag, now.tag), (before.weak_tag, now.weak_tag)):
        if one and other and one != other:
            return f"its ETag was {one} and is {other}"
    same_tag = bool(before.tag and now.tag)
    if not same_tag and before.modified and now.modified and before.modified != now.modified:
        return f"it was last modified {before.modified!r} and is now {now.modified!r}"
    if before.length is not None and now.length is not None and before.length != now.length:
        return f"it had {before.length} bytes and has {now.length}"
    return ""


def told(before: Version, now: Version) -> bool:
    """Say whether a server tells by more than the length whether two contents are one."""
    return any(
        (one and other)
        for one, other in (
            (before.tag, now.tag),
            (before.weak_tag, now.weak_tag),
            (before.modified, now.modified),
        )
    )


def _extent(download: Download) -> tuple[int, int | None]:
    """Return where the body begins in the content, and how long the content is, as far as the answer says."""
    if download.status in (206, 416):
        said = download.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", said.strip())
        if match is None:
            return -1, None
        return int(match[1] or 0), None if match[2] == "*" else int(match[2])
    return 0, None if download.status == 412 else download.length


def _is_past(modified: str, headers: Mapping[str, str]) -> bool:
    at, now = moment(modified), moment(headers.get("Date", ""))
    return at is not None and now is not None and now - at >= timedelta(seconds=1)
