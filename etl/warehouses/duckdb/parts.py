"""One part as DuckDB sees it: what is in it, and how to read it."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from etl import shapes
from etl.checkpoint import Part
from etl.errors import SchemaMismatch
from etl.records import kind_of
from etl.warehouses.duckdb.convert import is_float
from etl.warehouses.duckdb.kind_paths import as_text, leaves_in, replaced, texts_in, values_at
from etl.warehouses.duckdb.part_files import Held, Location
from etl.warehouses.duckdb.source_types import MOST_DIGITS
from etl.warehouses.duckdb.text_rules import text_rule
from etl.warehouses.duckdb.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DOUBLE,
    HUGEINT,
    INTEGERS,
    JSON,
    NULL,
    UBIGINT,
    VARCHAR,
    Columns,
    Kind,
    Path,
    literal,
    lower,
    quoted,
    shown,
)

if TYPE_CHECKING:
    import duckdb

REMEDY = (
    "declare the column under [warehouse.schema], or fix the transform, and run again; nothing of this load was "
    "kept, its records are pulled again"
)
GUESSES = (Kind("DATE"), Kind("TIMESTAMP"), Kind("TIMESTAMP WITH TIME ZONE"))
GUESS_FROM = 1000  # records; a guess only saves a second try
# What `etl.shapes` calls a kind, and the type to read it with.
KINDS = {"boolean": BOOLEAN, "integer": BIGINT, "float": DOUBLE, "string": VARCHAR}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReader:
    """One part that DuckDB can read.

    Attributes:
        connection: the connection that reads it.
        part: the part.
        location: where it is, for what is read in Python: only ever to explain an error.
        name: what DuckDB calls it (see `part_files`).
        format: `ndjson`, `ndjson.gz` or `parquet`.
    """

    connection: duckdb.DuckDBPyConnection
    part: Part
    location: Location | Held
    name: str
    format: str

    def __str__(self) -> str:
        return f"part {self.part.sequence} ({self.part.sealed.uri})"

    @property
    def typed(self) -> bool:
        """Whether the part says what its types are, and need not be sniffed."""
        return self.format == "parquet"

    def source(self, columns: Mapping[str, Kind] | None = None) -> str:
        """Return the table function that reads the part, with these types where the part has none."""
        if self.typed:
            return f"read_parquet({literal(self.name)}, hive_partitioning = false)"
        types = ", ".join(f"{literal(name)}: {literal(str(kind))}" for name, kind in (columns or {}).items())
        return self._json("read_json", f"columns = {{{types}}}")

    def objects(self) -> str:
        """Return the table function that reads each record as JSON, in a column `json`; not for Parquet."""
        return self._json("read_json_objects")

    def told(self, columns: Columns) -> tuple[dict[str, Kind], list[str]] | None:
        """Return the columns that the part was said to hold when it was written, and those that must be sniffed.

        What is said is true of the Python types. A value that JSON has another form for (an integer past 64
        bits is a string) fails when it is read with the kind that stands here, and never passes as another.

        Args:
            columns: of the table, as they are to be: what is JSON there is read as JSON, whatever it holds.

        Returns:
            None: all of them must be sniffed.
        """
        if self.typed or not self.part.fields or "" in self.part.fields:
            return None
        told: dict[str, Kind] = {}
        unknown = []
        types = self.part.types or {}
        for name, kinds in self.part.fields.items():
            values = {kind for kind in kinds if kind != "null"}
            if values == {"float", "integer"}:
                values = {"float"}
            there = columns.get(name, NULL)
            cast = name in types and types[name].name == "json" and there == NULL
            if there == JSON or cast or (values == {shapes.JSON} and there.fields is None):
                told[name] = JSON
            elif not values:
                told[name] = NULL
            elif name in types and types[name].name == "unsigned":
                told[name] = UBIGINT
            elif len(values) == 1 and (kind := KINDS.get(next(iter(values)))):
                told[name] = kind
            else:
                unknown.append(name)
        return told, unknown

    def check_json(self, columns: Columns) -> None:
        """See that objects with data as keys have a column that takes them.

        Args:
            columns: of the table, as they are to be.

        Raises:
            SchemaMismatch: it has a field for each of them so far.
        """
        for name in self._wide():
            fields = columns.get(name, NULL).fields
            if fields is not None and len(fields) <= shapes.MOST_KEYS:
                raise SchemaMismatch(
                    f"{self}: the objects in {name!r} have more than {shapes.MOST_KEYS} different keys, which are data "
                    f"and no columns, and the table's column is a STRUCT of those that came first; load into a new "
                    f'table, with {name} = "JSON" under [warehouse.schema]'
                )

    def check_bytes(self, columns: Columns) -> None:
        """See that a column of bytes gets no numbers: those that JSON has as text may read as base64.

        Args:
            columns: of the table, as they are to be.

        Raises:
            SchemaMismatch: there are some.
        """
        for name, kinds in (self.part.fields or {}).items():
            if columns.get(name) == BLOB and (wrong := {"integer", "float"}.intersection(kinds)):
                raise SchemaMismatch(
                    f"{self}: {name!r} holds values of the kind {', '.join(sorted(wrong))}, which do not fit the "
                    f"column's type, BLOB; {REMEDY}"
                )

    def wanted(self) -> dict[str, Kind]:
        """Return the types that new columns get, whatever their values look like."""
        types = {} if self.typed else self.part.types or {}
        cast = {name for name, type_ in types.items() if type_.name == "json"}
        return dict.fromkeys(self._wide() | cast, JSON)

    def _wide(self) -> set[str]:
        return {name for name, kinds in (self.part.fields or {}).items() if kinds == (shapes.JSON,)}

    def sniffed(self, names: Sequence[str]) -> dict[str, Kind]:
        """Return the types of the values of some columns, all of them looked at; not for Parquet.

        Raises:
            SchemaMismatch: two names in an object differ in case only.
        """
        structures = (f"json_group_structure(json -> {literal(_pointer(name))})" for name in names)
        row = self.connection.execute(f"SELECT {', '.join(structures)} FROM {self.objects()}").fetchone()  # noqa: S608
        columns = {
            name: _of_structure(orjson.loads(text)) for name, text in zip(names, row or (), strict=True)
        }
        if any(map(_has_names_alike, columns.values())):
            self._report_names_alike()
        return self._with_floats(columns)

    def found(self) -> dict[str, Kind]:
        """Return the columns that the part holds and the types of their values, all of them looked at.

        Raises:
            SchemaMismatch: a record is no object, or two names differ in case only.
        """
        import duckdb

        source = self.source()
        if not self.typed:
            source = self._json(
                "read_json",
                "records = true, sample_size = -1, maximum_depth = -1, map_inference_threshold = -1, "
                "field_appearance_threshold = 0",
            )
        try:
            description = self.connection.execute(f"SELECT * FROM {source} LIMIT 0").description  # noqa: S608
        except duckdb.NotImplementedException:
            self._report_names_alike()  # within an object DuckDB refuses them
            raise
        except duckdb.BinderException:
            return self._without_columns()
        columns = {str(name): Kind.of(kind) for name, kind, *_ in description}
        self._check_renamed(columns)
        if self.typed:  # what is to be JSON is text there
            self._check_names(columns)
            self._check_digits()
            columns |= {name: kind for name, kind in self.wanted().items() if name in columns}
        return columns if self.typed else self._with_floats(columns)

    def _check_names(self, columns: Mapping[str, Kind]) -> None:
        """Make sure that fields within objects have the names that they have in the part, as `_check_renamed` does."""
        found: list[str] = []
        for kind in columns.values():
            _collect_names(kind, found)
        if not found and not any("TUPLE" in str(kind) for kind in columns.values()):
            return
        query = f"SELECT name FROM parquet_schema({literal(self.name)})"  # noqa: S608
        names = {name for (name,) in self.connection.execute(query).fetchall()}
        if "" in names:
            raise SchemaMismatch(
                f"{self}: an object has a field with an empty name, which no column can have; fix the transform"
            )
        for name in found:
            if name not in names:
                raise SchemaMismatch(
                    f"{self}: two fields of an object differ in case only ({name.rpartition('_')[0]!r}), and DuckDB "
                    "takes them for one; use one name for both in a transform"
                )

    def _check_digits(self) -> None:
        """Make sure that DuckDB reads no decimal as a DOUBLE, which it does without a word past 38 digits."""
        row = self.connection.execute(
            f"SELECT name FROM parquet_schema({literal(self.name)}) WHERE converted_type = 'DECIMAL' "  # noqa: S608
            f"AND precision > {MOST_DIGITS} LIMIT 1"
        ).fetchone()
        if row:
            raise SchemaMismatch(
                f"{self}: {row[0]!r} holds decimals of more than {MOST_DIGITS} digits, which DuckDB reads out of "
                'Parquet as floating-point numbers; use format = "ndjson.gz", where they are text'
            )

    def _with_floats(self, columns: dict[str, Kind]) -> dict[str, Kind]:
        """Return columns with DOUBLE where the sniffer found strings among numbers, all of which stand for a number."""
        paths = [path for name, kind in columns.items() for path in leaves_in(kind, (name,), {JSON.scalar})]
        if not paths:
            return columns
        conditions = [
            f"bool_and(list_bool_and(list_transform({values_at(quoted(str(path[0])), path[1:])}, "
            f"lambda v: v IS NULL OR {is_float('v')})))"
            for path in paths
        ]
        read = {str(path[0]): columns[str(path[0])] for path in paths}
        row = self.connection.execute(
            f"SELECT {', '.join(conditions)} FROM {self.source(read)}"  # noqa: S608
        ).fetchone()
        for path, fits in zip(paths, row or (), strict=False):
            if fits:
                columns[str(path[0])] = replaced(columns[str(path[0])], path[1:], DOUBLE)
        return columns

    def _json(self, function: str, options: str = "") -> str:
        compression = "gzip" if self.format == "ndjson.gz" else "none"
        return (
            f"{function}({literal(self.name)}, format = 'newline_delimited', compression = '{compression}'"
            f"{', ' if options else ''}{options})"
        )

    def _without_columns(self) -> dict[str, Kind]:
        """See why the sniffer found no columns: a record is no object, or each of them is `{}`."""
        for record, value in self._records():
            if not isinstance(value, dict):
                raise SchemaMismatch(f"{self}, record {record}: not an object but {kind_of(value)}; {REMEDY}")
            if "" in value:
                raise SchemaMismatch(
                    f"{self}, record {record}: a field has an empty name, which no column can have; fix the "
                    "transform"
                )
        return {}

    def _check_renamed(self, columns: Mapping[str, Kind]) -> None:
        """Make sure that DuckDB invented no name: of "a" and "A" it makes "a" and "A_1" without a word."""
        lowered = {lower(name) for name in columns}
        for name in columns:
            stem = re.fullmatch(r"(.+)_\d+", name, re.DOTALL)
            if stem and lower(stem[1]) in lowered and not self._has(name):
                self._report_names_alike()

    def _has(self, name: str) -> bool:
        if self.typed:
            query = f"SELECT count(*) FROM parquet_schema({literal(self.name)}) WHERE name = {literal(name)}"  # noqa: S608
        else:
            where = f"json_exists(json, {literal(_pointer(name))})"
            query = f"SELECT count(*) FROM {self.objects()} WHERE {where}"  # noqa: S608
        row = self.connection.execute(query).fetchone()
        return bool(row and row[0])

    def _report_names_alike(self) -> None:
        seen: dict[tuple[Path, str], str] = {}
        for record, path in self._names():
            *above, name = path
            assert name is not None
            other = seen.setdefault((tuple(above), lower(name)), name)
            if other != name:
                raise self.names_alike(path, other, record)
        if self.typed:
            raise SchemaMismatch(f"{self}: two columns differ in case only; rename one in a transform")

    def names_alike(self, path: Path, other: str, record: int | None = None) -> SchemaMismatch:
        """Return the error for a name that differs in case only from `other`, which was there first."""
        if record is None:
            record = next((record for record, found in self._names() if found == path), 1)
        return SchemaMismatch(
            f"{self}, record {record}: {shown(path)!r} differs from {shown((*path[:-1], other))!r} in case "
            "only, and DuckDB takes them for one; use one name for both in a transform"
        )

    def _names(self) -> Iterator[tuple[int, Path]]:
        """Yield the path of every name in every record, with the record's number."""
        for record, value in self._records():
            for path in _names(value, ()):
                yield record, path

    def _records(self) -> Iterator[tuple[int, Any]]:
        if self.typed:
            return
        with self.location.open() as raw:
            file = gzip.GzipFile(fileobj=raw) if self.format == "ndjson.gz" else io.BufferedReader(raw)
            yield from enumerate(map(orjson.loads, file), 1)

    def kinds_of_texts(self, found: Columns) -> dict[Path, Kind]:
        """Guess from the first records what strings are: DATE, TIMESTAMP, TIMESTAMPTZ, or VARCHAR.

        Args:
            found: what `found` returned.

        Returns:
            A type for each path where those records hold strings.
        """
        paths = [path for name, kind in found.items() for path in texts_in(kind, (name,))]
        read = {name: as_text(found[name]) for path in paths if (name := path[0])}
        rules = [rule[0] for kind in GUESSES if (rule := text_rule(kind))]
        conditions = [
            f"list_bool_and(list_transform({values_at(quoted(str(path[0])), path[1:])}, "
            f"lambda v: CASE WHEN v IS NOT NULL THEN {rule('v')} END))"
            for path in paths
            for rule in rules
        ]
        row = self.connection.execute(
            f"SELECT {', '.join(f'bool_and({condition})' for condition in conditions)} FROM "  # noqa: S608
            f"(SELECT {', '.join(map(quoted, read))} FROM {self.source(read)} LIMIT {GUESS_FROM})"
        ).fetchone()
        answers = iter(row or ())
        kinds = {}
        for path in paths:
            fits = {kind: next(answers) for kind in GUESSES}
            if None not in fits.values():
                kinds[path] = next((kind for kind in GUESSES if fits[kind]), VARCHAR)
        return kinds


def _pointer(name: str) -> str:
    """Write a JSON Pointer to a field (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _of_structure(found: Any) -> Kind:
    """Make a type of what `json_group_structure` returns, as the sniffer would."""
    if isinstance(found, dict):
        fields = tuple((name, _of_structure(inner)) for name, inner in found.items())
        return Kind(fields=fields) if fields else JSON
    if isinstance(found, list):
        return Kind(element=_of_structure(found[0]) if found else NULL)
    if found in INTEGERS:
        return HUGEINT  # it tells only whether some are negative; see `table.inferring`
    return NULL if found == "NULL" else Kind(str(found))


def _has_names_alike(kind: Kind) -> bool:
    """Say whether two fields of an object differ in case only."""
    if kind.element:
        return _has_names_alike(kind.element)
    fields = kind.fields or ()
    return len({lower(name) for name, _ in fields}) < len(fields) or any(
        _has_names_alike(inner) for _, inner in fields
    )


def _collect_names(kind: Kind, found: list[str]) -> None:
    """Add the names of all fields within a type."""
    if kind.element:
        _collect_names(kind.element, found)
    for name, inner in kind.fields or ():
        found.append(name)
        _collect_names(inner, found)


def _names(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from _names(inner, (*path, name))
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner, (*path, None))
