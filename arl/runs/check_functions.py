"""Checks of a function that somebody else wrote: that it can be traced, is pure, and returns arrays of the right types."""

import functools
import importlib.metadata
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.types import ArlError

_ADDRESS = re.compile(r"0x[0-9a-f]+")  # of a function in a printed program
_LIBRARIES = tuple(str(pathlib.Path(package.__file__).parent) for package in (jax, np) if package.__file__)


def compiled(function: Callable) -> Callable:
    """Returns a function that is compiled in a fraction of the usual time, as it runs only once or twice.

    Args:
      function: the function.
    """
    if jax.default_backend() != "cpu":
        return jax.jit(function)
    options: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        options["xla_cpu_use_fusion_emitters"] = False  # newer versions do not know it
    return jax.jit(function, compiler_options=options)


def trace(name: str, function: Callable, *arguments: Any) -> Any:
    """Traces a function twice, and checks that it is pure.

    Args:
      name: what the function is, for the error message, such as "the environment's step".
      function: the function.
      *arguments: its arguments, arrays or their shapes and types.

    Returns:
      Shapes and types of what it returns, as `jax.eval_shape` does.

    Raises:
      ArlError: if it cannot be traced, changes its arguments, or is another function when it is traced again.
    """
    first, second = (_trace(name, function, arguments) for _ in range(2))
    if not _same(first[0], second[0]):
        raise ArlError(
            f"{name} computes something else when it is traced again; draw random numbers from its key, and keep what changes in the state"
        )
    return first[1]


def check_form(name: str, found: Any, wanted: Any, reference: str) -> None:
    """Checks that two pytrees have the same structure, shapes and types.

    Args:
      name: what returned `found`, for the error message.
      found: shapes and types.
      wanted: shapes and types.
      reference: what returned `wanted`.

    Raises:
      ArlError: if they differ.
    """
    before, after = (form(tree) for tree in (wanted, found))
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    if changed:
        was, now = (form.get(changed[0], "nothing") for form in (before, after))
        raise ArlError(
            f"{name} returns a state whose {changed[0]} is {now} where that of {reference} is {was}; return the same structure, shapes and "
            "types in both"
        )
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        raise ArlError(
            f"{name} returns a state of another structure than {reference}; return the same containers with the same names in both"
        )


def check_array(name: str, found: Any, dtype: Any, shape: tuple[int, ...] = ()) -> None:
    """Checks the shape and the type of an array.

    Args:
      name: what the array is, for the error message, such as "the reward of the environment's step".
      found: its shape and type.
      dtype: the type wanted; `jnp.floating` and `jnp.integer` allow for any width.
      shape: the shape wanted.

    Raises:
      ArlError: if one differs.
    """
    is_array = hasattr(found, "dtype") and hasattr(found, "shape")
    if not is_array or found.shape != shape or not jnp.issubdtype(found.dtype, dtype):
        kind = {jnp.floating: "float32", jnp.integer: "int32"}.get(dtype, np.dtype(dtype).name if not _is_abstract(dtype) else "")
        is_now = describe_array(found) if is_array else type(found).__name__
        raise ArlError(f"{name} is {is_now}; make it {kind}{list(shape)}")


def describe_array(array: Any) -> str:
    """Returns the type and shape of an array, such as "int32[3]".

    Args:
      array: an array, or its shape and type.
    """
    return f"{array.dtype}{list(array.shape)}"


def _is_abstract(dtype: Any) -> bool:
    return dtype in (jnp.floating, jnp.integer)


def _trace(name: str, function: Callable, arguments: tuple) -> tuple[Any, Any]:
    """Returns the program of a function, and the shapes and types of what it returns; raises `ArlError` if it has none."""

    def run(*arguments):  # a function of its own for each call, since JAX remembers the programs of those that it knows
        leaves, structure = jax.tree.flatten(arguments)
        result = function(*arguments)
        after, structure_after = jax.tree.flatten(arguments)
        if wrong := [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, str | bytes) or callable(leaf)]:
            do = "make a text by arl.text.template or arl.text.constant" if isinstance(wrong[0], str) else "return arrays"
            raise ArlError(f"{name} returns a {type(wrong[0]).__name__}, which is no array; {do}")
        if structure != structure_after or any(one is not other for one, other in zip(leaves, after, strict=True)):
            raise ArlError(f"{name} changes the state that it is given in place; return a new one")
        return result

    try:
        return jax.make_jaxpr(run, return_shape=True)(*arguments)
    except ArlError:
        raise
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError, jax.errors.NonConcreteBooleanIndexError):
        raise ArlError(
            f"{name} cannot be compiled, since Python asks for the value of a traced array{_place()}; use jnp.where, jax.lax.cond or "
            "arl.types.select in place of if, and arrays in place of int, float and bool"
        ) from None
    except Exception as error:
        said = (str(error).strip() or "no message").splitlines()[0].rstrip(".;")
        raise ArlError(
            f"{name} fails with {type(error).__name__}: {said}{_place()}; make it a pure function of arrays that JAX can trace"
        ) from None


def _place() -> str:
    """Returns the line at which the present exception left the code of its author, such as " (line 12 of maze.py)"."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES) and frame.filename != __file__]
    return f" (line {own[-1].lineno} of {pathlib.Path(own[-1].filename).name})" if own else ""


def run_twice(name: str, run: Callable, *arguments: Any) -> Any:
    """Runs a compiled function twice, and checks that it does the same.

    Args:
      name: what is run, for the error message, such as "the agent".
      run: the function.
      *arguments: its arguments, arrays `[B, ...]`.

    Returns:
      What it returns, on the host.

    Raises:
      ArlError: if it returns something else the second time.
    """
    first, second = (jax.tree.map(np.asarray, run(*arguments)) for _ in range(2))
    if not jax.tree.all(jax.tree.map(functools.partial(np.array_equal, equal_nan=True), first, second)):
        raise ArlError(f"{name} does something else when it is played again with the same keys; make its functions pure")
    return first


def printed(program: Any) -> str:
    """Returns a traced `program` as text, which is the same in every process."""
    return _ADDRESS.sub("", str(program))


def _same(first: Any, second: Any) -> bool:
    """Returns whether two programs are the same, their constants included."""
    if printed(first) != printed(second):
        return False
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(constants(first), constants(second), strict=True))


def constants(program: Any) -> Iterator[np.ndarray]:
    """Yields the constants of a traced `program` and of those within it; random keys, which are drawn from keys, are left out."""
    yield from (np.asarray(x) for x in getattr(program, "consts", ()) if not jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key))
    inner = getattr(program, "jaxpr", program)
    for equation in inner.eqns:
        yield from (np.asarray(variable.val) for variable in equation.invars if hasattr(variable, "val"))
        for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(parameter, "eqns"):
                yield from constants(parameter)


def form(tree: Any) -> dict[str, str]:
    """Returns type and shape of each leaf of a pytree by its path, such as `{".low": "int32[]"}`.

    Args:
      tree: a pytree of arrays; of a leaf that is none, its type is told.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    told = lambda leaf: describe_array(leaf) if hasattr(leaf, "dtype") else type(leaf).__name__
    return {jax.tree_util.keystr(path) or "array": told(leaf) for path, leaf in leaves}
