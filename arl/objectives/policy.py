"""Importance ratios and policy losses of single tokens; `arl.objectives.aggregate` says how they add up.

Advantages and behaviour log-probs are held constant: no gradient goes through them.
"""

import jax
import jax.numpy as jnp

from arl.objectives.aggregate import sequence_index, sum_by_index


def token_ratio(log_prob: jax.Array, behaviour_log_prob: jax.Array, is_written: jax.Array) -> jax.Array:
    """Computes how much likelier each token has become (PPO, arXiv:1707.06347, section 3).

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      behaviour_log_prob: float `[B, T]`, nats, under the distribution that it was sampled from.
      is_written: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, 1 where not written.
    """
    return jnp.exp(_log_ratio(log_prob, behaviour_log_prob, is_written))


def sequence_ratio(
    log_prob: jax.Array, behaviour_log_prob: jax.Array, is_written: jax.Array, ends_sequence: jax.Array | None = None
) -> jax.Array:
    """Computes the geometric mean of the token ratios of a sequence, at each of its tokens (GSPO, arXiv:2507.18071, "GSPO-token").

    Each token's gradient is that of its own log-prob times the sequence's ratio, so that tokens of a sequence can have advantages of their
    own; where they have the same, the gradient of their sum is that of the sequence's ratio itself.

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      behaviour_log_prob: float `[B, T]`, nats, under the distribution that it was sampled from.
      is_written: bool `[B, T]`, where a token was sampled.
      ends_sequence: bool `[B, T]`, the last slot of each sequence (`ends_life` or `ends_segment` of a stream); None makes each lane one.

    Returns:
      float32 `[B, T]`, the same at all tokens of a sequence, 1 where not written.
    """
    log_ratio = _log_ratio(log_prob, behaviour_log_prob, is_written)
    index = sequence_index(is_written, ends_sequence)
    length = sum_by_index(is_written.astype(jnp.float32), index)
    mean = sum_by_index(jax.lax.stop_gradient(log_ratio), index) / jnp.maximum(length, 1.0)
    of_sequence = jnp.where(is_written, jnp.take_along_axis(mean, index, axis=1), 0.0)
    return jnp.exp(of_sequence) * jnp.exp(log_ratio - jax.lax.stop_gradient(log_ratio))


def ppo_clip(
    ratio: jax.Array, advantage: jax.Array, is_written: jax.Array, *, low: float = 0.2, high: float = 0.2
) -> tuple[jax.Array, jax.Array]:
    """Computes the clipped surrogate loss (PPO, arXiv:1707.06347, equation 7; bounds apart: DAPO, arXiv:2503.14476, "Clip-Higher").

    Args:
      ratio: float `[B, T]`, from `token_ratio` or `sequence_ratio`.
      advantage: float `[B, T]`.
      is_written: bool `[B, T]`, where a token was sampled.
      low: the ratio counts down to `1 - low`.
      high: the ratio counts up to `1 + high`.

    Returns:
      Loss, float32 `[B, T]`, to be minimised, 0 where not written; and bool `[B, T]`, the tokens that the bounds deprive of their gradient.

    Raises:
      ValueError: if `low` is not in [0, 1] or `high` is negative.
    """
    if not 0 <= low <= 1 or high < 0:
        raise ValueError(f"A ratio cannot be clipped to [1 - {low}, 1 + {high}]; set 0 <= low <= 1 and high >= 0.")
    advantage = jax.lax.stop_gradient(advantage.astype(jnp.float32))
    loss = jnp.maximum(-ratio * advantage, -jnp.clip(ratio, 1 - low, 1 + high) * advantage)
    is_clipped = jnp.where(advantage > 0, ratio > 1 + high, (advantage < 0) & (ratio < 1 - low))
    return jnp.where(is_written, loss, 0.0), is_written & is_clipped


def policy_gradient(ratio: jax.Array, advantage: jax.Array, is_written: jax.Array) -> jax.Array:
    """Computes the plain surrogate loss; where policy and behaviour agree its gradient is that of REINFORCE (Williams 1992).

    Args:
      ratio: float `[B, T]`, from `token_ratio` or `sequence_ratio`.
      advantage: float `[B, T]`.
      is_written: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, to be minimised, 0 where not written.
    """
    return jnp.where(is_written, -ratio * jax.lax.stop_gradient(advantage.astype(jnp.float32)), 0.0)


def _log_ratio(log_prob, behaviour_log_prob, is_written):
    # Masked before the exponential: a number without meaning must not become an infinity whose gradient is 0 * inf.
    behaviour = jax.lax.stop_gradient(behaviour_log_prob.astype(jnp.float32))
    return jnp.where(is_written, log_prob.astype(jnp.float32) - behaviour, 0.0)
