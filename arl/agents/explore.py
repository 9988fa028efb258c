"""Exploration: what is new pays, once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl.types import Interaction, State, Turn, Written


class ExploreState(NamedTuple):
    """State of `explore`.

    Attributes:
      inner: state of the interaction within.
      is_visited: bool `[num_buckets]`, which buckets' anchors have been visited in this life.
    """

    inner: State
    is_visited: jax.Array


def explore(inner: Interaction, *, scale: float, num_buckets: int = 256) -> Interaction:
    """Returns `inner`, where the first visit of a state in a life pays, as `exploration` reward of the segment that led there.

    Visits are counted by `inner.anchor`, hashed into buckets. A bonus by counts pays `scale / sqrt(n)` at the n-th visit (MBIE-EB, Strehl &
    Littman 2008); over a life these add up without bound, so that walking to and fro between two states would be a living. Here only
    the first visit pays, `n = 1`: a state can be collected once, however often and in however many attempts it is visited, and a life earns
    at most `scale * num_buckets`. Where a life begins pays nothing; where it ends or is cut does, if it is new: it has been visited.

    What shares a bucket with an earlier anchor pays nothing: the n-th anchor of a life does so with probability below `n / num_buckets`.

    It stands outside of `attempts`, which refuses it within: there each attempt is a life, in which everything is new. From outside, the
    state in which an attempt ended is seen if a reflection on it is asked for; where the next attempt begins at once, it is not. `weigh`
    lets the pay follow a schedule.

    Args:
      inner: the interaction to explore in.
      scale: paid for a state that is new, in the environment's units.
      num_buckets: how many states can be told apart, at most.

    Returns:
      The interaction; its state is an `ExploreState`.

    Raises:
      ValueError: if states have no anchors, cannot be told apart, pay nothing or pay already.
    """
    if inner.anchor is None:
        raise ValueError("what is new cannot be told without anchors; give the environment an anchor, or leave explore() out")
    if inner.explores:
        raise ValueError("what is new would be paid for twice; leave one explore() out, and set the scale of the other")
    if num_buckets < 2:
        raise ValueError(f"{num_buckets} buckets tell no two states apart; set num_buckets >= 2")
    if not 0 < scale < float("inf"):
        raise ValueError(f"a scale of {scale} does not pay for what is new; set scale > 0, or leave explore() out")
    anchor = inner.anchor

    def bucket(state: State) -> jax.Array:
        return _mix(anchor(state)) % num_buckets

    def start(key, setting):
        state, turn = inner.start(key, setting)
        return ExploreState(state, jnp.arange(num_buckets) == bucket(state)), turn

    def advance(key, setting, state: ExploreState, written: Written) -> tuple[ExploreState, Turn]:
        inner_state, turn = inner.advance(key, setting, state.inner, written)
        here = bucket(inner_state)
        bonus = jnp.where(state.is_visited[here], 0.0, scale)
        reward = turn.reward._replace(exploration=turn.reward.exploration + bonus)
        return ExploreState(inner_state, state.is_visited.at[here].set(True)), turn._replace(reward=reward)

    return inner._replace(
        start=start,
        advance=advance,
        expert=(lambda key, state: inner.expert(key, state.inner)) if inner.expert else None,
        anchor=lambda state: anchor(state.inner),
        explores=True,
    )


def _mix(anchor: jax.Array) -> jax.Array:
    """Returns uint32 `[]`, its bits well mixed: anchors in a row do not fall into buckets in a pattern (the finalizer of MurmurHash3)."""
    mixed = jnp.asarray(anchor, jnp.uint32)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> 16)
