"""Deferring a segment: the model first writes others of another kind, as in `Think` and `UseTools`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Kind, Text, Turn


class Deferred(NamedTuple):
    """What a deferred turn asks for.

    Attributes:
      budget, grammar_state, legal, attempt: fields of the inner `Turn`.
    """

    budget: jax.Array
    grammar_state: jax.Array
    legal: jax.Array
    attempt: jax.Array


def defer_action(
    turn: Turn,
    kind: Kind,
    budget: int,
    grammar_state: int,
    legal: jax.Array,
    prompt: Text,
    capacity: int,
    deferred_kind: Kind = Kind.ACTION,
) -> tuple[Deferred, jax.Array, Turn]:
    """Returns a turn that asks for another segment, if `turn` asks for one of `deferred_kind`, and else `turn` itself.

    Args:
      turn: the inner turn.
      kind: kind of the other segment.
      budget: most tokens of the other segment.
      grammar_state: state of the joined grammar in which the other segment begins.
      legal: bool `[A]`, the legal strings of the other segment, `A` those of the joined grammar.
      prompt: text that is read before the other segment.
      capacity: capacity of the text of the turn.
      deferred_kind: kind of the segments that are deferred, by default actions.

    Returns:
      The deferred segment, whether it is deferred, bool `[]`, and the turn.
    """
    wanted = text.pad_legal(turn.legal, legal.shape[0])
    is_deferred = (turn.kind == deferred_kind) & ~turn.truncated & ~turn.terminated
    asked = turn._replace(
        read=text.concatenate(turn.read, text.only_if(is_deferred, prompt), capacity=capacity),
        kind=jnp.where(is_deferred, kind, turn.kind).astype(jnp.int32),
        budget=jnp.where(is_deferred, budget, turn.budget).astype(jnp.int32),
        grammar_state=jnp.where(is_deferred, grammar_state, turn.grammar_state).astype(jnp.int32),
        legal=jnp.where(is_deferred, legal, wanted),
    )
    return Deferred(turn.budget, turn.grammar_state, wanted, turn.attempt), is_deferred, asked
