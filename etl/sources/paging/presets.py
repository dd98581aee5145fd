"""Presets: how some well-known services page, as arguments of `Pages`. What a job file says goes before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Arguments = dict[str, Any]


def socrata(given: Mapping[str, Any]) -> Arguments:
    """Socrata (SODA 2.0 and 2.1; Tyler Data & Insights): `https://<domain>/resource/<id>.json`.

    `$limit` and `$offset` (https://dev.socrata.com/docs/paging.html): results have no order unless one is asked for,
    "at a minimum $order=:id". `:id` is a system field: one that is there though it is not among the columns that come
    (https://dev.socrata.com/docs/system-fields.html). The app token is a header
    (https://dev.socrata.com/docs/app-tokens.html).

    Raises:
        ValueError: the order is not one of all rows.
    """
    params = dict(given["params"])
    if "$query" in params:
        raise ValueError(
            "params: $query cannot be paged; write its parts as $select, $where, $group and $order"
        )
    if "$order" not in params:
        if "$group" in params:
            raise ValueError("params: with $group, give an $order that tells all of its rows apart")
        params["$order"] = ":id"
    elif "$group" not in params and ":id" not in [part.split()[0] for part in _parts(params["$order"])]:
        raise ValueError(
            f"params: $order = {params['$order']!r} does not tell all rows apart: end it with ', :id'"
        )
    secrets, headers = dict(given["secrets"]), dict(given["headers"])
    for name in ("app_token", "$$app_token"):
        if name in secrets:
            headers["X-App-Token"] = secrets.pop(name)
    return {
        "style": "offset",
        "offset_param": "$offset",
        "size_param": "$limit",
        "page_size": 1000,
        "params": params,
        "headers": headers,
        "secrets": secrets,
    }


def ckan(given: Mapping[str, Any]) -> Arguments:
    """CKAN's DataStore: `https://<host>/api/3/action/datastore_search` with `resource_id` among the parameters.

    `limit`, `offset` and `sort`; `result.records`, `result.total` (https://docs.ckan.org/en/latest/maintaining/
    datastore.html#ckanext.datastore.logic.action.datastore_search). A limit above the site's
    `ckan.datastore.search.rows_max` is lowered to that without a word (`limit_to_configured_maximum` in
    ckan/lib/navl/validators.py). `_id` numbers the rows of a table.

    Raises:
        ValueError: there is no resource, or the order is not one of all rows.
    """
    params = dict(given["params"])
    if "resource_id" not in params:
        raise ValueError("params: resource_id is missing: which resource's rows are wanted?")
    params.setdefault("sort", "_id")
    if "_id" not in [part.split()[0] for part in _parts(params["sort"])]:
        raise ValueError(
            f"params: sort = {params['sort']!r} does not tell all rows apart: end it with ', _id'"
        )
    fields = params.get("fields")
    return {
        "style": "offset",
        "offset_param": "offset",
        "size_param": "limit",
        "page_size": 1000,
        "params": params,
        "records": "result.records",
        # an estimate is not where the rows end
        "total_path": "" if "total_estimation_threshold" in params else "result.total",
        "key": ["_id"] if fields is None or "_id" in _parts(fields) else [],
    }


def openalex(given: Mapping[str, Any]) -> Arguments:
    """OpenAlex: `https://api.openalex.org/works` and its other lists.

    `cursor=*`, then `meta.next_cursor`, until it is null; up to 100 results a page
    (https://developers.openalex.org/guides/page-through-results). `api_key` is a parameter
    (https://developers.openalex.org/api-reference/authentication); `mailto` lets them write to those who ask
    (https://docs.openalex.org/how-to-use-the-api/rate-limits-and-authentication).
    """
    select = given["params"].get("select")
    return {
        "style": "cursor",
        "cursor_param": "cursor",
        "first_cursor": "*",
        "cursor_path": "meta.next_cursor",
        "size_param": "per_page",
        "page_size": 100,
        "records": "results",
        "total_path": "meta.count",
        "key": ["id"] if select is None or "id" in _parts(select) else [],
    }


PRESETS: dict[str, Callable[[Mapping[str, Any]], Arguments]] = {
    "socrata": socrata,
    "ckan": ckan,
    "openalex": openalex,
}


def _parts(text: Any) -> list[str]:
    """Part a list that is written with commas."""
    return [part.strip() for part in str(text).split(",") if part.strip()]
