"""What the definition of a job may hold, and what of it goes together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etl import formats, refreshes
from etl.columns import Columns
from etl.declared_gate import PARTS, types_of
from etl.errors import ConfigError
from etl.lease import KeepsDeadLetters, Store
from etl.records import Declarations, Declared, TakesDeclared, led_back, nobody
from etl.schemas.declared import Schema, declared
from etl.schemas.lookup import Lookup
from etl.tables import show
from etl.warehouses.base import Declares, ReadsPlaces, Warehouse
from sinks import BigFile, Null, NumberedChunks, Sink
from sinks.base import OnThisMachine


def check_combination(
    name: str, *, store: Store, sink: Sink, warehouse: Warehouse | None, rejects: Sink, format: str
) -> None:
    """Refuse combinations that cannot work, before anything is touched.

    Raises:
        ConfigError: one part of the definition does not go with another.
    """
    formats.make(format)
    if isinstance(sink, BigFile) and format == "parquet":
        raise ConfigError(
            "format: big_file cannot hold parquet, whose parts are whole files: use numbered_chunks, or ndjson"
        )
    if not rejects.lasting and not isinstance(rejects, Null):
        raise ConfigError(
            "rejects: the sink keeps no part, dead letters would be lost; use one that does, or null"
        )
    if place_of(rejects) == place_of(sink) and not isinstance(sink, Null):
        raise ConfigError("rejects: it is where the sink writes; give dead letters a path of their own")
    _check_apart({"checkpoint": store, "warehouse": warehouse, "sink": sink, "rejects": rejects})
    if warehouse is None:
        if not sink.lasting and not isinstance(sink, Null):
            raise ConfigError(
                "warehouse: missing, and the sink keeps no part: nothing would be left. Add a warehouse, or "
                "use big_file, or numbered_chunks or gcs_stream with keep = true"
            )
    elif isinstance(sink, Null):
        raise ConfigError("sink: null keeps nothing that could be loaded: leave the warehouse out")
    if refreshes.replaces(warehouse):
        refreshes.refreshing(name, warehouse, sink)
    if warehouse is not None and format not in warehouse.formats:
        raise ConfigError(f"format: the warehouse loads {', '.join(sorted(warehouse.formats))}, not {format}")


def _check_apart(components: Mapping[str, object]) -> None:
    """Refuse two parts of a definition that name one file, however each of them writes its path."""
    seen: dict[tuple[str, bool], str] = {}
    for name, component in components.items():
        where = component.whereabouts() if isinstance(component, OnThisMachine) else None
        for path in where.paths if where else ():
            # Chunks are called after the path, and nothing is written to the path itself.
            place = path, isinstance(component, NumberedChunks)
            if place in seen:
                raise ConfigError(
                    f"{name}: it writes to {path}, and so does the {seen[place]}; give it another path"
                )
            seen[place] = name


def number(key: str, value: Any, *, kind: type = int, least: int = 1) -> Any:
    """Check a limit: whole, unless it is of kind float, and not less than `least` (a float: more than 0)."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if (whole and value >= least) or (kind is float and isinstance(value, float) and value > 0):
        return value
    what = "a number greater than 0" if kind is float else f"a whole number greater than {least - 1}"
    raise ConfigError(f"{key}: expected {what}, found {value!r}")


def check_kind(key: str, value: Any, port: type) -> None:
    """Refuse what is no instance of a port."""
    if not isinstance(value, port):
        raise ConfigError(f'{key}: expected an object, or a table such as {{"type": …}}, found {value!r}')


def place_of(sink: Sink) -> str:
    """Name a sink for the fingerprint: its kind, where it writes, and whether what it writes stays."""
    return f"{type(sink).__name__}({getattr(sink, 'path', '')}{'' if sink.lasting else ', not kept'})"


def check_place(warehouse: object, sink: Sink) -> None:
    """Make sure that a warehouse, which is open, can load from where a sink writes.

    Raises:
        WarehouseError: it cannot.
    """
    if isinstance(warehouse, ReadsPlaces):
        warehouse.check_place(str(getattr(sink, "path", "")))


def dead_letters(store: Store, name: str) -> Sink:
    """Make the sink of the dead letters of a job that names none: beside the checkpoint."""
    if isinstance(store, KeepsDeadLetters):
        return store.dead_letters(name)
    return NumberedChunks(f"{name}-rejects.ndjson")


def one_of(key: str, value: Any, words: Sequence[str]) -> Any:
    """Return `value`, if it is one of `words`."""
    if value not in words:
        raise ConfigError(f"{key}: expected one of {', '.join(map(show, words))}, found {show(value)}")
    return value


def schema_of(schema: Schema | None, *, warehouse: Warehouse | None, format: str) -> Columns:
    """Return the columns that a job declares for parts that stay, where no warehouse has them.

    Raises:
        ConfigError: the schema is wrong, or there is nothing that it could be the schema of.
    """
    if schema is None:
        return ()
    if warehouse is not None:
        raise ConfigError(
            "schema: it is for parts without a warehouse; the table's columns go under [warehouse]"
        )
    if format != "parquet":
        raise ConfigError(
            f'schema: {format} has no columns; leave it out, or set format = "parquet" and keep the parts'
        )
    columns = declared(schema, PARTS)
    types_of(columns)
    return columns


def declare(source: object, transforms: Sequence[object], warehouse: object, schema: Columns = ()) -> None:
    """Tell a source what becomes of its fields, where that is declared: by casts, a warehouse, or the parts' schema."""
    if not isinstance(source, TakesDeclared):
        return
    found: Declarations = nobody
    of_column: Callable[[str], str | None] | None = None
    if schema:
        of_column = Lookup(schema, PARTS).type_of
    elif isinstance(warehouse, Declares) and warehouse.declares:
        of_column = warehouse.declared
    if of_column is not None:
        type_of = of_column

        def of_field(field: str) -> Declared | None:
            type_ = type_of(field)
            return None if type_ is None else Declared(type=type_)

        found = of_field
    source.declare(led_back(found, transforms))
