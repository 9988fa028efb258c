"""Shifting controls: the words for the directions are permuted, one does not know how, and at an unannounced step they are permuted anew.

Every turn asks for a direction and answers with the direction in which one really moved, paid 1 if it is the one asked for:
`Move up: left down, right: up right, up: down up`. A fixed strategy fails after the shift; one that adapts sees that a word no longer
does what it did, and finds the words anew. What an observer can know is a Bayes filter over the permutations (`posterior`).
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Environment, Step, Text, select

DIRECTIONS = ("left", "right", "up", "down")
NUM_RECENT = 3  # steps after a shift that the filter tells apart
TIE = 1e-5  # by which the expert prefers an earlier word: more than the rounding of a sum, less than a difference that matters

ShiftRange = tuple[int, int]


class ShiftingControlsState(NamedTuple):
    """What is asked, what the words do, what was written; and the odds of the game, for the filter. `T` steps, `A` words.

    Attributes:
      asked: int32 `[T]`, the direction asked for at each step.
      controls: int32 `[T, A]`, hidden: the direction in which each word moves at each step.
      is_shift: bool `[T]`, hidden: whether the controls of a step are not those of the step before; never at step 0.
      words: int32 `[T]`, the words written so far; 0 from there on.
      num_steps: int32 `[]`, steps made.
      prior: float32 `[A!]`, probability of each of `permutations(A)` at step 0.
      hazard: float32 `[T, 2]`, probability of a shift before each step if there was none so far, and if there was.
    """

    asked: jax.Array
    controls: jax.Array
    is_shift: jax.Array
    words: jax.Array
    num_steps: jax.Array
    prior: jax.Array
    hazard: jax.Array


def make_shifting_controls(
    tokenizer: Any,
    num_actions: int = 4,
    num_steps: int = 20,
    shift_range: ShiftRange | None = None,
    hazard: float | None = None,
    starts_plain: bool = False,
) -> Environment:
    """Returns the game as an environment whose actions are the first `num_actions` of " left", " right", " up", " down".

    A shift draws one of the *other* permutations uniformly. The expert writes the word that most probably moves as asked, given all that
    was seen in this episode and the odds of a shift.

    Args:
      tokenizer: a fast tokenizer.
      num_actions: how many words and directions, 2 to 4.
      num_steps: steps of an episode; they are part of the task, so that it terminates after them.
      shift_range: first and last step, both included, before which the one shift may happen, uniformly; None for the middle third.
      hazard: None for one shift; else before every step but the first there is one with this probability.
      starts_plain: whether at first every word moves as it says; else the first permutation is drawn uniformly.

    Raises:
      ValueError: if a count or a probability is impossible, or both `shift_range` and `hazard` are given.
    """
    if not 2 <= num_actions <= len(DIRECTIONS):
        raise ValueError(f"There are no controls of {num_actions} words; set num_actions to 2, ..., {len(DIRECTIONS)}.")
    chances = shift_chances(num_steps, shift_range, hazard)
    prior = _prior(num_actions, starts_plain)
    table = permutations(num_actions)

    def reset(key: jax.Array) -> ShiftingControlsState:
        key_asked, key_first, key_shift, key_change = jax.random.split(key, 4)
        asked = jax.random.randint(key_asked, (num_steps,), 0, num_actions)
        first = jnp.int32(0) if starts_plain else jax.random.randint(key_first, (), 0, len(table))
        is_shift = _draw_shifts(key_shift, num_steps, shift_range, hazard)
        change = jax.random.randint(key_change, (num_steps,), 1, len(table))  # to any other permutation
        controls = jnp.asarray(table)[(first + jnp.cumsum(jnp.where(is_shift, change, 0))) % len(table)]
        odds = jnp.asarray(prior, jnp.float32), jnp.asarray(chances, jnp.float32)
        return ShiftingControlsState(asked, controls, is_shift, jnp.zeros(num_steps, jnp.int32), jnp.int32(0), *odds)

    def step(key: jax.Array, state: ShiftingControlsState, action: jax.Array) -> tuple[ShiftingControlsState, Step]:
        del key  # all that is random was drawn by `reset`
        now, is_over = state.num_steps, state.num_steps >= num_steps
        words = jnp.where(jnp.arange(num_steps) == now, jnp.asarray(action, jnp.int32), state.words)
        state = select(is_over, state, state._replace(words=words, num_steps=now + 1))
        is_right = ~is_over & (moved(state)[now] == state.asked[now])
        return state, Step(is_right.astype(jnp.float32), state.num_steps >= num_steps, jnp.bool_(False))

    def legal(state: ShiftingControlsState) -> jax.Array:
        return jnp.ones(num_actions, bool)

    def expert(key: jax.Array, state: ShiftingControlsState) -> jax.Array:
        now = jnp.minimum(state.num_steps, num_steps - 1)
        belief = jnp.sum(predict(posterior(state), state.hazard[now]), axis=0)
        moves_right = jnp.asarray(table) == state.asked[now]
        return jnp.argmax(belief @ moves_right - TIE * jnp.arange(num_actions)).astype(jnp.int32)

    grammar = text.legal_strings(tokenizer, [f" {word}" for word in DIRECTIONS[:num_actions]])
    describe = _descriptions(tokenizer, DIRECTIONS[:num_actions], num_steps)
    return Environment(reset, step, describe, grammar, legal, max_steps=num_steps, expert=expert, anchor=_anchor)


def permutations(num_actions: int) -> np.ndarray:
    """Returns int32 `[A!, A]`: in each permutation, the direction in which each word moves; the first is the plain one.

    Args:
      num_actions: `A`.
    """
    return np.array(list(itertools.permutations(range(num_actions))), np.int32)


def shift_chances(num_steps: int, shift_range: ShiftRange | None = None, hazard: float | None = None) -> np.ndarray:
    """Returns float64 `[num_steps, 2]`: probability of a shift before each step if there was none so far, and if there was.

    Args:
      num_steps: as in `make_shifting_controls`, and so is the rest.
      shift_range: where the one shift may happen.
      hazard: of a shift before any step.

    Raises:
      ValueError: if the odds are impossible or contradict each other.
    """
    if num_steps < 1:
        raise ValueError(f"An episode of {num_steps} steps is empty; set num_steps to at least 1.")
    step = np.arange(num_steps)
    if hazard is not None:
        if shift_range is not None:
            raise ValueError("A hazard and a shift_range contradict each other; give one of them.")
        if not 0.0 < hazard < 1.0:
            raise ValueError(f"A hazard of {hazard} is impossible; choose one between 0 and 1.")
        return np.repeat(np.where(step > 0, hazard, 0.0)[:, None], 2, axis=1)
    first, last = _range(num_steps, shift_range)
    none_yet = np.where((step >= first) & (step <= last), 1.0 / np.maximum(last - step + 1, 1), 0.0)
    return np.stack([none_yet, np.zeros(num_steps)], axis=1)


def _range(num_steps: int, shift_range: ShiftRange | None) -> ShiftRange:
    if num_steps < 2:
        raise ValueError(f"In {num_steps} steps nothing can shift; set num_steps to at least 2.")
    first, last = shift_range or (-(-num_steps // 3), 2 * num_steps // 3)
    if not 1 <= first <= last < num_steps:
        raise ValueError(f"No shift can happen before steps {first} to {last} of {num_steps}; choose 1 <= first <= last < num_steps.")
    return first, last


def _prior(num_actions: int, starts_plain: bool) -> np.ndarray:
    num_permutations = math.factorial(num_actions)
    return np.eye(num_permutations)[0] if starts_plain else np.full(num_permutations, 1.0 / num_permutations)


def _draw_shifts(key: jax.Array, num_steps: int, shift_range: ShiftRange | None, hazard: float | None) -> jax.Array:
    """Returns bool `[num_steps]`: before which steps there is a shift."""
    step = jnp.arange(num_steps)
    if hazard is not None:
        return jax.random.bernoulli(key, hazard, (num_steps,)) & (step > 0)
    first, last = _range(num_steps, shift_range)
    return step == jax.random.randint(key, (), first, last + 1)


def _anchor(state: ShiftingControlsState) -> jax.Array:
    """A hash of what was seen and is asked; polynomial, with an odd multiplier (the golden ratio of 2**32) that spreads small codes."""
    num_steps, num_actions = state.controls.shape
    power = np.array([pow(0x9E3779B1, i, 2**32) for i in range(num_steps + 2)], np.uint32)
    code = jnp.where(jnp.arange(num_steps) < state.num_steps, 1 + state.words * num_actions + moved(state), 0)
    asked = state.asked[jnp.minimum(state.num_steps, num_steps - 1)]
    return jnp.sum(jnp.append(code, asked).astype(jnp.uint32) * power[1:], dtype=jnp.uint32)


def _descriptions(tokenizer: Any, names: tuple[str, ...], num_steps: int) -> Callable[[ShiftingControlsState], Text]:
    """Returns `describe`, which looks up one of a few constant texts: questions, then answers with questions, then last answers."""
    size = len(names)
    options = [f"Move {name}:" for name in names]
    options += [f" {answer}, {name}:" for answer in names for name in names] + [f" {answer}\n" for answer in names]
    say = text.template(tokenizer, "{said}", said=text.choice(options))

    def describe(state: ShiftingControlsState) -> Text:
        asked = state.asked[jnp.minimum(state.num_steps, num_steps - 1)]
        answer = moved(state)[jnp.maximum(state.num_steps - 1, 0)]
        later = jnp.where(state.num_steps < num_steps, size + size * answer + asked, size + size * size + answer)
        return say(said=jnp.where(state.num_steps == 0, asked, later))

    return describe


# ---------------------------------------------------------------- what is known: the Bayes filter
def moved(state: ShiftingControlsState) -> jax.Array:
    """Returns int32 `[T]`: where each word written moved; without meaning beyond the steps made.

    Args:
      state: of one lane.
    """
    return jnp.take_along_axis(state.controls, state.words[:, None], axis=1)[:, 0]


def posterior(state: ShiftingControlsState) -> jax.Array:
    """Returns what can be known after the steps made: a distribution over the controls of the last step and the time since they came.

    Exact forward filtering over run length and permutation (Adams and MacKay, 2007, arXiv 0710.3742), from words and moves alone.

    Args:
      state: of one lane; of what is hidden only the moves made are looked at.

    Returns:
      float32 `[NUM_RECENT + 2, A!]`, sums to 1. Row `r` below `NUM_RECENT`: the last shift was `r` steps before the last step (0: the last
      step was the first under new controls); row `NUM_RECENT`: it was earlier; the last row: there was none.
    """
    table = jnp.asarray(permutations(state.controls.shape[1]))
    fits = table[:, state.words].T == moved(state)[:, None]
    is_made = jnp.arange(state.words.shape[0]) < state.num_steps

    def observe(belief, observed):
        hazard, fit, is_made = observed
        weight = predict(belief, hazard) * fit
        return jnp.where(is_made, weight / jnp.where(is_made, jnp.sum(weight), 1.0), belief), None

    start = jnp.zeros((NUM_RECENT + 2, len(table)), jnp.float32).at[-1].set(state.prior)
    return jax.lax.scan(observe, start, (state.hazard, fits, is_made))[0]


def predict(belief: jax.Array, hazard: jax.Array) -> jax.Array:
    """Returns the distribution one step later, before anything is seen of that step.

    Args:
      belief: float32 `[NUM_RECENT + 2, A!]`, as `posterior` returns it.
      hazard: float32 `[2]`, probability of a shift before that step if there was none so far, and if there was.

    Returns:
      float32 `[NUM_RECENT + 2, A!]`.
    """
    leaves = hazard[0] * belief[-1] + hazard[1] * jnp.sum(belief[:-1], axis=0)
    arrives = (jnp.sum(leaves) - leaves) / max(belief.shape[1] - 1, 1)
    stays = (1.0 - hazard[1]) * belief[:-1]
    earlier = jnp.sum(stays[-2:], axis=0)
    return jnp.concatenate([arrives[None], stays[:-2], earlier[None], (1.0 - hazard[0]) * belief[-1:]])


def change_probability(state: ShiftingControlsState, within: int = 1) -> jax.Array:
    """Returns float32 `[]`: the probability, given all that was seen, that the controls shifted before one of the last steps.

    Args:
      state: of one lane.
      within: how many of the last steps, 1 to `NUM_RECENT`; with 1, that the last step was the first under new controls.

    Raises:
      ValueError: if the filter does not tell so many steps apart.
    """
    if not 1 <= within <= NUM_RECENT:
        raise ValueError(f"The filter does not tell the last {within} steps apart; set within to 1, ..., {NUM_RECENT}.")
    return jnp.sum(posterior(state)[:within])


# ---------------------------------------------------------------- bounds and baselines
def informed_return(num_steps: int = 20) -> float:
    """Returns the return of one who knows the controls at every step: no agent can reach more.

    Args:
      num_steps: of an episode.
    """
    return float(num_steps)


def random_return(num_actions: int = 4, num_steps: int = 20) -> float:
    """Returns the expected return of words drawn at random.

    Args:
      num_actions: how many words.
      num_steps: of an episode.
    """
    return num_steps / num_actions


def fixed_rewards(
    num_actions: int = 4,
    num_steps: int = 20,
    shift_range: ShiftRange | None = None,
    hazard: float | None = None,
    starts_plain: bool = False,
) -> np.ndarray:
    """Returns float64 `[num_steps]`: the expected reward at each step of one who always writes the word for what is asked; exact.

    Unless the game starts plain this is chance, as for any fixed strategy.

    Args:
      num_actions: as in `make_shifting_controls`, and so is the rest.
      num_steps: of an episode.
      shift_range: where the one shift may happen.
      hazard: of a shift before any step.
      starts_plain: whether at first every word moves as it says.
    """
    size = math.factorial(num_actions)
    fixed_by_others = (size / num_actions - 1) / (size - 1)  # how often a word moves as it says, in the permutations but the plain one
    first = float(_prior(num_actions, starts_plain)[0])
    none_yet, plain_again, rewards = 1.0, 0.0, []
    for if_none, if_some in shift_chances(num_steps, shift_range, hazard):
        from_some = plain_again * (1.0 - if_some) + (1.0 - none_yet - plain_again) * if_some / (size - 1)
        plain_again = from_some + none_yet * if_none * (1.0 - first) / (size - 1)
        none_yet *= 1.0 - if_none
        is_plain = none_yet * first + plain_again
        rewards.append(is_plain + (1.0 - is_plain) * fixed_by_others)
    return np.array(rewards)


def play_filter(
    num_actions: int = 4,
    num_steps: int = 20,
    shift_range: ShiftRange | None = None,
    hazard: float | None = None,
    starts_plain: bool = False,
    num_games: int = 10_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the Bayes filter earns: games of the player that writes the word that most probably moves as asked, in NumPy.

    Of equally probable words it takes any. It never tries a word for what it would tell, and loses nothing by that wherever the best
    policy was found by enumeration (all games of 2 words and 9 steps, or 3 words and 7 steps, that were tried): every word tells where it
    moves.

    Args:
      num_actions: as in `make_shifting_controls`, and so is the rest.
      num_steps: of an episode.
      shift_range: where the one shift may happen.
      hazard: of a shift before any step.
      starts_plain: whether at first every word moves as it says.
      num_games: `N`.
      seed: two calls with one seed play the same games.

    Returns:
      reward: bool `[N, num_steps]`.
      is_shift: bool `[N, num_steps]`, whether the controls of a step are not those of the step before.
    """
    generator, table = np.random.default_rng(seed), permutations(num_actions)
    chances, size = shift_chances(num_steps, shift_range, hazard), math.factorial(num_actions)
    belief = np.zeros((num_games, 2, size))  # no shift so far, some shift
    belief[:, 0] = _prior(num_actions, starts_plain)
    control, has_shifted = generator.choice(size, num_games, p=belief[0, 0]), np.zeros(num_games, int)
    rewards, is_shift = [], []
    for chance in chances:
        shifts = generator.random(num_games) < chance[has_shifted]
        control = np.where(shifts, (control + generator.integers(1, size, num_games)) % size, control)
        has_shifted |= shifts
        leaves = np.einsum("nsp,s->np", belief, chance)
        belief *= 1.0 - chance[:, None]
        belief[:, 1] += (leaves.sum(1, keepdims=True) - leaves) / (size - 1)
        asked = generator.integers(num_actions, size=num_games)
        right = np.einsum("np,npa->na", belief.sum(1), table == asked[:, None, None])
        word = np.argmax(right.round(9) + 1e-6 * generator.random(right.shape), axis=1)
        went = table[control, word]
        belief *= (table[:, word].T == went[:, None])[:, None]
        belief /= belief.sum((1, 2), keepdims=True)
        rewards.append(went == asked)
        is_shift.append(shifts)
    return np.stack(rewards, 1), np.stack(is_shift, 1)


def adaptive_return(
    num_actions: int = 4,
    num_steps: int = 20,
    shift_range: ShiftRange | None = None,
    hazard: float | None = None,
    starts_plain: bool = False,
    num_games: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the expected return of the Bayes filter, by Monte Carlo: the optimum of an agent that must adapt; see `play_filter`.

    Args:
      num_actions: as in `make_shifting_controls`, and so is the rest.
      num_steps: of an episode.
      shift_range: where the one shift may happen.
      hazard: of a shift before any step.
      starts_plain: whether at first every word moves as it says.
      num_games: as in `play_filter`.
      seed: as in `play_filter`.

    Returns:
      mean: in paid steps.
      half_width: of its interval, two standard errors.
    """
    returns = play_filter(num_actions, num_steps, shift_range, hazard, starts_plain, num_games, seed)[0].sum(1)
    return float(returns.mean()), float(2.0 * returns.std() / math.sqrt(num_games))
