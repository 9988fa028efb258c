import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.models import ModelConfig, cache

CONFIG = ModelConfig(vocab_size=16, width=8, num_layers=2, num_heads=2, num_kv_heads=1, feed_forward_width=8)


def test_a_slot_holds_the_newest_position_that_falls_on_it():
    slots = 5
    for newest in range(13):
        held = np.asarray(cache.position_in_slot(jnp.int32(newest), slots))
        written = [max(p for p in range(newest - slots + 1, newest + 1) if p % slots == s) for s in range(slots)]
        np.testing.assert_array_equal(held, written)


def test_written_tokens_lie_in_their_slots_and_invalid_ones_nowhere():
    layer = cache.empty_cache(CONFIG, 3, 5)[0]
    keys = jnp.arange(2 * 2 * 4, dtype=jnp.float32).reshape(2, 2, 1, 4) + 1
    slot = cache.slots_of(jnp.array([[6, 7], [3, 4]]), jnp.array([[True, True], [True, False]]), 5)
    written = cache.write(layer, keys, -keys, jnp.array([2, 0]), slot)
    expected = np.zeros((3, 1, 5, 4), np.float32)
    expected[2, 0, 1], expected[2, 0, 2], expected[0, 0, 3] = keys[0, 0, 0], keys[0, 1, 0], keys[1, 0, 0]
    np.testing.assert_array_equal(written.keys, expected.swapaxes(2, 3))
    np.testing.assert_array_equal(written.values, -expected)


@pytest.mark.parametrize("context_length", [1, 7, 8, 30])
@pytest.mark.parametrize("width", [1, 3, 9])
def test_num_slots_is_enough_that_a_call_never_overwrites_what_it_sees(context_length, width):
    slots = cache.num_slots(context_length, width)
    assert slots % 8 == 0 and 0 <= slots - (context_length + width - 1) < 8
    first = 100  # the oldest token that the first token of a call can see, and the last token of the call, lie less than a ring apart
    assert (first + width - 1) - (first - context_length + 1) < slots


def test_the_layers_of_an_empty_cache_share_no_buffer():
    donate = jax.jit(lambda c: jax.tree.map(lambda x: x + 1, c), donate_argnums=0)
    assert all(np.all(np.asarray(x) == 1) for x in jax.tree.leaves(donate(cache.empty_cache(CONFIG, 2, 4))))


@pytest.mark.parametrize("make", [lambda: cache.num_slots(0, 1), lambda: cache.num_slots(1, 0), lambda: cache.empty_cache(CONFIG, 0, 4)])
def test_empty_rings_are_refused(make):
    with pytest.raises(ValueError, match="set both >= 1"):
        make()
