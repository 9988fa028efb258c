"""Importance ratios and policy losses per token; `arl.objectives.aggregate` aggregates them.

Advantages and the behaviour policy's log-probs are held constant: no gradient flows through them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from arl.objectives.aggregate import sequence_index, sum_by_index
from arl.types import ArlError


def token_ratio(log_prob: jax.Array, old_log_prob: jax.Array, is_sampled: jax.Array) -> jax.Array:
    """Computes the importance ratio of each token (PPO, arXiv:1707.06347, section 3).

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      old_log_prob: float `[B, T]`, nats, under the policy before the update.
      is_sampled: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, 1 where no token was sampled.
    """
    return jnp.exp(_log_ratio(log_prob, old_log_prob, is_sampled))


def sequence_ratio(
    log_prob: jax.Array, old_log_prob: jax.Array, is_sampled: jax.Array, ends_sequence: jax.Array | None = None
) -> jax.Array:
    """Computes the geometric mean of the token ratios of each sequence, at each of its tokens (GSPO, arXiv:2507.18071, "GSPO-token").

    The gradient of a token is that of its own log-prob times the sequence's ratio, so tokens of a sequence may have different advantages.
    With equal advantages the gradient of their mean is that of the sequence's ratio.

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      old_log_prob: float `[B, T]`, nats, under the policy before the update.
      is_sampled: bool `[B, T]`, where a token was sampled.
      ends_sequence: bool `[B, T]`, the last position of each sequence (`ends_episode` or `ends_segment` of a trajectory); None makes each
        lane one sequence.

    Returns:
      float32 `[B, T]`, the same at all tokens of a sequence, 1 where no token was sampled.
    """
    log_ratio = _log_ratio(log_prob, old_log_prob, is_sampled)
    index = sequence_index(is_sampled, ends_sequence)
    length = sum_by_index(is_sampled.astype(jnp.float32), index)
    mean = sum_by_index(jax.lax.stop_gradient(log_ratio), index) / jnp.maximum(length, 1.0)
    of_sequence = jnp.where(is_sampled, jnp.take_along_axis(mean, index, axis=1), 0.0)
    return jnp.exp(of_sequence) * jnp.exp(log_ratio - jax.lax.stop_gradient(log_ratio))


def truncated_weight(old_log_prob: jax.Array, behaviour_log_prob: jax.Array, is_sampled: jax.Array, *, cap: float) -> jax.Array:
    """Computes the truncated importance weight of each token, where other weights sampled it than those that are trained.

    The advantage is multiplied by it, and the ratio of PPO remains that of the policy after and before a step. (Truncation: IMPALA,
    arXiv:1802.01561, section 4.1; for language models whose sampler rounds: Yao et al. 2025, "Your Efficient RL Framework Secretly Brings
    You Off-Policy RL Training".)

    Args:
      old_log_prob: float `[B, T]`, nats, of the sampled token under the policy before the update.
      behaviour_log_prob: float `[B, T]`, nats, under the weights that sampled it.
      is_sampled: bool `[B, T]`, where a token was sampled.
      cap: largest weight; infinite for no truncation, which is unbiased.

    Returns:
      float32 `[B, T]`, 1 where no token was sampled.
    """
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(_log_ratio(old_log_prob, behaviour_log_prob, is_sampled)), cap))


def ppo_clip(
    ratio: jax.Array, advantage: jax.Array, is_sampled: jax.Array, *, low: float = 0.2, high: float = 0.2
) -> tuple[jax.Array, jax.Array]:
    """Computes the clipped surrogate loss (PPO, arXiv:1707.06347, equation 7; separate bounds: DAPO, arXiv:2503.14476, "Clip-Higher").

    Args:
      ratio: float `[B, T]`, from `token_ratio` or `sequence_ratio`.
      advantage: float `[B, T]`.
      is_sampled: bool `[B, T]`, where a token was sampled.
      low: the ratio is clipped below at `1 - low`.
      high: the ratio is clipped above at `1 + high`.

    Returns:
      Loss to minimise, float32 `[B, T]`, 0 where no token was sampled; and bool `[B, T]`, the tokens whose gradient is clipped away.

    Raises:
      ArlError: if `low` is not in [0, 1] or `high` is negative.
    """
    if not 0 <= low <= 1 or high < 0:
        raise ArlError(f"a ratio cannot be clipped to [1 - {low}, 1 + {high}]; set 0 <= low <= 1 and high >= 0")
    advantage = jax.lax.stop_gradient(advantage.astype(jnp.float32))
    loss = jnp.maximum(-ratio * advantage, -jnp.clip(ratio, 1 - low, 1 + high) * advantage)
    is_clipped = jnp.where(advantage > 0, ratio > 1 + high, (advantage < 0) & (ratio < 1 - low))
    return jnp.where(is_sampled, loss, 0.0), is_sampled & is_clipped


def policy_gradient(ratio: jax.Array, advantage: jax.Array, is_sampled: jax.Array) -> jax.Array:
    """Computes the unclipped surrogate loss; on policy its gradient is that of REINFORCE (Williams 1992).

    Args:
      ratio: float `[B, T]`, from `token_ratio` or `sequence_ratio`.
      advantage: float `[B, T]`.
      is_sampled: bool `[B, T]`, where a token was sampled.

    Returns:
      Loss to minimise, float32 `[B, T]`, 0 where no token was sampled.
    """
    return jnp.where(is_sampled, -ratio * jax.lax.stop_gradient(advantage.astype(jnp.float32)), 0.0)


def cross_entropy(log_prob: jax.Array, is_sampled: jax.Array) -> jax.Array:
    """Computes the negative log-likelihood of tokens that another author wrote (behaviour cloning, Pomerleau 1991).

    Args:
      log_prob: float `[B, T]`, nats, of the token under the policy.
      is_sampled: bool `[B, T]`, where there is such a token.

    Returns:
      Loss to minimise, float32 `[B, T]`, nats, 0 where there is none.
    """
    return jnp.where(is_sampled, -log_prob.astype(jnp.float32), 0.0)


RATIOS: dict[str, Callable[..., jax.Array]] = {
    "token": lambda log_prob, behaviour, is_sampled, ends_sequence: token_ratio(log_prob, behaviour, is_sampled),
    "sequence": sequence_ratio,
}
"""Importance ratios by name: `(log_prob, old_log_prob, is_sampled, ends_sequence) -> ratio`."""

POLICY_LOSSES: dict[str, Callable[..., tuple[jax.Array, jax.Array]]] = {
    "ppo": lambda ratio, advantage, mask, low, high: ppo_clip(ratio, advantage, mask, low=low, high=high),
    "policy_gradient": lambda ratio, advantage, mask, low, high: (
        policy_gradient(ratio, advantage, mask),
        jnp.zeros_like(mask),
    ),
}
"""Policy losses by name: `(ratio, advantage, mask, low, high) -> (loss, is_clipped)`, all `[B, T]` but the bounds."""


def _log_ratio(log_prob, old_log_prob, is_sampled):
    # Masked before the exponential, which could otherwise overflow where no token was sampled and give a gradient of 0 * inf.
    old = jax.lax.stop_gradient(old_log_prob.astype(jnp.float32))
    return jnp.where(is_sampled, log_prob.astype(jnp.float32) - old, 0.0)
