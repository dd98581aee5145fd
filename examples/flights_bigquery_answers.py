"""Ask the table that examples/flights_bigquery.toml filled what examples/flights_answers.py asks DuckDB's."""

import os
from collections.abc import Iterable, Sequence

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

QUESTIONS = {
    "the busiest routes": """
        SELECT route, count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay_minutes
        FROM flights GROUP BY route ORDER BY flights DESC LIMIT 5
    """,
    "the mean delay by month": """
        SELECT format_timestamp('%Y-%m', at) AS month, count(*) AS flights,
            round(avg(dep_delay), 1) AS mean_delay_minutes
        FROM flights GROUP BY month ORDER BY month
    """,
}


def show(question: str, columns: Iterable[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a question and its answer as a table."""
    print(f"\n{question}")
    print("  " + "  ".join(f"{column:>18}" for column in columns))
    for row in rows:
        print("  " + "  ".join(f"{value!s:>18}" for value in row))


project = os.environ["PROJECT"]
emulated = "BIGQUERY_EMULATOR_HOST" in os.environ
client = bigquery.Client(
    project,
    credentials=AnonymousCredentials() if emulated else None,
    default_query_job_config=bigquery.QueryJobConfig(default_dataset=f"{project}.flights"),
)
for question, query in QUESTIONS.items():
    answer = client.query_and_wait(query)
    show(question, [field.name for field in answer.schema], [row.values() for row in answer])

loads = [
    job
    for job in client.list_jobs(state_filter="done")
    if job.job_type == "load" and job.job_id.startswith("etl_flights_") and not job.error_result
]
show("in how many loads", ["loads", "rows"], [(len(loads), sum(job.output_rows for job in loads))])
