"""Number guess: find a hidden number from the answers "higher" and "lower".

The number is drawn uniformly from 0 to `num_numbers - 1`. Two forms:
- many guesses an episode, each at the price of 1: `Number below 32: 17 higher: 24 lower: 20 correct`;
- one guess an attempt (`one_guess`), paid 1 if right: `Guess: 5 higher`. Several attempts at the same number (episodes
  reset with the same key) need a memory that crosses from one to the next.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Environment, Step, Text, select

ASKED, HIGHER, LOWER, CORRECT = range(4)  # what was said last: the question itself, or the answer to a guess


class NumberGuessState(NamedTuple):
    """The hidden number and what the answers of this episode say about it.

    Attributes:
      number: int32 `[]`, the hidden number.
      low: int32 `[]`, the smallest number that the answers allow.
      high: int32 `[]`, one more than the largest.
      answer: int32 `[]`, `ASKED`, `HIGHER`, `LOWER` or `CORRECT`.
    """

    number: jax.Array
    low: jax.Array
    high: jax.Array
    answer: jax.Array


def make_number_guess(tokenizer: Any, num_numbers: int = 32, one_guess: bool = False) -> Environment:
    """Returns the game as an environment whose action `i` is the number `i`, written with the space before it.

    The expert halves the interval that the answers *of this episode* leave, which is optimal. With `one_guess` the interval is always
    the whole: its expert guesses the middle, the best first attempt, and knows nothing of other attempts.

    Args:
      tokenizer: a fast tokenizer.
      num_numbers: how many numbers there are.
      one_guess: whether an episode ends after one guess, paid 1 if right; else it ends with the right guess, and each guess costs 1.

    Raises:
      ValueError: if there are fewer than two numbers.
    """
    if num_numbers < 2:
        raise ValueError(f"With num_numbers = {num_numbers} there is nothing to guess; set it to at least 2.")

    def reset(key: jax.Array) -> NumberGuessState:
        number = jax.random.randint(key, (), 0, num_numbers)
        return NumberGuessState(number, jnp.int32(0), jnp.int32(num_numbers), jnp.int32(ASKED))

    def step(key: jax.Array, state: NumberGuessState, action: jax.Array) -> tuple[NumberGuessState, Step]:
        del key  # the answers are certain
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

    def anchor(state: NumberGuessState) -> jax.Array:
        return (state.low * (num_numbers + 1) + state.high).astype(jnp.uint32)

    grammar = text.legal_strings(tokenizer, [f" {i}" for i in range(num_numbers)])
    describe = _descriptions(tokenizer, num_numbers, one_guess)
    limits = {"max_steps": 1, "worst_reward": 0.0} if one_guess else {"max_steps": None, "worst_reward": -1.0}
    return Environment(reset, step, describe, grammar, legal, **limits, expert=expert, anchor=anchor)


def _descriptions(tokenizer: Any, num_numbers: int, one_guess: bool) -> Callable[[NumberGuessState], Text]:
    """Returns `describe`, which looks up one of four constant texts."""
    end, question = ("\n", "Guess:") if one_guess else (":", f"Number below {num_numbers}:")
    options = [question, f" higher{end}", f" lower{end}", " correct\n"]
    say = text.template(tokenizer, "{answer}", answer=text.choice(options))
    return lambda state: say(answer=state.answer)


# ---------------------------------------------------------------- oracles and baselines, exact
def optimal_num_guesses(num_numbers: int, num_steps: int | None = None) -> float:
    """Returns the smallest expected number of guesses, by dynamic programming over how many numbers are left.

    Without a limit this is the mean depth of a balanced binary search tree (Knuth, The Art of Computer Programming, 6.2.1).

    Args:
      num_numbers: how many numbers there are.
      num_steps: after so many guesses the episode is cut; None is no limit.
    """
    value = np.zeros(num_numbers + 1)  # with so many numbers left, none of the remaining guesses made
    for _ in range(num_numbers if num_steps is None else num_steps):
        value = np.array([0.0] + [1.0 + np.min(_weighted_sides(value, left)) for left in range(1, num_numbers + 1)])
    return float(value[num_numbers])


def random_num_guesses(num_numbers: int, num_steps: int | None = None) -> float:
    """Returns the expected number of guesses when each is uniform over all numbers, whatever the answers were.

    Args:
      num_numbers: how many numbers there are.
      num_steps: after so many guesses the episode is cut; None is no limit.
    """
    miss = 1.0 - 1.0 / num_numbers
    return float(num_numbers * (1.0 - (0.0 if num_steps is None else miss**num_steps)))


def optimal_successes(num_numbers: int, num_attempts: int) -> float:
    """Returns the largest expected number of right guesses in attempts of one guess at the same number: the Bayes bound.

    Args:
      num_numbers: how many numbers there are.
      num_attempts: how many guesses; an agent that has found the number is right ever after.
    """
    value = np.zeros(num_numbers + 1)  # with so many numbers left, none of the remaining attempts made
    for attempts in range(1, num_attempts + 1):
        right = [attempts / left + np.max(_weighted_sides(value, left)) for left in range(1, num_numbers + 1)]
        value = np.array([0.0] + right)
    return float(value[num_numbers])


def random_successes(num_numbers: int, num_attempts: int) -> float:
    """Returns the expected number of right guesses when each is uniform over all numbers.

    Args:
      num_numbers: how many numbers there are.
      num_attempts: how many guesses.
    """
    return num_attempts / num_numbers


def _weighted_sides(value: np.ndarray, left: int) -> np.ndarray:
    """Returns `[left]`: for a guess at each of the numbers left, the expected value of what follows if it is wrong."""
    below = np.arange(left)
    above = left - 1 - below
    return (below * value[below] + above * value[above]) / left
