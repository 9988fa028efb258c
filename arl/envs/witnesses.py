"""Witnesses: which of two answers is right, if witnesses of known reliability disagree, `Guess A 90, B 60, B 70: A correct`.

`A 90` is a witness who says A, and who is right with probability 90%. How sure one can be differs from question to question, and is known
exactly: `posterior`.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked, check_whole
from arl.task import Bounds, Environment, Limits, Step, Task, TaskExpert, whole_attempt_cost
from arl.types import ArlError, Kind, Text, select

ASKED, WRONG, CORRECT = range(3)  # the last text: the question, or whether the answer was right
ANSWERS = (" A", " B")
MAX_QUESTIONS = 200_000  # different up to the order of witnesses; the exact mean over all takes a second on the host


class WitnessesState(NamedTuple):
    """What the witnesses say, and what is right.

    Attributes:
      says: int32 `[witnesses]`, the answer of each witness.
      level: int32 `[witnesses]`, index of the reliability of each.
      truth: int32 `[]`, the right answer; never shown.
      answer: int32 `[]`, the last text: `ASKED`, `WRONG` or `CORRECT`.
    """

    says: jax.Array
    level: jax.Array
    truth: jax.Array
    answer: jax.Array


def make_witnesses(tokenizer: Any, num_witnesses: int = 6, reliabilities: tuple[int, ...] = (50, 60, 70, 80, 90)) -> Environment:
    """Returns the question as an environment of one action, " A" or " B", with reward 1 if it is right.

    Both answers are equally likely, and the reliability of each witness is drawn uniformly. The expert takes the more probable answer.

    Args:
      tokenizer: a fast tokenizer.
      num_witnesses: number of witnesses.
      reliabilities: probabilities with which a witness may be right, different percents from 1 to 99.

    Raises:
      ArlError: if there is no witness, or a reliability is out of range.
    """
    _check(num_witnesses, reliabilities)
    chance = jnp.asarray(reliabilities, jnp.float32) / 100

    def reset(key: jax.Array) -> WitnessesState:
        key_truth, key_level, key_right = jax.random.split(key, 3)
        truth = jax.random.randint(key_truth, (), 0, 2)
        level = jax.random.randint(key_level, (num_witnesses,), 0, len(reliabilities))
        is_right = jax.random.uniform(key_right, (num_witnesses,)) < chance[level]
        return WitnessesState(jnp.where(is_right, truth, 1 - truth), level, truth, jnp.int32(ASKED))

    def step(key: jax.Array, state: WitnessesState, action: jax.Array) -> tuple[WitnessesState, Step]:
        del key  # the environment is deterministic
        is_over, is_right = state.answer != ASKED, action == state.truth
        answered = state._replace(answer=jnp.where(is_right, CORRECT, WRONG).astype(jnp.int32))
        return select(is_over, state, answered), Step(jnp.float32(is_right & ~is_over), jnp.bool_(True), jnp.bool_(False))

    def expert(key: jax.Array, state: WitnessesState) -> jax.Array:
        return (posterior(reliabilities, state, jnp.int32(1)) > 0.5).astype(jnp.int32)

    def state_hash(state: WitnessesState) -> jax.Array:
        mixed = state.answer.astype(jnp.uint32)
        for part in state.level * 2 + state.says:
            mixed = mixed * jnp.uint32(2 * len(reliabilities)) + part.astype(jnp.uint32)  # wraps around beyond 2**32 questions
        return mixed

    grammar = text.legal_strings(tokenizer, ANSWERS)
    describe = _descriptions(tokenizer, num_witnesses, reliabilities)
    legal = lambda state: jnp.ones(2, bool)
    return Environment(reset, step, describe, grammar, legal, max_steps=1, expert=expert, state_hash=state_hash)


def posterior(reliabilities: tuple[int, ...], state: WitnessesState, action: jax.Array) -> jax.Array:
    """Returns the probability that an answer is right, given what the witnesses say, by Bayes' rule for independent witnesses.

    Args:
      reliabilities: as in `make_witnesses`.
      state: state of one lane.
      action: int32 `[]`, the answer.

    Returns:
      float32 `[]`.
    """
    chance = np.asarray(reliabilities, np.float32) / 100
    log_odds = jnp.asarray(np.log(chance / (1 - chance)))[state.level]
    return jax.nn.sigmoid(jnp.sum(jnp.where(state.says == action, log_odds, -log_odds)))


def _descriptions(tokenizer: Any, num_witnesses: int, reliabilities: tuple[int, ...]) -> Callable[[WitnessesState], Text]:
    """Returns `describe`, whose texts are the question and one of two constants."""
    kinds = [f"{name.strip()} {percent}" for percent in reliabilities for name in ANSWERS]
    names = [f"witness_{index}" for index in range(num_witnesses)]
    words = f"Guess {', '.join(f'{{{name}}}' for name in names)}:"
    question = text.template(tokenizer, words, **{name: text.choice(kinds) for name in names})
    answer = text.template(tokenizer, "{answer}", answer=text.choice([" wrong\n", " correct\n"]))
    capacity = max(question.capacity, answer.capacity)

    def describe(state: WitnessesState) -> Text:
        asked = question(**dict(zip(names, state.level * 2 + state.says, strict=True)))
        return select(state.answer == ASKED, text.pad(asked, capacity), text.pad(answer(answer=state.answer - WRONG), capacity))

    return describe


def _check(num_witnesses: int, reliabilities: tuple[int, ...]) -> None:
    """Raises an `ArlError` if there is no witness, or a reliability is out of range."""
    check_whole(num_witnesses=num_witnesses, **{"a reliability": reliabilities[0] if reliabilities else 0})
    if num_witnesses < 1:
        raise ArlError(f"{num_witnesses} witnesses say nothing; set num_witnesses to at least 1.")
    if not reliabilities or len(set(reliabilities)) < len(reliabilities) or not all(0 < percent < 100 for percent in reliabilities):
        raise ArlError(f"the reliabilities are {reliabilities}; set them to different percents from 1 to 99, as in (60, 90).")


# ---------------------------------------------------------------- optimal return, exact
def optimal_return(num_witnesses: int, reliabilities: tuple[int, ...], price: float = 1.0) -> float:
    """Returns the largest expected return of one answer, where the right one may be bought.

    Args:
      num_witnesses: number of witnesses.
      reliabilities: as in `make_witnesses`.
      price: price of the right answer; at 1 it is worth nothing.

    Raises:
      ArlError: if there are more than `MAX_QUESTIONS` questions.
    """
    joint = _joint(num_witnesses, reliabilities)
    return float(np.maximum(joint.max(0), joint.sum(0) * (1 - price)).sum())


def posterior_brier(num_witnesses: int, reliabilities: tuple[int, ...]) -> float:
    """Returns the expected Brier score of the exact posterior, for the more probable answer: the least that there can be.

    Args:
      num_witnesses: number of witnesses.
      reliabilities: as in `make_witnesses`.

    Raises:
      ArlError: if there are more than `MAX_QUESTIONS` questions.
    """
    joint = _joint(num_witnesses, reliabilities)
    return float((joint[0] * joint[1] / joint.sum(0)).sum())


def _joint(num_witnesses: int, reliabilities: tuple[int, ...]) -> np.ndarray:
    """Returns float64 `[2, questions]`, the probability of each answer and question, questions without the order of witnesses."""
    _check(num_witnesses, reliabilities)
    num_questions = math.comb(2 * len(reliabilities) + num_witnesses - 1, num_witnesses)
    if num_questions > MAX_QUESTIONS:
        raise ArlError(
            f"{num_witnesses} witnesses of {len(reliabilities)} reliabilities give {num_questions:,} questions, too many to sum up; use "
            "fewer witnesses or reliabilities."
        )
    chance = np.asarray(reliabilities) / 100 / len(reliabilities)
    other = 1 / len(reliabilities) - chance
    spoken = np.array([np.concatenate([chance, other]), np.concatenate([other, chance])])  # of each witness, if A or B is right
    kinds = np.array(list(itertools.combinations_with_replacement(range(2 * len(reliabilities)), num_witnesses)))
    counts = (kinds[..., None] == np.arange(2 * len(reliabilities))).sum(1)
    orders = math.factorial(num_witnesses) / np.vectorize(math.factorial)(counts).prod(1)
    return 0.5 * orders * spoken[:, kinds].prod(-1)


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class Witnesses(Checked):
    """Which of two answers is right, if witnesses of known reliability disagree.

    Attributes:
      num_witnesses: number of witnesses.
      reliabilities: probabilities with which a witness may be right, percents.
    """

    num_witnesses: int = 6
    reliabilities: tuple[int, ...] = (50, 60, 70, 80, 90)

    def make(self, tokenizer: Any) -> Task:
        """Returns the task.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_witnesses(tokenizer, self.num_witnesses, self.reliabilities)
        return Task(
            environment,
            tokenizer,
            bounds=self._bounds,
            experts=lambda limits: {Kind.ACTION: self._expert(environment)},
            note_symbols=ANSWERS,
            posterior=lambda state, action: posterior(self.reliabilities, state, action),
            solution=lambda state: state.truth,
        )

    def _expert(self, environment: Environment) -> TaskExpert:
        """Returns the expert, which is told in its first attempt what is right."""

        def write(key: jax.Array, state: WitnessesState, attempt: jax.Array) -> Text:
            return text.say_choice(environment.grammar, jnp.where(attempt > 0, state.truth, environment.expert(key, state)))

        return write

    def _bounds(self, limits: Limits) -> Bounds:
        cost, attempts = whole_attempt_cost(limits, 1), limits.num_attempts
        optimal = optimal_return(self.num_witnesses, self.reliabilities) + attempts - 1
        return Bounds(0.5 * attempts - cost * attempts, optimal - cost * attempts, 0.5 - cost)
