"""An epoch: steps of the optimizer, one for each minibatch, whose gradients are computed microbatch by microbatch."""

import functools

import jax
import jax.numpy as jnp
import optax

from arl.training import loss as losses
from arl.training.config import LearnerConfig
from arl.training.loss import Batch


def make_optimizer(config: LearnerConfig) -> optax.GradientTransformation:
    """Returns AdamW with gradient clipping and a learning rate that is scheduled over the steps of a run."""
    num_steps = config.num_updates * config.num_epochs * config.num_minibatches
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adamw(
            lambda count: config.learning_rate(count / num_steps),
            b1=config.adam_b1,
            b2=config.adam_b2,
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
        ),
    )


def take_epoch(optimizer, config: LearnerConfig, part_loss, batch: Batch, num_blocks, first_block, axis_name, carry, key):
    """Takes one epoch: a step of the optimizer for each minibatch of a batch.

    Args:
      optimizer: optimizer of optax.
      config: config of the learner.
      part_loss: `(totals, trainable variables, microbatch) -> (loss, metrics)`.
      batch: the lanes of this device.
      num_blocks: number of blocks of lanes on this device.
      first_block: index of the first of them among those of all devices.
      axis_name: mapped axis of devices, if there is one.
      carry: trainable variables and optimizer state.
      key: random key of the shuffle.

    Returns:
      The carry, and metrics, float32 `[num_minibatches]` by name.
    """
    lanes_a_device = batch.advantage.shape[0]
    size = lanes_a_device // num_blocks
    permute = jax.vmap(lambda block: jax.random.permutation(jax.random.fold_in(key, block), size))
    order = permute(first_block + jnp.arange(num_blocks))
    num_parts = config.num_lanes // (config.num_minibatches * config.microbatch_size)

    def cut(x):
        """Reshapes `[lanes, ...]` to `[minibatches, microbatches, lanes, ...]`, with as many lanes from each block in every microbatch."""
        blocks = jax.vmap(lambda block, index: block[index])(x.reshape(num_blocks, size, *x.shape[1:]), order)
        blocks = blocks.reshape(num_blocks, config.num_minibatches, num_parts, -1, *x.shape[1:])
        return jnp.moveaxis(blocks, 0, 2).reshape(config.num_minibatches, num_parts, -1, *x.shape[1:])

    total = functools.partial(jax.lax.psum, axis_name=axis_name) if axis_name else lambda x: x

    def minibatch(carry, parts):
        trainable, optimizer_state = carry
        counts = jax.vmap(lambda part: losses.count(part, config))(parts)
        totals = jax.tree.map(lambda count: total(jnp.sum(count)), counts)
        gradient = jax.value_and_grad(functools.partial(part_loss, totals), has_aux=True)

        def add(summed, part):
            (_, metrics), gradients = gradient(trainable, part)
            return jax.tree.map(jnp.add, summed, gradients), metrics

        gradients, metrics = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, trainable), parts)
        gap = jnp.max(metrics.pop("max_log_prob_gap"))
        gradients, metrics = total(gradients), total({name: jnp.sum(value) for name, value in metrics.items()})
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, trainable)
        metrics |= {"max_log_prob_gap": gap, "gradient_norm": optax.global_norm(gradients)}
        return (optax.apply_updates(trainable, updates), optimizer_state), metrics

    return jax.lax.scan(minibatch, carry, jax.tree.map(cut, batch))
