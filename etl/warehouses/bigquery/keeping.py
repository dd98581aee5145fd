"""What a refresh keeps of a table, what it refuses because it could not keep it, and how rows take the place of rows.

With `schema_on_refresh = "keep"` nothing but the rows is exchanged. A copy job cannot do that: WRITE_TRUNCATE takes the
schema and the constraints of its source (BigQuery REST reference, JobConfigurationTableCopy) and removes row access
policies ("Using row-level security with other BigQuery features", copy jobs), and WRITE_TRUNCATE_DATA is there for
load and query jobs only. A query job would write its result by WRITE_TRUNCATE_DATA into one partition of a table that
is partitioned by ingestion time, and REQUIRED columns are NULLABLE in a result. So it is one transaction, TRUNCATE
TABLE and INSERT ("Multi-statement transactions"): TRUNCATE TABLE leaves the metadata as they are, row access policies
among them ("Data manipulation language", "Using row-level security with other BigQuery features"), costs nothing and
needs no partition filter; INSERT changes no metadata either, and puts rows into the partitions they had.

What only the account's rights decide is found out before anything is pulled, by a dry run: an invalid query returns the
same error that it would if it was run (BigQuery REST reference, JobConfiguration, dryRun).
"""

from __future__ import annotations

from typing import Any

from etl.columns import Columns
from etl.errors import WarehouseError
from etl.warehouses.bigquery.jobs import Jobs, explained, passing
from etl.warehouses.bigquery.layout import INGESTED, Partitioning
from etl.warehouses.bigquery.schema import fields_of, protected
from etl.warehouses.bigquery.table import Table
from sinks.google_errors import status_of

# The one kind of table that rows can be put into, and what to do about the others.
NO_TABLES = {
    "VIEW": "a view",
    "MATERIALIZED_VIEW": "a materialized view",
    "EXTERNAL": "an external table",
    "SNAPSHOT": "a snapshot",
}

# The policy that keeps others from the rows of a new table.
POLICY = "etl_refresh"

LIST = "bigquery.rowAccessPolicies.list (roles/bigquery.dataOwner on the table)"
PROTECT = (
    "bigquery.rowAccessPolicies.create and bigquery.rowAccessPolicies.setIamPolicy (roles/bigquery.dataOwner on the "
    "dataset), or refresh the table in a dataset that its other readers cannot read"
)
EXCHANGE = (
    "bigquery.tables.getData and updateData (roles/bigquery.dataEditor), Fine-Grained Reader for its policy tags "
    "(roles/datacatalog.categoryFineGrainedReader), and a row access policy with FILTER USING (TRUE) where the table "
    "has such policies"
)


def check(table: Table, found: Any) -> None:
    """Make sure that a refresh can put rows into a table at all.

    Args:
        table: the table.
        found: what it is, as the client has it.

    Raises:
        WarehouseError: it cannot; says what it is, and what to do.
    """
    resource = found.to_api_repr()
    kind = NO_TABLES.get(str(resource.get("type")))
    if kind is None and resource.get("biglakeConfiguration"):
        kind = "an Iceberg table, whose rows no transaction and no copy job can exchange,"
    if kind is not None:
        raise WarehouseError(
            f"{table.options} is {kind} and cannot be refreshed; nothing was pulled. Give the job a table of its own "
            f"with `table`, and let {table.options} read from that"
        )


def check_kept(jobs: Jobs, table: Table, found: Any, declared: Columns) -> None:
    """Make sure that the rows of a table can be exchanged so that all else stays, before anything is pulled.

    Args:
        jobs: where its jobs run.
        table: the table.
        found: what it is, as the client has it.
        declared: the columns that the job declares.

    Raises:
        WarehouseError: they cannot; says what is in the way, and what to do.
    """
    columns = table.columns(found)  # which says what column cannot be loaded
    try:
        table.merged(columns, declared, None)
    except WarehouseError as error:
        raise WarehouseError(
            f'{error}; or set schema_on_refresh = "infer", with which a refresh gives {table.options} other columns'
        ) from error
    for field in fields_of(found):
        if field.get("generatedColumn"):
            raise WarehouseError(
                f"{table.options}: column {field['name']} is generated, so that no load can fill a table with it; "
                "nothing was pulled. Drop the column, or load into a table without it"
            )
    from google.cloud.bigquery import QueryJobConfig

    # The filter is one that `require_partition_filter` asks for.
    partitions = Partitioning.of(found)
    where = "" if partitions is None else f" WHERE {_quoted(partitions.name)} IS NULL"
    names = _names(found)
    sql = f"INSERT INTO {table.options.quoted} ({names}) SELECT {names} FROM {table.options.quoted}{where}"  # noqa: S608
    config = QueryJobConfig(dry_run=True, use_query_cache=False)
    table.ask(
        f"put other rows into {table.options} and keep all else; nothing was pulled",
        lambda: table.client.query(sql, job_config=config, job_retry=None, **jobs.options),
        EXCHANGE,
    )


def check_dropped(table: Table, found: Any) -> None:
    """Make sure that a table has no policies, where a copy job would drop them with the schema.

    Args:
        table: the table.
        found: what it is, as the client has it.

    Raises:
        WarehouseError: it has some, by name, or nobody knows.
    """
    what = [f"policy tags of column {path}" for path in protected(fields_of(found))]
    rows = row_policies(table)
    if rows is None:
        raise WarehouseError(
            f"whether {table.options} has row access policies cannot be seen, and its new schema would drop them: give "
            f'the account {LIST}, or set schema_on_refresh = "keep", which keeps them; the table is as it was'
        )
    what += [f"the row access policy {name}" for name in rows]
    if what:
        raise WarehouseError(
            f"{table.options} would lose what protects it, because its new schema takes the place of the old one: "
            f"{', '.join(what[:20])}; the table is as it was. Drop them first, or set "
            'schema_on_refresh = "keep", which keeps them'
        )


def protect(jobs: Jobs, table: Table, new: Table) -> None:
    """Keep others from the rows of the new table, if the table has row access policies: they do not come with a schema.

    The account of this process alone is granted to see them ("Introduction to BigQuery row-level security": who is
    granted nothing sees no rows). May be repeated. Where the policies cannot be listed, nothing is done: who may read
    the dataset can read the new table then.

    Args:
        jobs: where its jobs run.
        table: the table.
        new: the new table, which holds nothing yet.

    Raises:
        WarehouseError: it cannot be done.
    """
    if not row_policies(table):
        return
    who = _account(jobs, table)
    project, dataset, name = new.options.names
    reference = {"projectId": project, "datasetId": dataset, "tableId": name, "policyId": POLICY}
    body = {"rowAccessPolicyReference": reference, "filterPredicate": "TRUE", "grantees": [who]}

    def once() -> None:
        try:
            _request(new, "POST", data=body)
        except Exception as error:
            if status_of(error) != 409:
                raise

    new.ask(f"keep others from the rows of {new.options}, as {table.options} does", once, PROTECT)


def row_policies(table: Table) -> list[str] | None:
    """Return the names of a table's row access policies; None: the account must not see them.

    Raises:
        WarehouseError: they cannot be listed.
    """
    names: list[str] = []
    token: str | None = None
    while True:

        def ask(token: str | None = token) -> Any:
            return _request(table, "GET", query_params={"pageToken": token} if token else {})

        with explained(f"list the row access policies of {table.options}", needs=LIST):
            try:
                page = table.retry.call(ask, passing=passing)
            except Exception as error:
                if status_of(error) == 403:
                    return None
                if status_of(error) == 404:
                    return []
                raise
        names += [
            each["rowAccessPolicyReference"]["policyId"] for each in page.get("rowAccessPolicies") or ()
        ]
        token = page.get("nextPageToken")
        if not token:
            return names


def exchange(table: Table, new: Table, filled: Any) -> str:
    """Return the script that puts the rows of the new table in the place of a table's: all of it happens, or nothing.

    Args:
        table: the table, which has all columns of the new one.
        new: the new table.
        filled: what that is, as the client has it.
    """
    names = _names(filled)
    # Of a table with row access policies one sees what one is granted; another account would empty the table.
    seen = f"(SELECT COUNT(*) FROM {new.options.quoted}) = {int(filled.num_rows or 0)}"  # noqa: S608
    return f"""BEGIN TRANSACTION;
ASSERT {seen} AS 'the account cannot see all rows of {new.options}';
TRUNCATE TABLE {table.options.quoted};
INSERT INTO {table.options.quoted} ({names}) SELECT {names} FROM {new.options.quoted};
COMMIT TRANSACTION;
"""  # noqa: S608 - checked names, and columns that BigQuery told


def _names(found: Any) -> str:
    """Return the columns of a table as a list of SQL, and the partition where that is none of them."""
    names = [field["name"] for field in fields_of(found)]
    if (partitions := Partitioning.of(found)) is not None and partitions.column is None:
        names.insert(0, INGESTED)
    return ", ".join(map(_quoted, names))


def _account(jobs: Jobs, table: Table) -> str:
    """Return the account of this process, as a policy grants to it."""

    def once() -> str:
        rows = table.client.query_and_wait(
            "SELECT SESSION_USER()",
            location=jobs.location,
            api_timeout=table.request["timeout"],
            retry=None,
            job_retry=None,
        )
        return str(next(iter(rows))[0])

    who = table.ask("find out which account this is", once, "bigquery.jobs.create (roles/bigquery.jobUser)")
    if "://" in who:
        return who  # of an external identity provider, as IAM calls it
    return f"serviceAccount:{who}" if who.endswith(".gserviceaccount.com") else f"user:{who}"


def _request(table: Table, method: str, **options: Any) -> Any:
    """Send a request about a table's row access policies, for which the client has no method."""
    project, dataset, name = table.options.names
    path = f"/projects/{project}/datasets/{dataset}/tables/{name}/rowAccessPolicies"
    connection = table.client._connection
    return connection.api_request(method=method, path=path, timeout=table.request["timeout"], **options)


def _quoted(name: str) -> str:
    return f"`{name}`"  # neither backticks nor backslashes are allowed in names of columns
