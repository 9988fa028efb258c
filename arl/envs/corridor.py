"""Corridor: a cue at the start names the door to choose at the end; the signs on the way are distractors that name random doors.

It is a T-maze (Bakker, 2002, "Reinforcement learning with long short-term memory") in words, such as
`Goal left: on here is right: on left; doors: left correct`. The only legal action on the way is " on". If the context is shorter than the
corridor, the agent needs a memory of the cue, as the signs do not depend on it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, TaskExpert, whole_attempt_cost
from arl.types import ArlError, Kind, Text, select

MAX_CUES = 100  # the numbers of doors are one token each
ON = " on"  # the action of walking, the last one


class CorridorState(NamedTuple):
    """The cue, the signs, and the position of the agent.

    Attributes:
      cue: int32 `[]`, the right door.
      signs: int32 `[length]`, door that each sign names; `num_cues` for "nothing".
      num_steps: int32 `[]`, number of steps made: `length` before the doors, `length + 1` after the choice.
      choice: int32 `[]`, the chosen door; -1 before the choice.
    """

    cue: jax.Array
    signs: jax.Array
    num_steps: jax.Array
    choice: jax.Array


def make_corridor(tokenizer: Any, length: int = 8, num_cues: int = 2, is_distracting: bool = True) -> Environment:
    """Returns the corridor as an environment whose actions are the doors (" left", " right", or " 0", " 1", ...) and, last, " on".

    The cue and all signs are uniform and independent. The reward is 1 for the door of the cue. The expert remembers the cue.

    Args:
      tokenizer: a fast tokenizer.
      length: number of steps from the cue to the doors, at least 1; each is 5 tokens with the tokenizer that ships with `arl`.
      num_cues: number of doors; two are called left and right, more are numbered.
      is_distracting: whether the signs name doors; otherwise all say "nothing".

    Raises:
      ArlError: if a size is out of range.
    """
    if length < 1:
        raise ArlError(f"A corridor of {length} steps has no way from the cue to the doors; set length to at least 1.")
    if not 2 <= num_cues <= MAX_CUES:
        raise ArlError(f"With num_cues = {num_cues} there is no door to choose, or no name for each; set it to 2, ..., {MAX_CUES}.")

    def reset(key: jax.Array) -> CorridorState:
        key_cue, key_signs = jax.random.split(key)
        cue = jax.random.randint(key_cue, (), 0, num_cues)
        signs = jax.random.randint(key_signs, (length,), 0, num_cues) if is_distracting else jnp.full(length, num_cues, jnp.int32)
        return CorridorState(cue, signs, jnp.int32(0), jnp.int32(-1))

    def step(key: jax.Array, state: CorridorState, action: jax.Array) -> tuple[CorridorState, Step]:
        del key  # `reset` draws everything random
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

    def state_hash(state: CorridorState) -> jax.Array:
        return (state.num_steps * num_cues + state.cue).astype(jnp.uint32)

    doors = door_names(num_cues)
    grammar = text.legal_strings(tokenizer, [f" {door}" for door in doors] + [ON])
    describe = _descriptions(tokenizer, doors, length)
    return Environment(reset, step, describe, grammar, legal, max_steps=length + 1, expert=expert, state_hash=state_hash)


def door_names(num_cues: int) -> tuple[str, ...]:
    """Returns the names of the doors.

    Args:
      num_cues: number of doors.
    """
    return ("left", "right") if num_cues == 2 else tuple(map(str, range(num_cues)))


def _descriptions(tokenizer: Any, doors: tuple[str, ...], length: int) -> Callable[[CorridorState], Text]:
    """Returns `describe`, which selects constant texts: cues, signs, last signs, and ends."""
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


# ---------------------------------------------------------------- optimal return and baseline, closed forms
def optimal_return() -> float:
    """Returns the expected return of an agent that remembers the cue."""
    return 1.0


def random_return(num_cues: int = 2) -> float:
    """Returns the expected return of a random door, which is that of any agent without a memory of the cue.

    Args:
      num_cues: number of doors.
    """
    return 1.0 / num_cues


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class Corridor(Checked):
    """A cue, a walk, and a choice of the door that the cue names.

    Attributes:
      length: number of steps of the walk.
      num_cues: number of cues, and of doors.
      is_distracting: whether signs on the way name doors.
    """

    length: int = 8
    num_cues: int = 2
    is_distracting: bool = True

    def make(self, tokenizer: Any) -> Task:
        """Returns the task, whose expert notes the cue.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_corridor(tokenizer, self.length, self.num_cues, self.is_distracting)
        doors = tuple(f" {name}" for name in door_names(self.num_cues))
        names = text.stack([text.token_ids(tokenizer, door) for door in doors])

        def note(key: jax.Array, state: CorridorState, attempt: jax.Array) -> Text:
            return text.lookup(names, state.cue)

        experts: dict[Kind, TaskExpert] = {Kind.NOTE: note}
        return Task(
            environment,
            tokenizer,
            bounds=self._bounds,
            experts=lambda limits: experts,
            note_symbols=doors,
            hidden=lambda state: state.cue,
        )

    def _bounds(self, limits: Limits) -> Bounds:
        cost = whole_attempt_cost(limits, self.length + 1)
        random, optimal = ((best - cost) * limits.num_attempts for best in (random_return(self.num_cues), optimal_return()))
        return Bounds(random, optimal, 0.5 - cost)
