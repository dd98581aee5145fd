"""Names to instances, and what is said when a table is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sinks
from etl import registry
from etl.errors import ConfigError

PLUGIN = '''
from __future__ import annotations
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
if TYPE_CHECKING:
    from nowhere import Client

class Sink:
    """Has one argument of each kind."""
    def __init__(
        self,
        place: Path,
        *,
        files: str | Path | Sequence[str | Path] = (),
        mode: Literal["fast", "safe"] = "safe",
        ratio: float | None = None,
        on: bool = True,
        labels: Mapping[str, str] | None = None,
        names: Iterable[str] = (),
        clock: Callable[[], float] | None = None,
        client: Client | None = None,
    ) -> None:
        self.given = dict(locals())

class Open:
    def __init__(self, **options: object) -> None:
        self.given = options

class Picky:
    def __init__(self, size: int) -> None:
        raise ValueError(f"size {size} is too small; give 10 or more")

class Store:
    def __init__(self, uri: str, *, region: str = "here") -> None:
        self.uri, self.region = uri, region
'''

ENTRY_POINTS = """
[etl.sinks]
everything = test_registry_plugin:Sink
open = test_registry_plugin:Open
picky = test_registry_plugin:Picky
broken = test_registry_plugin_missing:Sink
null = test_registry_plugin:Sink

[etl.stores]
mem = test_registry_plugin:Store
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a small distribution with entry points, as pip would."""
    (tmp_path / "test_registry_plugin.py").write_text(PLUGIN)
    information = tmp_path / "etl_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: etl-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "test_registry_plugin", raising=False)


def wrong(kind: str, table: object, where: str = "sink") -> str:
    """Build, and return the message of the error."""
    with pytest.raises(ConfigError) as caught:
        registry.build(kind, table, where)
    return str(caught.value)


def test_a_table_becomes_an_instance(tmp_path: Path) -> None:
    sink = registry.build(
        "sinks", {"type": "reused_file", "path": tmp_path / "job.ndjson", "slots": 3}, "sink"
    )
    assert isinstance(sink, sinks.ReusedFile)
    assert sink.slots == 3


def test_an_instance_passes_through() -> None:
    sink = sinks.Null()
    assert registry.build("sinks", sink, "sink") is sink


def test_the_table_is_left_as_it_was() -> None:
    table = {"type": "null"}
    registry.build("sinks", table, "sink")
    assert table == {"type": "null"}


@pytest.mark.parametrize("kind", ["sources", "sinks", "warehouses", "stores"])
def test_every_built_in_name_resolves_to_a_class(kind: str) -> None:
    for name in registry.names(kind):
        assert isinstance(registry.resolve(kind, name), type)


def test_an_unknown_name_says_which_there_are() -> None:
    message = wrong("sinks", {"type": "reused_fil", "path": "x"})
    assert message == (
        'sink.type: no sink is called "reused_fil" (did you mean "reused_file"?); '
        "there are: big_file, gcs_stream, null, numbered_chunks, reused_file"
    )


def test_a_missing_name_says_which_there_are() -> None:
    message = wrong("sinks", {"path": "x"})
    assert (
        message == "sink.type: missing; there are: big_file, gcs_stream, null, numbered_chunks, reused_file"
    )


def test_a_name_that_is_no_text_is_refused() -> None:
    assert wrong("sinks", {"type": 3}) == "sink.type: expected a string, found 3"


def test_an_unknown_key_says_which_are_taken() -> None:
    message = wrong("sinks", {"type": "reused_file", "pth": "x"})
    assert message == (
        'sink.pth: unknown key (did you mean "path"?); a sink of type "reused_file" takes: path, slots, policy'
    )


def test_a_missing_key_is_named() -> None:
    message = wrong("sinks", {"type": "big_file"}, "rejects")
    assert message == 'rejects.path: missing; a sink of type "big_file" needs it: a string'


def test_a_wrong_type_says_what_was_found() -> None:
    message = wrong("sinks", {"type": "reused_file", "path": "x", "slots": "two"})
    assert message == 'sink.slots: expected an integer, found "two"'


def test_what_a_constructor_refuses_is_told_with_the_key(tmp_path: Path) -> None:
    message = wrong("sinks", {"type": "reused_file", "path": tmp_path / "x", "slots": 0})
    assert message.startswith("sink: ")
    assert "1 slot or more" in message


@pytest.mark.usefixtures("plugin")
class TestThirdParties:
    """Classes that come by entry points, with annotations of every kind."""

    def test_their_names_stand_beside_the_built_in_ones(self) -> None:
        assert {"everything", "open", "picky", "big_file"} <= set(registry.names("sinks"))

    def test_a_built_in_name_stays_what_it_is(self) -> None:
        assert isinstance(registry.build("sinks", {"type": "null"}, "sink"), sinks.Null)

    def test_values_arrive_as_the_annotated_types(self) -> None:
        table = {"type": "everything", "place": "a", "files": ["b", Path("c")], "ratio": 1, "names": ["d"]}
        given = registry.build("sinks", table, "sink").given
        assert given["place"] == Path("a")
        assert given["files"] == ["b", "c"]
        assert isinstance(given["ratio"], float)
        assert given["names"] == ["d"]

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("place", 3, "expected a string, found 3"),
            ("files", ["a", 3], 'expected a string or a list of strings, found ["a", 3]'),
            ("mode", "fats", 'expected one of "fast", "safe", found "fats"'),
            ("ratio", "much", 'expected a number, found "much"'),
            ("on", 1, "expected true or false, found 1"),
            ("labels", {"a": 1}, 'expected a table of strings, found {"a": 1}'),
            ("names", "a", 'expected a list of strings, found "a"'),
        ],
    )
    def test_values_of_another_type_are_refused(self, key: str, value: object, message: str) -> None:
        table = {"type": "everything", "place": "x"} | {key: value}
        assert wrong("sinks", table) == f"sink.{key}: {message}"

    def test_what_cannot_be_checked_is_handed_on(self) -> None:
        client = object()
        table = {"type": "everything", "place": "x", "client": client, "clock": len}
        given = registry.build("sinks", table, "sink").given
        assert given["client"] is client
        assert given["clock"] is len

    def test_keywords_that_are_not_named_are_handed_on(self) -> None:
        assert registry.build("sinks", {"type": "open", "any": [1]}, "sink").given == {"any": [1]}

    def test_the_constructor_has_the_last_word(self) -> None:
        assert wrong("sinks", {"type": "picky", "size": 3}) == "sink: size 3 is too small; give 10 or more"

    def test_one_that_cannot_be_imported_names_its_package(self) -> None:
        message = wrong("sinks", {"type": "broken"})
        assert message.startswith(
            'sink.type: "broken" (test_registry_plugin_missing:Sink, of the package etl-plugin)'
        )

    def test_a_store_is_made_from_the_whole_uri(self) -> None:
        made = registry.store({"uri": "mem://bucket/object", "region": "there"})
        assert (made.uri, made.region) == ("mem://bucket/object", "there")

    def test_an_unknown_argument_of_a_store_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"^checkpoint\.colour: unknown key; .* takes: uri, region$"):
            registry.store({"uri": "mem://bucket/object", "colour": "red"})


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_path_and_a_file_uri_are_the_local_store(tmp_path: Path, form: str) -> None:
    path = tmp_path / "check.json"
    assert registry.store(form.format(path)).uri == str(path)


def test_a_file_uri_may_be_escaped(tmp_path: Path) -> None:
    assert registry.store((tmp_path / "with space").as_uri()).uri == str(tmp_path / "with space")


def test_a_store_passes_through(tmp_path: Path) -> None:
    made = registry.store(tmp_path / "check.json")
    assert registry.store(made) is made


def test_a_scheme_without_a_store_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r'^checkpoint\.uri: no store is called "s3"; there are: .*file'):
        registry.store("s3://bucket/check.json")
