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


def _scales_and_offsets(blocks):
    """Returns what the elements of eight parts of a block are multiplied by and what is taken off, float32 `[blocks, 8, 1]` each.

    Six bits of each, and two numbers for all: four parts have theirs in bytes 4 to 11, the other four in bytes 12 to 15 and the upper bits.
    """
    low, high, rest = (blocks[:, start : start + 4] for start in (4, 8, 12))
    scales = np.concatenate([low & 63, rest & 15 | low >> 6 << 4], 1)
    offsets = np.concatenate([high & 63, rest >> 4 | high >> 6 << 4], 1)
    return (_half(blocks, 0) * scales)[:, :, None], (_half(blocks, 2) * offsets)[:, :, None]


def _eight_parts(packed):
    """Returns bytes as parts of 32 elements: the lower halves of 32 bytes, then their upper ones, `[blocks, 8, 32]`."""
    packed = packed.reshape(-1, 4, 1, 32)
    return np.concatenate([packed & 15, packed >> 4], 2).reshape(-1, 8, 32)


def _q4_k(blocks):
    scales, offsets = _scales_and_offsets(blocks)
    return (_eight_parts(blocks[:, 16:]) * scales - offsets).reshape(-1, 256)


def _q5_k(blocks):
    scales, offsets = _scales_and_offsets(blocks)
    fifth = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return ((_eight_parts(blocks[:, 48:]) | fifth << 4) * scales - offsets).reshape(-1, 256)


def _q6_k(blocks):
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], 2).reshape(-1, 2, 4, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3
    scales = _half(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return (((low | high << 4).reshape(-1, 16, 16).astype(np.float32) - 32) * scales[:, :, None]).reshape(-1, 256)


KINDS = {
    0: Kind("F32", 1, 4, _plain(np.float32)),
    1: Kind("F16", 1, 2, _plain(np.float16)),
    2: Kind("Q4_0", 32, 18, _q4_0),
    3: Kind("Q4_1", 32, 20, _q4_1),
    6: Kind("Q5_0", 32, 22, _q5_0),
    7: Kind("Q5_1", 32, 24, _q5_1),
    8: Kind("Q8_0", 32, 34, _q8_0),
    12: Kind("Q4_K", 256, 144, _q4_k),
    13: Kind("Q5_K", 256, 176, _q5_k),
    14: Kind("Q6_K", 256, 210, _q6_k),
    30: Kind("BF16", 1, 2, _plain(jnp.bfloat16)),
}
"""The types that are read, by their numbers."""

OTHERS = {
    **dict(enumerate("Q8_1 Q2_K Q3_K".split(), 9)),
    **dict(enumerate("Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS".split(), 15)),
    **dict(enumerate("I8 I16 I32 I64 F64 IQ1_M".split(), 24)),
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
"""Names of the types that are not."""
