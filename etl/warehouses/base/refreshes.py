"""Warehouses that can replace a table in one step."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from etl.warehouses.base.warehouse import Job


@runtime_checkable
class Refreshes(Protocol):
    """A warehouse that can fill a new table beside the old one, and put it in its place in one step.

    While `Job.refresh` is set, `load`, `settle`, `latest`, `look_back`, `gate` and `audit` are about the new table. It
    belongs to one pipeline and one refresh, and is made by the first load. Readers of the table see its old content
    until `finish_refresh`.

    Attributes:
        disposition: what a run does with what the table holds: `append` adds to it, `merge` adds rows and changes those
            that have the same key, `replace` refreshes it with every run.
    """

    disposition: str

    def begin_refresh(self, job: Job) -> None:
        """Make ready for the refresh `job.refresh`, into which nothing was loaded yet; call it after `open`.

        Tables of this pipeline's other refreshes, which were given up, are deleted. May be repeated.

        Raises:
            WarehouseError: it cannot be made ready now.
        """

    def finish_refresh(self, job: Job) -> None:
        """Put the new table in the place of the old one, in one step that happens wholly or not at all.

        Durable on return. May be repeated after any error and any crash: what was done is not done again, also not by
        a process that is half dead and comes late. Where nothing was loaded, the table is emptied, if there is one.
        From then on `latest` and `audit` find the refresh's loads as those of the table itself.

        Raises:
            Fenced: a later refresh has taken this one's place.
            RefreshLost: what was loaded is gone, or does not go together with what else is there, so that it must be
                loaded again.
            WarehouseError: it was not done, or nobody knows; to be repeated.
        """


@runtime_checkable
class ChecksRefreshes(Protocol):
    """A warehouse that knows before a refresh whether the table can be replaced without losing what it is."""

    def check_refresh(self, job: Job) -> None:
        """Make sure that the table can be refreshed; call it after `open`, before the refresh is noted anywhere.

        Args:
            job: which is in no refresh, or in one that is given up for the one that is to begin.

        Raises:
            WarehouseError: it cannot; the message says what would be lost, and what to do next. Nothing was changed.
        """
