"""The checkpoint: the one small JSON document that says how far a job is.

Every change is a new frozen value, made by a method named after the step of the protocol (acquired, sealed,
planned, loaded …) and written by a compare-and-swap (`etl.lease`). The document does not grow with the data: what
stands in it besides the position are the parts that wait to be loaded.
"""

from etl.checkpoint.document import VERSION, Checkpoint
from etl.checkpoint.stored import READABLE, decode, encode
from etl.checkpoint.values import Ended, Owner, Part, Plan, Refresh, State, Totals, replace

__all__ = [
    "READABLE",
    "VERSION",
    "Checkpoint",
    "Ended",
    "Owner",
    "Part",
    "Plan",
    "Refresh",
    "State",
    "Totals",
    "decode",
    "encode",
    "replace",
]
