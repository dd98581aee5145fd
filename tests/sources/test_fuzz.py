"""Damaged files of each format end in the right rows or in a named error, in flat memory, and resume as they began.

`ETL_FUZZ_ROUNDS=100000 pytest tests/sources/test_fuzz.py` tries more of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import CORPORA

ROUNDS = int(os.environ.get("ETL_FUZZ_ROUNDS", "400"))
# What reading some dozen rows may take, in KiB: a block of each decompressor, and one sheet of a workbook.
MOST_GROWTH = 48 << 10


@pytest.mark.parametrize("name", CORPORA)
def test_damaged_files_end_in_the_right_rows_or_a_named_error(name: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name("fuzzing.py")), name, str(ROUNDS)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert not ran.returncode, f"it ended with {ran.returncode}: {ran.stderr[-2000:]}"
    found = json.loads(ran.stdout)
    assert not found["wrong"], "\n\n".join(found["wrong"][:5])
    assert sum(found["ended"].values()) == ROUNDS
    assert found["growth"] < MOST_GROWTH
