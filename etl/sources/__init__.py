"""Sources: where records come from. Each is made from what a job file can hold, and imports nothing heavy."""

from __future__ import annotations

from etl.sources.files import Files
from etl.sources.http import Http
from etl.sources.pages import Pages

__all__ = ["Files", "Http", "Pages"]
