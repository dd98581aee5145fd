from __future__ import annotations

import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def strace() -> None:
    """Skip the test where strace is missing or may not trace."""
    if not shutil.which("strace") or subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"]).returncode:
        pytest.skip("takes strace")
