"""Blocks of each type stand for what the package `gguf` computes, and what the format says in plain Python."""

import gguf
import numpy as np
import pytest

from arl.models.dequantise import KINDS, OTHERS

RANDOM = np.random.default_rng(0)


def random_blocks(kind):
    """40 blocks of any bytes, with such numbers of 16 bits as quantised weights have, wherever one of that type may stand."""
    if kind.elements == 1:
        return RANDOM.normal(size=(40, 1)).astype(np.float16 if kind.name == "F16" else np.float32).view(np.uint8).reshape(-1, kind.size)
    blocks = RANDOM.integers(0, 256, (40, kind.size), np.uint8)
    halves = RANDOM.uniform(-2, 2, (40, 2)).astype(np.float16).view(np.uint8)
    blocks[:, :4], blocks[:, -2:] = halves, halves[:, :2]
    return blocks


@pytest.mark.parametrize("number", KINDS)
def test_random_blocks_stand_for_what_the_package_computes(number):
    kind, theirs = KINDS[number], gguf.GGMLQuantizationType(number)
    assert (kind.name, (kind.elements, kind.size)) == (theirs.name, gguf.GGML_QUANT_SIZES[theirs])
    blocks = random_blocks(kind)
    floats = kind.floats(blocks).astype(np.float32)
    assert floats.shape == (len(blocks), kind.elements) and np.isfinite(floats).all()
    np.testing.assert_array_equal(floats.ravel(), gguf.quants.dequantize(blocks, theirs).ravel())


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
