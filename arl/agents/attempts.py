"""Several attempts at one task, and what crosses from one to the next: nothing, a window, everything, or a reflection."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Interaction, Kind, Reward, Size, State, Text, Turn, Written, check_whole, follow, select

ExpertAgain = Callable[[jax.Array, State, jax.Array], Text]
"""`(key, state of the interaction within, int32 [] index of the attempt) -> Text`: what an expert writes, in an attempt or after it, who
knows what it and those before it told."""


@dataclasses.dataclass(frozen=True)
class Carry:
    """What an agent carries from one attempt to the next. Made by `nothing`, `window`, `history` and `reflection`.

    Attributes:
      forgets: whether the context begins anew with the attempt.
      window: tokens of the transcript (read and written) that are kept.
      budget: tokens of the reflection that is written between two attempts; 0 for none.
      symbols: strings of one token each that a reflection is made of; None for the whole vocabulary.
      stop: whether the model may end its reflection before its budget.
      ask: read before a reflection is written, and before it is read again.
      annealed: whether forgetting is a schedule: the old context is kept too with probability `setting[name]["keep"]`.
      expert_note: what an expert would write as its reflection when the attempt is over; None for nothing at all.
    """

    forgets: bool = True
    window: int = 0
    budget: int = 0
    symbols: tuple[str, ...] | None = None
    stop: bool = False
    ask: str = " note"
    annealed: bool = False
    expert_note: ExpertAgain | None = None


def nothing() -> Carry:
    """Returns the carry of an agent that begins every attempt knowing nothing."""
    return Carry()


def history() -> Carry:
    """Returns the carry of an agent whose context goes on from one attempt to the next."""
    return Carry(forgets=False)


def window(num_tokens: int) -> Carry:
    """Returns the carry of an agent that keeps the last `num_tokens` tokens of its life so far.

    Raises:
      ValueError: for a window without tokens.
    """
    check_whole(num_tokens=num_tokens)
    if num_tokens < 1:
        raise ValueError(f"a window of {num_tokens} tokens carries nothing; set num_tokens (in configs agent.window) >= 1")
    return Carry(window=num_tokens)


def reflection(
    budget: int,
    *,
    symbols: Sequence[str] | None = None,
    stop: bool = False,
    ask: str = " note",
    annealed: bool = False,
    expert_note: ExpertAgain | None = None,
) -> Carry:
    """Returns the carry of an agent that keeps only what it writes after an attempt, a REFLECTION of `budget` tokens.

    Args:
      budget: tokens of the reflection.
      symbols, stop, ask, annealed, expert_note: see `Carry`.

    Returns:
      The carry.

    Raises:
      ValueError: for a reflection without tokens, or symbols that are one string.
    """
    check_whole(budget=budget)
    if budget < 1:
        raise ValueError(
            f"a reflection of {budget} tokens says nothing; set budget (in configs reflection_budget) >= 1, or carry=nothing()"
        )
    if isinstance(symbols, str):
        raise ValueError(f"symbols is the string {symbols!r}; set it to a tuple of strings, such as ({symbols!r},)")
    symbols = None if symbols is None else tuple(symbols)
    return Carry(budget=budget, symbols=symbols, stop=stop, ask=ask, annealed=annealed, expert_note=expert_note)


class AttemptsState(NamedTuple):
    """State of `attempts`.

    Attributes:
      task: key from which every attempt's task is made anew.
      inner: state of the interaction within.
      attempt: int32 `[]`, index of the attempt.
      is_reflecting: bool `[]`, whether a reflection is being written.
      kept: `Text` that this attempt's context began with, to be prepended to whatever forgets within.
      transcript: `Text`, the last tokens read and written; of capacity 0 unless a window is carried.
    """

    task: jax.Array
    inner: State
    attempt: jax.Array
    is_reflecting: jax.Array
    kept: Text
    transcript: Text


def attempts(
    inner: Interaction,
    tokenizer,
    *,
    num_attempts: int,
    carry: Carry = Carry(),
    discount: float = 1.0,
    expert: ExpertAgain | None = None,
    name: str = "attempts",
) -> Interaction:
    """Returns a lifetime: `num_attempts` attempts at one and the same task of `inner`.

    Each attempt starts `inner` with the same key: the same hidden number, the same map. An attempt that is terminated or truncated is
    followed by the next one; the last one ends the life as `inner` ended it. (Reflection between attempts as in LaMer, arXiv 2512.16848;
    several episodes of one task as in RL^2, arXiv 1611.02779.)

    Args:
      inner: the interaction of one attempt.
      tokenizer: that of `inner`.
      num_attempts: attempts in a life, `K`.
      carry: what crosses from one attempt to the next.
      discount: weight of the next attempt seen from the end of the one before; what is within an attempt is discounted by `inner`.
      expert: what an expert writes within an attempt who knows what the attempts before it told; None for that of `inner`, which begins
        every attempt knowing nothing.
      name: key of this combinator's part of `setting`.

    Returns:
      The interaction; its state is an `AttemptsState`.

    Raises:
      ValueError: if there is nothing to carry, or no room for what is carried, or `inner` pays for what is new.
    """
    if not isinstance(carry, Carry):
        raise ValueError(f"carry is {carry!r}; make it with nothing(), window(...), history() or reflection(...)")
    check_whole(num_attempts=num_attempts)
    if num_attempts < 1:
        raise ValueError(f"a life of {num_attempts} attempts is no life; set num_attempts >= 1")
    if carry.budget and num_attempts < 2:
        raise ValueError("a reflection needs a next attempt to be of use; set num_attempts >= 2, or carry=nothing()")
    if not 0 <= discount <= 1:
        raise ValueError(f"a discount of {discount} is no weight of the next attempt; set it between 0 and 1")
    if inner.explores and num_attempts > 1:
        raise ValueError("what is new would be paid for again in every attempt; put explore() around attempts(), not within")
    if carry.budget < 0 or carry.window < 0:
        raise ValueError(f"a carry of {min(carry.budget, carry.window)} tokens is impossible; set it >= 0")
    if carry.expert_note and not carry.budget:
        raise ValueError("an expert has no reflection to write here; set the carry's budget >= 1, or leave expert_note out")
    if not carry.forgets and inner.size.forgets:
        raise ValueError("a history is lost where the interaction within begins its context anew; carry a window or a reflection")
    reflects, grammar = carry.budget > 0, inner.grammar
    ask = text.encode(tokenizer, carry.ask) if reflects else text.empty(0)
    if reflects:
        grammar = text.join(grammar, text.any_text(tokenizer, carry.symbols, stop=carry.stop))
    size, kept_capacity = inner.size, carry.window + (ask.ids.shape[0] + carry.budget if reflects else 0)
    outer_size = _size(size, num_attempts, carry, ask.ids.shape[0], kept_capacity)

    def fit(turn: Turn, before: Text, **rest) -> Turn:
        """Returns `turn`, whose text is read after `before`."""
        read = text.concatenate(before, turn.read, capacity=outer_size.read)
        return turn._replace(read=read, legal=text.pad_legal(turn.legal, grammar.num_choices), **rest)

    def remember(transcript: Text, *new: Text) -> Text:
        return text.keep_last(text.concatenate(transcript, *new), carry.window) if carry.window else transcript

    def start(key, setting):
        inner_state, turn = inner.start(key, setting)
        transcript = remember(text.empty(carry.window), turn.read)
        state = AttemptsState(key, inner_state, jnp.int32(0), jnp.bool_(False), text.empty(kept_capacity), transcript)
        return state, fit(turn, text.empty(0))

    def next_attempt(key, setting, state: AttemptsState, ended: Turn, note: Text) -> tuple[AttemptsState, Turn]:
        """The next attempt begins; `ended` is the turn that ended the one before, or followed the reflection on it."""
        inner_state, first = inner.start(state.task, setting)
        forget = jnp.bool_(carry.forgets)
        if carry.annealed:
            forget &= jax.random.uniform(key) >= follow(setting, name, "keep")
        transcript = remember(state.transcript, ended.read)
        kept = text.concatenate(transcript, ask, note)
        # What is not forgotten need not be read again, but a reflection is, so that it always stands in the same place.
        before = text.concatenate(text.only_if(~forget, ended.read), text.only_if(forget, transcript), ask, note)
        turn = fit(first, before, reward=ended.reward, forget=forget, discount=jnp.float32(discount), attempt=state.attempt + 1)
        transcript = remember(transcript, ask, note, first.read)
        return AttemptsState(state.task, inner_state, state.attempt + 1, jnp.bool_(False), kept, transcript), turn

    def reflect(inner_state: State, state: AttemptsState, ended: Turn) -> tuple[AttemptsState, Turn]:
        """The attempt is over; a reflection on it is asked for."""
        read = text.concatenate(text.only_if(ended.forget, state.kept), ended.read, ask, capacity=outer_size.read)
        turn = ended._replace(
            read=read,
            kind=jnp.int32(Kind.REFLECTION),
            budget=jnp.int32(carry.budget),
            grammar=jnp.int32(grammar.root),
            legal=jnp.ones(grammar.num_choices, bool),
            discount=jnp.float32(1.0),
            attempt=state.attempt,
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
        )
        transcript = remember(state.transcript, ended.read, ask)
        return state._replace(inner=inner_state, is_reflecting=jnp.bool_(True), transcript=transcript), turn

    def go_on(inner_state: State, state: AttemptsState, turn: Turn) -> tuple[AttemptsState, Turn]:
        """The attempt goes on, or the life ends with it."""
        before = text.only_if(turn.forget, state.kept)
        transcript = remember(state.transcript, turn.read)
        return state._replace(inner=inner_state, transcript=transcript), fit(turn, before, attempt=state.attempt)

    def advance(key, setting, state: AttemptsState, written: Written):
        key_inner, key_forget = jax.random.split(key)
        inner_written = written._replace(text=text.cut(written.text, size.written))
        inner_state, turn = inner.advance(key_inner, setting, state.inner, inner_written)
        state = state._replace(transcript=remember(state.transcript, written.text))
        goes_on = go_on(inner_state, state, turn)
        attempt_ends = (turn.terminated | turn.truncated) & (state.attempt < num_attempts - 1)
        if not reflects:
            return select(attempt_ends, next_attempt(key_forget, setting, state, turn, text.empty(0)), goes_on)
        silence = turn._replace(read=text.empty(0), reward=Reward(*map(jnp.zeros_like, turn.reward)))
        following = next_attempt(key_forget, setting, state, silence, text.cut(written.text, carry.budget))
        after_attempt = select(attempt_ends, reflect(inner_state, state, turn), goes_on)
        return select(state.is_reflecting, following, after_attempt)

    within = expert or (lambda key, state, attempt: inner.expert(key, state))

    def write(key, state: AttemptsState) -> Text:
        wanted = text.pad(within(key, state.inner, state.attempt), outer_size.written)
        note = text.cut(carry.expert_note(key, state.inner, state.attempt), carry.budget) if carry.expert_note else text.empty(0)
        return select(state.is_reflecting, text.pad(note, outer_size.written), wanted)

    return Interaction(
        start=start,
        advance=advance,
        grammar=grammar,
        size=outer_size,
        adapt=inner.adapt,
        expert=write if expert or inner.expert else None,
        anchor=(lambda state: inner.anchor(state.inner)) if inner.anchor else None,
        explores=inner.explores,
    )


def _size(size: Size, num_attempts: int, carry: Carry, ask: int, kept: int) -> Size:
    """Returns the bounds of a life; `ask` and `kept` are numbers of tokens."""
    border = kept + (ask + carry.budget if carry.budget else 0)
    # What is kept is read again wherever the interaction within forgets.
    life = num_attempts * size.life + (num_attempts - 1) * (border + size.forgets * kept)
    always_forgets = carry.forgets and not carry.annealed
    again = (
        size.read if num_attempts > 1 and not (always_forgets or carry.budget) else 0
    )  # the end of the attempt before, read in the same turn
    asked = ask if carry.budget else 0
    turns = num_attempts * size.turns + (num_attempts - 1 if carry.budget else 0)
    return Size(
        read=kept + size.read + max(again, asked),
        written=max(size.written, carry.budget),
        turns=turns,
        life=life,
        context=min(border + size.context, life) if always_forgets else life,
        context_turns=min(size.context_turns + bool(carry.budget), turns) if always_forgets else turns,
        forgets=num_attempts * size.forgets + (num_attempts - 1 if carry.forgets or carry.annealed else 0),
    )
