"""One open DuckDB file: its settings, its transactions, and when it is closed."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.errors import ConfigError, WarehouseError
from etl.memory import Budget
from etl.warehouses.duckdb import file as duckdb_file
from etl.warehouses.duckdb import held, identity
from etl.warehouses.duckdb.left import Left
from etl.warehouses.duckdb.opening import LONG_LOG, PENDING_IN_LIMIT, advice, said, settings
from etl.warehouses.duckdb.part_files import PartFiles
from etl.warehouses.duckdb.types import Kind
from sinks.errors import SinkError


class Database:
    """An open database file, which is made where there is none.

    Attributes:
        connection: to it.
        files: the parts that are offered to it.
        in_doubt: whether a commit failed: only opening the file again tells what is in it.

    Args:
        path: of the file, with symbolic links resolved.
        budget: the memory and the threads that it may take.
        left: how the file was left when it was open before.

    Raises:
        ConfigError: a package is missing.
        WarehouseError: the file cannot be opened.
    """

    def __init__(self, path: Path, budget: Budget, left: Left) -> None:
        import duckdb

        self.in_doubt = False
        self._path = path
        try:
            if left.database:
                left.see_that_it_is_there(path)
            else:
                duckdb_file.ensure(path)
            duckdb_file.see(path)
            with held.opening(path):
                self.connection = duckdb.connect(str(path), config=settings(path, budget))
            self._opened = path.stat()
        except (duckdb.Error, OSError, SinkError) as error:
            raise WarehouseError(f"cannot open {path}: {said(error)}; {advice(error)}") from error
        self.files = PartFiles(self.connection)
        self._limit = budget.warehouse
        self._held = held.Held(self.connection, path, budget.warehouse, left)
        # Runs when the database is closed, and at the latest when the interpreter exits.
        self.close = weakref.finalize(self, _disconnect, self._held, self.files)
        try:
            self.connection.execute("SET TimeZone = 'UTC'")
            self._draw_no_progress()
            left.see_that_it_is(identity.read(self.connection) if left.database else "", path)
        except BaseException:
            self.close()
            raise

    @property
    def in_place(self) -> bool:
        """Whether the file that is open still stands at its path."""
        with suppress(OSError):
            return os.path.samestat(self._opened, self._path.stat())
        return False

    def write_log(self) -> None:
        """Write what the write-ahead log holds into the file, as closing would do."""
        if self._logged():
            self._held.checkpoint()

    def rest(self) -> bool:
        """Give back what a load leaves in memory; write a long log into the file, which would only grow.

        Returns:
            Whether it did the latter, so that it takes next to nothing to close the file.
        """
        import duckdb

        usage = self._held.usage()
        much = usage.pending >= self._limit // PENDING_IN_LIMIT or usage.texts >= held.LONG_TEXTS
        if self._logged() < LONG_LOG and not much:
            self._held.give_back()
            return False
        with suppress(duckdb.TransactionException):  # another job of this process is at it
            self._held.checkpoint()
            return True
        return False

    def give_back_blocks(self) -> None:
        """Give the blocks of a table that was dropped back to the file, which would grow by it with every refresh.

        Large loads are written past the log, so that it does not get long enough for a checkpoint.
        """
        import duckdb

        # Not while another job of this process has a transaction open; the next one does it.
        with suppress(duckdb.TransactionException):
            self._held.checkpoint()

    @contextmanager
    def transaction(self, *, undone: bool = False) -> Iterator[None]:
        """Begin a transaction, and commit it when the context ends; or undo it, after an error or if asked to."""
        self.connection.execute("BEGIN TRANSACTION")
        try:
            yield
            if undone:
                self.connection.execute("ROLLBACK")
                return
            self.in_doubt = True
            self.connection.execute("COMMIT")
            self.in_doubt = False
        except BaseException:
            # A failed commit has rolled back already; after a fatal error nothing works any more.
            with suppress(Exception):
                self.connection.execute("ROLLBACK")
            raise

    def kind(self, name: str, text: str) -> Kind:
        """Return the type that is declared for a column as `text`.

        Raises:
            ConfigError: it is none.
        """
        import duckdb

        try:
            return Kind.of(self.connection.sqltype(text))
        except duckdb.Error as error:
            raise ConfigError(
                f"[warehouse.schema] {name} = {text!r} is no type of DuckDB ({said(error)}); write one such as "
                "BIGINT, DECIMAL(18, 2), TIMESTAMP, VARCHAR[] or STRUCT(a BIGINT)"
            ) from error

    def _logged(self) -> int:
        """Return how long the write-ahead log is, in bytes."""
        with suppress(OSError):
            return self._path.with_name(f"{self._path.name}.wal").stat().st_size
        return 0

    def _draw_no_progress(self) -> None:
        """Keep DuckDB from drawing on standard output, which is the user's, when a query takes more than 2 s.

        It is off already in a notebook without ipywidgets, where DuckDB 2.0 refuses every change of the setting.
        """
        drawn = self.connection.execute("SELECT current_setting('enable_progress_bar')").fetchone()
        if drawn and drawn[0]:
            self.connection.execute("SET enable_progress_bar = false")


def _disconnect(memory: held.Held, files: PartFiles) -> None:
    with suppress(Exception):
        files.close()
    memory.disconnect()
