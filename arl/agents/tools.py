"""Tools to be given to `use_tools`: a calculator, a table, and the environment itself, asked what would follow from a move.

A tool of one's own is a function like these: what is written to call it, the function that is called, and a template for what it says.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from arl import text
from arl.agents.calls import Tool
from arl.envs import arithmetic
from arl.types import Environment, State, Text, select


def environment_state(state: State) -> State:
    """Returns the environment's state that is within the state of combinators over `act`.

    Args:
      state: of an interaction.
    """
    while hasattr(state, "inner"):
        state = state.inner
    return state[0]


def calculator(tokenizer: Any, num_digits: int = 2, digits_per_word: int = 1, name: str = " number") -> Tool:
    """Returns the tool that multiplies: ` number 37 X 84` is answered by ` is 3, 1, 0, 8`.

    Args:
      tokenizer: a fast tokenizer with an end token.
      num_digits: of each factor; the first is not zero.
      digits_per_word: how the product's `2 num_digits` digits are put into words, as by the actions of `make_arithmetic`.
      name: of the tool.

    Raises:
      ValueError: if the digits are too many, too few, or do not fill whole words.
    """
    if not 1 <= num_digits <= arithmetic.MAX_DIGITS:
        raise ValueError(f"factors of {num_digits} digits cannot be multiplied; set num_digits to 1, ..., {arithmetic.MAX_DIGITS}")
    if digits_per_word < 1 or 2 * num_digits % digits_per_word:
        raise ValueError(f"{2 * num_digits} digits do not fill words of {digits_per_word}; set digits_per_word to a divisor of them")
    first, num_words, base = 10 ** (num_digits - 1), 2 * num_digits // digits_per_word, 10**digits_per_word
    word = text.choice([f"{i:0{digits_per_word}}" for i in range(base)])
    words = [f"word{i}" for i in range(num_words)]
    say = text.template(tokenizer, " is" + ",".join(f" {{{word}}}" for word in words), **dict.fromkeys(words, word))
    factor = tuple(f" {i}" for i in range(first, 10 * first))

    def call(key: jax.Array, state: State, arguments: jax.Array) -> Text:
        del key, state
        product = arithmetic.multiply(arguments[0] + first, arguments[2] + first)
        return say(**dict(zip(words, arithmetic.digits(product, num_words, base), strict=True)))

    return Tool(name, (factor, (" X",), factor), call, say.capacity)


def table(
    tokenizer: Any,
    look_up: Callable[[State, jax.Array], jax.Array],
    num_rows: int,
    *,
    num_values: int | None = None,
    name: str = " row",
    find: Callable[[State], State] = environment_state,
) -> Tool:
    """Returns the tool that looks a row of a table up: ` row 17` is answered by ` is 42`.

    Args:
      tokenizer: a fast tokenizer with an end token.
      look_up: `(environment's state, row int32 []) -> int32 []`, what stands in a row, such as `arl.envs.ledger.look_up`.
      num_rows: rows are `0, ..., num_rows - 1`.
      num_values: so are the numbers in them; None for as many as rows.
      name: of the tool.
      find: the environment's state in that of the interaction in which the tool is called.

    Raises:
      ValueError: if there is no row or no value.
    """
    num_values = num_rows if num_values is None else num_values
    if num_rows < 1 or num_values < 1:
        raise ValueError(f"a table of {num_rows} rows and {num_values} values says nothing; set both to at least 1")
    say = text.template(tokenizer, " is {value}", value=text.number(0, num_values - 1))

    def call(key: jax.Array, state: State, arguments: jax.Array) -> Text:
        del key  # a table is not left to chance
        return say(value=look_up(find(state), arguments[0]))

    return Tool(name, (tuple(f" {i}" for i in range(num_rows)),), call, say.capacity)


def imagine(tokenizer: Any, environment: Environment, *, name: str = " if", find: Callable[[State], State] = environment_state) -> Tool:
    """Returns the tool that says what the environment would answer to an action: ` if left` is answered by what is read after ` left`.

    The state stays as it is, nothing is earned. Where chance decides, it is another chance than that of the action itself. Of an action
    that does not exist now nothing follows: what the environment says of the present state is said again.

    Args:
      tokenizer: that of the environment.
      environment: in which an action is imagined: the very one that is acted in, with its wrappers, if the answer is to be true.
      name: of the tool.
      find: the environment's state in that of the interaction in which the tool is called.

    Raises:
      ValueError: if an action, after the name, would not be the same tokens.
    """
    said = text.say_choice(environment.grammar, np.arange(environment.grammar.num_choices))
    ids = [row[:length].tolist() for row, length in zip(np.asarray(said.ids), np.asarray(said.length), strict=True)]
    actions = tuple(text.to_string(tokenizer, row) for row in ids)
    if wrong := [action for action, row in zip(actions, ids) if text.token_ids(tokenizer, action, name) != row]:
        raise ValueError(f"the action {wrong[0]!r} is other tokens after {name!r}; take another name for the tool that imagines it")

    def call(key: jax.Array, state: State, arguments: jax.Array) -> Text:
        now = find(state)
        after, _ = environment.step(key, now, arguments[0])
        return environment.describe(select(environment.legal(now)[arguments[0]], after, now))

    capacity = jax.eval_shape(lambda key: environment.describe(environment.reset(key)), jax.random.key(0)).ids.shape[0]
    return Tool(name, (actions,), call, capacity)
