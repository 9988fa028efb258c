"""The notebook runs from top to bottom, on a small scale, and is as short as it says."""

import ast

import nbformat
import pytest

from tests.colabs import notebooks


def test_quickstart_runs_and_prints_what_it_stores():
    stored = notebooks.read("quickstart")
    notebook = notebooks.read("quickstart")
    notebook.cells.append(nbformat.v4.new_code_cell("print(config.num_updates)"))
    notebooks.execute(notebook, ARL_QUICKSTART_UPDATES="4")
    assert not notebooks.faults_of_outputs(notebook)
    assert notebooks.printed(notebook.cells.pop()) == "600\n", "a short run is the beginning of the long one"
    for found, expected in zip(notebooks.code(notebook), notebooks.code(stored), strict=True):
        assert notebooks.kinds_of_outputs(found) == notebooks.kinds_of_outputs(expected), f"run `make notebooks`: {found.source}"
    printed = notebooks.printed(*notebooks.code(notebook))
    assert "normalised score: 0 is random, 1 is the Bayes bound" in printed
    assert ">  reflection" in printed, "the transcript shows notes"
    assert "stopped after 4 of the 600 updates that the schedules are for" in printed


@pytest.mark.parametrize(("name", "limit"), [("make_echo", 40), ("SegmentCost", 25), ("episode_advantage", 10)])
def test_what_a_user_writes_is_short(name, limit):
    cells = [cell.source for cell in notebooks.code(notebooks.read("quickstart"))]
    nodes = [node for cell in cells for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    (defined,) = [node for node in nodes if node.name == name]
    assert defined.end_lineno - defined.lineno + 1 < limit
