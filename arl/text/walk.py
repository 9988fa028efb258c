"""Grammars on the device: what may be written from a state, what is forced, and what a text says.

The legal strings may change from turn to turn (`legal`, bool `[A]`). An edge is legal if a legal string can be completed from the state
after it. The ranks of those strings are an interval, so the edge is legal if the number of legal strings before a rank rises within it.
A token of a free state's mask is always legal.
"""

import jax
import jax.numpy as jnp
import numpy as np

from arl.text.grammar import WORD, num_words
from arl.text.text import lookup, stack
from arl.types import ArlError, Grammar, Text

MOST_ENTRIES = 2**19  # of a table of states and candidates: 1 MiB


def legal_edges(grammar: Grammar, state: jax.Array | int, legal: jax.Array) -> jax.Array:
    """Returns which edges of a state are legal.

    Args:
      grammar: `S` states of up to `E` edges, `A` choices.
      state: int32 `[...]`.
      legal: bool `[..., A]`, the legal strings.

    Returns:
      bool `[..., E]`; all false in the dead state and in final states.

    Raises:
      ArlError: if `legal` does not have an entry for each choice of the grammar.
    """
    _check_legal(grammar, legal)
    after = jnp.asarray(grammar.next_state)[jnp.asarray(state)]
    interval = jnp.asarray(grammar.interval)[after]
    before = jnp.cumsum(legal[..., grammar.order], axis=-1, dtype=jnp.int32)
    before = jnp.pad(before, [(0, 0)] * (before.ndim - 1) + [(1, 0)])  # legal strings before each rank
    count = lambda ranks: jnp.take_along_axis(before, ranks, axis=-1)
    return count(interval[..., 1]) > count(interval[..., 0])


def is_free(grammar: Grammar, state: jax.Array | int) -> jax.Array:
    """Returns whether a state is free, bool `[...]`: it has a mask of tokens; `state` is int32 `[...]`."""
    return jnp.asarray(grammar.mask_index)[jnp.asarray(state)] >= 0


def support(grammar: Grammar, state: jax.Array | int, edges: jax.Array, candidates: np.ndarray | None = None) -> jax.Array:
    """Returns which candidates may follow in a state.

    Args:
      grammar: `S` states of up to `E` edges.
      state: int32 `[...]`.
      edges: bool `[..., E]`, the edges that may be followed.
      candidates: int32 `[U]`, token ids, ascending: None for those of the grammar, or `grammar.edge_tokens` if no `state` is free.

    Returns:
      bool `[..., U]`.
    """
    state, size = jnp.asarray(state), len(grammar.candidates if candidates is None else candidates)
    row, shape = jnp.asarray(grammar.mask_index)[state], (*state.shape, size)
    follows = jnp.zeros(shape, bool)
    if grammar.num_tokens and candidates is None:
        follows = unpack(jnp.asarray(grammar.mask)[jnp.maximum(row, 0)], size) & (row >= 0)[..., None]
    num_edges, columns = edges.shape[-1], _edge_columns(grammar, candidates)
    if len(columns) * size <= MOST_ENTRIES:  # a gather from a table of states and candidates, many times as fast as a scatter on a CPU
        edge_of = np.full((len(columns), size + 1), num_edges, np.int16)
        np.put_along_axis(edge_of, columns, np.arange(num_edges, dtype=np.int16)[None], axis=1)
        edge = jnp.asarray(edge_of[:, :size])[state].astype(jnp.int32)
        is_followed = jnp.take_along_axis(edges, jnp.minimum(edge, num_edges - 1), axis=-1)
        return jnp.where(edge < num_edges, is_followed, follows)
    columns = jnp.asarray(columns)[state].reshape(-1, num_edges)
    rows = jnp.arange(columns.shape[0])[:, None]
    return follows.reshape(-1, size).at[rows, columns].set(edges.reshape(columns.shape), mode="drop").reshape(shape)


def edge_columns(grammar: Grammar, state: jax.Array | int, candidates: np.ndarray | None = None) -> jax.Array:
    """Returns the indices among `U` candidates of the tokens of a state's edges, int32 `[..., E]`; `U` beyond the last edge.

    Args:
      grammar: `S` states of up to `E` edges.
      state: int32 `[...]`.
      candidates: as `support`.
    """
    return jnp.asarray(_edge_columns(grammar, candidates))[jnp.asarray(state)]


def follow(grammar: Grammar, state: jax.Array, token: jax.Array) -> jax.Array:
    """Returns the state after a token, for one lane.

    Args:
      grammar: `S` states.
      state: int32 `[]`.
      token: int32 `[]`, token id.

    Returns:
      int32 `[]`; the dead state if the token is neither of an edge nor of the mask of `state`.
    """
    after = jnp.asarray(grammar.next_state)[state]
    is_edge = (jnp.asarray(grammar.token)[state] == token) & (after > 0)
    after = jnp.max(jnp.where(is_edge, after, 0))
    if not grammar.num_tokens:
        return after
    row, word = jnp.asarray(grammar.mask_index)[state], jnp.clip(token // WORD, 0, grammar.mask.shape[1] - 1)
    bit = jnp.asarray(grammar.mask)[jnp.maximum(row, 0), word] >> (token % WORD).astype(jnp.uint32) & 1
    is_masked = (row >= 0) & (token >= 0) & (token < grammar.num_tokens) & (bit > 0)
    return jnp.where(jnp.any(is_edge), after, jnp.where(is_masked, jnp.asarray(grammar.mask_state)[state], 0))


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
        for token, after in zip(grammar.token[state].tolist(), grammar.next_state[state].tolist()):
            if after not in (0, state):
                paths.append((after, [*ids, token]))
    return lookup(stack([strings[i] for i in range(len(strings))]), choice)


def parse(grammar: Grammar, root: jax.Array | int, text: Text) -> tuple[jax.Array, jax.Array]:
    """Parses a text, for one lane.

    Args:
      grammar: `S` states.
      root: int32 `[]`, state in which the text begins.
      text: ids `[capacity]`, with or without a final stop token.

    Returns:
      Index of the legal string, int32 `[]`, -1 if there is none; and whether there is one, bool `[]`.
    """
    is_stop_last = (text.ids == grammar.stop_id) & (jnp.arange(text.ids.shape[-1]) == text.length - 1)
    state = reach(grammar, root, Text(text.ids, text.length - jnp.any(is_stop_last)))
    is_legal = jnp.asarray(grammar.is_accepting)[state]
    return jnp.where(is_legal, jnp.asarray(grammar.choice)[state], -1), is_legal


def reach(grammar: Grammar, state: jax.Array | int, text: Text) -> jax.Array:
    """Returns the state after a text, for one lane.

    Args:
      grammar: `S` states.
      state: int32 `[]`, state in which the text begins.
      text: ids `[capacity]`, without a stop token.

    Returns:
      int32 `[]`; the dead state if the text is not legal, or has a stop token.
    """
    index, is_stop = jnp.arange(text.ids.shape[-1]), text.ids == grammar.stop_id

    def walk(state, inputs):
        token, is_last, is_valid = inputs
        after = jnp.where(is_last, 0, follow(grammar, state, token))  # nothing follows a stop token
        return jnp.where(is_valid, after, state), None

    return jax.lax.scan(walk, jnp.asarray(state, jnp.int32), (text.ids, is_stop, index < text.length))[0]


def pack(bools: jax.Array) -> jax.Array:
    """Returns `bools`, bool `[..., N]`, as bits, uint32 `[..., ceil(N / 32)]`; entry `n` is bit `n % 32` of word `n // 32`."""
    size = bools.shape[-1]
    padding = [(0, 0)] * (bools.ndim - 1) + [(0, num_words(size) * WORD - size)]
    words = jnp.pad(bools, padding).reshape(*bools.shape[:-1], -1, WORD).astype(jnp.uint32)
    return jnp.sum(words << jnp.arange(WORD, dtype=jnp.uint32), axis=-1, dtype=jnp.uint32)


def unpack(bits: jax.Array, size: int) -> jax.Array:
    """Returns bits, uint32 `[..., ceil(N / 32)]`, as bool `[..., N]` for `N = size`; the inverse of `pack`."""
    is_set = (bits[..., None] >> jnp.arange(WORD, dtype=jnp.uint32)) & 1 > 0
    return is_set.reshape(*bits.shape[:-1], bits.shape[-1] * WORD)[..., :size]


def _edge_columns(grammar: Grammar, candidates: np.ndarray | None) -> np.ndarray:
    """Returns `edge_columns` of all states, int32 `[S, E]`."""
    candidates = grammar.candidates if candidates is None else candidates
    return np.where(grammar.next_state > 0, np.searchsorted(candidates, grammar.token), len(candidates)).astype(np.int32)


def _check_legal(grammar: Grammar, legal: jax.Array) -> None:
    if legal.shape[-1] != grammar.num_choices:
        raise ArlError(
            f"`legal` has {legal.shape[-1]} entries and the grammar {grammar.num_choices} legal strings; make the two numbers equal"
        )
