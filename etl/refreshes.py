"""Refreshes: a new table is filled beside the old one, and put in its place when all of it is loaded.

The checkpoint says that a refresh is under way, so a run that was killed goes on with it, on whichever machine; the
old table is untouched until the exchange. That all is loaded is noted before the tables are exchanged: from then on
nothing more is loaded into the new one, which may be the table already.
"""

from __future__ import annotations

from collections.abc import Callable

from etl import progress
from etl.errors import ConfigError, Fenced, RefreshLost
from etl.job import Settings
from etl.lease import Lease
from etl.warehouses.base import ChecksRefreshes, Job, KeepsLedger, Refreshes
from sinks import Sink


def refreshing(pipeline: str, warehouse: object, sink: Sink) -> Refreshes:
    """Return `warehouse`, which must be one that can be refreshed.

    Raises:
        ConfigError: it is none, or the sink keeps its parts: it would keep those of every refresh.
    """
    if not isinstance(warehouse, Refreshes):
        what = "it has no warehouse" if warehouse is None else f"{warehouse!r} cannot do that"
        raise ConfigError(
            f"job {pipeline!r} cannot be refreshed: {what}; delete its checkpoint and what it wrote to begin again"
        )
    if sink.lasting:
        raise ConfigError(
            f"job {pipeline!r} cannot be refreshed: its sink keeps its parts, and would keep those of every refresh; "
            "set keep = false, or use reused_file"
        )
    return warehouse


def refreshable(warehouse: object, sink: Sink) -> bool:
    """Say whether a job with these can be refreshed."""
    return isinstance(warehouse, Refreshes) and not sink.lasting


def replaces(warehouse: object) -> bool:
    """Say whether each run of a job that loads into `warehouse` refreshes its table."""
    return isinstance(warehouse, Refreshes) and warehouse.disposition == "replace"


def check(job: Settings, lease: Lease) -> None:
    """Make sure, before anything is given up for a refresh, that the warehouse can do it.

    Raises:
        WarehouseError: it cannot, without losing what the table is.
    """
    warehouse: object = job.warehouse
    if isinstance(warehouse, ChecksRefreshes):
        warehouse.check_refresh(Job.of(lease.document, job.fingerprint))


def prepare(job: Settings, lease: Lease) -> None:
    """Make the warehouse ready for a refresh that is under way and has nothing loaded yet.

    Raises:
        WarehouseError: it cannot be made ready.
    """
    document = lease.document
    if document.refresh is not None and not document.loads:
        refreshing(job.pipeline, job.warehouse, job.sink).begin_refresh(Job.of(document, job.fingerprint))


def exchange(
    job: Settings,
    lease: Lease,
    emit: progress.Listener,
    call: Callable[[Callable[[], None]], None] = lambda function: function(),
) -> None:
    """Put the new table in the old one's place, all of which is loaded; may be repeated after any crash.

    Args:
        job: the job.
        lease: the checkpoint.
        emit: takes the events.
        call: calls the warehouse, on another thread where a signal may come in the meantime.

    Raises:
        Fenced: another process has taken the job over.
        StillLoading: the run ends, and the exchange goes on without it; the next run finds it.
        WarehouseError: it was not done.
    """
    document = lease.document
    if document.refresh is None:
        return
    if not document.refresh.complete:
        lease.write(document.refresh_complete())
    warehouse = refreshing(job.pipeline, job.warehouse, job.sink)
    refreshed = Job.of(lease.document, job.fingerprint)
    call(lambda: warehouse.finish_refresh(refreshed))
    lease.write(lease.document.refreshed())
    emit(
        progress.Notice(
            pipeline=job.pipeline,
            message=f"refreshed: the table holds the {document.loaded.totals.records:,} records of this refresh",
            expected=True,
        )
    )


def end(job: Settings, lease: Lease, emit: progress.Listener, *, another: bool) -> bool:
    """End the refresh that is under way, if nothing but the exchange of the tables is left, or not even that.

    Also before another one: a half-dead process may be about to exchange the tables.

    Args:
        job: the job.
        lease: the checkpoint.
        emit: takes the events.
        another: whether another refresh is to begin.

    Returns:
        Whether what it loaded is gone, so that it must begin again.

    Raises:
        RefreshLost: the same, where only a person can tell what became of it.
        WarehouseError: it was not ended.
    """
    warehouse: object = job.warehouse
    document = lease.document
    assert document.refresh is not None
    ledger = isinstance(warehouse, KeepsLedger)
    if isinstance(warehouse, KeepsLedger):
        found = warehouse.latest(Job.of(document, job.fingerprint))
        if found and found.refreshed and not document.refresh.complete:
            # a copy of the checkpoint was put back: see `follow_ledger` of the takeover
            lease.write(document.refreshed())
            return False
        there = found is not None and (found.refreshed or found.state.is_at(document.loaded))
        if document.refresh.complete and document.loads and not there:
            emit(
                progress.Notice(
                    pipeline=job.pipeline,
                    message="the warehouse has not all that was to replace the table: it was put back, or dropped",
                )
            )
            return True
    if not document.refresh.complete:
        return False
    try:
        exchange(job, lease, emit)
    except (RefreshLost, Fenced) as error:
        # Who is fenced by its checkpoint will be so again.
        if another or (ledger and isinstance(error, RefreshLost)):
            emit(progress.Notice(pipeline=job.pipeline, message=f"the refresh before is given up: {error}"))
            return True
        raise
    return False
