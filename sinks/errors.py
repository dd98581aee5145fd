"""The errors of sinks.

SinkError                 anything a sink could not do
├── SinkFull              no space left: abort the part, free space or write smaller parts
├── SinkOccupied          something that is not ours stands where a part would go
├── NotDeleted            what is not needed any more stays: a retention policy, a hold, a missing permission
├── UploadLost            the open part got lost on its way, by no fault of its own: abort it, write it again
└── PartLost              a sealed part is missing or damaged
"""

from __future__ import annotations


class SinkError(Exception):
    """A sink could not do its work; the message says what, where, and what to do next."""


class SinkFull(SinkError):
    """There is no space left for the part (ENOSPC, EDQUOT)."""


class SinkOccupied(SinkError):
    """Something that this sink did not write, or another process, stands in the way."""


class NotDeleted(SinkError):
    """What is not needed any more could not be deleted, and may stay: nothing else went wrong."""


class UploadLost(SinkError):
    """What was written of an open part is lost, by no fault of its own: written again, it may well get through."""


class PartLost(SinkError):
    """A part that was sealed is missing, short, or not what was sealed."""
