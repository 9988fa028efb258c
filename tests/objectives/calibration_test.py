"""Scores of stated probabilities, against sums by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from arl import objectives


def test_the_brier_score_is_the_squared_error():
    confidence, is_right = jnp.array([0.75, 0.75, 0.0, 1.0]), jnp.array([True, False, False, False])
    found = objectives.brier(confidence, is_right, jnp.array([True, True, True, False]))
    np.testing.assert_allclose(found, [0.0625, 0.5625, 0.0, 0.0])


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.8, 1.0])
def test_no_constant_has_a_smaller_mean_brier_score_than_the_chance(chance):
    grid = jnp.linspace(0, 1, 101)
    score = lambda is_right: objectives.brier(grid, jnp.full(101, is_right), jnp.ones(101, bool))
    mean = chance * score(True) + (1 - chance) * score(False)
    assert float(grid[jnp.argmin(mean)]) == pytest.approx(chance, abs=1e-6)
    np.testing.assert_allclose(mean.min(), chance * (1 - chance), atol=1e-6)


def test_the_calibration_error_is_the_gap_of_each_bin_by_its_size():
    """Two bins: 0.2 and 0.3 of which one is right, and 0.9, all wrong but one that does not count."""
    confidence = jnp.array([[0.2, 0.3, 0.9], [0.9, 0.9, 1.0]])
    is_right = jnp.array([[True, False, False], [False, True, True]])
    mask = jnp.array([[True, True, True], [True, False, False]])
    found = objectives.calibration_error(confidence, is_right, mask, num_bins=2)
    np.testing.assert_allclose(found, (2 * abs(0.25 - 0.5) + 2 * 0.9) / 4, rtol=1e-6)
    assert objectives.calibration_error(confidence, is_right, jnp.zeros((2, 3), bool)) == 0


def test_a_base_rate_is_calibrated_and_certainty_is_its_own_bin():
    half = jnp.full(8, 0.5)
    assert objectives.calibration_error(half, jnp.arange(8) < 4, jnp.ones(8, bool)) == 0
    assert objectives.calibration_error(jnp.ones(4), jnp.ones(4, bool), jnp.ones(4, bool)) == 0
