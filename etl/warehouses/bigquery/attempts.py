"""What is to be done once, no matter who does it: by one job, under the first of its ids that did not fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from etl.errors import WarehouseError
from etl.warehouses.bigquery.jobs import TRIES, Jobs, burns, outcome
from etl.warehouses.bigquery.reasons import Outcome, said, step_for


def _never(_: Any) -> bool:
    return False


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A load, a merge or an exchange. Its ids follow from it, so who has it to do can only submit the same job.

    Attributes:
        id: the id of each attempt, from 0; one is taken when those before it have failed.
        mark: what a job is labelled with that uses one of these ids up.
        title: where it is done, for messages: "into t".
        nothing: what is left undone when it fails, for messages: "nothing was loaded".
        prepare: makes ready what a job needs, and returns what submits it under an id.
        check: makes sure that a job that was found under an id is the one that it stands for, or raises.
        refused: makes the error for a job that failed, and will again.
        again: how often it is submitted again after such a failure, which others may have caused; 0: it is the last
            word, no matter who submitted it.
        undone: whether what a job did is gone, so that it is to be done again.
        overtaken: whether a job failed because of what others did at that moment, so that another one may succeed.
        unseen: called before an id is used up under which no job is found: makes sure that there was none, or raises.
    """

    id: Callable[[int], str]
    mark: str
    title: str
    nothing: str
    prepare: Callable[[str], Callable[[], Any]]
    check: Callable[[Any], None]
    refused: Callable[[Any], Exception]
    again: int = 0
    undone: Callable[[Any], bool] = _never
    overtaken: Callable[[Any], bool] = _never
    unseen: Callable[[], None] = _nothing

    def carry_out(self, jobs: Jobs, submitting: Callable[[], None]) -> Any:
        """Have it done, by a job that there is already or a new one, and return that job. Durable on return.

        Args:
            jobs: of the project and location.
            submitting: called for each job that is submitted here.

        Raises:
            Fenced: it was given up.
            StillLoading: it was told to leave; the job goes on.
            WarehouseError: it is not done, or nobody knows; to be repeated.
            Exception: what `refused` makes.
        """
        tries = 0
        for attempt in itertools.count():
            name = self.id(attempt)
            found = jobs.find(name)
            submitted = found is None
            if found is None:
                try:
                    submit = self.prepare(name)
                except WarehouseError:
                    # Somebody else may have done it in the meantime, and cleared away what it takes.
                    if (found := jobs.find(name)) is None:
                        raise
                else:
                    found, ours = jobs.insert(name, submit, f"submit job {name} to {jobs.location}")
                    if ours:
                        submitting()
            self.check(found)
            found = jobs.wait(found)
            result = outcome(found)
            if result is Outcome.LOADED:
                if self.undone(found):
                    continue
                return found
            if result is Outcome.LASTING and self.overtaken(found):
                result = Outcome.PASSING
            if result is Outcome.LASTING and not self.again:
                raise self.refused(found)
            if not submitted:
                continue
            if result is Outcome.WAITING:
                raise WarehouseError(
                    f"job {name} {self.title} failed ({said(found)}); {self.nothing}: {step_for(found)}"
                )
            tries += 1
            if result is Outcome.LASTING and tries >= self.again:
                raise self.refused(found)
            if tries == TRIES:
                raise WarehouseError(
                    f"job {name} failed, as {TRIES - 1} before it ({said(found)}); {self.nothing}, and it may pass by "
                    f"itself: {step_for(found)}"
                )
            jobs.pause(tries)
        raise AssertionError  # never reached: the loop has no end

    def settle(self, jobs: Jobs, pipeline: str) -> Any | None:
        """Find out whether it was done, and if not, make sure that it never will be.

        Returns:
            The job that did it; None: nobody did, and the id of the next attempt is used up.

        Raises:
            StillLoading: it was told to leave.
            WarehouseError: it cannot be found out now.
        """
        for attempt in itertools.count():
            name = self.id(attempt)
            found = jobs.find(name)
            if found is None:
                self.unseen()
                found = jobs.burn(name, pipeline, self.mark)
            if burns(found, self.mark):
                return None
            self.check(found)
            found = jobs.wait(found)
            if outcome(found) is Outcome.LOADED and not self.undone(found):
                return found
        raise AssertionError  # never reached: the loop has no end
