"""In an environment that has a kernel and JAX, the first cell of a notebook installs all the rest, and leaves JAX as it is."""

import json
import os
import pathlib
import shutil
import subprocess
import venv
from collections.abc import Iterator

import jax
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.colabs import notebooks

# Of whatever a notebook imports; the last line is empty where the package does not stand in the environment itself.
IMPORTS = """
import arl
from arl.runs import transcript
print("from", arl.__file__)
"""
JAX = """
import importlib.metadata
print({d.name: d.version for d in importlib.metadata.distributions() if d.name.startswith("jax")})
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Iterator[pathlib.Path]:
    """Yields the interpreter of an environment with a kernel named "fresh" and the JAX that is installed here."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    told = pip(python, "install", "--no-compile", "ipykernel", f"jax=={jax.__version__}")
    if told.returncode:
        pytest.skip(f"pip cannot install JAX here: {told.stderr.strip().splitlines()[-1]}")
    kernel = folder / "kernels" / "fresh" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(
        json.dumps({"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "", "language": "python"})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_COMPILE", "1")  # most of these files are never imported
        patch.setenv("JUPYTER_PATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("JUPYTER_PATH")])))
        yield python
    shutil.rmtree(folder)  # a gigabyte


@pytest.fixture
def repository(tmp_path) -> pathlib.Path:
    """Returns a copy of what is installed, under version control."""
    folder = tmp_path / "repository"
    shutil.copytree(notebooks.ROOT / "arl", folder / "arl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(notebooks.ROOT / name, folder)
    (folder / "colabs").mkdir()
    git = lambda *words: subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    git("init")
    git("add", ".")
    git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-m", "all")
    return folder


def pip(python: pathlib.Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([python, "-m", "pip", *words], capture_output=True, text=True)


def run_first_cell(folder: pathlib.Path, url: str = "") -> str:
    """Runs the first cell in a folder, between two looks at the JAX that is installed, and the imports; returns what all print."""
    folder.mkdir(exist_ok=True)
    first = notebooks.with_address(notebooks.code(notebooks.read("quickstart"))[0].source, url)
    cells = [nbformat.v4.new_code_cell(source) for source in (JAX, first, JAX, IMPORTS)]
    notebook = notebooks.execute(nbformat.v4.new_notebook(cells=cells), folder, "fresh", JAX_PLATFORMS="cpu", XLA_FLAGS="")
    return notebooks.printed(*notebooks.code(notebook))


def test_the_first_cell_installs_what_is_missing_but_jax(python, repository, tmp_path):
    with pytest.raises(CellExecutionError, match="open this notebook in a clone of its repository, or set URL"):
        run_first_cell(tmp_path / "elsewhere")

    before, found, after, where = run_first_cell(tmp_path / "elsewhere", url=f"file://{repository}").splitlines()
    assert before == after and f"'{jax.__version__}'" in before
    assert found == f"JAX {jax.__version__} found 1 CPU device(s): cpu"
    assert "site-packages" in where

    assert pip(python, "uninstall", "--yes", "arl").returncode == 0
    *_, where = run_first_cell(repository / "colabs").splitlines()
    assert where == f"from {repository / 'arl' / '__init__.py'}"

    (repository / "setup.py").write_text("raise SystemExit('what is installed is not installed again')")
    *_, again = run_first_cell(repository / "colabs").splitlines()
    assert again == where
