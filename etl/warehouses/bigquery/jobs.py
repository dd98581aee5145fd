"""The protocol of BigQuery's jobs: ids that follow from the plan, looked up before they are used.

A job's id can be used once in a project and location, by the process that is first; a failed job's id is spent too
(BigQuery documentation, "Running jobs programmatically", "Generating a job ID"). So a process that holds a plan, a
successor or a process that is half dead, can only submit the same job, and a plan that is given up is made
impossible by using up the id that its job would have.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from etl.checkpoint import Plan
from etl.errors import StillLoading, WarehouseError
from etl.warehouses.bigquery import reasons
from etl.warehouses.bigquery.reasons import Outcome, outcome_of
from sinks import google_errors
from sinks.google_errors import reason_of, status_of
from sinks.retry import Retry

# google-cloud-bigquery has types for some of what is used here.
Client = Any

# BigQuery keeps jobs for six months (BigQuery documentation, "Managing jobs"), which have 181 days at least. Some days
# before that nobody relies on it any more.
REMEMBERED = timedelta(days=175)

# What it takes to see the jobs of others (BigQuery documentation, "Access control"): roles/bigquery.jobUser shows an
# account its own jobs alone, roles/bigquery.user those of others without what they do.
SEES_ALL = "bigquery.jobs.listAll and bigquery.jobs.get (roles/bigquery.resourceViewer)"

# How often one call submits a plan again after failures that pass; each counts against the table's daily quota.
TRIES = 5

# A job is looked at in such intervals, in seconds: from the first, growing by half, up to the last.
FIRST_POLL = 0.1
LAST_POLL = 10.0

# A caller that waits is told so, each time after so many seconds.
TOLD_SECONDS = 30.0

LOG = logging.getLogger("etl.warehouses.bigquery")

# So many jobs are listed with one request, which is the most there may be.
PAGE = 1000

# The label of a job that does nothing but use up an id.
BURNT = "etl_burnt"


class SessionLost(ConnectionError):
    """An upload's session is gone: whether its job exists is to be looked up; if not, it is begun again."""


def job_id(pipeline: str, plan: Plan, attempt: int, kind: str = "a") -> str:
    """Return the id of a plan's job.

    Args:
        pipeline: the job's name.
        plan: the plan.
        attempt: how many ids before it failed.
        kind: `a`: it loads; `m`: it merges what was loaded.
    """
    return f"etl_{pipeline}_{plan.parts[-1].sequence}_{plan.id}_{kind}{attempt}"


def outcome(job: Any) -> Outcome:
    """Say what became of a job that is done; `errors` without an `error_result` are no failure."""
    return Outcome.LOADED if job.error_result is None else outcome_of(reasons.reason_of(job))


def burns(job: Any, mark: str) -> bool:
    """Say whether a job is there only to use up the id of what is called `mark`: a plan, or a refresh."""
    return job.job_type == "query" and (job.labels or {}).get(BURNT) == mark


def passing(error: BaseException) -> bool:
    """Say whether a request may succeed when it is sent again."""
    return google_errors.passing(error) or outcome_of(reason_of(error)) is Outcome.PASSING


@contextmanager
def explained(what: str, *, needs: str = "") -> Iterator[None]:
    """Turn what Google's clients raise from within into a WarehouseError that says what to do.

    Args:
        what: what is tried, and where; to be read after "cannot".
        needs: the permissions that it takes.
    """
    try:
        yield
    except Exception as error:
        if not google_errors.known(error):
            raise
        reason, said = reason_of(error), google_errors.words(error)
        why = reasons.TOLD.get(reason) or (reasons.special_step(said) and "it is refused")
        if why and not passing(error):
            raise WarehouseError(
                f"cannot {what}: {why} ({said}); nothing was lost: {reasons.step_of(reason, said)}"
            ) from error
        raise WarehouseError(google_errors.explain(error, what, needs=needs)) from error


def redacted(job: Any) -> bool:
    """Say whether a job of a list is one of another account, of which BigQuery hides what it does.

    Their configuration is missing, and their times are text (Access control, bigquery.jobs.list and listAll).
    """
    if job.job_type in ("load", "copy"):
        return job.destination is None
    return job.job_type == "unknown" or (job.job_type == "query" and not job.query)


class Hidden:
    """Why a list of jobs may lack some.

    Attributes:
        reasons: why, in words, each once; none: it is complete.
    """

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.reasons)

    def __str__(self) -> str:
        return "; ".join(self.reasons)

    def add(self, reason: str) -> None:
        """Add a reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)


class Jobs:
    """Jobs of one project and location, each request with a timeout and the one retry policy.

    Args:
        client: the client; its own retries are never used.
        project: the project in which jobs run.
        location: where they run; a job is found only there.
        retry: how long a request is tried again.
        leaving: once it is set, waiting ends.
    """

    def __init__(
        self, client: Client, *, project: str, location: str, retry: Retry, leaving: threading.Event
    ) -> None:
        self._client = client
        self.project = project
        self.location = location
        self._where = {"project": project, "location": location}
        self._retry = retry
        self._leaving = leaving

    @property
    def options(self) -> dict[str, Any]:
        """What each request of the client is given: where, its timeout in seconds, and no retries of its own."""
        # The client writes the timeout into a header: a pair, which requests would take, is none there.
        return {**self._where, "retry": None, "timeout": self._retry.timeout[1]}

    def check(self) -> None:
        """Make sure that jobs may run in the project and location: by one that is only checked, and never runs.

        Raises:
            WarehouseError: they may not.
        """
        from google.cloud.bigquery import QueryJobConfig

        config = QueryJobConfig(dry_run=True, use_query_cache=False)
        with explained(
            f"run jobs in the project {self.project}",
            needs=f"bigquery.jobs.create (roles/bigquery.jobUser) on the project {self.project}, or set `project`",
        ):
            self._retry.call(
                lambda: self._client.query("SELECT 1", job_config=config, job_retry=None, **self.options),
                passing=passing,
                sleep=self.sleep,
            )

    def find(self, id: str, *, expected: bool = False) -> Any | None:
        """Look a job up.

        Args:
            id: its id.
            expected: it is known to exist: after a conflict BigQuery may say for a moment that it does not.

        Returns:
            The job, of any type; None: there is none.

        Raises:
            WarehouseError: it cannot be found out.
        """

        def may_pass(error: BaseException) -> bool:
            return passing(error) or (expected and status_of(error) == 404)

        with explained(f"look up job {id}"):
            try:
                return self._retry.call(lambda: self._get(id), passing=may_pass, sleep=self.sleep)
            except Exception as error:
                if status_of(error) != 404:
                    raise
                if not expected:
                    return None
                raise self._not_shown(id, error) from error

    def insert(self, id: str, submit: Callable[[], Any], what: str) -> tuple[Any, bool]:
        """Have a job under `id`, no matter who submitted it.

        After an answer that leaves it open whether the job exists, it is looked up before it is submitted again.

        Args:
            id: the job's id.
            submit: submits it and returns it.
            what: what it does, to be read after "cannot".

        Returns:
            The job, and whether it is, or may be, this call's own.

        Raises:
            WarehouseError: it cannot be submitted, or nobody knows whether it was; looking it up will tell.
        """
        in_doubt = False

        def once() -> Any | None:
            nonlocal in_doubt
            if in_doubt and (found := self._get_or_none(id)) is not None:
                return found
            try:
                return submit()
            except Exception as error:
                if status_of(error) == 409:
                    return None
                in_doubt = in_doubt or passing(error)
                raise

        with explained(
            what, needs="bigquery.jobs.create (roles/bigquery.jobUser) and roles/bigquery.dataEditor"
        ):
            job = self._retry.call(once, passing=passing, sleep=self.sleep)
        if job is not None:
            return job, True
        return self.find(id, expected=True), in_doubt

    def listed(self, since: datetime, hidden: Hidden) -> Iterator[Any]:
        """Yield the jobs of the project, of all its users where that is permitted, newest first.

        Args:
            since: those that were made from then on.
            hidden: is told when there may be others.

        Raises:
            WarehouseError: they cannot be listed.
        """
        now = datetime.now(UTC)
        if since < now - REMEMBERED:
            hidden.add(f"jobs from before {now - REMEMBERED:%Y-%m-%d} are forgotten")
        token: str | None = None
        all_users = True
        while True:

            def ask(token: str | None = token, all_users: bool = all_users) -> tuple[list[Any], str | None]:
                # One page each time: the client's iterator cannot go on after an error.
                found = self._client.list_jobs(
                    self._where["project"],
                    all_users=all_users,
                    min_creation_time=since,
                    max_results=PAGE,
                    page_token=token,
                    retry=None,
                    timeout=self._retry.timeout[1],
                )
                return list(next(found.pages, ())), found.next_page_token

            with explained(f"list the jobs of {self._where['project']}", needs="bigquery.jobs.list"):
                try:
                    page, token = self._retry.call(ask, passing=passing, sleep=self.sleep)
                except Exception as error:
                    if status_of(error) != 403 or not all_users or token is not None:
                        raise
                    all_users = False
                    hidden.add(self._others)
                    continue
            for job in page:
                if redacted(job):
                    hidden.add(self._others)
                else:
                    yield job
            if token is None:
                return

    @property
    def _others(self) -> str:
        return f"jobs of other accounts in the project {self.project} are hidden from this one"

    def _get(self, id: str) -> Any:
        """Ask for a job, once.

        Raises:
            WarehouseError: it is not shown to this account.
        """
        try:
            return self._client.get_job(id, **self.options)
        except Exception as error:
            refused = status_of(error) == 403 and not passing(error) and reason_of(error) not in reasons.TOLD
            if refused and reasons.special_step(google_errors.words(error)) is None:
                raise self._not_shown(id, error) from error
            raise

    def _get_or_none(self, id: str) -> Any | None:
        try:
            return self._get(id)
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise

    def _not_shown(self, id: str, error: BaseException) -> WarehouseError:
        # Its own jobs are shown to every account that may run any.
        return WarehouseError(
            f"BigQuery does not show job {id} of the project {self.project} to this account "
            f"({google_errors.words(error)}): another account has submitted it, so that nothing goes on before what "
            f"became of it is known. Let that account run this, or give this one {SEES_ALL} on the project "
            f"{self.project}"
        )

    def wait(self, job: Any) -> Any:
        """Wait until a job is done, however long it takes.

        Raises:
            StillLoading: it was told to leave.
            WarehouseError: the job cannot be looked at.
        """
        interval = FIRST_POLL
        began = told = time.monotonic()
        while job.state != "DONE":
            if (now := time.monotonic()) - told >= TOLD_SECONDS:
                told = now
                LOG.info(
                    "waiting for job %s in BigQuery (%s for %.0f s)",
                    job.job_id,
                    job.state.lower(),
                    now - began,
                )
            if self._left_within(interval):
                raise StillLoading(
                    f"job {job.job_id} goes on in BigQuery ({str(job.state).lower()}) and was not waited for; the next "
                    "run finds it"
                )
            job = self.find(job.job_id, expected=True)
            interval = min(interval * 1.5, LAST_POLL)
        return job

    def sleep(self, seconds: float) -> None:
        """Wait before something is tried again.

        Raises:
            StillLoading: it was told to leave.
        """
        if self._left_within(seconds):
            raise StillLoading(
                "a request to BigQuery failed for a reason that may pass, and was not sent again because the run ends; "
                "the next run looks up what became of it"
            )

    def _left_within(self, seconds: float) -> bool:
        """Wait; say whether it was told to leave."""
        self._retry.hurry.sleep(seconds, self._leaving.wait)
        return self._leaving.is_set()

    def pause(self, attempt: int) -> None:
        """Wait before a plan is submitted under its next id; `attempt` counts from 1.

        Raises:
            StillLoading: it was told to leave.
        """
        seconds = min(self._retry.first_wait * 2**attempt, self._retry.longest_wait)
        if self._left_within(seconds):
            raise StillLoading(
                "a load failed for a reason that may pass, and was not tried again because the run ends; the next run "
                "does"
            )

    def burn(self, id: str, pipeline: str, mark: str) -> Any:
        """Use up `id`, so that nobody can submit another job under it.

        Args:
            id: the id.
            pipeline: the name of the job that it belongs to.
            mark: what is given up with it; see `burns`.

        Returns:
            The job that has the id now: `burns` says whether it is such a one, or one that was faster.

        Raises:
            WarehouseError: it cannot be found out who has the id.
        """
        from google.cloud.bigquery import QueryJobConfig

        config = QueryJobConfig(labels={"etl_pipeline": label(pipeline), BURNT: mark})

        def submit() -> Any:
            return self._client.query(
                "SELECT 1", job_config=config, job_id=id, job_retry=None, **self.options
            )

        return self.insert(id, submit, f"use up the id {id}")[0]


def label(value: str) -> str:
    """Return `value` as a label can hold it (BigQuery documentation, "Introduction to labels", requirements).

    Up to 63 characters: letters in lower case, digits, underscores, dashes.
    """
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in value.lower())[:63]
