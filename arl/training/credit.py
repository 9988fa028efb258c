"""From a stream to the advantage of each token that was written."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import objectives
from arl.training.config import LearnerConfig
from arl.types import Reward, Stream


class Credit(NamedTuple):
    """What each decision of a stream is worth.

    Attributes:
      advantage: float32 `[B, T]`, 0 where there is none.
      target: float32 `[B, T]`, what the value head should have said.
      is_kept: bool `[B, T]`, the decisions that the policy learns from.
      metrics: sums over lanes, float32 `[]` each, by name.
    """

    advantage: jax.Array
    target: jax.Array
    is_kept: jax.Array
    metrics: dict[str, jax.Array]


Estimator = Callable[[Stream, jax.Array, LearnerConfig], Credit]
"""`(stream, reward [B, T], config) -> Credit`: a user's own takes the place of those below."""


def total_reward(reward: Reward) -> jax.Array:
    """Returns the sum of a reward's components, float32 `[B, T]`."""
    return jnp.sum(jnp.stack(reward), axis=0)


def is_decision(stream: Stream) -> jax.Array:
    """Returns bool `[B, T]`, the slots after which the model had a choice: more than one letter could be sampled."""
    return stream.is_written & (jnp.sum(jax.lax.population_count(stream.support), axis=-1) > 1)


def counts(stream: Stream, is_kept: jax.Array, config: LearnerConfig) -> jax.Array:
    """Returns the decisions over which divergence and entropy are means.

    Args:
      stream: `[B, T]`.
      is_kept: bool `[B, T]`, the decisions that the policy learns from.
      config: under `zero_variance_groups="filter"` a lane of which nothing is kept does not count.

    Returns:
      bool `[B, T]`.
    """
    is_in = jnp.any(is_kept, axis=1, keepdims=True) if config.zero_variance_groups == "filter" else True
    return is_decision(stream) & is_in


def gae(stream: Stream, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Credits each token by generalised advantage estimation; arguments and result as `Estimator`."""
    advantage, target = objectives.gae(
        reward, stream.value, stream.discount, trace=config.trace, trace_counts=config.trace_counts, **_chain(stream)
    )
    return Credit(advantage, target, is_decision(stream), {})


def segment_gae(stream: Stream, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Credits each segment as one action, all its tokens alike; arguments and result as `Estimator`."""
    advantage, target = objectives.segment_gae(reward, stream.value, stream.discount, trace=config.trace, **_chain(stream))
    return Credit(advantage, target, is_decision(stream), {})


def reinforce(stream: Stream, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Credits each token by what followed it, less the value there; arguments and result as `Estimator`."""
    del config
    target = _returns(stream, reward)
    return Credit(objectives.reinforce(target, stream.is_written, value=stream.value), target, is_decision(stream), {})


def monte_carlo(stream: Stream, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Credits each token by what followed it, without a baseline; arguments and result as `Estimator`."""
    del config
    target = _returns(stream, reward)
    return Credit(target, target, is_decision(stream), {})


def cloning(stream: Stream, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Credits each token of an expert alike, by 1; arguments and result as `Estimator`.

    With `policy_loss="cross_entropy"` that is behaviour cloning (Pomerleau 1991), at every step. The gradient of "policy_gradient" and
    "ppo" is that of the cross-entropy times the ratio: the same at the first step after a rollout, where all ratios are 1. From then on
    tokens that have become likelier count for more, and "ppo" lets go of a token once its ratio leaves the clipped range.
    """
    del config
    decides = is_decision(stream)
    return Credit(stream.is_written * 1.0, _returns(stream, reward), decides, {"cloned_tokens": jnp.sum(decides * 1.0)})


def grpo(stream: Stream, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Credits all tokens of a life by its return against its group's; arguments and result as `Estimator`."""
    life_return, is_whole = _lives(stream, reward)
    group = objectives.grpo(life_return, config.group_size, is_whole, normalize=config.normalize)
    return _by_group(stream, reward, config, group, is_whole)


def rloo(stream: Stream, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Credits all tokens of a life by its return against the others' of its group; arguments and result as `Estimator`."""
    life_return, is_whole = _lives(stream, reward)
    return _by_group(stream, reward, config, objectives.rloo(life_return, config.group_size, is_whole), is_whole)


ESTIMATORS: dict[str, Estimator] = {
    "gae": gae,
    "segment_gae": segment_gae,
    "reinforce": reinforce,
    "monte_carlo": monte_carlo,
    "cloning": cloning,
    "grpo": grpo,
    "rloo": rloo,
}

GROUPED = ("grpo", "rloo")


def _chain(stream: Stream) -> dict[str, jax.Array]:
    names = ("is_written", "has_value", "ends_segment", "ends_life", "is_truncated")
    return {name: getattr(stream, name) for name in names}


def _returns(stream: Stream, reward: jax.Array) -> jax.Array:
    ends = {"ends_life": stream.ends_life, "is_truncated": stream.is_truncated}
    return objectives.returns(reward, stream.discount, is_written=stream.is_written, value=stream.value, has_value=stream.has_value, **ends)


def _lives(stream: Stream, reward: jax.Array) -> tuple[jax.Array, jax.Array]:
    life_return = objectives.life_return(reward, stream.discount, is_written=stream.is_written, ends_life=stream.ends_life)
    return life_return, jnp.any(stream.ends_life, axis=1)


def _by_group(stream: Stream, reward: jax.Array, config: LearnerConfig, group: objectives.GroupAdvantage, is_whole: jax.Array) -> Credit:
    # A life that did not end has been compared with nobody: it is never kept, as under TRL's `mask_truncated_completions`.
    is_used = is_whole if config.zero_variance_groups == "keep" else group.is_used
    advantage = jnp.where(stream.is_written, group.advantage[:, None], 0.0)
    metrics = {"groups_without_variance": group.num_groups_without_variance}
    return Credit(advantage, _returns(stream, reward), is_decision(stream) & is_used[:, None], metrics)
