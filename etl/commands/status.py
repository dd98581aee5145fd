"""`etl status`: how far a job is."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import click

from etl.commands import debug_option, interruptible, job_argument, lines, say, say_json

if TYPE_CHECKING:
    from etl.checkpoint import Checkpoint
    from etl.pipeline import Pipeline


@click.command(epilog="Exit codes: 0 shown; 2 bad configuration; 1 the checkpoint cannot be read.")
@job_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug_option
@interruptible
def status(job: str, *, as_json: bool) -> None:
    """Show how far a job is: what is sealed, planned and loaded. Reads the checkpoint, nothing else."""
    from etl import config
    from etl.lease import TellsHolder

    pipeline = config.read(job).pipeline()
    holder = pipeline.store.holder() if isinstance(pipeline.store, TellsHolder) else None
    document = pipeline.read_checkpoint()
    if as_json:
        found: dict[str, Any] = _values(document, holder) if document else {"state": "new"}
        found["quota"] = _quota(pipeline, document) if document else None
        say_json(json.dumps({"pipeline": pipeline.name, "checkpoint": pipeline.store.uri, **found}, indent=2))
    elif document is None:
        say(
            f"{pipeline.name} has not been run yet: there is no checkpoint at {pipeline.store.uri}\n"
            f"Start it with: etl run {job}"
        )
    else:
        say(_text(document, pipeline, job, holder))


def _refused(document: Checkpoint) -> str:
    """Say why a plan cannot be loaded as it is; empty: nothing is known against any."""
    return next((plan.failure for plan in document.plans if plan.failure), "")


def _failure(document: Checkpoint) -> str:
    ended = document.ended
    return _refused(document) or (ended.reason if ended and ended.how == "failed" else "")


def _state(document: Checkpoint, holder: str | None) -> str:
    if holder is not None:
        return "running"
    if not document.clean:
        return "killed"
    if _refused(document):
        return "failed"
    return document.ended.how if document.ended else "finished" if document.finished else "stopped"


def _values(document: Checkpoint, holder: str | None) -> dict[str, Any]:
    import msgspec

    def parts(found: Any) -> dict[str, int]:
        return {
            "parts": len(found),
            "records": sum(part.records for part in found),
            "bytes": sum(part.sealed.bytes for part in found),
        }

    values, refresh = msgspec.to_builtins(document), document.refresh
    return {
        "state": _state(document, holder),
        "holder": holder,
        "ended": values["ended"],
        "succeeded": document.succeeded,
        "clean": document.clean,
        "finished": document.finished,
        "position": values["state"]["position"],
        "totals": values["state"]["totals"],
        "sealed": parts(document.sealed),
        "planned": {
            "plans": len(document.plans),
            **parts([part for plan in document.plans for part in plan.parts]),
        },
        "loaded": {
            "plans": document.loads,
            "last_part": document.loaded.sequence,
            **values["loaded"]["totals"],
        },
        "part_bytes": document.part_bytes,
        "sink": {"hygiene": values["hygiene"]},
        "epoch": document.epoch,
        "owner": values["owner"],
        "failure": _failure(document) or None,
        "refresh": refresh and {"id": refresh.id, "complete": refresh.complete},
    }


def _quota(pipeline: Pipeline, document: Checkpoint) -> dict[str, Any] | None:
    """Say how many jobs changed the table within 24 hours; None: the warehouse has no such quota."""
    from etl.quota import Quota
    from etl.warehouses.base import LoadsByJobs

    warehouse: object = pipeline.warehouse
    if not isinstance(warehouse, LoadsByJobs):
        return None
    quota = Quota(warehouse.daily_operations)
    return {
        "used": quota.used(document.operations),
        "of": quota.budget,
        "seconds_between_loads": quota.interval(document.operations),
        "free_in_seconds": quota.free_in(document.operations),
    }


def _place(pipeline: Pipeline) -> str:
    """Say where the dead letters are."""
    from sinks import NumberedChunks

    rejects: Any = pipeline.rejects
    if isinstance(rejects, NumberedChunks):
        suffixes = "".join(rejects.path.suffixes)
        return str(rejects.path.with_name(f"{rejects.path.name.removesuffix(suffixes)}-*{suffixes}"))
    return str(getattr(rejects, "path", rejects))


def _last_run(document: Checkpoint, holder: str | None, job: str) -> str:
    """Say what became of the last run, and what to do next."""
    state, ended = _state(document, holder), document.ended
    at = f" on {_moment(ended.at)}" if ended else ""
    reason = f" ({ended.reason})" if ended and ended.reason else ""
    if state == "running":
        return f"running now: {holder}"
    if state == "killed":
        if document.owner and document.owner.host != socket.gethostname():  # whose lock is not seen here
            return f"running on another machine, or killed there ({document.owner}); then: etl run {job}"
        return f"killed: it was {document.owner}; go on with: etl run {job}"
    if state == "failed" and _refused(document):
        return f"a load failed for good; fix its cause, then: etl run --retry-failed {job}"
    if state == "failed":
        return f"failed{at}, in order; fix its cause, then go on with: etl run {job}"
    if state == "stopped":
        return f"stopped{at}{reason}, in order, before the source's end; go on with: etl run {job}"
    return f"finished{at}: it reached the end of the source"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _text(document: Checkpoint, pipeline: Pipeline, job: str, holder: str | None) -> str:
    from etl.words import count, held, method, size

    values = _values(document, holder)
    position, totals = document.state.position, document.state.totals
    loaded = document.loaded
    rows = [
        ("job", document.pipeline),
        ("checkpoint", pipeline.store.uri),
        ("last run", _last_run(document, holder, job)),
        *([("last success", _moment(document.succeeded))] if document.succeeded else []),
        (
            "position",
            f"{position} (after record {position.number:,})" if position.number else "the beginning",
        ),
        (
            "written",
            f"{count(totals.records, 'record')} in {count(totals.parts, 'part')}, {size(totals.bytes)}",
        ),
        (
            "rejected",
            count(totals.rejected, "record") + (f", in {_place(pipeline)}" if totals.rejected else ""),
        ),
        *([("ignored", count(totals.ignored, "unknown field"))] if totals.ignored else []),
    ]
    if failure := _failure(document):
        rows.append(("failure", failure))
    if pipeline.warehouse is not None:
        loaded_words = f"{count(loaded.totals.records, 'record')} in {count(document.loads, 'load')}"
        rows += [
            (
                "sealed",
                f"{_parts(values['sealed'])}, not yet planned" if document.sealed else "nothing waits",
            ),
            (
                "planned",
                f"{_parts(values['planned'])}, not yet loaded" if document.plans else "nothing waits",
            ),
            ("loaded", f"{loaded_words}, up to part {loaded.sequence}"),
        ]
        if document.refresh is not None:
            what = "only the exchange of the tables is left" if document.refresh.complete else "under way"
            rows.append(("refresh", f"{what}; the table holds what it held before"))
    if (quota := _quota(pipeline, document)) is not None:
        rows.append(("table quota", _quota_words(quota)))
    rows += [
        ("part size", size(document.part_bytes)),
        *([("page cache", f"{method(found)}; {held(found)}")] if (found := document.hygiene) else []),
        ("epoch", f"{document.epoch}" + (f", {document.owner}" if document.owner else "")),
    ]
    return lines(*rows)


def _quota_words(quota: dict[str, Any]) -> str:
    words = f"{quota['used']:,} of {quota['of']:,} loads in 24 hours"
    interval = quota["seconds_between_loads"]
    if interval is None:
        return f"{words}: used up; the next one in {quota['free_in_seconds'] / 3600:.1f} hours"
    return f"{words}, " + (f"{interval:.0f} s apart now" if interval else "no need to wait between them")


def _parts(values: dict[str, int]) -> str:
    from etl.words import count, size

    return f"{count(values['parts'], 'part')}, {count(values['records'], 'record')}, {size(values['bytes'])}"
