"""How a run left a database file when it closed it between two loads, to be compared when it is opened again.

While the file is closed others may open it, put another one in its place, or drop the table.
"""

from __future__ import annotations

from pathlib import Path

from etl.columns import ColumnChange
from etl.errors import WarehouseError
from etl.warehouses.base import Job


class Left:
    """What a run knows of the database that it loads into.

    Attributes:
        database: its id; empty: it is not known, and any file is taken.
        changes: what loads did to the table's columns, and nobody has asked about yet.
        failed_checkpoints: how many checkpoints failed; each of them makes the next ones go about it in another way.
    """

    def __init__(self) -> None:
        self.database = ""
        self.changes: list[ColumnChange] = []
        self.failed_checkpoints = 0
        self._loads: dict[tuple[str, str], int] = {}
        self._compared: set[tuple[str, str]] = set()

    def closed(self) -> None:
        """Note that from now on others may have changed it."""
        self._compared.clear()

    def note(self, job: Job, loads: int) -> None:
        """Note how many loads the ledger has of a job."""
        self._loads[job.pipeline, job.refresh] = loads
        self._compared.add((job.pipeline, job.refresh))

    def forget(self) -> None:
        """Forget what the ledger had, because it was changed as a whole."""
        self._loads.clear()

    def see_that_it_is_there(self, path: Path) -> None:
        """Make sure that the file is there.

        Raises:
            WarehouseError: it is not.
        """
        if not path.exists():
            raise WarehouseError(
                f"{path} is gone: it was moved or removed while the job ran. Nothing was loaded since; put it back, or "
                "name the place where it is now, and run again"
            )

    def see_that_it_is(self, database: str, path: Path) -> None:
        """Make sure that a file is the database that it was.

        Raises:
            WarehouseError: it is another one.
        """
        if database != self.database:
            raise WarehouseError(
                f"{path} is another database than the one that the job has loaded into so far: its id is "
                f"{database or 'not there'}, not {self.database}. Somebody put it there while the job ran; nothing was "
                "loaded into it. Put the one that was there back, and run again"
            )

    def see_that_it_is_at(self, job: Job, loads: int, table: str) -> None:
        """Make sure, at the first load since the file was closed, that the ledger has what it had.

        Raises:
            WarehouseError: it has something else.
        """
        key = (job.pipeline, job.refresh)
        expected = self._loads.get(key, loads)
        if key not in self._compared and expected != loads:
            raise WarehouseError(
                f"the ledger has {loads} loads of job {job.pipeline!r} into {table}, where this run left it at "
                f"{expected}: the table was dropped, or the database put back from a copy, while the job ran. Nothing "
                "was loaded; run again, and the job goes on from what is there"
            )
