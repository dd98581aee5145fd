"""Uploads: simple, multipart and resumable.

What the resumable protocol does in the cases that its reference leaves open was taken from the table of answers that
Google's own Java client is tested with (googleapis/java-storage, ITJsonResumableSessionPutTaskTest).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from urllib.parse import quote

from etl.testing.gcs_server.answers import PLAIN, Answer, as_json, invalid
from etl.testing.gcs_server.conditions import Conditions, whole_number
from etl.testing.gcs_server.contents import BLOCK, QUANTUM, Body, Expected, Incoming
from etl.testing.gcs_server.requests import LONGEST_JSON, Request, parse_object
from etl.testing.gcs_server.resources import Description
from etl.testing.gcs_server.sessions import Intention, Session, Sessions, cancelled

CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(?:(\d+)|\*)")


def begin(request: Request, bucket: str, sessions: Sessions) -> Answer:
    """Answer POST /upload/…/o: the whole of a simple or multipart upload, or the start of a resumable one."""
    kind = request.required("uploadType")
    if kind == "resumable":
        return begin_resumable(request, bucket, sessions)
    if kind == "media":
        resource: dict[str, object] = {"contentType": request.headers.get("Content-Type")}
        aim = intention(request, bucket, resource)
        sessions.store.check(bucket, aim.name, aim.conditions)
        with sessions.store.incoming() as incoming:
            receive(request.body, incoming, b"")
            return commit(request, sessions, aim, incoming)
    if kind == "multipart":
        boundary, resource = read_first_part(request)
        aim = intention(request, bucket, resource)
        sessions.store.check(bucket, aim.name, aim.conditions)
        with sessions.store.incoming() as incoming:
            receive(request.body, incoming, b"\r\n--" + boundary + b"--")
            return commit(request, sessions, aim, incoming)
    raise invalid(f"Invalid uploadType: {kind!r}")


def intention(request: Request, bucket: str, resource: dict[str, object]) -> Intention:
    """Read what an upload is to become out of its parameters, headers and resource."""
    name = resource.get("name") or request.required("name")
    if not isinstance(name, str) or request.query.get("name", name) != name:
        raise invalid(f"Value {name!r} in content does not agree with value {request.query.get('name')!r}.")
    return Intention(
        bucket=bucket,
        name=name,
        description=Description.of(resource),
        conditions=Conditions.of(request.query),
        expected=Expected.of(resource, request.headers.get("x-goog-hash")),
        length=whole_number(request.headers, "X-Upload-Content-Length"),
    )


def commit(request: Request, sessions: Sessions, aim: Intention, incoming: Incoming) -> Answer:
    """Make the bytes of an upload in one request the object."""
    incoming.checksums.verify(aim.expected, incoming.path)
    stored = sessions.store.commit(
        aim.bucket, aim.name, incoming.path, incoming.checksums, aim.description, aim.conditions
    )
    return as_json(stored.resource(request.url))


def read_first_part(request: Request) -> tuple[bytes, dict[str, object]]:
    """Read a multipart body up to where the media begins; return the boundary and the resource.

    Raises:
        ApiError: 400, it is no multipart/related body with a resource before the media.
    """
    content_type = Message()
    content_type["Content-Type"] = request.headers.get("Content-Type", "")
    boundary = (content_type.get_boundary() or "").encode()
    if content_type.get_content_type() != "multipart/related" or not boundary:
        raise invalid("A multipart upload has the Content-Type multipart/related, with a boundary.")
    if request.body.read_line().strip() != b"--" + boundary:
        raise invalid("The body does not begin with its boundary.")
    read_part_headers(request.body)
    lines: list[bytes] = []
    while (line := request.body.read_line()).rstrip() != b"--" + boundary:
        lines.append(line)
        if not line or sum(map(len, lines)) > LONGEST_JSON:
            raise invalid("The body has no second part.")
    resource: dict[str, object] = parse_object(b"".join(lines))
    media = read_part_headers(request.body)
    resource.setdefault("contentType", media.get("Content-Type"))
    return boundary, resource


def read_part_headers(body: Body) -> Message:
    """Read the headers of a part, and the empty line behind them."""
    lines: list[bytes] = []
    while (line := body.read_line()).strip():
        lines.append(line)
    return BytesHeaderParser().parsebytes(b"".join(lines))


def receive(body: Body, incoming: Incoming, end: bytes) -> None:
    """Store the rest of a body, but for `end`, which it must end with; a line end behind that is allowed.

    Raises:
        ApiError: 400, it ends otherwise.
        BodyBroken: the connection ended first.
    """
    kept = len(end) + 2 if end else 0
    buffer = memoryview(bytearray(kept + BLOCK))
    held = 0
    while got := body.fill(buffer[held:]):
        sure = max(held + got - kept, 0)
        incoming.append(buffer[:sure])
        held += got - sure
        buffer[:held] = bytes(buffer[sure : sure + held])
    tail = bytes(buffer[:held])
    found = tail.removesuffix(b"\r\n") if tail.endswith(end + b"\r\n") else tail
    if not found.endswith(end):
        raise invalid("The body does not end with its boundary.")
    incoming.append(memoryview(found.removesuffix(end)))


# Resumable uploads


def begin_resumable(request: Request, bucket: str, sessions: Sessions) -> Answer:
    """Open a session; its Location leads through whatever the client came through."""
    resource: dict[str, object] = request.json()
    resource.setdefault("contentType", request.headers.get("X-Upload-Content-Type"))
    aim = intention(request, bucket, resource)
    sessions.store.check(bucket, aim.name, aim.conditions)
    session = sessions.begin(aim)
    location = (
        f"{request.url}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
        f"?uploadType=resumable&name={quote(aim.name, safe='')}&upload_id={session.id}"
    )
    if payer := request.query.get("userProject"):  # so that the session's own requests name it, too
        location += f"&userProject={quote(payer, safe='')}"
    return Answer(200, (("Location", location), ("X-GUploader-UploadID", session.id)))


def cancel(request: Request, sessions: Sessions) -> Answer:
    """Answer the DELETE of a session: its bytes are gone; one that is finished stays finished."""
    session = sessions.find(request.required("upload_id"))
    with session.lock:
        if session.state == "open":
            sessions.close(session, "cancelled")
            raise cancelled()
        return finished(request, session)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What a PUT says its body is: bytes `first` to `last` (None: it has none) of `total` (None: not known yet)."""

    first: int | None
    last: int | None
    total: int | None

    @classmethod
    def of(cls, request: Request) -> ContentRange:
        """Read the header; without one the body is the whole object.

        Raises:
            ApiError: 400, it cannot be read, or does not fit the body.
        """
        header, length = request.headers.get("Content-Range"), request.body.length
        if header is None:
            if length is None:
                raise invalid("A chunk without a length needs a Content-Range header.")
            return cls(0, length - 1, length) if length else cls(None, None, 0)
        match = CONTENT_RANGE.fullmatch(header.strip())
        if not match:
            raise invalid(f"Failed to parse Content-Range header: {header!r}.")
        first, last, total = (None if group is None else int(group) for group in match.groups())
        expected = 0 if first is None or last is None else last - first + 1
        if length not in (None, expected):
            raise invalid(f"Content-Range {header!r} means {expected} bytes, and the body has {length}.")
        if expected < 0 or (last is not None and total is not None and last >= total):
            raise invalid(f"Content-Range {header!r} makes no sense.")
        final = last is not None and total == last + 1
        if expected % QUANTUM and not final:
            # Google's service demands "equal or greater than 262144" in its message, and the multiple in its reference.
            raise invalid(
                "Invalid request.  The number of bytes uploaded is required to be a multiple of "
                f"{QUANTUM}, except for the final request.  The received request contained {expected} bytes."
            )
        return cls(first, last, total)


def put(request: Request, sessions: Sessions) -> Answer:
    """Answer a PUT to a session: a chunk, the question how far it is, or its end.

    Raises:
        ApiError: 400, 404, 410, 412, 499.
        BodyBroken: the connection ended; what came is stored in multiples of 256 KiB.
        Superseded: a newer request for the session has come.
    """
    session = sessions.find(request.required("upload_id"))
    token = session.take_over()
    if session.state == "finished":
        return finished(request, session)
    part = ContentRange.of(request)
    declared = session.intention.length
    if declared is not None and part.total not in (None, declared):
        raise invalid(f"The upload was declared to have {declared} bytes, and now has {part.total}.")
    if part.first is not None and part.last is not None:
        if part.first > session.stored:
            text = (
                "Invalid request. According to the Content-Range header, the upload offset is "
                f"{part.first} byte(s), which exceeds already uploaded size of {session.stored} byte(s)."
            )
            return Answer(503, (("Content-Type", PLAIN),), text.encode())
        store_chunk(request.body, session, part.first, part.last, sessions.take_limit(), token)
    with session.lock:
        if session.state != "open" or part.total != session.stored:
            return standing(request, session)
        sessions.finish(session, Expected.of({}, request.headers.get("x-goog-hash")))
        return finished(request, session)


def store_chunk(
    body: Body, session: Session, first: int, last: int, limit: int | None, token: object
) -> None:
    """Store what is new in a chunk: bytes that are there already are read and dropped."""
    with session.lock:
        known = min(session.stored - first, last - first + 1)
    body.skip(known)
    new = last - first + 1 - known
    if limit is not None:
        new = min(new, limit)
    if new:
        session.append(body, new, token)
    body.skip()


def standing(request: Request, session: Session) -> Answer:
    """Say how far a session is: 308, without a Range when nothing is stored."""
    if session.state == "finished":
        return finished(request, session)
    if session.state != "open":
        raise cancelled()
    headers = (("Range", f"bytes=0-{session.stored - 1}"),) if session.stored else ()
    return Answer(308, (*headers, ("X-GUploader-UploadID", session.id)))


def finished(request: Request, session: Session) -> Answer:
    """Answer with the object that a session made, as it was when it was made."""
    assert session.result is not None  # set before the state is
    return as_json(session.result.resource(request.url))
