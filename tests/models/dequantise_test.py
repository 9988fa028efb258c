"""Blocks of each type stand for what the package `gguf` computes, and what the format says in plain Python."""

import gguf
import numpy as np
import pytest

from arl.models.dequantise import KINDS, OTHERS

RANDOM = np.random.default_rng(0)


def scales(blocks, count):
    """Replaces the `count` numbers of 16 bits at the beginning of each block by such as quantised weights have."""
    blocks[:, : 2 * count] = RANDOM.uniform(-2, 2, (len(blocks), count)).astype(np.float16).view(np.uint8)
    return blocks


@pytest.mark.parametrize("number", KINDS)
def test_random_blocks_stand_for_what_the_package_computes(number):
    kind, theirs = KINDS[number], gguf.GGMLQuantizationType(number)
    assert (kind.name, (kind.elements, kind.size)) == (theirs.name, gguf.GGML_QUANT_SIZES[theirs])
    if kind.elements == 1:
        blocks = RANDOM.normal(size=(40, 1)).astype({"F32": np.float32, "F16": np.float16}.get(kind.name, np.float32)).view(np.uint8)
        blocks = blocks.reshape(-1, kind.size)
    else:
        blocks = scales(RANDOM.integers(0, 256, (40, kind.size), np.uint8), 2 if kind.name.endswith("_1") else 1)
    floats = kind.floats(blocks)
    assert floats.shape == (len(blocks), kind.elements)
    np.testing.assert_array_equal(floats.astype(np.float32).ravel(), gguf.quants.dequantize(blocks, theirs).astype(np.float32).ravel())


def test_a_block_is_what_the_format_says():
    """Element i is in the lower half of byte i, element i + 16 in the upper one."""
    quants = [(7 * index + 3) % 16 for index in range(32)]
    packed = bytes(quants[index] | quants[index + 16] << 4 for index in range(16))
    half = lambda *numbers: np.array(numbers, np.float16).tobytes()
    block = lambda data: np.frombuffer(data, np.uint8)[None]
    named = {kind.name: kind.floats for kind in KINDS.values()}
    np.testing.assert_array_equal(named["Q4_0"](block(half(0.5) + packed))[0], [0.5 * (q - 8) for q in quants])
    np.testing.assert_array_equal(named["Q4_1"](block(half(0.25, -1.5) + packed))[0], [0.25 * q - 1.5 for q in quants])
    signed = np.arange(-16, 16, dtype=np.int8)
    np.testing.assert_array_equal(named["Q8_0"](block(half(0.125) + signed.tobytes()))[0], 0.125 * signed)


def test_names_are_those_of_ggml():
    known = {kind.value: kind.name for kind in gguf.GGMLQuantizationType}
    assert {number: known[number] for number in OTHERS} == OTHERS
    assert not OTHERS.keys() & KINDS.keys()
