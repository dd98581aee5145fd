"""How plans go into a table, each in one transaction with its row of the ledger; and how parts are tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TypeVar

from etl.checkpoint import Part, Plan
from etl.errors import Fenced, SchemaMismatch
from etl.warehouses.base import Job
from etl.warehouses.duckdb import constraints, misfits
from etl.warehouses.duckdb.database import Database
from etl.warehouses.duckdb.growth import Decisions
from etl.warehouses.duckdb.ledger import Newest
from etl.warehouses.duckdb.left import Left
from etl.warehouses.duckdb.merge import Merge
from etl.warehouses.duckdb.opening import in_order, said
from etl.warehouses.duckdb.part_files import Held, Location, location
from etl.warehouses.duckdb.parts import PartReader
from etl.warehouses.duckdb.table import Misfit
from etl.warehouses.duckdb.targets import Target, Targets
from etl.warehouses.duckdb.types import JSON, Columns

T = TypeVar("T")

# A part, and the columns that it holds.
Looked = tuple[PartReader, Columns]

CONSTRAINED = (
    "change such records in a transform, or the table's constraint, and run again; nothing of this load was kept, its "
    "records are pulled again"
)


class Loads:
    """Loads plans, and tries parts.

    Args:
        database: the open file.
        targets: what they are loaded into.
        left: is told what the ledger has, and what was done to columns.
        merge: how records replace rows; None: rows are added.

    Attributes:
        at: the part that is being read, for messages; after an error, the one that was.
    """

    def __init__(self, database: Database, targets: Targets, left: Left, merge: Merge | None) -> None:
        self._database = database
        self._connection = database.connection
        self._targets = targets
        self._left = left
        self._merge = merge
        self.at: PartReader | None = None

    def load(self, job: Job, plan: Plan, *, rewrite: bool = False) -> int:
        """Load a plan; see `DuckDB.load`.

        Args:
            job: whose plan it is.
            plan: the plan.
            rewrite: write the table again, rather than add columns or delete rows that are replaced, both of which take
                memory for all rows; see `merge`.
        """
        self.at = None
        finished = bool(job.refresh) and self._targets.refreshes.check(job)
        target = (
            self._targets.main
            if finished or not job.refresh
            else self._targets.refreshed(job.pipeline, job.refresh)
        )
        newest = target.newest(job.pipeline)
        rows = target.ledger.rows(job, plan, newest)
        loads = newest[1].loads if newest else 0
        if rows is not None:
            self._left.note(job, loads)
            return rows
        self._left.see_that_it_is_at(job, loads, str(target.table))
        if finished:
            raise Fenced(
                f"plan {plan.id} of {job.pipeline!r} belongs to the refresh {job.refresh} of "
                f"{self._targets.destination}, which was finished without it by another process; nothing was loaded"
            )
        self._targets.make_like_old(target)
        with ExitStack() as stack:
            readers = [self._reader(part, location(part.sealed), plan.format, stack) for part in plan.parts]
            return self._looked_at(
                target, readers, lambda parts: self._try(job, plan, target, parts, newest, rewrite)
            )

    def try_part(
        self, job: Job, format: str, part: Part, data: bytes, *, rewrite: bool = False
    ) -> dict[int, str]:
        """Load a part, and undo that; see `DuckDB.try_part`, and for `rewrite`, `load`."""
        import duckdb

        self.at = None
        target = self._targets.of(job) or self._targets.main
        self._targets.make_like_old(target)
        with ExitStack() as stack:
            readers = [self._reader(part, Held(data), format, stack)] if part.records else []
            try:
                return self._looked_at(target, readers, lambda parts: self._tried(target, parts, rewrite))
            except (duckdb.DataError, duckdb.InvalidInputException) as error:
                raise SchemaMismatch(said(error)) from error

    def _looked_at(
        self, target: Target, readers: Sequence[PartReader], take: Callable[[Sequence[Looked]], T]
    ) -> T:
        """Return what `take` makes of parts, with the columns that each holds: as it was told, or looked at."""
        columns = self._targets.columns(target)
        told: list[Looked] = []
        for reader in readers:
            self.at = reader
            reader.check_json(columns)
            reader.check_bytes(columns)
            said = reader.told(columns)
            if said is not None and not said[1]:
                told.append((reader, said[0]))
        if len(told) == len(readers):
            import duckdb

            # Reading a part once is half the work; where that does not go well, the part is looked at.
            with suppress(duckdb.InvalidInputException, duckdb.ConversionException):
                return take(told)
        return take([(reader, self._sniffed(reader, columns)) for reader in readers])

    def _try(
        self,
        job: Job,
        plan: Plan,
        target: Target,
        parts: Sequence[Looked],
        newest: Newest | None,
        rewrite: bool,
    ) -> int:
        """Load parts of which the columns are known; where a guess was wrong, once more without it."""
        import duckdb

        decisions = Decisions()
        while True:
            try:
                with self._database.transaction():
                    rows = self._insert(target, parts, decisions, rewrite)
                    target.ledger.add(job, plan, rows, newest)
            except Misfit as misfit:
                check = misfit.check
                if check.instead is None:
                    raise misfits.explained(misfit.part, check, misfit.read) from misfit
                decisions.instead[check.path] = check.instead
            except duckdb.IntegrityError as error:
                at = self.at or parts[-1][0]
                raise self._constrained(target, parts, at, decisions, error) from error
            else:
                self._left.changes += decisions.changes
                self._left.note(job, newest[1].loads + 1 if newest else 1)
                return rows

    def _tried(self, target: Target, parts: Sequence[Looked], rewrite: bool) -> dict[int, str]:
        """Insert a part as a load would, undo that, and return which of its records do not fit."""
        import duckdb

        decisions = Decisions()
        while True:
            try:
                with self._database.transaction(undone=True):
                    self._take(target, parts, decisions, rewrite=rewrite)
            except Misfit as misfit:
                check = misfit.check
                if check.instead is None:
                    return misfits.failing(misfit.part, check, misfit.read)
                decisions.instead[check.path] = check.instead
            except duckdb.IntegrityError as error:
                ((part, found),) = parts
                if reasons := self._broken(target, part, found, decisions):
                    return reasons
                raise SchemaMismatch(said(error)) from error
            else:
                return {}

    def _broken(
        self, target: Target, part: PartReader, found: Columns, decisions: Decisions
    ) -> dict[int, str]:
        """Return which records of a part break a constraint of the table, and how."""
        with in_order(self._connection), self._database.transaction(undone=True):
            return constraints.broken(
                self._connection, target.table, part, found, decisions, merged=self._merge is not None
            )

    def _constrained(
        self,
        target: Target,
        parts: Sequence[Looked],
        at: PartReader,
        decisions: Decisions,
        error: Exception,
    ) -> SchemaMismatch:
        """Return the error for a part that breaks a constraint of the table; the record is named where that is told."""
        import duckdb

        with suppress(duckdb.Error, Misfit):
            for part, found in parts:
                for record, reason in self._broken(target, part, found, decisions).items():
                    return SchemaMismatch(f"{part}, record {record}: {reason}; {CONSTRAINED}")
        return SchemaMismatch(f"{at}: {said(error)}; {CONSTRAINED}")

    def _insert(self, target: Target, parts: Sequence[Looked], decisions: Decisions, rewrite: bool) -> int:
        """Insert or merge parts; return how many records they hold. The ledger is made ready for them."""
        self.at = None
        ledger = target.ledger
        if not ledger.exists():
            ledger.create()
        if not target.table.exists():
            ledger.void()
        return self._take(target, parts, decisions, rewrite=rewrite)

    def _take(self, target: Target, parts: Sequence[Looked], decisions: Decisions, *, rewrite: bool) -> int:
        """Insert or merge parts; return how many records they hold."""
        table = target.table
        if not parts:
            if table.exists():
                table.evolve([], decisions)
            return 0
        columns = table.evolve(parts, decisions, rewrite=rewrite)
        rows = 0
        for part, found in parts:
            self.at = part
            if self._merge is None:
                rows += table.insert(part, found, columns, decisions)
            else:
                rows += self._merge.take(table, part, found, columns, decisions, rewrite=rewrite)
        self.at = None
        return rows

    def _reader(self, part: Part, where: Location | Held, format: str, stack: ExitStack) -> PartReader:
        return PartReader(
            connection=self._connection,
            part=part,
            location=where,
            name=stack.enter_context(self._database.files.offer(where)),
            format=format,
        )

    def _sniffed(self, reader: PartReader, columns: Columns) -> Columns:
        """Look at a part, but for what is JSON: objects with data as keys take memory for each of them."""
        self.at = reader
        said = reader.told(columns)
        if said is None or JSON not in said[0].values():
            return reader.found()
        told, unknown = said
        # A string of digits is told as text, and an integer past 64 bits is one: the kinds are looked at again.
        unknown += [name for name, kind in told.items() if kind != JSON]
        return {**told, **reader.sniffed(unknown)} if unknown else told
