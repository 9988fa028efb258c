"""The notebook of capabilities runs from top to bottom, and each of its agents lives as it says."""

import pathlib

import nbformat
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).parents[2] / "colabs" / "cognition.ipynb"


def test_cognition_runs(monkeypatch):
    monkeypatch.setenv("ARL_COGNITION_UPDATES", "2")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    for said in ("(TOOL)", "(NOTE)", "(REFLECTION)", "(THINK)", "(CONTROL)", "the context begins anew", " correct"):
        assert said in printed, said
    assert "of the way from random to the optimum" in printed
