"""A URL that was read before: whether it is what it was, has grown, or is another one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from etl.sources.changes import Verdict
from etl.sources.identity import Comparison
from etl.sources.place import Place, Version
from etl.sources.web_version import Found, changed, told

if TYPE_CHECKING:
    from etl.sources.http_file import HttpFile
    from etl.sources.web import Web


def is_as_it_was(web: Web, url: str, was: Version) -> bool:
    """Ask whether a content is the one that was read, with a conditional request (RFC 9110, section 13).

    The body of another answer than 304 is not read.

    Raises:
        SourceError: there is no answer, or no content any more.
    """
    headers = {}
    if tag := was.tag or was.weak_tag:
        headers["If-None-Match"] = tag
    if was.modified:
        headers["If-Modified-Since"] = was.modified
    with closing(web.trying(lambda: web.attempt(url, headers=headers, also=(304,)), url)) as download:
        if download.status == 304:
            return True
        now = Found.of(download).version
        return told(was, now) and not changed(was, now)


def judge(file: HttpFile, place: Place, upto: int, now: Version) -> Generator[None, None, Verdict]:
    """Say what became of the content that `place` is in; steps now and then, so that a caller who waits may leave.

    The server's word is taken where it says that it is the same. Where it says that it is another one, or nothing,
    the bytes decide that were read, as each server behind one name may have tags and dates of its own: all of them
    where it says something, else the first and the last, and all up to 8 MiB. Where a text was not read to its end,
    they are those before the cursor; what is decompressed or decoded is compared when it is read again up to there.

    Args:
        file: the content; it is left at its beginning.
        place: where it was read up to, and what it was.
        upto: how many bytes of it were read before it was opened.
        now: what it is, as the server says.
    """
    was, seen = place.version, place.seen
    if was is None:
        return Verdict("same")
    why = changed(was, now)
    if not why and told(was, now):
        return Verdict("same")
    if seen is not None and seen.of == "text":
        return Verdict("same")  # so far
    if seen is None or seen.apart or not seen.upto:
        return Verdict("changed", why) if why else Verdict("same")
    partly = seen.of == "start"
    before = upto if partly else max(was.length or 0, upto)
    if now.length is not None and now.length < before:
        said = f"it is shorter than the {before} bytes that {'were read of it' if partly else 'it had'}"
        return Verdict("changed", why or said)
    comparison = Comparison(file, seen, whole=bool(why))  # type: ignore[arg-type]  # it reads and seeks, which is what is asked of it
    yield from comparison
    if not comparison.same:
        return Verdict(
            "changed", f"{why + ', and ' if why else ''}the bytes that were read of it are others now"
        )
    if not place.done:
        return Verdict("same")
    if (length := now.length) is None:
        file.seek(upto)
        length = upto + bool(file.peek(1))
        file.seek(0)
    return Verdict("grown" if length > before else "same")
