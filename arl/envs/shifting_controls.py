"""Shifting controls: the words for directions are permuted in an unknown way, and permuted again at an unannounced step.

Every turn requests a direction, and shows in which direction the word written before moved; the reward is 1 if that was requested:
`Move up: left down, right: up right, up: down up`. A fixed policy fails after the shift; an adaptive one notices that a word moves
differently, and finds the right words again. The posterior over permutations is a Bayes filter (`posterior`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.envs.shifting_controls_bounds import (
    ShiftRange,
    adaptive_return,
    permutations,
    prior_of,
    random_return,
    range_of,
    shift_chances,
)
from arl.task import Bounds, Course, Environment, Limits, Shifts, Step, Task, whole_attempt_cost
from arl.types import ArlError, Text, select

DIRECTIONS = ("left", "right", "up", "down")
NUM_RECENT = 3  # number of steps after a shift that the filter distinguishes
TIE = 1e-5  # preference of the expert for earlier words: larger than rounding errors, smaller than relevant differences


class ShiftingControlsState(NamedTuple):
    """The requests, controls and words of an attempt of `T` steps and `A` words, and the probabilities for the filter.

    Attributes:
      asked: int32 `[T]`, requested direction of each step.
      controls: int32 `[T, A]`, hidden: direction in which each word moves at each step.
      is_shift: bool `[T]`, hidden: whether the controls of a step differ from those of the step before; false at step 0.
      words: int32 `[T]`, words written so far; 0 beyond them.
      num_steps: int32 `[]`, number of steps made.
      prior: float32 `[A!]`, probability of each of `permutations(A)` at step 0.
      hazard: float32 `[T, 2]`, probability of a shift before each step, if there has been none yet and if there has.
    """

    asked: jax.Array
    controls: jax.Array
    is_shift: jax.Array
    words: jax.Array
    num_steps: jax.Array
    prior: jax.Array
    hazard: jax.Array


def make_shifting_controls(
    tokenizer: Any,
    num_actions: int = 4,
    num_steps: int = 20,
    shift_range: ShiftRange | None = None,
    hazard: float | None = None,
    starts_plain: bool = False,
) -> Environment:
    """Returns the game as an environment whose actions are the first `num_actions` of " left", " right", " up", " down".

    A shift draws one of the other permutations uniformly. The expert writes the word that most probably moves as requested, given this
    attempt so far and the probabilities of shifts.

    Args:
      tokenizer: a fast tokenizer.
      num_actions: number of words and directions, 2 to 4.
      num_steps: number of steps of an attempt, after which it terminates.
      shift_range: first and last step, both included, before which one shift happens, uniformly; None for the middle third.
      hazard: probability of a shift before every step but the first; None for exactly one shift.
      starts_plain: whether every word initially moves as it says; otherwise the first permutation is drawn uniformly.

    Raises:
      ArlError: if a number or probability is out of range, or both `shift_range` and `hazard` are given.
    """
    if not 2 <= num_actions <= len(DIRECTIONS):
        raise ArlError(f"There are no controls of {num_actions} words; set num_actions to 2, ..., {len(DIRECTIONS)}.")
    chances = shift_chances(num_steps, shift_range, hazard)
    prior = prior_of(num_actions, starts_plain)
    table = permutations(num_actions)

    def reset(key: jax.Array) -> ShiftingControlsState:
        key_asked, key_first, key_shift, key_change = jax.random.split(key, 4)
        asked = jax.random.randint(key_asked, (num_steps,), 0, num_actions)
        first = jnp.int32(0) if starts_plain else jax.random.randint(key_first, (), 0, len(table))
        is_shift = _draw_shifts(key_shift, num_steps, shift_range, hazard)
        change = jax.random.randint(key_change, (num_steps,), 1, len(table))  # to any other permutation
        controls = jnp.asarray(table)[(first + jnp.cumsum(jnp.where(is_shift, change, 0))) % len(table)]
        odds = jnp.asarray(prior, jnp.float32), jnp.asarray(chances, jnp.float32)
        return ShiftingControlsState(asked, controls, is_shift, jnp.zeros(num_steps, jnp.int32), jnp.int32(0), *odds)

    def step(key: jax.Array, state: ShiftingControlsState, action: jax.Array) -> tuple[ShiftingControlsState, Step]:
        del key  # `reset` draws everything random
        now, is_over = state.num_steps, state.num_steps >= num_steps
        words = jnp.where(jnp.arange(num_steps) == now, jnp.asarray(action, jnp.int32), state.words)
        state = select(is_over, state, state._replace(words=words, num_steps=now + 1))
        is_right = ~is_over & (moved(state)[now] == state.asked[now])
        return state, Step(is_right.astype(jnp.float32), state.num_steps >= num_steps, jnp.bool_(False))

    def legal(state: ShiftingControlsState) -> jax.Array:
        return jnp.ones(num_actions, bool)

    def expert(key: jax.Array, state: ShiftingControlsState) -> jax.Array:
        now = jnp.minimum(state.num_steps, num_steps - 1)
        belief = jnp.sum(predict(posterior(state), state.hazard[now]), axis=0)
        moves_right = jnp.asarray(table) == state.asked[now]
        return jnp.argmax(belief @ moves_right - TIE * jnp.arange(num_actions)).astype(jnp.int32)

    grammar = text.legal_strings(tokenizer, [f" {word}" for word in DIRECTIONS[:num_actions]])
    describe = _descriptions(tokenizer, DIRECTIONS[:num_actions], num_steps)
    return Environment(reset, step, describe, grammar, legal, max_steps=num_steps, expert=expert, state_hash=_state_hash)


def _draw_shifts(key: jax.Array, num_steps: int, shift_range: ShiftRange | None, hazard: float | None) -> jax.Array:
    """Returns whether there is a shift before each step, bool `[num_steps]`."""
    step = jnp.arange(num_steps)
    if hazard is not None:
        return jax.random.bernoulli(key, hazard, (num_steps,)) & (step > 0)
    first, last = range_of(num_steps, shift_range)
    return step == jax.random.randint(key, (), first, last + 1)


def _state_hash(state: ShiftingControlsState) -> jax.Array:
    """Returns a polynomial hash of what was observed and is requested; its multiplier, the golden ratio of 2**32, spreads small codes."""
    num_steps, num_actions = state.controls.shape
    power = np.array([pow(0x9E3779B1, i, 2**32) for i in range(num_steps + 2)], np.uint32)
    code = jnp.where(jnp.arange(num_steps) < state.num_steps, 1 + state.words * num_actions + moved(state), 0)
    asked = state.asked[jnp.minimum(state.num_steps, num_steps - 1)]
    return jnp.sum(jnp.append(code, asked).astype(jnp.uint32) * power[1:], dtype=jnp.uint32)


def _descriptions(tokenizer: Any, names: tuple[str, ...], num_steps: int) -> Callable[[ShiftingControlsState], Text]:
    """Returns `describe`, which selects constant texts: first requests, observations with requests, and last observations."""
    size = len(names)
    options = [f"Move {name}:" for name in names]
    options += [f" {answer}, {name}:" for answer in names for name in names] + [f" {answer}\n" for answer in names]
    say = text.template(tokenizer, "{said}", said=text.choice(options))

    def describe(state: ShiftingControlsState) -> Text:
        asked = state.asked[jnp.minimum(state.num_steps, num_steps - 1)]
        answer = moved(state)[jnp.maximum(state.num_steps - 1, 0)]
        later = jnp.where(state.num_steps < num_steps, size + size * answer + asked, size + size * size + answer)
        return say(said=jnp.where(state.num_steps == 0, asked, later))

    return describe


# ---------------------------------------------------------------- the Bayes filter
def moved(state: ShiftingControlsState) -> jax.Array:
    """Returns the direction in which each written word moved, int32 `[T]`; arbitrary beyond the steps made.

    Args:
      state: state of one lane.
    """
    return jnp.take_along_axis(state.controls, state.words[:, None], axis=1)[:, 0]


def posterior(state: ShiftingControlsState) -> jax.Array:
    """Returns the posterior over the controls of the last step and the steps since the last shift.

    It is exact forward filtering over run length and permutation (Adams and MacKay, 2007, arXiv:0710.3742), from words and moves alone.

    Args:
      state: state of one lane, of whose hidden part only the moves made are used.

    Returns:
      float32 `[NUM_RECENT + 2, A!]`, sums to 1. Row `r` below `NUM_RECENT`: the last shift was `r` steps before the last step (0: before
      the last step itself); row `NUM_RECENT`: it was earlier; last row: there was none.
    """
    table = jnp.asarray(permutations(state.controls.shape[1]))
    fits = table[:, state.words].T == moved(state)[:, None]
    is_made = jnp.arange(state.words.shape[0]) < state.num_steps

    def observe(belief, observed):
        hazard, fit, is_made = observed
        weight = predict(belief, hazard) * fit
        return jnp.where(is_made, weight / jnp.where(is_made, jnp.sum(weight), 1.0), belief), None

    start = jnp.zeros((NUM_RECENT + 2, len(table)), jnp.float32).at[-1].set(state.prior)
    return jax.lax.scan(observe, start, (state.hazard, fits, is_made))[0]


def predict(belief: jax.Array, hazard: jax.Array) -> jax.Array:
    """Returns the distribution over the next step's controls, before that step is observed.

    Args:
      belief: float32 `[NUM_RECENT + 2, A!]`, from `posterior`.
      hazard: float32 `[2]`, probability of a shift before that step, if there has been none yet and if there has.

    Returns:
      float32 `[NUM_RECENT + 2, A!]`.
    """
    leaves = hazard[0] * belief[-1] + hazard[1] * jnp.sum(belief[:-1], axis=0)
    arrives = (jnp.sum(leaves) - leaves) / max(belief.shape[1] - 1, 1)
    stays = (1.0 - hazard[1]) * belief[:-1]
    earlier = jnp.sum(stays[-2:], axis=0)
    return jnp.concatenate([arrives[None], stays[:-2], earlier[None], (1.0 - hazard[0]) * belief[-1:]])


def change_probability(state: ShiftingControlsState, within: int = 1) -> jax.Array:
    """Returns the posterior probability that the controls shifted before one of the last steps, float32 `[]`.

    Args:
      state: state of one lane.
      within: number of last steps, 1 to `NUM_RECENT`.

    Raises:
      ArlError: if `within` is out of range.
    """
    if not 1 <= within <= NUM_RECENT:
        raise ArlError(f"The filter does not tell the last {within} steps apart; set within to 1, ..., {NUM_RECENT}.")
    return jnp.sum(posterior(state)[:within])


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class ShiftingControls(Checked):
    """Words for directions whose permutation changes unannounced.

    Attributes:
      num_actions: number of words, 2 to 4.
      num_steps: number of steps of an attempt.
      hazard: probability of a shift before every step but the first; 0 for one shift in the middle third.
      starts_plain: whether every word initially moves as it says.
    """

    num_actions: int = 3
    num_steps: int = 20
    hazard: float = 0.0
    starts_plain: bool = False

    def make(self, tokenizer: Any) -> Task:
        """Returns the task, whose expert is the Bayes filter.

        Args:
          tokenizer: a fast tokenizer.
        """
        options = {"hazard": self.hazard or None, "starts_plain": self.starts_plain}
        return Task(
            make_shifting_controls(tokenizer, self.num_actions, self.num_steps, **options),
            tokenizer,
            bounds=lambda limits: self._bounds(limits, options),
            note_symbols=tuple(f" {name}" for name in DIRECTIONS[: self.num_actions]),
            shifts=Shifts(lambda state: Course(state.is_shift, state.asked), informed=1.0),
        )

    def _bounds(self, limits: Limits, options: dict[str, Any]) -> Bounds:
        """Returns the bounds, with the mean return of the Bayes filter in 10,000 attempts as the optimum."""
        cost = whole_attempt_cost(limits, self.num_steps)
        if limits.num_attempts > 1:
            raise ArlError("the optimum of several attempts at shifting controls is not known; set Attempts.num_attempts=1")
        random = random_return(self.num_actions, self.num_steps)
        optimal = adaptive_return(self.num_actions, self.num_steps, **options)[0]
        return Bounds(random - cost, optimal - cost, None, "filter")
