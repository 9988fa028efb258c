"""Against the formulas token by token, and against the divergence and its gradient, summed over every token that could be sampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arl import objectives

FORMULAS = {
    objectives.kl_k1: lambda ratio: -np.log(ratio),  # Schulman writes r for reference over policy
    objectives.kl_k2: lambda ratio: np.log(ratio) ** 2 / 2,
    objectives.kl_k3: lambda ratio: (ratio - 1) - np.log(ratio),
}
LOGITS, REFERENCE = jnp.array([0.3, -1.0, 0.8, 0.1]), jnp.array([0.0, 0.5, -0.5, 1.0])


def divergence(logits, other):
    return jax.nn.softmax(logits) @ (jax.nn.log_softmax(logits) - jax.nn.log_softmax(other))


def expected(estimator, logits, sampled_from):
    log_prob, reference = jax.nn.log_softmax(logits)[None], jax.nn.log_softmax(REFERENCE)[None]
    return estimator(log_prob, reference, jnp.ones((1, 4), bool))[0] @ jax.nn.softmax(sampled_from)


@given(st.integers(0, 2**32 - 1))
def test_estimators_are_their_formulas(seed):
    rng = np.random.default_rng(seed)
    log_prob, reference = -rng.exponential(size=(2, 2, 6)).astype(np.float32)
    is_sampled = rng.random((2, 6)) < 0.5
    ratio = np.exp(np.float64(reference)) / np.exp(np.float64(log_prob))
    for estimator, formula in FORMULAS.items():
        found = estimator(log_prob, reference, is_sampled)
        np.testing.assert_allclose(found, np.where(is_sampled, formula(ratio), 0), rtol=1e-4, atol=1e-5)
        assert found.dtype == jnp.float32
    assert (objectives.kl_k3(log_prob, reference, is_sampled) >= 0).all()


@pytest.mark.parametrize("estimator", [objectives.kl_k1, objectives.kl_k3])
def test_k1_and_k3_are_unbiased(estimator):
    np.testing.assert_allclose(expected(estimator, LOGITS, LOGITS), divergence(LOGITS, REFERENCE), rtol=1e-5)


def test_gradients_are_what_the_table_says():
    def gradient(estimator):
        return jax.grad(expected, argnums=1)(estimator, LOGITS, LOGITS)

    np.testing.assert_allclose(gradient(objectives.kl_k1), 0, atol=1e-6)
    np.testing.assert_allclose(gradient(objectives.kl_k2), jax.grad(divergence)(LOGITS, REFERENCE), atol=1e-6)
    np.testing.assert_allclose(gradient(objectives.kl_k3), jax.grad(lambda x: divergence(REFERENCE, x))(LOGITS), atol=1e-6)


def test_in_the_reward_k1_has_the_gradient_of_the_divergence():
    """Written as a penalty, it goes into the advantage: minus the policy gradient of it is the gradient of the divergence."""
    written = jnp.ones((1, 4), bool)
    log_prob, reference = jax.nn.log_softmax(LOGITS)[None], jax.nn.log_softmax(REFERENCE)[None]
    reward = objectives.kl_in_reward(jnp.zeros((1, 4)), objectives.kl_k1(log_prob, reference, written), written, 1.0)

    def loss(logits):
        ratio = objectives.token_ratio(jax.nn.log_softmax(logits)[None], log_prob, written)
        return objectives.policy_gradient(ratio, reward, written)[0] @ jax.nn.softmax(LOGITS)

    np.testing.assert_allclose(jax.grad(loss)(LOGITS), jax.grad(divergence)(LOGITS, REFERENCE), atol=1e-6)


def test_by_hand():
    log_prob, reference = jnp.log(jnp.array([[0.5, 0.5, 0.1]])), jnp.log(jnp.array([[0.25, 0.5, 0.9]]))
    is_sampled = jnp.array([[True, True, False]])
    two = np.log(2)
    np.testing.assert_allclose(objectives.kl_k1(log_prob, reference, is_sampled), [[two, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(objectives.kl_k2(log_prob, reference, is_sampled), [[two**2 / 2, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(objectives.kl_k3(log_prob, reference, is_sampled), [[two - 0.5, 0, 0]], rtol=1e-6)
    charged = objectives.kl_in_reward(jnp.ones((1, 3)), jnp.array([[2.0, 0.0, 7.0]]), is_sampled, 0.25)
    np.testing.assert_allclose(charged, [[0.5, 1, 1]])


def test_k3_keeps_its_digits_where_policies_nearly_agree():
    # d = 1e-4: d^2 / 2 to first order; the naive form has no digit left in float32.
    found = objectives.kl_k3(jnp.full((1, 1), 1e-4), jnp.zeros((1, 1)), jnp.ones((1, 1), bool))
    np.testing.assert_allclose(found, 5e-9, rtol=0.05)


def test_no_gradient_goes_to_the_reference_or_through_a_reward():
    ones = jnp.ones((1, 2))
    for estimator in FORMULAS:
        np.testing.assert_array_equal(jax.grad(lambda x, f=estimator: f(ones, x, ones > 0).sum())(ones * 2), 0)
    np.testing.assert_array_equal(jax.grad(lambda x: objectives.kl_in_reward(ones, x, ones > 0, 0.5).sum())(ones), 0)
