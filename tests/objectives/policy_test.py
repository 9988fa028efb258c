"""Against loops over tokens and sequences, by hand, and by exact gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arl import objectives

token_ratio = jax.jit(objectives.token_ratio)
sequence_ratio = jax.jit(objectives.sequence_ratio)
ppo_clip = jax.jit(objectives.ppo_clip, static_argnames=("low", "high"))
push_of = jax.jit(jax.grad(lambda *args, **bounds: objectives.ppo_clip(*args, **bounds)[0].sum()), static_argnames=("low", "high"))


def draw(seed, shape=(3, 12)):
    rng = np.random.default_rng(seed)
    log_prob, behaviour = -rng.exponential(size=(2, *shape)).astype(np.float32)
    return log_prob, behaviour, rng.random(shape) < 0.6, rng.random(shape) < 0.25, rng.normal(size=shape).astype(np.float32)


seeds = st.integers(0, 2**32 - 1)


@given(seeds)
def test_token_ratio_is_a_quotient_of_probabilities(seed):
    log_prob, behaviour, is_sampled, *_ = draw(seed)
    expected = np.where(is_sampled, np.exp(np.float64(log_prob)) / np.exp(np.float64(behaviour)), 1)
    np.testing.assert_allclose(token_ratio(log_prob, behaviour, is_sampled), expected, rtol=1e-5)


@given(seeds, st.booleans())
def test_sequence_ratio_is_a_geometric_mean(seed, has_ends):
    log_prob, behaviour, is_sampled, ends, _ = draw(seed)
    expected = np.ones(log_prob.shape)
    for b in range(expected.shape[0]):
        cuts = [t + 1 for t in range(expected.shape[1]) if ends[b, t]] if has_ends else []
        for piece in np.split(np.arange(expected.shape[1]), cuts):
            tokens = [t for t in piece if is_sampled[b, t]]
            quotient = np.prod([np.exp(float(log_prob[b, t])) / np.exp(float(behaviour[b, t])) for t in tokens])
            expected[b, tokens] = quotient ** (1 / max(len(tokens), 1))
    found = sequence_ratio(log_prob, behaviour, is_sampled, ends if has_ends else None)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_gradient_of_a_sequences_ratio():
    log_prob, behaviour, is_sampled, ends, _ = draw(0)
    is_sampled[:, 0] = True

    def geometric_mean(log_prob):  # equation of GSPO for whole lanes, its own gradient
        length = is_sampled.sum(1)
        return jnp.exp(jnp.where(is_sampled, log_prob - behaviour, 0).sum(1) / length) @ jnp.array([1.0, -2.0, 3.0])

    def by_token(log_prob):
        ratio = objectives.sequence_ratio(log_prob, behaviour, is_sampled)
        return jnp.where(is_sampled, ratio / is_sampled.sum(1, keepdims=True), 0).sum(1) @ jnp.array([1.0, -2.0, 3.0])

    np.testing.assert_allclose(jax.grad(by_token)(log_prob), jax.grad(geometric_mean)(log_prob), rtol=1e-5, atol=1e-7)
    # A token's gradient is its own: with one token's ratio alone in the loss, no other log-prob is pushed.
    alone = jax.grad(lambda x: objectives.sequence_ratio(x, behaviour, is_sampled, ends)[0, 0])(log_prob)
    assert jnp.count_nonzero(alone) == 1


@given(seeds, *[st.sampled_from([0.0, 0.2, 0.7])] * 2)
def test_ppo_clip_is_the_papers_minimum(seed, low, high):
    log_prob, behaviour, is_sampled, _, advantage = draw(seed)
    ratio = np.asarray(token_ratio(log_prob, behaviour, is_sampled))
    loss, is_clipped = ppo_clip(ratio, advantage, is_sampled, low=low, high=high)
    for index in np.ndindex(loss.shape):
        r, a = float(ratio[index]), float(advantage[index])
        held = min(max(r, 1 - low), 1 + high)
        np.testing.assert_allclose(loss[index], -min(r * a, held * a) if is_sampled[index] else 0, rtol=1e-5, atol=1e-6)
    push = push_of(ratio, advantage, is_sampled, low=low, high=high)
    np.testing.assert_array_equal(is_clipped, is_sampled & (push == 0))


def test_ppo_clip_by_hand():
    ratio = jnp.array([[0.5, 0.5, 2.0, 2.0, 1.25, 1.0, 2.0]])
    advantage = jnp.array([[1.0, -1.0, 1.0, -1.0, 1.0, 3.0, 1.0]])
    is_sampled = jnp.array([[True] * 6 + [False]])
    loss, is_clipped = ppo_clip(ratio, advantage, is_sampled, low=0.2, high=0.3)
    np.testing.assert_allclose(loss, [[-0.5, 0.8, -1.3, 2, -1.25, -3, 0]], rtol=1e-6)
    np.testing.assert_array_equal(is_clipped, [[False, True, True, False, False, False, False]])
    # Clip-higher: what 0.2 above would clip is not.
    assert ppo_clip(ratio, advantage, is_sampled, low=0.2, high=0.2)[1][0, 4]


def test_on_policy_both_losses_have_the_gradient_of_reinforce():
    log_prob, _, is_sampled, _, advantage = draw(1)

    def surrogate(log_prob, behaviour):
        return objectives.policy_gradient(objectives.token_ratio(log_prob, behaviour, is_sampled), advantage, is_sampled).sum()

    def clipped(log_prob, behaviour):
        return objectives.ppo_clip(objectives.token_ratio(log_prob, behaviour, is_sampled), advantage, is_sampled)[0].sum()

    expected = -np.where(is_sampled, advantage, 0)
    for loss in (surrogate, clipped):
        own, others = jax.grad(loss, argnums=(0, 1))(log_prob, log_prob)
        np.testing.assert_allclose(own, expected, rtol=1e-6)
        np.testing.assert_array_equal(others, 0)


def test_the_expected_gradient_is_that_of_the_expected_return():
    logits, reward = jnp.array([0.3, -1.0, 0.8, 0.1]), jnp.array([1.0, 5.0, -2.0, 0.5])
    exact = jax.grad(lambda x: jax.nn.softmax(x) @ reward)(logits)
    behaviour = jax.nn.softmax(jnp.array([0.0, 0.5, -0.5, 1.0]))
    written = jnp.ones((1, 4), bool)

    def loss(logits, sampled_from, baseline):  # every token that could have been sampled, by its probability
        ratio = objectives.token_ratio(jax.nn.log_softmax(logits)[None], jnp.log(sampled_from)[None], written)
        return objectives.policy_gradient(ratio, (reward - baseline)[None], written)[0] @ sampled_from

    for sampled_from in (jax.nn.softmax(logits), behaviour):
        for baseline in (0.0, 3.0):
            np.testing.assert_allclose(-jax.grad(loss)(logits, sampled_from, baseline), exact, atol=1e-5)


def test_no_gradient_goes_through_an_advantage():
    ones = jnp.ones((1, 2))
    for loss in (objectives.policy_gradient, lambda *args: objectives.ppo_clip(*args)[0]):
        np.testing.assert_array_equal(jax.grad(lambda a, loss=loss: loss(ones, a, ones > 0).sum())(ones), 0)


def test_meaningless_log_probs_neither_count_nor_poison_the_gradient():
    log_prob, behaviour = jnp.array([[-1.0, -1e30]]), jnp.array([[-1.0, -jnp.inf]])
    is_sampled = jnp.array([[True, False]])
    for ratio in (objectives.token_ratio, objectives.sequence_ratio):
        value, push = jax.value_and_grad(lambda x, ratio=ratio: ratio(x, behaviour, is_sampled).sum())(log_prob)
        assert value == 2
        np.testing.assert_allclose(push, [[1, 0]])


def test_bounds_that_cannot_be_are_refused():
    ones = jnp.ones((1, 1))
    for low, high in ((-0.1, 0.2), (1.5, 0.2), (0.2, -0.1)):
        with pytest.raises(ValueError, match="set 0 <= low <= 1 and high >= 0"):
            objectives.ppo_clip(ones, ones, ones > 0, low=low, high=high)


def test_a_ratio_at_its_bound_keeps_its_gradient_and_an_advantage_of_nothing_has_none_to_lose():
    ratio, advantage = jnp.array([[1.5, 0.5, 1.75, 0.25, 4.0, 0.1]]), jnp.array([[1.0, -1.0, 1.0, -1.0, 0.0, 0.0]])
    _, is_clipped = ppo_clip(ratio, advantage, jnp.ones((1, 6), bool), low=0.5, high=0.5)
    assert is_clipped.tolist() == [[False, False, True, True, False, False]]
