"""Against means over lists, and against the same mean over a batch that was cut into parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arl import objectives

B, T = 4, 10
token_mean_weights = jax.jit(objectives.token_mean_weights)
sequence_mean_weights = jax.jit(objectives.sequence_mean_weights)
constant_weights = jax.jit(objectives.constant_weights, static_argnums=1)
weighted_mean = jax.jit(objectives.weighted_mean)
seeds = st.integers(0, 2**32 - 1)


def draw(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, T)).astype(np.float32), rng.random((B, T)) < rng.random(), rng.random((B, T)) < 0.3


def sequences(loss, mask, ends):
    """The kept losses of each sequence that has any."""
    found = []
    for b in range(B):
        for piece in np.split(np.arange(T), [t + 1 for t in range(T) if ends[b, t]]):
            found.append([float(loss[b, t]) for t in piece if mask[b, t]])
    return [tokens for tokens in found if tokens]


def mean(numbers):
    return sum(numbers) / max(len(numbers), 1)


@given(seeds)
def test_means_are_those_of_lists(seed):
    loss, mask, ends = draw(seed)
    whole = np.zeros_like(ends)
    tokens = sum(sequences(loss, mask, whole), [])
    weight, count = token_mean_weights(mask)
    np.testing.assert_allclose(weighted_mean(loss, weight, count), mean(tokens), atol=1e-5)
    for given_ends, cuts in ((None, whole), (ends, ends)):
        weight, count = sequence_mean_weights(mask, given_ends)
        assert count == len(sequences(loss, mask, cuts))
        expected = mean([mean(x) for x in sequences(loss, mask, cuts)])
        np.testing.assert_allclose(weighted_mean(loss, weight, count), expected, atol=1e-5)
    weight, count = constant_weights(mask, 20)
    np.testing.assert_allclose(weighted_mean(loss, weight, count), sum(tokens) / 20 / B, atol=1e-5)


@given(seeds, st.sampled_from(["token", "lane", "sequence", "constant"]), st.sampled_from([1, 2]))
def test_parts_add_up_to_the_whole(seed, how, size):
    loss, mask, ends = draw(seed)

    def weights(rows):
        if how == "constant":
            return constant_weights(mask[rows], 20)
        if how == "token":
            return token_mean_weights(mask[rows])
        return sequence_mean_weights(mask[rows], ends[rows] if how == "sequence" else None)

    parts = [slice(i, i + size) for i in range(0, B, size)]
    total = sum(weights(rows)[1] for rows in parts)
    shares = [weighted_mean(loss[rows], weights(rows)[0], total) for rows in parts]
    weight, count = weights(slice(None))
    assert total == count
    np.testing.assert_allclose(sum(shares), weighted_mean(loss, weight, count), atol=1e-6)


def test_by_hand():
    loss = jnp.array([[1.0, 2.0, 9.0, 6.0], [5.0, 9.0, 9.0, 9.0]])
    mask = jnp.array([[True, True, False, True], [True, False, False, False]])
    ends = jnp.array([[False, True, False, True], [False] * 4])

    def result(weights):
        return weighted_mean(loss, *weights)

    np.testing.assert_allclose(result(token_mean_weights(mask)), 14 / 4)
    np.testing.assert_allclose(result(sequence_mean_weights(mask)), (3 + 5) / 2)
    np.testing.assert_allclose(result(sequence_mean_weights(mask, ends)), (1.5 + 6 + 5) / 3, rtol=1e-6)
    np.testing.assert_allclose(result(constant_weights(mask, 7)), 14 / 14)


def test_nothing_kept_is_no_loss_and_meaningless_losses_do_not_count():
    none = jnp.zeros((B, T), bool)
    for weights in (token_mean_weights, sequence_mean_weights):
        weight, count = weights(none)
        assert count == 0 and weighted_mean(jnp.full((B, T), jnp.nan), weight, count) == 0
    assert objectives.masked_mean(jnp.full((B, T), jnp.nan), none) == 0


def test_a_mean_goes_over_mapped_axes():
    loss, mask, _ = draw(3)
    mapped = jax.vmap(lambda x, m: objectives.masked_mean(x, m, "device"), axis_name="device")(loss, mask)
    np.testing.assert_allclose(mapped, np.full(B, np.mean(np.array(loss)[np.array(mask)])), rtol=1e-5)


def test_a_lane_of_no_tokens_is_refused():
    with pytest.raises(ValueError, match="num_tokens is 0; set it >= 1"):
        objectives.constant_weights(jnp.ones((1, 1), bool), 0)
