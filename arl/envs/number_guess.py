"""Number guess: find a hidden number from the answers "higher" and "lower".

The number is drawn uniformly from 0 to `num_numbers - 1`. There are two forms:
- many guesses per attempt, each of which costs 1: `Number below 32: 17 higher: 24 lower: 20 correct`;
- one guess per attempt (`one_guess`), with a reward of 1 if it is right: `Guess: 5 higher`. Several attempts at the same number (reset with
  the same key) need a memory across attempts.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, bounds_of_search
from arl.types import ArlError, Text, select

ASKED, HIGHER, LOWER, CORRECT = range(4)  # the last text: the question, or the answer to a guess


class NumberGuessState(NamedTuple):
    """The hidden number, and what the answers of this attempt reveal.

    Attributes:
      number: int32 `[]`, the hidden number.
      low: int32 `[]`, the smallest number that the answers allow.
      high: int32 `[]`, one more than the largest number that they allow.
      answer: int32 `[]`, the last text: `ASKED`, `HIGHER`, `LOWER` or `CORRECT`.
    """

    number: jax.Array
    low: jax.Array
    high: jax.Array
    answer: jax.Array


def make_number_guess(tokenizer: Any, num_numbers: int = 32, one_guess: bool = False) -> Environment:
    """Returns the game as an environment whose action `i` is the number `i`, written with the space before it.

    The expert bisects the interval that the answers of this attempt leave, which is optimal. With `one_guess` it guesses the middle, which
    is optimal in a first attempt; it does not remember other attempts.

    Args:
      tokenizer: a fast tokenizer.
      num_numbers: number of numbers.
      one_guess: whether an attempt is one guess, with reward 1 if it is right; otherwise it ends with the right guess, and each guess costs
        1.

    Raises:
      ArlError: if there are fewer than two numbers.
    """
    if num_numbers < 2:
        raise ArlError(f"With num_numbers = {num_numbers} there is nothing to guess; set it to at least 2.")

    def reset(key: jax.Array) -> NumberGuessState:
        number = jax.random.randint(key, (), 0, num_numbers)
        return NumberGuessState(number, jnp.int32(0), jnp.int32(num_numbers), jnp.int32(ASKED))

    def step(key: jax.Array, state: NumberGuessState, action: jax.Array) -> tuple[NumberGuessState, Step]:
        del key  # the answers are deterministic
        action = jnp.asarray(action, jnp.int32)
        is_right, is_over = action == state.number, state.answer != ASKED if one_guess else state.answer == CORRECT
        answer = jnp.where(is_right, CORRECT, jnp.where(state.number > action, HIGHER, LOWER))
        low = jnp.where(is_right, state.number, jnp.where(answer == HIGHER, jnp.maximum(state.low, action + 1), state.low))
        high = jnp.where(is_right, state.number + 1, jnp.where(answer == LOWER, jnp.minimum(state.high, action), state.high))
        state = select(is_over, state, NumberGuessState(state.number, low, high, answer))
        reward = jnp.where(is_over, 0.0, is_right if one_guess else -1.0)
        terminated = jnp.bool_(True) if one_guess else state.answer == CORRECT
        return state, Step(jnp.float32(reward), terminated, jnp.bool_(False))

    def legal(state: NumberGuessState) -> jax.Array:
        return jnp.ones(num_numbers, bool)

    def expert(key: jax.Array, state: NumberGuessState) -> jax.Array:
        return (state.low + state.high - 1) // 2

    def state_hash(state: NumberGuessState) -> jax.Array:
        return (state.low * (num_numbers + 1) + state.high).astype(jnp.uint32)

    grammar = text.legal_strings(tokenizer, [f" {i}" for i in range(num_numbers)])
    describe = _descriptions(tokenizer, num_numbers, one_guess)
    limits = {"max_steps": 1, "worst_reward": 0.0} if one_guess else {"max_steps": None, "worst_reward": -1.0}
    return Environment(reset, step, describe, grammar, legal, **limits, expert=expert, state_hash=state_hash)


def _descriptions(tokenizer: Any, num_numbers: int, one_guess: bool) -> Callable[[NumberGuessState], Text]:
    """Returns `describe`, which selects one of four constant texts."""
    end, question = ("\n", "Guess:") if one_guess else (":", f"Number below {num_numbers}:")
    options = [question, f" higher{end}", f" lower{end}", " correct\n"]
    say = text.template(tokenizer, "{answer}", answer=text.choice(options))
    return lambda state: say(answer=state.answer)


# ---------------------------------------------------------------- optimal returns and baselines, exact
def optimal_num_guesses(num_numbers: int, num_steps: int | None = None) -> float:
    """Returns the smallest expected number of guesses, by dynamic programming over the number of numbers left.

    Without a limit this is the mean depth of a balanced binary search tree (Knuth, The Art of Computer Programming, 6.2.1).

    Args:
      num_numbers: number of numbers.
      num_steps: number of guesses after which an attempt is truncated; None for no limit.
    """
    value = np.zeros(num_numbers + 1)  # by numbers left, before any of the remaining guesses
    for _ in range(num_numbers if num_steps is None else num_steps):
        value = np.array([0.0] + [1.0 + np.min(_weighted_sides(value, left)) for left in range(1, num_numbers + 1)])
    return float(value[num_numbers])


def random_num_guesses(num_numbers: int, num_steps: int | None = None) -> float:
    """Returns the expected number of guesses that are uniform over all numbers.

    Args:
      num_numbers: number of numbers.
      num_steps: number of guesses after which an attempt is truncated; None for no limit.
    """
    miss = 1.0 - 1.0 / num_numbers
    return float(num_numbers * (1.0 - (0.0 if num_steps is None else miss**num_steps)))


def optimal_successes(num_numbers: int, num_attempts: int) -> float:
    """Returns the largest expected number of right guesses in attempts of one guess at the same number: the Bayes-optimal value.

    Args:
      num_numbers: number of numbers.
      num_attempts: number of guesses; an agent that has found the number is right in all later ones.
    """
    value = np.zeros(num_numbers + 1)  # by numbers left, before any of the remaining attempts
    for attempts in range(1, num_attempts + 1):
        right = [attempts / left + np.max(_weighted_sides(value, left)) for left in range(1, num_numbers + 1)]
        value = np.array([0.0] + right)
    return float(value[num_numbers])


def random_successes(num_numbers: int, num_attempts: int) -> float:
    """Returns the expected number of right guesses that are uniform over all numbers.

    Args:
      num_numbers: number of numbers.
      num_attempts: number of guesses.
    """
    return num_attempts / num_numbers


def _weighted_sides(value: np.ndarray, left: int) -> np.ndarray:
    """Returns `[left]`, the expected value after a wrong guess at each of the numbers left, times the probability that it is wrong."""
    below = np.arange(left)
    above = left - 1 - below
    return (below * value[below] + above * value[above]) / left


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class NumberGuess(Checked):
    """A hidden number below `num_numbers`, found from the answers "higher" and "lower".

    Attributes:
      num_numbers: number of numbers.
      one_guess: whether an attempt is one guess, with reward 1 if it is right; otherwise it ends with the right guess, and each guess costs
        1.
    """

    num_numbers: int = 8
    one_guess: bool = True

    def make(self, tokenizer: Any) -> Task:
        """Returns the task.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_number_guess(tokenizer, self.num_numbers, one_guess=self.one_guess)
        symbols = tuple(f" {i}" for i in range(self.num_numbers))
        return Task(
            environment,
            tokenizer,
            bounds=self._bounds,
            note_symbols=symbols,
            hidden=lambda state: state.number,
            posterior=lambda state, action: jnp.where((state.low <= action) & (action < state.high), 1.0 / (state.high - state.low), 0.0),
        )

    def _bounds(self, limits: Limits) -> Bounds:
        size, attempts = self.num_numbers, limits.num_attempts
        if not self.one_guess:
            return bounds_of_search(lambda steps: optimal_num_guesses(size, steps), lambda steps: random_num_guesses(size, steps), limits)
        cost = limits.step_cost * attempts
        return Bounds(random_successes(size, attempts) - cost, optimal_successes(size, attempts) - cost, 0.5 - limits.step_cost)
