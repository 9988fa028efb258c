"""A state of training as named arrays on the host, and what can be wrong with them."""

import zlib
from typing import Any

import jax
import numpy as np

from arl.training.learner import TrainState
from arl.training.store import Arrays

_CHECKSUM = "checksum"
_LEARNED = ("params", "optimizer_state", "reference")


def pack(state: TrainState) -> Arrays:
    """Returns copies of the leaves of a state, by name, and their checksum; they outlive its buffers."""
    # Arrays of no size cannot be stored, and need not be.
    arrays = {_name(i): np.array(_data(leaf)) for i, leaf in enumerate(jax.tree.leaves(state)) if leaf.size}
    return {**arrays, _CHECKSUM: np.asarray(_checksum(arrays))}


def unpack(like: TrainState, arrays: Arrays) -> TrainState:
    """Returns the state that was packed.

    Args:
      like: a state of the same shapes, or its `jax.eval_shape`.
      arrays: of `pack`; they are copied.

    Returns:
      The state.
    """
    leaves, treedef = jax.tree.flatten(like)
    data = [jax.numpy.array(arrays[_name(i)], copy=True) if leaf.size else _zeros(leaf) for i, leaf in enumerate(leaves)]
    whole = [jax.random.wrap_key_data(x) if _is_key(leaf) and leaf.size else x for leaf, x in zip(leaves, data, strict=True)]
    return jax.tree.unflatten(treedef, whole)


def is_intact(arrays: Arrays) -> bool:
    """Returns whether every bit of `arrays` is as it was packed: a store does not notice one that was flipped."""
    return _CHECKSUM in arrays and _checksum(arrays) == arrays[_CHECKSUM]


def fits(like: TrainState, arrays: Arrays) -> bool:
    """Returns whether `arrays` are those of a state of the same shapes and types as `like`."""
    leaves = enumerate(jax.tree.leaves(like))
    wanted = jax.eval_shape(lambda: {_name(i): _data(_zeros(leaf)) for i, leaf in leaves if leaf.size})
    found = {name: (array.shape, array.dtype) for name, array in arrays.items() if name != _CHECKSUM}
    return found == {name: (leaf.shape, leaf.dtype) for name, leaf in wanted.items()}


def not_finite(like: TrainState, arrays: Arrays) -> str:
    """Returns the name of the first array of what is learned that is not finite, such as "params/head"; "" if there is none.

    Args:
      like: as `unpack`.
      arrays: of `pack`. Those of lanes and settings are not looked at: what an environment keeps may well be infinite.

    Returns:
      The name.
    """
    for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(like)):
        is_learned = path[0].name in _LEARNED and jax.numpy.issubdtype(leaf.dtype, np.inexact)
        if is_learned and leaf.size and not np.isfinite(arrays[_name(i)]).all():
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return ""


def _checksum(arrays: Arrays) -> np.uint32:
    """Returns the CRC-32 of all arrays."""
    checksum = 0
    for name in sorted(arrays.keys() - {_CHECKSUM}):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).view(np.uint8), checksum)
    return np.uint32(checksum)


def _name(index: int) -> str:
    return f"leaf{index:05d}"


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _zeros(leaf: Any) -> Any:
    return (
        jax.random.wrap_key_data(jax.numpy.zeros((*leaf.shape, 2), jax.numpy.uint32))
        if _is_key(leaf)
        else jax.numpy.zeros(leaf.shape, leaf.dtype)
    )
