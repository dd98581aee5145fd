"""How long a command waits for servers that do not answer, whatever the job file says."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from etl import registry
from etl.config import Job
from etl.errors import ConfigError
from etl.tables import Signature

# What the built-in sources, sinks, warehouses and stores call the seconds that they wait.
WAITS = ("deadline", "read_timeout")


def waiting_at_most(job: Job, seconds: float) -> Job:
    """Return a job file whose tables wait for no answer longer than so many seconds.

    What is wrong in a table is left as it is: the message comes when the pipeline is built.
    """

    def limited(table: dict[str, Any] | None, kind: str, name: Any) -> Any:
        if table is None or not isinstance(name, str):
            return table
        try:
            takes = Signature.of(registry.resolve(kind, name)).types
        except ConfigError:
            return table
        return {**table, **{key: _least(table.get(key), seconds) for key in WAITS if key in takes}}

    checkpoint = job.checkpoint or {}
    return replace(
        job,
        source=limited(job.source, "sources", job.source.get("type")),
        sink=limited(job.sink, "sinks", job.sink.get("type")),
        warehouse=limited(job.warehouse, "warehouses", (job.warehouse or {}).get("type")),
        rejects=limited(job.rejects, "sinks", (job.rejects or {}).get("type")),
        checkpoint=limited(job.checkpoint, "stores", registry.store_name(str(checkpoint.get("uri", "")))),
    )


def _least(written: Any, seconds: float) -> Any:
    """Return the lesser of what a table says and `seconds`; what is no number is left for its message."""
    try:
        return seconds if written is None or float(written) > seconds else written
    except (TypeError, ValueError):
        return written
