"""Ledger: find the number in a row of a table, `Row 17: 42 correct`.

No text shows the table; only a tool can look a row up (`look_up`). With several hops each number found is the next row to look up: the
answer to `Row 17, 2 steps:` is the number in the row whose number is in row 17.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, Tool, whole_attempt_cost
from arl.types import ArlError, State, Text, select

ASKED, WRONG, CORRECT = range(3)  # the last text: the question, or whether the answer was right


class LedgerState(NamedTuple):
    """The table, the question and its answer.

    Attributes:
      table: int32 `[entries]`, number in each row, which is a row itself; never shown.
      row: int32 `[]`, row of the question.
      value: int32 `[]`, right answer; never shown.
      answer: int32 `[]`, the last text: `ASKED`, `WRONG` or `CORRECT`.
    """

    table: jax.Array
    row: jax.Array
    value: jax.Array
    answer: jax.Array


def make_ledger(tokenizer: Any, num_entries: int = 64, num_hops: int = 1) -> Environment:
    """Returns the ledger as an environment of one action, whose action `i` is the number `i`, with reward 1 if it is right.

    Rows and numbers are `0, ..., num_entries - 1`. The table is a uniformly random cycle through all rows, so that without look-ups every
    row but that of the question is equally likely, for any number of hops. The expert reads the table.

    Args:
      tokenizer: a fast tokenizer.
      num_entries: rows of the table, at least 3.
      num_hops: number of look-ups from the question to the answer, 1 to `num_entries - 1`.

    Raises:
      ArlError: if there are too few rows, or the number of hops is out of range.
    """
    if num_entries < 3:
        raise ArlError(f"A ledger of {num_entries} rows needs no look-up; set num_entries to at least 3.")
    if not 1 <= num_hops < num_entries:
        raise ArlError(f"{num_hops} hops in a ledger of {num_entries} rows ask for nothing new; set num_hops to 1, ..., {num_entries - 1}.")

    def reset(key: jax.Array) -> LedgerState:
        circle = jax.random.permutation(key, num_entries).astype(jnp.int32)
        table = jnp.zeros(num_entries, jnp.int32).at[circle].set(jnp.roll(circle, -1))
        return LedgerState(table, circle[0], circle[num_hops], jnp.int32(ASKED))

    def step(key: jax.Array, state: LedgerState, action: jax.Array) -> tuple[LedgerState, Step]:
        del key  # the environment is deterministic
        is_over, is_right = state.answer != ASKED, action == state.value
        answered = state._replace(answer=jnp.where(is_right, CORRECT, WRONG).astype(jnp.int32))
        return select(is_over, state, answered), Step(jnp.float32(is_right & ~is_over), jnp.bool_(True), jnp.bool_(False))

    def legal(state: LedgerState) -> jax.Array:
        return jnp.ones(num_entries, bool)

    def expert(key: jax.Array, state: LedgerState) -> jax.Array:
        return state.value

    def state_hash(state: LedgerState) -> jax.Array:
        return (state.row * 3 + state.answer).astype(jnp.uint32)

    grammar = text.legal_strings(tokenizer, [f" {i}" for i in range(num_entries)])
    describe = _descriptions(tokenizer, num_entries, num_hops)
    return Environment(reset, step, describe, grammar, legal, max_steps=1, expert=expert, state_hash=state_hash)


def look_up(state: LedgerState, row: jax.Array) -> jax.Array:
    """Returns the number in a row of the table, int32 `[]`.

    Args:
      state: state of one lane.
      row: int32 `[]`, clipped to the rows of the table.
    """
    return state.table[jnp.clip(row, 0, state.table.shape[0] - 1)]


def _descriptions(tokenizer: Any, num_entries: int, num_hops: int) -> Callable[[LedgerState], Text]:
    """Returns `describe`, whose texts are the question and one of two constants."""
    words = "Row {row}:" if num_hops == 1 else f"Row {{row}}, {num_hops} steps:"
    question = text.template(tokenizer, words, row=text.number(0, num_entries - 1))
    answer = text.template(tokenizer, "{answer}", answer=text.choice([" wrong\n", " correct\n"]))
    capacity = max(question.capacity, answer.capacity)

    def describe(state: LedgerState) -> Text:
        asked = text.pad(question(row=state.row), capacity)
        return select(state.answer == ASKED, asked, text.pad(answer(answer=state.answer - WRONG), capacity))

    return describe


# ---------------------------------------------------------------- baseline, exact
def random_return(num_entries: int) -> float:
    """Returns the expected return of random answers.

    Args:
      num_entries: number of rows of the table.
    """
    return 1.0 / num_entries


# ---------------------------------------------------------------- the tool
def table(
    tokenizer: Any,
    look_up: Callable[[State, jax.Array], jax.Array],
    num_rows: int,
    *,
    num_values: int | None = None,
    name: str = " row",
) -> Tool:
    """Returns the tool that looks up a row of a table: the answer to ` row 17` is ` is 42`.

    Args:
      tokenizer: a fast tokenizer with an end token.
      look_up: `(environment's state, row int32 []) -> int32 []`, the number in a row, such as `look_up` above.
      num_rows: number of rows, which are `0, ..., num_rows - 1`.
      num_values: number of numbers, which are `0, ..., num_values - 1`; None for that of rows.
      name: name of the tool.

    Raises:
      ArlError: if `num_rows` or `num_values` is below 1.
    """
    num_values = num_rows if num_values is None else num_values
    if num_rows < 1 or num_values < 1:
        raise ArlError(f"a table of {num_rows} rows and {num_values} values says nothing; set both to at least 1")
    say = text.template(tokenizer, " is {value}", value=text.number(0, num_values - 1))

    def call(key: jax.Array, state: State, arguments: jax.Array) -> Text:
        del key  # the table is deterministic
        return say(value=look_up(state, arguments[0]))

    return Tool(name, (tuple(f" {i}" for i in range(num_rows)),), call, say.capacity)


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class Ledger(Checked):
    """A number in a hidden table, with a tool that looks up a row.

    Attributes:
      num_entries: number of rows of the table.
      num_hops: number of look-ups from the question to the answer.
    """

    num_entries: int = 64
    num_hops: int = 1

    def make(self, tokenizer: Any) -> Task:
        """Returns the task.

        Args:
          tokenizer: a fast tokenizer.
        """

        def call(key: jax.Array, state: LedgerState, num_calls: jax.Array) -> tuple[jax.Array, jax.Array]:
            row = jax.lax.fori_loop(0, num_calls, lambda _, row: look_up(state, row), state.row)
            return num_calls < self.num_hops, row[None]

        environment = make_ledger(tokenizer, self.num_entries, self.num_hops)
        tool = table(tokenizer, look_up, self.num_entries)._replace(expert=call, num_calls=self.num_hops)
        symbols = tuple(f" {i}" for i in range(self.num_entries))
        return Task(environment, tokenizer, bounds=self._bounds, tools={"table": tool}, note_symbols=symbols, can_imagine=True)

    def _bounds(self, limits: Limits) -> Bounds:
        cost = whole_attempt_cost(limits, 1)
        random, optimal = ((best - cost) * limits.num_attempts for best in (random_return(self.num_entries), 1.0))
        return Bounds(random, optimal, 0.5 - cost)
