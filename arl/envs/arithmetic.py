"""Arithmetic: a product too long to be known by heart, written from its first digit on: ` 37 X 84: 3, 1, 0, 8 correct`.

A model with a few layers does not learn to multiply from rewards; a calculator does it in one call. `multiply` is what it computes, and
`digits` how its result is put into words that need only be copied.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Environment, Step, Text, select

MAX_DIGITS = 4  # of a factor: a product of eight digits is the longest that int32 surely holds
MAX_STRINGS = 10_000  # of an action: the automaton's tables grow with the square of their number


class ArithmeticState(NamedTuple):
    """The question, and how much of the answer has been written.

    Attributes:
      left: int32 `[]`, the first factor, which the question names.
      right: int32 `[]`, the second, likewise.
      written: int32 `[]`, the number that the digits written so far spell; 0 if there are none.
      num_written: int32 `[]`, actions made.
    """

    left: jax.Array
    right: jax.Array
    written: jax.Array
    num_written: jax.Array


def make_arithmetic(tokenizer: Any, num_digits: int = 2, digits_per_action: int = 1) -> Environment:
    """Returns the product of two numbers as an environment that pays 1 at its end if all digits are right.

    A product of factors of `n` digits is written with `2 n` digits, its leading zero included. The expert multiplies.

    Args:
      tokenizer: a fast tokenizer.
      num_digits: of each factor, 1 to `MAX_DIGITS`; the first is not zero.
      digits_per_action: how many digits an action writes; action `i` is the number `i` in so many digits. With `2 num_digits` the episode
        is one action, at the price of a grammar of `100**num_digits` strings: with 10,000, seconds at each trace, 14 MB in the program.

    Raises:
      ValueError: if the digits are too many, too few, or do not fill whole actions.
    """
    if not 1 <= num_digits <= MAX_DIGITS:
        raise ValueError(f"Factors of {num_digits} digits cannot be multiplied here; set num_digits to 1, ..., {MAX_DIGITS}.")
    if digits_per_action < 1 or 2 * num_digits % digits_per_action:
        raise ValueError(
            f"A product of {2 * num_digits} digits cannot be written {digits_per_action} at a time; "
            f"set digits_per_action to a divisor of {2 * num_digits}."
        )
    num_strings, num_actions = 10**digits_per_action, 2 * num_digits // digits_per_action
    if num_strings > MAX_STRINGS:
        raise ValueError(
            f"Actions of {digits_per_action} digits are {num_strings:,} strings, more than {MAX_STRINGS:,}; set digits_per_action lower."
        )

    def reset(key: jax.Array) -> ArithmeticState:
        left, right = jax.random.randint(key, (2,), 10 ** (num_digits - 1), 10**num_digits)
        return ArithmeticState(left, right, jnp.int32(0), jnp.int32(0))

    def step(key: jax.Array, state: ArithmeticState, action: jax.Array) -> tuple[ArithmeticState, Step]:
        del key  # nothing is left to chance
        is_over = state.num_written == num_actions
        longer = state.written * num_strings + jnp.asarray(action, jnp.int32)
        state = select(is_over, state, ArithmeticState(state.left, state.right, longer, state.num_written + 1))
        terminated = state.num_written == num_actions
        return state, Step(jnp.float32(terminated & ~is_over & is_right(state)), terminated, jnp.bool_(False))

    def legal(state: ArithmeticState) -> jax.Array:
        return jnp.ones(num_strings, bool)

    def expert(key: jax.Array, state: ArithmeticState) -> jax.Array:
        which = jnp.minimum(state.num_written, num_actions - 1)  # past the end: any
        return digits(multiply(state.left, state.right), num_actions, num_strings)[which]

    def anchor(state: ArithmeticState) -> jax.Array:
        mixed = jnp.uint32(0)  # distinct for up to 2 digits; beyond it wraps around
        sizes = 10**num_digits, 10**num_digits, 100**num_digits, num_actions + 1
        for value, size in zip(state, sizes):
            mixed = mixed * jnp.uint32(size) + value.astype(jnp.uint32)
        return mixed

    grammar = text.legal_strings(tokenizer, [f" {i:0{digits_per_action}}" for i in range(num_strings)])
    describe = _descriptions(tokenizer, num_digits, num_actions)
    return Environment(reset, step, describe, grammar, legal, max_steps=num_actions, expert=expert, anchor=anchor)


def multiply(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the product of two factors, int32 `[...]`: what a calculator says.

    Args:
      left: int32 `[...]`, at most `MAX_DIGITS` digits.
      right: int32 `[...]`, likewise.
    """
    return left * right


def digits(value: jax.Array, num_digits: int, base: int = 10) -> jax.Array:
    """Returns the digits of a number, the first in front, int32 `[..., num_digits]`.

    Args:
      value: int32 `[...]`, from 0 to `base**num_digits - 1`.
      num_digits: how many there are, leading zeros included.
      base: of the digits.
    """
    return value[..., None] // base ** jnp.arange(num_digits - 1, -1, -1) % base


def is_right(state: ArithmeticState) -> jax.Array:
    """Returns whether what has been written is the product, bool `[]`; of meaning when all of it has been written.

    Args:
      state: of one lane.
    """
    return state.written == multiply(state.left, state.right)


def _descriptions(tokenizer: Any, num_digits: int, num_actions: int) -> Callable[[ArithmeticState], Text]:
    """Returns `describe`: the question, then one of three constant texts."""
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


# ---------------------------------------------------------------- bound and baselines, exact
def optimal_return(num_digits: int) -> float:
    """Returns the largest expected return, that of one who multiplies: 1, however long the factors.

    Args:
      num_digits: of each factor.
    """
    del num_digits
    return 1.0


def random_return(num_digits: int) -> float:
    """Returns the expected return of digits written at random, in actions of any length.

    Args:
      num_digits: of each factor.
    """
    return 10.0 ** (-2 * num_digits)


def blind_return(num_digits: int) -> float:
    """Returns the largest expected return of one who does not read the question, and writes the most frequent product.

    Args:
      num_digits: of each factor.
    """
    low, high = 10 ** (num_digits - 1), 10**num_digits
    products = np.zeros(high**2, np.int32)
    for left in range(low, high):
        products[left * low : left * high : left] += 1  # the multiples of a factor by all others: each product once
    return float(products.max() / (high - low) ** 2)
