"""An expert writes in the model's place: the rollout of behaviour cloning."""

import functools

import jax
import jax.numpy as jnp

from arl import text
from arl.rollout import lanes as lane_steps
from arl.rollout.lanes import Lane
from arl.types import Grammar, Interaction, Text, select


def consult(interaction: Interaction, lanes: Lane, begins: jax.Array) -> Lane:
    """Asks the expert of an interaction what it would write, where a segment begins.

    Under `vmap` an expert is asked for every lane or for none: it costs a call's lanes wherever one of them begins a segment.

    Args:
      interaction: one that has an expert.
      lanes: `[B]`.
      begins: bool `[B]`, the lanes that begin a segment.

    Returns:
      The lanes `[B]`, with its texts.
    """

    def ask(lane: Lane) -> Text:
        said = text.cut(interaction.expert(lane_steps.expert_key(lane), lane.state), interaction.size.written)
        return Text(jnp.asarray(said.ids, jnp.int32), jnp.asarray(said.length, jnp.int32))

    asked = jax.lax.cond(jnp.any(begins), lambda: jax.vmap(select)(begins, jax.vmap(ask)(lanes), lanes.expert), lambda: lanes.expert)
    return lanes._replace(expert=asked)


def first_texts(interaction: Interaction, lanes: Lane) -> Lane:
    """Returns lanes `[B]` that begin their lives, with what the expert would write first."""
    num_lanes = lanes.position.shape[0]
    empty = Text(jnp.zeros((num_lanes, interaction.size.written), jnp.int32), jnp.zeros(num_lanes, jnp.int32))
    return consult(interaction, lanes._replace(expert=empty), jnp.ones(num_lanes, bool))


def follow(grammar: Grammar, lanes: Lane, drawn: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Puts the next token of the expert's text in the place of the draw.

    Forced tokens count: the next one is that after as many as have been written, and after the last one the stop token. Where the grammar
    does not allow it, or something else than the beginning of the expert's text has been written, the draw stands.

    Args:
      grammar: of the interaction, `U` letters.
      lanes: `[B]`, with the expert's texts.
      drawn: int32 `[B]`, letters drawn from the model.

    Returns:
      int32 `[B]`, letters; and bool `[B]`, whether they are the expert's.
    """
    return jax.vmap(functools.partial(_follow, grammar))(lanes, lanes.expert, drawn)


def _follow(grammar: Grammar, lane: Lane, wanted: Text, drawn: jax.Array) -> tuple[jax.Array, jax.Array]:
    written, index = lane.written, jnp.arange(wanted.ids.shape[0])
    is_beginning = jnp.all((wanted.ids == written.ids) | (index >= written.length)) & (written.length <= wanted.length)
    token = wanted.ids[jnp.minimum(written.length, index[-1])]
    letter = text.letter(grammar, jnp.where(written.length < wanted.length, token, grammar.stop_id))
    is_letter = jnp.arange(len(grammar.alphabet)) == letter
    is_followed = is_beginning & jnp.any(is_letter & text.support(grammar, lane.grammar, lane.legal))
    return jnp.where(is_followed, letter, drawn), is_followed
