"""What `etl check` shows of a job file's tables."""

from __future__ import annotations

from typing import Any

import pytest

from etl.commands.hiding import shown


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"type": "files", "paths": ["a.csv"]}, 'type="files" paths=["a.csv"]'),
        ({"secrets": {"q": "open sesame"}}, 'secrets={"q": "***"}'),
        ({"headers": {"X-Whatever": "open sesame"}}, 'headers={"X-Whatever": "***"}'),
        ({"headers": {"Authorization": "Bearer ${TOKEN}"}}, 'headers={"Authorization": "Bearer ${TOKEN}"}'),
        ({"storage": {"secret": "s", "anon": True}}, 'storage={"secret": "***", "anon": "***"}'),
        ({"oauth2": {"client_secret": "s"}}, 'oauth2={"client_secret": "***"}'),
        ({"params": {"api_key": "s", "q": "x"}}, 'params={"api_key": "***", "q": "x"}'),
        ({"password": "s", "token": "t"}, 'password="***" token="***"'),
        ({"url": "https://u:p@h/a?token=t&x=1"}, 'url="https://h/a?token=***&x=1"'),
        ({"urls": ["https://h/a?sig=s"]}, 'urls=["https://h/a?sig=***"]'),
        ({"key": ["id"], "page_size": 10}, 'key=["id"] page_size=10'),
    ],
)
def test_a_table_is_shown_without_what_may_be_a_secret(table: dict[str, Any], text: str) -> None:
    assert shown(table) == text
