"""Against the definition, candidate by candidate."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arl import objectives
from arl.rollout import masked_log_probs

entropy = jax.jit(lambda logits, support: objectives.categorical_entropy(masked_log_probs(logits, support, 1.0), support))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 30.0]))
def test_entropy_is_its_definition(seed, scale):
    rng = np.random.default_rng(seed)
    logits, support = rng.normal(size=(2, 3, 7)).astype(np.float32) * np.float32(scale), rng.random((2, 3, 7)) < 0.6
    found = entropy(jnp.where(support, logits, jnp.nan), support)
    for index in np.ndindex(2, 3):
        kept = np.float64(logits[index][support[index]])
        weights = np.exp(kept - kept.max()) if kept.size else kept
        probs = weights / weights.sum()
        expected = -sum(p * np.log(p) for p in probs if p > 0)
        np.testing.assert_allclose(found[index], expected, rtol=1e-4, atol=1e-5)


def test_by_hand():
    logits = jnp.log(jnp.array([[0.25, 0.25, 0.5], [0.2, 0.2, 0.6], [1.0, 1.0, 1.0]]))
    support = jnp.array([[True, True, True], [True, True, False], [False, True, False]])
    np.testing.assert_allclose(entropy(logits, support), [1.5 * np.log(2), np.log(2), 0], rtol=1e-6, atol=1e-7)


def test_the_gradient_is_finite_whatever_the_support():
    logits = jnp.array([[0.3, -200.0, 200.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    support = jnp.array([[True, True, True], [False, True, False], [False, False, False]])
    push = jax.grad(lambda x: entropy(x, support).sum())(logits)
    np.testing.assert_allclose(push[1:], 0, atol=1e-6)
    assert jnp.isfinite(push).all()


def test_the_gradient_is_that_of_the_definition():
    logits, support = jnp.array([0.3, -1.0, 0.8, 0.1]), jnp.array([True, False, True, True])

    def definition(kept):
        probs = jnp.exp(kept) / jnp.exp(kept).sum()
        return -(probs * jnp.log(probs)).sum()

    found = jax.grad(lambda x: entropy(x, support))(logits)
    np.testing.assert_allclose(found[support], jax.grad(definition)(logits[support]), rtol=1e-5, atol=1e-7)
    assert found[1] == 0
