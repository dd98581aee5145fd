"""BigQuery, whose loads are jobs on a server: `warehouse` has the class, `jobs` the protocol that loads once.

warehouse   open, look back, and what the rest is put together by
jobs        ids that follow from what is done: looked up, adopted, burnt; attempts: one after the other fails
adoption    which job may be adopted
loads       the load of a plan; sending: how its parts come to a job; parts: how they are read; staging: through a
            bucket; upload: sent along with the job
refresh     a new table beside the old one, and their exchange; keeping: all but the rows stays, or it is refused;
            making: requests that make, widen and delete tables
merge       rows that replace each other, in SQL; merging: the two jobs of that; merge_gate: the order of records
gate        which records fit the table; fields, values, decimals, times: one check a column
schema      columns of the table, declared ones, pinned ones; types: their names and Arrow's
table       the table, and the configuration of its load jobs
errors      why a load failed, in words; audit: what BigQuery remembers
"""

from etl.warehouses.bigquery.warehouse import BigQuery

__all__ = ["BigQuery"]
