"""What protects a table, as BigQuery has it: the rules that local-bigquery lacks, put into it by `launch`.

It keeps the whole resource of a table, its row access policies too, and filters what a query reads by them. Added are,
from BigQuery's documentation:

- DML takes full access to a table with row access policies: one with FILTER USING (TRUE) that is granted to the caller.
  So does the copy of such a table ("Using row-level security with other BigQuery features", the TRUE filter).
- WRITE_TRUNCATE takes the row access policies and constraints off the table, and policy tags off its columns; by a copy
  it gets its source's instead (the same, copy jobs; REST reference, JobConfigurationTableCopy, writeDisposition;
  "Introduction to column-level access control", overwriting).
- WRITE_TRUNCATE_DATA is no disposition of a copy job (REST reference, JobConfigurationTableCopy).
- A column with a policy tag can be read by its Fine-Grained Readers alone ("Impact on writes from column-level access
  control"). Who that is, no request says: the caller of this server is one of every tag but those that are called
  `unreadable`.
- A table that the REST API makes with partitions by ingestion time has _PARTITIONTIME ("Introduction to partitioned
  tables"), as one that DDL makes has it here.

It is imported by file path, with the interpreter that has local-bigquery, so it imports nothing of ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

UNREADABLE = "/unreadable"

Reference = tuple[str, str, str]


def install() -> None:
    """Put the rules into the server's modules, before it serves."""
    _rows()
    _statements()
    _copies()
    _overwriting()
    _partitions()


def _module(name: str) -> Any:
    return importlib.import_module(f"local_bigquery.{name}")


def _error(reason: str, message: str) -> Exception:
    error: Exception = _module("errors").BigQueryError(reason, message)
    return error


def _stored(reference: Reference) -> Any:
    return _module("catalog.metadata").load(_module("models").Table, *reference)


def _policies(reference: tuple[str, ...]) -> list[Any]:
    found: list[Any] = _module("catalog.metadata").list_(_module("models").RowAccessPolicy, *reference)
    return found


def _sees_all(reference: tuple[str, ...]) -> bool:
    row_access = _module("catalog.row_access")
    policies = _policies(reference)
    identity = row_access.members()
    return not policies or any(
        policy.filterPredicate.strip().upper() == "TRUE"
        and any(row_access._grants(grantee, identity) for grantee in policy.grantees or [])
        for policy in policies
    )


def _need_all_rows(reference: Reference) -> None:
    if not _sees_all(reference):
        raise _error(
            "accessDenied",
            f"Access Denied: Table {reference[0]}:{reference[1]}.{reference[2]}: User does not have permission to "
            "access all rows of the table, which has row access policies",
        )


def _unreadable(fields: Any) -> Iterator[str]:
    """Yield the names of the columns that the caller must not read, or fields of which are such."""
    for field in fields or []:
        tags = (field.policyTags and field.policyTags.names) or []
        if any(tag.endswith(UNREADABLE) for tag in tags) or any(_unreadable(field.fields)):
            yield field.name


def _need_columns(reference: Reference, read: set[str] | None) -> None:
    """Refuse to read what is protected; `read`: the columns in lower case, None: all of them."""
    stored = _stored(reference)
    for name in _unreadable(stored and stored.schema_ and stored.schema_.fields):
        if read is None or name.lower() in read:
            raise _error(
                "accessDenied",
                "Access Denied: BigQuery BigQuery: User has neither fine-grained reader nor masked get permission to "
                f"get data protected by policy tag on column {'.'.join(reference)}.{name}",
            )


def _rows() -> None:
    row_access = _module("catalog.row_access")
    original: Callable[..., Any] = row_access.predicate

    def predicate(*reference: str) -> Any:
        # A table that is a subquery instead cannot be merged into.
        condition = original(*reference)
        return None if condition is not None and _sees_all(reference) else condition

    row_access.predicate = predicate


def _statements() -> None:
    query, rules = _module("jobs.query"), _module("sql.rules.tables")
    exp: Any = importlib.import_module("sqlglot").exp
    original: Callable[..., Any] = query._run

    def run(cursor: Any, tree: Any, context: Any, *arguments: Any) -> Any:
        if isinstance(tree, (exp.Query, exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.TruncateTable)):
            written = None
            if not isinstance(tree, exp.Query):
                written = (
                    tree if isinstance(tree, exp.TruncateTable) else _module("catalog.names").target(tree)
                )
                written = written.find(exp.Table)
                if (target := rules.resolve(written, context, set())) is not None:
                    _need_all_rows(target)
            read = tree.expression if isinstance(tree, exp.Insert) else tree
            for table in read.find_all(exp.Table) if read is not None else ():
                if table is written or (reference := rules.resolve(table, context, set())) is None:
                    continue
                stars = any(not isinstance(star.parent, exp.Count) for star in read.find_all(exp.Star))
                columns = {column.name.lower() for column in read.find_all(exp.Column)}
                _need_columns(reference, None if stars else columns)
        return original(cursor, tree, context, *arguments)

    query._run = run


def _copies() -> None:
    copy, tables = _module("jobs.copy"), _module("catalog.tables")
    original: Callable[..., Any] = copy.run

    def run(cursor: Any, config: Any, upload: Any) -> Any:
        if config.writeDisposition == "WRITE_TRUNCATE_DATA":
            raise _error(
                "invalid", "Value of writeDisposition is invalid for a copy job: WRITE_TRUNCATE_DATA"
            )
        sources = [tables.reference(each) for each in config.sourceTables or [config.sourceTable]]
        for source in sources:
            _need_all_rows(source)
            _need_columns(source, None)
        destination = tables.reference(config.destinationTable)
        before = _stored(destination) if tables.exists(*destination) else None
        result = original(cursor, config, upload)
        if before is not None and config.writeDisposition == "WRITE_TRUNCATE":
            source = _stored(sources[0])
            given = {} if source is None else source.dump()
            taken = {key: given.get(key) for key in ("schema", "tableConstraints")}
            tables.record(*destination, before.replace(**taken))
            for policy in _policies(sources[0]):
                _module("catalog.row_access").save(*destination, policy, replace=True)
        return result

    copy.run = _module("jobs.runner").HANDLERS["copy"] = run


def _overwriting() -> None:
    tables = _module("catalog.tables")
    original: Callable[..., Any] = tables.write

    def write(
        cursor: Any, query: str, params: Any, reference: Reference, config: Any, *rest: Any, **more: Any
    ) -> Any:
        truncates = config.writeDisposition == "WRITE_TRUNCATE" and tables.exists(*reference)
        result = original(cursor, query, params, reference, config, *rest, **more)
        if truncates:
            for policy in _policies(reference):
                policy_id = policy.rowAccessPolicyReference.policyId
                _module("catalog.row_access").delete(*reference, policy_id)
            if (stored := _stored(reference)) is not None:
                given = stored.dump()
                for field in (given.get("schema") or {}).get("fields") or []:
                    field.pop("policyTags", None)
                given.pop("tableConstraints", None)
                tables.record(*reference, type(stored).model_validate(given))
        return result

    tables.write = write


def _partitions() -> None:
    tables, database = _module("catalog.tables"), _module("engine.database")
    original: Callable[..., Any] = tables.create

    def create(project: str, dataset: str, body: Any, *rest: Any) -> Any:
        made = original(project, dataset, body, *rest)
        if body.timePartitioning and not body.timePartitioning.field and tables.fields(body):
            name = tables.name(project, dataset, body.tableReference.tableId)
            columns = [_module("engine.types").column(field) for field in tables.fields(body)]
            columns.append(
                "\"_PARTITIONTIME\" TIMESTAMPTZ DEFAULT CAST(date_trunc('day', now()) AS TIMESTAMPTZ)"
            )
            database.execute(f"DROP TABLE {name}")
            database.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
        return made

    tables.create = create
