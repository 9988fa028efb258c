"""Returns and advantages over trajectories.

All arrays are `[B, T]` and named as the fields of `arl.types.Trajectory`. Only *sampled positions* count, those with `is_sampled`; rewards,
values and discounts of the others are ignored. The reward and discount of a segment stand at its last sampled position. No reward of an
episode counts for the episode before it in the same lane. The sampled positions of an episode end in one of three ways:

- terminated (`ends_episode` at a sampled position): nothing follows;
- truncated (`ends_episode & is_truncated` at a position that is only read): the value recorded there is the bootstrap;
- unfinished (the trajectory ends): the bootstrap is the value at the last position that has one, if that position is only read; else 0.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from arl.objectives.aggregate import AxisName, masked_mean, masked_variance
from arl.types import ArlError


def gae(
    reward: jax.Array,
    value: jax.Array,
    discount: jax.Array,
    *,
    is_sampled: jax.Array,
    has_value: jax.Array,
    ends_segment: jax.Array,
    ends_episode: jax.Array,
    is_truncated: jax.Array,
    gae_lambda: jax.Array | float,
    gae_lambda_counts: Literal["segment", "token"] = "segment",
) -> tuple[jax.Array, jax.Array]:
    """Estimates the advantage of every sampled token (generalised advantage estimation, arXiv:1506.02438, equation 16).

    Args:
      reward: float `[B, T]`, sum of the reward's components, in the environment's units.
      value: float `[B, T]`, same units, of what follows the position.
      discount: float `[B, T]`, weight of what follows the position.
      is_sampled: bool `[B, T]`, where a token was sampled.
      has_value: bool `[B, T]`.
      ends_segment: bool `[B, T]`.
      ends_episode: bool `[B, T]`.
      is_truncated: bool `[B, T]`.
      gae_lambda: lambda, in [0, 1].
      gae_lambda_counts: "segment" applies lambda from one segment to the next and 1 within a segment, so that credit does not decay with
        the length of a segment; "token" applies it from each sampled position to the next.

    Returns:
      Advantages, and targets for the value (advantage + value), both float32 `[B, T]` in the reward's units, 0 where no token was sampled.

    Raises:
      ArlError: if `gae_lambda_counts` is neither "segment" nor "token".
    """
    if gae_lambda_counts not in ("segment", "token"):
        raise ArlError(f'gae_lambda_counts is "{gae_lambda_counts}"; set it to "segment" or "token"')
    gae_lambda = jnp.asarray(gae_lambda, jnp.float32)
    weight = jnp.where(ends_segment, gae_lambda, 1.0) if gae_lambda_counts == "segment" else jnp.broadcast_to(gae_lambda, reward.shape)
    bootstrap, is_cut = _cuts(value, is_sampled, has_value, ends_episode, is_truncated)
    advantage = _accumulate(reward, value, discount, weight, is_sampled, ends_episode, bootstrap, is_cut)
    return advantage, jnp.where(is_sampled, advantage + value, 0.0)


def segment_gae(
    reward: jax.Array,
    value: jax.Array,
    discount: jax.Array,
    *,
    is_sampled: jax.Array,
    has_value: jax.Array,
    ends_segment: jax.Array,
    ends_episode: jax.Array,
    is_truncated: jax.Array,
    gae_lambda: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Estimates one advantage per segment, the same for all its tokens: a segment is one action (arXiv:1506.02438, equation 16).

    The value of a segment is that at its first sampled position, and its reward is the sum over its tokens. Values at its later positions
    are ignored.

    Args:
      reward: float `[B, T]`, sum of the reward's components, in the environment's units.
      value: float `[B, T]`, same units, of what follows the position.
      discount: float `[B, T]`, weight of what follows the position.
      is_sampled: bool `[B, T]`, where a token was sampled.
      has_value: bool `[B, T]`.
      ends_segment: bool `[B, T]`.
      ends_episode: bool `[B, T]`.
      is_truncated: bool `[B, T]`.
      gae_lambda: lambda, in [0, 1], applied from one segment to the next.

    Returns:
      Advantages, and targets for the value (advantage + value at the segment's first sampled position), both float32 `[B, T]` in the
      reward's units, the same at all tokens of a segment, 0 where no token was sampled.
    """
    bootstrap, is_cut = _cuts(value, is_sampled, has_value, ends_episode, is_truncated)
    first_value = _at_first_decision(value, is_sampled, ends_segment, ends_episode)
    weight = jnp.where(ends_segment, jnp.asarray(gae_lambda, jnp.float32), 1.0)
    # With one value for the whole segment the terms of its tokens telescope: at the first sampled position the recursion over tokens equals
    # that over segments.
    by_token = _accumulate(reward, first_value, discount, weight, is_sampled, ends_episode, bootstrap, is_cut)
    advantage = jnp.where(is_sampled, _at_first_decision(by_token, is_sampled, ends_segment, ends_episode), 0.0)
    return advantage, jnp.where(is_sampled, advantage + first_value, 0.0)


def returns(
    reward: jax.Array,
    discount: jax.Array,
    *,
    is_sampled: jax.Array,
    ends_episode: jax.Array,
    is_truncated: jax.Array,
    value: jax.Array | None = None,
    has_value: jax.Array | None = None,
) -> jax.Array:
    """Computes the discounted return from each sampled position to the end of its episode (Sutton and Barto 2018, equation 3.9).

    Args:
      reward: float `[B, T]`, sum of the reward's components, in the environment's units.
      discount: float `[B, T]`, weight of what follows the position.
      is_sampled: bool `[B, T]`, where a token was sampled.
      ends_episode: bool `[B, T]`.
      is_truncated: bool `[B, T]`.
      value: float `[B, T]`, in the reward's units, the bootstrap of truncated and unfinished episodes; None bootstraps with 0.
      has_value: bool `[B, T]`; given with `value`.

    Returns:
      float32 `[B, T]`, in the reward's units, 0 where no token was sampled.

    Raises:
      ArlError: if only one of `value` and `has_value` is given.
    """
    if (value is None) != (has_value is None):
        raise ArlError("a value counts only where has_value is set; give both value and has_value, or neither")
    if value is None or has_value is None:
        value, has_value = jnp.zeros(reward.shape, jnp.float32), is_sampled
    bootstrap, is_cut = _cuts(value, is_sampled, has_value, ends_episode, is_truncated)
    nothing, whole = jnp.zeros(reward.shape, jnp.float32), jnp.ones(reward.shape, jnp.float32)
    return _accumulate(reward, nothing, discount, whole, is_sampled, ends_episode, bootstrap, is_cut)


def sum_between(
    reward: jax.Array, discount: jax.Array, *, is_own: jax.Array, is_sampled: jax.Array, ends_segment: jax.Array, ends_episode: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Credits some segments with all rewards until the next of them, as one step of a semi-Markov decision process.

    With the results, and `is_own` in the place of `is_sampled`, an estimator sees these segments alone, and its lambda counts them alone
    (options: Sutton, Precup and Singh 1999, "Between MDPs and semi-MDPs").

    Args:
      reward: float `[B, T]`, sum of the reward's components, in the environment's units.
      discount: float `[B, T]`, weight of what follows the position.
      is_own: bool `[B, T]`, the sampled positions of these segments.
      is_sampled: bool `[B, T]`, where a token was sampled.
      ends_segment: bool `[B, T]`.
      ends_episode: bool `[B, T]`.

    Returns:
      Reward, the discounted sum from the end of each of these segments to the next, and discount of what follows that sum, both float32
      `[B, T]`.
    """

    def step(following, position):
        reward, discount, is_own, is_sampled, ends_segment, ends_episode = position
        total, weight = jnp.where(is_sampled, reward + discount * following[0], following[0]), following[1]
        weight = jnp.where(is_sampled, discount * weight, weight)
        is_apart = ~is_sampled & ends_episode  # a truncated episode: what stands behind it belongs to the next one
        passed = jnp.where(is_own | is_apart, 0.0, total), jnp.where(is_own | is_apart, 1.0, weight)
        return passed, (jnp.where(is_own & ~ends_segment, reward, total), jnp.where(is_own & ~ends_segment, discount, weight))

    floats = (x.astype(jnp.float32).T for x in (reward, jnp.where(ends_episode, 0.0, discount)))
    positions = (*floats, is_own.T, is_sampled.T, ends_segment.T, ends_episode.T)
    start = jnp.zeros(len(reward), jnp.float32), jnp.ones(len(reward), jnp.float32)
    total, weight = jax.lax.scan(step, start, positions, reverse=True)[1]
    return total.T, weight.T


def episode_return(reward: jax.Array, discount: jax.Array, *, is_sampled: jax.Array, ends_episode: jax.Array) -> jax.Array:
    """Computes the return of each lane's first episode, without bootstrap, for group objectives.

    The return of an unfinished episode is not known. Group objectives take a mask of the episodes to compare: `jnp.any(ends_episode, 1)`,
    or `jnp.any(ends_episode & ~is_truncated, 1)` to leave out truncated ones.

    Args:
      reward: float `[B, T]`, sum of the reward's components, in the environment's units.
      discount: float `[B, T]`, weight of what follows the position.
      is_sampled: bool `[B, T]`, where a token was sampled.
      ends_episode: bool `[B, T]`.

    Returns:
      float32 `[B]`, in the reward's units; 0 for a lane whose first episode has no sampled position.
    """
    is_first_episode = jnp.cumsum(ends_episode, axis=1) - ends_episode == 0
    is_decision = is_sampled & is_first_episode
    by_position = returns(reward, discount, is_sampled=is_decision, ends_episode=ends_episode, is_truncated=jnp.zeros_like(ends_episode))
    return jnp.take_along_axis(by_position, jnp.argmax(is_decision, axis=1)[:, None], axis=1)[:, 0]


def reinforce(target: jax.Array, is_sampled: jax.Array, *, value: jax.Array | None = None, axis_name: AxisName = None) -> jax.Array:
    """Subtracts a baseline from returns (REINFORCE, Williams 1992).

    The batch's mean contains the return that it is subtracted from, which biases the gradient by a relative 1 / (number of episodes). A
    value does not bias it, nor does `leave_one_out_baseline`.

    Args:
      target: float `[B, T]`, from `returns`.
      is_sampled: bool `[B, T]`, where a token was sampled.
      value: float `[B, T]`, the baseline; None takes the mean of `target` over the batch.
      axis_name: mapped axes over which the mean is taken as well.

    Returns:
      float32 `[B, T]`, in the reward's units, 0 where no token was sampled.
    """
    baseline = masked_mean(target, is_sampled, axis_name) if value is None else value.astype(jnp.float32)
    return jnp.where(is_sampled, target.astype(jnp.float32) - baseline, 0.0)


def standardize(advantage: jax.Array, mask: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Standardises advantages to mean 0 and standard deviation 1 over the positions that are kept.

    Args:
      advantage: float `[B, T]`.
      mask: bool `[B, T]`.
      axis_name: mapped axes over which mean and deviation are taken as well.

    Returns:
      float32 `[B, T]`, without unit, 0 where not kept; all 0 if the advantages are equal.
    """
    advantage = advantage.astype(jnp.float32)
    variance = masked_variance(advantage, mask, axis_name)
    scale = jnp.where(variance > 0, 1.0 / jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    return jnp.where(mask, (advantage - masked_mean(advantage, mask, axis_name)) * scale, 0.0)


def _cuts(value, is_sampled, has_value, ends_episode, is_truncated):
    """Returns the bootstraps, and the positions `is_cut` that are only read and at which an episode is truncated or the trajectory ends."""
    index = jnp.arange(is_sampled.shape[1])
    last = jnp.max(jnp.where(has_value | is_sampled, index, -1), axis=1, keepdims=True)
    is_cut = ~is_sampled & (ends_episode | (index == last))
    return jnp.where(has_value & (is_truncated | ~ends_episode), value.astype(jnp.float32), 0.0), is_cut


def _accumulate(reward, value, discount, gae_lambda, is_sampled, ends_episode, bootstrap, is_cut):
    """Runs the recursion of GAE from the last position to the first; float32 `[B, T]`, 0 where no token was sampled."""

    def step(following, position):
        next_value, next_advantage = following
        reward, value, discount, gae_lambda, is_sampled, bootstrap, is_cut = position
        advantage = reward + discount * next_value - value + discount * gae_lambda * next_advantage
        passed = jnp.where(is_cut, bootstrap, next_value), jnp.where(is_cut, 0.0, next_advantage)
        here = jnp.where(is_sampled, value, passed[0]), jnp.where(is_sampled, advantage, passed[1])
        return here, jnp.where(is_sampled, advantage, 0.0)

    floats = (x.astype(jnp.float32).T for x in (reward, value, jnp.where(ends_episode, 0.0, discount), gae_lambda))
    nothing = jnp.zeros(reward.shape[0], jnp.float32)
    positions = (*floats, is_sampled.T, bootstrap.T, is_cut.T)
    return jax.lax.scan(step, (nothing, nothing), positions, reverse=True)[1].T


def _at_first_decision(x, is_sampled, ends_segment, ends_episode):
    """Returns `x` at the first sampled position of each segment, at all its positions; float32 `[B, T]`, 0 before a lane's first one."""

    def step(carry, position):
        first, is_open = carry
        x, is_sampled, ends = position
        first = jnp.where(is_sampled & ~is_open, x, first)
        return (first, (is_open | is_sampled) & ~ends), first

    start = jnp.zeros(x.shape[0], jnp.float32), jnp.zeros(x.shape[0], bool)
    positions = x.astype(jnp.float32).T, is_sampled.T, (ends_segment | ends_episode).T
    return jax.lax.scan(step, start, positions)[1].T
