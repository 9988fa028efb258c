"""A price of words: every token that is written costs something, by what it is written for."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl.types import Interaction, Kind, State, Turn, Written


class PriceState(NamedTuple):
    """State of `price`.

    Attributes:
      inner: state of the interaction within.
      kind: int32 `[]`, `Kind` of the segment that is being written.
    """

    inner: State
    kind: jax.Array


def price(inner: Interaction, prices: Mapping[Kind, float]) -> Interaction:
    """Returns `inner`, where every token that is written is charged for, as `efficiency` reward of the segment that it belongs to.

    A segment costs its length times the price of its kind. Forced tokens belong to it, the token that stops it does not: a thought that is
    ended at once is free. Legal or not, what has been written is paid for. Each segment is charged when it ends, so the agent can weigh a
    longer one against what it brings. (The cost of computation: Principles of Metareasoning, Russell & Wefald 1991.)

    Only what `inner` asks for has a price: to charge for thoughts, notes or reflections, stand outside of what asks for them. The word by
    which no tool is called is a TOOL segment too. `weigh` lets prices follow a schedule.

    Args:
      inner: the interaction to write in.
      prices: of a token, by kind of segment, in the environment's units; 0 for kinds that are not named.

    Returns:
      The interaction; its state is a `PriceState`.

    Raises:
      ValueError: if nothing has a price, a price is negative, or a kind is not written by the model.
    """
    _check(prices)
    table = np.zeros(len(Kind), np.float32)
    for kind, cost in prices.items():
        table[kind] = cost

    def watch(state: State, turn: Turn) -> tuple[PriceState, Turn]:
        return PriceState(state, turn.kind), turn

    def start(key, setting):
        return watch(*inner.start(key, setting))

    def advance(key, setting, state: PriceState, written: Written):
        cost = jnp.asarray(table)[state.kind] * written.text.length
        inner_state, turn = inner.advance(key, setting, state.inner, written)
        return watch(inner_state, turn._replace(reward=turn.reward._replace(efficiency=turn.reward.efficiency - cost)))

    return inner._replace(
        start=start,
        advance=advance,
        expert=(lambda key, state: inner.expert(key, state.inner)) if inner.expert else None,
        anchor=(lambda state: inner.anchor(state.inner)) if inner.anchor else None,
    )


def _check(prices: Mapping[Kind, float]) -> None:
    """Raises ValueError for prices that charge nothing, pay for words, or stand at what the model never writes."""
    for kind, cost in prices.items():
        if kind not in list(Kind):
            raise ValueError(f"there is no kind of segment {kind!r}; give prices by arl.types.Kind, such as Kind.THINK")
        if kind <= Kind.OBSERVATION:
            raise ValueError(f"a token of kind {Kind(kind).name} is read, not written; give prices of kinds that the model writes")
        if not 0 <= cost < float("inf"):
            raise ValueError(f"a price of {cost} for {Kind(kind).name} would not be paid; give what a token costs as a number >= 0")
    if not any(prices.values()):
        raise ValueError("prices of nothing charge nothing; give a kind of segment a price above 0, or leave price() out")
