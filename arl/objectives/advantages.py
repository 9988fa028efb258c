"""Returns and advantages over streams.

All arrays are `[B, T]` and named as the fields of `arl.types.Stream`. A *decision* is a slot at which a token was sampled; reward and
discount of a segment stand at its last decision. Slots that were only read are passed over: neither their rewards, values nor discounts
count. Nothing crosses from one life of a lane to the life before. A chain of decisions ends in one of three ways:

- terminated (`ends_life` at a decision): nothing follows;
- truncated (`ends_life & is_truncated` at a slot without a decision): the value recorded there stands for what would have followed;
- unfinished (the stream ends): the value at the last slot that has one stands for it, if that slot is not itself a decision; else 0.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from arl.objectives.aggregate import AxisName, masked_mean, masked_variance


def gae(
    reward: jax.Array,
    value: jax.Array,
    discount: jax.Array,
    *,
    is_written: jax.Array,
    has_value: jax.Array,
    ends_segment: jax.Array,
    ends_life: jax.Array,
    is_truncated: jax.Array,
    trace: jax.Array | float,
    trace_counts: Literal["segment", "token"] = "segment",
) -> tuple[jax.Array, jax.Array]:
    """Estimates the advantage of every sampled token (generalised advantage estimation, arXiv:1506.02438, equation 16).

    Args:
      reward: float `[B, T]`, the components added up, in the environment's units.
      value: float `[B, T]`, same units, of what follows the slot.
      discount: float `[B, T]`, weight of what follows the slot.
      is_written: bool `[B, T]`, the decisions.
      has_value: bool `[B, T]`.
      ends_segment: bool `[B, T]`.
      ends_life: bool `[B, T]`.
      is_truncated: bool `[B, T]`.
      trace: lambda, in [0, 1].
      trace_counts: "segment" applies `trace` from one segment to the next and 1 within a segment, so that credit does not fade with the
        length of what is written; "token" applies it from each decision to the next.

    Returns:
      Advantages, and targets for the value (advantage + value), both float32 `[B, T]` in the reward's units, 0 where not written.

    Raises:
      ValueError: if `trace_counts` is neither.
    """
    if trace_counts not in ("segment", "token"):
        raise ValueError(f'A trace cannot count "{trace_counts}"; set trace_counts to "segment" or "token".')
    trace = jnp.asarray(trace, jnp.float32)
    weight = jnp.where(ends_segment, trace, 1.0) if trace_counts == "segment" else jnp.broadcast_to(trace, reward.shape)
    bootstrap, is_cut = _cuts(value, is_written, has_value, ends_life, is_truncated)
    advantage = _accumulate(reward, value, discount, weight, is_written, ends_life, bootstrap, is_cut)
    return advantage, jnp.where(is_written, advantage + value, 0.0)


def segment_gae(
    reward: jax.Array,
    value: jax.Array,
    discount: jax.Array,
    *,
    is_written: jax.Array,
    has_value: jax.Array,
    ends_segment: jax.Array,
    ends_life: jax.Array,
    is_truncated: jax.Array,
    trace: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Estimates one advantage a segment and gives it to all of its tokens: a segment is one action (arXiv:1506.02438, equation 16).

    Its value is that before anything of it was written, at its first decision; its reward is the sum over its tokens. Values at later
    decisions of a segment are not looked at.

    Args:
      reward: float `[B, T]`, the components added up, in the environment's units.
      value: float `[B, T]`, same units, of what follows the slot.
      discount: float `[B, T]`, weight of what follows the slot.
      is_written: bool `[B, T]`, the decisions.
      has_value: bool `[B, T]`.
      ends_segment: bool `[B, T]`.
      ends_life: bool `[B, T]`.
      is_truncated: bool `[B, T]`.
      trace: lambda, in [0, 1], from one segment to the next.

    Returns:
      Advantages, and targets for the value (advantage + value at the segment's first decision), both float32 `[B, T]` in the reward's
      units, the same at all tokens of a segment, 0 where not written.
    """
    bootstrap, is_cut = _cuts(value, is_written, has_value, ends_life, is_truncated)
    first_value = _at_first_decision(value, is_written, ends_segment, ends_life)
    weight = jnp.where(ends_segment, jnp.asarray(trace, jnp.float32), 1.0)
    # With one value for the whole segment the terms of its tokens telescope: at the first decision the recursion over tokens is the one
    # over segments.
    by_token = _accumulate(reward, first_value, discount, weight, is_written, ends_life, bootstrap, is_cut)
    advantage = jnp.where(is_written, _at_first_decision(by_token, is_written, ends_segment, ends_life), 0.0)
    return advantage, jnp.where(is_written, advantage + first_value, 0.0)


def returns(
    reward: jax.Array,
    discount: jax.Array,
    *,
    is_written: jax.Array,
    ends_life: jax.Array,
    is_truncated: jax.Array,
    value: jax.Array | None = None,
    has_value: jax.Array | None = None,
) -> jax.Array:
    """Computes the discounted sum of the rewards from each decision to the end of its life (Sutton and Barto 2018, equation 3.9).

    Args:
      reward: float `[B, T]`, the components added up, in the environment's units.
      discount: float `[B, T]`, weight of what follows the slot.
      is_written: bool `[B, T]`, the decisions.
      ends_life: bool `[B, T]`.
      is_truncated: bool `[B, T]`.
      value: float `[B, T]`, in the reward's units; stands for what would have followed a truncated or unfinished life. None: nothing does.
      has_value: bool `[B, T]`; given with `value`.

    Returns:
      float32 `[B, T]`, in the reward's units, 0 where not written.

    Raises:
      ValueError: if only one of `value` and `has_value` is given.
    """
    if (value is None) != (has_value is None):
        raise ValueError("Values and where they were recorded belong together; give both value and has_value, or neither.")
    if value is None or has_value is None:
        value, has_value = jnp.zeros(reward.shape, jnp.float32), is_written
    bootstrap, is_cut = _cuts(value, is_written, has_value, ends_life, is_truncated)
    nothing, whole = jnp.zeros(reward.shape, jnp.float32), jnp.ones(reward.shape, jnp.float32)
    return _accumulate(reward, nothing, discount, whole, is_written, ends_life, bootstrap, is_cut)


def life_return(reward: jax.Array, discount: jax.Array, *, is_written: jax.Array, ends_life: jax.Array) -> jax.Array:
    """Computes the return of each lane's first life, without bootstrap; what group objectives compare.

    The return of a life that did not end is not known, and that of a truncated one may not be meant: those lives are told from the others
    by `jnp.any(ends_life, 1)` or `jnp.any(ends_life & ~is_truncated, 1)`, the mask that group objectives take.

    Args:
      reward: float `[B, T]`, the components added up, in the environment's units.
      discount: float `[B, T]`, weight of what follows the slot.
      is_written: bool `[B, T]`, the decisions.
      ends_life: bool `[B, T]`.

    Returns:
      float32 `[B]`, in the reward's units; 0 for a lane whose first life has no decision.
    """
    is_first_life = jnp.cumsum(ends_life, axis=1) - ends_life == 0
    is_decision = is_written & is_first_life
    by_slot = returns(reward, discount, is_written=is_decision, ends_life=ends_life, is_truncated=jnp.zeros_like(ends_life))
    return jnp.take_along_axis(by_slot, jnp.argmax(is_decision, axis=1)[:, None], axis=1)[:, 0]


def reinforce(target: jax.Array, is_written: jax.Array, *, value: jax.Array | None = None, axis_name: AxisName = None) -> jax.Array:
    """Subtracts a baseline from returns (REINFORCE, Williams 1992).

    The batch's mean contains the return that it is subtracted from, which biases the gradient by one part in the number of lives; a value
    does not, nor does `leave_one_out_baseline`.

    Args:
      target: float `[B, T]`, from `returns`.
      is_written: bool `[B, T]`, the decisions.
      value: float `[B, T]`, the baseline; None takes the mean of `target` over the decisions of the batch.
      axis_name: mapped axes over which the batch's mean goes as well.

    Returns:
      float32 `[B, T]`, in the reward's units, 0 where not written.
    """
    baseline = masked_mean(target, is_written, axis_name) if value is None else value.astype(jnp.float32)
    return jnp.where(is_written, target.astype(jnp.float32) - baseline, 0.0)


def standardize(advantage: jax.Array, is_kept: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Shifts and scales advantages to mean 0 and standard deviation 1 over what is kept.

    Args:
      advantage: float `[B, T]`.
      is_kept: bool `[B, T]`.
      axis_name: mapped axes over which mean and deviation go as well.

    Returns:
      float32 `[B, T]`, without unit, 0 where not kept; all 0 where the advantages do not differ.
    """
    advantage = advantage.astype(jnp.float32)
    variance = masked_variance(advantage, is_kept, axis_name)
    scale = jnp.where(variance > 0, 1.0 / jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    return jnp.where(is_kept, (advantage - masked_mean(advantage, is_kept, axis_name)) * scale, 0.0)


def _cuts(value, is_written, has_value, ends_life, is_truncated):
    """Finds the slots `is_cut` where a chain of decisions ends without one, and the value that stands there for what would follow."""
    index = jnp.arange(is_written.shape[1])
    last = jnp.max(jnp.where(has_value | is_written, index, -1), axis=1, keepdims=True)
    is_cut = ~is_written & (ends_life | (index == last))
    return jnp.where(has_value & (is_truncated | ~ends_life), value.astype(jnp.float32), 0.0), is_cut


def _accumulate(reward, value, discount, trace, is_written, ends_life, bootstrap, is_cut):
    """Runs the recursion of GAE from the last slot to the first; float32 `[B, T]`, 0 where not written."""

    def step(following, slot):
        next_value, next_advantage = following
        reward, value, discount, trace, is_written, bootstrap, is_cut = slot
        advantage = reward + discount * next_value - value + discount * trace * next_advantage
        passed = jnp.where(is_cut, bootstrap, next_value), jnp.where(is_cut, 0.0, next_advantage)
        here = jnp.where(is_written, value, passed[0]), jnp.where(is_written, advantage, passed[1])
        return here, jnp.where(is_written, advantage, 0.0)

    floats = (x.astype(jnp.float32).T for x in (reward, value, jnp.where(ends_life, 0.0, discount), trace))
    nothing = jnp.zeros(reward.shape[0], jnp.float32)
    slots = (*floats, is_written.T, bootstrap.T, is_cut.T)
    return jax.lax.scan(step, (nothing, nothing), slots, reverse=True)[1].T


def _at_first_decision(x, is_written, ends_segment, ends_life):
    """Gives every slot of a segment what `x` holds at the segment's first decision; float32 `[B, T]`, 0 before a lane's first decision."""

    def step(carry, slot):
        first, is_open = carry
        x, is_written, ends = slot
        first = jnp.where(is_written & ~is_open, x, first)
        return (first, (is_open | is_written) & ~ends), first

    start = jnp.zeros(x.shape[0], jnp.float32), jnp.zeros(x.shape[0], bool)
    slots = x.astype(jnp.float32).T, is_written.T, (ends_segment | ends_life).T
    return jax.lax.scan(step, start, slots)[1].T
