"""Combination lock: enter a hidden code digit by digit; only a whole code is answered, which ends the attempt.

    Guess 2 below 6: 3, 5 right wrong        (the first digit was right, the second wrong)
    Guess 2 below 6: 3, 4 correct            (the next attempt at the same lock: it is open)

The reward is 1 if the lock opens. Nothing can be learned within an attempt, so only a memory across attempts (reset with the same key) can
raise the probability of opening it.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, TaskExpert, whole_attempt_cost
from arl.types import ArlError, Kind, Text

MAX_LENGTH = 8  # of a code, which has 2**length answers with a text for each
MAX_DIGITS = 100  # smaller numbers are one token each


class CombinationLockState(NamedTuple):
    """The hidden code, and the digits entered in this attempt.

    Attributes:
      code: int32 `[length]`, hidden digits.
      entered: int32 `[length]`, digits entered so far; 0 beyond them.
      num_entered: int32 `[]`, number of digits entered.
    """

    code: jax.Array
    entered: jax.Array
    num_entered: jax.Array


def make_combination_lock(tokenizer: Any, length: int = 2, num_digits: int = 6) -> Environment:
    """Returns the lock as an environment whose action `i` is the digit `i`, written with the space before it.

    The expert draws its digits uniformly, as all are equally likely without a memory of other attempts. `code_to_try` is the code that an
    agent with a memory enters next.

    Args:
      tokenizer: a fast tokenizer.
      length: number of digits of a code, 1 to `MAX_LENGTH`.
      num_digits: number of digits to choose from.

    Raises:
      ArlError: if a size is out of range.
    """
    _check_sizes(length, num_digits)

    def reset(key: jax.Array) -> CombinationLockState:
        code = jax.random.randint(key, (length,), 0, num_digits)
        return CombinationLockState(code, jnp.zeros(length, jnp.int32), jnp.int32(0))

    def step(key: jax.Array, state: CombinationLockState, action: jax.Array) -> tuple[CombinationLockState, Step]:
        del key  # the environment is deterministic
        was_open = state.num_entered < length
        entered = jnp.where(jnp.arange(length) == state.num_entered, action, state.entered)  # changes nothing in a whole code
        state = CombinationLockState(state.code, entered, state.num_entered + was_open)
        is_over = state.num_entered == length
        reward = was_open & is_over & jnp.all(is_right(state))
        return state, Step(jnp.float32(reward), is_over, jnp.bool_(False))

    def legal(state: CombinationLockState) -> jax.Array:
        return jnp.ones(num_digits, bool)

    def expert(key: jax.Array, state: CombinationLockState) -> jax.Array:
        return jax.random.randint(key, (), 0, num_digits)

    def state_hash(state: CombinationLockState) -> jax.Array:
        is_answered = state.num_entered == length
        seen = jnp.where(jnp.arange(length) < state.num_entered, 1 + 2 * state.entered + (is_answered & is_right(state)), 0)
        mixed = jnp.uint32(0)
        for part in seen:
            mixed = mixed * jnp.uint32(2 * num_digits + 1) + part.astype(jnp.uint32)  # wraps around beyond 2**32 states
        return mixed

    grammar = text.legal_strings(tokenizer, [f" {i}" for i in range(num_digits)])
    describe = _descriptions(tokenizer, length, num_digits)
    return Environment(reset, step, describe, grammar, legal, max_steps=length, expert=expert, state_hash=state_hash)


def is_right(state: CombinationLockState) -> jax.Array:
    """Returns whether each digit of an entered code is right, bool `[length]`.

    Args:
      state: state of one lane, in which all digits have been entered.
    """
    return state.entered == state.code


def _descriptions(tokenizer: Any, length: int, num_digits: int) -> Callable[[CombinationLockState], Text]:
    """Returns `describe`, which selects the constant texts of the question, the comma between digits, and the answers."""
    answers = [" ".join(["", *("right" if right else "wrong" for right in which)]) for which in itertools.product((0, 1), repeat=length)]
    options = [f"Guess {length} below {num_digits}:", ",", *(f"{answer}\n" for answer in answers[:-1]), " correct\n"]
    say = text.template(tokenizer, "{said}", said=text.choice(options))
    place_value = 2 ** np.arange(length)[::-1]  # answers are in binary order

    def describe(state: CombinationLockState) -> Text:
        answer = 2 + jnp.sum(is_right(state) * place_value)
        said = jnp.where(state.num_entered == length, answer, jnp.minimum(state.num_entered, 1))
        return say(said=said)

    return describe


def _check_sizes(length: int, num_digits: int) -> None:
    """Raises an `ArlError` if a size is out of range."""
    if not 1 <= length <= MAX_LENGTH:
        raise ArlError(f"A code of length {length} cannot be entered and answered; set length to 1, ..., {MAX_LENGTH}.")
    if not 2 <= num_digits <= MAX_DIGITS:
        raise ArlError(f"With num_digits = {num_digits} there is nothing to guess, or no token for each; set it to 2, ..., {MAX_DIGITS}.")


# ---------------------------------------------------------------- memory across attempts
def code_to_try(state: CombinationLockState, num_digits: int) -> jax.Array:
    """Returns the code to enter in the next attempt, int32 `[length]`.

    Right digits stay, and wrong ones are increased by 1, modulo `num_digits`. An agent that follows this tries no digit twice in a place,
    and so achieves `success_probabilities` in every attempt, whatever it enters first.

    Args:
      state: state of one lane, at the end of an attempt; before that all digits stay.
      num_digits: number of digits to choose from.
    """
    is_wrong = (state.num_entered == len(state.code)) & ~is_right(state)
    return (state.entered + is_wrong) % num_digits


# ---------------------------------------------------------------- optimal return and baseline, exact
def success_probabilities(length: int, num_digits: int, num_attempts: int) -> np.ndarray:
    """Returns the probability that each attempt opens the lock under the Bayes-optimal policy, float64 `[num_attempts]`.

    The places are independent and answered separately. After `k` attempts at most `k` of the `num_digits` equally likely digits of a place
    have been tried. A policy that tries a new digit in every place that is not known achieves this in all places at once, so its `k`-th
    attempt opens the lock with probability `min(k / num_digits, 1) ** length`.

    Args:
      length: number of digits of a code.
      num_digits: number of digits to choose from.
      num_attempts: number of attempts at the same lock.

    Raises:
      ArlError: if a size is out of range.
    """
    _check_sizes(length, num_digits)
    return np.minimum(np.arange(1, num_attempts + 1) / num_digits, 1.0) ** length


def optimal_successes(length: int, num_digits: int, num_attempts: int) -> float:
    """Returns the largest expected number of attempts that open the lock.

    Args:
      length: number of digits of a code.
      num_digits: number of digits to choose from.
      num_attempts: number of attempts at the same lock.
    """
    return float(success_probabilities(length, num_digits, num_attempts).sum())


def random_successes(length: int, num_digits: int, num_attempts: int) -> float:
    """Returns the expected number of attempts that open the lock with uniform digits, which is that of any policy without memory.

    Args:
      length: number of digits of a code.
      num_digits: number of digits to choose from.
      num_attempts: number of attempts at the same lock.
    """
    return num_attempts / num_digits**length


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class CombinationLock(Checked):
    """A hidden code that is entered digit by digit and answered as a whole.

    Attributes:
      length: number of digits of the code.
      num_digits: number of digits to choose from, `0, ..., num_digits - 1`.
    """

    length: int = 2
    num_digits: int = 4

    def make(self, tokenizer: Any) -> Task:
        """Returns the task, whose experts try the digits of every place in turn until they are right, and note the code to enter next.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_combination_lock(tokenizer, self.length, self.num_digits)
        say = lambda digit: text.say_choice(environment.grammar, digit)

        def note(key: jax.Array, state: CombinationLockState, attempt: jax.Array) -> Text:
            return text.concatenate(*map(say, code_to_try(state, self.num_digits)))

        def enter(key: jax.Array, state: CombinationLockState, attempt: jax.Array) -> Text:
            return say(jnp.minimum(attempt, state.code[jnp.minimum(state.num_entered, self.length - 1)]))

        experts: dict[Kind, TaskExpert] = {Kind.ACTION: enter, Kind.NOTE: note}
        return Task(
            environment,
            tokenizer,
            bounds=self._bounds,
            experts=lambda limits: experts,
            note_symbols=tuple(f" {i}" for i in range(self.num_digits)),
            hidden=lambda state: state.code,
        )

    def _bounds(self, limits: Limits) -> Bounds:
        cost, size = whole_attempt_cost(limits, self.length), (self.length, self.num_digits, limits.num_attempts)
        random, optimal = (best(*size) - cost * limits.num_attempts for best in (random_successes, optimal_successes))
        return Bounds(random, optimal, 0.5 - cost)
