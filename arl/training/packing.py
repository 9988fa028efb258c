"""The training state as named arrays on the host, and checks of them."""

import zlib
from typing import Any

import jax
import numpy as np

from arl.training.learner import TrainState
from arl.training.store import Arrays

_CHECKSUM = "checksum"
_LEARNED = ("params", "optimizer_state", "reference")


def pack(state: TrainState) -> Arrays:
    """Returns copies of the leaves of a state, by name, and their checksum. They stay valid when its buffers are donated."""
    # Empty arrays cannot be stored, and need not be.
    arrays = {name: np.array(_data(leaf)) for name, leaf in _named(state) if leaf.size}
    return {**arrays, _CHECKSUM: np.asarray(_checksum(arrays))}


def unpack(like: TrainState, arrays: Arrays) -> TrainState:
    """Returns the state that was packed.

    Args:
      like: a state of the same shapes, or its `jax.eval_shape`.
      arrays: result of `pack`; they are copied.

    Returns:
      The state.
    """

    def restored(name: str, leaf: Any) -> Any:
        data = jax.numpy.array(arrays[name], copy=True) if leaf.size else _zeros(leaf)
        return jax.random.wrap_key_data(data) if _is_key(leaf) and leaf.size else data

    return jax.tree.unflatten(jax.tree.structure(like), [restored(name, leaf) for name, leaf in _named(like)])


def is_intact(arrays: Arrays) -> bool:
    """Returns whether arrays are those that were packed, by their checksum; the store does not notice a flipped bit."""
    return _CHECKSUM in arrays and _checksum(arrays) == arrays[_CHECKSUM]


def fits(like: TrainState, arrays: Arrays) -> bool:
    """Returns whether arrays are those of a state of the same shapes and types as `like`."""
    wanted = jax.eval_shape(lambda: {name: _data(_zeros(leaf)) for name, leaf in _named(like) if leaf.size})
    found = {name: (array.shape, array.dtype) for name, array in arrays.items() if name != _CHECKSUM}
    return found == {name: (leaf.shape, leaf.dtype) for name, leaf in wanted.items()}


def not_finite(like: TrainState, arrays: Arrays) -> str:
    """Finds an array of the parameters, optimizer state or reference that is not finite.

    Lanes and curricula are not checked, because an environment may keep infinite numbers.

    Args:
      like: as `unpack`.
      arrays: result of `pack`.

    Returns:
      The name of the first one, such as "params/head"; "" if there is none.
    """
    for name, leaf in _named(like):
        is_learned = name.partition(".")[0] in _LEARNED and jax.numpy.issubdtype(leaf.dtype, np.inexact)
        if is_learned and leaf.size and not np.isfinite(arrays[name]).all():
            return name.replace(".", "/")
    return ""


def is_former(arrays: Arrays) -> bool:
    """Returns whether arrays were packed by an earlier version, which numbered them."""
    return any(name.startswith("leaf0") for name in arrays)


def _checksum(arrays: Arrays) -> np.uint32:
    """Returns the CRC-32 of all arrays."""
    checksum = 0
    for name in sorted(arrays.keys() - {_CHECKSUM}):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).view(np.uint8), checksum)
    return np.uint32(checksum)


def _named(state: TrainState) -> list[tuple[str, Any]]:
    """Returns the leaves of a state with the names of their places, such as "params.head": leaves of equal shapes cannot be confused."""
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in jax.tree.leaves_with_path(state)]


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
