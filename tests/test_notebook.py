"""A job in a notebook: what works in a script works in a fresh kernel."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

JOB = """
import etl

def rows():
    for number in range(10):
        yield {"n": number}

pipeline = etl.Pipeline(
    "numbers",
    source=rows,
    sink={"type": "reused_file", "path": "numbers.ndjson"},
    warehouse={"type": "duckdb", "path": "numbers.duckdb", "table": "numbers"},
)
print(pipeline.run().records)
"""
AGAIN = "print(pipeline.run().records)"
QUERY = "import duckdb; print(duckdb.connect('numbers.duckdb', read_only=True).sql('from numbers').fetchall()[-1])"


# The client and its kernel are told apart by a loop of their own, whose sockets the interpreter closes at its end.
@pytest.mark.filterwarnings("default")
def test_a_job_runs_in_a_fresh_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "JUPYTER_DATA_DIR", str(tmp_path / "jupyter")
    )  # the kernel is that of this interpreter
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code) for code in (JOB, AGAIN, QUERY)]
    )
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert [cell.outputs for cell in notebook.cells] == [
        [{"output_type": "stream", "name": "stdout", "text": text}] for text in ("10\n", "0\n", "(9,)\n")
    ]
