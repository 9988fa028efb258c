import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from arl.models import ModelConfig, RotaryScaling, rotary

CONFIG = ModelConfig(vocab_size=11, width=64, num_layers=2, num_heads=1, num_kv_heads=1, feed_forward_width=12)
LLAMA3, YARN = RotaryScaling("llama3", 8.0, 256), RotaryScaling("yarn", 8.0, 256, 1.0, 16.0, 1.3)


def angles(config, index, is_local=False):
    """The angles of the first half of a head at `index`, below half a turn, and the amplitude."""
    cos, sin = (np.asarray(x, np.float64)[0, 0, 0, 0] for x in rotary.rotary(config, jnp.array([[index]]), is_local))
    half = len(cos) // 2
    np.testing.assert_array_equal(cos[:half], cos[half:])
    np.testing.assert_array_equal(sin[:half], -sin[half:])
    return np.arctan2(sin[half:], cos[half:]), np.hypot(cos[0], sin[0])


@pytest.mark.parametrize("scaling", [LLAMA3, YARN])
def test_fast_angles_are_kept_slow_ones_divided_and_the_others_lie_between(scaling):
    half = 32
    factors = rotary.frequency_factors(scaling, 1e4, half)
    rotations = 256 * 1e4 ** (-np.arange(half) / half) / (2 * math.pi)
    assert factors[0] == 1.0 and factors[-1] == np.float32(1 / 8)
    np.testing.assert_array_equal(factors[rotations >= 2 * scaling.fast_rotations], 1.0)
    np.testing.assert_array_equal(factors[rotations <= scaling.slow_rotations / 2], np.float32(1 / 8))
    between = (rotations < scaling.fast_rotations / 1.5) & (rotations > 1.5 * scaling.slow_rotations)
    assert between.any() and ((factors[between] > 1 / 8) & (factors[between] < 1)).all() and (np.diff(factors) <= 0).all()


def test_llama3_interpolates_in_the_number_of_rotations():
    """At a whole number of rotations `r` of the slowest kept share `(r - 1) / 3`, by hand."""
    base = (256 / (2 * math.pi * 2.5)) ** 2  # the second of two pairs turns 2.5 times in 256 tokens
    np.testing.assert_allclose(rotary.frequency_factors(LLAMA3, base, 2)[1], 0.5 + 0.5 / 8, rtol=1e-6)


def test_linear_scaling_is_a_slower_walk():
    scaled = dataclasses.replace(CONFIG, rotary_scaling=RotaryScaling("linear", 4.0))
    np.testing.assert_allclose(angles(scaled, 8)[0], angles(CONFIG, 2)[0], atol=1e-6)


def test_local_layers_have_their_own_base_and_no_scaling():
    options = dict(rotary_scaling=YARN, local_layers=(0,), sliding_window=4)
    config = dataclasses.replace(CONFIG, local_rotary_base=100.0, **options)
    np.testing.assert_array_equal(angles(config, 3, is_local=True)[0], angles(dataclasses.replace(CONFIG, rotary_base=100.0), 3)[0])
    shared = dataclasses.replace(CONFIG, **options)
    np.testing.assert_array_equal(angles(shared, 3, is_local=True)[0], angles(shared, 3)[0])


def test_yarn_scales_the_amplitude():
    np.testing.assert_allclose(angles(dataclasses.replace(CONFIG, rotary_scaling=YARN), 3)[1], 1.3, rtol=1e-6)


def test_products_depend_on_the_distance_alone():
    config = dataclasses.replace(CONFIG, width=4, rotary_scaling=LLAMA3)
    x, y = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)

    def turned(v, index):
        return rotary.rotate(v, *(a[0, 0, 0, 0] for a in rotary.rotary(config, jnp.array([[index]]))))

    def score(i, j):
        return turned(x, i) @ turned(y, j)

    np.testing.assert_allclose(score(9, 4), score(105, 100), atol=1e-5)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3
