"""The page about security names tests for what it says, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "SECURITY.md").read_text()


def test_each_test_that_the_page_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    missing = []
    for file, name in named:
        nodes = ast.walk(ast.parse((ROOT / file).read_text()))
        if name and name not in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{file}::{name}")
    assert len(named) > 20
    assert not missing


def test_each_line_of_what_may_be_tried_names_a_test():
    table = PAGE.partition("## Who may try what")[2].partition("\n\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert lines
    assert not [line for line in lines if "::test_" not in line.rpartition("|")[0].rpartition("|")[2]]
