"""Losses and explained variance of the value head. Targets and old values are held constant."""

import jax
import jax.numpy as jnp

from arl.objectives.aggregate import AxisName, masked_variance
from arl.types import ArlError


def value_loss(value: jax.Array, target: jax.Array, is_sampled: jax.Array) -> jax.Array:
    """Computes half the squared error of each value.

    Args:
      value: float `[B, T]`, in the reward's units.
      target: float `[B, T]`, same units.
      is_sampled: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, in the reward's units squared, 0 where no token was sampled.
    """
    target = jax.lax.stop_gradient(target.astype(jnp.float32))
    return jnp.where(is_sampled, 0.5 * jnp.square(value.astype(jnp.float32) - target), 0.0)


def clipped_value_loss(
    value: jax.Array, old_value: jax.Array, target: jax.Array, is_sampled: jax.Array, *, clip: float
) -> tuple[jax.Array, jax.Array]:
    """Computes the clipped value loss (PPO2 of OpenAI Baselines).

    Args:
      value: float `[B, T]`, in the reward's units.
      old_value: float `[B, T]`, same units, recorded in the trajectory.
      target: float `[B, T]`, same units.
      is_sampled: bool `[B, T]`, where a token was sampled.
      clip: distance from the old value beyond which the value is clipped, same units.

    Returns:
      Loss, float32 `[B, T]`, half the larger of the squared errors of the value and of the clipped value, in the reward's units squared, 0
      where no token was sampled; and bool `[B, T]`, the values whose gradient is clipped away.

    Raises:
      ArlError: if `clip` is not above 0.
    """
    if clip <= 0:
        raise ArlError(f"clip is {clip}; set it above 0")
    value, old_value = value.astype(jnp.float32), jax.lax.stop_gradient(old_value.astype(jnp.float32))
    held = old_value + jnp.clip(value - old_value, -clip, clip)
    free, bounded = value_loss(value, target, is_sampled), value_loss(held, target, is_sampled)
    return jnp.maximum(free, bounded), (jnp.abs(value - old_value) > clip) & (bounded > free)


def explained_variance(value: jax.Array, target: jax.Array, mask: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Computes the explained variance of the targets: 1 - Var(target - value) / Var(target).

    Args:
      value: float `[B, T]`.
      target: float `[B, T]`.
      mask: bool `[B, T]`, the positions that count.
      axis_name: mapped axes over which the variances are taken as well.

    Returns:
      float32 `[]`: 1 for perfect values, 0 for constant ones, negative for worse; 0 if the targets do not vary.
    """
    value, target = value.astype(jnp.float32), target.astype(jnp.float32)
    of_target, of_error = (masked_variance(x, mask, axis_name) for x in (target, target - value))
    return jnp.where(of_target > 0, 1.0 - of_error / jnp.where(of_target > 0, of_target, 1.0), 0.0)
