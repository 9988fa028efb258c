"""Advantages of whole lives by comparison within a group: consecutive lanes that were given the same task.

Lanes `i * G` to `i * G + G - 1` are group `i`. A life that is not to be compared (unfinished, say) has no advantage and enters no mean. A
group in which nothing differs teaches nothing: its advantages are 0, its lanes are marked, and it is counted; it is not dropped, so shapes
and counts stay as they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class GroupAdvantage(NamedTuple):
    """Advantages of lives, and what the groups gave.

    Attributes:
      advantage: float32 `[B]`, in the return's units (without unit if divided by the deviation); 0 where not used.
      is_used: bool `[B]`, whether the life was compared and its group's returns differ.
      num_groups_without_variance: float32 `[]`, groups whose returns do not differ, those with fewer than two lives to compare included; of
        `B / G`. To be added over devices.
    """

    advantage: jax.Array
    is_used: jax.Array
    num_groups_without_variance: jax.Array


def grpo(
    life_return: jax.Array,
    group_size: int,
    is_compared: jax.Array | None = None,
    *,
    normalize: bool = True,
    tolerance: float = 1e-6,
) -> GroupAdvantage:
    """Compares each life with its group's mean (GRPO, arXiv:2402.03300, section 4.1.2; without normalisation Dr. GRPO, arXiv:2503.20783).

    The mean contains the life itself: without normalisation the gradient is (G - 1) / G of the unbiased one.

    Args:
      life_return: float `[B]`, in the environment's units.
      group_size: G, lanes of a group.
      is_compared: bool `[B]`, the lives whose return is meant; None: all.
      normalize: whether to divide by the group's standard deviation (of the population, not of a sample).
      tolerance: returns of a group that all lie within this of each other do not differ; in the return's units.

    Returns:
      A `GroupAdvantage`.

    Raises:
      ValueError: if groups of `group_size` do not divide the lanes, or `group_size` is below 2.
    """
    value, is_kept = _by_group(life_return, group_size, is_compared)
    count = jnp.maximum(jnp.sum(is_kept, axis=1, keepdims=True), 1)
    centred = jnp.where(is_kept, value - jnp.sum(value, axis=1, keepdims=True) / count, 0.0)
    if normalize:
        variance = jnp.sum(jnp.square(centred), axis=1, keepdims=True) / count
        centred = centred / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    return _masked(centred, value, is_kept, tolerance)


def rloo(life_return: jax.Array, group_size: int, is_compared: jax.Array | None = None, *, tolerance: float = 1e-6) -> GroupAdvantage:
    """Compares each life with the mean of the others of its group (RLOO, Kool et al. 2019; arXiv:2402.14740); unbiased.

    Args:
      life_return: float `[B]`, in the environment's units.
      group_size: G, lanes of a group.
      is_compared: bool `[B]`, the lives whose return is meant; None: all.
      tolerance: returns of a group that all lie within this of each other do not differ; in the return's units.

    Returns:
      A `GroupAdvantage`.

    Raises:
      ValueError: if groups of `group_size` do not divide the lanes, or `group_size` is below 2.
    """
    value, is_kept = _by_group(life_return, group_size, is_compared)
    baseline = leave_one_out_baseline(life_return, group_size, is_compared).reshape(value.shape)
    return _masked(value - baseline, value, is_kept, tolerance)


def leave_one_out_baseline(life_return: jax.Array, group_size: int, is_compared: jax.Array | None = None) -> jax.Array:
    """Computes, for each life, the mean return of the others of its group (Kool et al. 2019, arXiv:2402.14740).

    Args:
      life_return: float `[B]`, in the environment's units.
      group_size: G, lanes of a group; B makes the whole batch one group.
      is_compared: bool `[B]`, the lives whose return is meant; None: all.

    Returns:
      float32 `[B]`, in the return's units; 0 where there is no other.

    Raises:
      ValueError: if groups of `group_size` do not divide the lanes, or `group_size` is below 2.
    """
    value, is_kept = _by_group(life_return, group_size, is_compared)
    num_others = jnp.sum(is_kept, axis=1, keepdims=True) - is_kept
    of_others = jnp.sum(value, axis=1, keepdims=True) - value
    return jnp.where(num_others > 0, of_others / jnp.maximum(num_others, 1), 0.0).reshape(-1)


def _by_group(life_return, group_size, is_compared):
    """Returns and mask as `[B / G, G]`, returns 0 where masked."""
    num_lanes = life_return.shape[0]
    if group_size < 2:
        raise ValueError(f"A group of {group_size} has nothing to compare; set the group size to 2 or more.")
    if num_lanes % group_size:
        raise ValueError(f"Groups of {group_size} do not divide {num_lanes} lanes; set the number of lanes to a multiple of it.")
    if is_compared is None:
        is_compared = jnp.ones(num_lanes, bool)
    value = jnp.where(is_compared, life_return.astype(jnp.float32), 0.0)
    return value.reshape(-1, group_size), is_compared.reshape(-1, group_size)


def _masked(advantage, value, is_kept, tolerance):
    # By the spread, not the deviation: the deviation of equal numbers is often not quite 0.
    largest = jnp.max(jnp.where(is_kept, value, -jnp.inf), axis=1, keepdims=True)
    smallest = jnp.min(jnp.where(is_kept, value, jnp.inf), axis=1, keepdims=True)
    differs = largest - smallest > tolerance
    is_used = is_kept & differs
    return GroupAdvantage(
        advantage=jnp.where(is_used, advantage, 0.0).reshape(-1),
        is_used=is_used.reshape(-1),
        num_groups_without_variance=jnp.sum(~differs).astype(jnp.float32),
    )
