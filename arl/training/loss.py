"""The loss of a learner, computed per microbatch.

    loss = policy loss + value_weight * value loss - entropy_weight * entropy + kl_weight * KL from the reference
           + imitation_weight * cross-entropy of what others wrote + confidence_weight * Brier loss of the confidence

Each term is a weighted sum over tokens, divided by the total weight of its minibatch across microbatches and devices. The losses of the
microbatches, and their gradients, therefore add up to those of the minibatch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import objectives
from arl.models import Policy
from arl.training.config import LearnerConfig
from arl.training.credit import is_imitated, successes
from arl.training.rules import scales
from arl.training.scoring import score
from arl.types import Grammar, Trajectory


class Batch(NamedTuple):
    """Trajectories with what the loss needs.

    Attributes:
      trajectory: `[B, T]`.
      advantage: float32 `[B, T]`.
      target: float32 `[B, T]`, targets of the value head.
      policy_mask: bool `[B, T]`, the decisions that the policy learns from.
      regularizer_mask: bool `[B, T]`, the policy's own decisions, over which ratios, KL and entropy are taken.
      old_log_prob: float32 `[B, T]`, nats, of the sampled token under the policy before the update. It is that of the trajectory, up to
        rounding, unless other variables rolled out.
      reference_log_prob: float32 `[B, T]`, nats, of the sampled token under the reference policy; zeros if there is none.
    """

    trajectory: Trajectory
    advantage: jax.Array
    target: jax.Array
    policy_mask: jax.Array
    regularizer_mask: jax.Array
    old_log_prob: jax.Array
    reference_log_prob: jax.Array


class Totals(NamedTuple):
    """Totals over a minibatch, of all microbatches and devices, by which the terms of the loss are divided.

    Attributes:
      policy: float32 `[]`, for the policy loss.
      regularizer: float32 `[]`, for KL and entropy.
      values: float32 `[]`, for the value loss.
      imitated: float32 `[]`, for the cross-entropy.
      foreseen: float32 `[]`, for the Brier loss.
    """

    policy: jax.Array
    regularizer: jax.Array
    values: jax.Array
    imitated: jax.Array
    foreseen: jax.Array


def count(batch: Batch, config: LearnerConfig) -> Totals:
    """Returns the totals of a batch, to be added over microbatches and devices."""
    policy, regularizer, imitated = (
        _weights(which, batch, config)[1] for which in (batch.policy_mask, batch.regularizer_mask, is_imitated(batch.trajectory))
    )
    foreseen = jnp.sum(successes(batch.trajectory, config.success_at)[1] * 1.0)
    return Totals(policy, regularizer, jnp.sum(batch.trajectory.is_sampled * 1.0), imitated, foreseen)


def loss(
    policy: Policy,
    grammar: Grammar,
    config: LearnerConfig,
    temperature: float,
    entropy_weight: jax.Array,
    totals: Totals,
    variables: Any,
    batch: Batch,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns a microbatch's part of the loss of its minibatch.

    Args:
      policy: the policy.
      grammar: grammar of the interaction.
      config: config of the learner.
      temperature: temperature of the decoding.
      entropy_weight: float32 `[]`, weight of the entropy bonus.
      totals: totals of the minibatch.
      variables: variables of the policy.
      batch: the microbatch.

    Returns:
      Loss, float32 `[]`; and metrics, float32 `[]` by name, which add up over microbatches, except `max_log_prob_gap`, a maximum.
    """
    trajectory = batch.trajectory
    log_prob, entropy, heads = score(policy, grammar, variables, trajectory, temperature)
    weight, _ = _weights(batch.policy_mask, batch, config)
    regularizer_weight, _ = _weights(batch.regularizer_mask, batch, config)

    ratio = objectives.RATIOS[config.ratio](log_prob, batch.old_log_prob, batch.regularizer_mask, trajectory.ends_episode)
    value = heads["value"]
    policy_loss = objectives.POLICY_LOSSES[config.policy_loss]
    policy_losses, is_clipped = policy_loss(ratio, batch.advantage, batch.policy_mask, config.clip_low, config.clip_high)
    if config.value_clip:
        values, _ = objectives.clipped_value_loss(value, trajectory.value, batch.target, trajectory.is_sampled, clip=config.value_clip)
    else:
        values = objectives.value_loss(value, batch.target, trajectory.is_sampled)

    def mean(x):
        return objectives.weighted_mean(x, regularizer_weight, totals.regularizer)

    metrics = {
        "policy_loss": objectives.weighted_mean(policy_losses * scales(config, trajectory.kind, "weight"), weight, totals.policy),
        "value_loss": objectives.weighted_mean(values, trajectory.is_sampled * 1.0, totals.values),
        "entropy": mean(entropy),
        "clip_fraction": objectives.weighted_mean(is_clipped, weight, totals.policy),
        "kl_from_behaviour": mean(objectives.kl_k3(jax.lax.stop_gradient(trajectory.log_prob), log_prob, batch.regularizer_mask)),
        "max_log_prob_gap": jnp.max(jnp.where(trajectory.is_sampled, jnp.abs(log_prob - trajectory.log_prob), 0.0)),
    }
    bonus = entropy_weight * mean(entropy * scales(config, trajectory.kind, "entropy"))
    total = metrics["policy_loss"] + config.value_weight * metrics["value_loss"] - bonus
    if config.kl_weight:
        estimator = objectives.KL_ESTIMATORS[config.kl_estimator]
        metrics["kl_from_reference"] = mean(estimator(log_prob, batch.reference_log_prob, batch.regularizer_mask))
        if not config.kl_in_reward:
            total += config.kl_weight * metrics["kl_from_reference"]
    if config.imitation_weight:
        weight, _ = _weights(is_imitated(trajectory), batch, config)
        metrics["cross_entropy"] = objectives.weighted_mean(objectives.cross_entropy(log_prob, weight > 0), weight, totals.imitated)
        total += config.imitation_weight * metrics["cross_entropy"]
    if config.confidence_weight:
        is_success, is_known = successes(trajectory, config.success_at)
        confidence = objectives.brier(heads["confidence"], is_success, is_known)
        metrics["confidence_loss"] = objectives.weighted_mean(confidence, is_known * 1.0, totals.foreseen)
        total += config.confidence_weight * metrics["confidence_loss"]
    return total, {"loss": total, **jax.lax.stop_gradient(metrics)}


def _weights(mask: jax.Array, batch: Batch, config: LearnerConfig) -> tuple[jax.Array, jax.Array]:
    return objectives.AGGREGATIONS[config.aggregation](mask, batch.trajectory.ends_episode, config.constant_tokens)
