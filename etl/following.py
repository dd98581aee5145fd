"""A checkpoint that is new, where the ledger of the table knows the job: another one's, or lost and found again."""

from __future__ import annotations

from etl import moves
from etl.checkpoint import decode
from etl.errors import CheckpointError, DefinitionChanged
from etl.job import Settings
from etl.warehouses.base import Entry


def see_that_no_other_has_it(job: Settings, uri: str, since: moves.Moves, entry: Entry) -> None:
    """Make sure that what the ledger has was not loaded with another checkpoint, which is still there.

    That is another job of the same name, or the same job begun in another directory: going on from what the other one
    has loaded would skip records of the one, and make two of the other.

    Args:
        job: the job.
        uri: of its checkpoint, which is new.
        since: what became of the definition since the ledger's newest row.
        entry: that row.

    Raises:
        DefinitionChanged: it was.
    """
    other = since.elsewhere(moves.CHECKPOINT)
    if other is None or not other.exists():
        return
    try:
        known = decode(other.read_bytes(), str(other)).pipeline == job.pipeline
    except (OSError, CheckpointError):
        known = True
    if known:
        raise DefinitionChanged(
            f"job {job.pipeline!r} has loaded {entry.state.totals.records:,} records into "
            f"{job.fingerprint['destination']} with another checkpoint, {other}; this one, {uri}, is new. If it is the "
            "same job, run it where it ran, or name that checkpoint in it, or move that file away: then it goes on "
            "from what is loaded. If it is another job, give it a name of its own"
        )


def told(job: Settings, uri: str, entry: Entry) -> str:
    """Say that a new checkpoint goes on from what the ledger has, and what to do where that is another job's."""
    return (
        f"the checkpoint {uri} is new, but the ledger of {job.fingerprint['destination']} has "
        f"{entry.state.totals.records:,} records of job {job.pipeline!r}, in {entry.loads:,} loads: going on after "
        f"part {entry.state.sequence} ({entry.state.position}). If another job of that name loaded them, give this one "
        "a name of its own"
    )
