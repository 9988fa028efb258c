"""Restless bandit: two arms, of which one pays often and the other seldom, until they change places unannounced.

`Pull A or B for 20 steps: A 1: A 1: A 0: A 0: B 1: ...`. Of the two, one pays with `pay_probability`, the other with 1 minus that; before
every pull but the first they swap with `shift_probability`. So each answer tells the same about them whichever arm was pulled: a win of A
is as much evidence for A as a loss of B. Three things follow. What is known is one number, the probability that A is the better, and the
filter of a hidden Markov model with two states gives it exactly (Rabiner, 1989, "A tutorial on hidden Markov models", eq. 19-20). Nothing
is gained by exploring, so that to pull the arm which is more probably the better is Bayes-optimal. And who stays with one arm is left,
after a shift, with less than chance.
The arms of all pulls are drawn by the reset: episodes of the same key shift at the same pulls.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Environment, Step, Text

ARM_A, ARM_B = range(2)
NUM_BELIEFS = 2001  # of the grid on which the optimum is computed; odd, so that it holds the belief 1/2, where the best arm changes


class RestlessBanditState(NamedTuple):
    """Which arm is the better at each pull, and what has been pulled and paid in this episode.

    Attributes:
      best: int32 `[pulls + 1]`, the better arm at each pull, never shown; the last is that after the end.
      pulled: int32 `[pulls]`, the arm of each pull made, 0 for the others.
      paid: int32 `[pulls]`, whether it paid, 0 or 1; 0 for those not made.
      num_pulled: int32 `[]`, pulls made.
    """

    best: jax.Array
    pulled: jax.Array
    paid: jax.Array
    num_pulled: jax.Array


def make_restless_bandit(tokenizer: Any, num_pulls: int = 20, shift_probability: float = 0.05, pay_probability: float = 0.9) -> Environment:
    """Returns the bandit as an environment whose actions are " A" and " B", and that ends after `num_pulls` pulls.

    The expert pulls the arm that is more probably the better given the answers so far, which is Bayes-optimal.

    Args:
      tokenizer: a fast tokenizer.
      num_pulls: how many pulls an episode has; they are part of the task, so that it terminates after them.
      shift_probability: with which the arms swap before each pull but the first; 0 is a bandit that stays as it is.
      pay_probability: with which the better arm pays; the other pays with 1 minus that.

    Raises:
      ValueError: if a count or a probability is impossible.
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
        is_now = jnp.arange(num_pulls) == state.num_pulled  # nowhere, once the episode is over
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
    return Environment(reset, step, describe, grammar, legal, max_steps=num_pulls, expert=expert, anchor=_anchor)


def belief(state: RestlessBanditState, shift_probability: float, pay_probability: float) -> jax.Array:
    """Returns float32 `[]`, the probability that A is the better arm at the next pull, given what was pulled and paid.

    Args:
      state: of one lane; what is hidden in it is not used.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: likewise.
    """
    return jnp.sum(_filter(state, 0, shift_probability, pay_probability)[:, ARM_A])


def change_probability(state: RestlessBanditState, window: int, shift_probability: float, pay_probability: float) -> jax.Array:
    """Returns float32 `[]`, the probability that the arms swapped after one of the last pulls, given what was pulled and paid.

    The latest answers count: before a shift shows in them, this is what the hazard alone makes of so many pulls.

    Args:
      state: of one lane; what is hidden in it is not used.
      window: how many pulls to look back, at least 1.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: likewise.
    """
    return jnp.sum(_filter(state, window, shift_probability, pay_probability)[1])


def _is_for_a(state: RestlessBanditState) -> jax.Array:
    """Returns bool `[pulls]`: whether an answer speaks for A, a win of it or a loss of B; of meaning for the pulls made."""
    return (state.pulled == ARM_A) == (state.paid == 1)


def _filter(state: RestlessBanditState, window: int, shift_probability: float, pay_probability: float) -> jax.Array:
    """Returns float32 `[2, 2]`, the joint posterior of whether the arms swapped after one of the last pulls, and which is better next."""
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


def _anchor(state: RestlessBanditState) -> jax.Array:
    """Returns the evidence as a number in binary, after a leading 1; of more than 31 answers the oldest are forgotten."""
    place = state.num_pulled - 1 - jnp.arange(len(state.paid))
    bits = jnp.where(place >= 0, jnp.left_shift(_is_for_a(state).astype(jnp.uint32), jnp.maximum(place, 0).astype(jnp.uint32)), 0)
    return jnp.sum(bits, dtype=jnp.uint32) | jnp.left_shift(jnp.uint32(1), state.num_pulled.astype(jnp.uint32))


def _descriptions(tokenizer: Any, num_pulls: int) -> Callable[[RestlessBanditState], Text]:
    """Returns `describe`, which looks up one of five constant texts: the question, and what was paid, then or last."""
    options = [f"Pull A or B for {num_pulls} steps:", " 0:", " 1:", " 0\n", " 1\n"]
    say = text.template(tokenizer, "{answer}", answer=text.choice(options))

    def describe(state: RestlessBanditState) -> Text:
        answered = 1 + state.paid[jnp.maximum(state.num_pulled - 1, 0)] + 2 * (state.num_pulled == num_pulls)
        return say(answer=jnp.where(state.num_pulled == 0, 0, answered))

    return describe


def _check(num_pulls: int, shift_probability: float, pay_probability: float) -> None:
    """Raises ValueError unless there is such a bandit."""
    if num_pulls < 1:
        raise ValueError(f"An episode of {num_pulls} pulls is empty; set num_pulls to at least 1.")
    if not 0.0 <= shift_probability <= 1.0:
        raise ValueError(f"Arms cannot swap with probability {shift_probability}; set shift_probability from 0 to 1.")
    if not 0.5 < pay_probability <= 1.0:
        raise ValueError(f"With {pay_probability} no arm is the better; set pay_probability above 0.5, to at most 1.")


# ---------------------------------------------------------------- bounds and baselines
def optimal_return(num_pulls: int, shift_probability: float, pay_probability: float) -> float:
    """Returns the largest expected number of paid pulls of an episode: the Bayes-optimal value, from above (`optimal_return_bounds`).

    Args:
      num_pulls: pulls of an episode.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: likewise.
    """
    return optimal_return_bounds(num_pulls, shift_probability, pay_probability)[1]


def optimal_return_bounds(
    num_pulls: int, shift_probability: float, pay_probability: float, num_beliefs: int = NUM_BELIEFS
) -> tuple[float, float]:
    """Returns two numbers between which the Bayes-optimal value lies, by dynamic programming over the belief.

    The value is convex in the belief (Smallwood and Sondik, 1973): between two beliefs of the grid it lies below the chord of the values
    there, and above every line that some plan attains.

    Args:
      num_pulls: pulls of an episode.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: likewise.
      num_beliefs: of the grid, odd.

    Raises:
      ValueError: if there is no such bandit.
    """
    _check(num_pulls, shift_probability, pay_probability)
    often, seldom = pay_probability, 1.0 - pay_probability
    believed = np.linspace(0.0, 1.0, num_beliefs)  # that A is the better
    now = np.where(believed[:, None] >= 0.5, [often, seldom], [seldom, often])  # paid for the better arm, if A is it, and if B is
    both = np.stack([believed, 1.0 - believed], axis=1)
    move = np.array([[1.0 - shift_probability, shift_probability], [shift_probability, 1.0 - shift_probability]])
    above, line = np.zeros(num_beliefs), np.zeros((num_beliefs, 2))  # a line by its values where A, and where B is surely the better
    for _ in range(num_pulls):
        new_above, new_line = np.sum(both * now, 1), now
        for likelihood in (np.array([often, seldom]), np.array([seldom, often])):  # of an answer that speaks for A, or for B
            seen = np.sum(both * likelihood, 1)
            after = ((both * likelihood) @ move)[:, 0] / np.maximum(seen, 1e-300)
            new_above = new_above + seen * np.interp(after, believed, above)
            new_line = new_line + likelihood * (line[np.rint(after * (num_beliefs - 1)).astype(int)] @ move)
        above, line = new_above, new_line
    middle = num_beliefs // 2
    return float(line[middle].mean()), float(above[middle])


def informed_return(num_pulls: int, pay_probability: float) -> float:
    """Returns the expected return of one who always knows the better arm: no agent can reach more.

    Args:
      num_pulls: pulls of an episode.
      pay_probability: as in `make_restless_bandit`.
    """
    return num_pulls * pay_probability


def fixed_return(num_pulls: int, shift_probability: float, pay_probability: float) -> float:
    """Returns the expected return of one who knows the better arm of the first pull, and stays with it: it decays to chance.

    Args:
      num_pulls: pulls of an episode.
      shift_probability: as in `make_restless_bandit`.
      pay_probability: likewise.
    """
    still = (1.0 - 2.0 * shift_probability) ** np.arange(num_pulls)  # P(as at the start) - P(swapped)
    return float(num_pulls / 2 + (pay_probability - 0.5) * still.sum())


def last_answer_return(num_pulls: int, shift_probability: float, pay_probability: float) -> float:
    """Returns the expected return of win-stay, lose-shift: the best rule that looks at nothing but the last pull and its answer.

    After every answer it pulls the arm for which that speaks, which is right if the answer was and the arms stayed, or neither. It is
    Bayes-optimal, and a longer memory worth nothing, where shifts are at least as probable as misleading answers: 1 - `pay_probability`.

    Args:
      num_pulls: pulls of an episode.
      shift_probability: as in `make_restless_bandit`, at most 1/2.
      pay_probability: likewise.
    """
    right = pay_probability * (1.0 - shift_probability) + (1.0 - pay_probability) * shift_probability
    return 0.5 + (num_pulls - 1) * (right * pay_probability + (1.0 - right) * (1.0 - pay_probability))


def random_return(num_pulls: int) -> float:
    """Returns the expected return of arms pulled at random: half the pulls pay.

    Args:
      num_pulls: pulls of an episode.
    """
    return num_pulls / 2
