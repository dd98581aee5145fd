"""The table: its name, how it is created, what it is now, and the configuration of its load jobs."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from etl.checkpoint import Plan
from etl.columns import Columns
from etl.errors import WarehouseError
from etl.warehouses.base import Job
from etl.warehouses.bigquery.jobs import Client, explained, label, passing
from etl.warehouses.bigquery.limits import MOST_CLUSTERED
from etl.warehouses.bigquery.schema import from_api, known, to_api
from sinks.errors import SinkError
from sinks.google_clients import made, watched
from sinks.google_errors import status_of
from sinks.hurry import Hurry
from sinks.retry import Retry

if TYPE_CHECKING:
    from google.cloud.bigquery import LoadJobConfig, TableReference

FORMATS = {"ndjson": "NEWLINE_DELIMITED_JSON", "ndjson.gz": "NEWLINE_DELIMITED_JSON", "parquet": "PARQUET"}
PARTITION_TYPES = ("HOUR", "DAY", "MONTH", "YEAR")
SCHEMAS_ON_REFRESH = ("keep", "infer")

T = TypeVar("T")

READ = "bigquery.datasets.get and bigquery.tables.get (roles/bigquery.dataEditor on the dataset)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """Which table, where, and how it is made when it is missing.

    Attributes:
        project: the project of the table.
        dataset: the dataset.
        table: the table's own name.
        location: where the dataset is.
        partition_by: the column of the partitions; None: the table has none.
        partition_type: how much time a partition holds.
        cluster_by: the columns that it is clustered by.
        keeps: whether a refresh keeps all of it but its rows.
    """

    project: str
    dataset: str
    table: str
    location: str
    partition_by: str | None
    partition_type: str
    cluster_by: tuple[str, ...]
    keeps: bool = True

    @classmethod
    def of(
        cls,
        table: str,
        location: str,
        partition_by: str | None,
        partition_type: str,
        cluster_by: tuple[str, ...],
        schema_on_refresh: str = "keep",
    ) -> TableOptions:
        """Check the options and take the table's name apart.

        Raises:
            ValueError: one of them makes no sense.
        """
        # The names' own rules: BigQuery documentation, "Create and use tables", "Create datasets". A project of
        # a domain has a colon and dots: example.com:project.
        found = re.fullmatch(r"([a-z][a-z0-9.:-]*[a-z0-9])\.(\w{1,1024})\.([\w -]{1,1024})", table)
        if not found:
            raise ValueError(f"table is {table!r}; it must be 'project.dataset.table', without quotes or '$'")
        if not re.fullmatch(r"[A-Za-z]+[A-Za-z0-9-]*", location):
            raise ValueError(f"location is {location!r}; it must be one such as 'EU', 'US' or 'europe-west3'")
        if partition_type not in PARTITION_TYPES:
            raise ValueError(f"partition_type is {partition_type!r}; there are: {', '.join(PARTITION_TYPES)}")
        if len(cluster_by) > MOST_CLUSTERED:
            raise ValueError(f"cluster_by has {len(cluster_by)} columns; BigQuery takes {MOST_CLUSTERED}")
        if partition_by == "" or "" in cluster_by:
            raise ValueError("partition_by and cluster_by must name columns; one of the names is empty")
        if schema_on_refresh not in SCHEMAS_ON_REFRESH:
            raise ValueError(
                f"schema_on_refresh is {schema_on_refresh!r}; there are: {', '.join(SCHEMAS_ON_REFRESH)}"
            )
        return cls(
            project=found[1],
            dataset=found[2],
            table=found[3],
            location=location,
            partition_by=partition_by,
            partition_type=partition_type,
            cluster_by=cluster_by,
            keeps=schema_on_refresh == "keep",
        )

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the project, the dataset and the table."""
        return self.project, self.dataset, self.table

    def __str__(self) -> str:
        return ".".join(self.names)

    @property
    def quoted(self) -> str:
        """The name as SQL has it."""
        return f"`{self}`"

    @property
    def short(self) -> str:
        """The name as a label can hold it: 16 hexadecimal digits."""
        return hashlib.blake2b(str(self).encode(), digest_size=8).hexdigest()

    def same(self, reference: Any) -> bool:
        """Say whether a reference of the client, or None, is to this table."""
        return reference is not None and self.names == (
            reference.project,
            reference.dataset_id,
            reference.table_id,
        )

    def sibling(self, name: str) -> TableOptions:
        """Return another table of the dataset, which is laid out in the same way."""
        return replace(self, table=name)

    def reference(self) -> TableReference:
        """Return it as the client wants it."""
        from google.cloud.bigquery import DatasetReference, TableReference

        return TableReference(DatasetReference(self.project, self.dataset), self.table)


def connect(options: TableOptions, project: str, deadline: float, hurry: Hurry) -> Client:
    """Make a client with the Application Default Credentials; sends no request to BigQuery.

    Where `BIGQUERY_EMULATOR_HOST` is set that server is used, without credentials.

    Args:
        options: the table.
        project: the project in which jobs run.
        deadline: how long to look for credentials, in seconds: the metadata server of a virtual machine is asked last,
            and google.auth waits for it as it sees fit.
        hurry: cuts its waits short.

    Raises:
        WarehouseError: there are none, or they were not found by then.
    """
    # Here, and not in the thread that looks for credentials: see `sinks.gcs.client.connect`.
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    def make() -> Client:
        emulator = bool(os.environ.get("BIGQUERY_EMULATOR_HOST"))
        client = bigquery.Client(
            project,
            credentials=AnonymousCredentials() if emulator else None,  # type: ignore[no-untyped-call]
            location=options.location,
        )
        return watched(client, hurry)

    try:
        return made(
            make, service="BigQuery", emulator="BIGQUERY_EMULATOR_HOST", deadline=deadline, hurry=hurry
        )
    except SinkError as error:
        raise WarehouseError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCount:
    """How many rows a table has.

    Attributes:
        rows: so many; None: that is not known.
        unknown: why it is not.
    """

    rows: int | None
    unknown: str = ""


class Table:
    """The table as it is on the server.

    Args:
        client: the client; its own retries are never used.
        options: which table.
        retry: how long each request is tried again.
    """

    def __init__(self, client: Client, options: TableOptions, retry: Retry) -> None:
        self.client = client
        self.options = options
        self.retry = retry
        self.request: dict[str, Any] = {"retry": None, "timeout": retry.timeout[1]}

    def named(self, name: str) -> Table:
        """Return another table of the dataset."""
        return Table(self.client, self.options.sibling(name), self.retry)

    def ask(self, what: str, request: Callable[[], T], needs: str = READ, besides: Container[int] = ()) -> T:
        """Send a request, again where it may have failed for a passing reason.

        Args:
            what: what it is for, to be read after "cannot".
            request: sends it, once.
            needs: the permissions that it takes.
            besides: the statuses after which it is sent again, too.

        Raises:
            WarehouseError: it failed.
        """

        def may_pass(error: BaseException) -> bool:
            return passing(error) or status_of(error) in besides

        with explained(what, needs=needs):
            return self.retry.call(request, passing=may_pass)

    def check_dataset(self) -> None:
        """Make sure that the dataset is there, where jobs are to run.

        Raises:
            WarehouseError: it is not, or cannot be seen; says how to make it.
        """
        options = self.options
        name = f"{options.project}.{options.dataset}"
        with explained(f"look at the dataset {name}", needs=READ):
            try:
                found = self.retry.call(
                    lambda: self.client.get_dataset(name, **self.request), passing=passing
                )
            except Exception as error:
                if status_of(error) != 404:
                    raise
                raise WarehouseError(
                    f"there is no dataset {name}; look at the names of the project and the dataset, or make it: bq "
                    f"--location={options.location} mk --dataset {options.project}:{options.dataset}"
                ) from error
        if found.location and found.location.lower() != options.location.lower():
            raise WarehouseError(
                f"the dataset {name} is in {found.location}, and jobs would run in {options.location}: set `location` "
                f"to {found.location!r}"
            )

    def look(self) -> Any | None:
        """Return the table as the client has it; None: there is none.

        Raises:
            WarehouseError: it cannot be seen.
        """
        with explained(f"look at the table {self.options}", needs=READ):
            try:
                return self.retry.call(
                    lambda: self.client.get_table(self.options.reference(), **self.request), passing=passing
                )
            except Exception as error:
                if status_of(error) != 404:
                    raise
                return None

    def count(self) -> RowCount:
        """Return how many rows the table holds, as its metadata has it.

        A query would not do: tables may ask for a filter over their partitions, and row access policies leave rows out.

        Raises:
            WarehouseError: the table cannot be seen.
        """
        found = self.look()
        if found is None:
            return RowCount(rows=None, unknown=f"there is no table {self.options} any more")
        if found.num_rows is None:
            return RowCount(
                rows=None,
                unknown=f"BigQuery does not say how many rows {self.options} has ({found.table_type or 'no type'})",
            )
        if found.streaming_buffer is not None:
            return RowCount(
                rows=None,
                unknown=f"rows are streamed into {self.options}, which BigQuery does not count before they are out of "
                "its buffer (90 minutes at most)",
            )
        return RowCount(rows=int(found.num_rows))

    def columns(self, found: Any | None) -> Columns | None:
        """Return the columns of the table as `look` found it; None: there was no table.

        Raises:
            WarehouseError: it has a column that cannot be loaded.
        """
        if found is None:
            return None
        return from_api([field.to_api_repr() for field in found.schema], str(self.options))

    def known(self, found: Any | None, declared: Columns, pinned: Columns | None) -> Columns:
        """Return all columns that are known of the table as `look` found it; see `schema.known`.

        Raises:
            WarehouseError: the table's columns contradict what is pinned or declared.
        """
        return self.merged(self.columns(found), declared, pinned)

    def merged(self, columns: Columns | None, declared: Columns, pinned: Columns | None) -> Columns:
        """Return all columns that are known, where the table's are; None: there is no table.

        Raises:
            WarehouseError: the table's columns contradict what is pinned or declared.
        """
        return known(table=columns, declared=declared, pinned=pinned, name=str(self.options))

    def load_config(
        self,
        job: Job,
        plan: Plan,
        columns: Columns,
        *,
        lay_out: bool = False,
        marks: Mapping[str, str] | None = None,
        append: bool = True,
        create: bool = True,
    ) -> LoadJobConfig:
        """Return the configuration of a plan's load job.

        Args:
            job: whose plan it is.
            plan: the plan.
            columns: all that are known: a load must list every column of its table, of which the checkpoint need not
                have pinned all: others may have been added since.
            lay_out: whether the load makes the table, which then gets its partitions and clusters.
            marks: the labels that the table gets then. The load fails if somebody else has made the table in the
                meantime, and it has other ones.
            append: whether it adds to what the table holds, or replaces that.
            create: whether it may make the table.

        Raises:
            WarehouseError: the table that it makes would lack a column that it is to be laid out by.
        """
        from google.cloud import bigquery

        options = self.options
        config = bigquery.LoadJobConfig(
            source_format=FORMATS[plan.format],
            write_disposition="WRITE_APPEND" if append else "WRITE_TRUNCATE",
            create_disposition="CREATE_IF_NEEDED" if create else "CREATE_NEVER",
            max_bad_records=0,
            ignore_unknown_values=False,
            autodetect=False,
            labels=labels(job, plan),
        )
        if append:
            config.schema_update_options = ["ALLOW_FIELD_ADDITION"]
        if columns:
            config.schema = [bigquery.SchemaField.from_api_repr(field) for field in to_api(columns)]
        if plan.format == "parquet":
            parquet = bigquery.format_options.ParquetOptions()  # type: ignore[no-untyped-call]
            parquet.enable_list_inference = (
                True  # what Arrow calls a list is REPEATED, and no record of a list
            )
            config.parquet_options = parquet
            # A decimal column is as wide as the part's own values ask, whatever the table's is.
            config.decimal_target_types = [
                bigquery.DecimalTargetType.NUMERIC,
                bigquery.DecimalTargetType.BIGNUMERIC,
            ]
        if not lay_out:
            return config
        self.check_layout(columns, options.partition_by, options.cluster_by)
        if marks:
            # The client has no property for it.
            resource = config.to_api_repr()
            resource["load"]["destinationTableProperties"] = {"labels": dict(marks)}
            config = cast("LoadJobConfig", bigquery.LoadJobConfig.from_api_repr(resource))
        if options.partition_by is not None:
            config.time_partitioning = bigquery.TimePartitioning(
                type_=options.partition_type, field=options.partition_by
            )
        if options.cluster_by:
            config.clustering_fields = list(options.cluster_by)
        return config

    def check_layout(self, columns: Columns, partition_by: str | None, cluster_by: Sequence[str]) -> None:
        """Make sure that a table that is to be made has the columns that it is to be laid out by.

        Raises:
            WarehouseError: it has not; nothing was made.
        """
        names = {column.name.lower() for column in columns}
        wanted = {"partition_by": [partition_by or ""], "cluster_by": cluster_by}
        for key, fields in wanted.items():
            missing = [field for field in fields if field and field.lower() not in names]
            if missing:
                raise WarehouseError(
                    f"{key}: {self.options} would have no column {', '.join(map(repr, missing))}: the records so far "
                    f"have {', '.join(column.name for column in columns[:20]) or 'none'}; fix the name, or declare "
                    "the column in [warehouse.schema], and run again"
                )


def labels(job: Job, plan: Plan) -> dict[str, str]:
    """Return the labels of a plan's load job: what an audit, and people, look for."""
    return {
        "etl_pipeline": label(job.pipeline),
        "etl_plan": plan.id,
        "etl_life": job.life,
        "etl_first_part": str(plan.parts[0].sequence),
        "etl_last_part": str(plan.parts[-1].sequence),
        "etl_records": str(plan.records),
    }
