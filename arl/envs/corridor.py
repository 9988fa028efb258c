"""Corridor: a cue at the start says through which door to go at the end; on the way stand signs of the same words, which say nothing.

A T-maze (Bakker, 2002, "Reinforcement learning with long short-term memory") in words, as
`Goal left: on here is right: on left; doors: left correct`. While one walks there is one legal action, " on", which costs
no decision. Where a context is shorter than the corridor only a memory of the cue helps: the signs do not depend on it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Environment, Step, Text, select

MAX_CUES = 100  # doors that are numbered have a token each
ON = " on"  # the action of walking, the last one


class CorridorState(NamedTuple):
    """The cue, the signs, and how far one has come.

    Attributes:
      cue: int32 `[]`, the door to choose.
      signs: int32 `[length]`, what each sign says: a door, or one more than the last door for "nothing".
      num_steps: int32 `[]`, steps made; with `length` of them one stands before the doors, with one more one has chosen.
      choice: int32 `[]`, the door that was chosen; -1 before.
    """

    cue: jax.Array
    signs: jax.Array
    num_steps: jax.Array
    choice: jax.Array


def make_corridor(tokenizer: Any, length: int = 8, num_cues: int = 2, is_distracting: bool = True) -> Environment:
    """Returns the corridor as an environment whose actions are the doors (" left", " right", or " 0", " 1", ...) and, last, " on".

    The cue and every sign are uniform and independent. Choosing the door of the cue is paid 1. The expert remembers the cue.

    Args:
      tokenizer: a fast tokenizer.
      length: steps from the cue to the doors, at least 1; with the tokenizer that ships with `arl` each is 5 tokens, read and written.
      num_cues: how many doors; two are called left and right, more are numbered.
      is_distracting: whether the signs name doors; else they all say "nothing".

    Raises:
      ValueError: if there is no corridor, or no choice.
    """
    if length < 1:
        raise ValueError(f"A corridor of {length} steps has no way from the cue to the doors; set length to at least 1.")
    if not 2 <= num_cues <= MAX_CUES:
        raise ValueError(f"With num_cues = {num_cues} there is no door to choose, or no name for each; set it to 2, ..., {MAX_CUES}.")

    def reset(key: jax.Array) -> CorridorState:
        key_cue, key_signs = jax.random.split(key)
        cue = jax.random.randint(key_cue, (), 0, num_cues)
        signs = jax.random.randint(key_signs, (length,), 0, num_cues) if is_distracting else jnp.full(length, num_cues, jnp.int32)
        return CorridorState(cue, signs, jnp.int32(0), jnp.int32(-1))

    def step(key: jax.Array, state: CorridorState, action: jax.Array) -> tuple[CorridorState, Step]:
        del key  # all that is random was drawn by `reset`
        is_choice, is_over = state.num_steps == length, state.num_steps > length
        choice = jnp.where(is_choice, jnp.asarray(action, jnp.int32), state.choice)
        state = select(is_over, state, CorridorState(state.cue, state.signs, state.num_steps + 1, choice))
        reward = is_choice & (state.choice == state.cue)
        return state, Step(reward.astype(jnp.float32), state.num_steps > length, jnp.bool_(False))

    def legal(state: CorridorState) -> jax.Array:
        is_walking = state.num_steps < length
        return jnp.where(jnp.arange(num_cues + 1) == num_cues, is_walking, ~is_walking)

    def expert(key: jax.Array, state: CorridorState) -> jax.Array:
        return jnp.where(state.num_steps < length, num_cues, state.cue)

    def anchor(state: CorridorState) -> jax.Array:
        return (state.num_steps * num_cues + state.cue).astype(jnp.uint32)

    doors = door_names(num_cues)
    grammar = text.legal_strings(tokenizer, [f" {door}" for door in doors] + [ON])
    describe = _descriptions(tokenizer, doors, length)
    return Environment(reset, step, describe, grammar, legal, max_steps=length + 1, expert=expert, anchor=anchor)


def door_names(num_cues: int) -> tuple[str, ...]:
    """Returns what the doors are called.

    Args:
      num_cues: how many there are.
    """
    return ("left", "right") if num_cues == 2 else tuple(map(str, range(num_cues)))


def _descriptions(tokenizer: Any, doors: tuple[str, ...], length: int) -> Callable[[CorridorState], Text]:
    """Returns `describe`, which looks up one of a few constant texts: cues, then signs, then last signs, then ends."""
    signs = (*doors, "nothing")
    options = [f"Goal {door}:" for door in doors]
    options += [f" here is {sign}:" for sign in signs] + [f" {sign}; doors:" for sign in signs] + [" wrong\n", " correct\n"]
    say = text.template(tokenizer, "{said}", said=text.choice(options))
    first_sign, last_sign, end = len(doors), len(doors) + len(signs), len(doors) + 2 * len(signs)

    def describe(state: CorridorState) -> Text:
        sign = state.signs[jnp.clip(state.num_steps - 1, 0, length - 1)]
        walking = jnp.where(state.num_steps == 0, state.cue, first_sign + sign)
        at_doors = jnp.where(state.num_steps == length, last_sign + sign, end + (state.choice == state.cue))
        return say(said=jnp.where(state.num_steps < length, walking, at_doors))

    return describe


# ---------------------------------------------------------------- optimum and baseline, closed forms
def optimal_return() -> float:
    """Returns the expected return of one who remembers the cue: it is chosen, whatever the length."""
    return 1.0


def random_return(num_cues: int = 2) -> float:
    """Returns the expected return of a door chosen at random, and of anyone who has forgotten the cue: the signs do not depend on it.

    Args:
      num_cues: how many doors there are.
    """
    return 1.0 / num_cues
