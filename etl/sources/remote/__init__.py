"""Files at other places, through fsspec, which is imported when the first of them is looked at."""

from __future__ import annotations

from etl.sources.remote.kinds import check
from etl.sources.remote.storage import Remote

__all__ = ["Remote", "check"]
