"""From losses of single tokens to one number: what each token weighs, and by what the sum is divided.

Each `*_weights` gives the weights of the tokens and a count apart. Counts are added over all microbatches and devices first; every
microbatch then contributes `weighted_mean(loss, weight, total)`, and the contributions add up to the loss, and their gradients to its
gradient. Means of means, which depend on how the batch was cut, do not occur.
"""

import jax
import jax.numpy as jnp

AxisName = str | tuple[str, ...] | None


def token_mean_weights(is_kept: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lets every token weigh the same (DAPO, arXiv:2503.14476, "Token-Level Policy Gradient Loss").

    Args:
      is_kept: bool `[B, T]`, the tokens that have a loss.

    Returns:
      Weights, float32 `[B, T]`, and the number of tokens kept, float32 `[]`.
    """
    return is_kept.astype(jnp.float32), jnp.sum(is_kept).astype(jnp.float32)


def sequence_mean_weights(is_kept: jax.Array, ends_sequence: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Lets every sequence weigh the same, however long it is: the mean over sequences of the means over their tokens (GRPO,
    arXiv:2402.03300, equation 3).

    Args:
      is_kept: bool `[B, T]`, the tokens that have a loss.
      ends_sequence: bool `[B, T]`, the last slot of each sequence (`ends_life` of a stream for lives, `ends_segment` for segments); the
        slots after the last one are a sequence too. None makes each lane one sequence.

    Returns:
      Weights, float32 `[B, T]`, and the number of sequences with at least one token kept, float32 `[]`.
    """
    index = sequence_index(is_kept, ends_sequence)
    length = sum_by_index(is_kept.astype(jnp.float32), index)
    weight = jnp.where(is_kept, 1.0 / jnp.maximum(jnp.take_along_axis(length, index, axis=1), 1.0), 0.0)
    return weight, jnp.sum(length > 0).astype(jnp.float32)


def constant_weights(is_kept: jax.Array, num_tokens: int) -> tuple[jax.Array, jax.Array]:
    """Lets every token weigh the same and divides by a number that the policy cannot change (Dr. GRPO, arXiv:2503.20783).

    The number of tokens written is itself an outcome: dividing by it biases the gradient, dividing by a constant does not.

    Args:
      is_kept: bool `[B, T]`, the tokens that have a loss.
      num_tokens: what a lane counts for, in tokens; the longest life, for instance.

    Returns:
      Weights, float32 `[B, T]`, and `B * num_tokens`, float32 `[]`.

    Raises:
      ValueError: if `num_tokens` is below 1.
    """
    if num_tokens < 1:
        raise ValueError(f"A lane cannot count for {num_tokens} tokens; set num_tokens to 1 or more.")
    return is_kept.astype(jnp.float32), jnp.float32(is_kept.shape[0] * num_tokens)


def weighted_mean(per_token: jax.Array, weight: jax.Array, total: jax.Array) -> jax.Array:
    """Computes this part's share of a mean over all parts.

    Args:
      per_token: float `[B, T]`, loss or metric of each token, in any unit; what stands where the weight is 0 is not looked at.
      weight: float32 `[B, T]`, from one of the `*_weights`.
      total: float32 `[]`, the counts of all microbatches and devices added up; with 0 the mean is 0.

    Returns:
      float32 `[]`, to be added over microbatches and devices.
    """
    return jnp.sum(jnp.where(weight > 0, weight * per_token.astype(jnp.float32), 0.0)) / jnp.maximum(total, 1.0)


def masked_mean(x: jax.Array, is_kept: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Computes the mean of what is kept; 0 where nothing is.

    Args:
      x: float, of any shape and unit.
      is_kept: bool, of the same shape.
      axis_name: mapped axes of `jax.shard_map`, `jax.pmap` or `jax.vmap` over which the mean goes as well.

    Returns:
      float32 `[]`.
    """
    total = jnp.sum(jnp.where(is_kept, x.astype(jnp.float32), 0.0))
    count = jnp.sum(is_kept).astype(jnp.float32)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1.0)


def masked_variance(x: jax.Array, is_kept: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Computes the variance (of the population) of what is kept; exactly 0 where it differs by no more than rounding.

    Args:
      x: float, of any shape and unit.
      is_kept: bool, of the same shape.
      axis_name: mapped axes over which the variance goes as well.

    Returns:
      float32 `[]`, in the unit of `x` squared.
    """
    variance = masked_mean(jnp.square(x - masked_mean(x, is_kept, axis_name)), is_kept, axis_name)
    # The mean of equal numbers may differ from them in the last bits, and dividing by that would make noise of it.
    return jnp.where(variance > 1e-10 * masked_mean(jnp.square(x), is_kept, axis_name), variance, 0.0)


def sequence_index(x: jax.Array, ends_sequence: jax.Array | None) -> jax.Array:
    """Numbers the sequences of each lane from 0.

    Args:
      x: `[B, T]`, any array of the streams; only its shape counts.
      ends_sequence: bool `[B, T]`, the last slot of each sequence; None makes each lane one sequence.

    Returns:
      int32 `[B, T]`, below T.
    """
    if ends_sequence is None:
        return jnp.zeros(x.shape, jnp.int32)
    ends = ends_sequence.astype(jnp.int32)
    return jnp.cumsum(ends, axis=1) - ends


def sum_by_index(x: jax.Array, index: jax.Array) -> jax.Array:
    """Adds up what has the same index in a lane.

    Args:
      x: `[B, T]`, in any unit, by slot.
      index: int32 `[B, T]`, below T, by slot.

    Returns:
      `[B, T]`, by index; 0 at an index that does not occur.
    """
    return jax.vmap(lambda row, row_index: jax.ops.segment_sum(row, row_index, num_segments=x.shape[1]))(x, index)
