"""Interventions on what an agent writes, to measure whether the content of its notes matters."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.agents.layer import extend
from arl.types import AgentState, ArlError, Interaction, Kind, Segment, Text, Turn, select

# Folded into the key for the intervention's own random numbers, so that the episode keeps the key that it has without one; `split` never
# folds in this number.
FOLD = 2**31 - 1


class IntervenedState(NamedTuple):
    """Own state of `replace_segments` and `replace_by_expert`.

    Attributes:
      turn: the turn that is being answered.
      order: int32 `[]`, number of segments of the replaced kind that this episode has written.
      episode: int32 `[]`, index of the other episode whose segments are used.
    """

    turn: Turn
    order: jax.Array
    episode: jax.Array


def replace_segments(inner: Interaction, kind: Kind, others: Text) -> Interaction:
    """Returns `inner` with the segments of a kind replaced by those of another episode.

    The model still writes its own segment, but `inner` receives the other episode's. One other episode is drawn uniformly at the start; it
    may have the same task. Its segments are used in order; when they run out, the last one is used again.

    Args:
      inner: the interaction to intervene in.
      kind: kind of the segments to replace.
      others: segments of other episodes, ids `[P, S, capacity]` by episode and order; empty texts blank the segments.

    Returns:
      The interaction; its state is an `IntervenedState`.
    """
    capacity = inner.size.written
    others = Text(jnp.asarray(others.ids)[..., :capacity], jnp.minimum(jnp.asarray(others.length), capacity))
    num_episodes, num_segments, width = others.ids.shape

    def say(key: jax.Array, state: AgentState) -> Text:
        del key
        _, own = state.pop()
        index = (own.episode, jnp.minimum(own.order, num_segments - 1))
        return Text(jnp.pad(others.ids[index], (0, capacity - width)), others.length[index])

    return _intervene(inner, kind, num_episodes, say)


def replace_by_expert(inner: Interaction, kind: Kind) -> Interaction:
    """Returns `inner` with the segments of a kind replaced by those of its expert.

    Args:
      inner: the interaction to intervene in.
      kind: kind of the segments to replace.

    Returns:
      The interaction; its state is an `IntervenedState`.

    Raises:
      ArlError: if `inner` has no expert for that kind.
    """
    expert, capacity = inner.experts.get(kind), inner.size.written
    if expert is None:
        raise ArlError("nobody can speak in the agent's place here; give the task an expert, or shuffle or blank the segments")
    return _intervene(inner, kind, 1, lambda key, state: text.pad(text.cut(expert(key, state.pop()[0], jnp.int32(0)), capacity), capacity))


def _intervene(inner: Interaction, kind: Kind, num_episodes: int, say: Callable[[jax.Array, AgentState], Text]) -> Interaction:
    """Returns `inner` with the segments of a kind replaced by `say(key, state)`."""

    def start(key, curriculum):
        episode = jax.random.randint(jax.random.fold_in(key, FOLD), (), 0, num_episodes)
        state, turn = inner.start(key, curriculum)
        return state.push(IntervenedState(turn, jnp.int32(0), episode)), turn

    def advance(key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        inner_state, own = state.pop()
        is_replaced = own.turn.kind == kind
        said = say(jax.random.fold_in(key, FOLD), state)
        choice, is_legal = text.parse(inner.grammar, own.turn.grammar_state, said)
        is_legal &= own.turn.legal[jnp.maximum(choice, 0)]
        heard = select(is_replaced, Segment(said, jnp.where(is_legal, choice, -1), is_legal), segment)
        inner_state, turn = inner.advance(key, curriculum, inner_state, heard)
        return inner_state.push(IntervenedState(turn, own.order + is_replaced, own.episode)), turn

    return extend(inner, None, start=start, advance=advance)


def segments(tokens: jax.Array, is_kind: jax.Array, ends_segment: jax.Array, num_segments: int, capacity: int) -> Text:
    """Returns the sampled segments of one kind, by lane and order, from lanes of one episode each.

    Args:
      tokens: int32 `[B, T]`, sampled token ids; negative ones, such as mark a stop token, are left out.
      is_kind: bool `[B, T]`, whether a token was sampled in a segment of that kind.
      ends_segment: bool `[B, T]`, whether a segment ended.
      num_segments: `S`, number of segments; later ones are left out.
      capacity: tokens of the longest segment.

    Returns:
      Text, ids `[B, S, capacity]`.
    """
    lane, ends = jnp.arange(len(tokens))[:, None], is_kind & ends_segment
    segment = jnp.cumsum(ends, axis=1) - ends
    is_said = is_kind & (tokens >= 0)
    one_hot = is_said[..., None] & (segment[..., None] == jnp.arange(num_segments))
    place = jnp.sum(jnp.where(one_hot, jnp.cumsum(one_hot, axis=1) - 1, 0), axis=-1)
    ids = jnp.zeros((len(tokens), num_segments, capacity), jnp.int32)
    ids = ids.at[lane, jnp.where(is_said, segment, num_segments), place].set(tokens, mode="drop")
    return Text(ids, jnp.minimum(jnp.sum(one_hot, axis=1), capacity))
