"""Against loops, by hand, and by which gradients are held back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arl import objectives

value_loss = jax.jit(objectives.value_loss)
clipped_value_loss = jax.jit(objectives.clipped_value_loss, static_argnames="clip")
push_of = jax.jit(jax.grad(lambda *args, clip: objectives.clipped_value_loss(*args, clip=clip)[0].sum()), static_argnames="clip")


def draw(seed):
    rng = np.random.default_rng(seed)
    value, old_value, target = rng.normal(size=(3, 2, 8)).astype(np.float32)
    return value, old_value, target, rng.random((2, 8)) < 0.6


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.5, 2.0]))
def test_losses_are_their_formulas(seed, clip):
    value, old_value, target, is_sampled = draw(seed)
    free = value_loss(value, target, is_sampled)
    bounded, is_clipped = clipped_value_loss(value, old_value, target, is_sampled, clip=clip)
    push = push_of(value, old_value, target, is_sampled, clip=clip)
    for index in np.ndindex(free.shape):
        v, old, wanted = (float(x[index]) for x in (value, old_value, target))
        held = min(max(v, old - clip), old + clip)
        losses = [(v - wanted) ** 2 / 2, max((v - wanted) ** 2, (held - wanted) ** 2) / 2]
        np.testing.assert_allclose([free[index], bounded[index]], losses if is_sampled[index] else 0, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(is_clipped, is_sampled & (push == 0))


def test_by_hand():
    value, old_value, target = jnp.array([[3.0, 3.0, 0.0, 5.0]]), jnp.array([[1.0, 1.0, 1.0, 1.0]]), jnp.array([[3.0, 0.0, 0.0, 9.0]])
    is_sampled = jnp.array([[True, True, True, False]])
    np.testing.assert_allclose(objectives.value_loss(value, target, is_sampled), [[0, 4.5, 0, 0]])
    # Held within 1/2 of 1: 1.5, 1.5, 0.5. The first gains nothing from having gone to 3, the second is as wrong as it is.
    loss, is_clipped = objectives.clipped_value_loss(value, old_value, target, is_sampled, clip=0.5)
    np.testing.assert_allclose(loss, [[1.125, 4.5, 0.125, 0]])
    np.testing.assert_array_equal(is_clipped, [[True, False, True, False]])


def test_targets_and_old_values_are_held_constant():
    value, old_value, target, is_sampled = draw(0)
    np.testing.assert_array_equal(jax.grad(lambda x: objectives.value_loss(value, x, is_sampled).sum())(target), 0)
    for wrong in jax.grad(lambda o, t: objectives.clipped_value_loss(value, o, t, is_sampled, clip=0.2)[0].sum(), (0, 1))(
        old_value, target
    ):
        np.testing.assert_array_equal(wrong, 0)


def test_explained_variance():
    target, mask = jnp.array([[1.0, 3.0, 5.0, 1e6]]), jnp.array([[True, True, True, False]])
    # Errors 0, 0, 3: variance 2; targets: variance 8/3.
    np.testing.assert_allclose(objectives.explained_variance(jnp.array([[1.0, 3.0, 2.0, 0.0]]), target, mask), 1 - 2 / (8 / 3), rtol=1e-6)
    assert objectives.explained_variance(target + 2, target, mask) == 1
    np.testing.assert_allclose(objectives.explained_variance(jnp.ones((1, 4)), target, mask), 0, atol=1e-6)
    assert objectives.explained_variance(-target, target, mask) < 0
    # Tenths, whose mean is not quite a tenth.
    assert objectives.explained_variance(jnp.zeros((3, 7)), jnp.full((3, 7), 0.1), jnp.ones((3, 7), bool)) == 0


def test_explained_variance_goes_over_mapped_axes():
    value, _, target, mask = draw(5)
    function = jax.vmap(lambda *x: objectives.explained_variance(*x, axis_name="device"), axis_name="device")
    whole = objectives.explained_variance(value, target, mask)
    np.testing.assert_allclose(function(value, target, mask), np.full(2, whole), rtol=1e-5)


def test_a_bound_of_0_is_refused():
    with pytest.raises(ValueError, match="clip is 0.0; set it above 0"):
        objectives.clipped_value_loss(*(jnp.zeros((1, 1)),) * 3, jnp.ones((1, 1), bool), clip=0.0)
