"""How well stated probabilities of success fit what happened."""

import jax
import jax.numpy as jnp


def brier(confidence: jax.Array, is_right: jax.Array, mask: jax.Array) -> jax.Array:
    """Computes the quadratic score of probabilities, whose mean is least for the true ones (Brier 1950, for one of two outcomes).

    Args:
      confidence: float `[...]`, probabilities that something is right.
      is_right: bool `[...]`, whether it was.
      mask: bool `[...]`, which count.

    Returns:
      float32 `[...]`, between 0 and 1, 0 where nothing counts.
    """
    return jnp.where(mask, jnp.square(confidence.astype(jnp.float32) - is_right.astype(jnp.float32)), 0.0)


def calibration_error(confidence: jax.Array, is_right: jax.Array, mask: jax.Array, *, num_bins: int = 10) -> jax.Array:
    """Computes the expected calibration error: how far the mean confidence of a bin is from how often it was right, by the bin's size.

    The bins are equally wide (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3). A constant base rate has none.

    Args:
      confidence: float `[...]`, probabilities that something is right.
      is_right: bool `[...]`, whether it was.
      mask: bool `[...]`, which count.
      num_bins: number of bins.

    Returns:
      float32 `[]`; 0 if nothing counts.
    """
    bins = jnp.clip((confidence * num_bins).astype(jnp.int32), 0, num_bins - 1)
    gap = jnp.where(mask, confidence.astype(jnp.float32) - is_right.astype(jnp.float32), 0.0)
    by_bin = jax.ops.segment_sum(gap.ravel(), bins.ravel(), num_segments=num_bins)
    return jnp.sum(jnp.abs(by_bin)) / jnp.maximum(jnp.sum(mask), 1)
