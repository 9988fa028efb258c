"""Arithmetic: the product of two numbers, written from its first digit on: ` 37 X 84: 3, 1, 0, 8 correct`.

A small model does not learn to multiply from rewards, but it can call a calculator and copy the digits of its answer.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, TaskExpert, Tool, whole_attempt_cost
from arl.types import ArlError, Kind, State, Text, select

MAX_DIGITS = 4  # of a factor: int32 holds all products of eight digits
MAX_STRINGS = 10_000  # of an action: each turn has a bool for each of them


class ArithmeticState(NamedTuple):
    """The question, and how much of the answer has been written.

    Attributes:
      left: int32 `[]`, first factor.
      right: int32 `[]`, second factor.
      written: int32 `[]`, number that the digits written so far spell; 0 if there are none.
      num_written: int32 `[]`, number of actions made.
    """

    left: jax.Array
    right: jax.Array
    written: jax.Array
    num_written: jax.Array


def make_arithmetic(tokenizer: Any, num_digits: int = 2, digits_per_action: int = 1) -> Environment:
    """Returns the multiplication of two numbers as an environment, with reward 1 at its end if all digits are right.

    The product of factors of `n` digits is written with `2 n` digits, including a leading zero. The expert multiplies.

    Args:
      tokenizer: a fast tokenizer.
      num_digits: number of digits of each factor, 1 to `MAX_DIGITS`; the first digit is not 0.
      digits_per_action: number of digits that an action writes; action `i` is the number `i` with so many digits. With `2 num_digits` an
        attempt is one action, and the grammar has `100**num_digits` strings; 10,000 strings take seconds in each trace and 14 MB in the
        program.

    Raises:
      ArlError: if a number of digits is out of range, or the digits do not fill whole actions.
    """
    if not 1 <= num_digits <= MAX_DIGITS:
        raise ArlError(f"Factors of {num_digits} digits cannot be multiplied here; set num_digits to 1, ..., {MAX_DIGITS}.")
    if digits_per_action < 1 or 2 * num_digits % digits_per_action:
        raise ArlError(
            f"A product of {2 * num_digits} digits cannot be written {digits_per_action} at a time; "
            f"set digits_per_action to a divisor of {2 * num_digits}."
        )
    num_strings, num_actions = 10**digits_per_action, 2 * num_digits // digits_per_action
    if num_strings > MAX_STRINGS:
        raise ArlError(
            f"Actions of {digits_per_action} digits are {num_strings:,} strings, more than {MAX_STRINGS:,}; set digits_per_action lower."
        )

    def reset(key: jax.Array) -> ArithmeticState:
        left, right = jax.random.randint(key, (2,), 10 ** (num_digits - 1), 10**num_digits)
        return ArithmeticState(left, right, jnp.int32(0), jnp.int32(0))

    def step(key: jax.Array, state: ArithmeticState, action: jax.Array) -> tuple[ArithmeticState, Step]:
        del key  # the environment is deterministic
        is_over = state.num_written == num_actions
        longer = state.written * num_strings + jnp.asarray(action, jnp.int32)
        state = select(is_over, state, ArithmeticState(state.left, state.right, longer, state.num_written + 1))
        terminated = state.num_written == num_actions
        return state, Step(jnp.float32(terminated & ~is_over & is_right(state)), terminated, jnp.bool_(False))

    def legal(state: ArithmeticState) -> jax.Array:
        return jnp.ones(num_strings, bool)

    def expert(key: jax.Array, state: ArithmeticState) -> jax.Array:
        which = jnp.minimum(state.num_written, num_actions - 1)  # arbitrary after the end
        return digits(multiply(state.left, state.right), num_actions, num_strings)[which]

    def state_hash(state: ArithmeticState) -> jax.Array:
        mixed = jnp.uint32(0)  # unique for up to 2 digits; beyond that it wraps around
        sizes = 10**num_digits, 10**num_digits, 100**num_digits, num_actions + 1
        for value, size in zip(state, sizes):
            mixed = mixed * jnp.uint32(size) + value.astype(jnp.uint32)
        return mixed

    grammar = text.legal_strings(tokenizer, [f" {i:0{digits_per_action}}" for i in range(num_strings)])
    describe = _descriptions(tokenizer, num_digits, num_actions)
    return Environment(reset, step, describe, grammar, legal, max_steps=num_actions, expert=expert, state_hash=state_hash)


def multiply(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the product of two factors, int32 `[...]`.

    Args:
      left: int32 `[...]`, of at most `MAX_DIGITS` digits.
      right: int32 `[...]`, of at most `MAX_DIGITS` digits.
    """
    return left * right


def digits(value: jax.Array, num_digits: int, base: int = 10) -> jax.Array:
    """Returns the digits of a number, most significant first, int32 `[..., num_digits]`.

    Args:
      value: int32 `[...]`, from 0 to `base**num_digits - 1`.
      num_digits: number of digits, including leading zeros.
      base: base of the digits.
    """
    return value[..., None] // base ** jnp.arange(num_digits - 1, -1, -1) % base


def is_right(state: ArithmeticState) -> jax.Array:
    """Returns whether the written number is the product, bool `[]`; meaningful at the end of an attempt.

    Args:
      state: state of one lane.
    """
    return state.written == multiply(state.left, state.right)


def _descriptions(tokenizer: Any, num_digits: int, num_actions: int) -> Callable[[ArithmeticState], Text]:
    """Returns `describe`, whose texts are the question and one of three constants."""
    factor = text.number(10 ** (num_digits - 1), 10**num_digits - 1)
    question = text.template(tokenizer, " {left} X {right}:", left=factor, right=factor)
    answer = text.template(tokenizer, "{answer}", answer=text.choice([",", " wrong\n", " correct\n"]))
    capacity = max(question.capacity, answer.capacity)

    def describe(state: ArithmeticState) -> Text:
        is_last = state.num_written == num_actions
        asked = text.pad(question(left=state.left, right=state.right), capacity)
        answered = text.pad(answer(answer=jnp.where(is_last, 1 + is_right(state), 0)), capacity)
        return select(state.num_written == 0, asked, answered)

    return describe


# ---------------------------------------------------------------- optimal return and baselines, exact
def optimal_return(num_digits: int) -> float:
    """Returns the optimal return, which is 1.

    Args:
      num_digits: number of digits of each factor.
    """
    del num_digits
    return 1.0


def random_return(num_digits: int) -> float:
    """Returns the expected return of random digits.

    Args:
      num_digits: number of digits of each factor.
    """
    return 10.0 ** (-2 * num_digits)


def blind_return(num_digits: int) -> float:
    """Returns the largest expected return without reading the question, that of the most frequent product.

    Args:
      num_digits: number of digits of each factor.
    """
    low, high = 10 ** (num_digits - 1), 10**num_digits
    products = np.zeros(high**2, np.int32)
    for left in range(low, high):
        products[left * low : left * high : left] += 1  # the products of this factor with all others
    return float(products.max() / (high - low) ** 2)


# ---------------------------------------------------------------- the tool
def calculator(tokenizer: Any, num_digits: int = 2, digits_per_word: int = 1, name: str = " number") -> Tool:
    """Returns the tool that multiplies: the answer to ` number 37 X 84` is ` is 3, 1, 0, 8`.

    Args:
      tokenizer: a fast tokenizer with an end token.
      num_digits: number of digits of each factor; the first digit is not 0.
      digits_per_word: number of digits in a word of the answer, as `digits_per_action` of `make_arithmetic`.
      name: name of the tool.

    Raises:
      ArlError: if a number of digits is out of range, or the digits do not fill whole words.
    """
    if not 1 <= num_digits <= MAX_DIGITS:
        raise ArlError(f"factors of {num_digits} digits cannot be multiplied; set num_digits to 1, ..., {MAX_DIGITS}")
    if digits_per_word < 1 or 2 * num_digits % digits_per_word:
        raise ArlError(f"{2 * num_digits} digits do not fill words of {digits_per_word}; set digits_per_word to a divisor of them")
    first, num_words, base = 10 ** (num_digits - 1), 2 * num_digits // digits_per_word, 10**digits_per_word
    word = text.choice([f"{i:0{digits_per_word}}" for i in range(base)])
    words = [f"word{i}" for i in range(num_words)]
    say = text.template(tokenizer, " is" + ",".join(f" {{{word}}}" for word in words), **dict.fromkeys(words, word))
    factor = tuple(f" {i}" for i in range(first, 10 * first))

    def call(key: jax.Array, state: State, arguments: jax.Array) -> Text:
        del key, state
        product = multiply(arguments[0] + first, arguments[2] + first)
        return say(**dict(zip(words, digits(product, num_words, base), strict=True)))

    return Tool(name, (factor, (" X",), factor), call, say.capacity)


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class Arithmetic(Checked):
    """The product of two numbers, written digit by digit, with a calculator as a tool.

    Attributes:
      num_digits: number of digits of each factor.
      digits_per_action: number of digits that an action writes.
    """

    num_digits: int = 2
    digits_per_action: int = 1

    def make(self, tokenizer: Any) -> Task:
        """Returns the task, whose expert notes the product.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_arithmetic(tokenizer, self.num_digits, self.digits_per_action)
        words = text.stack([text.token_ids(tokenizer, f" {i}") for i in range(10)])
        first = 10 ** (self.num_digits - 1)

        def note(key: jax.Array, state: ArithmeticState, attempt: jax.Array) -> Text:
            return text.flatten(text.lookup(words, digits(multiply(state.left, state.right), 2 * self.num_digits)))

        def call(key: jax.Array, state: ArithmeticState, num_calls: jax.Array) -> tuple[jax.Array, jax.Array]:
            factors = jnp.stack([state.left - first, jnp.int32(0), state.right - first])
            return (num_calls == 0) & (state.num_written == 0), factors

        experts: dict[Kind, TaskExpert] = {Kind.NOTE: note}
        return Task(
            environment,
            tokenizer,
            bounds=self._bounds,
            experts=lambda limits: experts,
            tools={"calculator": calculator(tokenizer, self.num_digits, self.digits_per_action)._replace(expert=call)},
            note_symbols=tuple(f" {i}" for i in range(10)),
            can_imagine=True,
        )

    def _bounds(self, limits: Limits) -> Bounds:
        cost = whole_attempt_cost(limits, 2 * self.num_digits // self.digits_per_action)
        random, optimal = ((best(self.num_digits) - cost) * limits.num_attempts for best in (random_return, optimal_return))
        return Bounds(random, optimal, 0.5 - cost)
