"""Against loops over groups, by hand, and by what must not change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arl import objectives

B, G = 12, 4
assert_close = functools.partial(np.testing.assert_allclose, rtol=2e-7, atol=1e-7)  # two units of the last place
grpo = jax.jit(objectives.grpo, static_argnums=1, static_argnames=("normalize", "tolerance"))
rloo = jax.jit(objectives.rloo, static_argnums=1)
leave_one_out_baseline = jax.jit(objectives.leave_one_out_baseline, static_argnums=1)

returns_strategy = st.lists(st.integers(-3, 3), min_size=B, max_size=B).map(lambda x: np.array(x, np.float32) / 2)
mask_strategy = st.lists(st.booleans(), min_size=B, max_size=B).map(np.array)


def loop(episode_return, is_compared, advantage_of):
    """Each group's compared returns, one by one; `advantage_of(own, others)`."""
    advantage, is_used, without = np.zeros(B), np.zeros(B, bool), 0
    for first in range(0, B, G):
        members = [i for i in range(first, first + G) if is_compared[i]]
        if len({float(episode_return[i]) for i in members}) < 2:
            without += 1
            continue
        for i in members:
            is_used[i] = True
            advantage[i] = advantage_of(float(episode_return[i]), [float(episode_return[j]) for j in members if j != i])
    return advantage, is_used, without


def grpo_of(own, others):
    return (own - np.mean([own, *others])) / np.std([own, *others])


def dr_grpo_of(own, others):
    return own - np.mean([own, *others])


def rloo_of(own, others):
    return own - np.mean(others)


@given(returns_strategy, mask_strategy, st.sampled_from(["grpo", "dr_grpo", "rloo"]))
def test_advantages_are_those_of_a_loop(episode_return, is_compared, name):
    expected = loop(episode_return, is_compared, {"grpo": grpo_of, "dr_grpo": dr_grpo_of, "rloo": rloo_of}[name])
    # What is not compared has no meaning.
    dirty = jnp.where(is_compared, episode_return, jnp.nan)
    found = rloo(dirty, G, is_compared) if name == "rloo" else grpo(dirty, G, is_compared, normalize=name == "grpo")
    np.testing.assert_allclose(found.advantage, expected[0], atol=1e-5)
    np.testing.assert_array_equal(found.is_used, expected[1])
    assert found.num_groups_without_variance == expected[2]
    assert found.advantage.dtype == jnp.float32


@given(returns_strategy, mask_strategy)
def test_advantages_of_a_group_add_up_to_0(episode_return, is_compared):
    for found in (
        grpo(episode_return, G, is_compared),
        grpo(episode_return, G, is_compared, normalize=False),
        rloo(episode_return, G, is_compared),
    ):
        np.testing.assert_allclose(found.advantage.reshape(-1, G).sum(1), 0, atol=1e-5)


@given(returns_strategy)
def test_rloo_is_dr_grpo_scaled(episode_return):
    without_deviation = grpo(episode_return, G, normalize=False).advantage
    np.testing.assert_allclose(rloo(episode_return, G).advantage, G / (G - 1) * without_deviation, atol=1e-5)


@given(returns_strategy, st.floats(0.5, 8), st.floats(-4, 4))
def test_normalised_advantages_know_no_unit(episode_return, scale, shift):
    found, other = grpo(episode_return, G), grpo(episode_return * np.float32(scale) + np.float32(shift), G)
    np.testing.assert_allclose(found.advantage, other.advantage, atol=1e-3)


@given(returns_strategy, returns_strategy)
def test_groups_do_not_mix(episode_return, other):
    changed = np.where(np.arange(B) < B - G, other, episode_return)
    for function in (grpo, rloo):
        found, expected = function(changed, G).advantage, function(episode_return, G).advantage
        np.testing.assert_array_equal(found[B - G :], expected[B - G :])


@given(returns_strategy, st.permutations(range(G)))
def test_the_order_within_a_group_is_free(episode_return, order):
    index = (np.arange(0, B, G)[:, None] + np.array(order)).reshape(-1)
    for function in (grpo, rloo):
        np.testing.assert_allclose(function(episode_return[index], G).advantage, function(episode_return, G).advantage[index], atol=1e-6)


def test_by_hand():
    episode_return = jnp.array([0.0, 1.0, 2.0, 0.0, 3.0, 3.0])  # mean 1, deviation sqrt(2/3); mean 2, deviation sqrt(2)
    assert_close(grpo(episode_return, 3).advantage, [-(1.5**0.5), 0, 1.5**0.5, -(2**0.5), 0.5**0.5, 0.5**0.5])
    assert_close(grpo(episode_return, 3, normalize=False).advantage, [-1, 0, 1, -2, 1, 1])
    assert_close(leave_one_out_baseline(episode_return, 3), [1.5, 1, 0.5, 3, 1.5, 1.5])
    assert_close(rloo(episode_return, 3).advantage, [-1.5, 0, 1.5, -3, 1.5, 1.5])
    # The whole batch as one group: an unbiased baseline without groups.
    assert_close(leave_one_out_baseline(episode_return, 6)[0], 9 / 5)


def test_returns_within_the_tolerance_do_not_differ():
    episode_return = jnp.array([0.0, 0.5, 0.0, 0.75])  # exact in float32: the first group's are just so far apart
    for function in (objectives.grpo, objectives.rloo):
        found = function(episode_return, 2, tolerance=0.5)
        assert found.is_used.tolist() == [False, False, True, True] and found.num_groups_without_variance == 1


def test_an_unfinished_episode_enters_no_mean():
    episode_return, is_finished = jnp.array([1.0, 2.0, 900.0, 6.0]), jnp.array([True, True, False, True])
    found = grpo(episode_return, 4, is_finished, normalize=False)
    assert_close(found.advantage, [-2, -1, 0, 3])
    np.testing.assert_array_equal(found.is_used, is_finished)
    assert_close(leave_one_out_baseline(episode_return, 4, is_finished), [4, 3.5, 3, 1.5])


def test_groups_without_variance_are_masked_and_counted():
    tenths = jnp.array([0.1] * 3 + [0.0, 1.0, 0.0] + [7.0] * 3)  # the mean of three tenths is not a tenth in float32
    for found in (grpo(tenths, 3), rloo(tenths, 3)):
        np.testing.assert_array_equal(found.is_used, [False] * 3 + [True] * 3 + [False] * 3)
        np.testing.assert_array_equal(found.advantage == 0, ~found.is_used)
        assert found.num_groups_without_variance == 2


def test_what_differs_by_rounding_alone_is_not_scaled_up():
    nearly = jnp.array([0.3, 0.1 + 0.2, 0.3 + 3e-8, 0.3 - 3e-8], jnp.float32)
    assert not grpo(nearly, 4).is_used.any()
    assert grpo(nearly * 1e6, 4, tolerance=1e-3).is_used.all()


@pytest.mark.parametrize("function", [objectives.grpo, objectives.rloo, objectives.leave_one_out_baseline])
def test_what_cannot_be_grouped_is_refused(function):
    with pytest.raises(ValueError, match="do not divide 6 lanes"):
        function(jnp.zeros(6), 4)
    with pytest.raises(ValueError, match="set it >= 2"):
        function(jnp.zeros(6), 1)
