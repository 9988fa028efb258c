"""Ledger: a table larger than any context. The question names a row, and wants the number that stands there: `Row 17: 42 correct`.

No text ever shows the table; only a tool that looks a row up (`look_up`) can say what it holds. With several hops the number found names
the next row: `Row 17, 2 steps:` wants what stands in the row that row 17 names.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Environment, Step, Text, select

ASKED, WRONG, CORRECT = range(3)  # what was said last: the question itself, or whether the answer was right


class LedgerState(NamedTuple):
    """The table, what is asked of it, and whether it was answered.

    Attributes:
      table: int32 `[entries]`, the number in each row, which names a row itself; never shown.
      row: int32 `[]`, the row that the question names.
      value: int32 `[]`, the right answer; never shown.
      answer: int32 `[]`, `ASKED`, `WRONG` or `CORRECT`.
    """

    table: jax.Array
    row: jax.Array
    value: jax.Array
    answer: jax.Array


def make_ledger(tokenizer: Any, num_entries: int = 64, num_hops: int = 1) -> Environment:
    """Returns the ledger as an environment of one action, the number `i` for action `i`, paid 1 if it is right.

    Rows and numbers are `0, ..., num_entries - 1`. From row to row the table leads through all of them in one circle, drawn uniformly, so
    that who looks nothing up finds every row but the one asked for equally likely, however many hops there are.
    The expert says what a tool would have told it: it reads the table itself.

    Args:
      tokenizer: a fast tokenizer.
      num_entries: rows of the table, at least 3.
      num_hops: how often the table is followed, 1 to `num_entries - 1`.

    Raises:
      ValueError: if there are too few rows, or hops that lead nowhere or back to the question.
    """
    if num_entries < 3:
        raise ValueError(f"A ledger of {num_entries} rows needs no look-up; set num_entries to at least 3.")
    if not 1 <= num_hops < num_entries:
        raise ValueError(
            f"{num_hops} hops in a ledger of {num_entries} rows ask for nothing new; set num_hops to 1, ..., {num_entries - 1}."
        )

    def reset(key: jax.Array) -> LedgerState:
        circle = jax.random.permutation(key, num_entries).astype(jnp.int32)
        table = jnp.zeros(num_entries, jnp.int32).at[circle].set(jnp.roll(circle, -1))
        return LedgerState(table, circle[0], circle[num_hops], jnp.int32(ASKED))

    def step(key: jax.Array, state: LedgerState, action: jax.Array) -> tuple[LedgerState, Step]:
        del key  # nothing is left to chance
        is_over, is_right = state.answer != ASKED, action == state.value
        answered = state._replace(answer=jnp.where(is_right, CORRECT, WRONG).astype(jnp.int32))
        return select(is_over, state, answered), Step(jnp.float32(is_right & ~is_over), jnp.bool_(True), jnp.bool_(False))

    def legal(state: LedgerState) -> jax.Array:
        return jnp.ones(num_entries, bool)

    def expert(key: jax.Array, state: LedgerState) -> jax.Array:
        return state.value

    def anchor(state: LedgerState) -> jax.Array:
        return (state.row * 3 + state.answer).astype(jnp.uint32)

    grammar = text.legal_strings(tokenizer, [f" {i}" for i in range(num_entries)])
    describe = _descriptions(tokenizer, num_entries, num_hops)
    return Environment(reset, step, describe, grammar, legal, max_steps=1, expert=expert, anchor=anchor)


def look_up(state: LedgerState, row: jax.Array) -> jax.Array:
    """Returns the number that stands in a row of the table, int32 `[]`: what a look-up tool says.

    Args:
      state: of one lane.
      row: int32 `[]`, from 0 to `entries - 1`; one outside is taken as the nearest.
    """
    return state.table[jnp.clip(row, 0, state.table.shape[0] - 1)]


def _descriptions(tokenizer: Any, num_entries: int, num_hops: int) -> Callable[[LedgerState], Text]:
    """Returns `describe`: the question, then one of two constant texts."""
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
    """Returns the expected return of an answer at random.

    Args:
      num_entries: rows of the table.
    """
    return 1.0 / num_entries
