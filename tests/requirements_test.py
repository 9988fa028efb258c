"""setup.py declares what the code imports, and the lock of each Python pins what setup.py declares."""

import ast
import importlib.metadata
import pathlib
import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
MODULE_OF = {"absl-py": "absl", "orbax-checkpoint": "orbax", "pytest-xdist": "xdist", "tensorflow-datasets": "tensorflow_datasets"}
LOCKS = ("requirements.txt", "requirements-3.12.txt")
OURS = {"arl", "experiments", "tests"}


def declared() -> dict[str, list[Requirement]]:
    """Returns the requirements of setup.py, by extra; those of the package itself under ''."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setup":
            told = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg in ("install_requires", "extras_require")}
            groups = {"": told["install_requires"], **told["extras_require"]}
            return {extra: [Requirement(line) for line in lines] for extra, lines in groups.items()}
    raise AssertionError("setup.py does not call setup")


def pinned(lock: str) -> dict[str, tuple[str, str]]:
    """Returns name -> (version, comment) of each line of a lock."""
    pins = {}
    for number, line in enumerate((ROOT / lock).read_text().splitlines(), 1):
        requirement, _, comment = line.partition("#")
        if requirement.strip():
            match = re.fullmatch(r"([\w.\-]+)==([\w.\-+]+)", requirement.strip())
            if not match:
                pytest.fail(f"{lock}:{number}: '{requirement.strip()}' pins no version", pytrace=False)
            pins[canonicalize_name(match[1])] = (match[2], comment.strip())
    return pins


def imports(path: pathlib.Path) -> dict[str, int]:
    """Returns the packages of others that a file imports, with a line."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        found |= {name.split(".")[0]: node.lineno for name in names}
    return {name: line for name, line in found.items() if name not in sys.stdlib_module_names | OURS}


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("extra", ["", "test", "dev"])
def test_what_is_declared_is_pinned_within_its_bounds_and_explained(extra, lock):
    pins, faults = pinned(lock), []
    for requirement in declared()[extra]:
        version, comment = pins.get(canonicalize_name(requirement.name), (None, ""))
        if version is None or version not in requirement.specifier:
            faults.append(f"{lock}: {requirement} is pinned to {version}")
        elif not comment:
            faults.append(f"{lock}: {requirement.name} has no comment that says what it is for")
    assert not faults, "\n".join(faults)


def test_what_is_declared_is_bounded():
    everything = [requirement for group in declared().values() for requirement in group]
    assert not [str(r) for r in everything if not {"<", ">="} <= {bound.operator for bound in r.specifier}]


def test_locks_pin_the_same_packages():
    first, second = (pinned(lock).keys() for lock in LOCKS)
    assert first == second


@pytest.mark.parametrize("version", ["0.10.0", "0.10.1", "0.11.0", "0.11.2", "0.12.0.1"])
def test_installing_leaves_a_machines_jax_as_it_is(version):
    """Bounds admit it, and what comes with `arl` asks for no newer one: the newest packages that our bounds admit are those of the lock."""
    jax = next(requirement for requirement in declared()[""] if requirement.name == "jax")
    assert version in jax.specifier
    for name in ("flax", "optax", "chex", "orbax-checkpoint"):
        needs = map(Requirement, importlib.metadata.requires(name) or ())
        wanted = [need for need in needs if need.name in ("jax", "jaxlib") and need.marker is None]
        assert all(version in need.specifier for need in wanted), (name, *map(str, wanted))


def test_what_is_imported_is_declared():
    groups = {extra: {MODULE_OF.get(r.name, r.name.replace("-", "_")) for r in group} for extra, group in declared().items()}
    allowed = {"arl": groups[""], "experiments": set().union(*groups.values()), "tests": set().union(*groups.values()) | {"packaging"}}
    faults = []
    for folder, modules in allowed.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            undeclared = {name: line for name, line in imports(path).items() if name not in modules}
            faults += [f"{path.relative_to(ROOT)}:{line}: setup.py does not declare {name}" for name, line in undeclared.items()]
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)
