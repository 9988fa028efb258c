"""Bernoulli bandit: arms that pay 1 or 0, each with its own unknown probability, `Pull A or B for 3 steps: A 1: A 0: B 1`.

Every attempt has new arms, so only the rewards of this attempt are informative.
"""

import dataclasses
import itertools
import math
import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task
from arl.types import ArlError, Text

ASKED, LOST, WON = range(3)  # the last text: the question, or the last reward
MAX_STATES = 300_000  # of the exact solution: about one second on the host, and one byte per state in the program
MAX_PULLS = 200  # the table of the index grows with its third power


class BanditState(NamedTuple):
    """The arms, and their rewards in this attempt.

    Attributes:
      probability: float32 `[arms]`, hidden: probability that each arm pays.
      wins: int32 `[arms]`, number of pulls of each arm that paid.
      losses: int32 `[arms]`, number of pulls of each arm that did not.
      answer: int32 `[]`, the last text: `ASKED`, `LOST` or `WON`.
    """

    probability: jax.Array
    wins: jax.Array
    losses: jax.Array
    answer: jax.Array


def make_bandit(tokenizer: Any, num_arms: int = 2, num_pulls: int = 10, levels: Sequence[float] | None = None) -> Environment:
    """Returns the bandit as an environment whose actions are " A", " B", ... and that ends after `num_pulls` pulls.

    The expert is Bayes-optimal if the exact solution has at most `MAX_STATES` states (2 arms: 50 pulls; 3: 22; 4: 14); otherwise it
    follows the finite-horizon Gittins index.

    Args:
      tokenizer: a fast tokenizer.
      num_arms: number of arms, 2 to 26.
      num_pulls: number of pulls of an attempt, 1 to `MAX_PULLS`, after which it terminates.
      levels: probabilities of which that of each arm is drawn uniformly; None for all of [0, 1].

    Raises:
      ArlError: if a number or level is out of range.
    """
    if not 2 <= num_arms <= len(string.ascii_uppercase):
        raise ArlError(f"A bandit of {num_arms} arms cannot be played; set num_arms to 2, ..., {len(string.ascii_uppercase)}.")
    if num_pulls < 1:
        raise ArlError(f"An attempt of {num_pulls} pulls is empty; set num_pulls to at least 1.")
    if num_pulls > MAX_PULLS:
        raise ArlError(f"An expert for {num_pulls} pulls would be too large a table; set num_pulls to at most {MAX_PULLS}.")
    _check_levels(levels)

    def reset(key: jax.Array) -> BanditState:
        if levels is None:
            probability = jax.random.uniform(key, (num_arms,))
        else:
            probability = jnp.asarray(levels, jnp.float32)[jax.random.randint(key, (num_arms,), 0, len(levels))]
        return BanditState(probability, jnp.zeros(num_arms, jnp.int32), jnp.zeros(num_arms, jnp.int32), jnp.int32(ASKED))

    def step(key: jax.Array, state: BanditState, action: jax.Array) -> tuple[BanditState, Step]:
        is_open = num_pulled(state) < num_pulls
        is_pulled = (jnp.arange(num_arms) == action) & is_open
        pays = jax.random.uniform(key) < jnp.sum(jnp.where(is_pulled, state.probability, 0.0))
        answer = jnp.where(is_open, jnp.where(pays, WON, LOST), state.answer)
        state = BanditState(state.probability, state.wins + (is_pulled & pays), state.losses + (is_pulled & ~pays), answer)
        return state, Step(pays.astype(jnp.float32), num_pulled(state) == num_pulls, jnp.bool_(False))

    def legal(state: BanditState) -> jax.Array:
        return jnp.ones(num_arms, bool)

    def state_hash(state: BanditState) -> jax.Array:
        mixed = jnp.uint32(0)
        for count in _counts(state):
            mixed = mixed * jnp.uint32(num_pulls + 1) + count.astype(jnp.uint32)  # wraps around beyond 2**32 states
        return mixed

    names = string.ascii_uppercase[:num_arms]
    grammar = text.legal_strings(tokenizer, [f" {name}" for name in names])
    describe = _descriptions(tokenizer, names, num_pulls)
    expert = _make_expert(num_arms, num_pulls, levels)
    return Environment(reset, step, describe, grammar, legal, max_steps=num_pulls, expert=expert, state_hash=state_hash)


def num_pulled(state: BanditState) -> jax.Array:
    """Returns the number of pulls made in this attempt, int32 `[]`.

    Args:
      state: state of one lane.
    """
    return jnp.sum(state.wins + state.losses)


def _counts(state: BanditState) -> jax.Array:
    """Returns wins and losses of the first arm, of the second, and so on, int32 `[2 * arms]`."""
    return jnp.stack([state.wins, state.losses], axis=1).ravel()


def _make_expert(num_arms: int, num_pulls: int, levels: Sequence[float] | None) -> Callable[[jax.Array, BanditState], jax.Array]:
    """Returns the expert `(key, state) -> action`; see `make_bandit`."""
    if num_decisions(num_arms, num_pulls) <= MAX_STATES:
        actions = solve(num_arms, num_pulls, levels)[1].astype(np.int8)
        binomial = binomials(num_arms, num_pulls)

        def expert(key: jax.Array, state: BanditState) -> jax.Array:
            which = jnp.minimum(rank(_counts(state), jnp.asarray(binomial, jnp.int32)), len(actions) - 1)  # arbitrary after the end
            return jnp.asarray(actions)[which].astype(jnp.int32)

    else:
        index = gittins_index(num_pulls, levels)

        def expert(key: jax.Array, state: BanditState) -> jax.Array:
            pulls_left = jnp.maximum(num_pulls - num_pulled(state), 1)
            return jnp.argmax(jnp.asarray(index)[pulls_left - 1, state.wins, state.losses]).astype(jnp.int32)

    return expert


def _descriptions(tokenizer: Any, names: str, num_pulls: int) -> Callable[[BanditState], Text]:
    """Returns `describe`, which selects five constant texts: the question, and the rewards of a pull and of the last pull."""
    arms = " or ".join([", ".join(names[:-1]), names[-1]])
    question = f"Pull {arms} for {num_pulls} steps:"
    say = text.template(tokenizer, "{answer}", answer=text.choice([question, " 0:", " 1:", " 0\n", " 1\n"]))

    def describe(state: BanditState) -> Text:
        is_last = (num_pulled(state) == num_pulls) & (state.answer != ASKED)
        return say(answer=state.answer + 2 * is_last)

    return describe


def _check_levels(levels: Sequence[float] | None) -> None:
    """Raises an `ArlError` unless the levels are probabilities."""
    if levels is not None and not (len(levels) > 0 and all(0.0 <= x <= 1.0 for x in levels)):
        raise ArlError(f"The levels {tuple(levels)} are no probabilities; give one or more numbers from 0 to 1, or None for all of [0, 1].")


# ---------------------------------------------------------------- optimal return, bound and baseline, exact
def optimal_return(num_arms: int, num_pulls: int, levels: Sequence[float] | None = None) -> float:
    """Returns the Bayes-optimal return of an attempt.

    Args:
      num_arms: number of arms.
      num_pulls: number of pulls of an attempt.
      levels: as in `make_bandit`.

    Raises:
      ArlError: if the exact solution is too large; `informed_return` is an upper bound then.
    """
    if num_decisions(num_arms, num_pulls) > MAX_STATES:
        raise ArlError(
            f"{num_arms} arms and {num_pulls} pulls have {num_decisions(num_arms, num_pulls):,} states, more than the {MAX_STATES:,} "
            "that are solved exactly; use fewer arms or pulls, or the bound `informed_return`."
        )
    return float(solve(num_arms, num_pulls, levels)[0][0])


def informed_return(num_arms: int, num_pulls: int, levels: Sequence[float] | None = None) -> float:
    """Returns the expected return of an agent that knows the arms and pulls the best one, an upper bound.

    Args:
      num_arms: number of arms.
      num_pulls: number of pulls of an attempt.
      levels: as in `make_bandit`.
    """
    _check_levels(levels)
    if levels is None:
        return num_pulls * num_arms / (num_arms + 1)  # mean of the largest of `num_arms` uniform numbers
    below = (np.arange(len(levels) + 1) / len(levels)) ** num_arms  # probability that the largest is among the first k levels
    return float(num_pulls * np.diff(below) @ np.sort(levels))


def random_return(num_arms: int, num_pulls: int, levels: Sequence[float] | None = None) -> float:
    """Returns the expected return of random pulls.

    Args:
      num_arms: number of arms.
      num_pulls: number of pulls of an attempt.
      levels: as in `make_bandit`.
    """
    _check_levels(levels)
    return num_pulls * (0.5 if levels is None else float(np.mean(levels)))


def posterior_mean(num_pulls: int, levels: Sequence[float] | None) -> np.ndarray:
    """Returns the probability that an arm pays next by its wins and losses, `[num_pulls + 1, num_pulls + 1]`.

    Args:
      num_pulls: largest number of wins, and of losses.
      levels: as in `make_bandit`.
    """
    wins, losses = np.meshgrid(np.arange(num_pulls + 1), np.arange(num_pulls + 1), indexing="ij")
    if levels is None:
        return (wins + 1) / (wins + losses + 2)  # Laplace's rule of succession
    level = np.asarray(levels, float)
    likelihood = level ** wins[..., None] * (1.0 - level) ** losses[..., None]
    evidence = likelihood.sum(-1)
    return np.where(evidence > 0, likelihood @ level / np.where(evidence > 0, evidence, 1.0), level.mean())


def num_decisions(num_arms: int, num_pulls: int) -> int:
    """Returns the number of tables of wins and losses in which a pull is left.

    Args:
      num_arms: number of arms.
      num_pulls: number of pulls of an attempt.
    """
    return math.comb(num_pulls - 1 + 2 * num_arms, 2 * num_arms)


def binomials(num_arms: int, num_pulls: int) -> np.ndarray:
    """Returns binomial coefficients, int `[2 * arms + num_pulls, 2 * arms]`: entry `n, j` is `n` over `j + 1`.

    Args:
      num_arms: number of arms.
      num_pulls: number of pulls of an attempt.
    """
    return np.array([[math.comb(n, j + 1) for j in range(2 * num_arms)] for n in range(2 * num_arms + num_pulls)])


def rank(count, binomial):
    """Returns the index of a table of counts among all tables, in order of pulls, int `[...]`, in NumPy or JAX.

    The partial sums of the counts, each plus its index, are a set of distinct numbers. The index of a set among those of its size is a sum
    of binomial coefficients, the combinatorial number system (Knuth, The Art of Computer Programming, 7.2.1.3).

    Args:
      count: int `[..., 2 * arms]`, wins and losses of the first arm, of the second, and so on.
      binomial: int `[2 * arms + pulls, 2 * arms]`, from `binomials`.
    """
    place = np.arange(count.shape[-1])
    return binomial[count.cumsum(-1) + place, place].sum(-1)


def solve(num_arms: int, num_pulls: int, levels: Sequence[float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Computes the Bayes-optimal value and action for each table of counts, in the order of `rank`.

    It is backward induction over the wins and losses of the arms, which determine the posterior because the arms are independent.

    Args:
      num_arms: number of arms.
      num_pulls: number of pulls of an attempt.
      levels: as in `make_bandit`.

    Returns:
      Value, the expected return of the pulls that are left, float64 `[num_decisions]`; and action, int `[num_decisions]`.
    """
    _check_levels(levels)
    width = 2 * num_arms
    mean, binomial = posterior_mean(num_pulls, levels), binomials(num_arms, num_pulls)
    sets = np.array(list(itertools.combinations(range(num_pulls - 1 + width), width)))
    table = np.diff(sets - np.arange(width), axis=1, prepend=0)
    table = table[np.argsort(rank(table, binomial))]
    size, total = len(table), table.sum(1)
    value, action = np.zeros(size + 1), np.zeros(size, int)  # the last value is that of all tables without a pull left
    for pulled in reversed(range(num_pulls)):
        now = np.flatnonzero(total == pulled)
        follow = np.stack([rank(table[now] + one_more, binomial) for one_more in np.eye(width, dtype=int)], axis=1)
        follow = np.minimum(follow, size)
        win, lose = 1.0 + value[follow[:, 0::2]], value[follow[:, 1::2]]
        pays = mean[table[now, 0::2], table[now, 1::2]]
        values = pays * win + (1.0 - pays) * lose
        value[now], action[now] = values.max(1), values.argmax(1)
    return value[:size], action


def gittins_index(num_pulls: int, levels: Sequence[float] | None, num_charges: int = 201) -> np.ndarray:
    """Returns the finite-horizon Gittins index of an arm.

    The index is the sure reward per pull that is as good as continuing with the arm; the arm with the largest index is pulled. That is not
    exactly optimal for a finite horizon (Lattimore, 2016, "Regret analysis of the finite-horizon Gittins index strategy").

    Args:
      num_pulls: number of pulls of an attempt.
      levels: as in `make_bandit`.
      num_charges: number of sure rewards of a grid, between which the index is interpolated.

    Returns:
      float32 `[num_pulls, num_pulls, num_pulls]`, by pulls left minus 1, wins and losses.
    """
    mean, charge = posterior_mean(num_pulls, levels)[..., None], np.linspace(0.0, 1.0, num_charges)
    index, value = np.zeros((num_pulls,) * 3, np.float32), np.zeros((num_pulls + 1, num_pulls + 1, num_charges))
    for pulls_left in range(1, num_pulls + 1):
        size = num_pulls + 1 - pulls_left  # one more than the largest number of earlier wins, or losses
        pays = mean[:size, :size]
        stay = pays * (1.0 + value[1:, :-1]) + (1.0 - pays) * value[:-1, 1:]
        gain = stay - pulls_left * charge  # decreases with the charge
        last = np.clip(np.sum(gain > 0, -1, keepdims=True) - 1, 0, num_charges - 2)
        before, after = np.take_along_axis(gain, last, -1), np.take_along_axis(gain, last + 1, -1)
        index[pulls_left - 1, :size, :size] = (charge[last] + before / np.maximum(before - after, 1e-12) / (num_charges - 1))[..., 0]
        value = np.maximum(stay, pulls_left * charge)
    return index


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class Bandit(Checked):
    """Arms that pay 1 or 0, each with its own probability.

    Attributes:
      num_arms: number of arms, 2 to 26.
      num_pulls: number of pulls of an attempt.
    """

    num_arms: int = 2
    num_pulls: int = 10

    def make(self, tokenizer: Any) -> Task:
        """Returns the task.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_bandit(tokenizer, self.num_arms, self.num_pulls)
        symbols = tuple(f" {name}" for name in string.ascii_uppercase[: self.num_arms])
        return Task(environment, tokenizer, bounds=self._bounds, note_symbols=symbols)

    def _bounds(self, limits: Limits) -> Bounds:
        """Returns the bounds: several attempts at the same arms equal a long one, and `informed_return` bounds what is not solved."""
        num_pulls = min(self.num_pulls, limits.time_limit or self.num_pulls) * limits.num_attempts
        cost = limits.step_cost * num_pulls
        is_solved = num_decisions(self.num_arms, num_pulls) <= MAX_STATES
        best = optimal_return if is_solved else informed_return
        random, optimal = (returned(self.num_arms, num_pulls) - cost for returned in (random_return, best))
        return Bounds(random, optimal, None, "exact" if is_solved else "bound")
