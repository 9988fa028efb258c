"""Combination lock: enter a hidden code digit by digit; only a whole code is answered, and that ends the attempt.

    Guess 2 below 6: 3, 5 right wrong        (the first digit was right, the second wrong)
    Guess 2 below 6: 3, 4 correct            (the next attempt at the same lock: it is open)

An attempt pays 1 if the lock opens. Within an attempt nothing can be learned, so that only what crosses from one attempt to the next (of
episodes reset with the same key) can raise the chance of later ones.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Environment, Step, Text

MAX_LENGTH = 8  # of a code: there is a text for each of the 2**length answers
MAX_DIGITS = 100  # numbers below are one token each


class CombinationLockState(NamedTuple):
    """The hidden code, and what was entered in this attempt.

    Attributes:
      code: int32 `[length]`, the hidden digits.
      entered: int32 `[length]`, the digits entered so far; 0 beyond them.
      num_entered: int32 `[]`, how many that are.
    """

    code: jax.Array
    entered: jax.Array
    num_entered: jax.Array


def make_combination_lock(tokenizer: Any, length: int = 2, num_digits: int = 6) -> Environment:
    """Returns the lock as an environment whose action `i` is the digit `i`, written with the space before it.

    The expert draws its digits uniformly: all are equally likely to one who sees this attempt alone. What one enters who was told about
    the attempt before is said by `code_to_try`.

    Args:
      tokenizer: a fast tokenizer.
      length: digits of a code, 1 to `MAX_LENGTH`.
      num_digits: how many digits there are to choose from.

    Raises:
      ValueError: if there is no code to find, or it is too long.
    """
    _check_sizes(length, num_digits)

    def reset(key: jax.Array) -> CombinationLockState:
        code = jax.random.randint(key, (length,), 0, num_digits)
        return CombinationLockState(code, jnp.zeros(length, jnp.int32), jnp.int32(0))

    def step(key: jax.Array, state: CombinationLockState, action: jax.Array) -> tuple[CombinationLockState, Step]:
        del key  # nothing is left to chance
        was_open = state.num_entered < length
        entered = jnp.where(jnp.arange(length) == state.num_entered, action, state.entered)  # in a whole code it replaces nothing
        state = CombinationLockState(state.code, entered, state.num_entered + was_open)
        is_over = state.num_entered == length
        reward = was_open & is_over & jnp.all(is_right(state))
        return state, Step(jnp.float32(reward), is_over, jnp.bool_(False))

    def legal(state: CombinationLockState) -> jax.Array:
        return jnp.ones(num_digits, bool)

    def expert(key: jax.Array, state: CombinationLockState) -> jax.Array:
        return jax.random.randint(key, (), 0, num_digits)

    def anchor(state: CombinationLockState) -> jax.Array:
        is_answered = state.num_entered == length
        seen = jnp.where(jnp.arange(length) < state.num_entered, 1 + 2 * state.entered + (is_answered & is_right(state)), 0)
        mixed = jnp.uint32(0)
        for part in seen:
            mixed = mixed * jnp.uint32(2 * num_digits + 1) + part.astype(jnp.uint32)  # wraps around only beyond 2**32 states
        return mixed

    grammar = text.legal_strings(tokenizer, [f" {i}" for i in range(num_digits)])
    describe = _descriptions(tokenizer, length, num_digits)
    return Environment(reset, step, describe, grammar, legal, max_steps=length, expert=expert, anchor=anchor)


def is_right(state: CombinationLockState) -> jax.Array:
    """Returns bool `[length]`: which digits of a whole code are those of the lock.

    Args:
      state: of one lane, in which all digits have been entered.
    """
    return state.entered == state.code


def _descriptions(tokenizer: Any, length: int, num_digits: int) -> Callable[[CombinationLockState], Text]:
    """Returns `describe`, which looks up one of the constant texts: the question, a comma between digits, and the answers."""
    answers = [" ".join(["", *("right" if right else "wrong" for right in which)]) for which in itertools.product((0, 1), repeat=length)]
    options = [f"Guess {length} below {num_digits}:", ",", *(f"{answer}\n" for answer in answers[:-1]), " correct\n"]
    say = text.template(tokenizer, "{said}", said=text.choice(options))
    place_value = 2 ** np.arange(length)[::-1]  # the answers are in the order of binary numbers

    def describe(state: CombinationLockState) -> Text:
        answer = 2 + jnp.sum(is_right(state) * place_value)
        said = jnp.where(state.num_entered == length, answer, jnp.minimum(state.num_entered, 1))
        return say(said=said)

    return describe


def _check_sizes(length: int, num_digits: int) -> None:
    """Raises ValueError unless there is a code of that length to find."""
    if not 1 <= length <= MAX_LENGTH:
        raise ValueError(f"A code of length {length} cannot be entered and answered; set length to 1, ..., {MAX_LENGTH}.")
    if not 2 <= num_digits <= MAX_DIGITS:
        raise ValueError(f"With num_digits = {num_digits} there is nothing to guess, or no token for each; set it to 2, ..., {MAX_DIGITS}.")


# ---------------------------------------------------------------- one who was told
def code_to_try(state: CombinationLockState, num_digits: int) -> jax.Array:
    """Returns int32 `[length]`, what is worth telling the next attempt: the code to enter then, as far as this attempt alone tells.

    A digit that was right stays, and the next larger one follows one that was wrong, 0 the largest. Who enters what was told so tries no
    digit twice in a place, and so reaches `success_probabilities` at every attempt, whatever was entered first.

    Args:
      state: of one lane; an attempt that is not over tells nothing, and its digits stay as they are.
      num_digits: how many digits there are.
    """
    is_wrong = (state.num_entered == len(state.code)) & ~is_right(state)
    return (state.entered + is_wrong) % num_digits


# ---------------------------------------------------------------- bound and baseline, exact
def success_probabilities(length: int, num_digits: int, num_attempts: int) -> np.ndarray:
    """Returns float64 `[num_attempts]`: with which probability each attempt opens under the policy that opens most in all: the Bayes bound.

    The places are independent and answered one by one. By its `k`-th attempt nobody has tried more than `k` of a place's digits, each as
    likely; who tries a new one wherever it is not known has tried so many in every place at once: it opens with probability
    `min(k / num_digits, 1) ** length`.

    Args:
      length: digits of a code.
      num_digits: how many digits there are.
      num_attempts: how many attempts at the same lock.

    Raises:
      ValueError: if there is no code to find, or it is too long.
    """
    _check_sizes(length, num_digits)
    return np.minimum(np.arange(1, num_attempts + 1) / num_digits, 1.0) ** length


def optimal_successes(length: int, num_digits: int, num_attempts: int) -> float:
    """Returns the largest expected number of attempts that open, of so many at the same lock.

    Args:
      length: digits of a code.
      num_digits: how many digits there are.
      num_attempts: how many attempts at the same lock.
    """
    return float(success_probabilities(length, num_digits, num_attempts).sum())


def random_successes(length: int, num_digits: int, num_attempts: int) -> float:
    """Returns the expected number of attempts that open when digits are uniform, or when nothing is remembered, whatever the digits.

    Args:
      length: digits of a code.
      num_digits: how many digits there are.
      num_attempts: how many attempts at the same lock.
    """
    return num_attempts / num_digits**length
