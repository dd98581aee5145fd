"""Tables of a job file as they may be shown: a terminal's scrollback and a log of CI are no places for secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etl.sources import urls
from etl.tables import show

HIDDEN = "***"
# Tables whose values are credentials, whatever their keys are called.
_SECRET_TABLES = frozenset({"headers", "secrets", "storage", "oauth2", "credentials"})


def shown(table: Mapping[str, Any]) -> str:
    """Write a table in one line, `key=value …`; what may be a secret is `***`.

    A value that comes out of an environment variable stands as it is written: `${API_KEY}`.
    """
    return " ".join(f"{key}={show(_hidden(key, value, secret=False))}" for key, value in table.items())


def _hidden(key: str, value: Any, *, secret: bool) -> Any:
    secret = secret or (urls.is_secret(key) and key != "key")  # which names the fields of a merge
    if isinstance(value, Mapping):
        within = key.lower() in _SECRET_TABLES
        return {name: _hidden(name, item, secret=within) for name, item in value.items()}
    if isinstance(value, list):
        return [_hidden(key, item, secret=secret) for item in value]
    if not isinstance(value, str):
        return HIDDEN if secret else value
    if secret:
        return value if "${" in value else HIDDEN
    return urls.without_credentials(value)
