"""What the notebooks store: the repository's address in their first cells, and their outputs. `make notebooks` renews both."""

import ast
import os
import pathlib
import re
import sys

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = pathlib.Path(__file__).parents[2]
COLABS = ROOT / "colabs"
NAMES = ("quickstart", "cognition")
ADDRESS = re.compile(r'^URL = ".*?"', flags=re.MULTILINE)


def read(name: str) -> NotebookNode:
    return nbformat.read(COLABS / f"{name}.ipynb", as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    """Returns the code cells, of which the first installs `arl`."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def repository_url() -> str:
    """Returns the constant `URL` of setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "URL":
            return ast.literal_eval(node.value)
    raise AssertionError("setup.py has no constant URL")


def with_address(source: str, url: str) -> str:
    """Returns the source of a first cell, with the repository's address in it."""
    renewed, count = ADDRESS.subn(lambda _: f'URL = "{url}"', source)
    if count != 1:
        raise AssertionError(f'a first cell needs one line `URL = "..."` and has {count}')
    return renewed


def execute(notebook: NotebookNode, folder: pathlib.Path = COLABS, kernel: str = "python3", **environment: str) -> NotebookNode:
    """Executes a notebook in place, with pictures as Jupyter shows them, and returns it.

    Args:
      notebook: whose outputs are replaced.
      folder: where its kernel runs.
      kernel: name of the kernel.
      **environment: variables that the kernel has beside those of this process.
    """
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"} | environment
    metadata = notebook.metadata.copy()
    options = {"record_timing": False, "coalesce_streams": True, "resources": {"metadata": {"path": str(folder)}}}
    client = NotebookClient(notebook, timeout=3600, kernel_name=kernel, **options)
    client.execute(env=environment)
    notebook.metadata = metadata  # the version of Python that ran it is nobody's concern
    return notebook


def printed(*cells: NotebookNode) -> str:
    """Returns what cells print."""
    return "".join(output.get("text", "") for cell in cells for output in cell.outputs)


def kinds_of_outputs(cell: NotebookNode) -> set[str]:
    """Returns which kinds of outputs a cell has: "stdout", "stderr", "text/plain", "image/png"."""
    return {kind for output in cell.outputs for kind in ([output.name] if "name" in output else output.get("data", {}))}


def faults_of_outputs(notebook: NotebookNode) -> list[str]:
    """Returns what should not stand in the outputs of a notebook: warnings, paths of a machine, values without words."""
    faults = []
    for cell in code(notebook):
        where = f"the cell that begins with {cell.source.splitlines()[0]!r}"
        for output in cell.outputs:
            text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            if output.get("name") == "stderr" or "Warning" in text:
                faults.append(f"{where} warns: {text.strip()[:200]}")
            if found := re.search(r"(?<![\w.])(/\w+){2,}", text):
                faults.append(f"{where} names the path {found.group()}")
            if output.output_type == "execute_result":
                faults.append(f"{where} ends with a value without words: {text[:200]}")
    return faults


def main(names: list[str]) -> None:
    """Writes the address into first cells, executes the notebooks at full length and stores their outputs."""
    for name in names or NAMES:
        notebook = read(name)
        code(notebook)[0].source = with_address(code(notebook)[0].source, repository_url())
        print(f"executing {name}: several minutes", flush=True)
        if faults := faults_of_outputs(execute(notebook)):
            raise SystemExit("\n".join([f"colabs/{name}.ipynb is left as it was:", *faults]))
        nbformat.write(notebook, COLABS / f"{name}.ipynb")


if __name__ == "__main__":
    main(sys.argv[1:])
