"""Twenty questions: which object is meant? Ask for attributes, then name it; a new table of objects in every episode.

    Guess A 1 3, B 2, C none, D 1 2 4: 1 yes: D wrong: A correct        (object A has the attributes 1 and 3)

A move asks whether the hidden object has an attribute, or names an object. Each costs 1, a wrong name too; the right name ends the episode.
What can be gained must be bought by questions, and a question is worth what its answer tells: `bits`.
"""

import itertools
import math
import string
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Environment, Step, Text, select

ASKED, NO, YES, WRONG, CORRECT = range(5)  # what was said last: the question itself, or the answer to a move
MAX_OBJECTS, MAX_ATTRIBUTES = 10, 8  # the solution looks at all 2**objects sets, the text at all 2**attributes kinds of objects
MAX_DECISIONS = 20_000_000  # tables x sets x actions of the exact mean over all tables: seconds on the host
CHUNK = 1000  # tables solved at once


class TwentyQuestionsState(NamedTuple):
    """The table, the hidden object, and what the answers of this episode say about it.

    Attributes:
      attributes: int32 `[objects]`, what each object has, as bits; they all differ.
      target: int32 `[]`, the hidden object.
      possible: bool `[objects]`, which objects agree with all answers.
      answer: int32 `[]`, `ASKED`, `NO`, `YES`, `WRONG` or `CORRECT`.
    """

    attributes: jax.Array
    target: jax.Array
    possible: jax.Array
    answer: jax.Array


def make_twenty_questions(tokenizer: Any, num_objects: int = 6, num_attributes: int = 4) -> Environment:
    """Returns the game as an environment whose actions are the attributes " 1", " 2", ..., and after them the objects " A", " B", ...

    The table is drawn uniformly from all in which no two objects have the same attributes. The expert is optimal: it solves the table.

    Args:
      tokenizer: a fast tokenizer.
      num_objects: rows of the table, 2 to `MAX_OBJECTS`.
      num_attributes: its columns, at most `MAX_ATTRIBUTES`, and enough to tell all objects apart.

    Raises:
      ValueError: if there are too few objects or attributes, or too many.
    """
    _check_sizes(num_objects, num_attributes)

    def reset(key: jax.Array) -> TwentyQuestionsState:
        key_table, key_target = jax.random.split(key)
        attributes = jax.random.permutation(key_table, 2**num_attributes)[:num_objects].astype(jnp.int32)
        target = jax.random.randint(key_target, (), 0, num_objects)
        return TwentyQuestionsState(attributes, target, jnp.ones(num_objects, bool), jnp.int32(ASKED))

    def step(key: jax.Array, state: TwentyQuestionsState, action: jax.Array) -> tuple[TwentyQuestionsState, Step]:
        del key  # the answers are certain
        is_over, is_name = state.answer == CORRECT, action >= num_attributes
        has_it = jnp.where(is_name, jnp.arange(num_objects) == action - num_attributes, state.attributes >> action & 1 == 1)
        is_yes = has_it[state.target]
        answer = jnp.where(is_name, WRONG, NO) + is_yes  # their successors are CORRECT and YES
        after = state._replace(possible=state.possible & (has_it == is_yes), answer=answer.astype(jnp.int32))
        state = select(is_over, state, after)
        return state, Step(jnp.where(is_over, 0.0, -1.0), state.answer == CORRECT, jnp.bool_(False))

    def legal(state: TwentyQuestionsState) -> jax.Array:
        return jnp.ones(num_attributes + num_objects, bool)

    def expert(key: jax.Array, state: TwentyQuestionsState) -> jax.Array:
        look_ahead = _look_ahead(state.attributes, num_attributes, jnp)
        value = jnp.zeros(2**num_objects, jnp.int32)
        value = jax.lax.fori_loop(0, num_objects, lambda _, value: jnp.min(look_ahead(value), axis=-1), value)
        return jnp.argmin(look_ahead(value)[jnp.sum(state.possible << np.arange(num_objects))]).astype(jnp.int32)

    def anchor(state: TwentyQuestionsState) -> jax.Array:
        mixed = jnp.uint32(0)
        for part in state.attributes * 2 + state.possible:
            mixed = mixed * jnp.uint32(2 ** (num_attributes + 1) + 1) + part.astype(jnp.uint32)  # beyond 2**32 states it wraps around
        return mixed

    names = string.ascii_uppercase[:num_objects]
    grammar = text.legal_strings(tokenizer, [*(f" {1 + i}" for i in range(num_attributes)), *(f" {name}" for name in names)])
    describe = _descriptions(tokenizer, names, num_attributes)
    return Environment(reset, step, describe, grammar, legal, max_steps=None, expert=expert, anchor=anchor, worst_reward=-1.0)


def bits(before: TwentyQuestionsState, after: TwentyQuestionsState) -> jax.Array:
    """Returns the information that an answer gave about the object, in bits, float32 `[]`: all that agree are equally likely.

    An episode that ends gives `log2(num_objects)` in all, whoever played it; no answer can be expected to give more than one bit.

    Args:
      before: the state before the move.
      after: the state after its answer.
    """
    return jnp.log2(jnp.sum(before.possible) / jnp.sum(after.possible))


def _descriptions(tokenizer: Any, names: str, num_attributes: int) -> Callable[[TwentyQuestionsState], Text]:
    """Returns `describe`: the table, then one of four constant texts."""
    kinds = [" ".join(str(1 + i) for i in range(num_attributes) if kind >> i & 1) or "none" for kind in range(2**num_attributes)]
    words = f"Guess {', '.join(f'{name} {{{name}}}' for name in names)}:"
    question = text.template(tokenizer, words, **{name: text.choice(kinds) for name in names})
    answer = text.template(tokenizer, "{answer}", answer=text.choice([" no:", " yes:", " wrong:", " correct\n"]))
    capacity = max(question.capacity, answer.capacity)

    def describe(state: TwentyQuestionsState) -> Text:
        asked = question(**dict(zip(names, state.attributes, strict=True)))
        return select(state.answer == ASKED, text.pad(asked, capacity), text.pad(answer(answer=state.answer - NO), capacity))

    return describe


def _check_sizes(num_objects: int, num_attributes: int) -> None:
    """Raises ValueError unless there are objects to tell apart, and attributes that do."""
    if not 2 <= num_objects <= MAX_OBJECTS:
        raise ValueError(f"A game with {num_objects} objects cannot be solved; set num_objects to 2, ..., {MAX_OBJECTS}.")
    fewest = math.ceil(math.log2(num_objects))
    if not fewest <= num_attributes <= MAX_ATTRIBUTES:
        raise ValueError(
            f"{num_attributes} attributes are too few for {num_objects} different objects, or too many; "
            f"set num_attributes to {fewest}, ..., {MAX_ATTRIBUTES}."
        )


# ---------------------------------------------------------------- oracle and baseline, exact
def optimal_num_moves(num_objects: int, num_attributes: int, num_steps: int | None = None) -> float:
    """Returns the smallest expected number of moves, the right name included: the exact mean over all tables.

    Args:
      num_objects: rows of the table.
      num_attributes: its columns.
      num_steps: after so many moves the episode is cut; None is no limit.

    Raises:
      ValueError: if there are more than `MAX_DECISIONS` in all tables; `sampled_num_moves` estimates the mean.
    """
    _check_sizes(num_objects, num_attributes)
    # The order of the objects does not matter; nor does it which side of an attribute is its presence, so that one object may have none.
    num_tables = math.comb(2**num_attributes - 1, num_objects - 1)
    if num_tables * 2**num_objects * (num_attributes + num_objects) > MAX_DECISIONS:
        raise ValueError(
            f"{num_objects} objects with {num_attributes} attributes have {num_tables:,} tables, too many to solve them all; "
            "use fewer objects or attributes, or the estimate `sampled_num_moves`."
        )
    tables = ((0, *others) for others in itertools.combinations(range(1, 2**num_attributes), num_objects - 1))
    totals = [num_moves(chunk, num_attributes, num_steps).sum() for chunk in _chunks(tables)]
    return float(sum(totals) / num_tables)


def sampled_num_moves(
    num_objects: int, num_attributes: int, num_steps: int | None = None, num_tables: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Returns an estimate of the smallest expected number of moves, and its standard error: the mean over some random tables.

    Args:
      num_objects: rows of the table.
      num_attributes: its columns.
      num_steps: after so many moves the episode is cut; None is no limit.
      num_tables: how many tables are drawn, at least two.
      seed: from which they are drawn.
    """
    _check_sizes(num_objects, num_attributes)
    generator = np.random.default_rng(seed)
    tables = (tuple(generator.permutation(2**num_attributes)[:num_objects]) for _ in range(num_tables))
    moves = np.concatenate([num_moves(chunk, num_attributes, num_steps) for chunk in _chunks(tables)])
    return float(moves.mean()), float(moves.std(ddof=1) / math.sqrt(num_tables))


def random_num_moves(num_objects: int, num_attributes: int, num_steps: int | None = None) -> float:
    """Returns the expected number of moves when each is uniform over all attributes and objects, whatever the answers were.

    Args:
      num_objects: rows of the table.
      num_attributes: its columns.
      num_steps: after so many moves the episode is cut; None is no limit.
    """
    miss = 1.0 - 1.0 / (num_objects + num_attributes)
    return (num_objects + num_attributes) * (1.0 - (0.0 if num_steps is None else miss**num_steps))


def num_moves(attributes: np.ndarray, num_attributes: int, num_steps: int | None = None) -> np.ndarray:
    """Returns the smallest expected number of moves at given tables, float64 `[...]`.

    Args:
      attributes: int `[..., objects]`, what each object has, as bits.
      num_attributes: columns of the table.
      num_steps: after so many moves the episode is cut; None is no limit.
    """
    num_objects = attributes.shape[-1]
    look_ahead, value = _look_ahead(attributes, num_attributes, np), np.zeros((*attributes.shape[:-1], 2**num_objects), np.int32)
    for _ in range(num_objects + 1 if num_steps is None else min(num_steps, num_objects + 1)):
        value = look_ahead(value).min(-1)
    return value[..., -1] / num_objects


def _chunks(tables: Iterator[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """Yields the tables as int `[CHUNK or less, objects]`."""
    while chunk := list(itertools.islice(tables, CHUNK)):
        yield np.array(chunk)


def _look_ahead(attributes: Any, num_attributes: int, xp: Any) -> Callable[[Any], Any]:
    """Returns one step of value iteration over the sets of objects that can be left, which are the bits of an integer.

    It maps the moves that a set needs after this one, summed over the set, int `[..., 2**objects]`, to those from this one on, by action,
    int `[..., 2**objects, num_attributes + objects]`. Every move that tells anything takes objects away: one step more than there are
    objects stands for no limit, and makes a move that tells nothing dearer than the best.

    Args:
      attributes: int `[..., objects]`, what each object has, as bits.
      num_attributes: columns of the table.
      xp: NumPy, or JAX in its place.
    """
    num_objects = attributes.shape[-1]
    objects, sets = np.arange(num_objects, dtype=np.int32), np.arange(2**num_objects, dtype=np.int32)[:, None]
    size = (sets >> objects & 1).sum(-1, keepdims=True, dtype=np.int32)
    has = attributes[..., None] >> np.arange(num_attributes) & 1  # `[..., objects, attributes]`
    column = (has << objects[:, None]).sum(-2)  # the objects that have an attribute
    alone = xp.broadcast_to(1 << objects, (*column.shape[:-1], num_objects))
    yes = sets & xp.concatenate([column, alone], axis=-1)[..., None, :]  # `[..., sets, actions]`, the objects left by the answer yes
    is_name = np.arange(num_attributes + num_objects) >= num_attributes

    def look_ahead(value: Any) -> Any:
        after = lambda left: xp.take_along_axis(value, left.reshape(*left.shape[:-2], -1), axis=-1).reshape(left.shape)
        return size + xp.where(is_name, 0, after(yes)) + after(sets - yes)  # the right name ends it

    return look_ahead
