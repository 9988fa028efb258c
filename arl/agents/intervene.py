"""An intervention on what an agent wrote: does what it says to itself matter, and is it this that matters?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl.types import Interaction, Kind, State, Text, Turn, Written


class IntervenedState(NamedTuple):
    """State of `replace_segments`.

    Attributes:
      inner: state of the interaction within.
      kind: int32 `[]`, `Kind` of the segment that is being written.
      attempt: int32 `[]`, the attempt that it belongs to.
      life: int32 `[]`, which of the other lives speaks in this one.
    """

    inner: State
    kind: jax.Array
    attempt: jax.Array
    life: jax.Array


def replace_segments(inner: Interaction, kind: Kind, others: Text) -> Interaction:
    """Returns `inner`, which hears another life's segments of a kind in place of those written in it.

    The segment is written all the same; what is replaced is what follows from it. One other life, drawn at the start, speaks throughout.

    Args:
      inner: the interaction to intervene in.
      kind: of the segments that are replaced.
      others: what other lives wrote, ids `[P, K, capacity]` by life and attempt. Empty texts blank the segments out.

    Returns:
      The interaction; its state is an `IntervenedState`.
    """
    capacity = inner.size.written
    others = Text(jnp.asarray(others.ids)[..., :capacity], jnp.minimum(jnp.asarray(others.length), capacity))
    num_lives, num_attempts, width = others.ids.shape

    def watch(life: jax.Array, state: State, turn: Turn) -> tuple[IntervenedState, Turn]:
        return IntervenedState(state, turn.kind, turn.attempt, life), turn

    def start(key, setting):
        life = jax.random.randint(jax.random.fold_in(key, 1), (), 0, num_lives)
        return watch(life, *inner.start(key, setting))

    def advance(key, setting, state: IntervenedState, written: Written):
        index = (state.life, jnp.clip(state.attempt, 0, num_attempts - 1))
        ids = jnp.pad(others.ids[index], (0, capacity - width))
        is_replaced = state.kind == kind
        heard = Text(jnp.where(is_replaced, ids, written.text.ids), jnp.where(is_replaced, others.length[index], written.text.length))
        return watch(state.life, *inner.advance(key, setting, state.inner, written._replace(text=heard)))

    return inner._replace(
        start=start,
        advance=advance,
        expert=(lambda key, state: inner.expert(key, state.inner)) if inner.expert else None,
        anchor=(lambda state: inner.anchor(state.inner)) if inner.anchor else None,
    )


def segments(tokens: jax.Array, is_kind: jax.Array, attempt: jax.Array, num_attempts: int, capacity: int) -> Text:
    """Returns what was sampled in segments of one kind, by lane and attempt, for lanes of one life each.

    Args:
      tokens: int32 `[B, T]`, token ids sampled.
      is_kind: bool `[B, T]`, where one was sampled in a segment of that kind.
      attempt: int32 `[B, T]`.
      num_attempts: `K`.
      capacity: tokens of the longest segment.

    Returns:
      Text, ids `[B, K, capacity]`.
    """

    def of_attempt(index):
        is_here = is_kind & (attempt == index)
        place = jnp.where(is_here, jnp.cumsum(is_here, axis=1) - 1, capacity)
        lane = jnp.arange(len(tokens))[:, None]
        ids = jnp.zeros((len(tokens), capacity), jnp.int32).at[lane, place].set(tokens, mode="drop")
        return Text(ids, jnp.minimum(jnp.sum(is_here, axis=1), capacity))

    return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *[of_attempt(index) for index in range(num_attempts)])
