"""Where things are: BigQuery reads a bucket only from near its dataset.

Source: BigQuery documentation, "Batch loading data", location considerations. A dataset in the multi-region US reads
from everywhere; one in another multi-region from there and the regions within; one in a region from that region. What
is not said there, as of buckets in two regions that are named by one word, is left to BigQuery.
"""

from __future__ import annotations

from typing import Any

from etl.errors import WarehouseError
from etl.warehouses.bigquery.jobs import passing
from sinks import google_errors
from sinks.retry import Retry

# Regions of Europe that are not in the European Union, and so not in BigQuery's EU ("BigQuery locations").
OUTSIDE = frozenset({"europe-west2", "europe-west6"})

MULTI_REGIONS = frozenset({"us", "eu", "asia"})


def check_bucket(bucket: Any, dataset: str, location: str, retry: Retry) -> None:
    """Make sure that a dataset can be loaded from a bucket, as far as this account may see where that is.

    Args:
        bucket: the bucket, as the client of Cloud Storage has it.
        dataset: the dataset's, for messages.
        location: where the dataset is.
        retry: how long a request is tried again.

    Raises:
        WarehouseError: it cannot be.
    """
    try:
        retry.call(lambda: bucket.reload(timeout=retry.timeout, retry=None), passing=passing)
    except Exception as error:
        # The role Storage Object User may not look at buckets; the first upload will tell.
        if not google_errors.known(error):
            raise
        return
    where = str(bucket.location or "")
    among = tuple(bucket.data_locations or ())
    if not reads(location, where, among):
        raise WarehouseError(
            f"the bucket {bucket.name} is in {where}, and the dataset {dataset} in {location}: BigQuery loads from "
            "buckets in the same place only; take a bucket there, or a dataset where the bucket is"
        )


def reads(location: str, bucket: str, among: tuple[str, ...] = ()) -> bool:
    """Say whether a dataset can be loaded from a bucket; what is not known counts as yes.

    Args:
        location: where the dataset is.
        bucket: where the bucket is.
        among: of a bucket in two regions that its owner chose: which.
    """
    dataset, bucket = location.lower(), bucket.lower()
    regions = tuple(region.lower() for region in among) or ((bucket,) if "-" in bucket else ())
    if dataset in ("us", "", bucket) or not bucket:
        return True
    if dataset == "eu":
        if regions:
            return any(region.startswith("europe-") and region not in OUTSIDE for region in regions)
        return bucket not in MULTI_REGIONS
    if regions:
        return dataset in regions
    # What the multi-region's documentation leaves open is tried, unless it is on another continent.
    continent = {"us": ("us-", "northamerica-"), "eu": ("europe-",), "asia": ("asia-",)}.get(bucket)
    return continent is None or dataset.startswith(continent)
