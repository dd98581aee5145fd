"""Schemas, apart from any warehouse: how a job declares columns, and how columns grow with the records.

`Dialect` is what a warehouse has to say of it: which names it takes, and how deep records go.
"""
