"""The entropy of the policy over the candidates that can be sampled."""

import jax
import jax.numpy as jnp


def categorical_entropy(log_probs: jax.Array, support: jax.Array) -> jax.Array:
    """Computes the entropy of a distribution over a support.

    Args:
      log_probs: float32 `[..., U]`, nats, renormalised over the support; ignored outside it, but finite.
      support: bool `[..., U]`, the candidates that can be sampled.

    Returns:
      float32 `[...]`, nats; 0 where the support has at most one candidate.
    """
    return -jnp.sum(jnp.where(support, jnp.exp(log_probs) * log_probs, 0.0), axis=-1)
