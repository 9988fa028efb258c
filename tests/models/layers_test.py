"""Stacked or apart, kept or computed again: how layers are held changes no number."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.models import ModelConfig, Variables, make_policy
from arl.models.layers import stack_layers, unstack_layers

CONFIG = ModelConfig(vocab_size=13, width=16, num_layers=2, num_heads=4, num_kv_heads=2, feed_forward_width=24)
_RANDOM = np.random.default_rng(0)
TRAJECTORY = (_RANDOM.integers(0, 13, (3, 33)), np.where(np.arange(33) < 9, 0, 9) * np.ones((3, 1), np.int32))


def make(**changes):
    return make_policy(dataclasses.replace(CONFIG, **changes))


@functools.cache
def built(**changes):
    """A model and its parameters, its layers apart."""
    model = make(**changes)
    return model, model.init(jax.random.key(0))


def loss(model, params, tokens, begin):
    """A scalar that every parameter has a part in."""
    features = model.forward(params, tokens, begin)
    logits = model.logits(params, features, np.arange(CONFIG.vocab_size))
    return jnp.mean(jnp.sin(logits)) + jnp.mean(jnp.sin(model.value(params, features)))


@functools.cache
def reference_gradient():
    model, params = built()
    return jax.jit(jax.value_and_grad(functools.partial(loss, model)))(params, *TRAJECTORY)


@pytest.mark.parametrize("changes", [dict(remat=True), dict(scan_layers=True), dict(remat=True, scan_layers=True), dict(query_block=16)])
def test_how_it_is_computed_changes_neither_loss_nor_gradient(changes):
    _, params = built()
    other = make(**changes)
    is_stacked = changes.get("scan_layers", False)
    given_params = Variables(stack_layers(params.trainable)) if is_stacked else params
    value, gradient = reference_gradient()
    other_value, other_gradient = jax.jit(jax.value_and_grad(functools.partial(loss, other)))(given_params, *TRAJECTORY)
    np.testing.assert_allclose(value, other_value, atol=1e-6)
    other_gradient = Variables(unstack_layers(other_gradient.trainable)) if is_stacked else other_gradient
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, other_gradient)
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("separate_value_trunk", [False, True])
def test_stacking_layers_is_undone_by_unstacking(separate_value_trunk):
    _, params = built(separate_value_trunk=separate_value_trunk)
    scanned = jax.eval_shape(make(separate_value_trunk=separate_value_trunk, scan_layers=True).init, jax.random.key(0)).trainable
    stacked = stack_layers(params.trainable)
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, scanned)
    jax.tree.map(np.testing.assert_array_equal, unstack_layers(stacked), params.trainable)
