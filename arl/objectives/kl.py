"""Estimators of the divergence KL(policy, reference) from the log-probs of tokens that the policy sampled.

Schulman, "Approximating KL Divergence" (http://joschu.net/blog/kl-approx.html), with d = log policy - log reference of the sampled token:

| estimator | formula | value | its gradient, taken in a loss on policy |
|---|---|---|---|
| `kl_k1` | d | unbiased, of either sign | 0 in expectation: use it in the reward |
| `kl_k2` | d^2 / 2 | biased | that of this divergence, of a token |
| `kl_k3` | exp(-d) - 1 + d | unbiased, never negative | that of KL(reference, policy), of a token |
"""

import jax
import jax.numpy as jnp


def kl_k1(log_prob: jax.Array, reference_log_prob: jax.Array, is_written: jax.Array) -> jax.Array:
    """Estimates the divergence from each token by the log-ratio itself (k1).

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      reference_log_prob: float `[B, T]`, nats, under the reference; held constant.
      is_written: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, nats, 0 where not written.
    """
    return _difference(log_prob, reference_log_prob, is_written)


def kl_k2(log_prob: jax.Array, reference_log_prob: jax.Array, is_written: jax.Array) -> jax.Array:
    """Estimates the divergence from each token by half the square of the log-ratio (k2).

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      reference_log_prob: float `[B, T]`, nats, under the reference; held constant.
      is_written: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, nats, 0 where not written.
    """
    return 0.5 * jnp.square(_difference(log_prob, reference_log_prob, is_written))


def kl_k3(log_prob: jax.Array, reference_log_prob: jax.Array, is_written: jax.Array) -> jax.Array:
    """Estimates the divergence from each token without bias and never below 0 (k3; GRPO, arXiv:2402.03300, equation 4).

    Args:
      log_prob: float `[B, T]`, nats, of the sampled token under the policy.
      reference_log_prob: float `[B, T]`, nats, under the reference; held constant.
      is_written: bool `[B, T]`, where a token was sampled.

    Returns:
      float32 `[B, T]`, nats, 0 where not written.
    """
    difference = _difference(log_prob, reference_log_prob, is_written)
    return jnp.expm1(-difference) + difference


KL_ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


def kl_in_reward(reward: jax.Array, kl: jax.Array, is_written: jax.Array, coefficient: jax.Array | float) -> jax.Array:
    """Charges each token for its divergence, as a reward (arXiv:1909.08593, equation 2).

    Args:
      reward: float `[B, T]`, in the environment's units.
      kl: float `[B, T]`, nats, of one of the estimators; held constant.
      is_written: bool `[B, T]`, where a token was sampled.
      coefficient: price of a nat, in the reward's units.

    Returns:
      float32 `[B, T]`, in the reward's units; `reward` where not written.
    """
    charge = coefficient * jax.lax.stop_gradient(kl.astype(jnp.float32))
    return reward.astype(jnp.float32) - jnp.where(is_written, charge, 0.0)


def _difference(log_prob, reference_log_prob, is_written):
    reference = jax.lax.stop_gradient(reference_log_prob.astype(jnp.float32))
    return jnp.where(is_written, log_prob.astype(jnp.float32) - reference, 0.0)
