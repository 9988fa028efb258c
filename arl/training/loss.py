"""The loss of a part of a batch, and what it adds to the whole."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import objectives, text
from arl.rollout import masked_log_probs
from arl.training.config import LearnerConfig
from arl.types import Grammar, Kind, LanguageModel, Stream


class Batch(NamedTuple):
    """Lanes to learn from.

    Attributes:
      stream: what they did, `[B, T]`.
      advantage: float32 `[B, T]`.
      target: float32 `[B, T]`, of the value head.
      is_kept: bool `[B, T]`, the decisions that the policy learns from.
      decides: bool `[B, T]`, the decisions over which divergence and entropy are means.
      reference_log_prob: float32 `[B, T]`, nats, under the reference policy; zeros if there is none.
    """

    stream: Stream
    advantage: jax.Array
    target: jax.Array
    is_kept: jax.Array
    decides: jax.Array
    reference_log_prob: jax.Array


class Totals(NamedTuple):
    """What the sums over all microbatches and devices are divided by, float32 `[]` each: weights of policy, of decisions, and values."""

    policy: jax.Array
    decisions: jax.Array
    values: jax.Array


def count(batch: Batch, config: LearnerConfig) -> Totals:
    """Returns the totals of a batch, or its part of them."""
    return Totals(
        _weights(batch.is_kept, batch, config)[1], _weights(batch.decides, batch, config)[1], jnp.sum(batch.stream.is_written * 1.0)
    )


def score(
    model: LanguageModel, grammar: Grammar, params: Any, stream: Stream, temperature: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores what was written under the distribution that it was sampled from, with other parameters.

    Args:
      model: that wrote.
      grammar: of the interaction.
      params: to score with.
      stream: `[B, T]`.
      temperature: of decoding.

    Returns:
      float32 `[B, T]` each: log-prob of the sampled token, nats; entropy there, nats; value.
    """
    features = model.score(params, stream.token, stream.begin)
    logits = model.logits(params, features, grammar.alphabet)
    support = text.unpack(stream.support, len(grammar.alphabet))
    log_probs = masked_log_probs(logits, support, temperature)
    log_prob = jnp.take_along_axis(log_probs, stream.written[..., None], -1)[..., 0]
    entropy = -jnp.sum(jnp.where(support, jnp.exp(log_probs) * log_probs, 0.0), axis=-1)
    return log_prob, entropy, model.value(params, features)


def loss(
    model: LanguageModel,
    grammar: Grammar,
    config: LearnerConfig,
    temperature: float,
    entropy_weight: jax.Array,
    totals: Totals,
    params: Any,
    batch: Batch,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns this part's share of the loss; shares, and their gradients, add up.

    Args:
      model, grammar, temperature: see `score`.
      config: which loss.
      entropy_weight: float32 `[]`.
      totals: of the whole batch.
      params: of the model.
      batch: a part of the batch.

    Returns:
      float32 `[]`, and metrics: sums that add up over parts, and `max_log_prob_gap`, of which the largest counts.
    """
    stream = batch.stream
    log_prob, entropy, value = score(model, grammar, params, stream, temperature)
    weight, _ = _weights(batch.is_kept, batch, config)
    weight_all, _ = _weights(batch.decides, batch, config)

    ratio_of = objectives.token_ratio if config.ratio == "token" else objectives.sequence_ratio
    ends = () if config.ratio == "token" else (stream.ends_life,)
    ratio = ratio_of(log_prob, stream.log_prob, batch.decides, *ends)
    is_clipped = jnp.zeros_like(batch.is_kept)
    if config.policy_loss == "ppo":
        policy, is_clipped = objectives.ppo_clip(ratio, batch.advantage, batch.is_kept, low=config.clip_low, high=config.clip_high)
    elif config.policy_loss == "policy_gradient":
        policy = objectives.policy_gradient(ratio, batch.advantage, batch.is_kept)
    else:
        policy = jnp.where(batch.is_kept, -log_prob * batch.advantage, 0.0)
    if config.value_clip:
        values, _ = objectives.clipped_value_loss(value, stream.value, batch.target, stream.is_written, clip=config.value_clip)
    else:
        values = objectives.value_loss(value, batch.target, stream.is_written)

    def mean(x):
        return objectives.weighted_mean(x, weight_all, totals.decisions)

    metrics = {
        "policy_loss": objectives.weighted_mean(policy, weight, totals.policy),
        "value_loss": objectives.weighted_mean(values, stream.is_written * 1.0, totals.values),
        "entropy": mean(entropy),
        "clip_share": objectives.weighted_mean(is_clipped, weight, totals.policy),
        "kl_from_behaviour": mean(objectives.kl_k3(jax.lax.stop_gradient(stream.log_prob), log_prob, batch.decides)),
        "max_log_prob_gap": jnp.max(jnp.where(stream.is_written, jnp.abs(log_prob - stream.log_prob), 0.0)),
    }
    scales = jnp.array([config.entropy_scales.get(kind.name.lower(), 1.0) for kind in Kind], jnp.float32)
    bonus = entropy_weight * mean(entropy * scales[stream.kind])
    total = metrics["policy_loss"] + config.value_weight * metrics["value_loss"] - bonus
    if config.kl_weight:
        estimator = objectives.KL_ESTIMATORS[config.kl_estimator]
        metrics["kl_from_reference"] = mean(estimator(log_prob, batch.reference_log_prob, batch.decides))
        if not config.kl_in_reward:
            total += config.kl_weight * metrics["kl_from_reference"]
    return total, {"loss": total, **jax.lax.stop_gradient(metrics)}


def _weights(is_kept: jax.Array, batch: Batch, config: LearnerConfig) -> tuple[jax.Array, jax.Array]:
    if config.aggregation == "token_mean":
        return objectives.token_mean_weights(is_kept)
    if config.aggregation == "sequence_mean":
        return objectives.sequence_mean_weights(is_kept, batch.stream.ends_life)
    return objectives.constant_weights(is_kept, config.constant_tokens)
