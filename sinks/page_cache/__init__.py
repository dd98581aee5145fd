"""Files that are written and read without filling the page cache, which a container is charged with.

Example:
    with sinks.page_cache.open_for_writing("big.ndjson") as file:
        for line in lines:
            file.write(line)

The writer keeps a window of 1 to 8 MiB: what lies two windows behind it is on the disk and not cached. How
that is done depends on the file system (`choose` says how), and is checked by its effect, because a call that
succeeds may do nothing: sync_file_range on overlayfs, which is what a container writes to; every sync on an
overlay that is mounted `volatile`. Where nothing works, as on macOS, files are written plainly.
"""

from sinks.base import Hygiene
from sinks.page_cache.choice import POLICIES, Choice, Policy, choose
from sinks.page_cache.guest import GuestFile, open_guest
from sinks.page_cache.reader import FileReader, drop, open_for_reading
from sinks.page_cache.transit import in_transit
from sinks.page_cache.writer import FileWriter, open_for_writing

__all__ = [
    "POLICIES",
    "Choice",
    "FileReader",
    "FileWriter",
    "GuestFile",
    "Hygiene",
    "Policy",
    "choose",
    "drop",
    "in_transit",
    "open_for_reading",
    "open_for_writing",
    "open_guest",
]
