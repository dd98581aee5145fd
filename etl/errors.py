"""One tree of errors. Each message says what happened, where, and what to do next.

    EtlError
    ├── ConfigError               the definition of the job is wrong: exit code 2
    │   ├── DefinitionChanged     the definition no longer fits the checkpoint
    │   └── NotEnoughMemory       the job needs more memory than it has
    ├── SourceError               the source could not be read
    │   ├── ErrorPage             what came in place of rows is an error, or a page for people
    │   ├── RedirectRefused       a server leads to an address of a private network
    │   ├── SourceChanged         it is not what it was when the cursor was taken
    │   ├── SourceCorrupt         what came is not what was sent: too short, too long, a wrong checksum
    │   ├── SourceMissing         there is nothing at that URL (404, 410)
    │   ├── SourceRefused         the server wants other credentials, or none will do (401, 403, 407)
    │   ├── SourceStopped         it was told to stop while it waited; the run ends in order
    │   ├── SourceUnfinished      its last record is perhaps half of one; the run ends before it, in order
    │   ├── SourceUnavailable     it was tried until the deadline, or the server asks to come back later
    │   ├── SourceUntrusted       the server's certificate is not trusted
    │   └── TooManyRedirects      the server sends from one URL to another, without an end
    ├── RecordError               a record could not be read, transformed or encoded
    │   ├── TransformError        … because a transform raised, or broke its contract
    │   └── TooManyRejects        more records were rejected than `max_rejects` allows
    ├── SinkFailed                a part could not be written (the cause is a sinks.SinkError)
    │   └── NoSpace               … because not even the smallest part fits on the disk
    ├── CheckpointError           the checkpoint could not be read or written
    │   ├── CheckpointCorrupt     it is no checkpoint, or a damaged one
    │   ├── CheckpointFull        there is no space to write it; the one before stands
    │   ├── CheckpointTooNew      it was written by a newer version of this library
    │   └── Fenced                another process has, or has taken over, the job
    ├── WarehouseError            a plan could not be loaded
    │   ├── SchemaMismatch        a value does not fit its column
    │   ├── PartTooLarge          to load a part takes more memory than the warehouse has
    │   ├── LoadMismatch          the warehouse took another number of rows than the plan holds
    │   ├── LoadFailed            a plan cannot be loaded as it is: fix the cause, then --retry-failed
    │   ├── RefreshLost           what was to replace a table is gone: only another refresh helps
    │   └── StillLoading          a load goes on in the warehouse, and was not waited for
    └── LabError                  an experiment of `etl lab` could not be run
        ├── NoFreshGroup          no memory cgroup of its own can be made for it
        └── NoRoom                the disk has no room for what it would write

Errors of the package `sinks` (`sinks.SinkError` and its kinds) stand below this tree; inside a pipeline
they arrive as `SinkFailed`, with the pipeline, the part and the position added.
"""

from __future__ import annotations


class EtlError(Exception):
    """The root of every error that this library raises on purpose."""


class ConfigError(EtlError):
    """The definition of a job is wrong; nothing was read or written."""


class DefinitionChanged(ConfigError):
    """The job's definition changed in a way that makes its checkpoint meaningless."""


class NotEnoughMemory(ConfigError):
    """The job needs more memory than it was given, or than its control group allows."""


class SourceError(EtlError):
    """A source could not be read."""


class ErrorPage(SourceError):
    """What came in place of rows is an error or a page for people, though with a status of success."""


class RedirectRefused(SourceError):
    """A server leads to an address of a private network, which the job did not name; nothing was sent there."""


class SourceChanged(SourceError):
    """What the cursor points into is not what it was when the cursor was taken."""


class SourceCorrupt(SourceError):
    """What came is not what was sent: it is shorter or longer than promised, or its checksum is another one."""


class SourceMissing(SourceError):
    """There is nothing at that URL."""


class SourceRefused(SourceError):
    """The server does not give it to this client: credentials are wrong, missing, or not enough."""


class SourceStopped(SourceError):
    """A source was told to stop while it waited; nothing was lost, and the next pull asks again."""


class SourceUnfinished(SourceError):
    """The last record may be half of one, which its writer is to end; what was taken before it is whole."""


class SourceUnavailable(SourceError):
    """It was tried until the deadline, or the server asks to come back after it; it may work later."""


class SourceUntrusted(SourceError):
    """The server's certificate is not trusted; nothing was sent to it."""


class TooManyRedirects(SourceError):
    """The server sends from one URL to another, without an end."""


class RecordError(EtlError):
    """A record could not be read, transformed or encoded."""


class TransformError(RecordError):
    """A transform raised, or broke its contract."""


class TooManyRejects(RecordError):
    """More records were rejected than the job allows."""


class SinkFailed(EtlError):
    """A part could not be written, sealed or released."""


class NoSpace(SinkFailed):
    """Not even the smallest part fits where the sink writes."""


class CheckpointError(EtlError):
    """The checkpoint could not be read or written."""


class CheckpointCorrupt(CheckpointError):
    """The checkpoint is damaged, or is no checkpoint."""


class CheckpointFull(CheckpointError):
    """There is no space to write the checkpoint; the one before stands."""


class CheckpointTooNew(CheckpointError):
    """The checkpoint was written by a newer version of this library."""


class Fenced(CheckpointError):
    """Another process holds the job, or has taken it over; this one touches nothing more."""


class WarehouseError(EtlError):
    """A plan could not be loaded."""


class SchemaMismatch(WarehouseError):
    """A value does not fit its column."""


class PartTooLarge(WarehouseError):
    """To load a part takes more memory than the warehouse has; nothing of it was."""


class LoadMismatch(WarehouseError):
    """The warehouse took, or would have taken, another number of rows than the plan holds."""


class LoadFailed(WarehouseError):
    """A plan cannot be loaded as it is, whenever it is tried; nothing of it was."""


class RefreshLost(WarehouseError):
    """What a refresh has loaded is gone, or cannot take the table's place; that is as it was: `--full-refresh`."""


class StillLoading(WarehouseError):
    """A load goes on in the warehouse, and was not waited for; the next run looks for it."""


class LabError(EtlError):
    """An experiment of `etl lab` could not be run."""


class NoFreshGroup(LabError):
    """No memory cgroup can be made here; the message says why, place by place."""


class NoRoom(LabError):
    """The disk has no room for what an experiment writes."""
