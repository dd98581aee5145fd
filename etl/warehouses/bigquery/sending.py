"""How the parts of a plan come to a load job: from their bucket, staged in one, or sent along with the job."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from etl.checkpoint import Plan
from etl.errors import StillLoading, WarehouseError
from etl.warehouses.bigquery.jobs import Client, Jobs
from etl.warehouses.bigquery.parts import blocks, sent_along
from etl.warehouses.bigquery.staging import Staging
from etl.warehouses.bigquery.table import TableOptions
from etl.warehouses.bigquery.upload import JobUpload
from sinks.base import SealedPart
from sinks.errors import SinkError
from sinks.retry import Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """Sends parts, reads them again, and deletes what was staged of them.

    Attributes:
        client: a client of BigQuery.
        jobs: where the jobs run.
        retry: how long each request is tried again.
        storage: makes the client of the buckets, or returns it.
        staging: the bucket and prefix where parts of file sinks are staged; None: they are sent along.
        user_project: the project that pays for requests to that bucket, where the requester does.
        chunk_bytes: what is sent with one request.
        leaving: once it is set, sending ends.
    """

    client: Client
    jobs: Jobs
    retry: Retry
    storage: Callable[[], Any]
    staging: tuple[str, str] | None
    user_project: str | None
    chunk_bytes: int
    leaving: threading.Event

    def submission(self, id: str, plan: Plan, table: TableOptions, config: Any) -> Callable[[], Any]:
        """Return what submits the load job of a plan; parts that are to be staged are, on return.

        Args:
            id: the job's id.
            plan: the plan.
            table: where it is loaded.
            config: the job's configuration.

        Raises:
            StillLoading: it was told to leave; nothing was submitted.
            WarehouseError: a part cannot be read, or staged.
        """
        local = plan.parts[0].sealed.is_local
        if local and self.staging is None:
            return partial(self._send_along, id, plan, table, config)
        uris = self._staged().put(plan) if local else [part.sealed.uri for part in plan.parts]
        return lambda: self.client.load_table_from_uri(
            uris, table.reference(), job_id=id, job_config=config, **self.jobs.options
        )

    def clear(self, plan: Plan) -> None:
        """Delete what is staged of a plan that no job will read any more. May be repeated.

        Raises:
            WarehouseError: it cannot be deleted.
        """
        if self.staging is not None and plan.parts[0].sealed.is_local:
            self._staged().clear(plan)

    def read(self, part: SealedPart) -> Iterator[bytes]:
        """Yield a part's bytes, wherever it is."""
        if part.is_local:
            yield from self._until_left(blocks(part))
            return
        bucket, name = re.fullmatch(r"gs://([^/]+)/(.+)", part.uri).groups()  # type: ignore[union-attr]
        blob = self.storage().bucket(bucket).blob(name, generation=part.generation or None)
        timeout = self.retry.timeout
        with blob.open("rb", chunk_size=self.chunk_bytes, timeout=timeout, retry=None) as file:
            yield from self._until_left(iter(partial(file.read, self.chunk_bytes), b""))

    def _send_along(self, id: str, plan: Plan, table: TableOptions, config: Any) -> Any:
        resource = {
            "jobReference": {"projectId": self.jobs.project, "jobId": id, "location": table.location},
            "configuration": config.to_api_repr(),
        }
        resource["configuration"]["load"]["destinationTable"] = table.reference().to_api_repr()
        upload = JobUpload(
            self.client,
            project=self.jobs.project,
            resource=resource,
            blocks=self._until_left(sent_along([part.sealed for part in plan.parts], plan.format)),
            chunk_bytes=self.chunk_bytes,
            retry=self.retry,
            sleep=self.jobs.sleep,
        )
        try:
            return self.client.job_from_resource(upload.send())
        except SinkError as error:
            raise WarehouseError(f"plan {plan.id} cannot be uploaded: {error}") from error

    def _staged(self) -> Staging:
        if self.staging is None:
            raise AssertionError  # never reached: asked before
        bucket, prefix = self.staging
        return Staging(
            self.storage(),
            bucket,
            prefix,
            retry=self.retry,
            chunk_bytes=self.chunk_bytes,
            user_project=self.user_project,
            reading=self._until_left,
        )

    def _until_left(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass on what is read of a part, until it is told to leave.

        Raises:
            StillLoading: it was; no job was submitted.
        """
        for block in blocks:
            if self.leaving.is_set():
                raise StillLoading(
                    "a load was being prepared, and is left to the next run; nothing was submitted"
                )
            yield block
