"""As what each CSV column is read: as the job's `types` say, its casts, the warehouse, else as its values look.

What was inferred stands in cursors, by name (`Place.types`), whatever is declared: a declaration may come, change and
go while the job is under way. A column that has held nothing yet is `unknown` there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from etl.field_types import FieldType, FieldTypes
from etl.sources import csv_types
from etl.sources.csv_options import Options
from etl.sources.csv_types import Convert

UNKNOWN = "unknown"
_TEXT = FieldType(name="string")

# Neutral types whose values have a form of their own in records, or can be checked: as what they are read, and what
# must have been inferred for it. Else the values are no such thing as they stand, and a transform or the warehouse is
# to see the text. JSON is always read as such.
_CONVERTED = {
    "INTEGER": ("integer", frozenset({"integer"})),
    "FLOAT": ("float", frozenset({"integer", "float", "decimal"})),
    "NUMERIC": ("decimal", frozenset({"integer", "float", "decimal"})),
    "BIGNUMERIC": ("decimal", frozenset({"integer", "float", "decimal"})),
    "BOOLEAN": ("boolean", frozenset({"boolean"})),
    "DATE": ("date", frozenset({"date"})),
    "DATETIME": ("timestamp", frozenset({"date", "timestamp"})),
    "TIMESTAMP": ("timestamp", frozenset({"date", "timestamp"})),
}
# Neutral types that are no text, so that words may mean that there is no value.
_NO_TEXT = frozenset({*_CONVERTED, "TIME"})


@dataclass(frozen=True, slots=True)
class Reading:
    """How a column is read.

    Attributes:
        type: one of `csv_types.TYPES`, or `unknown`.
        nulls: the words that are null in it.
        by: who says so: `types`, `declared`, or `values`.
    """

    type: str
    nulls: frozenset[str]
    by: str

    def converter(self) -> Convert:
        """Return what converts the column."""
        type_ = "string" if self.type == UNKNOWN else self.type
        return csv_types.converter(type_, self.nulls, said=self.by != "values")


def reading(name: str, inferred: str, options: Options) -> Reading:
    """Say how a column is read.

    Args:
        name: its name.
        inferred: what `infer` made of its first values.
        options: how CSV is read.
    """
    if type_ := options.types.get(name):
        return Reading(type_, options.words(text=type_ == "string"), "types")
    declared = options.declared(name)
    if declared is None:
        return Reading(inferred, options.words(text=inferred in ("string", UNKNOWN)), "values")
    if declared.type == "JSON" and not declared.cast:
        # Any text is a string in JSON, too: no warehouse would say that one was to be more than that.
        return Reading("json", options.words(text=True), "declared")
    type_, needed = _CONVERTED.get(declared.type, ("string", frozenset()))
    words = options.words(text=declared.type not in _NO_TEXT)
    if needed and not declared.cast:
        if inferred == UNKNOWN:
            return Reading(UNKNOWN, words, "declared")
        if inferred in needed:
            return Reading(type_, words, "declared")
        if (
            declared.type == "INTEGER" and inferred == "float"
        ):  # 1.0 is a whole number, which the warehouse sees to
            return Reading("float", words, "values")
    return Reading("string", words, "declared")


def said_to_be_text(names: Sequence[str], options: Options) -> FieldTypes:
    """Return the types of those columns that the job says are text, which the warehouse is not to take for dates."""
    return {name: _TEXT for name in names if _is_said_to_be_text(name, options)}


def _is_said_to_be_text(name: str, options: Options) -> bool:
    if type_ := options.types.get(name):
        return type_ == "string"
    declared = options.declared(name)
    return declared is not None and declared.cast and declared.type == "STRING"


def infer(name: str, values: Sequence[str], options: Options) -> str:
    """Say of which type a column is, by its first values; `unknown`: it holds nothing.

    Args:
        name: its name.
        values: what stands in it.
        options: how CSV is read.
    """
    if type_ := options.types.get(name):
        return type_
    declared = options.declared(name)
    no_text = declared is not None and declared.type in _NO_TEXT
    words = options.words(text=False)
    present = [text for text in values if text not in words]
    if not present:
        return UNKNOWN if options.words(text=not no_text).issuperset(values) else "string"
    if declared is not None and not declared.cast and declared.type in _CONVERTED:
        type_, _ = _CONVERTED[declared.type]
        kinds = (type_, "float") if declared.type == "INTEGER" else (type_,)
        fitting = (kind for kind in kinds if csv_types.fit(present, kind, said=kind == type_))
        return next(fitting, "string")
    return csv_types.infer(present)


def is_a_number(text: str) -> bool:
    """Say whether a text is a decimal number, with whatever digits."""
    return csv_types.fit([text], "decimal")
