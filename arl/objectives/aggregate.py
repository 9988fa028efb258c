"""Aggregation of token losses: the weight of each token, and the total that the weighted sum is divided by.

Each `*_weights` returns the weights of the tokens and a count. Counts are first added over all microbatches and devices. Each microbatch
then contributes `weighted_mean(loss, weight, total)`; the contributions add up to the loss, and their gradients to its gradient. The result
does not depend on how the batch is split, as a mean of means would.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from arl.types import ArlError

AxisName = str | tuple[str, ...] | None


def token_mean_weights(mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighs all tokens equally (DAPO, arXiv:2503.14476, "Token-Level Policy Gradient Loss").

    Args:
      mask: bool `[B, T]`, the tokens that have a loss.

    Returns:
      Weights, float32 `[B, T]`, and the number of tokens kept, float32 `[]`.
    """
    return mask.astype(jnp.float32), jnp.sum(mask).astype(jnp.float32)


def sequence_mean_weights(mask: jax.Array, ends_sequence: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Weighs all sequences equally: the mean over sequences of the means over their tokens (GRPO, arXiv:2402.03300, equation 3).

    Args:
      mask: bool `[B, T]`, the tokens that have a loss.
      ends_sequence: bool `[B, T]`, the last position of each sequence (`ends_episode` or `ends_segment` of a trajectory); the positions
        after the last one are a sequence too. None makes each lane one sequence.

    Returns:
      Weights, float32 `[B, T]`, and the number of sequences with at least one token kept, float32 `[]`.
    """
    index = sequence_index(mask, ends_sequence)
    length = sum_by_index(mask.astype(jnp.float32), index)
    weight = jnp.where(mask, 1.0 / jnp.maximum(jnp.take_along_axis(length, index, axis=1), 1.0), 0.0)
    return weight, jnp.sum(length > 0).astype(jnp.float32)


def constant_weights(mask: jax.Array, num_tokens: int) -> tuple[jax.Array, jax.Array]:
    """Weighs all tokens equally and divides by a constant (Dr. GRPO, arXiv:2503.20783).

    The number of sampled tokens depends on the policy, so dividing by it biases the gradient.

    Args:
      mask: bool `[B, T]`, the tokens that have a loss.
      num_tokens: tokens that a lane counts for, such as those of the longest episode.

    Returns:
      Weights, float32 `[B, T]`, and `B * num_tokens`, float32 `[]`.

    Raises:
      ArlError: if `num_tokens` is below 1.
    """
    if num_tokens < 1:
        raise ArlError(f"num_tokens is {num_tokens}; set it >= 1")
    return mask.astype(jnp.float32), jnp.float32(mask.shape[0] * num_tokens)


AGGREGATIONS: dict[str, Callable[..., tuple[jax.Array, jax.Array]]] = {
    "token_mean": lambda mask, ends_sequence, num_tokens: token_mean_weights(mask),
    "sequence_mean": lambda mask, ends_sequence, num_tokens: sequence_mean_weights(mask, ends_sequence),
    "constant": lambda mask, ends_sequence, num_tokens: constant_weights(mask, num_tokens),
}
"""Weights of tokens by name: `(mask, ends_sequence, num_tokens) -> (weight [B, T], total [])`."""


def weighted_mean(per_token: jax.Array, weight: jax.Array, total: jax.Array) -> jax.Array:
    """Computes a microbatch's part of the mean over the whole batch.

    Args:
      per_token: float `[B, T]`, loss or metric of each token, in any unit; ignored where the weight is 0.
      weight: float32 `[B, T]`, from one of the `*_weights`.
      total: float32 `[]`, sum of the counts of all microbatches and devices; if it is 0 the mean is 0.

    Returns:
      float32 `[]`, to be added over microbatches and devices.
    """
    return jnp.sum(jnp.where(weight > 0, weight * per_token.astype(jnp.float32), 0.0)) / jnp.maximum(total, 1.0)


def masked_mean(x: jax.Array, mask: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Computes the mean over the entries that are kept; 0 if there are none.

    Args:
      x: float, of any shape and unit.
      mask: bool, of the same shape.
      axis_name: mapped axes of `jax.shard_map`, `jax.pmap` or `jax.vmap` over which the mean is taken as well.

    Returns:
      float32 `[]`.
    """
    total = jnp.sum(jnp.where(mask, x.astype(jnp.float32), 0.0))
    count = jnp.sum(mask).astype(jnp.float32)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1.0)


def masked_variance(x: jax.Array, mask: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Computes the population variance over the entries that are kept; exactly 0 if they differ by no more than rounding.

    Args:
      x: float, of any shape and unit.
      mask: bool, of the same shape.
      axis_name: mapped axes over which the variance is taken as well.

    Returns:
      float32 `[]`, in the unit of `x` squared.
    """
    variance = masked_mean(jnp.square(x - masked_mean(x, mask, axis_name)), mask, axis_name)
    # The mean of equal numbers may differ from them in the last bits; dividing by that difference would amplify noise.
    return jnp.where(variance > 1e-10 * masked_mean(jnp.square(x), mask, axis_name), variance, 0.0)


def sequence_index(x: jax.Array, ends_sequence: jax.Array | None) -> jax.Array:
    """Numbers the sequences of each lane from 0.

    Args:
      x: `[B, T]`, any array of the trajectories; only its shape is used.
      ends_sequence: bool `[B, T]`, the last position of each sequence; None makes each lane one sequence.

    Returns:
      int32 `[B, T]`, below T.
    """
    if ends_sequence is None:
        return jnp.zeros(x.shape, jnp.int32)
    ends = ends_sequence.astype(jnp.int32)
    return jnp.cumsum(ends, axis=1) - ends


def sum_by_index(x: jax.Array, index: jax.Array) -> jax.Array:
    """Sums the entries of each lane that have the same index.

    Args:
      x: `[B, T]`, in any unit, by position.
      index: int32 `[B, T]`, below T, by position.

    Returns:
      `[B, T]`, by index; 0 at an index that does not occur.
    """
    return jax.vmap(lambda row, row_index: jax.ops.segment_sum(row, row_index, num_segments=x.shape[1]))(x, index)
