"""BigQuery, whose loads are jobs on a server: `warehouse` has the class, `jobs` the protocol that loads once.

warehouse   open, load, settle, look back
jobs        ids that follow from the plan: looked up, adopted, burnt; adoption: which job may be adopted
gate        which records fit the table; fields, values, decimals, times: one check a column; growth: new columns
schema      declared columns, those of the table, those that are pinned; types: their names and Arrow's
table       the table, and the configuration of its load jobs
staging     parts of file sinks, through a bucket; upload: sent along with the job; parts: how they are read
errors      why a load failed, in words; audit: what BigQuery remembers
"""

from etl.warehouses.bigquery.warehouse import BigQuery

__all__ = ["BigQuery"]
