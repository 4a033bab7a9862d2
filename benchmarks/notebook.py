"""Runs a notebook and keeps what it shows; what goes to stderr, such as TensorFlow's greeting, is dropped.

python -m benchmarks.notebook docs/lockstep.ipynb    # needs nbclient and ipykernel
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat

SECONDS = 600  # of one cell


def executed(path: Path, folder: Path) -> Any:
    """The notebook with its outputs, run in a folder of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=SECONDS, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": folder}}
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def shown(notebook: Any) -> str:
    """All text that its cells show."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


if __name__ == "__main__":
    import tempfile

    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(path, Path(folder)), path)
