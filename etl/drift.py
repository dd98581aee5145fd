"""What becomes of fields that the table has no column for: the policy that a job names.

| policy | then |
|---|---|
| `evolve` | the table grows: new columns, which may be null (the default; nothing of this module is in the way) |
| `freeze` | the record does not fit: a dead letter, or the end of the run, as `on_error` says |
| `ignore` | the field is dropped, and counted |

Fields within objects count as those of the record do, where the column is a RECORD. A field that holds nothing, null,
`[]` or `{}`, is no new column: it is left out by both.

What is known is what the job declares and the table has, and what the checkpoint has pinned. Where none of them says
anything, the first part is let through as it is, and what it shows is pinned with it. The fields by which rows are
merged are always known, as the job names them: without them, older rows would take the place of younger ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from etl.columns import Column, Columns
from etl.job import Drift
from etl.records import Record
from etl.schemas.dialect import Dialect
from etl.schemas.growth import PLAIN, is_typeless, plain
from etl.schemas.learning import MOST_LEVELS, Learner
from etl.schemas.types import Unfit, found
from etl.warehouses.base import Gate, Misfit

if TYPE_CHECKING:
    import pyarrow

# Plans are kept for shapes that have this many names together; then they are forgotten, and made again.
MOST_CELLS = 50_000

_SCALARS = frozenset({str, int, float, bool})  # most values: they hold something

# Names as they are: what stands where no warehouse says anything else.
EXACT = Dialect(
    warehouse="the table",
    folded=lambda name: name,
    valid=lambda name: name,
    wrong_with_name=lambda name: None if name else "a name must not be empty",
    may_be_made=lambda _name: False,
    most_levels=MOST_LEVELS,
)


@runtime_checkable
class HasDialect(Protocol):
    """A gate that renames fields: what it calls them, and which names are the same one to it."""

    dialect: Dialect


def gate_of(
    policy: Drift,
    own: Gate | None,
    *,
    table: Columns | None,
    pinned: Columns | None,
    needed: Sequence[str] = (),
) -> Gate | None:
    """Return the gate of one part under a policy; None: none is needed.

    Args:
        policy: what the job names.
        own: the warehouse's gate of this part; None: it has none. Its columns are all that are known.
        table: where the warehouse has no gate: the columns that the job declares or the table has; None: none.
        pinned: those that the checkpoint has; None: this is the first part.
        needed: the fields by which rows are merged.
    """
    if policy == "evolve":
        return own
    if own is not None:
        dialect = own.dialect if isinstance(own, HasDialect) else EXACT
        return DriftGate(policy, own.columns, own, dialect=dialect, needed=needed)
    return DriftGate(policy, union(table or (), pinned or ()), None, needed=needed)


class DriftGate:
    """Lets the records of one part through that bring no new fields, or without those; see `etl.warehouses.base.Gate`.

    Args:
        policy: `freeze` or `ignore`.
        known: all columns that are known; none: this part teaches them.
        inner: the warehouse's own gate, which looks at what is let through here; None: it has none.
        dialect: how the inner gate makes names of columns out of those of fields.
        needed: fields that are known although there may be no column for them yet.

    Attributes:
        ignored: how many fields were dropped. To be set to 0 where the part is begun again.
    """

    def __init__(
        self,
        policy: Drift,
        known: Columns | None,
        inner: Gate | None,
        *,
        dialect: Dialect = EXACT,
        needed: Sequence[str] = (),
    ) -> None:
        self.ignored = 0
        self._inner = inner
        self._known = known or ()
        expected = tuple(Column(name=dialect.valid(name), type="JSON") for name in needed)
        self._fields = _Fields((*expected, *known), dialect) if known else None
        self._freezes = policy == "freeze"
        self._learner = Learner() if not known and inner is None else None

    @property
    def columns(self) -> Columns:
        """What is known, or was learned: the inner gate's columns, if there is one.

        Without one, the type of a column that held nothing yet is JSON: nobody looks at it.
        """
        if self._inner is not None:
            return self._inner.columns
        return self._known if self._learner is None else self._learner.columns(without_type="JSON")

    def admit(self, record: Record) -> Record:
        """Return `record` as it is to be encoded.

        Raises:
            Misfit: it has a field that is not known, under `freeze`; or the inner gate refuses it.
        """
        dropped: list[tuple[str, Any]] = []
        if self._fields is not None:
            record = self._fields.fit(record, dropped)
            if dropped and self._freezes:
                raise Misfit(_unknown(dropped))
        elif self._learner is not None:
            self._learner.note(record)
        if self._inner is not None:
            record = self._inner.admit(record)
        self.ignored += len(dropped)
        return record

    def arrow_schema(self) -> pyarrow.Schema:
        """Return the inner gate's columns as Arrow's; without one, no column is expected."""
        if self._inner is not None:
            return self._inner.arrow_schema()
        import pyarrow as arrow

        return arrow.schema([])


class _Plan(NamedTuple):
    """What is to be done with records of one shape.

    Attributes:
        unknown: names without a column.
        nested: names of RECORDs, and their fields.
    """

    unknown: tuple[str, ...]
    nested: tuple[tuple[str, _Fields], ...]


class _Fields:
    """The columns of a table, or the fields of a RECORD, ready to look at the names in records."""

    def __init__(self, columns: Columns, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known = {
            dialect.folded(column.name): _Fields(column.fields, dialect) if column.fields else None
            for column in columns
        }
        self._in_lower_case = {column.name.lower(): column.name for column in columns}
        self._plans: dict[tuple[Any, ...], _Plan] = {}
        self._cells = 0

    def fit(self, record: dict[Any, Any], dropped: list[tuple[str, Any]]) -> dict[Any, Any]:
        """Return the record, or the object, without unknown fields.

        Args:
            record: it is not changed.
            dropped: takes the paths of those that held something, and what they held.
        """
        plan = self._plans.get(shape := tuple(record)) or self._planned(shape)
        written = record
        if plan.unknown:
            written = dict(record)
            for name in plan.unknown:
                value = written.pop(name)
                if value is not None and not _is_nothing(value, self._dialect.most_levels):
                    dropped.append((name, value))
        for name, fields in plan.nested:
            value, before = record[name], len(dropped)
            new = fields.fit_within(value, dropped)
            if new is not value:
                written = dict(record) if written is record else written
                written[name] = new
                _lead(name, dropped, before)
        return written

    def fit_within(self, value: Any, dropped: list[tuple[str, Any]]) -> Any:
        """Return the value of a RECORD, or a list of them, without unknown fields."""
        kind = type(value)
        if kind is dict:
            return self.fit(value, dropped)
        if kind is list:
            written = value
            for index, item in enumerate(value):
                before = len(dropped)
                new = self.fit_within(item, dropped)
                if new is not item:
                    written = list(value) if written is value else written
                    written[index] = new
                    _lead(f"[{index}]", dropped, before)
            return written
        if kind in PLAIN:
            return value
        try:
            usual = plain(value)
        except Unfit:  # the look at values will say so
            return value
        return self.fit_within(usual, dropped) if type(usual) in (dict, list) else value

    def _planned(self, shape: tuple[Any, ...]) -> _Plan:
        """Make the plan for a shape, and keep it. Names that are no text are for others to refuse.

        A name that differs in case only is not left out: its column would hold null without a word.

        Raises:
            Misfit: there is one.
        """
        unknown: list[str] = []
        nested: list[tuple[str, _Fields]] = []
        for name in shape:
            if not isinstance(name, str):
                continue
            key = self._dialect.folded(self._dialect.valid(name))
            if key not in self._known:
                if (other := self._in_lower_case.get(name.lower())) is not None:
                    raise Misfit(
                        f"field {name}: it differs from column {other} in case only; write it in the same way, by "
                        "[rename], or leave it out, with [drop]"
                    )
                unknown.append(name)
            elif (fields := self._known[key]) is not None:
                nested.append((name, fields))
        plan = _Plan(tuple(unknown), tuple(nested))
        self._cells += len(shape)
        if self._cells > MOST_CELLS:
            self._plans.clear()
            self._cells = len(shape)
        self._plans[shape] = plan
        return plan


def union(columns: Columns, others: Columns) -> Columns:
    """Return `columns` with the names that only `others` have, within RECORDs, too."""
    result = {column.name: column for column in columns}
    for other in others:
        there = result.get(other.name)
        result[other.name] = other if there is None else _one(there, other)
    return tuple(result.values())


def _one(column: Column, other: Column) -> Column:
    if not column.fields or not other.fields:  # one of them says nothing of fields
        return msgspec.structs.replace(column, fields=())
    return msgspec.structs.replace(column, fields=union(column.fields, other.fields))


def _lead(step: str, dropped: list[tuple[str, Any]], first: int) -> None:
    """Put a step of the way before the paths of what was dropped on it."""
    for index in range(first, len(dropped)):
        path, value = dropped[index]
        dropped[index] = (f"{step}{path}" if path.startswith("[") else f"{step}.{path}", value)


def _is_nothing(value: Any, most_levels: int) -> bool:
    if value.__class__ in _SCALARS:
        return False
    try:
        return is_typeless(value, most_levels)
    except Unfit:
        return False


def _unknown(dropped: list[tuple[str, Any]]) -> str:
    (path, value), *more = dropped
    others = f" and {len(more)} more" if more else ""
    return (
        f'field {path}{others}: the table has no column for it, and drift = "freeze" takes no new ones; found '
        f'{found(value)}. Declare it in the schema, leave it out with [drop], or ignore it with drift = "ignore"'
    )
