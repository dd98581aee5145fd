"""Install local-bigquery into an environment of its own: it needs Python 3.13, and another DuckDB than ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSION = (3, 13)

# What local-bigquery 0.4.0 asks for, except for DuckDB: it wants 2.0 or newer, whose extensions no package index
# has. It runs as well with 1.5.5, whose extensions there are; so it goes without what it declares.
SERVER = "local-bigquery==0.4.0"
NEEDED = (
    "duckdb==1.5.5",
    "duckdb-extensions==1.5.5",
    "duckdb-extension-ducklake==1.5.5",
    "duckdb-extension-spatial==1.5.5",
    "fastapi==0.165.0",
    "fastavro==1.13.1",
    "google-cloud-bigquery-storage==2.43.0",
    "grpcio==1.85.1",
    "mini-racer==0.14.1",
    "numpy==2.5.5",
    "prompt-toolkit==3.0.53",
    "pyarrow==26.0.1",
    "pydantic-settings==2.16.3",
    "pygments==2.21.0",
    "sqlglot==30.30.0",
    "uvicorn==0.54.0",
)
EXTENSIONS = "from duckdb_extensions import import_extension as take; take('spatial'); take('ducklake')"


class NoPython(Exception):
    """There is no Python 3.13 on this machine, or none that can make environments."""


def home_of(environment: Path) -> Path:
    """Return the home directory that the server runs with: DuckDB keeps its extensions there."""
    return environment / "home"


def find_python() -> Path:
    """Return a Python 3.13 that can make environments.

    Looked for: the one that runs this, `python3.13` on the PATH, and what pyenv and uv have installed.

    Raises:
        NoPython: None was found.
    """
    for python in _candidates():
        question = "import ensurepip, sys, venv; print(*sys.version_info[:2])"
        try:
            done = subprocess.run(  # noqa: S603 (asks an interpreter for its version)
                [python, "-c", question], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.stdout.split() == [str(number) for number in VERSION]:
            return Path(python)
    raise NoPython("no Python 3.13 with venv was found on the PATH, nor one that pyenv or uv has installed")


def _candidates() -> Iterator[str]:
    yield sys.executable
    if found := shutil.which("python3.13"):
        yield found
    home = Path.home()
    pyenv = [Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))]
    # pyenv's commands on the PATH tell where it is, also for a user with another home.
    pyenv += [Path(path).parent for path in os.get_exec_path() if Path(path).name == "shims"]
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local/share/uv/python"))
    for root, pattern in [*((root / "versions", "3.13*") for root in pyenv), (uv, "cpython-3.13*")]:
        for version in sorted(root.glob(pattern), reverse=True):
            yield str(version / "bin" / "python3.13")


def install(environment: Path, python: Path) -> None:
    """Make the environment, 600 MB on disk; nothing outside of it is touched.

    Raises:
        subprocess.CalledProcessError: A step failed; it has said why on standard error.
    """
    _run([str(python), "-m", "venv", "--clear", str(environment)])
    own = str(environment / "bin" / "python")
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *NEEDED])
    _run([*pip, "--no-deps", SERVER])
    home = home_of(environment).absolute()
    home.mkdir()
    _run([own, "-c", EXTENSIONS], HOME=str(home))


def _run(command: list[str], **environment: str) -> None:
    subprocess.run(command, check=True, env=os.environ | environment)  # noqa: S603 (pinned words, no user input)
