"""What becomes of a part that does not come to its end: no trace of it is left, and it is pulled again."""

from __future__ import annotations

from etl.clearing import Clearing
from etl.job import Settings
from etl.lease import Lease
from etl.publishing import Publishing
from etl.rejects import Rejects
from etl.warehouses.base import KeepsLedger
from sinks import PartWriter


class Undoing:
    """Takes back what is not in the checkpoint, and gives up what is there and cannot be loaded.

    Args:
        job: the job.
        lease: the checkpoint, which says what has to stay.
        clearing: clears up in the sinks.
        publishing: is told that what was sealed is gone.
        rejects: holds the dead letters of the open part.
    """

    def __init__(
        self, job: Settings, lease: Lease, clearing: Clearing, publishing: Publishing, rejects: Rejects
    ) -> None:
        self._job = job
        self._lease = lease
        self._clearing = clearing
        self._publishing = publishing
        self._rejects = rejects

    def abort(self, writer: PartWriter | None) -> None:
        """Leave no trace of the open part.

        One that is sealed may be in the checkpoint already, whatever went wrong after that: it is left to
        the next run, whose `recover` knows.
        """
        if writer is not None and writer.sealed is None:
            writer.abort()
            self._rejects.abort()

    def roll_back(self, writer: PartWriter | None) -> None:
        """Leave no trace of a part that is not in the checkpoint, open or sealed.

        What a half-dead process finds in its way is its successor's: that must not be cleaned up.

        Raises:
            Fenced: another process has the job now.
        """
        self._lease.check()
        document = self._lease.document
        if writer is not None:
            writer.abort()
        self._rejects.abort()
        sealed = [part.sealed for part in document.outstanding]
        for sink, parts, last in (
            (self._job.sink, sealed, document.state.tail),
            (self._job.rejects, [], document.state.dead_letters_tail),
        ):
            self._clearing.recover(sink, parts, last, epoch=document.epoch)
        self._publishing.settled()

    def give_up_waiting(self) -> None:
        """Give up the parts that are not loaded, in the checkpoint first: their records will be pulled again."""
        self._lease.write(self._lease.document.rewound())
        self.roll_back(None)

    def give_up_refused(self) -> None:
        """Let the records of parts that a warehouse refuses be pulled again, through a transform that was fixed.

        Only where a ledger tells that none of them is loaded.
        """
        warehouse: object = self._job.warehouse
        if isinstance(warehouse, KeepsLedger):
            self.give_up_waiting()
