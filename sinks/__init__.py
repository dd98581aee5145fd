r"""Sinks: where parts are written; usable without `etl`.

Example:
    with sinks.NumberedChunks("out/job.ndjson").open_part(1) as part:
        part.write(b'{"hello": "world"}\n')
    part.sealed  # SealedPart(sequence=1, uri='file:///…/out/job-000001.ndjson', bytes=19, …)
"""

from sinks import page_cache
from sinks.base import (
    Discards,
    Hygiene,
    NeedsMemory,
    PartWriter,
    Publishes,
    ReportsHygiene,
    SealedPart,
    SeesEpochs,
    Sink,
    TakesBudget,
    TakesFacts,
)
from sinks.big_file import BigFile
from sinks.errors import NotDeleted, PartLost, SinkError, SinkFull, SinkOccupied, UploadLost
from sinks.gcs_stream import GcsStream
from sinks.null import Null
from sinks.numbered_chunks import NumberedChunks
from sinks.reused_file import ReusedFile

__all__ = [
    "BigFile",
    "Discards",
    "GcsStream",
    "Hygiene",
    "NeedsMemory",
    "NotDeleted",
    "Null",
    "NumberedChunks",
    "PartLost",
    "PartWriter",
    "Publishes",
    "ReportsHygiene",
    "ReusedFile",
    "SealedPart",
    "SeesEpochs",
    "Sink",
    "SinkError",
    "SinkFull",
    "SinkOccupied",
    "TakesBudget",
    "TakesFacts",
    "UploadLost",
    "page_cache",
]
