"""The entropy of what the model chooses from."""

import jax
import jax.numpy as jnp


def categorical_entropy(logits: jax.Array, support: jax.Array) -> jax.Array:
    """Computes the entropy of the distribution renormalised over a support.

    Args:
      logits: float `[..., U]`; what stands outside of the support is not looked at.
      support: bool `[..., U]`, the letters that can be sampled.

    Returns:
      float32 `[...]`, nats; 0 where the support has at most one letter.
    """
    # Finite, and the same for all: infinities would make gradients of 0 * inf where nothing is in the support.
    log_probs = jax.nn.log_softmax(jnp.where(support, logits.astype(jnp.float32), -1e30))
    terms = jnp.exp(log_probs) * log_probs
    return -jnp.sum(jnp.where(support, terms, 0.0), axis=-1)
