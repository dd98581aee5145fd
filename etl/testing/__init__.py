"""Test tools, public: for sinks, stores and warehouses of third parties, and for jobs.

sinks, stores, warehouses   conformance suites: inherit one, and say how yours is made
gcs_server                  a strict Cloud Storage
bigquery_server             a BigQuery
fault_proxy                 makes one chosen request of a job go wrong
"""
