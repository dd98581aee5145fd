"""Names to classes: what a job file calls a source, a sink, a warehouse or a store.

Nothing is imported before it is asked for. Other packages add their own names by entry points of the groups
`etl.sources`, `etl.sinks`, `etl.warehouses` and `etl.stores`; the value is a class (or a function that makes an
instance), and the annotations of its arguments say what the table in the job file may hold. A store is called by
the scheme of its URI, and is made from the whole URI as its first argument.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any
from urllib.parse import unquote, urlsplit

from etl import tables
from etl.errors import ConfigError
from etl.tables import Signature, did_you_mean, show

# The class that each name stands for, as "module:attribute".
_BUILT_IN: dict[str, dict[str, str]] = {
    "sources": {
        "files": "etl.sources:Files",
        "pages": "etl.sources:Pages",
        "http": "etl.sources:Http",
    },
    "sinks": {
        "big_file": "sinks:BigFile",
        "gcs_stream": "sinks:GcsStream",
        "null": "sinks:Null",
        "numbered_chunks": "sinks:NumberedChunks",
        "reused_file": "sinks:ReusedFile",
    },
    "warehouses": {
        "bigquery": "etl.warehouses.bigquery:BigQuery",
        "duckdb": "etl.warehouses.duckdb:DuckDB",
    },
    "stores": {
        "file": "etl.stores.local:LocalStore",
        "gs": "etl.stores.gcs:GcsStore",
    },
}


def names(kind: str) -> list[str]:
    """Return the names of a kind (`sources`, `sinks`, `warehouses`, `stores`), sorted."""
    return sorted(_BUILT_IN[kind].keys() | _entry_points(kind).keys())


def resolve(kind: str, name: str) -> Callable[..., Any]:
    """Return the class that is called `name`.

    Raises:
        ConfigError: there is none, or it cannot be imported; says which names there are.
    """
    built_in = _BUILT_IN[kind].get(name)
    if built_in is not None:
        module, _, attribute = built_in.partition(":")
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    found = _entry_points(kind).get(name)
    if found is None:
        there_are = ", ".join(names(kind))
        raise ConfigError(
            f"no {kind[:-1]} is called {show(name)}{did_you_mean(name, names(kind))}; there are: {there_are}"
        )
    try:
        return found.load()  # type: ignore[no-any-return]
    except Exception as error:
        package = found.dist.name if found.dist else "?"
        raise ConfigError(
            f"{show(name)} ({found.value}, of the package {package}) cannot be imported: "
            f"{type(error).__name__}: {error}; fix or upgrade that package"
        ) from error


def build(kind: str, table: Any, where: str) -> Any:
    """Make an instance of what a table describes; what is not a table passes through.

    Args:
        kind: `sources`, `sinks` or `warehouses`.
        table: `type` is the name, the rest are the constructor's arguments.
        where: the path of the table's key, for the messages: `sink`.

    Raises:
        ConfigError: the table is wrong; says where, what was found, and what is allowed.
    """
    if not isinstance(table, Mapping):
        return table
    arguments = dict(table)
    name = arguments.pop("type", None)
    if name is None:
        raise ConfigError(f"{where}.type: missing; there are: {', '.join(names(kind))}")
    name = tables.convert(name, str, f"{where}.type")
    try:
        made = resolve(kind, name)
    except ConfigError as error:
        raise ConfigError(f"{where}.type: {error}") from error
    what = f"a {kind[:-1]} of type {show(name)}"
    return _call(made, tables.check(arguments, Signature.of(made), where, what), where)


def store(checkpoint: Any, where: str = "checkpoint") -> Any:
    """Make the store of a checkpoint.

    Args:
        checkpoint: a path, a URI whose scheme is the name of a store, a table `{"uri": …}` with further
            arguments, or a store, which passes through.
        where: the path of the key, for the messages.

    Raises:
        ConfigError: as `build`.
    """
    if isinstance(checkpoint, (str, os.PathLike)):
        checkpoint = {"uri": checkpoint}
    if not isinstance(checkpoint, Mapping):
        return checkpoint
    if "uri" not in checkpoint:
        raise ConfigError(f"{where}.uri: missing; a checkpoint needs a path or a URI")
    uri = tables.convert(checkpoint["uri"], str, f"{where}.uri")
    if not uri:
        raise ConfigError(f'{where}.uri: expected a path or a URI, found ""')
    name = store_name(uri)
    try:
        made = resolve("stores", name)
    except ConfigError as error:
        raise ConfigError(f"{where}.uri: {error}") from error
    signature = Signature.of(made)
    first, *others = signature.types
    signature = Signature(
        {"uri": str, **{key: signature.types[key] for key in others}},
        signature.required - {first},
        signature.open,
    )
    checked = tables.check(checkpoint, signature, where, f"a checkpoint in a store of type {show(name)}")
    del checked["uri"]
    place = unquote(urlsplit(uri).path) if name == "file" and "://" in uri else uri
    return _call(partial(made, place), checked, where)


def store_name(uri: str) -> str:
    """Return the name of the store that a checkpoint's path or URI is for."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", uri)
    return scheme[1].lower() if scheme else "file"


def _call(made: Callable[..., Any], arguments: dict[str, Any], where: str) -> Any:
    try:
        return made(**arguments)
    except (ConfigError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _entry_points(kind: str) -> dict[str, EntryPoint]:
    """Return what other packages add; a built-in name stays what it is."""
    return {point.name: point for point in reversed(tuple(entry_points(group=f"etl.{kind}")))}
