"""What can be done with one open DuckDB file, for one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from etl.checkpoint import Part, Plan
from etl.memory import Budget
from etl.warehouses.base import Audit, Entry, Job
from etl.warehouses.duckdb import identity, lost
from etl.warehouses.duckdb.database import Database
from etl.warehouses.duckdb.ledger import Ledger
from etl.warehouses.duckdb.left import Left
from etl.warehouses.duckdb.loads import Loads
from etl.warehouses.duckdb.merge import Merge
from etl.warehouses.duckdb.parts import PartReader
from etl.warehouses.duckdb.replacing import Replacing
from etl.warehouses.duckdb.targets import Targets
from etl.warehouses.duckdb.types import Columns


class Session:
    """An open database, what was registered with it, and what is remembered of it.

    Args:
        path: of the database file, with symbolic links resolved.
        left: how the file was left when it was open before.
        budget: the memory and the threads that it may take.
        schema: the schema of the table to load.
        table: the table to load.
        declared: the types of columns that the job's definition declares.
        key: the columns by which rows are merged; empty: they are added.
        updated_at: the column that says which of two rows is the younger one.
        keep_schema: whether the new table of a refresh is made like the old one.

    Raises:
        ConfigError: a package is missing, or a declared type is none.
        WarehouseError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        budget: Budget,
        left: Left,
        *,
        schema: str,
        table: str,
        declared: Mapping[str, str],
        key: Sequence[str] = (),
        updated_at: str | None = None,
        keep_schema: bool = True,
    ) -> None:
        self._left = left
        self._database = database = Database(path, budget, left)
        try:
            columns = {name: database.kind(name, text) for name, text in declared.items()}
        except BaseException:
            database.close()
            raise
        self._merge = Merge(database.connection, key, updated_at) if key else None
        self._targets = Targets(database, schema, table, columns, keep_schema=keep_schema)
        self._loads = Loads(database, self._targets, left, self._merge)
        self._replacing = Replacing(database, self._targets)

    @property
    def at(self) -> PartReader | None:
        """The part that is being read, for messages."""
        return self._loads.at

    @at.setter
    def at(self, part: PartReader | None) -> None:
        self._loads.at = part

    @property
    def in_doubt(self) -> bool:
        """Whether a commit failed: only opening the file again tells what is in it."""
        return self._database.in_doubt

    @property
    def in_place(self) -> bool:
        """Whether the file that is open still stands at its path."""
        return self._database.in_place

    def close(self) -> None:
        """Close the file. May be repeated."""
        self._database.close()

    def checkpoint(self) -> None:
        """Write what the write-ahead log holds into the file, as closing would do."""
        self._database.write_log()

    def rest(self) -> bool:
        """Give back what a load leaves in memory, and keep the write-ahead log short; see `Database`."""
        return self._database.rest()

    def load(self, job: Job, plan: Plan, *, rewrite: bool = False) -> int:
        """Load a plan; see `Loads.load`."""
        return self._loads.load(job, plan, rewrite=rewrite)

    def kept(self, job: Job, plan: Plan) -> int | None:
        """Return how many rows of a plan are in the table, as its ledger says; None: it is not there."""
        self._loads.at = None
        target = self._targets.of(job)
        newest = target.newest(job.pipeline) if target else None
        rows = target.ledger.rows(job, plan, newest) if target else None
        if rows is not None and newest is not None:
            self._left.note(job, newest[1].loads)
        return rows

    def try_part(
        self, job: Job, format: str, part: Part, data: bytes, *, rewrite: bool = False
    ) -> dict[int, str]:
        """Load a part, and undo that; see `Loads.try_part`."""
        return self._loads.try_part(job, format, part, data, rewrite=rewrite)

    def can_rewrite(self, job: Job) -> bool:
        """Say whether nothing but rows would be lost, if the table that a job loads into were written again."""
        target = self._targets.of(job)
        return target is not None and (not target.table.exists() or target.table.is_plain())

    def latest(self, job: Job) -> Entry | None:
        """Read the ledger; see `DuckDB.latest`."""
        self._loads.at = None
        target = self._targets.of(job)
        found = target.newest(job.pipeline) if target else None
        self._left.note(job, found[1].loads if found else 0)
        if found is None:
            if not job.refresh and self._merge is None:  # what is merged may be merged again
                main = self._targets.main
                lost.see_that_it_is_not(self._database.connection, main.table, main.ledger, job)
            return None
        return msgspec.structs.replace(found[1], refreshed=bool(job.refresh) and target is self._targets.main)

    def identity(self, *, draw: bool) -> str:
        """Return the database's id; see `DuckDB.identity`."""
        self._loads.at = None
        if draw and not identity.read(self._database.connection):
            with self._database.transaction():
                identity.draw(self._database.connection)
        return identity.read(self._database.connection)

    def audit(self, job: Job) -> Audit:
        """Look up what the ledger and the table hold; see `DuckDB.audit`."""
        self._loads.at = None
        target = self._targets.of(job)
        rows = target.table.count() if target and target.table.exists() else None
        merged = self._merge is not None
        if target is None or rows is None or not target.ledger.exists():
            return Audit(
                loads=(),
                loads_ever=0,
                rows_ever=0,
                other_rows=0,
                table=str(target.table if target else self._targets.main.table),
                table_rows=rows,
                merged=merged,
            )
        ledger = target.ledger
        loads, ever = ledger.loads(job.pipeline), _ever(ledger, job.pipeline)
        others = [_ever(ledger, name)[1] for name in ledger.pipelines() if name != job.pipeline]
        # The rows that are kept are all there ever were, or the newest one tells of those that are not.
        kept = len(loads) == ever[0]
        return Audit(
            loads=loads,
            loads_ever=ever[0],
            rows_ever=sum(load.rows for load in loads) if kept else ever[1],
            other_rows=sum(others),
            table=str(target.table),
            table_rows=rows,
            merged=merged,
        )

    def columns(self, job: Job) -> Columns | None:
        """Return the table's columns as they are to be; None: there is no table, and none is declared."""
        self._loads.at = None
        target = self._targets.of(job)
        return self._targets.columns(target) or None

    def begin_refresh(self, job: Job) -> None:
        """Make ready for a refresh; see `DuckDB.begin_refresh`."""
        self._loads.at = None
        self._replacing.begin(job)

    def finish_refresh(self, job: Job) -> None:
        """Exchange the tables; see `DuckDB.finish_refresh`."""
        self._loads.at = None
        self._replacing.finish(job)

    def give_back_blocks(self) -> None:
        """Give the blocks of a table that was dropped back to the file; see `Database.give_back_blocks`."""
        self._database.give_back_blocks()

    def check_refresh(self, job: Job) -> None:
        """Try the exchange with no rows, and take it back; see `DuckDB.check_refresh`."""
        self._loads.at = None
        self._replacing.check(job)


def _ever(ledger: Ledger, pipeline: str) -> tuple[int, int]:
    """Return how many loads of a pipeline there were, and how many rows they added."""
    found = ledger.latest(pipeline)
    return (found[1].loads, found[1].state.totals.records) if found else (0, 0)
