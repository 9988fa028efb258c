"""Rollouts in which experts write in the model's place, for behaviour cloning."""

import functools

import jax
import jax.numpy as jnp

from arl import text
from arl.rollout import lanes as lane_steps
from arl.rollout.lanes import Lane
from arl.types import Grammar, Interaction, Text, select


def consult(interaction: Interaction, lanes: Lane, begins: jax.Array) -> Lane:
    """Asks the experts what to write in the lanes that begin a segment.

    Under `vmap` experts are asked for every lane as soon as one lane begins a segment.

    Args:
      interaction: the agent in its environment, with an expert for every kind of segment.
      lanes: `[B]`.
      begins: bool `[B]`, the lanes that begin a segment.

    Returns:
      The lanes `[B]`, with the experts' texts.
    """

    def ask(lane: Lane) -> Text:
        capacity, said = interaction.size.written, text.empty(interaction.size.written)
        for kind in interaction.writes:
            text_of_kind = interaction.experts[kind](lane_steps.expert_key(lane), lane.state, jnp.int32(0))
            said = select(lane.kind == kind, text.pad(text.cut(text_of_kind, capacity), capacity), said)
        return Text(jnp.asarray(said.ids, jnp.int32), jnp.asarray(said.length, jnp.int32))

    asked = jax.lax.cond(jnp.any(begins), lambda: jax.vmap(select)(begins, jax.vmap(ask)(lanes), lanes.expert), lambda: lanes.expert)
    return lanes._replace(expert=asked)


def first_texts(interaction: Interaction, lanes: Lane) -> Lane:
    """Returns lanes `[B]` that begin their episodes, with the experts' texts for their first segments."""
    num_lanes = lanes.position.shape[0]
    empty = Text(jnp.zeros((num_lanes, interaction.size.written), jnp.int32), jnp.zeros(num_lanes, jnp.int32))
    return consult(interaction, lanes._replace(expert=empty), jnp.ones(num_lanes, bool))


def next_token(grammar: Grammar, lanes: Lane) -> tuple[jax.Array, jax.Array]:
    """Returns the next tokens of the experts' texts.

    The next token follows those already written, forced ones included; after the last one it is the stop token. It cannot be written where
    the grammar does not allow it, or where the segment has departed from the expert's text.

    Args:
      grammar: grammar of the interaction.
      lanes: `[B]`, with the experts' texts.

    Returns:
      int32 `[B]`, token ids; and bool `[B]`, whether they can be written.
    """
    return jax.vmap(functools.partial(_next_token, grammar))(lanes, lanes.expert)


def _next_token(grammar: Grammar, lane: Lane, wanted: Text) -> tuple[jax.Array, jax.Array]:
    written, index = lane.written, jnp.arange(wanted.ids.shape[0])
    is_beginning = jnp.all((wanted.ids == written.ids) | (index >= written.length)) & (written.length <= wanted.length)
    token = jnp.where(written.length < wanted.length, wanted.ids[jnp.minimum(written.length, index[-1])], grammar.stop_id)
    is_edge = (jnp.asarray(grammar.token)[lane.grammar] == token) & (jnp.asarray(grammar.next_state)[lane.grammar] > 0)
    by_edge = jnp.any(is_edge & text.legal_edges(grammar, lane.grammar, lane.legal))
    by_mask = ~jnp.any(is_edge) & (text.follow(grammar, lane.grammar, token) > 0)
    return token, is_beginning & (by_edge | by_mask)
