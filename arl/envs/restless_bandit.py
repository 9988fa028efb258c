"""Restless bandit: two arms, one of which pays more often than the other, until they swap unannounced.

`Pull A or B for 20 steps: A 1: A 1: A 0: A 0: B 1: ...`. The better arm pays with `pay_probability`, the other with 1 minus that. Before
every pull but the first they swap with `shift_probability`. Every answer is equally informative whichever arm is pulled: a win of A is as
much evidence for A as a loss of B. The belief is therefore one number, the probability that A is better, which the filter of a hidden
Markov model with two states computes exactly (Rabiner, 1989, "A tutorial on hidden Markov models", eq. 19-20). Exploration gains nothing,
so it is Bayes-optimal to pull the arm that is more probably the better one. An agent that stays with one arm earns less than chance after a
shift. The reset draws the arms of all pulls: attempts with the same key shift at the same pulls.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Course, Environment, Limits, Shifts, Step, Task, whole_attempt_cost
from arl.types import ArlError, Text

ARM_A, ARM_B = range(2)
NUM_BELIEFS = 2001  # size of the grid for the optimum; odd, so that it contains the belief 1/2, at which the best arm changes


class RestlessBanditState(NamedTuple):
    """The better arm at each pull, and the pulls of this attempt.

    Attributes:
      best: int32 `[pulls + 1]`, hidden: the better arm at each pull, and after the last one.
      pulled: int32 `[pulls]`, arm of each pull; 0 for pulls not yet made.
      paid: int32 `[pulls]`, reward of each pull, 0 or 1; 0 for pulls not yet made.
      num_pulled: int32 `[]`, number of pulls made.
    """

    best: jax.Array
    pulled: jax.Array
    paid: jax.Array
    num_pulled: jax.Array


def make_restless_bandit(tokenizer: Any, num_pulls: int = 20, shift_probability: float = 0.05, pay_probability: float = 0.9) -> Environment:
    """Returns the bandit as an environment whose actions are " A" and " B", and that ends after `num_pulls` pulls.

    The expert pulls the arm that is more probably the better one given the answers so far, which is Bayes-optimal.

    Args:
      tokenizer: a fast tokenizer.
      num_pulls: number of pulls of an attempt, after which it terminates.
      shift_probability: probability that the arms swap before each pull but the first.
      pay_probability: probability that the better arm pays; the other pays with 1 minus that.

    Raises:
      ArlError: if a number or probability is out of range.
    """
    _check(num_pulls, shift_probability, pay_probability)

    def reset(key: jax.Array) -> RestlessBanditState:
        key_first, key_shifts = jax.random.split(key)
        shifts = jax.random.bernoulli(key_shifts, shift_probability, (num_pulls,))
        num_shifts = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(shifts, dtype=jnp.int32)])
        best = (jax.random.randint(key_first, (), 0, 2) + num_shifts) % 2
        return RestlessBanditState(best, jnp.zeros(num_pulls, jnp.int32), jnp.zeros(num_pulls, jnp.int32), jnp.int32(0))

    def step(key: jax.Array, state: RestlessBanditState, action: jax.Array) -> tuple[RestlessBanditState, Step]:
        is_open = state.num_pulled < num_pulls
        is_now = jnp.arange(num_pulls) == state.num_pulled  # nowhere after the end of the attempt
        chance = jnp.where(action == state.best[state.num_pulled], pay_probability, 1.0 - pay_probability)
        pays = is_open & (jax.random.uniform(key) < chance)
        pulled = jnp.where(is_now, jnp.asarray(action, jnp.int32), state.pulled)
        paid = jnp.where(is_now, pays.astype(jnp.int32), state.paid)
        state = RestlessBanditState(state.best, pulled, paid, state.num_pulled + is_open)
        return state, Step(pays.astype(jnp.float32), state.num_pulled == num_pulls, jnp.bool_(False))

    def legal(state: RestlessBanditState) -> jax.Array:
        return jnp.ones(2, bool)

    def expert(key: jax.Array, state: RestlessBanditState) -> jax.Array:
        return jnp.where(belief(state, shift_probability, pay_probability) >= 0.5, ARM_A, ARM_B).astype(jnp.int32)

    grammar = text.legal_strings(tokenizer, [" A", " B"])
    describe = _descriptions(tokenizer, num_pulls)
    return Environment(reset, step, describe, grammar, legal, max_steps=num_pulls, expert=expert, state_hash=_state_hash)


def belief(state: RestlessBanditState, shift_probability: float, pay_probability: float) -> jax.Array:
    """Returns the probability that A is the better arm at the next pull, given the pulls and rewards so far, float32 `[]`.

    Args:
      state: state of one lane, whose hidden part is not used.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: as in `make_restless_bandit`.
    """
    return jnp.sum(_filter(state, 0, shift_probability, pay_probability)[:, ARM_A])


def change_probability(state: RestlessBanditState, window: int, shift_probability: float, pay_probability: float) -> jax.Array:
    """Returns the probability that the arms swapped after one of the last pulls, given the pulls and rewards so far, float32 `[]`.

    Args:
      state: state of one lane, whose hidden part is not used.
      window: number of pulls to look back, at least 1.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: as in `make_restless_bandit`.
    """
    return jnp.sum(_filter(state, window, shift_probability, pay_probability)[1])


def _is_for_a(state: RestlessBanditState) -> jax.Array:
    """Returns whether each pull is evidence for A, a win of A or a loss of B, bool `[pulls]`; meaningful for the pulls made."""
    return (state.pulled == ARM_A) == (state.paid == 1)


def _filter(state: RestlessBanditState, window: int, shift_probability: float, pay_probability: float) -> jax.Array:
    """Returns the joint posterior of whether the arms swapped after one of the last pulls, and which is better next, float32 `[2, 2]`."""
    for_a = jnp.where(_is_for_a(state), pay_probability, 1.0 - pay_probability)
    likelihood = jnp.stack([for_a, 1.0 - for_a], axis=-1)

    def update(joint: jax.Array, pull: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        index, given_best = pull
        seen = joint * given_best
        stays, swaps = seen * (1.0 - shift_probability), seen[:, ::-1] * shift_probability
        is_inside = index >= state.num_pulled - window
        swaps = jnp.where(is_inside, jnp.stack([jnp.zeros(2), jnp.sum(swaps, 0)]), swaps)
        after = stays + swaps
        return jnp.where(index < state.num_pulled, after / jnp.sum(after), joint), None

    start = jnp.array([[0.5, 0.5], [0.0, 0.0]], jnp.float32)
    return jax.lax.scan(update, start, (jnp.arange(len(state.paid)), likelihood))[0]


def _state_hash(state: RestlessBanditState) -> jax.Array:
    """Returns the evidence as a binary number after a leading 1; only the last 31 answers count."""
    place = state.num_pulled - 1 - jnp.arange(len(state.paid))
    bits = jnp.where(place >= 0, jnp.left_shift(_is_for_a(state).astype(jnp.uint32), jnp.maximum(place, 0).astype(jnp.uint32)), 0)
    return jnp.sum(bits, dtype=jnp.uint32) | jnp.left_shift(jnp.uint32(1), state.num_pulled.astype(jnp.uint32))


def _descriptions(tokenizer: Any, num_pulls: int) -> Callable[[RestlessBanditState], Text]:
    """Returns `describe`, which selects five constant texts: the question, and the rewards of a pull and of the last pull."""
    options = [f"Pull A or B for {num_pulls} steps:", " 0:", " 1:", " 0\n", " 1\n"]
    say = text.template(tokenizer, "{answer}", answer=text.choice(options))

    def describe(state: RestlessBanditState) -> Text:
        answered = 1 + state.paid[jnp.maximum(state.num_pulled - 1, 0)] + 2 * (state.num_pulled == num_pulls)
        return say(answer=jnp.where(state.num_pulled == 0, 0, answered))

    return describe


def _check(num_pulls: int, shift_probability: float, pay_probability: float) -> None:
    """Raises an `ArlError` if an argument is out of range."""
    if num_pulls < 1:
        raise ArlError(f"An attempt of {num_pulls} pulls is empty; set num_pulls to at least 1.")
    if not 0.0 <= shift_probability <= 1.0:
        raise ArlError(f"Arms cannot swap with probability {shift_probability}; set shift_probability from 0 to 1.")
    if not 0.5 < pay_probability <= 1.0:
        raise ArlError(f"With {pay_probability} no arm is the better; set pay_probability above 0.5, to at most 1.")


# ---------------------------------------------------------------- bounds and baselines
def optimal_return(num_pulls: int, shift_probability: float, pay_probability: float) -> float:
    """Returns the upper bound of the Bayes-optimal return of an attempt, see `optimal_return_bounds`.

    Args:
      num_pulls: number of pulls of an attempt.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: as in `make_restless_bandit`.
    """
    return optimal_return_bounds(num_pulls, shift_probability, pay_probability)[1]


def optimal_return_bounds(
    num_pulls: int, shift_probability: float, pay_probability: float, num_beliefs: int = NUM_BELIEFS
) -> tuple[float, float]:
    """Returns a lower and an upper bound of the Bayes-optimal return, by dynamic programming over the belief.

    The value is convex in the belief (Smallwood and Sondik, 1973): between two beliefs of the grid it is below the chord of their values,
    and above the line of any plan.

    Args:
      num_pulls: number of pulls of an attempt.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: as in `make_restless_bandit`.
      num_beliefs: number of beliefs of the grid, odd.

    Raises:
      ArlError: if an argument is out of range.
    """
    _check(num_pulls, shift_probability, pay_probability)
    often, seldom = pay_probability, 1.0 - pay_probability
    believed = np.linspace(0.0, 1.0, num_beliefs)  # probability that A is better
    now = np.where(
        believed[:, None] >= 0.5, [often, seldom], [seldom, often]
    )  # reward of the arm that seems better, if A is better, and if B is
    both = np.stack([believed, 1.0 - believed], axis=1)
    move = np.array([[1.0 - shift_probability, shift_probability], [shift_probability, 1.0 - shift_probability]])
    above, line = np.zeros(num_beliefs), np.zeros((num_beliefs, 2))  # a line is given by its values if A is certainly better, and if B is
    for _ in range(num_pulls):
        new_above, new_line = np.sum(both * now, 1), now
        for likelihood in (np.array([often, seldom]), np.array([seldom, often])):  # of evidence for A, and for B
            seen = np.sum(both * likelihood, 1)
            after = ((both * likelihood) @ move)[:, 0] / np.maximum(seen, 1e-300)
            new_above = new_above + seen * np.interp(after, believed, above)
            new_line = new_line + likelihood * (line[np.rint(after * (num_beliefs - 1)).astype(int)] @ move)
        above, line = new_above, new_line
    middle = num_beliefs // 2
    return float(line[middle].mean()), float(above[middle])


def informed_return(num_pulls: int, pay_probability: float) -> float:
    """Returns the expected return of an agent that always knows the better arm, an upper bound.

    Args:
      num_pulls: number of pulls of an attempt.
      pay_probability: as in `make_restless_bandit`.
    """
    return num_pulls * pay_probability


def fixed_return(num_pulls: int, shift_probability: float, pay_probability: float) -> float:
    """Returns the expected return of an agent that stays with the better arm of the first pull; its reward decays to chance.

    Args:
      num_pulls: number of pulls of an attempt.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: as in `make_restless_bandit`.
    """
    still = (1.0 - 2.0 * shift_probability) ** np.arange(num_pulls)  # P(same arm as at the start) - P(other arm)
    return float(num_pulls / 2 + (pay_probability - 0.5) * still.sum())


def last_answer_return(num_pulls: int, shift_probability: float, pay_probability: float) -> float:
    """Returns the expected return of win-stay, lose-shift, the best policy that remembers only the last pull.

    It pulls the arm for which the last answer is evidence. It is Bayes-optimal if shifts are at least as probable as misleading answers,
    that is as 1 - `pay_probability`.

    Args:
      num_pulls: number of pulls of an attempt.
      shift_probability: as in `make_restless_bandit`, at most 1/2.
      pay_probability: as in `make_restless_bandit`.
    """
    right = pay_probability * (1.0 - shift_probability) + (1.0 - pay_probability) * shift_probability
    return 0.5 + (num_pulls - 1) * (right * pay_probability + (1.0 - right) * (1.0 - pay_probability))


def random_return(num_pulls: int) -> float:
    """Returns the expected return of random pulls, half of which pay.

    Args:
      num_pulls: number of pulls of an attempt.
    """
    return num_pulls / 2


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class RestlessBandit(Checked):
    """Two arms, the better of which changes unannounced.

    Attributes:
      num_pulls: number of pulls of an attempt.
      shift_probability: probability that the arms swap before a pull.
      pay_probability: probability that the better arm pays; the other pays with 1 minus that.
    """

    num_pulls: int = 20
    shift_probability: float = 0.05
    pay_probability: float = 0.9

    def make(self, tokenizer: Any) -> Task:
        """Returns the task, whose expert is the Bayes filter.

        Args:
          tokenizer: a fast tokenizer.
        """
        return Task(
            make_restless_bandit(tokenizer, self.num_pulls, self.shift_probability, self.pay_probability),
            tokenizer,
            bounds=self._bounds,
            note_symbols=(" A", " B"),
            shifts=Shifts(lambda state: Course(_changes(state.best[:-1]), jnp.zeros_like(state.pulled)), self.pay_probability),
        )

    def _bounds(self, limits: Limits) -> Bounds:
        cost = whole_attempt_cost(limits, self.num_pulls)
        if limits.num_attempts > 1:
            raise ArlError("the optimum of several attempts at a restless bandit is not known; set Attempts.num_attempts=1")
        optimal = optimal_return(self.num_pulls, self.shift_probability, self.pay_probability)
        return Bounds(random_return(self.num_pulls) - cost, optimal - cost)


def _changes(values: jax.Array) -> jax.Array:
    """Returns whether a value differs from the one before it, bool `[T]`."""
    return values != jnp.concatenate([values[:1], values[:-1]])
