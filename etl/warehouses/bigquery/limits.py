"""BigQuery's limits, all in one place.

The document is BigQuery's "Quotas and limits", as of November 2026; the heading is beside each number. Where it says MB
and GB, BigQuery's own messages count in powers of two ("Row size is larger than: 104857600").

What it does not limit is not here: a JSON cell has no limit but its row's.
"""

from __future__ import annotations

from datetime import timedelta

# All tables; Standard tables.
MOST_COLUMNS = 10_000  # fields of records counted
MOST_LEVELS = 15  # of records within records
LONGEST_NAME = 300  # characters

# Clustered tables ("Introduction to clustered tables", limitations).
MOST_CLUSTERED = 4

# Load jobs.
MOST_URIS = 10_000
MOST_JOB_BYTES = 15 * 10**12
MOST_ROW_BYTES = 100 * 1024**2  # of newline-delimited JSON
MOST_GZIP_BYTES = 4 * 1024**3  # of one file
LONGEST_JOB = timedelta(hours=6)

# Standard tables: loads, copies and queries that write into a table a day. DML does not count.
DAILY_OPERATIONS = 1_500

# Partitioned tables. DML does not count towards the daily ones.
MOST_PARTITIONS = 4_000  # that one job writes to
DAILY_MODIFICATIONS = 30_000  # of partitions by a column: each partition that a job writes to
DAILY_MODIFICATIONS_INGESTED = 11_000  # of partitions by the time of ingestion
