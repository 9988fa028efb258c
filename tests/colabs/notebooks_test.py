"""What the notebooks store is in step with the repository: its address, and what their cells print."""

import nbformat
import pytest

from tests.colabs import notebooks


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_the_first_cell_knows_the_address_of_setup_py(name):
    first = notebooks.code(notebooks.read(name))[0].source
    assert notebooks.with_address(first, notebooks.repository_url()) == first, "run `make notebooks`"


def test_first_cells_are_the_same():
    first, *others = [notebooks.code(notebooks.read(name))[0].source for name in notebooks.NAMES]
    assert others == [first] * len(others)


def test_an_address_is_written_into_a_first_cell():
    cell = 'import sys\n\nURL = "old"  # of setup.py\nprint(URL)'
    assert notebooks.with_address(cell, "https://new/arl") == 'import sys\n\nURL = "https://new/arl"  # of setup.py\nprint(URL)'
    with pytest.raises(AssertionError, match="needs one line"):
        notebooks.with_address("import sys", "https://new/arl")


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_stored_outputs_are_clean(name):
    notebook = notebooks.read(name)
    assert not notebooks.faults_of_outputs(notebook)
    assert [cell.execution_count for cell in notebooks.code(notebook)] == list(range(1, len(notebooks.code(notebook)) + 1))
    assert any("image/png" in notebooks.kinds_of_outputs(cell) for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (dict(output_type="stream", name="stderr", text="TqdmWarning: IProgress not found."), "warns"),
        (dict(output_type="stream", name="stdout", text="FutureWarning: soon gone"), "warns"),
        (dict(output_type="stream", name="stdout", text="kept in /data/somebody/arl"), "names the path /data/somebody/arl"),
        (dict(output_type="execute_result", data={"text/plain": "0.97"}, execution_count=1), "value without words"),
    ],
)
def test_an_output_that_should_not_be_stored_is_found(output, fault):
    cell = nbformat.v4.new_code_cell("run()", outputs=[nbformat.v4.new_output(**output)])
    (found,) = notebooks.faults_of_outputs(nbformat.v4.new_notebook(cells=[cell]))
    assert fault in found
