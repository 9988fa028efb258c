"""Thinking before acting: the model writes to itself, then answers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Interaction, Kind, Size, State, Text, Turn, Written, check_whole, make_turn, select


class ThinkState(NamedTuple):
    """State of `think`.

    Attributes:
      inner: state of the interaction within.
      kind, budget, grammar, legal, attempt: what the inner turn asks for, as in `Turn`; held back while a thought is written.
      is_thinking: bool `[]`, whether a thought is being written.
    """

    inner: State
    kind: jax.Array
    budget: jax.Array
    grammar: jax.Array
    legal: jax.Array
    attempt: jax.Array
    is_thinking: jax.Array


def think(
    inner: Interaction,
    tokenizer,
    *,
    budget: int,
    symbols: list[str] | None = None,
    stop: bool = True,
    before: str = " think",
    after: str = " so",
) -> Interaction:
    """Returns `inner` with a THINK segment before each of its ACTIONs.

    Args:
      inner: the interaction to think in.
      tokenizer: that of `inner`.
      budget: tokens that a thought may hold; at that length it ends.
      symbols: strings of one token each that a thought is made of; None for the whole vocabulary.
      stop: whether the model may end its thought with the stop token; otherwise every thought has `budget` tokens.
      before: read before the thought.
      after: read after it, before the action.

    Returns:
      The interaction; its state is a `ThinkState`.

    Raises:
      ValueError: if `budget` is not positive.
    """
    check_whole(budget=budget)
    if budget < 1:
        raise ValueError(f"a thought of {budget} tokens cannot be written; set its budget >= 1, or leave think() out")
    grammar = text.join(inner.grammar, text.any_text(tokenizer, symbols, stop=stop))
    opening, closing = text.encode(tokenizer, before), text.encode(tokenizer, after)
    read = inner.size.read + opening.ids.shape[0]
    size = inner.size
    extra = opening.ids.shape[0] + budget + closing.ids.shape[0]
    outer_size = Size(
        read=max(read, closing.ids.shape[0]),
        written=max(size.written, budget),
        turns=2 * size.turns,
        life=size.life + size.turns * extra,
        context=size.context + size.context_turns * extra,
        context_turns=2 * size.context_turns,
        forgets=size.forgets,
    )
    legal = text.pad_legal(jnp.ones(1, bool), grammar.num_choices)

    def hold(state: State, turn: Turn) -> tuple[ThinkState, Turn]:
        """The inner turn is held back and a thought is asked for, unless nothing is to be done."""
        wanted = text.pad_legal(turn.legal, grammar.num_choices)
        is_thinking = (turn.kind == Kind.ACTION) & ~turn.truncated & ~turn.terminated
        held = ThinkState(state, turn.kind, turn.budget, turn.grammar, wanted, turn.attempt, is_thinking)
        asked = turn._replace(
            read=text.concatenate(turn.read, text.only_if(is_thinking, opening), capacity=outer_size.read),
            kind=jnp.where(is_thinking, Kind.THINK, turn.kind).astype(jnp.int32),
            budget=jnp.where(is_thinking, budget, turn.budget).astype(jnp.int32),
            grammar=jnp.where(is_thinking, grammar.root, turn.grammar).astype(jnp.int32),
            legal=jnp.where(is_thinking, legal, wanted),
        )
        return held, asked

    def start(key, setting):
        return hold(*inner.start(key, setting))

    def advance(key, setting, state: ThinkState, written: Written):
        released = make_turn(
            text.pad(closing, outer_size.read), state.kind, state.budget, state.grammar, state.legal, attempt=state.attempt
        )
        after_thought = state._replace(is_thinking=jnp.bool_(False)), released
        inner_written = written._replace(text=text.cut(written.text, inner.size.written))
        return select(state.is_thinking, after_thought, hold(*inner.advance(key, setting, state.inner, inner_written)))

    def expert(key, state: ThinkState) -> Text:
        """An expert of the inner interaction thinks nothing: it ends its thought at once."""
        wanted = text.pad(inner.expert(key, state.inner), outer_size.written)
        return select(state.is_thinking, text.empty(outer_size.written), wanted)

    return Interaction(
        start=start,
        advance=advance,
        grammar=grammar,
        size=outer_size,
        adapt=inner.adapt,
        expert=expert if inner.expert else None,
        anchor=(lambda state: inner.anchor(state.inner)) if inner.anchor else None,
        explores=inner.explores,
    )
