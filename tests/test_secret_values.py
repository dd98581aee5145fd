"""What a job file takes out of the environment is shown and stored nowhere, whatever it is called."""

from __future__ import annotations

import base64
import html
import json
import logging
import pickle
import re
import traceback
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from click.testing import CliRunner

from etl import config, masking, secret_values
from etl.checkpoint import decode, encode, replace
from etl.cli import main
from etl.errors import ConfigError, DefinitionChanged, EtlError, SourceError
from etl.stores.local import LocalStore
from tests.web import Answer, WebServer

VALUE = "s3cr3t/va lue+&\"x'é-12345"
# What a key looks like; for each way to write it there is something in it that is written in another way.
KEYS = ("k3y/of+the=first&day", "k3y/of+the=other&day")


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch):
    """Nothing is known of secrets before the test, and nothing after it."""
    forget(monkeypatch)


def forget(monkeypatch):
    """Know no secrets, as another process on another machine."""
    for name, empty in {"_secrets": {}, "_latest": {}, "_search": None}.items():
        monkeypatch.setattr(secret_values, name, empty)


def know(value, variable="OWM", key="source.params.appid", text=None):
    text = value if text is None else text
    secret_values.keep(value, variable, key=key, text=text, start=text.index(value))


WRITTEN = {
    "as it is": VALUE,
    "in a path": quote(VALUE),
    "in a query": quote(VALUE, safe=""),
    "in a form": quote_plus(VALUE),
    "with small digits": re.sub("%..", lambda match: match[0].lower(), quote(VALUE)),
    "all of it as a URL may": "".join(f"%{byte:02X}" for byte in VALUE.encode()),
    "twice": quote(quote(VALUE)),
    "JSON": json.dumps(VALUE)[1:-1],
    "JSON with more than ASCII": json.dumps(VALUE, ensure_ascii=False)[1:-1],
    "JSON within JSON": json.dumps(json.dumps(VALUE)[1:-1])[1:-1],
    "HTML": html.escape(VALUE),
    "HTML without quotes": html.escape(VALUE, quote=False),
    "Python": repr(VALUE)[1:-1],
    "JSON of PHP": json.dumps(VALUE)[1:-1].replace("/", "\\/"),
    "JSON in a URL": quote(json.dumps(VALUE)[1:-1]),
    "JSON in HTML": html.escape(json.dumps(VALUE)[1:-1]),
    "bytes of Python": repr(VALUE.encode())[2:-1],
    "Python without more than ASCII": ascii(VALUE)[1:-1],
    "Python within Python": repr(repr(VALUE)[1:-1])[1:-1],
    "in a query of Latin-1": quote(VALUE, safe="", encoding="latin-1"),
    "cut": VALUE[:12] + "…",
}
LINES = "first line of it\n\tsecond \\\\ line"
OF_LINES = {
    "as it is": LINES,
    "JSON": json.dumps(LINES)[1:-1],
    "JSON within JSON": json.dumps(json.dumps(LINES)[1:-1])[1:-1],
    "Python": repr(LINES)[1:-1],
    "in a query": quote(LINES, safe=""),
    "in a form": quote_plus(LINES),
    "in one line": " ".join(LINES.split()),
    "with the ends of lines of Windows": LINES.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_secret_is_hidden_however_it_is_written(written):
    know(VALUE)
    assert secret_values.hide(f"<{written}>") == ("<***…>" if written.endswith("…") else "<***>")


@pytest.mark.parametrize("written", OF_LINES.values(), ids=OF_LINES)
def test_a_secret_of_several_lines_is_hidden_however_it_is_written(written):
    know(LINES)
    assert secret_values.hide(f"<{written}>") == "<***>"


@pytest.mark.parametrize("value", ['"/ab\\cdefgh', '\\"xabcdefgh', "\\\\/xabcdefgh"])
def test_a_secret_that_begins_with_what_is_escaped_is_hidden_behind_many_backslashes(value):
    know(value)
    assert secret_values.hide("\\" * 100_000 + f" {json.dumps(value)[1:-1]}").lstrip("\\") in (
        " ***",
        " \\***",
    )


@pytest.mark.parametrize(
    ("value", "told", "key"),
    [
        ("abcdefgh12345\n", "abcdefgh12345", "source.params.appid"),
        ("Bearer zyxwvutsrq", "zyxwvutsrq", "source.headers.Authorization"),
        ("https://h/rows?appid=abcdefgh12345&x=1", "abcdefgh12345", "source.url"),
        ("https://h/rows?appid=abcd%2Fefgh+12345", "abcd/efgh+12345", "source.url"),
        ("https://h/rows?api_key=abcd", "abcd", "source.urls[0]"),
        ("sftp://bob:hunter2@h/*.csv", "hunter2", "source.paths[0]"),
        ("postgres://bob:hunter2@h/d", "hunter2", "warehouse.dsn"),
    ],
)
def test_what_stands_in_a_value_is_hidden_by_itself_too(value, told, key):
    know(value, key=key)
    assert secret_values.hide(f"wrong: {told} is not known") == "wrong: *** is not known"


@pytest.mark.parametrize(
    "value", ["https://h/rows?page=12&size=large", "https://bob@h/d", "a Bearer of news"]
)
def test_what_is_common_in_a_value_stays_readable(value):
    know(value)
    assert secret_values.hide("page 12 is large, rows of news") == "page 12 is large, rows of news"


def test_a_part_of_a_value_in_a_cursor_follows_the_variable(monkeypatch):
    know("https://h/rows?api_key=abcd%2Fefgh", "WHERE", "source.url")
    stored = masking.masked("/rows?api_key=abcd%2Fefgh&page=2")
    assert "efgh" not in stored
    forget(monkeypatch)
    know("https://h/rows?api_key=new%2Fkey", "WHERE", "source.url")
    assert masking.filled(stored) == "/rows?api_key=new%2Fkey&page=2"


def test_a_cursor_goes_on_where_only_the_new_line_after_a_key_is_gone(monkeypatch):
    know("abcdefgh12345\n", "OWM")
    stored = masking.masked(["?appid=abcdefgh12345%0A", "?appid=abcdefgh12345 and"])
    forget(monkeypatch)
    know("abcdefgh12345", "OWM")
    assert masking.filled(stored) == ["?appid=abcdefgh12345%0A", "?appid=abcdefgh12345 and"]


@pytest.mark.parametrize("before", [b"", b"u:", b"user:", b"users:"])
@pytest.mark.parametrize("after", [b"", b"!", b"!!"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_hidden_in_base_64_wherever_it_begins(before, after, encode):
    know(VALUE)
    shown = secret_values.hide(encode(before + VALUE.encode() + after).decode())
    assert "***" in shown
    assert len(shown) < 24


@pytest.mark.parametrize(
    ("value", "variable", "key", "text"),
    [
        ("abcdefgh", "OWM", "source.params.appid", None),
        ("abcdefgh", "OWM", "source.body.filter[0].sid", None),
        ("abcdefgh", "OWM", "source.url", "https://h/a?code=abcdefgh"),
        ("abcdefgh", "OWM", "source.url", "https://h/botabcdefgh/rows"),
        ("abcdefgh", "OWM", "source.paths", "sftp://u:abcdefgh@h/a"),
        ("abcdefgh", "OWM", "warehouse.dsn", "postgres://h/d?x=abcdefgh"),
        ("pass", "OWM", "source.password", None),
        ("pass", "OWM", "source.headers.X", None),
        ("pass", "OWM", "source.url", "https://h/a?apiKey=pass"),
        ("1234567", "DB_PASSWORD", "source.params.x", None),
        ("2024-01-01", "THE_TOKEN", "source.params.x", None),
    ],
)
def test_it_is_a_secret_where_it_is_none_of_the_things_that_a_job_names(value, variable, key, text):
    know(value, variable, key, text)
    assert secret_values.hide(f"a {value} b") == "a *** b"


@pytest.mark.parametrize(
    ("value", "variable", "key", "text"),
    [
        ("1", "OWM", "source.params.x", None),
        ("true", "OWM", "source.params.x", None),
        ("abcdefg", "OWM", "source.params.x", None),
        ("us-central1", "REGION", "source.params.region", None),
        ("us-central1", "REGION", "warehouse.location", None),
        ("my-bucket-of-parts", "BUCKET", "sink.bucket", None),
        ("my-bucket-of-parts", "BUCKET", "checkpoint.uri", "gs://my-bucket-of-parts/job"),
        ("/home/somebody", "HOME", "warehouse.path", "/home/somebody/w.duckdb"),
        ("/srv/secret", "THE_SECRET", "sink.path", "/srv/secret/out"),
        ("/home/somebody", "HOME", "source.paths[0]", "/home/somebody/*.csv"),
        ("api.example.org", "HOST", "source.url", "https://api.example.org/rows"),
        ("2024-01-01", "SINCE", "source.params.since", None),
        ("2024-01-01T00:00:00Z", "SINCE", "source.params.since", None),
        ("1700000000", "SINCE", "source.params.since", None),
        ("my_nice_job", "NAME", "name", None),
        ("a1", "KEY", "source.params.x", None),
    ],
)
def test_what_is_common_stays_readable(value, variable, key, text):
    know(value, variable, key, text)
    assert secret_values.hide(f"a {value} b") == f"a {value} b"


def test_a_short_secret_is_hidden_as_a_word_of_its_own():
    know("pass", key="source.password")
    assert secret_values.hide("pass, bypass, passes: pass") == "***, bypass, passes: ***"


def test_the_longer_one_of_two_secrets_is_hidden_as_a_whole():
    know("abcdefgh", "ONE")
    know("abcdefghij-klm", "TWO")
    assert secret_values.hide("abcdefghij-klm abcdefghi") == "*** ***i"


def test_a_traceback_of_what_led_to_an_error_holds_no_secret():
    know(VALUE)

    @secret_values.hidden_in_errors()
    def fail():
        try:
            try:
                raise OSError(2, f"no such {VALUE}", VALUE)
            except OSError as error:
                raise UnicodeDecodeError("ascii", b"x", 0, 1, VALUE) from error
        except UnicodeDecodeError as error:
            error.add_note(VALUE)
            raise EtlError(f"x {VALUE}") from error

    with pytest.raises(EtlError) as raised:
        fail()
    text = "".join(traceback.format_exception(raised.value))
    assert "x ***" in text
    assert text.count("***") >= 4
    assert VALUE not in text


def test_what_the_library_logs_holds_no_secret_whoever_shows_it(caplog):
    know(VALUE)
    for name in (
        "etl",
        "etl.sources",
        "etl.warehouses",
        "etl.warehouses.bigquery",
        "sinks.retry",
        "urllib3.connectionpool",
    ):
        logging.getLogger(name).error("asked %s", VALUE)
    assert [record.getMessage() for record in caplog.records] == ["asked ***"] * 6


def test_each_logger_of_the_library_hides_secrets():
    root = Path(__file__).parent.parent
    sources = [path for folder in ("etl", "sinks") for path in (root / folder).rglob("*.py")]
    found = {
        name
        for path in sources
        for name in re.findall(r'getLogger\("((?:etl|sinks)[\w.]*)"\)', path.read_text())
    }
    assert found <= set(secret_values._LOGGERS)


CURSORS = [
    None,
    5,
    "plain",
    "${OWM} and ${OWM::} $${",
    VALUE,
    {"at": f"http://h/rows?appid={quote(VALUE, safe='')}&page=2"},
    {"at": f"http://h/rows?appid={quote_plus(VALUE)}", "keys": ["a", 1, [VALUE]]},
    [base64.b64encode(b"user:" + VALUE.encode()).decode(), base64.urlsafe_b64encode(VALUE.encode()).decode()],
]


@pytest.mark.parametrize("variable", ["OWM", "OWM_KEY"])
@pytest.mark.parametrize("cursor", CURSORS, ids=str)
def test_a_cursor_is_stored_without_secrets_and_given_back_whole(monkeypatch, variable, cursor):
    know(VALUE, variable)
    stored = json.loads(masking.masked_bytes(json.dumps(cursor).encode()))
    assert secret_values.hide(json.dumps(stored)) == json.dumps(stored)
    forget(monkeypatch)
    know(VALUE, variable)
    assert masking.filled(stored) == cursor


def test_a_key_that_rows_are_sorted_by_is_no_secret_by_its_name(monkeypatch):
    know("updated_by_server", "SORT_KEY")
    stored = masking.masked("sort=updated_by_server")
    forget(monkeypatch)
    know("created_by_server", "SORT_KEY")
    with pytest.raises(SourceError, match="another value of the environment variable SORT_KEY"):
        masking.filled(stored)


def test_a_cursor_goes_on_with_another_key_and_not_with_another_tenant(monkeypatch):
    know("the-first-value", "API_KEY")
    know("another-tenant", "TENANT")
    stored = masking.masked(["k=the-first-value"]), masking.masked(["t=another-tenant"])
    forget(monkeypatch)
    with pytest.raises(SourceError, match="needs the value of the environment variable API_KEY"):
        masking.filled(stored[0])
    know("the-second-value", "API_KEY")
    know("a-third-tenant", "TENANT")
    assert masking.filled(stored[0]) == ["k=the-second-value"]
    with pytest.raises(SourceError, match="another value of the environment variable TENANT"):
        masking.filled(stored[1])


# ------------------------------------------------------------------ a job


class Api:
    """Pages whose links hold the key that they were asked with; it tells what it was asked in its errors."""

    def __init__(self, parameter):
        self.parameter = parameter
        self.key = KEYS[0]
        self.good = 2
        self.asked = []

    def answer(self, request):
        page = int(request.query.get("page", "1"))
        if request.query.get(self.parameter) != self.key:
            return Answer(status=403, body=f"wrong: {request.query}".encode())
        self.asked.append(page)
        if page > self.good:
            text = {
                "error": f"no page {page} for {self.key} {quote(self.key, safe='')} {html.escape(self.key)}"
            }
            return Answer(
                status=400, headers={"Content-Type": "application/json"}, body=json.dumps(text).encode()
            )
        link = f"/rows?page={page + 1}&{self.parameter}={quote(self.key, safe='')}" if page < 4 else None
        rows = [{"id": page * 10 + number, "key": "x"} for number in range(3)]
        body = json.dumps({"rows": rows, "next": link}).encode()
        return Answer(headers={"Content-Type": "application/json"}, body=body)


JOB = """
[source]
type = "pages"
url = "{url}/rows"
style = "next_link"
next_path = "next"
records = "rows"
params = {{{parameter} = "${{{variable}}}"}}
deadline = 60

[sink]
type = "reused_file"
path = "{place}/out.ndjson"

[warehouse]
type = "duckdb"
path = "{place}/w.duckdb"
table = "rows"

[checkpoint]
uri = "{place}/job.json"
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Give what writes a job file for an API whose key stands in a parameter, out of a variable."""
    servers = []

    def write(parameter, variable):
        api = Api(parameter)
        server = WebServer(api.answer)
        servers.append(server)
        server.__enter__()
        path = tmp_path / "job.toml"
        text = JOB.format(url=server.url, place=tmp_path, parameter=parameter, variable=variable)
        path.write_text('part_records = 2\non_error = "reject"\ntransforms = ["clean_up:clean"]\n' + text)
        (tmp_path / "clean_up.py").write_text(
            "import os\n"
            "def clean(records):\n"
            "    for record in records:\n"
            f"        if record['id'] == 11: raise ValueError('with ' + os.environ[{variable!r}])\n"
            "        yield record\n"
        )
        monkeypatch.setenv(variable, KEYS[0])
        monkeypatch.delitem(__import__("sys").modules, "clean_up", raising=False)
        return path, api

    yield write
    for server in servers:
        server.__exit__(None, None, None)


def holds(text):
    """Say whether a text holds a key, in a way of which `hide` need not know."""
    ways = [way for key in KEYS for way in (key, quote(key), quote(key, safe=""), html.escape(key), key[:12])]
    return any(way in text or way.lower() in text for way in ways)


@pytest.mark.parametrize("parameter", ["appid", "hapikey", "code", "jwt", "sid"])
def test_a_key_is_in_nothing_that_a_job_shows_or_stores(job, tmp_path, parameter):
    path, _ = job(parameter, "WEATHER")
    told = []
    for command in (
        ["run", str(path), "--log-format", "text", "--debug"],
        ["run", str(path), "--log-format", "json", "--debug"],
        ["status", str(path)],
        ["status", str(path), "--json"],
        ["check", str(path)],
        ["verify", str(path)],
        ["doctor", str(path)],
    ):
        result = CliRunner().invoke(main, command)
        told.append(f"{command}: {result.output} {result.stderr}")
    assert any("no page 3" in text for text in told)
    files = {each.name: each.read_bytes().decode("latin-1") for each in tmp_path.iterdir() if each.is_file()}
    shown = {**files, **dict(enumerate(told))}
    assert not [name for name, text in shown.items() if holds(text)]


def test_a_job_goes_on_with_another_key_where_it_is_called_one(job, monkeypatch):
    path, api = job("appid", "WEATHER_KEY")
    with pytest.raises(EtlError, match="no page 3"):
        config.read(path).pipeline().run()
    forget(monkeypatch)
    api.key, api.good, api.asked = KEYS[1], 4, []
    monkeypatch.setenv("WEATHER_KEY", KEYS[1])
    result = config.read(path).pipeline().run()
    assert api.asked == [2, 3, 4]
    assert result.checkpoint.loaded.totals.records == 11


def test_a_checkpoint_of_an_older_version_that_has_the_value_in_it_is_gone_on_with(
    job, monkeypatch, tmp_path
):
    path, api = job("appid", "WEATHER")
    with pytest.raises(EtlError, match="no page 3"):
        config.read(path).pipeline().run()
    store = LocalStore(tmp_path / "job.json")
    data, version = store.read()
    document = decode(data, store.uri)
    source = re.sub(r"\$\{WEATHER::\w+\}", KEYS[0], document.fingerprint["source"])
    cursor = json.loads(
        re.sub(r"\$\{WEATHER:%:\w+\}", quote(KEYS[0], safe=""), json.dumps(document.state.position.cursor))
    )
    assert holds(source)
    assert holds(json.dumps(cursor))
    position = replace(document.state.position, cursor=cursor)
    document = replace(
        document,
        fingerprint={**document.fingerprint, "source": source},
        state=replace(document.state, position=position),
    )
    store.swap(encode(document), version)
    forget(monkeypatch)
    api.good = 4
    config.read(path).pipeline().run()
    assert not holds((tmp_path / "job.json").read_text())


def test_a_job_does_not_go_on_with_what_may_be_another_tenant(job, monkeypatch):
    path, api = job("appid", "WEATHER")
    with pytest.raises(EtlError, match="no page 3"):
        config.read(path).pipeline().run()
    forget(monkeypatch)
    api.key, api.good = KEYS[1], 4
    monkeypatch.setenv("WEATHER", KEYS[1])
    with pytest.raises(DefinitionChanged, match="its source was") as raised:
        config.read(path).pipeline().run()
    assert not holds(str(raised.value))
    forget(monkeypatch)
    api.key, api.asked = KEYS[0], []
    monkeypatch.setenv("WEATHER", KEYS[0])
    config.read(path).pipeline().run()
    assert api.asked == [2, 3, 4]


def test_a_key_in_the_url_of_a_file_is_in_nothing_either(tmp_path, monkeypatch):
    key = "k3y-of-the-first-day"
    monkeypatch.setenv("WEATHER", key)
    answers = {"/a.ndjson": Answer(body=b'{"id": 1}\n'), "/b.ndjson": Answer(status=404)}
    with WebServer(lambda request: answers[request.path]) as server:
        urls = [f"{server.url}/{name}.ndjson?app%69d=${{WEATHER}}" for name in "ab"]
        path = tmp_path / "job.toml"
        path.write_text(
            f'source = {{type = "http", urls = {urls}, file_column = "file"}}\n'
            f'sink = {{type = "numbered_chunks", path = "{tmp_path}/out.ndjson"}}\n'
            f'checkpoint = {{uri = "{tmp_path}/job.json"}}\n'
        )
        result = CliRunner().invoke(main, ["run", str(path), "--debug", "--log-format", "text"])
        assert "b.ndjson" in result.output + result.stderr
        found = [each.read_text() for each in tmp_path.iterdir()] + [result.output, result.stderr]
        assert not [text for text in found if key in text]


def test_a_pipeline_takes_what_is_secret_to_another_process(job, monkeypatch):
    path, _ = job("appid", "WEATHER")
    data = pickle.dumps(config.read(path).pipeline())
    forget(monkeypatch)
    with pytest.raises(EtlError, match="no page 3") as raised:
        pickle.loads(data).run()
    assert not holds("".join(traceback.format_exception(raised.value)))


def test_a_mistake_in_a_job_file_is_told_without_the_secrets_in_it(job, monkeypatch):
    path, _ = job("appid", "WEATHER")
    path.write_text(
        path.read_text().replace('style = "next_link"', 'style = "${WEATHER}"\npage_size = "${WEATHER}"')
    )
    with pytest.raises(ConfigError) as raised:
        config.read(path).pipeline()
    assert not holds(str(raised.value))
    assert not holds(repr(config.read(path)))
