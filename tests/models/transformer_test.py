"""The forward pass against a transcription in NumPy, written from the papers one token and one head at a time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.models import ModelConfig, make_policy, transformer

CONFIG = ModelConfig(vocab_size=11, width=16, num_layers=2, num_heads=4, num_kv_heads=2, feed_forward_width=12, query_block=3)


def randomised(params, key):
    """Parameters at unit-like size, norms included, so that no term is too small to be seen."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(tree, [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)])


def norm(x, scale, epsilon):
    return x / np.sqrt(np.mean(x**2) + epsilon) * scale


def turn(x, index, base):
    half = len(x) // 2
    pairs = x[:half] + 1j * x[half:]  # a rotation of the plane is a product with a unit complex number
    turned = pairs * np.exp(1j * index * base ** (-np.arange(half) / half))
    return np.concatenate([turned.real, turned.imag])


def forward(config, params, tokens, context_start):
    """Features `[T, D]` of one trajectory."""
    trunk, d, groups = params["trunk"], config.head_width, config.heads_per_kv_head
    stream = [trunk["embedding"][token] for token in tokens]
    for i in range(config.num_layers):
        layer = trunk[f"layers_{i}"]
        normed = [norm(x, layer["attention_norm"], config.norm_epsilon) for x in stream]
        mixed = [np.zeros(config.num_heads * d) for _ in stream]
        for head in range(config.num_heads):
            kernel = layer["qkv"][:, head // groups]  # the group's query heads, then its key, then its value
            query = [turn(x @ kernel[:, head % groups], t - context_start[t], config.rotary_base) for t, x in enumerate(normed)]
            key = [turn(x @ kernel[:, groups], t - context_start[t], config.rotary_base) for t, x in enumerate(normed)]
            value = [x @ kernel[:, groups + 1] for x in normed]
            for t in range(len(tokens)):
                seen = range(context_start[t], t + 1)
                score = np.array([query[t] @ key[s] / np.sqrt(d) for s in seen])
                weight = np.exp(score) / np.sum(np.exp(score))
                mixed[t][head * d : (head + 1) * d] = sum(w * value[s] for w, s in zip(weight, seen))
        stream = [x + m @ layer["out"] for x, m in zip(stream, mixed)]
        for t, x in enumerate(stream):
            hidden = norm(x, layer["feed_forward_norm"], config.norm_epsilon)
            gate, up = hidden @ layer["gate_up"][:, 0], hidden @ layer["gate_up"][:, 1]
            stream[t] = x + (gate / (1 + np.exp(-gate)) * up) @ layer["down"]
    return np.stack([norm(x, trunk["norm"], config.norm_epsilon) for x in stream])


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_equals_a_transcription_in_numpy(num_kv_heads, tie_embeddings):
    config = dataclasses.replace(CONFIG, num_kv_heads=num_kv_heads, tie_embeddings=tie_embeddings)
    model = make_policy(config)
    params = randomised(model.init(jax.random.key(0)), jax.random.key(1))
    tokens = np.asarray(jax.random.randint(jax.random.key(2), (2, 8), 0, config.vocab_size))
    context_start = np.array([[0] * 8, [0, 0, 0, 3, 3, 3, 3, 3]])
    features = jax.jit(model.forward)(params, tokens, context_start)
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params.trainable)
    expected = np.stack([forward(config, wide, *row) for row in zip(tokens, context_start)])
    np.testing.assert_allclose(features, expected, atol=2e-5)
    candidates = np.array([1, 4, 9])
    table = wide["trunk"]["embedding"] if tie_embeddings else wide["head"]
    np.testing.assert_allclose(model.logits(params, features, candidates), expected @ table[candidates].T, atol=1e-4)
    np.testing.assert_allclose(model.value(params, features), expected @ wide["value_head"], atol=1e-4)


@pytest.mark.parametrize("context_length", [None, 1, 4, 100])
@pytest.mark.parametrize("window", [None, 3])
def test_blocks_cover_each_query_once_and_all_that_it_may_see(context_length, window):
    config = dataclasses.replace(CONFIG, context_length=context_length, query_block=4)
    blocks = transformer.query_blocks(config, 11, window)
    assert [t for start, end, _ in blocks for t in range(start, end)] == list(range(11))
    for start, end, first in blocks:
        oldest = max(0, start + 1 - min(context_length or 11, window or 11))
        assert first == oldest and end - start <= 4


def test_a_call_wider_than_the_ring_is_refused():
    model = make_policy(CONFIG)
    params, tokens = jax.eval_shape(model.init, jax.random.key(0)), jnp.zeros((1, 5), jnp.int32)
    with pytest.raises(ValueError, match="does not fit a cache of 4 slots"):
        jax.eval_shape(model.read, params, tokens, tokens, tokens, tokens > 0, model.empty_cache(1, 4), None)


def test_a_local_layer_sees_its_window_alone():
    """A change of one token is seen by the tokens of one window, at each layer: two layers see almost two windows."""
    window, changed = 4, 5
    sizes = dict(sliding_window=window, query_block=3)
    for local, last in (((0, 1), changed + 2 * (window - 1)), ((0,), 19)):
        model = make_policy(dataclasses.replace(CONFIG, local_layers=local, **sizes))
        params = randomised(model.init(jax.random.key(0)), jax.random.key(1))
        tokens = jnp.zeros((1, 20), jnp.int32)
        features = [model.forward(params, t, jnp.zeros_like(t)) for t in (tokens, tokens.at[0, changed].set(3))]
        seen = np.flatnonzero(np.abs(features[0] - features[1]).max((0, 2)))
        np.testing.assert_array_equal(seen, np.arange(changed, last + 1))


def test_a_cap_bounds_and_hardly_moves_what_is_far_below():
    x = jnp.array([-1e6, -0.1, 0.0, 0.1, 3.0, 1e6])
    np.testing.assert_allclose(transformer.soft_cap(x, 30.0), [-30.0, -0.1, 0.0, 0.1, 30 * np.tanh(0.1), 30.0], atol=1e-5)
    assert transformer.soft_cap(x, None) is x
