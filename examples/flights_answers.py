"""Ask the warehouse that examples/flights.toml filled."""

import duckdb

QUESTIONS = {
    "the busiest routes": """
        SELECT route, count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay_minutes
        FROM flights GROUP BY route ORDER BY flights DESC LIMIT 5
    """,
    "the mean delay by month": """
        SELECT strftime("at", '%Y-%m') AS month, count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay_minutes
        FROM flights GROUP BY month ORDER BY month
    """,
    "in how many loads": """
        SELECT count(*) AS loads, sum(rows)::BIGINT AS rows FROM _etl_loads WHERE pipeline = 'flights'
    """,
}

with duckdb.connect("demo/flights.duckdb", read_only=True) as warehouse:
    for question, query in QUESTIONS.items():
        answer = warehouse.execute(query)
        print(f"\n{question}")
        print("  " + "  ".join(f"{column[0]:>18}" for column in answer.description))
        for row in answer.fetchall():
            print("  " + "  ".join(f"{value!s:>18}" for value in row))
