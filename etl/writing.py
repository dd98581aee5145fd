"""How the bytes of one part come about: from a slice of the source, through the transforms, into the writer."""

from __future__ import annotations

import sys
from contextlib import closing

from etl import formats, judging
from etl.admission import Admission
from etl.job import Settings
from etl.judging import Judge, Taken
from etl.lease import Lease
from etl.loading import HANDED_OVER, Loading
from etl.open_part import OpenPart
from etl.reader import Reader
from etl.rejects import Rejects
from etl.transforms import Stages
from etl.warehouses.base import Holding, HoldsRecords, Job
from sinks import PartWriter
from sinks.base import Data

# Between two looks at the clock while records are collected to be judged.
JUDGED_AT_ONCE = 100

# What a warehouse holds that reads a part bit by bit, or not at all.
_ANY = Holding(rows=1, at_once=sys.maxsize, whole=sys.maxsize)


class Writing:
    """Writes one slice of the source after the other, each into a part.

    Args:
        job: the job.
        lease: the checkpoint, which says how large a part becomes.
        reader: hands out the slices.
        loading: loads all that came before, where parts are judged.
        rejects: takes the records that do not get into a part.
        open_part: is told what the part holds.

    Attributes:
        judge: says which records the warehouse takes; None: that is found out by loads alone.
        held: how many bytes the records of the last parts have, not compressed, by sequence.
    """

    def __init__(
        self,
        job: Settings,
        lease: Lease,
        reader: Reader,
        loading: Loading,
        rejects: Rejects,
        open_part: OpenPart,
    ) -> None:
        self._job = job
        self._lease = lease
        self._reader = reader
        self._loading = loading
        self._rejects = rejects
        self._open_part = open_part
        self._stages = Stages(job.transforms, job.on_error, rejects.raised)
        self.judge: Judge | None = None
        self._most_judged = sys.maxsize  # records at once
        warehouse: object = job.warehouse
        self._most_held = warehouse.most_held() if isinstance(warehouse, HoldsRecords) else _ANY
        self.held: dict[int, int] = {}

    def write(self, writer: PartWriter, admission: Admission) -> int:
        """Write one slice of the source; nothing of it is durable before the writer seals it.

        Args:
            writer: takes the bytes.
            admission: lets records into the part, and notes what is known of them.

        Returns:
            How many records it became.

        Raises:
            formats.SchemaWidened: the part has to be begun again, with the columns that are known by then.
            judging.TooMany: the part has to be begun again, with fewer records.
            sinks.SinkError: it cannot be written.
            EtlError: a record was refused in a job that keeps no dead letters, or the source or a transform failed.
        """
        if self.judge is None:
            return self._encode(writer, admission)
        return self._encode_judged(writer, admission, self.judge)

    def _encode(self, writer: PartWriter, admission: Admission) -> int:
        """Write all records that are let in, batch by batch."""
        part_bytes = self._lease.document.part_bytes
        count = held = 0
        # How many records there were, and their bytes, when the warehouse began to hold those that it holds now.
        since = before = 0
        most = self._most_held

        def write(data: Data) -> None:
            self._lease.note_output()
            writer.write(data)

        format_: object = self._job.format
        if isinstance(format_, formats.Gathers):
            format_.number = lambda: self._reader.number
        compresses = format_ if isinstance(format_, formats.Compresses) else None
        batch_bytes = min(formats.BATCH_BYTES, part_bytes)
        # Closed here: a generator that an error leaves behind would end later, and take from the source then.
        with closing(self._stages.run(self._reader)) as outputs:
            admitted = admission.of(outputs, self._reader.end_slice)
            with closing(
                self._job.format.encode(admitted, write, self._rejects.unencodable, batch_bytes)
            ) as counts:
                for count in counts:
                    held = compresses.plain_bytes if compresses else writer.bytes
                    at_once = (held - before) * most.rows // max(most.rows, count - since)
                    if writer.bytes >= part_bytes or held >= most.whole or at_once >= most.at_once:
                        self._reader.end_slice("bytes")
                    if count - since >= most.rows:
                        since, before = count, held
                    self._open_part.holds(count, writer.bytes)
                    self._open_part.tick()
        self._note(held)
        return count

    def _encode_judged(self, writer: PartWriter, admission: Admission, judge: Judge) -> int:
        """Write those records that the warehouse takes, all at once: they are held in memory until it has said so."""
        most = min(self._lease.document.part_bytes, judging.MOST_BYTES, self._most_held.at_once)
        taken: list[Taken] = []
        size = 0
        with closing(self._stages.run(self._reader)) as outputs:
            for record in admission.of(outputs, self._reader.end_slice):
                taken.append(Taken(record, self._reader.number))
                size += judging.weight(record)
                if size >= most:
                    self._reader.end_slice("bytes")
                if len(taken) >= self._most_judged:
                    self._reader.end_slice("records")
                self._open_part.holds(len(taken), size)
                if not len(taken) % JUDGED_AT_ONCE:
                    self._open_part.tick()
        self._note(size)
        self._loading.drain()  # the table must be what the part will find

        def refuse(one: Taken, reason: str, origin: str) -> None:
            self._rejects.refuse_numbered(one.record, reason, origin, one.number)

        try:
            tried = judge.fitting(Job.of(self._lease.document, self._job.fingerprint), taken, refuse)
        except judging.TooMany:
            self._most_judged = len(taken) // 2
            raise
        self._most_judged *= 2  # the next ones may be smaller
        if tried is None:
            return 0
        admission.tried = tried.part
        self._lease.note_output()
        writer.write(tried.data)
        return tried.part.records

    def _note(self, held: int) -> None:
        """Note how many bytes the part's records have."""
        sequence = self._lease.document.state.sequence + 1
        self.held = {
            known: size for known, size in self.held.items() if sequence - HANDED_OVER <= known < sequence
        }
        self.held[sequence] = held
