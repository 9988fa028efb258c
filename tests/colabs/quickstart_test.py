"""The notebook runs from top to bottom, on a small scale, and is as short as it says."""

import ast
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).parents[2] / "colabs" / "quickstart.ipynb"


def test_quickstart_runs(monkeypatch):
    monkeypatch.setenv("ARL_QUICKSTART_UPDATES", "4")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "of the way from random to the Bayes bound" in printed
    assert "reflection" in printed, "the transcript shows notes"


@pytest.mark.parametrize(("name", "limit"), [("make_echo", 40), ("with_price", 25), ("life_advantage", 10)])
def test_what_a_user_writes_is_short(name, limit):
    cells = [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    (function,) = [node for cell in cells for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert function.end_lineno - function.lineno + 1 < limit
