"""How values of a part become values of a column, without loss or not at all.

DuckDB's own JSON reader makes 2.5 into 2, "7" into 7 and true into 1 where a column is a BIGINT, and drops
the digits after the microsecond. So a part is read with the types that it has, and each value that is to
become another type passes a check within the statement that inserts it; one that fails ends the load.

What fits (JSON, and Parquet in the same spirit):

==================================  ====================================================================
a number                            any numeric column that holds it exactly
"NaN", "Infinity", "-Infinity"      FLOAT and DOUBLE; so are numbers that are none written to JSON (`etl.formats`)
a string                            VARCHAR; DATE, TIME, TIMESTAMP, UUID, BLOB (base64) … when it is one,
                                    in full: a TIMESTAMP takes no offset, a TIMESTAMPTZ needs one, and no
                                    digit after the last one that the column keeps is anything but 0;
                                    DECIMAL, HUGEINT, UHUGEINT, BIGNUM when it is a number that fits exactly
any scalar                          a VARCHAR column that the job's definition declares, as NDJSON writes it
{}                                  any STRUCT; null where no field was ever seen
anything                            JSON, as text
==================================  ====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from etl.warehouses.duckdb.text_rules import TIMESTAMP_DIGITS, cast_to, is_plain, json_text, text_rule
from etl.warehouses.duckdb.types import (
    DOUBLE,
    FLOATS,
    HUGEINT,
    INTEGERS,
    JSON,
    NULL,
    TEXTS,
    VARCHAR,
    Kind,
    Path,
    quoted,
)

# Strings that hold numbers: how Decimal and integers past 64 bits are written to JSON.
NUMBERS_AS_TEXT = frozenset({"HUGEINT", "UHUGEINT", "BIGNUM", "DECIMAL"})
JSON_NUMBERS = "('UBIGINT', 'BIGINT', 'HUGEINT', 'DOUBLE')"
WORDS = """('"NaN"', '"Infinity"', '"-Infinity"')"""
# What stands for the type of a column that DuckDB computes, and that nothing can be inserted into.
GENERATED = Kind("GENERATED")
SAFE_INTEGER = 2**53  # below this, no other integer becomes the same double

Instead = Literal["text", "wide", "exact"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check within a load.

    Attributes:
        path: of the values that are checked.
        target: the type that they are to become.
        fits: writes the condition that a value meets, as SQL.
        right_kind: the same, but lets through more: it tells a value of the wrong kind apart, to name it first.
        instead: what to try when a value does not fit, before it is a mismatch: `text`, a VARCHAR rather than
            the date or timestamp that was guessed for a new column; `wide`, a HUGEINT rather than a BIGINT;
            `exact`, a slower reading that knows integers and floats apart.
    """

    path: Path
    target: Kind
    fits: Callable[[str], str]
    right_kind: Callable[[str], str] | None = None
    instead: Instead | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How one value is read and converted.

    Attributes:
        kind: the type to read it with.
        convert: turns the SQL of the value read into the SQL of the value stored; None: they are the same.
    """

    kind: Kind
    convert: Callable[[str], str] | None = None


class Conversion:
    """The readings of one part, and the checks within them.

    Args:
        declared: the columns that the job's definition declares.
        guessed: the paths of new columns whose type was guessed from some of their values.
        instead: what was decided for some paths, after a value there did not fit.
        typed: whether the part says exactly what its types are (Parquet), or was sniffed (JSON).
    """

    def __init__(
        self, *, declared: frozenset[str], guessed: set[Path], instead: dict[Path, Instead], typed: bool
    ) -> None:
        self.checks: list[Check] = []
        self._declared = declared
        self._guessed = guessed
        self._instead = instead
        self._leaf = self._of_typed if typed else self._of_json

    def reading(self, found: Kind, target: Kind, path: Path) -> Reading:
        """Decide how values found as one type become another; `path` is where they are."""
        if found == NULL:
            return Reading(NULL, None if target == NULL else lambda x: f"CAST({x} AS {target})")
        if found.fields is not None and target.fields is not None:
            return self._struct(found, target, path)
        if found.element and target.element:
            inner = self.reading(found.element, target.element, (*path, None))
            convert = inner.convert
            if convert is None:
                return Reading(Kind(element=inner.kind))
            element = f"e{len(path)}"
            return Reading(
                Kind(element=inner.kind),
                lambda x: f"list_transform({x}, lambda {element}: {convert(element)})",
            )
        return self._leaf(found, target, path)

    def nothing(self, name: str) -> str:
        """Write the condition that a record has no value for a column that DuckDB computes; one ends the load."""
        number = len(self.checks)
        self.checks.append(Check((name,), GENERATED, never))
        return f"CASE WHEN {quoted(name)} IS NULL THEN true ELSE error('{MISFIT} {number}') END"

    def _struct(self, found: Kind, target: Kind, path: Path) -> Reading:
        assert found.fields is not None
        assert target.fields is not None
        readings = {
            name: self.reading(kind, _field(target, name), (*path, name)) for name, kind in found.fields
        }
        read = Kind(fields=tuple((name, reading.kind) for name, reading in readings.items()))
        if read == target and not any(reading.convert for reading in readings.values()):
            return Reading(read)

        def field(x: str, name: str, kind: Kind) -> str:
            reading = readings.get(name)
            if reading is None:
                return f"CAST(NULL AS {kind})"
            value = f"{x}.{quoted(name)}"
            return reading.convert(value) if reading.convert else value

        def convert(x: str) -> str:
            assert target.fields is not None
            fields = ", ".join(f"{quoted(name)} := {field(x, name, kind)}" for name, kind in target.fields)
            return f"CASE WHEN {x} IS NULL THEN NULL ELSE struct_pack({fields}) END"

        return Reading(read, convert)

    def _of_json(self, found: Kind, target: Kind, path: Path) -> Reading:
        instead = self._instead.get(path)
        if target == JSON:
            return Reading(JSON)
        if found == target == DOUBLE and instead is None:
            # An integer among floats was sniffed as a float too, and is read as the nearest one.
            return self._checked(
                DOUBLE,
                Check(
                    path, target, lambda x: f"abs({x}) < {SAFE_INTEGER} OR NOT isfinite({x})", None, "exact"
                ),
                lambda x: x,
            )
        if found == target and (found.scalar in INTEGERS or found.scalar == "BOOLEAN"):
            return Reading(found)
        if found.scalar in TEXTS and target == VARCHAR:
            return Reading(VARCHAR)
        if found.scalar in TEXTS and (rule := text_rule(target)) and not _is_number(target, text=False):
            fits, cast = rule
            guessed: Instead | None = "text" if path in self._guessed else None
            return self._checked(VARCHAR, Check(path, target, fits, None, guessed), cast)
        if found.scalar in INTEGERS and _is_number(target):
            wide: Instead | None = "wide" if path in self._guessed else None
            return self._checked(
                found, Check(path, target, survives(found, target), None, wide), cast_to(target)
            )
        fits, cast, right_kind = json_rule(target, declared=path[0] in self._declared)
        return self._checked(JSON, Check(path, target, fits, right_kind), cast)

    def _of_typed(self, found: Kind, target: Kind, path: Path) -> Reading:
        if found == target:
            return Reading(found)
        if target == JSON:
            return Reading(found, lambda x: f"to_json({x})")
        if target == VARCHAR and path[0] in self._declared and (text := json_text(found)):
            return Reading(found, text)
        fits, cast = survives(found, target), cast_to(target)
        if found == VARCHAR and (rule := text_rule(target)) and not _is_number(target, text=False):
            fits, cast = rule
        elif not (
            (_is_number(found) and _is_number(target))
            or ({found.scalar, target.scalar} <= {"DATE", *TIMESTAMP_DIGITS})
            or (target == VARCHAR and path[0] in self._declared and is_plain(found))
        ):
            fits = never
        guessed: Instead | None = "text" if found == VARCHAR and path in self._guessed else None
        return self._checked(found, Check(path, target, fits, None, guessed), cast)

    def _checked(self, read: Kind, check: Check, cast: Callable[[str], str]) -> Reading:
        number = len(self.checks)
        self.checks.append(check)
        return Reading(
            read,
            lambda x: (
                f"CASE WHEN {x} IS NULL THEN NULL WHEN coalesce({check.fits(x)}, false) THEN {cast(x)} "
                f"ELSE error('{MISFIT} {number}') END"
            ),
        )


MISFIT = "etl: value does not fit, check"


def failed_check(message: str) -> int | None:
    """Return the number of the check that ended a statement with this message; None: it was no check."""
    found = re.search(rf"{MISFIT} (\d+)", message)
    return int(found[1]) if found else None


def infer(found: Kind, path: Path, guess: Callable[[Kind, Path], Kind]) -> Kind:
    """Give a type to a new column, field or element that was sniffed in JSON.

    What was sniffed as JSON is mixed, or nothing but `{}`: it gets no type yet.

    Args:
        found: what was sniffed.
        path: where.
        guess: gives a type to strings, and to integers that DuckDB takes for HUGEINT: it does so when some
            of them are negative.
    """
    if found.fields is not None:
        return Kind(fields=tuple((name, infer(kind, (*path, name), guess)) for name, kind in found.fields))
    if found.element:
        return Kind(element=infer(found.element, (*path, None), guess))
    if found.scalar in TEXTS or found == HUGEINT:
        return guess(found, path)
    return NULL if found == JSON else found


def json_rule(
    target: Kind, *, declared: bool
) -> tuple[Callable[[str], str], Callable[[str], str], Callable[[str], str] | None]:
    """Return when a JSON value is one of a type, how it becomes one, and when it is at least of its kind."""

    def of_type(x: str, names: str) -> str:
        return f"json_type({x}) IN {names}"

    if target == NULL or target.fields is not None:
        # It was sniffed as no object with fields: all of it is {}, or some of it is no object.
        kind = None if target == NULL else lambda x: of_type(x, "('OBJECT')")
        return lambda x: f"{x} = '{{}}'", lambda _: _empty(target), kind
    if target.element:
        return never, cast_to(target), lambda x: of_type(x, "('ARRAY')")
    if target.scalar == "BOOLEAN":
        return lambda x: of_type(x, "('BOOLEAN')"), cast_to(target), None
    if target == VARCHAR:
        names = f"('BOOLEAN', 'VARCHAR', {JSON_NUMBERS[1:]}" if declared else "('VARCHAR')"
        return lambda x: of_type(x, names), _unwrapped, None
    rule = text_rule(target)
    if rule is None:  # MAP, UNION, fixed arrays: what comes back must be what went in
        back = f"to_json(TRY_CAST({{x}} AS {target}))::VARCHAR"
        return lambda x: f"{back.format(x=x)} = CAST({x} AS VARCHAR)", cast_to(target), None
    fits, cast = rule
    names = "('VARCHAR')"
    if _is_number(target):
        names = f"('VARCHAR', {JSON_NUMBERS[1:]}" if _is_number(target, text=True) else JSON_NUMBERS
    if target.scalar in FLOATS:
        return (
            lambda x: f"({of_type(x, names)} AND {fits(_unwrapped(x))}) OR {is_not_finite(x)}",
            lambda x: cast(_unwrapped(x)),
            lambda x: f"{of_type(x, names)} OR {is_not_finite(x)}",
        )
    return (
        lambda x: f"{of_type(x, names)} AND {fits(_unwrapped(x))}",
        lambda x: cast(_unwrapped(x)),
        lambda x: of_type(x, names),
    )


def is_float(x: str) -> str:
    """Write the condition that a JSON value is a number, or a word for one that is not finite."""
    return f"json_type({x}) IN {JSON_NUMBERS} OR {is_not_finite(x)}"


def is_not_finite(x: str) -> str:
    """Write the condition that a JSON value is a word for a number that is not finite."""
    return f"{x} IN {WORDS}"


def survives(found: Kind, target: Kind) -> Callable[[str], str]:
    """Return the condition that a value is the same after it was made into `target` and back."""
    return lambda x: f"TRY_CAST(TRY_CAST({x} AS {target}) AS {found}) = {x}"


def never(_: str) -> str:
    """Write the condition that nothing meets."""
    return "false"


def _empty(target: Kind) -> str:
    """Write what `{}` becomes: a STRUCT of nulls."""
    fields = ", ".join(f"{quoted(name)} := NULL" for name, _ in target.fields or ())
    return f"CAST({f'struct_pack({fields})' if fields else 'NULL'} AS {target})"


def _unwrapped(x: str) -> str:
    """Write the text of a JSON scalar, a string without its quotes."""
    return f"({x} ->> '$')"


def _is_number(kind: Kind, *, text: bool | None = None) -> bool:
    """Say whether a type is a number; with `text`, whether it is one that strings may, or may not, fill."""
    name = kind.scalar.partition("(")[0]
    if name not in INTEGERS and name not in FLOATS and name != "DECIMAL":
        return False
    return text is None or (name in NUMBERS_AS_TEXT) == text


def _field(kind: Kind, name: str) -> Kind:
    assert kind.fields is not None
    return dict(kind.fields)[name]
