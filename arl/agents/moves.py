"""Moves: what an agent may do before it acts, one segment each, as `Menu` asks for them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import AgentState, Grammar, Kind, Reward, State, Text


class Move(NamedTuple):
    """A segment that an agent may choose to write before it acts, for one lane.

    Attributes:
      word: string that names it.
      kind: `Kind` of the segment.
      budget: most tokens of the segment.
      grammar: grammar of the segment.
      legal: bool `[A]`, the strings of the grammar that are legal.
      expert: `(key, inner state, count int32 [], kept Text, attempt int32 []) -> (is_wanted bool [], Text)`, whether an expert makes the
        move after having made it so many times before this action, and what it writes.
      most: most times before an action; 0 for no limit of its own.
      capacity: tokens of the longest answer.
      answer: `(key, environment's state, Text) -> (Text, Reward)`, what is read after the segment, and its reward.
      keeps: whether the segment starts a new context, of which it is the beginning, and is read again whenever the context is reset.
    """

    word: str
    kind: Kind
    budget: int
    grammar: Grammar
    legal: np.ndarray
    expert: Callable[[jax.Array, AgentState, jax.Array, Text, jax.Array], tuple[jax.Array, Text]]
    most: int = 0
    capacity: int = 0
    answer: Callable[[jax.Array, State, Text], tuple[Text, Reward]] = lambda key, state, said: (text.empty(0), Reward())
    keeps: bool = False


def part_of(said: Text, begin: jax.Array, capacity: int) -> Text:
    """Returns a part of a text.

    Args:
      said: ids `[c]`.
      begin: int32 `[]`, index of the part's first token.
      capacity: its capacity, and its largest length.
    """
    begin = jnp.minimum(begin, said.ids.shape[-1])
    ids = jax.lax.dynamic_slice(jnp.pad(said.ids, (0, capacity)), (begin,), (capacity,))
    return Text(ids, jnp.clip(said.length - begin, 0, capacity).astype(jnp.int32))


def fill(said: Text) -> Text:
    """Returns a text as long as its capacity, filled with its last token; an empty one stays empty."""
    index = jnp.minimum(jnp.arange(said.ids.shape[-1]), jnp.maximum(said.length - 1, 0))
    return Text(said.ids[index], jnp.where(said.length > 0, said.ids.shape[-1], 0).astype(jnp.int32))
