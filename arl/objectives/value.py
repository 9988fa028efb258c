"""Losses of the value head, and how much of the returns it explains. Targets and old values are held constant."""

import jax
import jax.numpy as jnp

from arl.objectives.aggregate import AxisName, masked_variance


def value_loss(value: jax.Array, target: jax.Array, is_written: jax.Array) -> jax.Array:
    """Computes half the squared error of each value.

    Args:
      value: float `[B, T]`, in the reward's units.
      target: float `[B, T]`, same units.
      is_written: bool `[B, T]`, the decisions.

    Returns:
      float32 `[B, T]`, in the reward's units squared, 0 where not written.
    """
    target = jax.lax.stop_gradient(target.astype(jnp.float32))
    return jnp.where(is_written, 0.5 * jnp.square(value.astype(jnp.float32) - target), 0.0)


def clipped_value_loss(
    value: jax.Array, old_value: jax.Array, target: jax.Array, is_written: jax.Array, *, clip: float
) -> tuple[jax.Array, jax.Array]:
    """Computes the squared error of each value, without reward for moving far (PPO2 of OpenAI Baselines).

    Args:
      value: float `[B, T]`, in the reward's units.
      old_value: float `[B, T]`, same units, recorded with the stream.
      target: float `[B, T]`, same units.
      is_written: bool `[B, T]`, the decisions.
      clip: how far a value may move from the old one, same units.

    Returns:
      Loss, float32 `[B, T]`, half the larger of the squared errors of the value and of the value held within `clip` of the old one, in the
      reward's units squared, 0 where not written; and bool `[B, T]`, the values that the bound deprives of their gradient.

    Raises:
      ValueError: if `clip` is not above 0.
    """
    if clip <= 0:
        raise ValueError(f"A value cannot be held within {clip} of the old one; set clip above 0.")
    value, old_value = value.astype(jnp.float32), jax.lax.stop_gradient(old_value.astype(jnp.float32))
    held = old_value + jnp.clip(value - old_value, -clip, clip)
    free, bounded = value_loss(value, target, is_written), value_loss(held, target, is_written)
    return jnp.maximum(free, bounded), (jnp.abs(value - old_value) > clip) & (bounded > free)


def explained_variance(value: jax.Array, target: jax.Array, is_kept: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Computes the share of the targets' variance that the values explain: 1 - Var(target - value) / Var(target).

    Args:
      value: float `[B, T]`.
      target: float `[B, T]`.
      is_kept: bool `[B, T]`, what to count.
      axis_name: mapped axes over which the variances go as well.

    Returns:
      float32 `[]`: 1 for perfect values, 0 for constant ones, negative for worse; 0 where the targets do not vary.
    """
    value, target = value.astype(jnp.float32), target.astype(jnp.float32)
    of_target, of_error = (masked_variance(x, is_kept, axis_name) for x in (target, target - value))
    return jnp.where(of_target > 0, 1.0 - of_error / jnp.where(of_target > 0, of_target, 1.0), 0.0)
