"""Tutorials: both notebooks run from the first cell to the last, and the last results are those of the API."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"


def test_the_jupyter_notebook_runs():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("vl_convert")
    book = nbformat.read(TUTORIALS / "ten_minutes.ipynb", as_version=4)
    client = nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    shown = [
        o["data"]
        for c in book.cells
        if c.cell_type == "code"
        for o in c.outputs
        if o.output_type == "execute_result"
    ]
    assert "25.6 M parameters" in shown[0]["text/html"]
    assert "<img " in shown[1]["text/html"]
    assert "18432*n**2" in shown[4]["text/plain"]
    assert "wildlife-camera" in shown[6]["text/html"]


def test_the_marimo_notebook_runs():
    pytest.importorskip("marimo")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    made = subprocess.run([sys.executable, str(TUTORIALS / "ten_minutes_marimo.py")], cwd=ROOT, env=env,
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]
