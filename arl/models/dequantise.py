"""Types of the elements of GGUF files, and the floats that their blocks stand for, as ggml's `dequantize_row_*` compute them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np


class Kind(NamedTuple):
    """A type of elements.

    Attributes:
      name: its name in ggml.
      elements: elements of one block.
      size: bytes of one block.
      floats: `uint8 [blocks, size] -> [blocks, elements]`, what they stand for.
    """

    name: str
    elements: int
    size: int
    floats: Callable[[np.ndarray], np.ndarray]


def _half(blocks, start):
    """Returns the number of 16 bits that stands at byte `start` of each block, float32 `[blocks, 1]`."""
    return blocks[:, start : start + 2].copy().view(np.float16).astype(np.float32)


def _nibbles(packed):
    """Returns the lower halves of bytes, then the upper ones, `[blocks, 2 * bytes]`."""
    return np.concatenate([packed & 15, packed >> 4], 1)


def _fifth_bits(blocks, start):
    """Returns the highest of five bits of each element of a block, from four bytes, at its place, `[blocks, 32]`."""
    return np.unpackbits(blocks[:, start : start + 4], axis=1, bitorder="little") << 4


def _plain(dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda blocks: blocks.view(dtype)


def _q4_0(blocks):
    return (_nibbles(blocks[:, 2:]).astype(np.float32) - 8) * _half(blocks, 0)


def _q4_1(blocks):
    return _nibbles(blocks[:, 4:]).astype(np.float32) * _half(blocks, 0) + _half(blocks, 2)


def _q5_0(blocks):
    return ((_nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)).astype(np.float32) - 16) * _half(blocks, 0)


def _q5_1(blocks):
    return (_nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)).astype(np.float32) * _half(blocks, 0) + _half(blocks, 2)


def _q8_0(blocks):
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _half(blocks, 0)


KINDS = {
    0: Kind("F32", 1, 4, _plain(np.float32)),
    1: Kind("F16", 1, 2, _plain(np.float16)),
    2: Kind("Q4_0", 32, 18, _q4_0),
    3: Kind("Q4_1", 32, 20, _q4_1),
    6: Kind("Q5_0", 32, 22, _q5_0),
    7: Kind("Q5_1", 32, 24, _q5_1),
    8: Kind("Q8_0", 32, 34, _q8_0),
    30: Kind("BF16", 1, 2, _plain(jnp.bfloat16)),
}
"""The types that are read, by their numbers."""

OTHERS = {
    **dict(enumerate("Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS".split(), 9)),
    **dict(enumerate("I8 I16 I32 I64 F64 IQ1_M".split(), 24)),
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
"""Names of the types that are not."""
