"""The port of a warehouse and its optional abilities, by theme."""

from etl.warehouses.base.audits import Audit, Audits, Loaded
from etl.warehouses.base.columns import Declares, KnowsColumns, TellsChanges
from etl.warehouses.base.gates import ChecksRecords, Gate, Misfit, SeesPartitions, TakesFieldTypes, TriesParts
from etl.warehouses.base.jobs import (
    Holding,
    HoldsRecords,
    LimitsNesting,
    LimitsSizes,
    LoadsByJobs,
    ModifiesPartitions,
    ReadsPlaces,
)
from etl.warehouses.base.refreshes import ChecksRefreshes, Refreshes
from etl.warehouses.base.warehouse import Entry, HasIdentity, Job, KeepsLedger, MergesByKey, Warehouse

__all__ = [
    "Audit",
    "Audits",
    "ChecksRecords",
    "ChecksRefreshes",
    "Declares",
    "Entry",
    "Gate",
    "HasIdentity",
    "Holding",
    "HoldsRecords",
    "Job",
    "KeepsLedger",
    "KnowsColumns",
    "LimitsNesting",
    "LimitsSizes",
    "Loaded",
    "LoadsByJobs",
    "MergesByKey",
    "Misfit",
    "ModifiesPartitions",
    "ReadsPlaces",
    "Refreshes",
    "SeesPartitions",
    "TakesFieldTypes",
    "TellsChanges",
    "TriesParts",
    "Warehouse",
]
