"""Operations on `Text` against the same on Python lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arl import text
from arl.types import Text

CAPACITIES = (3, 1, 4, 2)


def tokens(t: Text) -> list[int]:
    return np.asarray(t.ids)[: int(t.length)].tolist()


def with_rubbish(ids: list[int], capacity: int) -> Text:
    """A text whose ids beyond its length are not 0: they have no meaning."""
    return Text(jnp.asarray(ids + [99] * (capacity - len(ids)), jnp.int32), jnp.int32(len(ids)))


@st.composite
def parts(draw):
    """Token ids for parts of the given capacities, some of them shorter, some empty."""
    return [draw(st.lists(st.integers(1, 50), max_size=capacity)) for capacity in CAPACITIES]


dynamic = {
    capacity: jax.jit(lambda *texts, capacity=capacity: text.concatenate(*texts, capacity=capacity)) for capacity in (None, 12, 6, 1, 0)
}


@given(parts(), st.sampled_from(sorted(dynamic, key=str)))
@settings(max_examples=60)
def test_concatenate_is_list_concatenation(lists, capacity):
    joined = sum(lists, [])
    room = sum(CAPACITIES) if capacity is None else capacity
    result = dynamic[capacity](*(with_rubbish(ids, c) for ids, c in zip(lists, CAPACITIES)))
    assert result.ids.shape == (room,)
    assert tokens(result) == joined[:room]
    assert not np.any(np.asarray(result.ids)[int(result.length) :]), "ids beyond the length must be 0"


@pytest.mark.parametrize("is_static", np.ndindex(2, 2, 2, 2))
@pytest.mark.parametrize("capacity", [None, 7])
def test_what_is_known_when_built_changes_nothing(is_static, capacity):
    lists = [[1, 2], [3], [4, 5, 6, 7], []]
    padded = [text.pad(text.constant(ids), c) for ids, c in zip(lists, CAPACITIES)]
    traced = [with_rubbish(ids, c) for ids, c in zip(lists, CAPACITIES)]

    def join(*traced):
        return text.concatenate(*(p if static else t for static, p, t in zip(is_static, padded, traced)), capacity=capacity)

    result = jax.jit(join)(*traced)
    assert tokens(result) == [1, 2, 3, 4, 5, 6, 7]
    assert result.ids.shape == (sum(CAPACITIES) if capacity is None else capacity,)


def test_constants_are_joined_when_built():
    join = lambda: text.concatenate(text.constant([1, 2]), text.empty(4), text.constant([3]))
    assert isinstance(join().length, np.integer)
    assert "dynamic_update_slice" not in str(jax.make_jaxpr(join)())
    assert join().ids.tolist() == [1, 2, 3, 0, 0, 0, 0]


def test_concatenate_of_nothing():
    assert text.concatenate(capacity=3).ids.tolist() == [0, 0, 0]
    assert text.concatenate().ids.shape == (0,)
    assert tokens(text.concatenate(text.empty(2), text.empty(3), capacity=4)) == []


def test_vmap_is_a_loop_over_lanes():
    generator = np.random.default_rng(0)
    lanes = [[generator.integers(1, 50, generator.integers(0, c + 1)).tolist() for c in CAPACITIES] for _ in range(5)]
    batch = [jax.tree.map(lambda *x: jnp.stack(x), *(with_rubbish(lane[i], c) for lane in lanes)) for i, c in enumerate(CAPACITIES)]
    result = jax.vmap(text.concatenate)(*batch)
    assert [ids[:n].tolist() for ids, n in zip(np.asarray(result.ids), result.length)] == [sum(lane, []) for lane in lanes]


@given(st.lists(st.integers(1, 50), max_size=5))
@settings(max_examples=20)
def test_ends_and_beginnings(ids):
    t = with_rubbish(ids, 5)
    for num_tokens in (0, 1, 3, 5, 8):
        last = text.keep_last(t, num_tokens)
        assert tokens(last) == (ids[-num_tokens:] if num_tokens else [])
        assert last.ids.shape == (min(num_tokens, 5),)
        first = text.cut(t, num_tokens)
        assert tokens(first) == ids[:num_tokens]
        assert first.ids.shape == (num_tokens,)
    assert tokens(text.only_if(jnp.bool_(True), t)) == ids
    assert tokens(text.only_if(jnp.bool_(False), t)) == []


def test_pad():
    padded = text.pad(text.constant([1, 2]), 4)
    assert tokens(padded) == [1, 2] and padded.ids.tolist() == [1, 2, 0, 0]
    with pytest.raises(ValueError, match="capacity 2 cannot be padded to 1"):
        text.pad(text.constant([1, 2]), 1)


@pytest.mark.parametrize("lists", [[[1, 2], [3, 4]], [[1], [], [2, 3, 4]]])
def test_table(lists):
    table = text.stack(lists)
    assert [tokens(text.lookup(table, jnp.int32(i))) for i in range(len(lists))] == lists
    assert tokens(jax.jit(lambda: text.flatten(table))()) == sum(lists, [])
    several = text.lookup(table, jnp.asarray([1, 0, 1]))
    assert tokens(text.flatten(several)) == lists[1] + lists[0] + lists[1]
    assert tokens(jax.jit(text.flatten)(several)) == lists[1] + lists[0] + lists[1], "lengths unknown when built"
    is_known = isinstance(text.lookup(table, jnp.int32(0)).length, np.integer)
    assert is_known == (len({len(ids) for ids in lists}) == 1)
    with pytest.raises(ValueError, match="at least one text"):
        text.stack([])


def test_to_string():
    tokenizer = text.load_tokenizer()
    said = text.encode(tokenizer, "Row 3, left.\n<|end|>")
    assert text.to_string(tokenizer, text.pad(said, 20)) == "Row 3, left.\n<|end|>"
    assert text.to_string(tokenizer, said.ids) == "Row 3, left.\n<|end|>"
    assert text.to_string(tokenizer, []) == ""
