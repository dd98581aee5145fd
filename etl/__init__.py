"""Streaming ETL for small containers on machines that may vanish.

Flat memory, flat disk, exactly once, plain Python: see `Pipeline`.
"""

from etl import errors, sources
from etl.checkpoint import Checkpoint
from etl.errors import EtlError
from etl.pipeline import Pipeline, Result
from etl.records import Mark, Reject, Unreadable
from etl.reshaping import cast, drop, rename
from etl.transforms import each

__all__ = [
    "Checkpoint",
    "EtlError",
    "Mark",
    "Pipeline",
    "Reject",
    "Result",
    "Unreadable",
    "cast",
    "drop",
    "each",
    "errors",
    "rename",
    "sources",
]

__version__ = "0.1.0"
