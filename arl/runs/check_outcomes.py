"""Checks of what a task says of its outcomes: the bounds of an episode, and that what is hidden is not told."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.runs.check_functions import compiled
from arl.task import Bounds, Task
from arl.training.evaluation import mutual_information
from arl.types import ArlError

NUM_RESETS = 2048


def check_hidden(task: Task, key: jax.Array) -> None:
    """Checks that the first text of an attempt does not tell the hidden variable, if it asks for a decision.

    Where only one action is legal at first, in all attempts, the text is a cue to be remembered, which may tell.

    Args:
      task: the task.
      key: random key.

    Raises:
      ArlError: if it does.
    """
    environment, hidden = task.environment, task.hidden
    if hidden is None:
        return

    def look(key):
        state = environment.reset(key)
        said = environment.describe(state)
        values = [jnp.ravel(jnp.asarray(leaf, jnp.int32)) for leaf in jax.tree.leaves(hidden(state))]
        ids = jnp.where(jnp.arange(said.ids.shape[0]) < said.length, said.ids, -1)
        return ids, jnp.concatenate(values), jnp.sum(environment.legal(state))

    ids, values, num_legal = (np.asarray(x) for x in compiled(jax.vmap(look))(jax.random.split(key, NUM_RESETS)))
    if num_legal.max() == 1:
        return
    parts = [ids]
    if _num_distinct(ids) > NUM_RESETS / 4:  # nothing can be counted where no text comes twice, but single tokens can
        parts += [column for column in ids.T if 1 < _num_distinct(column) <= NUM_RESETS / 4]
    for part in parts:
        found, noise = mutual_information(part, values), _noise(part, values)
        if found > 0.02 + 6 * noise:
            raise ArlError(
                f"the first text of an attempt tells about {found:.2f} bits of Task.hidden; take them out of the environment's describe, "
                "or leave Task.hidden out"
            )


def _num_distinct(values: np.ndarray) -> int:
    return len(np.unique(values.reshape(len(values), -1), axis=0))


def _noise(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the standard deviation of estimates of the information of two independent variables, bits (chi-squared)."""
    freedom = (_num_distinct(first) - 1) * (_num_distinct(second) - 1)
    return math.sqrt(2 * min(freedom, len(first))) / (2 * len(first) * math.log(2))


def bounds_of(task: Task) -> Bounds | None:
    """Returns the bounds of an episode of a task, None if they are not known; raises `ArlError` if they are no finite `Bounds`."""
    if task.bounds is None:
        return None
    bounds: Any = task.bounds(task.limits)
    if not isinstance(bounds, Bounds):
        raise ArlError(f"Task.bounds returns a {type(bounds).__name__}; return an arl.Bounds(random, optimal)")
    low, high = float(bounds.random), float(bounds.optimal)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ArlError(f"Task.bounds are {low:g} for random and {high:g} for optimal actions; make both finite numbers")
    return bounds


def check_bounds(task: Task, random: np.ndarray, expert: np.ndarray) -> None:
    """Checks the bounds of a task against the outcomes of episodes.

    Args:
      task: the task, with the limits within which they were played.
      random: float32 `[N]`, outcomes of random legal actions.
      expert: float32 `[M]`, outcomes of the task's expert; none if there is none.

    Raises:
      ArlError: if the bounds are out of order, or measured outcomes are beyond them.
    """
    bounds = bounds_of(task)
    if bounds is None:
        return
    low, high = float(bounds.random), float(bounds.optimal)
    if bounds.optimal_is not in ("exact", "bound", "filter"):
        raise ArlError(f"Bounds.optimal_is is {bounds.optimal_is!r}; set it to 'exact', 'bound' or 'filter'")
    if not low < high and not _differ_in_two_attempts(task):
        raise ArlError(f"Bounds.random is {low:g} and Bounds.optimal {high:g}; make an optimal agent earn more than a random one")
    mean, margin = float(np.mean(random)), _margin(random, low, high)
    if abs(mean - low) > margin:
        raise ArlError(
            f"Bounds.random is {low:g}, and {len(random)} episodes of random legal actions earned {mean:g} on average; set it to the mean "
            "outcome of uniform legal actions, within the limits, all attempts and costs included"
        )
    for who, outcomes in (("random actions", random), ("the expert", expert)):
        if bounds.optimal_is == "filter" or not len(outcomes):
            continue
        mean, margin = float(np.mean(outcomes)), _margin(outcomes, low, high)
        if mean > high + margin:
            raise ArlError(
                f"Bounds.optimal is {high:g}, and {len(outcomes)} episodes of {who} earned {mean:g} on average; set it to the largest mean "
                "outcome, or to a bound of it"
            )


def _differ_in_two_attempts(task: Task) -> bool:
    """Returns whether a task of one attempt, in which nobody can know better, has something to learn if there is another one."""
    bounds: Any = task.bounds
    one, limits = bounds(task.limits), task.limits._replace(num_attempts=2)
    if task.limits.num_attempts > 1 or one.random > one.optimal:
        return False
    try:
        two = bounds(limits)
    except ArlError:
        return False
    return two.random < two.optimal


def _margin(outcomes: np.ndarray, low: float, high: float) -> float:
    """Returns by how far a mean may miss its expected value: 6 standard errors, and what is too rare to be seen.

    `N` episodes do not show an outcome of probability `9 / N` with probability `exp(-9)`; it is at most as far away as the bounds `low` and
    `high`, or the outcomes seen.
    """
    lowest, highest = min(float(outcomes.min()), low), max(float(outcomes.max()), high)
    rounding = 1e-4 * max(1.0, abs(lowest), abs(highest))
    return 6 * float(np.std(outcomes)) / math.sqrt(len(outcomes)) + 9 * (highest - lowest) / len(outcomes) + rounding
