"""What control groups (cgroups) say of memory and processors, versions 1 and 2; this process's own, or any.

Everywhere else than on Linux nothing is known: `find` and `read` return None.

Example:
    now = control_group.read()
    if now is not None and now.limit is not None:
        print(f"{now.working_set / now.limit:.0%} of the limit are in use")
"""

from sinks.control_group.gauge import Gauge
from sinks.control_group.groups import Groups, find, processor_quota
from sinks.control_group.memory import Memory, Pressure, read, read_group

__all__ = [
    "Gauge",
    "Groups",
    "Memory",
    "Pressure",
    "find",
    "processor_quota",
    "read",
    "read_group",
]
