"""Advantages of whole episodes relative to their group, the consecutive lanes that are given the same task.

Lanes `i * G` to `i * G + G - 1` are group `i`. An episode that is not compared, such as an unfinished one, has advantage 0 and enters no
mean. A group whose returns are equal has advantages of 0; it is counted and its lanes are marked, but it is not dropped, so shapes and
counts stay as they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl.types import ArlError


class GroupAdvantage(NamedTuple):
    """Advantages of episodes, and which of them carry a signal.

    Attributes:
      advantage: float32 `[B]`, in the return's units (without unit if divided by the deviation); 0 where not used.
      is_used: bool `[B]`, whether the episode was compared and the returns of its group differ.
      num_groups_without_variance: float32 `[]`, number of the `B / G` groups whose returns are equal, including those with fewer than two
        episodes to compare; to be added over devices.
    """

    advantage: jax.Array
    is_used: jax.Array
    num_groups_without_variance: jax.Array


def grpo(
    episode_return: jax.Array,
    group_size: int,
    is_compared: jax.Array | None = None,
    *,
    normalize: bool = True,
    tolerance: float = 1e-6,
) -> GroupAdvantage:
    """Compares each episode with its group's mean (GRPO, arXiv:2402.03300, section 4.1.2; unnormalised: Dr. GRPO, arXiv:2503.20783).

    The mean contains the episode itself: without normalisation the gradient is (G - 1) / G times the unbiased one.

    Args:
      episode_return: float `[B]`, in the environment's units.
      group_size: G, lanes of a group.
      is_compared: bool `[B]`, the episodes to compare; None for all.
      normalize: whether to divide by the group's standard deviation (that of the population).
      tolerance: returns of a group count as equal if they differ by no more than this; in the return's units.

    Returns:
      A `GroupAdvantage`.

    Raises:
      ArlError: if groups of `group_size` do not divide the lanes, or `group_size` is below 2.
    """
    value, mask = _by_group(episode_return, group_size, is_compared)
    count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    centred = jnp.where(mask, value - jnp.sum(value, axis=1, keepdims=True) / count, 0.0)
    if normalize:
        variance = jnp.sum(jnp.square(centred), axis=1, keepdims=True) / count
        centred = centred / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    return _masked(centred, value, mask, tolerance)


def rloo(episode_return: jax.Array, group_size: int, is_compared: jax.Array | None = None, *, tolerance: float = 1e-6) -> GroupAdvantage:
    """Compares each episode with the mean of the other episodes of its group (RLOO, Kool et al. 2019; arXiv:2402.14740); unbiased.

    Args:
      episode_return: float `[B]`, in the environment's units.
      group_size: G, lanes of a group.
      is_compared: bool `[B]`, the episodes to compare; None for all.
      tolerance: returns of a group count as equal if they differ by no more than this; in the return's units.

    Returns:
      A `GroupAdvantage`.

    Raises:
      ArlError: if groups of `group_size` do not divide the lanes, or `group_size` is below 2.
    """
    value, mask = _by_group(episode_return, group_size, is_compared)
    baseline = leave_one_out_baseline(episode_return, group_size, is_compared).reshape(value.shape)
    return _masked(value - baseline, value, mask, tolerance)


def leave_one_out_baseline(episode_return: jax.Array, group_size: int, is_compared: jax.Array | None = None) -> jax.Array:
    """Computes for each episode the mean return of the other episodes of its group (Kool et al. 2019, arXiv:2402.14740).

    Args:
      episode_return: float `[B]`, in the environment's units.
      group_size: G, lanes of a group; B makes the whole batch one group.
      is_compared: bool `[B]`, the episodes to compare; None for all.

    Returns:
      float32 `[B]`, in the return's units; 0 where there are no others.

    Raises:
      ArlError: if groups of `group_size` do not divide the lanes, or `group_size` is below 2.
    """
    value, mask = _by_group(episode_return, group_size, is_compared)
    num_others = jnp.sum(mask, axis=1, keepdims=True) - mask
    of_others = jnp.sum(value, axis=1, keepdims=True) - value
    return jnp.where(num_others > 0, of_others / jnp.maximum(num_others, 1), 0.0).reshape(-1)


def _by_group(episode_return, group_size, is_compared):
    """Returns the episodes' returns, 0 where masked, and the mask, both `[B / G, G]`."""
    num_lanes = episode_return.shape[0]
    if group_size < 2:
        raise ArlError(f"group_size is {group_size}, which leaves nothing to compare; set it >= 2")
    if num_lanes % group_size:
        raise ArlError(f"groups of {group_size} do not divide {num_lanes} lanes; set the number of lanes to a multiple of group_size")
    if is_compared is None:
        is_compared = jnp.ones(num_lanes, bool)
    value = jnp.where(is_compared, episode_return.astype(jnp.float32), 0.0)
    return value.reshape(-1, group_size), is_compared.reshape(-1, group_size)


def _masked(advantage, value, mask, tolerance):
    # Tested by the range: the standard deviation of equal numbers is often not exactly 0.
    largest = jnp.max(jnp.where(mask, value, -jnp.inf), axis=1, keepdims=True)
    smallest = jnp.min(jnp.where(mask, value, jnp.inf), axis=1, keepdims=True)
    differs = largest - smallest > tolerance
    is_used = mask & differs
    return GroupAdvantage(
        advantage=jnp.where(is_used, advantage, 0.0).reshape(-1),
        is_used=is_used.reshape(-1),
        num_groups_without_variance=jnp.sum(~differs).astype(jnp.float32),
    )
