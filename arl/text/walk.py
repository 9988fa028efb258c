"""Grammars on the device: what may be written from a state, what is forced, and what a text says.

The legal strings may change from turn to turn (`legal`, bool `[A]`). Each state has a bit set of the strings that can be completed from it;
a candidate is legal if the set of the state after it contains a legal string.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.text.text import lookup, stack
from arl.types import ArlError, Grammar, Text

WORD = 32  # bits of a packed word


def support(grammar: Grammar, state: jax.Array | int, legal: jax.Array) -> jax.Array:
    """Returns the legal candidates of a state.

    Args:
      grammar: `S` states, `U` candidates, `A` choices.
      state: int32 `[...]`.
      legal: bool `[..., A]`, the legal strings.

    Returns:
      bool `[..., U]`; all false in the dead state and in final states.

    Raises:
      ArlError: if `legal` does not have an entry for each choice of the grammar.
    """
    _check_legal(grammar, legal)
    after = jnp.asarray(grammar.next_state)[jnp.asarray(state)]
    exists = pack(legal)[..., None, :]
    return jnp.any((jnp.asarray(_reach(grammar))[after] & exists) != 0, axis=-1)


def pad_legal(legal: jax.Array, num_choices: int) -> jax.Array:
    """Returns the legal strings, bool `[..., a]`, padded to bool `[..., num_choices]` with strings that are not legal."""
    return jnp.pad(legal, [(0, 0)] * (legal.ndim - 1) + [(0, num_choices - legal.shape[-1])])


def accepts(grammar: Grammar, state: jax.Array | int, legal: jax.Array) -> jax.Array:
    """Returns whether a text may end in a state, bool `[...]`: a legal string ends there.

    Args:
      grammar: `S` states, `A` choices.
      state: int32 `[...]`.
      legal: bool `[..., A]`, the legal strings.

    Raises:
      ArlError: if `legal` does not have an entry for each choice of the grammar.
    """
    _check_legal(grammar, legal)
    choice = jnp.asarray(grammar.choice)[jnp.asarray(state)]
    exists = jnp.take_along_axis(legal, jnp.maximum(choice, 0)[..., None], axis=-1)[..., 0]
    return jnp.asarray(grammar.is_accepting)[jnp.asarray(state)] & exists


def forced_run(grammar: Grammar, state: jax.Array | int) -> tuple[Text, jax.Array]:
    """Returns the tokens that are forced in a state, and the state after them.

    Args:
      grammar: `S` states, at most `F` forced tokens.
      state: int32 `[]`.

    Returns:
      Text of ids `[F]`, and int32 `[]`.
    """
    state = jnp.asarray(state)
    ids, length = jnp.asarray(grammar.forced)[state], jnp.asarray(grammar.forced_length)[state]
    return Text(ids, length), jnp.asarray(grammar.forced_state)[state]


def say_choice(grammar: Grammar, choice: jax.Array | int) -> Text:
    """Returns a legal string of the grammar that was joined last, without stop token.

    Args:
      grammar: a grammar whose root is that of `legal_strings`.
      choice: int32 `[]`, index of the string.

    Returns:
      `Text`, whose capacity is that of the longest string.
    """
    strings: dict[int, list[int]] = {}
    paths: list[tuple[int, list[int]]] = [(grammar.root, [])]
    while paths:
        state, ids = paths.pop()
        if grammar.choice[state] >= 0:
            strings.setdefault(int(grammar.choice[state]), ids)  # the path without stop token comes first
        for column in np.flatnonzero(grammar.next_state[state]):
            if grammar.next_state[state, column] != state:
                paths.append((int(grammar.next_state[state, column]), [*ids, int(grammar.candidates[column])]))
    return lookup(stack([strings[i] for i in range(len(strings))]), choice)


def candidate_index(grammar: Grammar, ids: jax.Array) -> jax.Array:
    """Returns the indices of token ids among the candidates, int32 `[...]`; `U` for a token that is not a candidate.

    Args:
      grammar: `U` candidates.
      ids: int32 `[...]`, token ids.
    """
    size = len(grammar.candidates)
    table = np.full(grammar.candidates[-1] + 2, size, np.int32)  # the last entry stands for all larger ids
    table[grammar.candidates] = np.arange(size)
    return jnp.asarray(table)[jnp.clip(ids, 0, len(table) - 1)]


def parse(grammar: Grammar, root: jax.Array | int, text: Text) -> tuple[jax.Array, jax.Array]:
    """Parses a text, for one lane.

    Args:
      grammar: `S` states.
      root: int32 `[]`, state in which the text begins.
      text: ids `[capacity]`, with or without a final stop token.

    Returns:
      Index of the legal string, int32 `[]`, -1 if there is none; and whether there is one, bool `[]`.
    """
    next_state = jnp.pad(jnp.asarray(grammar.next_state), ((0, 0), (0, 1)))  # a token that is not a candidate leads to the dead state
    index = jnp.arange(text.ids.shape[-1])
    is_stop = text.ids == grammar.stop_id
    length = text.length - jnp.any(is_stop & (index == text.length - 1))
    columns = jnp.where(is_stop, len(grammar.candidates), candidate_index(grammar, text.ids))  # nothing follows a stop token

    def walk(state, inputs):
        column, is_valid = inputs
        return jnp.where(is_valid, next_state[state, column], state), None

    state, _ = jax.lax.scan(walk, jnp.asarray(root, jnp.int32), (columns, index < length))
    is_legal = jnp.asarray(grammar.is_accepting)[state]
    return jnp.where(is_legal, jnp.asarray(grammar.choice)[state], -1), is_legal


def pack(support: jax.Array) -> jax.Array:
    """Returns `support`, bool `[..., U]`, as bits, uint32 `[..., ceil(U / 32)]`; candidate `u` is bit `u % 32` of word `u // 32`."""
    size = support.shape[-1]
    padding = [(0, 0)] * (support.ndim - 1) + [(0, _num_words(size) * WORD - size)]
    return _pack(jnp.pad(support, padding), jnp)


def unpack(bits: jax.Array, num_candidates: int) -> jax.Array:
    """Returns bits, uint32 `[..., ceil(U / 32)]`, as bool `[..., U]` for `U = num_candidates`; the inverse of `pack`."""
    is_set = (bits[..., None] >> jnp.arange(WORD, dtype=jnp.uint32)) & 1 > 0
    return is_set.reshape(*bits.shape[:-1], bits.shape[-1] * WORD)[..., :num_candidates]


def _reach(grammar: Grammar) -> np.ndarray:
    """Returns bits of the strings that can be completed from each state, uint32 `[S, ceil(A / 32)]`."""
    order = grammar.choice[grammar.choice >= 0]
    member = np.zeros((len(grammar.choice), _num_words(grammar.num_choices) * WORD), bool)
    states = np.flatnonzero(grammar.choice >= 0)
    member[states, order] = True
    edges = [np.unique(row[row > 0]) for row in grammar.next_state]
    for state in reversed(range(len(edges))):  # successors have larger numbers, or are the state itself
        member[state] |= member[edges[state]].any(0)
    return _pack(member, np)


def _num_words(size: int) -> int:
    return -(-size // WORD)


def _pack(bools: Any, numpy: Any) -> Any:
    words = bools.reshape(*bools.shape[:-1], -1, WORD).astype(numpy.uint32)
    return numpy.sum(words << numpy.arange(WORD, dtype=numpy.uint32), axis=-1, dtype=numpy.uint32)


def _check_legal(grammar: Grammar, legal: jax.Array) -> None:
    if legal.shape[-1] != grammar.num_choices:
        raise ArlError(
            f"`legal` has {legal.shape[-1]} entries and the grammar {grammar.num_choices} legal strings; make the two numbers equal"
        )
