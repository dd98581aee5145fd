"""A job file: the definition of a pipeline as TOML.

    name = "flights"                        # default: the name of the file without its suffix
    transforms = ["flights:clean"]          # module:function; modules beside the job file are found first
    format = "ndjson"                       # ndjson, ndjson.gz, parquet
    part_bytes = "64MiB"                    # and part_records, part_seconds, on_error, max_rejects, memory
    drift = "evolve"                        # or freeze, ignore: fields that the table has no column for

    [source]
    type = "files"                          # or: function = "module:function", a generator function
    paths = "data/*.ndjson.gz"

    [sink]
    type = "reused_file"
    path = "job.ndjson"

    [warehouse]
    type = "duckdb"
    path = "${HOME}/flights.duckdb"         # from the environment; $${ stands for ${
    table = "flights"

    [rename]                                # before the transforms, in this order: rename, drop, cast
    "First Name" = "first_name"             # dots lead into objects: "user.login" = "login"
    [drop]
    fields = ["user.avatar", "internal"]    # by their new names, here and below
    [cast]
    price = "float"                         # integer, float, decimal, boolean, string, date, timestamp, json
    sold = {type = "date", format = "%d.%m.%Y", null = ["", "n/a"]}
    amount = {type = "decimal", thousands = ".", decimal = ","}

    [schema]                                # without a warehouse, of parts in Parquet: all columns and their types
    price = "NUMERIC(10, 2)"                # or schema = "schema.json", as etl check --write-schema writes it

    [checkpoint]
    uri = "flights.checkpoint.json"         # default: <name>.checkpoint.json

    [rejects]                               # a sink for the dead letters; default: beside the checkpoint
    type = "numbered_chunks"
    path = "flights.rejects.ndjson"

Names with dots are written in quotes. What cannot be renamed or cast is an error of that record, as `on_error` says;
`etl.reshaping` and `etl.casts` have the details. Relative paths are relative to the current directory, as everywhere
in the library, not to the job file.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from etl import registry, reshaping, secret_values, tables
from etl.errors import ConfigError
from etl.pipeline import Pipeline
from etl.records import Transform, is_failure, kind_of, message_of

_UNITS = {"b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job file, decoded. The fields are the file's keys; what is None is left to `Pipeline`'s default.

    What the tables hold is checked when `pipeline` builds from them.

    Attributes:
        path: the file.
        written: the file's values before the environment was put into them: fit to be shown.
    """

    def __repr__(self) -> str:
        return f"Job(path={str(self.path)!r}, written={self.written!r})"

    path: Path
    written: dict[str, Any]
    name: str
    source: dict[str, Any]
    sink: dict[str, Any]
    transforms: list[str] = []
    warehouse: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    rejects: dict[str, Any] | None = None
    format: str | None = None
    part_bytes: int | None = None
    part_records: int | None = None
    part_seconds: float | None = None
    on_error: Literal["fail", "reject"] | None = None
    max_rejects: int | None = None
    drift: Literal["evolve", "freeze", "ignore"] | None = None
    rename: dict[str, Any] | None = None
    drop: dict[str, Any] | None = None
    schema: str | dict[str, Any] | list[dict[str, Any]] | None = None
    cast: dict[str, Any] | None = None
    memory: int | None = None

    def pipeline(self) -> Pipeline:
        """Build the pipeline that the file describes; nothing is read or written besides Python modules.

        The job file's directory goes to the front of `sys.path`, and stays there, for transforms that import
        more while they run.

        Raises:
            ConfigError: the definition is wrong.
        """
        try:
            with secret_values.hidden_in_errors():
                return self._built()
        except ConfigError as error:
            raise ConfigError(f"{self.path}: {error}") from error

    def _built(self) -> Pipeline:
        directory = str(self.path.parent.absolute())
        if sys.path[:1] != [directory]:
            sys.path.insert(0, directory)
        transforms = [
            load_function(target, f"transforms[{index}]") for index, target in enumerate(self.transforms)
        ]
        arguments: dict[str, Any] = {
            "warehouse": self.warehouse,
            "checkpoint": None if self.checkpoint is None else registry.store(self.checkpoint),
            "rejects": self.rejects,
            **{key: getattr(self, key) for key in _LIMITS},
        }
        return Pipeline(
            self.name,
            source=_source(self.source),
            transforms=[*self.reshaping(), *transforms],
            sink=self.sink,
            **{key: value for key, value in arguments.items() if value is not None},
        )

    def reshaping(self) -> Iterator[Transform]:
        """Yield the transforms that the tables `rename`, `drop` and `cast` stand for, in this order.

        Raises:
            ConfigError: one of them is wrong.
        """
        if self.rename:
            yield reshaping.rename(self.rename)
        if self.drop is not None:
            signature = tables.Signature({"fields": list[str]}, frozenset({"fields"}))
            yield reshaping.drop(tables.check(self.drop, signature, "drop", "the table")["fields"])
        if self.cast:
            yield reshaping.cast(self.cast)


_LIMITS = (
    "format",
    "part_bytes",
    "part_records",
    "part_seconds",
    "on_error",
    "max_rejects",
    "memory",
    "drift",
    "schema",
)


def read(path: str | os.PathLike[str]) -> Job:
    """Read a job file.

    Raises:
        ConfigError: it is missing, is no TOML, names a variable that is not set, or has an unknown key or a
            value of a wrong type; one line that begins with the file's path.
    """
    path = Path(path)
    try:
        written = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file (current directory: {Path.cwd()})") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a directory; name the job file in it") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (at byte {error.start}); a job file is TOML") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    try:
        with secret_values.hidden_in_errors():
            return _decode(path, written)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _decode(path: Path, written: dict[str, Any]) -> Job:
    signature = tables.Signature.of(Job)
    keys = {key: type_ for key, type_ in signature.types.items() if key not in ("path", "written")}
    values = {"name": path.stem, **_substitute(written, "")}
    for key in ("part_bytes", "memory"):
        if key in values:
            values[key] = parse_bytes(values[key], key)
    required = signature.required & keys.keys()
    return Job(
        path=path, written=written, **tables.check(values, tables.Signature(keys, required), "", "a job file")
    )


def parse_bytes(value: Any, where: str = "size") -> int:
    """Return a size in bytes, given as a number, or as text with a unit: `64MiB`, `1.5 GB`, `4096`.

    `kB`, `MB`, `GB`, `TB` are powers of 1000, `KiB`, `MiB`, `GiB`, `TiB` of 1024 (IEC 80000-13).

    Args:
        value: the size.
        where: the path of the key, for the message.

    Raises:
        ConfigError: it is something else, or not greater than 0.
    """
    size: float = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
        unit = _UNITS.get(match[2].lower() or "b") if match else None
        size = float(match[1]) * unit if match and unit else 0
    if int(size) <= 0:
        raise ConfigError(
            f'{where}: expected a size greater than 0, in bytes or with a unit ("64MiB", "10MB"), '
            f"found {tables.show(value)}"
        )
    return int(size)


def load_function(target: str, where: str) -> Callable[..., Any]:
    """Import `module:function`.

    Args:
        target: the module's dotted name, a colon, and the function's name in it.
        where: the path of the key, for the messages.

    Raises:
        ConfigError: the module is not found, or fails; the function is not in it, or is none.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError(f'{where}: expected "package.module:function", found {tables.show(target)}')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{where}: {_failed_import(module_name, error)}") from error
        raise ConfigError(
            f"{where}: there is no module {error.name!r} beside the job file ({sys.path[0]}) or installed"
        ) from error
    except BaseException as error:
        if not is_failure(error):
            raise
        raise ConfigError(f"{where}: {_failed_import(module_name, error)}") from error
    function: Any = module
    for name in attribute.split("."):
        if not hasattr(function, name):
            public = [key for key, value in vars(module).items() if callable(value)]
            raise ConfigError(
                f"{where}: the module {module_name!r} ({module.__file__}) has no "
                f"{name!r}{tables.did_you_mean(name, public)}"
            )
        function = getattr(function, name)
    if not callable(function):
        raise ConfigError(f"{where}: {target} is not a function but {kind_of(function)}")
    return function  # type: ignore[no-any-return]  # callable, which is all that is known


def _failed_import(module: str, error: BaseException) -> str:
    """Say where in the user's module the import failed."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}"
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}, line {frame.lineno}"
    text = error.msg if isinstance(error, SyntaxError) else " ".join(message_of(error).split())
    return f"importing {module!r} failed: {type(error).__name__}: {text} ({place})"


def _source(table: Mapping[str, Any]) -> Any:
    """Return the table of a source, or the generator function that it names."""
    if "function" not in table or "type" in table:
        return table
    signature = tables.Signature({"function": str}, frozenset({"function"}))
    values = tables.check(table, signature, "source", "a source that is a function")
    return load_function(values["function"], "source.function")


def _substitute(value: Any, where: str) -> Any:
    """Put environment variables into every string below `value`; they are secrets, or may be: `etl.secret_values`."""
    if isinstance(value, dict):
        return {key: _substitute(item, tables.join(where, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    parts, taken, end = [], [], 0
    for match in _VARIABLE.finditer(value):
        parts.append(value[end : match.start()])
        end = match.end()
        if match[0] == "$${":
            parts.append("${")
            continue
        name = match[1] or ""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(
                f"{where}: expected the name of an environment variable, ${{NAME}}, found {tables.show(value)}; "
                "write $${ for a plain ${"
            )
        if name not in os.environ:
            raise ConfigError(f"{where}: the environment variable {name} is not set")
        taken.append((name, sum(map(len, parts))))
        parts.append(os.environ[name])
    text = "".join([*parts, value[end:]])
    for name, start in taken:
        secret_values.keep(os.environ[name], name, key=where, text=text, start=start)
    return tables.FromEnvironment(text)
