"""The mark of a job on its table: which of its lives loads there, and up to which load that has come.

BigQuery forgets jobs, and shows an account its own ones alone, so that no job found does not mean that none was. The
mark is a label of the table, one for each job that loads into it: it goes where the table goes, and is gone with it.
It is written *before* the load that it names. So it may claim a load that never came, which a person can look at;
written after it, a load could be in a table that says nothing of it, and would be done again.

Each change is conditional on the table's etag, so of two processes one finds what the other one wrote. A load that
makes its table sets the mark as it does so: BigQuery fails such a job where the table has other labels by then (REST
reference, DestinationTableProperties, labels). Such a table is also labelled as marked from the beginning: a job whose
mark it does not bear has never loaded there.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import Any

from etl.checkpoint import Plan
from etl.errors import Fenced, WarehouseError
from etl.warehouses.base import Job
from etl.warehouses.bigquery.jobs import label
from etl.warehouses.bigquery.making import WRITE
from etl.warehouses.bigquery.table import Table

# BigQuery documentation, "Introduction to labels", requirements: so many labels may a table have.
MOST_LABELS = 64

# The label of a table all of whose loads by this library have left their marks.
FROM_THE_BEGINNING = "etl_marked"

# What the labels of jobs begin with.
JOB = "etl_job_"

# What stands for the life in the marks of jobs whose rows another job's refresh has replaced.
REPLACED = "replaced"

# So many digits of a plan's id are in a mark: all of it would not fit into a label's 63 characters.
DIGITS = 12

# What a person can do where table and checkpoint do not fit.
BACK = "put the newest checkpoint back"
AGAIN = "or pull everything into a new table: `etl run --full-refresh`"
ADOPT = "or, if you know that the table is right as it is, say so once: `etl run --adopt-table`"

_FORM = re.compile(r"([a-z0-9_-]*)_(\d+)_(\d+)_([0-9a-f]*)_(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a table says of a job.

    Attributes:
        life: the life that loads into it, as a label can hold it.
        rewinds: how often it had given parts up.
        load: which of its loads came last, or was about to; they count from 1.
        plan: the first digits of that load's plan; empty: none was about to come.
        at: when that was written, in seconds since 1970.
    """

    life: str
    rewinds: int
    load: int
    plan: str = ""
    at: int = 0

    @classmethod
    def before(cls, job: Job, plan: Plan) -> Mark:
        """Return the mark that is to stand before a plan is loaded."""
        ahead = job.plans.index(plan.id) if plan.id in job.plans else 0
        return cls(
            life=label(job.life),
            rewinds=job.rewinds,
            load=job.loads + 1 + ahead,
            plan=plan.id[:DIGITS],
            at=int(time.time()),
        )

    @classmethod
    def now(cls, job: Job) -> Mark:
        """Return the mark of a job none of whose plans is about to be loaded."""
        return cls(life=label(job.life), rewinds=job.rewinds, load=job.loads, at=int(time.time()))

    @property
    def step(self) -> tuple[int, int]:
        """Where in its life it was written: what is later is greater."""
        return self.rewinds, self.load

    def __str__(self) -> str:
        return f"{self.life}_{self.rewinds}_{self.load}_{self.plan}_{self.at}"

    def is_of(self, job: Job) -> bool:
        """Say whether it was written in a job's present life."""
        return self.life == label(job.life)

    def names(self, plan: Plan) -> bool:
        """Say whether it was written before a plan was submitted."""
        return self.plan == plan.id[:DIGITS]


def name(pipeline: str) -> str:
    """Return the key of a job's label: a key cannot hold every name of a job as it is."""
    return f"{JOB}{hashlib.blake2b(pipeline.encode(), digest_size=6).hexdigest()}"


def read(found: Any, pipeline: str) -> Mark | None:
    """Return the mark of a job on a table, as the client has it; None: it bears none.

    What cannot be read was written by somebody else: it is the mark of a life that nobody knows.
    """
    text = (found.labels or {}).get(name(pipeline))
    if text is None:
        return None
    if not (parts := _FORM.fullmatch(text)):
        return Mark(life=f"?{text}", rewinds=0, load=0, at=int(time.time()))
    life, rewinds, load, plan, at = parts.groups()
    return Mark(life=life, rewinds=int(rewinds), load=int(load), plan=plan, at=int(at))


def from_the_beginning(found: Any) -> bool:
    """Say whether all loads of this library into a table, as the client has it, have left their marks."""
    return FROM_THE_BEGINNING in (found.labels or {})


def labels(job: Job, mark: Mark) -> dict[str, str]:
    """Return the labels with which a table is made."""
    return {FROM_THE_BEGINNING: "1", name(job.pipeline): str(mark)}


def furthest(job: Job) -> tuple[int, int]:
    """Return the latest step that a mark can name which a job's checkpoint knows of."""
    return job.rewinds, job.loads + len(job.plans)


def write(
    table: Table,
    job: Job,
    mark: Mark,
    *,
    found: Any | None = None,
    former: str | None = None,
    adopted: bool = False,
    unmarked: bool = False,
    emptied: bool = False,
) -> None:
    """Have a mark on a table; durable on return. May be repeated.

    Args:
        table: the table, which exists.
        job: whose mark it is.
        mark: the mark.
        found: the table as it was found last; None: it is to be looked at.
        former: a life of the job whose mark may be replaced: what it loaded is gone.
        adopted: a person has said that the table is right as it is, so that whatever mark it bears is replaced.
        unmarked: it may bear none although the job has loaded into it: that was looked into.
        emptied: what the table held before is gone: it is marked from the beginning, the mark of another life is
            replaced, and those of other jobs say that their rows are gone, too.

    Raises:
        Fenced: another life of the job, or a later process of this one, has left its mark.
        WarehouseError: it cannot be written; or the table bears none, and is another one than the job has loaded into.
    """
    latest = [found] if found is not None else []

    def once() -> None:
        now = latest.pop() if latest else table.client.get_table(table.options.reference(), **table.request)
        before = read(now, job.pipeline)
        if before is None and job.loads and not (adopted or unmarked or emptied):
            raise WarehouseError(missing(job, table))
        if before is None or adopted:
            pass
        elif before.is_of(job):
            if before.step > mark.step and (emptied or (not mark.plan and before.step <= furthest(job))):
                # A process that comes late: since then it was loaded further. Or a load that the checkpoint knows of,
                # begun by a process that was killed, has left its mark meanwhile.
                return
            if before.step > mark.step:
                raise Fenced(
                    f"{table.options} has been loaded further by another process of job {job.pipeline!r} (load "
                    f"{before.load:,}, this one is at {mark.load:,}), which has taken the job over; this one stops"
                )
            if (before.step, before.plan) == (mark.step, mark.plan):
                return  # a refresh is a step of its own, so that this is no mark from before it
        elif before.life == REPLACED and former != REPLACED and not emptied:
            raise WarehouseError(_replaced(job, table))
        elif not emptied and before.life != former:
            raise Fenced(
                f"another process loads job {job.pipeline!r} into {table.options} from a checkpoint of its own (label "
                f"{name(job.pipeline)}: {before}); this one stops. Give one of both another name, or let both have one "
                "checkpoint"
            )
        wanted: dict[str, str] = {**(now.labels or {}), name(job.pipeline): str(mark)}
        if emptied:
            others = {
                key: text for key, text in wanted.items() if key.startswith(JOB) and key != name(job.pipeline)
            }
            wanted |= {key: _FORM.sub(rf"{REPLACED}_\2_\3_\4_\5", text) for key, text in others.items()}
            wanted[FROM_THE_BEGINNING] = "1"
        if len(wanted) > MOST_LABELS:
            raise WarehouseError(
                f"{table.options} has {len(now.labels):,} labels, and BigQuery allows {MOST_LABELS}: job "
                f"{job.pipeline!r} cannot note there what it loads. Remove labels that nobody needs (`bq update "
                "--clear_label`), but none that begin with etl_; or load into another table"
            )
        now.labels = wanted
        table.client.update_table(now, ["labels"], **table.request)  # only if nobody changed it since

    table.ask(f"note in a label of {table.options} what is loaded", once, WRITE, besides={412})


def missing(job: Job, table: Table, why: str = "") -> str:
    """Say that a table bears no mark although the job has loaded into it, and what to do.

    Args:
        job: whose table it is.
        table: the table.
        why: why nothing else tells of those loads, to be read after "no mark of that"; empty: nothing does.
    """
    return (
        f"job {job.pipeline!r} has loaded {job.loads:,} times into {table.options}, by its checkpoint, and the table "
        f"bears no mark of that{why}: it is perhaps another one, made after the first was deleted. Put the table back "
        "(BigQuery keeps a deleted one for some days), or delete table and checkpoint, to load everything again; "
        f"{AGAIN}; {ADOPT}"
    )


def _replaced(job: Job, table: Table) -> str:
    return (
        f"another job has refreshed {table.options}: its rows have taken the place of all others, those of job "
        f"{job.pipeline!r} too, of which only a load that was under way then may be there. Load everything again: "
        f"delete the rows that are there of it, if any, and its checkpoint, and say `etl run --adopt-table` once; then "
        "give each of both jobs a table of its own"
    )


def contradiction(job: Job, found: Any, table: Table, rows: int | None) -> str | None:
    """Say in what the mark on a table contradicts the checkpoint, and what to do; None: in nothing, or there is none.

    Args:
        job: whose table it is.
        found: the table as the client has it.
        table: the table.
        rows: how many it holds; None: that is not known.
    """
    mark = read(found, job.pipeline)
    if mark is None:
        return None
    where = f"{table.options} (label {name(job.pipeline)}: {mark})"
    if not mark.is_of(job):
        if not job.loads and rows == 0:
            return None
        if mark.life == REPLACED:
            return _replaced(job, table)
        return (
            f"job {job.pipeline!r} has loaded into {where} with another checkpoint than this one, which knows nothing "
            f"of that: everything would be loaded twice. {BACK.capitalize()}, or delete the table and this "
            f"checkpoint; or give the job another name; {AGAIN}; {ADOPT}"
        )
    if mark.step > furthest(job):
        return (
            f"{where} is further than the checkpoint of job {job.pipeline!r}, which knows of {job.loads:,} loads: an "
            f"older copy of it was put back, and what was loaded since would be loaded twice. {BACK.capitalize()}; "
            f"{AGAIN}; {ADOPT}"
        )
    if mark.load < job.loads:
        return (
            f"{where} is behind the checkpoint of job {job.pipeline!r}, which knows of {job.loads:,} loads: an older "
            "state of the table was put back, and what was loaded since is missing. Put the newest table back; "
            f"{AGAIN}; {ADOPT}"
        )
    return None
