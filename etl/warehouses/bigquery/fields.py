"""The columns of a BigQuery table, ready to look at records: the part of `gate` that is run for each one."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import NoneType
from typing import Any, NamedTuple

from etl.schemas.growth import PLAIN, Node, collision, is_typeless, not_an_element, plain
from etl.schemas.numbers import SAFE, least_type
from etl.schemas.types import Unfit, digits, found, shown
from etl.warehouses.bigquery.limits import MOST_LEVELS
from etl.warehouses.bigquery.types import Check, folded, may_be_made, valid_name
from etl.warehouses.bigquery.values import check_for

# Plans are kept for shapes that have this many names and types together; then they are forgotten, and made again.
MOST_CELLS = 50_000

_LEFT_OUT = object()  # what a check returns for a value that is not to be written


class Unknown(Unfit):
    """A value needs a column that there is not, or a wider one than there is."""

    def __init__(self, value: Any) -> None:
        super().__init__(f"there is no column for it; found {found(value)}")


class _Plan(NamedTuple):
    """What is to be done with records of one shape.

    Attributes:
        integers: names of integers, and the check for those past 2**53.
        checks: names of other values that need a look, and the check.
        left_out: names of values that are not written.
        renamed: names that are written as those of their columns.
    """

    integers: tuple[tuple[str, Check], ...]
    checks: tuple[tuple[str, Check], ...]
    left_out: tuple[str, ...]
    renamed: dict[str, str]


class Fields:
    """The columns of a table, or the fields of a RECORD, ready to look at records.

    Args:
        nodes: the columns.
        typed: whether the format has types of its own.
        before: the same with fewer columns: what it has made ready is kept.
    """

    def __init__(self, nodes: tuple[Node, ...], typed: bool, before: Fields | None = None) -> None:
        self._typed = typed
        self._columns: dict[str, _Column] = {}
        there = before._columns if before else {}
        for node in nodes:
            key = folded(node.column.name)
            old = there.get(key)
            self._columns[key] = old if old and old.node is node else _Column(node, typed, old)
        self._required = [key for key, column in self._columns.items() if column.mode == "REQUIRED"]
        self._plans: dict[tuple[Any, ...], _Plan] = {}
        self._cells = 0

    def fit(self, record: dict[Any, Any]) -> dict[Any, Any]:
        """Return the record, or the object, as it is to be written.

        Raises:
            Unfit: it does not fit.
        """
        shape = (*record, *map(type, record.values()))
        plan = self._plans.get(shape)
        if plan is None:
            try:
                plan = self._planned(shape)
            except Unfit as error:
                return self._fit_without_hollow(record, error)
        written = record
        name = ""
        try:
            for name, check in plan.integers:
                value = record[name]
                if not -SAFE <= value <= SAFE:
                    new = check(value)
                    if new is not value:
                        written = dict(record) if written is record else written
                        written[name] = new
            for name, check in plan.checks:
                value = record[name]
                new = check(value)
                if new is not value:
                    written = dict(record) if written is record else written
                    if new is _LEFT_OUT:
                        del written[name]
                    else:
                        written[name] = new
        except Unfit as error:
            error.path.insert(0, name)
            return self._fit_without_hollow(record, error)
        if plan.left_out:
            written = dict(record) if written is record else written
            for name in plan.left_out:
                del written[name]
        if plan.renamed:
            written = {plan.renamed.get(name, name): value for name, value in written.items()}
        return written

    def _fit_without_hollow(self, record: dict[Any, Any], error: Unfit) -> dict[Any, Any]:
        """Fit a record again without the values that hold nothing of the column at fault.

        Before there was the column they were left out, whatever it was to become: a record that was let through then
        is let through again, when its part is written again.

        Raises:
            Unfit: `error`, where there are none; or the next one.
        """
        if (
            isinstance(error, Unknown) or len(error.path) != 1
        ):  # of an object that is its RECORD, the fields say more
            raise error
        key = folded(valid_name(error.path[0]))
        column = self._columns.get(key)
        if column is None or column.mode == "REQUIRED" or column.node.column.type in ("JSON", "INTERVAL"):
            raise error  # it was declared, or is the table's
        kept = {
            name: value
            for name, value in record.items()
            if value is None or folded(valid_name(name)) != key or not is_typeless(value, MOST_LEVELS)
        }
        if len(kept) == len(record):
            raise error
        return self.fit(kept)

    def _planned(self, shape: tuple[Any, ...]) -> _Plan:
        """Make the plan for a shape, and keep it."""
        half = len(shape) // 2
        integers: list[tuple[str, Check]] = []
        checks: list[tuple[str, Check]] = []
        left_out: list[str] = []
        renamed: dict[str, str] = {}
        seen: dict[str, str] = {}
        cells = zip(shape[:half], shape[half:], strict=True)
        for name, kind in sorted(cells, key=lambda cell: cell[1] is NoneType):  # null makes way for a value
            if not isinstance(name, str):
                raise Unfit(f"the name of a field must be text, found {found(name)}")
            key = folded(valid_name(name))
            column = self._columns.get(key)
            if column is None:
                if kind is NoneType:
                    left_out.append(name)
                else:
                    checks.append((name, _without_column))
                continue
            other = seen.get(key, name if column.field is None else column.field)
            if folded(other) != folded(name):
                if kind is NoneType:
                    left_out.append(name)
                    continue
                raise _of(name, collision(column.node.column, other, name))
            if seen.setdefault(key, name) != name:
                raise _at(name, f"the record has {other!r} too, which is the same name to BigQuery; drop one")
            if column.name != name:
                renamed[name] = column.name
            if kind is NoneType:
                if column.mode == "REQUIRED":
                    raise _at(name, f"{shown(column.node.column)} takes no null")
                if column.leaves_null_out:
                    left_out.append(name)
                continue
            check = column.check(kind)
            if not column.claimed:
                checks.append((name, _claiming(check)))
            elif check is not None:
                (integers if kind is int and column.takes_safe_integers else checks).append((name, check))
        for key in self._required:
            if key not in seen:
                column = self._columns[key]
                raise _at(
                    column.name,
                    f"{shown(column.node.column)} must be there, and the record has no such field",
                )
        plan = _Plan(tuple(integers), tuple(checks), tuple(left_out), renamed)
        self._cells += len(shape)
        if self._cells > MOST_CELLS:
            self._plans.clear()
            self._cells = len(shape)
        self._plans[shape] = plan
        return plan


class _Column:
    """One column, with a check for each type of values that it has met."""

    def __init__(self, node: Node, typed: bool, before: _Column | None = None) -> None:
        column = node.column
        self.node = node
        self.name = column.name
        self.mode = column.mode
        self._typed = typed
        self._fields: Fields | None = None
        if column.type == "RECORD":
            self._fields = Fields(node.fields, typed, before._fields if before else None)
        # The field that it is made from, as far as it matters; until one has claimed it there is no column for any.
        self.field = column.field if may_be_made(column.name) else None
        self.claimed = self.field is not None or not may_be_made(column.name)
        self._checks: dict[type, Check | None] = {}
        self._elements: dict[type, Check | None] = {}
        # Parquet would get a column without a type; a REPEATED column is empty anyway.
        self.leaves_null_out = column.mode == "REPEATED" or (typed and column.type in ("JSON", "INTERVAL"))
        self.takes_safe_integers = column.mode != "REPEATED" and _takes_safe_integers(node, typed)

    def check(self, kind: type) -> Check | None:
        """Return the check for values of a Python type; None: each fits, and is written as it is."""
        if kind not in self._checks:
            self._checks[kind] = self._made(kind)
        return self._checks[kind]

    def _made(self, kind: type) -> Check | None:
        if self.mode == "REPEATED":
            return self._array if kind is list else self._unusual_array
        check = self._single(kind)
        return check if check is None or self.mode != "REQUIRED" else self._never_null(check)

    def _single(self, kind: type) -> Check | None:
        """Return the check for one value: of the column, or an element of it."""
        if kind not in PLAIN:
            return self._unusual
        if self._fields is not None:
            return self._fields.fit if kind is dict else self._no_record
        check = check_for(self.node.column, kind, self._typed)
        return _widening(self.node, kind, check) if self.node.learned else check

    def _never_null(self, check: Check) -> Check:
        def never_null(value: Any) -> Any:
            new = check(value)
            if new is None:
                raise Unfit(f"{shown(self.node.column)} takes no null, found {found(value)}")
            return new

        return never_null

    def _unusual(self, value: Any) -> Any:
        """Look at a value of a type without a rule: an Enum, a subclass of a type that has one."""
        usual = plain(value)
        if usual is None:
            return None
        check = self._single(type(usual))
        return usual if check is None else check(usual)

    def _no_record(self, value: Any) -> Any:
        raise Unfit(f"RECORD takes an object, found {found(value)}")

    def _unusual_array(self, value: Any) -> Any:
        usual = plain(value)
        if usual is None:
            return _LEFT_OUT
        if type(usual) is not list:
            raise Unfit(f"{shown(self.node.column)} takes an array, found {found(value)}")
        return self._array(usual)

    def _array(self, value: list[Any]) -> Any:
        """Look at each element."""
        checks = self._elements
        written = value
        for index, item in enumerate(value):
            kind = item.__class__
            if kind not in checks:
                checks[kind] = self._element(kind)
            check = checks[kind]
            if check is None:
                continue
            try:
                new = check(item)
                if new is None:
                    raise not_an_element(None)
            except Unfit as error:
                error.path.insert(0, f"[{index}]")
                raise
            if new is not item:
                written = list(value) if written is value else written
                written[index] = new
        return written

    def _element(self, kind: type) -> Check | None:
        if kind is NoneType or (kind in (list, tuple) and self.node.column.type != "JSON"):
            return _refused_element
        return self._single(kind)


def _refused_element(item: Any) -> Any:
    raise not_an_element(item)


def _without_column(value: Any) -> Any:
    if is_typeless(value, MOST_LEVELS):
        return _LEFT_OUT
    raise Unknown(value)


def _claiming(check: Check | None) -> Check:
    """Return the check for values of a field that no column is known to be made from."""

    def claiming(value: Any) -> Any:
        if plain(value) is not None:
            raise Unknown(value)
        return value if check is None else check(value)

    return claiming


def _takes_safe_integers(node: Node, typed: bool) -> bool:
    """Say whether integers up to 2**53 need no look: they fit, and are written as they are."""
    column = node.column
    if column.type == "INTEGER":
        return True
    if typed:
        return False
    return column.type == "FLOAT" or (column.type in ("NUMERIC", "BIGNUMERIC") and digits(column)[0] >= 16)


def _widening(node: Node, kind: type, check: Check | None) -> Check | None:
    """Return the check for a column whose type is not pinned: it asks for a wider one first."""
    type_ = node.column.type
    asks: Callable[[Any], bool]
    if type_ == "INTEGER" and kind is int and not node.large:
        asks = _is_large
    elif type_ == "INTEGER" and kind is float and not node.large:
        asks = _always
    elif type_ == "INTEGER" and kind is Decimal:
        asks = Decimal.is_finite
    elif type_ == "NUMERIC" and kind is Decimal:
        asks = _is_big
    else:
        return check

    def widening(value: Any) -> Any:
        if asks(value):
            raise Unknown(value)
        return value if check is None else check(value)

    return widening


def _always(_value: float) -> bool:
    return True


def _is_large(value: int) -> bool:
    return not -SAFE <= value <= SAFE and -(2**63) <= value < 2**63


def _is_big(value: Decimal) -> bool:
    return least_type(value) == "BIGNUMERIC"


def _at(name: str, reason: str) -> Unfit:
    return _of(name, Unfit(reason))


def _of(name: str, error: Unfit) -> Unfit:
    error.path.append(name)
    return error
