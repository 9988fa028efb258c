"""Estimators of the divergence KL(policy, reference) from the log-probs of tokens that the policy sampled.

Schulman, "Approximating KL Divergence" (http://joschu.net/blog/kl-approx.html), with d = log policy - log reference of the sampled token:

| estimator | formula | value | gradient in an on-policy loss |
|---|---|---|---|
| `kl_k1` | d | unbiased, of either sign | 0 in expectation: use it in the reward |
| `kl_k2` | d^2 / 2 | biased, never negative | that of KL(policy, reference) per token |
| `kl_k3` | exp(-d) - 1 + d | unbiased, never negative | that of KL(reference, policy) per token |
"""

import jax
import jax.numpy as jnp


def kl_k1(log_prob: jax.Array, reference_log_prob: jax.Array, is_sampled: jax.Array) -> jax.Array:
    """Estimates the divergence at each token by the log-ratio (k1).

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      reference_log_prob: float `[B, T]`, nats, under the reference; held constant.
      is_sampled: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, nats, 0 where no token was sampled.
    """
    return _difference(log_prob, reference_log_prob, is_sampled)


def kl_k2(log_prob: jax.Array, reference_log_prob: jax.Array, is_sampled: jax.Array) -> jax.Array:
    """Estimates the divergence at each token by half the squared log-ratio (k2).

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      reference_log_prob: float `[B, T]`, nats, under the reference; held constant.
      is_sampled: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, nats, 0 where no token was sampled.
    """
    return 0.5 * jnp.square(_difference(log_prob, reference_log_prob, is_sampled))


def kl_k3(log_prob: jax.Array, reference_log_prob: jax.Array, is_sampled: jax.Array) -> jax.Array:
    """Estimates the divergence at each token without bias and never below 0 (k3; GRPO, arXiv:2402.03300, equation 4).

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      reference_log_prob: float `[B, T]`, nats, under the reference; held constant.
      is_sampled: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, nats, 0 where no token was sampled.
    """
    difference = _difference(log_prob, reference_log_prob, is_sampled)
    return jnp.expm1(-difference) + difference


KL_ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


def kl_in_reward(reward: jax.Array, kl: jax.Array, is_sampled: jax.Array, coefficient: jax.Array | float) -> jax.Array:
    """Subtracts the divergence of each token from its reward (arXiv:1909.08593, equation 2).

    Args:
      reward: float `[B, T]`, in the environment's units.
      kl: float `[B, T]`, nats, from one of the estimators; held constant.
      is_sampled: bool `[B, T]`, where a token was sampled.
      coefficient: weight of the divergence, in the reward's units per nat.

    Returns:
      float32 `[B, T]`, in the reward's units; `reward` unchanged where no token was sampled.
    """
    charge = coefficient * jax.lax.stop_gradient(kl.astype(jnp.float32))
    return reward.astype(jnp.float32) - jnp.where(is_sampled, charge, 0.0)


def _difference(log_prob, reference_log_prob, is_sampled):
    reference = jax.lax.stop_gradient(reference_log_prob.astype(jnp.float32))
    return jnp.where(is_sampled, log_prob.astype(jnp.float32) - reference, 0.0)
