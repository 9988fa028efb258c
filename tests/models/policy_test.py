"""Reading through the ring and scoring whole trajectories are one function, whatever the calls, lanes and contexts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arl.models import ModelConfig, RotaryScaling, Variables, make_policy, num_slots
from arl.models.layers import unstack_layers

CONFIG = ModelConfig(vocab_size=13, width=16, num_layers=2, num_heads=4, num_kv_heads=2, feed_forward_width=24, query_block=64)
LANES, LENGTH, WIDTH, CONTEXT = 3, 33, 6, 10
SLOTS = num_slots(CONTEXT, WIDTH)  # half a trajectory: every lane goes round the ring


@functools.cache
def built(**changes):
    """The model, its parameters, and `read` and `score` compiled."""
    model = make_policy(dataclasses.replace(CONFIG, **changes))
    return model, model.init(jax.random.key(0)), jax.jit(model.read), jax.jit(model.forward)


def trajectory(seed=0, lanes=LANES, length=LENGTH, context=CONTEXT):
    """Tokens and `context_start`, `[B, T]`, with contexts of random lengths up to `context`."""
    random = np.random.default_rng(seed)
    context_start = np.zeros((lanes, length), np.int32)
    for row in context_start:
        start = 0
        while start < length:
            end = start + random.integers(1, context + 1)
            row[start:end] = start
            start = end
    return random.integers(0, CONFIG.vocab_size, (lanes, length)).astype(np.int32), context_start


def read_in_chunks(read, params, cache, tokens, context_start, chunks, width=WIDTH):
    """Features `[B, T, D]` read call by call; `chunks` holds the tokens of each lane at each call, `[calls][lanes]`."""
    lanes, length = tokens.shape
    at = np.zeros(lanes, np.int32)
    features = np.full((lanes, length, CONFIG.width), np.nan, np.float32)
    rows = np.arange(lanes)
    for counts in chunks:
        count = np.minimum(counts, length - at)
        position = at[:, None] + np.arange(width, dtype=np.int32)
        is_valid = np.arange(width) < count[:, None]
        where = np.minimum(position, length - 1)
        out, cache = read(params, tokens[rows[:, None], where], position, context_start[rows[:, None], where], is_valid, cache, None)
        features[rows[:, None].repeat(width, 1)[is_valid], position[is_valid]] = np.asarray(out, np.float32)[is_valid]
        at = at + count
    assert (at == length).all(), "the chunks do not add up to the trajectory"
    return features


@st.composite
def chunkings(draw):
    """Tokens read at each call by each lane, each lane at its own pace, until all have read all."""
    calls, left = [], np.full(LANES, LENGTH)
    while left.any():
        counts = np.array(draw(st.lists(st.integers(0, WIDTH), min_size=LANES, max_size=LANES)))
        counts[0 if not counts.any() else slice(0, 0)] = WIDTH
        counts = np.minimum(np.maximum(counts, (left > 0) * (len(calls) > 30) * WIDTH), left)
        calls.append(counts)
        left = left - counts
    return calls


@settings(max_examples=25, deadline=None)
@given(chunkings(), st.integers(0, 1000))
def test_reading_in_any_chunks_round_the_ring_is_scoring(chunks, seed):
    model, params, read, score = built()
    tokens, context_start = trajectory(seed)
    features = read_in_chunks(read, params, model.empty_cache(LANES, SLOTS), tokens, context_start, chunks)
    np.testing.assert_allclose(features, score(params, tokens, context_start), atol=1e-5)


EVERYTHING = dict(
    head_dim=6,
    qkv_bias=True,
    query_key_norm=True,
    sandwich_norm=True,
    norm_plus_one=True,
    activation="gelu_tanh",
    embedding_scale=4.0,
    query_scale=0.3,
    attention_cap=2.0,
    logit_cap=3.0,
    sliding_window=4,
    local_layers=(0,),
    local_rotary_base=100.0,
    rotary_scaling=RotaryScaling("llama3", 4.0, 16),
)


@pytest.mark.parametrize("query_block", [5, 64])
def test_a_model_with_everything_reads_as_it_scores(query_block):
    model, params, read, score = built(**EVERYTHING, query_block=query_block, context_length=CONTEXT)
    tokens, context_start = trajectory()
    chunks = [[WIDTH, 1, 3]] * LENGTH
    features = read_in_chunks(read, params, model.empty_cache(LANES, SLOTS), tokens, context_start, chunks)
    np.testing.assert_allclose(features, score(params, tokens, context_start), atol=1e-5)
    assert np.abs(model.logits(params, 100 * features, np.arange(5))).max() <= 3.0


def test_local_layers_alone_run_under_a_scan():
    options = dict(sliding_window=4, local_layers=(0, 1))
    model, params, read, score = built(**options, scan_layers=True)
    tokens, context_start = trajectory()
    expected = score(params, tokens, context_start)
    chunks = [[WIDTH] * LANES] * -(-LENGTH // WIDTH)
    features = read_in_chunks(read, params, model.empty_cache(LANES, SLOTS), tokens, context_start, chunks)
    np.testing.assert_allclose(features, expected, atol=1e-5)
    apart = Variables(unstack_layers(params.trainable))
    np.testing.assert_allclose(built(**options)[3](apart, tokens, context_start), expected, atol=1e-5)


@pytest.mark.parametrize("width", [1, 20])
def test_reading_at_any_width_is_scoring(width):
    model, params, read, score = built()
    tokens, context_start = trajectory()
    chunks = [[width] * LANES] * -(-LENGTH // width)
    features = read_in_chunks(read, params, model.empty_cache(LANES, num_slots(CONTEXT, width)), tokens, context_start, chunks, width)
    np.testing.assert_allclose(features, score(params, tokens, context_start), atol=1e-5)


def test_the_ring_that_num_slots_rounds_up_is_enough_and_one_shorter_than_a_context_is_not():
    model, params, read, score = built()
    tokens, context_start = trajectory()
    # Contexts of the full length, which begin within a call: the first token of a call sees the oldest that there can be.
    context_start[:] = np.maximum(0, (np.arange(LENGTH) + 4) // CONTEXT * CONTEXT - 4)
    expected = np.asarray(score(params, tokens, context_start))
    chunks = [[WIDTH] * LANES] * -(-LENGTH // WIDTH)

    def error(slots):
        return np.abs(read_in_chunks(read, params, model.empty_cache(LANES, slots), tokens, context_start, chunks) - expected).max()

    assert error(CONTEXT + WIDTH - 1) < 1e-5
    assert error(CONTEXT - 1) > 1e-3


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("separate_value_trunk", [False, True])
def test_reading_a_subset_of_the_lanes_is_reading_all(scan_layers, separate_value_trunk):
    model, params, read, _ = built(scan_layers=scan_layers, separate_value_trunk=separate_value_trunk)
    tokens, context_start = trajectory(length=4 * WIDTH)
    cache = model.empty_cache(LANES, SLOTS)
    tokens, context_start = tokens.reshape(LANES, 4, WIDTH), context_start.reshape(LANES, 4, WIDTH)
    position = np.broadcast_to(np.arange(4 * WIDTH, dtype=np.int32).reshape(4, WIDTH), tokens.shape)
    is_valid = np.ones((LANES, WIDTH), bool)
    subsets, whole = cache, cache
    for call in range(4):
        now = tokens[:, call], position[:, call], context_start[:, call], is_valid
        expected, whole = read(params, *now, whole, None)
        for rows in (np.array([2, 0]), np.array([1])):
            features, subsets = read(params, *(x[rows] for x in now), subsets, jnp.asarray(rows))
            jax.tree.map(lambda a, b, rows=rows: np.testing.assert_allclose(a, b[rows], atol=1e-5), features, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), subsets, whole)


def test_a_lane_that_waits_and_tokens_that_are_not_valid_leave_the_cache_as_it_is():
    model, params, read, _ = built()
    tokens, context_start = trajectory(length=WIDTH)
    position = np.broadcast_to(np.arange(WIDTH, dtype=np.int32), tokens.shape)
    filled = jax.tree.map(lambda x: x + 7.0, model.empty_cache(LANES, SLOTS))
    is_valid = np.zeros((LANES, WIDTH), bool)
    is_valid[1, :2] = True
    features, cache = read(params, tokens, position, context_start, is_valid, filled, None)
    assert np.isfinite(features).all()
    for layer in cache:
        changed = np.asarray(layer.values[:, 0, :, 0] != 7.0)
        assert changed[1, :2].all() and changed.sum() == 2
        np.testing.assert_array_equal(changed, np.asarray(layer.keys[:, 0, 0, :] != 7.0))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, LENGTH - 1), st.integers(0, 1000))
def test_after_forgetting_all_is_as_in_a_fresh_context(forgotten, seed):
    _, params, _, score = built()
    tokens, _ = trajectory(seed)
    context_start = np.where(np.arange(LENGTH) < forgotten, 0, forgotten) * np.ones((LANES, 1), np.int32)
    fresh = np.concatenate([tokens[:, forgotten:], tokens[:, :forgotten]], 1)  # the same text alone; what follows it cannot be seen
    features = score(params, tokens, context_start)[:, forgotten:]
    alone = score(params, fresh, np.zeros_like(context_start))[:, : LENGTH - forgotten]
    np.testing.assert_allclose(features, alone, atol=1e-5)
    if forgotten < LENGTH - 1:
        assert np.abs(features[:, 1:] - score(params, tokens, np.zeros_like(context_start))[:, forgotten + 1 :]).max() > 1e-3


def test_a_context_far_along_the_trajectory_is_as_at_its_start():
    model, params, read, score = built()
    tokens, _ = trajectory(length=2 * WIDTH)
    far = 3_000_001  # in float32 an angle of three million radians is rounded by a quarter of one
    context_start = np.full((LANES, WIDTH), far, np.int32)
    cache = model.empty_cache(LANES, num_slots(2 * WIDTH, WIDTH))
    expected = score(params, tokens, np.zeros_like(tokens))
    for start in (0, WIDTH):
        position = context_start + np.arange(start, start + WIDTH, dtype=np.int32)
        now = tokens[:, start : start + WIDTH], position, context_start, np.ones((LANES, WIDTH), bool)
        features, cache = read(params, *now, cache, None)
        np.testing.assert_allclose(features, expected[:, start : start + WIDTH], atol=1e-5)


def test_nothing_sees_the_future():
    _, params, _, score = built()
    tokens, context_start = trajectory()
    context_start[:] = 0
    changed = tokens.copy()
    changed[:, 20] = (changed[:, 20] + 1) % CONFIG.vocab_size
    difference = np.abs(score(params, tokens, context_start) - score(params, changed, context_start)).max((0, 2))
    assert (difference[:20] == 0).all() and (difference[20:] > 1e-6).all()


@pytest.mark.parametrize("query_block", [7, 64])
def test_the_band_of_a_bounded_context_is_full_attention(query_block):
    _, params, _, full = built(query_block=64)
    banded = built(query_block=query_block, context_length=CONTEXT)[3]
    tokens, context_start = trajectory()
    np.testing.assert_allclose(banded(params, tokens, context_start), full(params, tokens, context_start), atol=1e-5)


def test_grouped_heads_are_heads_whose_keys_and_values_are_repeated():
    _, params, _, grouped = built(num_kv_heads=1)
    _, _, _, repeated = built(num_kv_heads=4)

    def repeat(qkv):  # [D, 1, 4 + 2, d] to [D, 4, 1 + 2, d]
        queries, shared = qkv[:, 0, :4], qkv[:, 0, 4:]
        return jnp.stack([jnp.concatenate([queries[:, h : h + 1], shared], 1) for h in range(4)], 1)

    wide, trainable = jax.tree.map(lambda x: x, params), params.trainable
    for i in range(CONFIG.num_layers):
        wide.trainable["trunk"][f"layers_{i}"]["qkv"] = repeat(trainable["trunk"][f"layers_{i}"]["qkv"])
    tokens, context_start = trajectory()
    np.testing.assert_allclose(grouped(params, tokens, context_start), repeated(wide, tokens, context_start), atol=1e-5)


def test_bfloat16_stays_close_reads_as_it_scores_and_keeps_float32_where_it_matters():
    model, params, read, score = built(dtype="bfloat16")
    tokens, context_start = trajectory()
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))
    features, exact = score(params, tokens, context_start), built()[3](params, tokens, context_start)
    assert features.dtype == jnp.bfloat16 and model.empty_cache(1, 8)[0].keys.dtype == jnp.bfloat16
    logits, value = model.logits(params, features, np.arange(5)), model.value(params, features)
    assert logits.dtype == value.dtype == jnp.float32
    np.testing.assert_allclose(features.astype(jnp.float32), exact, atol=0.15)  # features are of size 1, bfloat16 has 8 bits
    assert 1e-4 < np.abs(features.astype(jnp.float32) - exact).mean() < 0.02
    chunks = [[WIDTH] * LANES] * -(-LENGTH // WIDTH)
    features_read = read_in_chunks(read, params, model.empty_cache(LANES, SLOTS), tokens, context_start, chunks)
    np.testing.assert_allclose(features_read, features.astype(jnp.float32), atol=0.1)


def test_logits_of_a_set_of_candidates_are_columns_of_those_of_the_vocabulary():
    model, params, _, score = built()
    features = score(params, *trajectory())
    whole = model.logits(params, features, np.arange(CONFIG.vocab_size))
    for candidates in (np.array([7, 2]), np.array([], np.int32), jnp.array([7, 2])):
        np.testing.assert_allclose(model.logits(params, features, candidates), whole[..., np.asarray(candidates)], atol=1e-6)
    text = str(jax.make_jaxpr(lambda p, f: model.logits(p, f, np.arange(CONFIG.vocab_size)))(params, features))
    assert "gather" not in text
    with pytest.raises(ValueError, match="vocabulary of 13"):
        model.logits(params, features, np.array([13]))


def test_a_separate_value_trunk_shares_nothing_with_the_policy():
    model, params, _, score = built(separate_value_trunk=True)
    tokens, context_start = trajectory()
    policy, value = score(params, tokens, context_start)
    np.testing.assert_allclose(
        policy, built()[3](Variables({k: v for k, v in params.trainable.items() if k != "value_trunk"}), tokens, context_start), atol=1e-6
    )

    def outputs(params):
        features = model.forward(params, tokens, context_start)
        return jnp.sum(jnp.sin(model.logits(params, features, np.arange(5)))), jnp.sum(jnp.sin(model.value(params, features)))

    def touched(gradient):
        return {name for name, tree in gradient.trainable.items() if any(np.abs(x).max() > 0 for x in jax.tree.leaves(tree))}

    of_logits, of_value = (touched(tree) for tree in jax.jit(jax.jacrev(outputs))(params))
    assert of_logits == {"trunk", "head"} and of_value == {"value_trunk", "value_head"}


def test_a_batch_of_parameters_is_a_loop_over_them():
    model, _, _, score = built()
    params = jax.tree.map(lambda *x: jnp.stack(x), built()[1], model.init(jax.random.key(3)))
    tokens, context_start = trajectory()
    together = jax.jit(jax.vmap(model.forward, (0, None, None)))(params, tokens, context_start)
    for i in range(2):
        np.testing.assert_allclose(together[i], score(jax.tree.map(lambda x, i=i: x[i], params), tokens, context_start), atol=1e-5)


def test_pretrained_weights_take_the_place_of_random_ones():
    model, params, _, _ = built()
    head = params.trainable["head"] + 1.0
    started = model.init(jax.random.key(0), {"head": head.astype(jnp.bfloat16)}).trainable
    np.testing.assert_array_equal(started["head"], head.astype(jnp.bfloat16).astype(jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, started["trunk"], params.trainable["trunk"])
