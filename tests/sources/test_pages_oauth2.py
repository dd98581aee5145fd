"""Access tokens of OAuth 2.0 (RFC 6749): asked for, renewed, never kept, and every way in which there is none."""

from __future__ import annotations

import json
import pickle
import traceback
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from paged_api import JSON, STYLES, Api, rows_of, said
from pulling import assert_resumes_everywhere, pull, taken

import etl
from etl.errors import SourceError, SourceMissing, SourceRefused, SourceUnavailable
from etl.records import Mark
from etl.sources import Pages
from tests.web import Answer, Request

SECRET = "cl1ent/s3cret+ word"
REFRESH = "r3fresh-token-0123"


class Guarded:
    """An API that takes the token that was given last, for so many requests.

    Args:
        api: serves the rows.
        uses: how many requests a token is good for.
        says: is added to the token endpoint's answers.
    """

    def __init__(self, api: Api, uses: int = 1000, says: dict[str, Any] | None = None) -> None:
        self.api, self.uses, self.says = api, uses, says or {}
        self.tokens: list[str] = []
        self.used = 0
        self.asked: list[Request] = []
        self.trouble: list[Answer] = []
        api.faults = self.answer

    def answer(self, request: Request) -> Answer | None:
        if request.path == "/token":
            self.asked.append(request)
            if self.trouble:
                return self.trouble.pop(0)
            self.tokens.append(f"t0ken-{len(self.tokens)}-abcdefgh")
            self.used = 0
            return said(
                {"access_token": self.tokens[-1], "token_type": "Bearer", "expires_in": 3600, **self.says}
            )
        self.used += 1
        good = self.tokens and request.headers.get("authorization") == f"Bearer {self.tokens[-1]}"
        if not good or self.used > self.uses:
            return Answer(status=401, headers=JSON, body=b'{"error": "invalid_token"}')
        return None


def source(api: Api, path: str = "offset", oauth2: Any = (), **changes: Any) -> Pages:
    who = {"token_url": f"{api.url}/token", "client_id": "me", "client_secret": SECRET, **dict(oauth2)}
    pages = Pages(
        f"{api.url}/{path}", **{"page_size": 10, "deadline": 30, "oauth2": who, **STYLES[path], **changes}
    )
    pages._first_wait = 0.001
    return pages


@pytest.mark.parametrize("path", ["offset", "cursor", "link", "graphql"])
def test_a_token_is_asked_for_once_and_sent_with_each_page(path: str) -> None:
    with Api(rows_of(25)) as api:
        guarded = Guarded(api)
        pages = source(api, path)
        assert taken(pages) == rows_of(25)
        assert len(guarded.tokens) == 1
        assert_resumes_everywhere(pages)


@pytest.mark.parametrize(
    ("oauth2", "form"),
    [
        ({}, {"grant_type": "client_credentials"}),
        (
            {"scope": "read write", "audience": "api", "params": {"resource": "r"}},
            {"grant_type": "client_credentials", "scope": "read write", "audience": "api", "resource": "r"},
        ),
        (
            {"client_auth": "body"},
            {"grant_type": "client_credentials", "client_id": "me", "client_secret": SECRET},
        ),
        (
            {"refresh_token": REFRESH, "scope": ["read"]},
            {"grant_type": "refresh_token", "refresh_token": REFRESH, "scope": "read"},
        ),
        (
            {"refresh_token": REFRESH, "client_secret": None},
            {"grant_type": "refresh_token", "refresh_token": REFRESH, "client_id": "me"},
        ),
    ],
)
def test_the_request_for_a_token_is_what_the_standard_has(oauth2: Any, form: Any) -> None:
    """RFC 6749, sections 2.3.1 (Basic, or in the body), 4.4.2 and 6."""
    with Api(rows_of(5)) as api:
        guarded = Guarded(api)
        assert len(taken(source(api, oauth2=oauth2))) == 5
        [request] = guarded.asked
        assert request.method == "POST"
        assert {name: values[0] for name, values in parse_qs(request.body.decode()).items()} == form
        if "client_id" in form:
            assert "authorization" not in request.headers
        else:
            name, _, secret = (
                b64decode(request.headers["authorization"].removeprefix("Basic ")).decode().partition(":")
            )
            assert (name, unquote_plus(secret)) == ("me", SECRET)


@pytest.mark.parametrize("uses", [1, 2, 3])
@pytest.mark.parametrize("path", ["offset", "graphql"])
def test_a_token_that_is_refused_in_the_middle_is_renewed_once(path: str, uses: int) -> None:
    with Api(rows_of(45)) as api:
        guarded = Guarded(api, uses=uses)
        assert taken(source(api, path)) == rows_of(45)
        assert len(guarded.tokens) > 1
        assert len(api.requests) < 20


def test_a_token_is_renewed_before_it_expires() -> None:
    with Api(rows_of(25)) as api:
        guarded = Guarded(api, says={"expires_in": -1})
        assert taken(source(api)) == rows_of(25)
        assert len(guarded.tokens) == 4
        assert all(request.path == "/token" for request in api.requests[::2])


@pytest.mark.parametrize("life", [None, "3600", 3600.5])
def test_a_life_that_is_not_told_or_told_badly_is_no_trouble(life: Any) -> None:
    with Api(rows_of(25)) as api:
        Guarded(api, says={"expires_in": life, "token_type": "bearer", "scope": "other"})
        assert taken(source(api)) == rows_of(25)


def test_a_new_token_that_is_refused_too_is_a_named_error() -> None:
    with Api(rows_of(25)) as api:
        Guarded(api, uses=0)
        with pytest.raises(
            SourceRefused, match=r"offset 0: .*401.*invalid_token.*the token is a new one: look at scope"
        ):
            taken(source(api))
        assert len(api.requests) == 4


TROUBLE = [
    (
        Answer(status=400, headers=JSON, body=b'{"error": "invalid_scope"}'),
        SourceRefused,
        "invalid_scope.*look at",
    ),
    (
        Answer(status=401, headers=JSON, body=b'{"error": "invalid_client"}'),
        SourceRefused,
        "invalid_client.*client_auth",
    ),
    (Answer(status=404), SourceMissing, "/token: the server said 404"),
    (Answer(status=500), SourceUnavailable, "no token is given: .*/token: the server said 500; it was tried"),
    (Answer(status=429, headers={"Retry-After": "60"}), SourceUnavailable, "asks to wait 60 s"),
    (Answer(body=b"<html>Sign in</html>"), SourceRefused, "gives no token .missing_token"),
    (Answer(body=b"[1]"), SourceRefused, "its answer is not what RFC 6749"),
    (Answer(body=b"\xff"), SourceRefused, "its answer is not what RFC 6749"),
    (
        said({"error": "invalid_grant", "error_description": f"no {REFRESH}"}),
        SourceRefused,
        r"invalid_grant: no \*\*\*",
    ),
    (said({"access_token": "x", "token_type": "mac"}), SourceRefused, "type 'mac', and only bearer"),
    (Answer(status=302, headers={"Location": "/elsewhere"}), SourceRefused, "sent by POST is redirected"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), TROUBLE)
def test_a_token_endpoint_that_gives_none_is_a_named_error(
    answer: Answer, kind: type[Exception], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Api(rows_of(25)) as api:
        guarded = Guarded(api)
        guarded.trouble = [answer] * 100
        with pytest.raises(kind, match=rf"oauth2: .*{words}") as raised:
            taken(source(api, oauth2={"refresh_token": REFRESH}, deadline=1 if answer.status == 500 else 30))
        said_all = "".join(traceback.format_exception(raised.value)) + caplog.text
        for secret in (SECRET, REFRESH, "s3cret"):
            assert secret not in said_all


def test_one_that_is_busy_is_asked_again() -> None:
    with Api(rows_of(25)) as api:
        guarded = Guarded(api)
        guarded.trouble = [Answer(status=503), Answer(status=429, headers={"Retry-After": "0"})]
        assert taken(source(api)) == rows_of(25)
        assert len(guarded.asked) == 3


def test_one_that_cannot_be_reached_is_a_named_error() -> None:
    with Api([]) as api, pytest.raises(SourceUnavailable, match=r"oauth2: .*127\.0\.0\.1:1/token: no answer"):
        taken(source(api, oauth2={"token_url": "http://127.0.0.1:1/token"}, deadline=1))


def test_a_refresh_token_that_changes_is_told_and_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    with Api(rows_of(5)) as api:
        guarded = Guarded(api, says={"refresh_token": "another-refresh-token"})
        pages = source(api, oauth2={"refresh_token": REFRESH})
        assert taken(pages) == rows_of(5)
        assert "gives another refresh token" in caplog.text
        assert "another-refresh-token" not in caplog.text
        assert len(guarded.asked) == 1


class TestSecrets:
    def test_they_are_in_no_cursor_nor_fingerprint_nor_file(self, tmp_path: Path) -> None:
        with Api(rows_of(25)) as api:
            guarded = Guarded(api, uses=2)
            pages = source(api, oauth2={"refresh_token": REFRESH})
            etl.Pipeline(
                "rows",
                source=pages,
                sink={"type": "reused_file", "path": str(tmp_path / "rows.ndjson")},
                warehouse={"type": "duckdb", "path": str(tmp_path / "rows.duckdb"), "table": "rows"},
                checkpoint=tmp_path / "rows.checkpoint.json",
            ).run()
            marks = json.dumps([item.cursor for item in pull(pages) if isinstance(item, Mark)])
            texts = [marks, pages.fingerprint(), repr(pages._oauth2)]
            texts += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
            for secret in (SECRET, REFRESH, *guarded.tokens):
                assert not [text for text in texts if secret in text], secret

    def test_a_token_goes_to_no_other_host(self) -> None:
        with Api(rows_of(5)) as api, Api([]) as other:
            guarded = Guarded(api)
            guard = api.faults
            api.faults = lambda request: (
                guard(request)
                or Answer(
                    status=302, headers={"Location": other.url.replace("127.0.0.1", "localhost") + "/array"}
                )
            )
            assert taken(source(api, records=None)) == []
            assert guarded.tokens
            assert all("authorization" not in request.headers for request in other.requests)
            assert other.requests

    def test_an_api_that_gives_the_token_back_to_ask_with_is_refused(self) -> None:
        with Api([]) as api:
            guarded = Guarded(api)
            guard = api.faults
            api.faults = lambda request: (
                guard(request) or said({"items": [{"id": 1}], "paging": {"next": f"x{guarded.tokens[-1]}"}})
            )
            with pytest.raises(SourceError, match="holds a secret") as raised:
                taken(source(api, "cursor"))
            assert guarded.tokens[-1] not in str(raised.value)

    def test_a_source_survives_pickling(self) -> None:
        with Api(rows_of(7)) as api:
            Guarded(api)
            assert taken(pickle.loads(pickle.dumps(source(api)))) == rows_of(7)


@pytest.mark.parametrize(
    ("oauth2", "headers", "words"),
    [
        ({"token": "x"}, {}, "oauth2: 'token' is unknown; it takes: token_url, client_id"),
        ({"client_secret": None}, {}, "oauth2: client_secret is missing"),
        ({"client_id": ""}, {}, "oauth2: client_id is empty"),
        ({"token_url": "a.org"}, {}, "oauth2: token_url: 'a.org' is no URL"),
        ({"client_auth": "jwt"}, {}, "oauth2: Invalid enum value 'jwt'"),
        ({}, {"authorization": "Basic x"}, "oauth2: headers have an Authorization of their own"),
    ],
)
def test_a_wrong_table_is_told(oauth2: Any, headers: Any, words: str) -> None:
    who = {"token_url": "https://a.org/token", "client_id": "me", "client_secret": SECRET, **oauth2}
    with pytest.raises(ValueError, match=words) as raised:
        Pages("https://a.org/rows", style="offset", oauth2=who, headers=headers)
    assert SECRET not in str(raised.value)
