"""A pull of a source in a control group of its own, in a process that is forked, and what becomes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from etl.errors import EtlError
from etl.records import Mark, Unreadable
from etl.sources import Files, Pages
from tests import forks
from tests.control_groups import MIB, real_group

# A process that is forked shares with the one that imported everything what another would have of its own.
IMPORTED = 40 * MIB


def pull(limit: int, source: type[Files | Pages], *arguments: Any, **options: Any) -> tuple[str, int]:
    """Take all that a source yields, in a process that may be charged with `limit` bytes.

    Returns:
        what it said: how many records it took and what each says that is none, or the error; and its peak, in bytes.
    """
    with real_group(limit) as group:
        ended: subprocess.CompletedProcess[str] = forks.run(
            _pull, group.path / "cgroup.procs", source, arguments, options
        )
        peak = group.memory().peak
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-2000:])
    assert peak is not None
    return ended.stdout, peak


def _pull(
    group: Path, source: type[Files | Pages], arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    group.write_text("0")
    held = bytearray(b"\1") * IMPORTED
    records = 0
    try:
        for item in source(*arguments, **options).pull(None):
            if isinstance(item, Unreadable):
                sys.stdout.write(f"unreadable: {item.reason}\n")
            records += not isinstance(item, Mark | Unreadable)
        sys.stdout.write(f"{records} records\n")
    except EtlError as error:
        sys.stdout.write(f"{type(error).__name__} after {records}: {error}\n")
    sys.stdout.flush()
    assert held
