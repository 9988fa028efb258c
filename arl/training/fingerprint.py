"""Fingerprints of weights: they tell whether two sets of weights are the same, without keeping either."""

import math
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_SEEDS = np.array([0x9E3779B9, 0x85EBCA6B], np.uint32)


class Fingerprint(NamedTuple):
    """A hash of names, shapes, types and bits of arrays.

    Attributes:
      words: uint32 `[2]`.
    """

    words: jax.Array


@jax.jit
def fingerprint(tree: Any) -> Fingerprint:
    """Computes a fingerprint where the arrays are; it does not depend on how they are divided among devices.

    The bits of each element are hashed with its index (the finaliser of MurmurHash3), and the hashes are added up.

    Args:
      tree: a pytree of arrays.

    Returns:
      The fingerprint.
    """
    words = jnp.zeros(2, jnp.uint32)
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}"
        seeds = _SEEDS ^ np.uint32(zlib.crc32(name.encode()))
        words += jnp.stack([_sum_of_hashes(_bits(leaf), seed) for seed in seeds])
    return Fingerprint(words)


def _sum_of_hashes(bits: jax.Array, seed: np.uint32) -> jax.Array:
    index = jnp.zeros(bits.shape, jnp.uint32)
    for axis, _ in enumerate(bits.shape):
        stride = np.uint32(math.prod(bits.shape[axis + 1 :]) % 2**32)
        index += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * stride
    return jnp.sum(_mix(bits ^ _mix(index ^ seed)), dtype=jnp.uint32) + _mix(jnp.asarray(seed))


def _mix(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _bits(leaf: jax.Array) -> jax.Array:
    """Returns the bits of an array as uint32, with one more axis where an element has more of them."""
    if leaf.dtype == bool or leaf.dtype.itemsize < 4 and jnp.issubdtype(leaf.dtype, jnp.integer):
        return leaf.astype(jnp.uint32)
    word = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)
