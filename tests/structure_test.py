"""The rules of the house: packages import downwards, what is public is documented, nothing names the machine it was written on."""

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
# A package may import from those before it. `arl` is `arl/__init__.py`, which exports what is public.
PACKAGES = (
    *("types", "checks", "gguf_file", "task", "text", "envs", "agents", "models", "rollout"),
    *("objectives", "training", "runs", "arl", "experiments"),
)
SOURCES = sorted(path for folder in ("arl", "experiments") for path in (ROOT / folder).rglob("*.py"))
MOST_LINES, MOST_OF_A_FUNCTION = 350, 80
TEXT_SUFFIXES = {"", ".cfg", ".ipynb", ".json", ".md", ".py", ".toml", ".txt"}
UNTRACKED_FOLDERS = {
    ".cache",
    ".git",
    ".hypothesis",
    ".ipynb_checkpoints",
    ".pytest_cache",
    ".ruff_cache",
    "build",
    "dist",
}


@functools.cache
def parse(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def place(path: pathlib.Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    package, *rest = module.split(".")
    return rest[0] if package == "arl" and rest else package


MODULES = {module_name(path): path for path in SOURCES}


def imports(path: pathlib.Path) -> Iterator[tuple[int, str, str]]:
    """Yields line, module of this repository, and the name bound to it or taken from it, for each import of a file."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found = [(alias.name, alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1] if node.level else [])
            base = ".".join(filter(None, (base, node.module)))
            whole = [f"{base}.{alias.name}" for alias in node.names]
            found = [(name if name in MODULES else base, alias.name) for name, alias in zip(whole, node.names, strict=True)]
        else:
            continue
        for module, name in found:
            if module.split(".")[0] in ("arl", "experiments"):
                yield node.lineno, module, name


def report(faults: list[str]):
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def test_rooms_are_known():
    report(
        [
            f"{path.relative_to(ROOT)}: '{package_of(name)}' is not one of the packages"
            for name, path in MODULES.items()
            if package_of(name) not in PACKAGES
        ]
    )


def test_imports_name_modules_that_exist():
    report(
        [
            f"{place(path, line)}: there is no module {module}"
            for path in SOURCES
            for line, module, _ in imports(path)
            if module not in MODULES
        ]
    )


def test_no_import_upwards():
    faults = []
    for path in SOURCES:
        package = package_of(module_name(path))
        for line, module, _ in imports(path):
            if PACKAGES.index(package_of(module)) > PACKAGES.index(package):
                faults.append(f"{place(path, line)}: package '{package}' imports {module}, which stands above it")
    report(faults)


def test_no_import_circle():
    graph = {name: [(line, module) for line, module, _ in imports(path) if module != name] for name, path in MODULES.items()}
    faults, done = [], set()

    def visit(name: str, trail: tuple[str, ...]):
        for line, module in graph.get(name, []):
            if module in trail:
                circle = " -> ".join((*trail[trail.index(module) :], module))
                faults.append(f"{place(MODULES[name], line)}: import circle {circle}")
            elif module not in done:
                visit(module, (*trail, module))
        done.add(name)

    for name in graph:
        if name not in done:
            visit(name, (name,))
    report(faults)


def test_no_private_import_across_rooms():
    faults = []
    for path in SOURCES:
        package = package_of(module_name(path))
        foreign = [(line, module, name) for line, module, name in imports(path) if package_of(module) != package]
        for line, module, name in foreign:
            if any(part.startswith("_") for part in (*module.split("."), *name.split("."))):
                faults.append(f"{place(path, line)}: {name} of {module} is private to its package")
        bound = {name.split(".")[-1] for _, module, name in foreign if module.split(".")[-1] == name.split(".")[-1]}
        for node in ast.walk(parse(path)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in bound
                and node.attr.startswith("_")
            ):
                faults.append(f"{place(path, node.lineno)}: {node.value.id}.{node.attr} is private to its package")
    report(faults)


def test_files_are_short():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    report([f"{path.relative_to(ROOT)}: {length} lines" for path, length in lengths.items() if length > MOST_LINES])


def test_functions_are_short():
    """Those within are part of the one around them."""
    faults = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= MOST_OF_A_FUNCTION:
                faults.append(f"{place(path, node.lineno)}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
    report(faults)


def public_definitions(path: pathlib.Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Yields the public functions and classes of a module, and the public methods of those classes."""
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                methods = (method for method in node.body if isinstance(method, ast.FunctionDef))
                yield from (m for m in methods if not m.name.startswith("_") and m.name != "setup")  # Flax's own hook


def arguments(function: ast.FunctionDef) -> list[ast.arg]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return [argument for argument in named if argument.arg not in ("self", "cls") and not argument.arg.startswith("_")]


def returns_a_value(function: ast.FunctionDef) -> bool:
    is_none = isinstance(function.returns, ast.Constant) and function.returns.value is None
    return not is_none and any(isinstance(node, ast.Return | ast.Yield) and node.value is not None for node in ast.walk(function))


@functools.cache
def own_types() -> set[str]:
    classes = {node.name for path in SOURCES for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)}
    return classes | {"State", "Curriculum"}  # aliases of arl.types


def documents_itself(argument: ast.arg) -> bool:
    """Whether an argument is a key, or of a type of this repository, whose fields have their own words."""
    kind = ast.unparse(argument.annotation).removesuffix(" | None") if argument.annotation else ""
    return argument.arg == "key" or kind.split(".")[-1] in own_types()


def faults_of_docstring(function: ast.FunctionDef) -> list[str]:
    """Returns what a public function's docstring lacks: each argument by its name, what is returned, the shapes of arrays.

    A docstring may send the reader to the contract or the twin that has the same arguments ("as `Estimator`").
    """
    text = ast.get_docstring(function) or ""
    if re.search(r"[Aa]rguments( and results?)? as `\w+`", " ".join(text.split())):
        return []
    faults = []
    unnamed = [a.arg for a in arguments(function) if not documents_itself(a) and not re.search(rf"\b{a.arg}\b", text)]
    if unnamed:
        faults.append(f"no word about {', '.join(unnamed)}; add them under Args")
    if arguments(function) and returns_a_value(function) and not re.search(r"^(Returns|Yields|Whether)\b", text, flags=re.MULTILINE):
        faults.append("no Returns")
    arrays = [a.arg for a in arguments(function) if a.annotation and re.search(r"\b(Array|ndarray)\b(?! \|)", ast.unparse(a.annotation))]
    arrays = [name for name in arrays if not re.search(r"(^|_)keys?(_|$)", name)]
    if arrays and not re.search(r"`[^`\n]*\[[^`\n]*\][^`\n]*`", text):
        faults.append(f"no shape in backticks, such as `[B, T]`, for {', '.join(arrays)}")
    return faults


def test_what_is_public_is_documented():
    faults = []
    for path in SOURCES:
        if path.stat().st_size and not ast.get_docstring(parse(path)):
            faults.append(f"{place(path, 1)}: the module has no docstring")
        for node in public_definitions(path):
            if not ast.get_docstring(node):
                faults.append(f"{place(path, node.lineno)}: {node.name} has no docstring")
    report(faults)


def test_public_functions_say_what_goes_in_and_out():
    faults = []
    for path in SOURCES:
        # The shared types document their own fields; binaries speak through their flags.
        if package_of(module_name(path)) in ("types", "experiments"):
            continue
        for node in public_definitions(path):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                faults += [f"{place(path, node.lineno)}: {node.name}: {fault}" for fault in faults_of_docstring(node)]
    report(faults)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('def f(x): "Doubles."; return x', "no word about x; add them under Args"),
        ('def f(x):\n  """Doubles.\n\n  Args:\n    x: a number.\n  """\n  return x', "no Returns"),
        (
            'def f(x: jax.Array):\n  """Doubles.\n\n  Args:\n    x: numbers.\n\n  Returns:\n    Numbers.\n  """\n  return x',
            "no shape in backticks, such as `[B, T]`, for x",
        ),
    ],
)
def test_a_docstring_that_lacks_something_is_found(source, fault):
    assert fault in faults_of_docstring(ast.parse(source).body[0])


def test_no_file_names_a_machine():
    folders = re.compile(r"(?<![\w.\-/])/(work|root|home|Users|mnt|opt)/")
    temporary = re.compile(r"(?<![\w.\-/])/tmp\b")
    registries = re.compile(r"\b(pypi\.org|pythonhosted\.org|npmjs\.(org|com)|deb\.debian\.org|proxy\.golang\.org)\b")
    faults = []
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if (
            UNTRACKED_FOLDERS & set(relative.parts)
            or relative.parts[0].startswith((".venv", "runs"))
            or path == pathlib.Path(__file__)
            or path.suffix not in TEXT_SUFFIXES
            or not path.is_file()
        ):
            continue
        patterns = [folders, registries] + ([temporary] if relative.parts[0] != "tests" else [])
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            faults += [f"{place(path, number)}: '{found.group()}'" for pattern in patterns for found in pattern.finditer(line)]
    report(faults)


def test_tests_see_eight_devices():
    assert jax.device_count() == 8
