"""Twenty questions: find a hidden object by asking for its attributes; every attempt has a new table of objects.

    Guess A 1 3, B 2, C none, D 1 2 4: 1 yes: D wrong: A correct        (object A has the attributes 1 and 3)

A move asks whether the hidden object has an attribute, or names an object. Each move costs 1, and the right name ends the attempt.
`information_gain` is the information that an answer gives.
"""

import dataclasses
import itertools
import math
import string
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, bounds_of_search
from arl.types import ArlError, Text, select

ASKED, NO, YES, WRONG, CORRECT = range(5)  # the last text: the question, or the answer to a move
MAX_OBJECTS, MAX_ATTRIBUTES = 10, 8  # the solution has 2**objects sets, the texts 2**attributes kinds of objects
MAX_DECISIONS = 20_000_000  # tables x sets x actions of the exact mean over all tables, which takes seconds on the host
CHUNK = 1000  # number of tables that are solved at once


class TwentyQuestionsState(NamedTuple):
    """The table, the hidden object, and what the answers of this attempt reveal.

    Attributes:
      attributes: int32 `[objects]`, attributes of each object as bits, all different.
      target: int32 `[]`, the hidden object.
      possible: bool `[objects]`, whether an object agrees with all answers.
      answer: int32 `[]`, the last text: `ASKED`, `NO`, `YES`, `WRONG` or `CORRECT`.
    """

    attributes: jax.Array
    target: jax.Array
    possible: jax.Array
    answer: jax.Array


def make_twenty_questions(tokenizer: Any, num_objects: int = 6, num_attributes: int = 4) -> Environment:
    """Returns the game as an environment whose actions are the attributes " 1", " 2", ..., and after them the objects " A", " B", ...

    The table is drawn uniformly from those in which all objects differ. The expert solves the table, so it is optimal.

    Args:
      tokenizer: a fast tokenizer.
      num_objects: number of objects, rows of the table, 2 to `MAX_OBJECTS`.
      num_attributes: number of attributes, columns of the table, at most `MAX_ATTRIBUTES` and enough for all objects to differ.

    Raises:
      ArlError: if there are too few objects or attributes, or too many.
    """
    _check_sizes(num_objects, num_attributes)

    def reset(key: jax.Array) -> TwentyQuestionsState:
        key_table, key_target = jax.random.split(key)
        attributes = jax.random.permutation(key_table, 2**num_attributes)[:num_objects].astype(jnp.int32)
        target = jax.random.randint(key_target, (), 0, num_objects)
        return TwentyQuestionsState(attributes, target, jnp.ones(num_objects, bool), jnp.int32(ASKED))

    def step(key: jax.Array, state: TwentyQuestionsState, action: jax.Array) -> tuple[TwentyQuestionsState, Step]:
        del key  # the answers are deterministic
        is_over, is_name = state.answer == CORRECT, action >= num_attributes
        has_it = jnp.where(is_name, jnp.arange(num_objects) == action - num_attributes, state.attributes >> action & 1 == 1)
        is_yes = has_it[state.target]
        answer = jnp.where(is_name, WRONG, NO) + is_yes  # WRONG + 1 is CORRECT, NO + 1 is YES
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

    def state_hash(state: TwentyQuestionsState) -> jax.Array:
        mixed = jnp.uint32(0)
        for part in state.attributes * 2 + state.possible:
            mixed = mixed * jnp.uint32(2 ** (num_attributes + 1) + 1) + part.astype(jnp.uint32)  # wraps around beyond 2**32 states
        return mixed

    names = string.ascii_uppercase[:num_objects]
    grammar = text.legal_strings(tokenizer, [*(f" {1 + i}" for i in range(num_attributes)), *(f" {name}" for name in names)])
    describe = _descriptions(tokenizer, names, num_attributes)
    return Environment(reset, step, describe, grammar, legal, max_steps=None, expert=expert, state_hash=state_hash, worst_reward=-1.0)


def information_gain(before: TwentyQuestionsState, after: TwentyQuestionsState) -> jax.Array:
    """Returns the information that an answer gives about the object.

    All objects that agree with the answers are equally likely, so an attempt that terminates gives `log2(num_objects)` in all. The expected
    information of an answer is at most one bit.

    Args:
      before: state before the move.
      after: state after its answer.

    Returns:
      Bits, float32 `[]`.
    """
    return jnp.log2(jnp.sum(before.possible) / jnp.sum(after.possible))


def _descriptions(tokenizer: Any, names: str, num_attributes: int) -> Callable[[TwentyQuestionsState], Text]:
    """Returns `describe`, whose texts are the table and one of four constants."""
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
    """Raises an `ArlError` if a size is out of range, or attributes are too few to tell the objects apart."""
    if not 2 <= num_objects <= MAX_OBJECTS:
        raise ArlError(f"A game with {num_objects} objects cannot be solved; set num_objects to 2, ..., {MAX_OBJECTS}.")
    fewest = math.ceil(math.log2(num_objects))
    if not fewest <= num_attributes <= MAX_ATTRIBUTES:
        raise ArlError(
            f"{num_attributes} attributes are too few for {num_objects} different objects, or too many; "
            f"set num_attributes to {fewest}, ..., {MAX_ATTRIBUTES}."
        )


# ---------------------------------------------------------------- optimal return and baseline, exact
def optimal_num_moves(num_objects: int, num_attributes: int, num_steps: int | None = None) -> float:
    """Returns the smallest expected number of moves, including the right name, as the exact mean over all tables.

    Args:
      num_objects: number of objects, rows of the table.
      num_attributes: number of attributes, columns of the table.
      num_steps: number of moves after which an attempt is truncated; None for no limit.

    Raises:
      ArlError: if there are more than `MAX_DECISIONS` in all tables; `sampled_num_moves` estimates the mean then.
    """
    _check_sizes(num_objects, num_attributes)
    # Objects may be reordered and attributes negated, so it suffices to count tables whose first object has no attribute.
    num_tables = math.comb(2**num_attributes - 1, num_objects - 1)
    if num_tables * 2**num_objects * (num_attributes + num_objects) > MAX_DECISIONS:
        raise ArlError(
            f"{num_objects} objects with {num_attributes} attributes have {num_tables:,} tables, too many to solve them all; "
            "use fewer objects or attributes, or the estimate `sampled_num_moves`."
        )
    tables = ((0, *others) for others in itertools.combinations(range(1, 2**num_attributes), num_objects - 1))
    totals = [num_moves(chunk, num_attributes, num_steps).sum() for chunk in _chunks(tables)]
    return float(sum(totals) / num_tables)


def sampled_num_moves(
    num_objects: int, num_attributes: int, num_steps: int | None = None, num_tables: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Returns the mean of the smallest expected number of moves over random tables, and its standard error.

    Args:
      num_objects: number of objects, rows of the table.
      num_attributes: number of attributes, columns of the table.
      num_steps: number of moves after which an attempt is truncated; None for no limit.
      num_tables: number of random tables, at least 2.
      seed: seed of the tables.
    """
    _check_sizes(num_objects, num_attributes)
    generator = np.random.default_rng(seed)
    tables = (tuple(generator.permutation(2**num_attributes)[:num_objects]) for _ in range(num_tables))
    moves = np.concatenate([num_moves(chunk, num_attributes, num_steps) for chunk in _chunks(tables)])
    return float(moves.mean()), float(moves.std(ddof=1) / math.sqrt(num_tables))


def random_num_moves(num_objects: int, num_attributes: int, num_steps: int | None = None) -> float:
    """Returns the expected number of moves that are uniform over all attributes and objects.

    Args:
      num_objects: number of objects, rows of the table.
      num_attributes: number of attributes, columns of the table.
      num_steps: number of moves after which an attempt is truncated; None for no limit.
    """
    miss = 1.0 - 1.0 / (num_objects + num_attributes)
    return (num_objects + num_attributes) * (1.0 - (0.0 if num_steps is None else miss**num_steps))


def num_moves(attributes: np.ndarray, num_attributes: int, num_steps: int | None = None) -> np.ndarray:
    """Returns the smallest expected number of moves for given tables, float64 `[...]`.

    Args:
      attributes: int `[..., objects]`, attributes of each object as bits.
      num_attributes: number of attributes.
      num_steps: number of moves after which an attempt is truncated; None for no limit.
    """
    num_objects = attributes.shape[-1]
    look_ahead, value = _look_ahead(attributes, num_attributes, np), np.zeros((*attributes.shape[:-1], 2**num_objects), np.int32)
    for _ in range(num_objects + 1 if num_steps is None else min(num_steps, num_objects + 1)):
        value = look_ahead(value).min(-1)
    return value[..., -1] / num_objects


def _chunks(tables: Iterator[tuple[int, ...]]) -> Iterator[np.ndarray]:
    """Yields tables as int `[n, objects]`, with `n` up to `CHUNK`."""
    while chunk := list(itertools.islice(tables, CHUNK)):
        yield np.array(chunk)


def _look_ahead(attributes: Any, num_attributes: int, xp: Any) -> Callable[[Any], Any]:
    """Returns one step of value iteration over the sets of objects that may be left, as bits of an integer.

    It maps values, the moves that each set needs summed over its objects, int `[..., 2**objects]`, to action values, int `[..., 2**objects,
    num_attributes + objects]`. Every informative move removes objects, so `objects + 1` steps suffice without a time limit; after them a
    move without information costs more than the best one.

    Args:
      attributes: int `[..., objects]`, attributes of each object as bits.
      num_attributes: number of attributes.
      xp: `numpy` or `jax.numpy`.
    """
    num_objects = attributes.shape[-1]
    objects, sets = np.arange(num_objects, dtype=np.int32), np.arange(2**num_objects, dtype=np.int32)[:, None]
    size = (sets >> objects & 1).sum(-1, keepdims=True, dtype=np.int32)
    has = attributes[..., None] >> np.arange(num_attributes) & 1  # `[..., objects, attributes]`
    column = (has << objects[:, None]).sum(-2)  # the objects that have each attribute
    alone = xp.broadcast_to(1 << objects, (*column.shape[:-1], num_objects))
    yes = sets & xp.concatenate([column, alone], axis=-1)[..., None, :]  # `[..., sets, actions]`, the objects left after yes
    is_name = np.arange(num_attributes + num_objects) >= num_attributes

    def look_ahead(value: Any) -> Any:
        after = lambda left: xp.take_along_axis(value, left.reshape(*left.shape[:-2], -1), axis=-1).reshape(left.shape)
        return size + xp.where(is_name, 0, after(yes)) + after(sets - yes)  # the right name ends the attempt

    return look_ahead


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class TwentyQuestions(Checked):
    """A hidden object, to be found by questions about its attributes that cost 1 each; every attempt has a new table.

    Attributes:
      num_objects: number of objects.
      num_attributes: number of attributes.
    """

    num_objects: int = 4
    num_attributes: int = 3

    def make(self, tokenizer: Any) -> Task:
        """Returns the task.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_twenty_questions(tokenizer, self.num_objects, self.num_attributes)
        objects = (f" {name}" for name in string.ascii_uppercase[: self.num_objects])
        symbols = (*objects, *(f" {i}" for i in range(self.num_attributes + 1)))
        return Task(environment, tokenizer, bounds=self._bounds, note_symbols=symbols, information_gain=information_gain)

    def _bounds(self, limits: Limits) -> Bounds:
        size = (self.num_objects, self.num_attributes)
        least, random = optimal_num_moves, random_num_moves
        return bounds_of_search(lambda steps: least(*size, steps), lambda steps: random(*size, steps), limits)
