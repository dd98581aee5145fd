"""`etl status`: how far a job is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from etl.commands import debug_option, job_argument, lines

if TYPE_CHECKING:
    from etl.checkpoint import Checkpoint


@click.command(epilog="Exit codes: 0 shown; 2 bad configuration; 1 the checkpoint cannot be read.")
@job_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug_option
def status(job: str, *, as_json: bool) -> None:
    """Show how far a job is: what is sealed, planned and loaded. Reads the checkpoint, nothing else."""
    from etl import config

    pipeline = config.read(job).pipeline()
    document = pipeline.read_checkpoint()
    if as_json:
        found = _values(document) if document else {"state": "new"}
        click.echo(
            json.dumps({"pipeline": pipeline.name, "checkpoint": pipeline.store.uri, **found}, indent=2)
        )
    elif document is None:
        click.echo(
            f"{pipeline.name} has not been run yet: there is no checkpoint at {pipeline.store.uri}\n"
            f"Start it with: etl run {job}"
        )
    else:
        click.echo(_text(document, pipeline.store.uri, job, loads=pipeline.warehouse is not None))


def _state(document: Checkpoint) -> str:
    if not document.clean:
        return "unclean"
    return "finished" if document.finished else "stopped"


def _values(document: Checkpoint) -> dict[str, Any]:
    import msgspec

    def parts(found: Any) -> dict[str, int]:
        return {
            "parts": len(found),
            "records": sum(part.records for part in found),
            "bytes": sum(part.sealed.bytes for part in found),
        }

    values = msgspec.to_builtins(document)
    return {
        "state": _state(document),
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
    }


def _text(document: Checkpoint, uri: str, job: str, *, loads: bool) -> str:
    from etl.words import count, held, method, size

    values = _values(document)
    state = {
        "finished": "finished: the last run reached the end of the source",
        "stopped": f"stopped or failed, in order, before the source's end; go on with: etl run {job}",
        "unclean": f"running now, or it was killed; in that case go on with: etl run {job}",
    }[_state(document)]
    position, totals = document.state.position, document.state.totals
    loaded = document.loaded
    rows = [
        ("job", document.pipeline),
        ("checkpoint", uri),
        ("last run", state),
        (
            "position",
            f"{position} (after record {position.number:,})" if position.number else "the beginning",
        ),
        (
            "written",
            f"{count(totals.records, 'record')} in {count(totals.parts, 'part')}, {size(totals.bytes)}",
        ),
        ("rejected", count(totals.rejected, "record")),
    ]
    if loads:
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
    rows += [
        ("part size", size(document.part_bytes)),
        *([("page cache", f"{method(found)}; {held(found)}")] if (found := document.hygiene) else []),
        ("epoch", f"{document.epoch}" + (f", {document.owner}" if document.owner else "")),
    ]
    return lines(*rows)


def _parts(values: dict[str, int]) -> str:
    from etl.words import count, size

    return f"{count(values['parts'], 'part')}, {count(values['records'], 'record')}, {size(values['bytes'])}"
