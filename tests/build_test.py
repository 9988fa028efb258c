"""BUILD names every Python file once, only files that exist, and for each target exactly what its files need."""

import ast
import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
RULES = ("py_library", "py_binary", "py_test")
FOLDERS = ("arl", "experiments", "tests")


def read_targets() -> dict[str, dict]:
    """Returns name -> attributes of each target, with its rule and line."""
    targets = {}
    for node in ast.parse((ROOT / "BUILD").read_text()).body:
        call = node.value if isinstance(node, ast.Expr) else None
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in (*RULES, "package")):
            pytest.fail(f"BUILD:{node.lineno}: only {', '.join(RULES)} stand here", pytrace=False)
        attributes = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        if call.func.id in RULES:
            if attributes["name"] in targets:
                pytest.fail(f"BUILD:{node.lineno}: a second target '{attributes['name']}'", pytrace=False)
            targets[attributes["name"]] = attributes | {"rule": call.func.id, "line": node.lineno}
    return targets


def python_files() -> set[str]:
    return {str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}


def owners(targets: dict[str, dict]) -> dict[str, list[str]]:
    """Returns file -> the targets whose sources name it."""
    found = collections.defaultdict(list)
    for name, target in targets.items():
        for file in target["srcs"]:
            found[file].append(name)
    return found


def file_of(module: str) -> str | None:
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if path and (ROOT / file).is_file()), None)


def needed_files(file: str) -> set[str]:
    """Returns the files of this repository that a file imports, and for a test the `conftest.py` that pytest reads before it."""
    folder = pathlib.PurePath(file).parent
    needed = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            needed |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = folder.parts[: len(folder.parts) + 1 - node.level] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            needed |= {file_of(f"{base}.{alias.name}") or file_of(base) for alias in node.names}
    if file.startswith("tests/"):
        needed |= {f"{parent}/conftest.py" for parent in (folder, *folder.parents) if (ROOT / parent / "conftest.py").is_file()}
    return needed - {None, file}


def report(faults: list[str]):
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def test_every_file_stands_in_exactly_one_target():
    found = owners(read_targets())
    faults = [f"BUILD: {file} stands in no target" for file in sorted(python_files() - found.keys())]
    faults += [f"BUILD: {file} stands in {len(names)} targets: {', '.join(names)}" for file, names in found.items() if len(names) > 1]
    report(faults)


def test_every_named_file_exists():
    faults = []
    for name, target in read_targets().items():
        for file in (*target["srcs"], *target.get("data", ())):
            if not (ROOT / file).is_file():
                faults.append(f"BUILD:{target['line']}: {name} names {file}, which does not exist")
    report(faults)


def test_binaries_and_tests_are_what_their_rule_says():
    faults = []
    for name, target in read_targets().items():
        where = f"BUILD:{target['line']}: {name}"
        is_test = any(file.endswith("_test.py") for file in target["srcs"])
        if is_test != (target["rule"] == "py_test"):
            faults.append(f"{where} is a {target['rule']}, but its sources {'are' if is_test else 'are not'} a test")
        if target["rule"] != "py_library" and target.get("main", f"{name}.py") not in target["srcs"]:
            faults.append(f"{where}: main is not among srcs")
        for file in target["srcs"]:
            is_program = file.startswith("experiments/") and 'if __name__ == "__main__":' in (ROOT / file).read_text()
            if is_program != (target["rule"] == "py_binary"):
                faults.append(f"{where} is a {target['rule']}, but {file} {'can' if is_program else 'cannot'} be run")
    report(faults)


def test_dependencies_are_what_is_needed():
    targets = read_targets()
    owner = {file: names[0] for file, names in owners(targets).items()}
    faults = []
    for name, target in targets.items():
        told = {label.removeprefix(":") for label in target.get("deps", ())}
        meant = {owner[f] for file in target["srcs"] if (ROOT / file).is_file() for f in needed_files(file) if f in owner} - {name}
        faults += [f"BUILD:{target['line']}: {name} lacks the dependency :{other}" for other in sorted(meant - told)]
        faults += [f"BUILD:{target['line']}: {name} does not need :{other}" for other in sorted(told - meant)]
    report(faults)
