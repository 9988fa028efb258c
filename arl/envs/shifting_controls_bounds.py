"""Shifting controls: probabilities of shifts, and returns of random play, a fixed policy and the Bayes filter."""

import itertools
import math

import numpy as np

from arl.types import ArlError

ShiftRange = tuple[int, int]


def permutations(num_actions: int) -> np.ndarray:
    """Returns the direction in which each word moves in each permutation, int32 `[A!, A]`; the first is the identity.

    Args:
      num_actions: `A`, number of words.
    """
    return np.array(list(itertools.permutations(range(num_actions))), np.int32)


def shift_chances(num_steps: int, shift_range: ShiftRange | None = None, hazard: float | None = None) -> np.ndarray:
    """Returns the probability of a shift before each step, if there has been none yet and if there has, float64 `[num_steps, 2]`.

    Args:
      num_steps: as in `make_shifting_controls`.
      shift_range: as in `make_shifting_controls`.
      hazard: as in `make_shifting_controls`.

    Raises:
      ArlError: if an argument is out of range, or both `shift_range` and `hazard` are given.
    """
    if num_steps < 1:
        raise ArlError(f"An attempt of {num_steps} steps is empty; set num_steps to at least 1.")
    step = np.arange(num_steps)
    if hazard is not None:
        if shift_range is not None:
            raise ArlError("A hazard and a shift_range contradict each other; give one of them.")
        if not 0.0 < hazard < 1.0:
            raise ArlError(f"A hazard of {hazard} is impossible; choose one between 0 and 1.")
        return np.repeat(np.where(step > 0, hazard, 0.0)[:, None], 2, axis=1)
    first, last = range_of(num_steps, shift_range)
    none_yet = np.where((step >= first) & (step <= last), 1.0 / np.maximum(last - step + 1, 1), 0.0)
    return np.stack([none_yet, np.zeros(num_steps)], axis=1)


def range_of(num_steps: int, shift_range: ShiftRange | None) -> ShiftRange:
    """Returns the first and last step before which the shift may happen.

    Args:
      num_steps: number of steps of an attempt.
      shift_range: the two steps; None for the middle third.

    Raises:
      ArlError: if they are out of range.
    """
    if num_steps < 2:
        raise ArlError(f"In {num_steps} steps nothing can shift; set num_steps to at least 2.")
    first, last = shift_range or (-(-num_steps // 3), 2 * num_steps // 3)
    if not 1 <= first <= last < num_steps:
        raise ArlError(f"No shift can happen before steps {first} to {last} of {num_steps}; choose 1 <= first <= last < num_steps.")
    return first, last


def prior_of(num_actions: int, starts_plain: bool) -> np.ndarray:
    """Returns the probability of each permutation at the first step, float64 `[A!]`.

    Args:
      num_actions: `A`, number of words.
      starts_plain: whether every word initially moves as it says.
    """
    num_permutations = math.factorial(num_actions)
    return np.eye(num_permutations)[0] if starts_plain else np.full(num_permutations, 1.0 / num_permutations)


def informed_return(num_steps: int = 20) -> float:
    """Returns the return of an agent that always knows the controls, an upper bound.

    Args:
      num_steps: number of steps of an attempt.
    """
    return float(num_steps)


def random_return(num_actions: int = 4, num_steps: int = 20) -> float:
    """Returns the expected return of random words.

    Args:
      num_actions: number of words.
      num_steps: number of steps of an attempt.
    """
    return num_steps / num_actions


def fixed_rewards(
    num_actions: int = 4,
    num_steps: int = 20,
    shift_range: ShiftRange | None = None,
    hazard: float | None = None,
    starts_plain: bool = False,
) -> np.ndarray:
    """Returns the expected reward at each step of always writing the word for the requested direction, float64 `[num_steps]`; exact.

    Unless `starts_plain` this is chance, as for any fixed policy.

    Args:
      num_actions: as in `make_shifting_controls`.
      num_steps: number of steps of an attempt.
      shift_range: as in `make_shifting_controls`.
      hazard: as in `make_shifting_controls`.
      starts_plain: whether every word initially moves as it says.
    """
    size = math.factorial(num_actions)
    fixed_by_others = (size / num_actions - 1) / (
        size - 1
    )  # fraction of the permutations, without the identity, in which a word moves as it says
    first = float(prior_of(num_actions, starts_plain)[0])
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
    """Plays attempts with the Bayes filter, a policy that writes the word that most probably moves as requested, in NumPy.

    Ties are broken at random. The policy does not explore. It was optimal in all configurations of 2 words and 9 steps, or 3 words and 7
    steps, for which the optimal policy was computed by enumeration, because every word reveals where it moves.

    Args:
      num_actions: as in `make_shifting_controls`.
      num_steps: number of steps of an attempt.
      shift_range: as in `make_shifting_controls`.
      hazard: as in `make_shifting_controls`.
      starts_plain: whether every word initially moves as it says.
      num_games: `N`, number of attempts.
      seed: seed of the attempts.

    Returns:
      Rewards, bool `[N, num_steps]`; and whether the controls of a step differ from those of the step before, bool `[N, num_steps]`.
    """
    generator, table = np.random.default_rng(seed), permutations(num_actions)
    chances, size = shift_chances(num_steps, shift_range, hazard), math.factorial(num_actions)
    belief = np.zeros((num_games, 2, size))  # without a shift so far, with one
    belief[:, 0] = prior_of(num_actions, starts_plain)
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
    """Returns a Monte Carlo estimate of the expected return of the Bayes filter, see `play_filter`.

    Args:
      num_actions: as in `make_shifting_controls`.
      num_steps: number of steps of an attempt.
      shift_range: as in `make_shifting_controls`.
      hazard: as in `make_shifting_controls`.
      starts_plain: whether every word initially moves as it says.
      num_games: as in `play_filter`.
      seed: as in `play_filter`.

    Returns:
      Mean return, in the environment's units, and two standard errors of it.
    """
    returns = play_filter(num_actions, num_steps, shift_range, hazard, starts_plain, num_games, seed)[0].sum(1)
    return float(returns.mean()), float(2.0 * returns.std() / math.sqrt(num_games))
