"""Tables that are made, widened, kept and deleted by requests of their own, not by the jobs that fill them.

Each of these may be repeated, and is harmless where the job that it is for never comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from etl.columns import Columns
from etl.schemas.declared import to_api
from etl.warehouses.bigquery.jobs import PAGE
from etl.warehouses.bigquery.schema import fields_of, from_api, protected, widened
from etl.warehouses.bigquery.table import Table
from sinks.google_errors import status_of

# The permission that policy tags take is in roles/bigquery.dataOwner.
WRITE_TAGGED = (
    "bigquery.tables.create and, for its policy tags, bigquery.tables.setCategory (roles/bigquery.dataOwner on the "
    "dataset) and datacatalog.taxonomies.get"
)
WRITE = "bigquery.tables.create, update and delete (roles/bigquery.dataEditor on the dataset)"


def create(
    table: Table,
    columns: Columns,
    *,
    expires: datetime | None = None,
    labels: Mapping[str, str] | None = None,
    like: Any | None = None,
    whole: bool = False,
    laid_out: bool = True,
    days: tuple[str, timedelta] | None = None,
) -> Any:
    """Make a table if there is none, and return what there is.

    Args:
        table: the table.
        columns: its columns.
        expires: when BigQuery deletes it; None: never.
        labels: of the table.
        like: a table, as the client has it, whose partitions, clusters and key of encryption it gets: BigQuery copies
            a table only over one of the same partitions (BigQuery documentation, "Manage partitioned tables", copy).
            None: it gets those of the options.
        whole: whether it also gets all columns of `like`, as the REST API has them: with their policy tags, collations,
            rounding modes, defaults. Not CREATE TABLE … LIKE, which is a job, and takes over labels, the expiration and
            `require_partition_filter`, which the new table must not have.
        laid_out: whether it has the partitions and clusters of the one or the other.
        days: the column whose days are its partitions otherwise, and how long these are kept.

    Raises:
        WarehouseError: it cannot be made, or lacks a column that it is to be laid out by.
    """
    from google.cloud import bigquery

    options = table.options
    fields = to_api(columns)
    resource: dict[str, Any] = {"tableReference": options.reference().to_api_repr()}
    if like is not None and whole:
        fields = widened(fields_of(like), columns)
        # What columns inherit that are added later.
        inherited = {key: like.to_api_repr().get(key) for key in ("defaultCollation", "defaultRoundingMode")}
        resource |= {key: value for key, value in inherited.items() if value}
        columns = from_api(fields, str(options))
    new = bigquery.Table.from_api_repr({**resource, "schema": {"fields": fields}})
    new.expires = expires
    new.labels = dict(labels or {})
    if like is not None:
        new.encryption_configuration = like.encryption_configuration
    if laid_out and like is not None:
        new.time_partitioning, new.range_partitioning = _unfiltered(like), like.range_partitioning
        new.clustering_fields = like.clustering_fields
        partitioning = like.time_partitioning or like.range_partitioning
        field = partitioning.field if partitioning else None
        table.check_layout(columns, field, tuple(like.clustering_fields or ()))
    elif laid_out:
        table.check_layout(columns, options.partition_by, options.cluster_by)
        if options.partition_by is not None:
            new.time_partitioning = bigquery.TimePartitioning(
                type_=options.partition_type, field=options.partition_by
            )
        new.clustering_fields = list(options.cluster_by) or None
    elif days is not None:
        kept = int(days[1].total_seconds() * 1000)
        new.time_partitioning = bigquery.TimePartitioning(field=days[0], expiration_ms=kept)

    def once() -> Any:
        try:
            return table.client.create_table(new, **table.request)
        except Exception as error:
            if status_of(error) != 409:
                raise
            return table.client.get_table(options.reference(), **table.request)

    return table.ask(f"make the table {options}", once, WRITE_TAGGED if any(protected(fields)) else WRITE)


def _unfiltered(like: Any) -> Any | None:
    """Return a table's partitions by time, without the filter that its queries must have; None: it has none.

    BigQuery tells that option in two places (REST reference, TimePartitioning, requirePartitionFilter: deprecated).
    """
    from google.cloud import bigquery

    if like.time_partitioning is None:
        return None
    resource = like.time_partitioning.to_api_repr()
    resource.pop("requirePartitionFilter", None)
    return bigquery.TimePartitioning.from_api_repr(resource)


def widen(table: Table, columns: Columns) -> Any:
    """Add the columns, and fields of RECORDs, that a table lacks, and return it as it is then.

    Args:
        table: the table, which exists.
        columns: all that it is to have: its own, too.

    Raises:
        WarehouseError: they cannot be added, or the table is gone.
    """
    from google.cloud import bigquery

    def once() -> Any:
        found = table.client.get_table(table.options.reference(), **table.request)
        there = fields_of(found)
        fields = widened(there, columns)
        if fields == there:
            return found
        found.schema = [bigquery.SchemaField.from_api_repr(field) for field in fields]
        return table.client.update_table(
            found, ["schema"], **table.request
        )  # only if nobody changed it since

    return table.ask(f"add columns to the table {table.options}", once, WRITE, besides={412})


def expire(table: Table, when: datetime | None) -> None:
    """Set when BigQuery deletes a table; None: never.

    Raises:
        WarehouseError: it cannot be set, or the table is gone.
    """

    def once() -> None:
        found = table.client.get_table(table.options.reference(), **table.request)
        found.expires = when
        table.client.update_table(found, ["expires"], **table.request)

    table.ask(f"say how long the table {table.options} is kept", once, WRITE, besides={412})


def delete(table: Table) -> None:
    """Delete a table, if there is one.

    Raises:
        WarehouseError: it cannot be deleted.
    """
    table.ask(
        f"delete the table {table.options}",
        lambda: table.client.delete_table(table.options.reference(), not_found_ok=True, **table.request),
        WRITE,
    )


def named(table: Table, prefix: str) -> list[str]:
    """Return the names of the tables in a table's dataset that begin with `prefix`.

    Raises:
        WarehouseError: they cannot be listed.
    """
    from google.cloud.bigquery import DatasetReference

    dataset = DatasetReference(table.options.project, table.options.dataset)
    names: list[str] = []
    token: str | None = None
    while True:

        def ask(token: str | None = token) -> tuple[list[str], str | None]:
            # One page each time: the client's iterator cannot go on after an error.
            found = table.client.list_tables(dataset, max_results=PAGE, page_token=token, **table.request)
            return [each.table_id for each in next(found.pages, ())], found.next_page_token

        page, token = table.ask(f"list the tables of {dataset.dataset_id}", ask, "bigquery.tables.list")
        names += [name for name in page if name.startswith(prefix)]
        if token is None:
            return names
