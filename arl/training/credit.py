"""Credit assignment: estimators that turn the rewards of a trajectory into advantages of its tokens."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import objectives
from arl.training.config import LearnerConfig
from arl.types import Reward, Trajectory


class Credit(NamedTuple):
    """Advantages and value targets of a trajectory.

    A decision is a position after which more than one token could be sampled.

    Attributes:
      advantage: float32 `[B, T]`, 0 where no token was sampled.
      target: float32 `[B, T]`, targets of the value head, in the units of the scaled reward.
      policy_mask: bool `[B, T]`, the decisions that the policy learns from.
      metrics: sums over lanes, float32 `[]` each, by name.
    """

    advantage: jax.Array
    target: jax.Array
    policy_mask: jax.Array
    metrics: dict[str, jax.Array]


Estimator = Callable[[Trajectory, jax.Array, LearnerConfig], Credit]
"""`(trajectory, reward float32 [B, T], config) -> Credit`; the reward is scaled by `config.reward_scale`."""


def total_reward(reward: Reward) -> jax.Array:
    """Returns the sum of a reward's components but `own`, float32 `[B, T]`."""
    return jnp.sum(jnp.stack(reward[: Reward._fields.index("own")]), axis=0)


def is_decision(trajectory: Trajectory) -> jax.Array:
    """Returns the decisions, bool `[B, T]`: positions after which more than one token could be sampled."""
    return trajectory.is_sampled & trajectory.has_choice


def is_own_decision(trajectory: Trajectory) -> jax.Array:
    """Returns the decisions of the policy, bool `[B, T]`."""
    return is_decision(trajectory) & (trajectory.author == 0)


def is_imitated(trajectory: Trajectory) -> jax.Array:
    """Returns the decisions of other authors, bool `[B, T]`."""
    return is_decision(trajectory) & (trajectory.author > 0)


def successes(trajectory: Trajectory, success_at: float) -> tuple[jax.Array, jax.Array]:
    """Returns whether the attempt of each position succeeds, and whether that is known.

    Args:
      trajectory: `[B, T]`.
      success_at: outcome of an attempt from which it is a success, in the environment's units.

    Returns:
      bool `[B, T]` both; it is known at the sampled positions of attempts that lie whole in the trajectory.
    """
    differs = jnp.zeros(trajectory.token.shape, bool)
    for x in (trajectory.attempt, trajectory.episode):
        differs |= jnp.pad(x[:, 1:] != x[:, :-1], ((0, 0), (1, 0)))
    index = jnp.cumsum(differs & (trajectory.token_kind > 0), axis=1)
    outcome = objectives.sum_by_index(jnp.where(trajectory.is_sampled, trajectory.reward.outcome, 0.0), index)
    has_ended = (objectives.sum_by_index(trajectory.ends_episode * 1, index) > 0) | (jnp.arange(index.shape[1]) < index[:, -1:])
    is_whole = (index > 0) | (trajectory.turn[:, :1] == 0)
    is_known = trajectory.is_sampled & is_whole & jnp.take_along_axis(has_ended, index, axis=1)
    return jnp.take_along_axis(outcome, index, axis=1) >= success_at, is_known


def returns_of(trajectory: Trajectory, reward: jax.Array) -> jax.Array:
    """Returns the discounted rewards from each token to the end of its episode, float32 `[B, T]`; 0 where no token was sampled.

    Where the episode is truncated, or goes on in the next trajectory, the recorded value stands for what would follow.

    Args:
      trajectory: `[B, T]`.
      reward: float32 `[B, T]`, as an estimator is given it.
    """
    ends = {"ends_episode": trajectory.ends_episode, "is_truncated": trajectory.is_truncated}
    return objectives.returns(
        reward, trajectory.discount, is_sampled=trajectory.is_sampled, value=trajectory.value, has_value=trajectory.has_value, **ends
    )


def regularizer_mask(trajectory: Trajectory, policy_mask: jax.Array, config: LearnerConfig) -> jax.Array:
    """Returns the decisions, all of the policy's own, over which the means of KL and entropy are taken.

    Args:
      trajectory: `[B, T]`.
      policy_mask: bool `[B, T]`, the decisions that the policy learns from by their advantages.
      config: config of the learner; under `zero_variance_groups="filter"` a lane without a decision in `policy_mask` has none.

    Returns:
      bool `[B, T]`.
    """
    is_in = jnp.any(policy_mask, axis=1, keepdims=True) if config.zero_variance_groups == "filter" else True
    return is_own_decision(trajectory) & is_in


def gae(trajectory: Trajectory, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Estimates advantages of tokens by generalised advantage estimation; arguments and result as `Estimator`."""
    advantage, target = objectives.gae(
        reward,
        trajectory.value,
        trajectory.discount,
        gae_lambda=config.gae_lambda,
        gae_lambda_counts=config.gae_lambda_counts,
        **_chain(trajectory),
    )
    return Credit(advantage, target, is_decision(trajectory), {})


def segment_gae(trajectory: Trajectory, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Estimates advantages of segments by generalised advantage estimation; arguments and result as `Estimator`."""
    advantage, target = objectives.segment_gae(
        reward, trajectory.value, trajectory.discount, gae_lambda=config.gae_lambda, **_chain(trajectory)
    )
    return Credit(advantage, target, is_decision(trajectory), {})


def reinforce(trajectory: Trajectory, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Estimates the advantage of a token by its return minus the value (REINFORCE with a baseline); arguments and result as `Estimator`."""
    del config
    target = returns_of(trajectory, reward)
    return Credit(objectives.reinforce(target, trajectory.is_sampled, value=trajectory.value), target, is_decision(trajectory), {})


def monte_carlo(trajectory: Trajectory, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Estimates the advantage of a token by its return, without a baseline; arguments and result as `Estimator`."""
    del config
    target = returns_of(trajectory, reward)
    return Credit(target, target, is_decision(trajectory), {})


def grpo(trajectory: Trajectory, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Estimates the advantage of an episode by its return relative to its group; arguments and result as `Estimator`."""
    episode_return, is_whole = _episodes(trajectory, reward)
    group = objectives.grpo(episode_return, config.group_size, is_whole, normalize=config.normalize)
    return _by_group(trajectory, reward, config, group, is_whole)


def rloo(trajectory: Trajectory, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Estimates the advantage of an episode by its return relative to the others of its group; arguments and result as `Estimator`."""
    episode_return, is_whole = _episodes(trajectory, reward)
    return _by_group(trajectory, reward, config, objectives.rloo(episode_return, config.group_size, is_whole), is_whole)


class NamedEstimator(NamedTuple):
    """An estimator that `LearnerConfig.estimator` names, and what it needs.

    Attributes:
      estimate: the estimator.
      compares_groups: whether it compares the lanes of a group: these play whole episodes that begin together, and the learner does not
        standardise its advantages.
      uses_values: whether it subtracts the values of the model, which a value loss has to train.
      uses_lambda: whether it depends on `gae_lambda`.
    """

    estimate: Estimator
    compares_groups: bool = False
    uses_values: bool = False
    uses_lambda: bool = False


ESTIMATORS: dict[str, NamedEstimator] = {
    "gae": NamedEstimator(gae, uses_values=True, uses_lambda=True),
    "segment_gae": NamedEstimator(segment_gae, uses_values=True, uses_lambda=True),
    "reinforce": NamedEstimator(reinforce, uses_values=True),
    "monte_carlo": NamedEstimator(monte_carlo),
    "grpo": NamedEstimator(grpo, compares_groups=True),
    "rloo": NamedEstimator(rloo, compares_groups=True),
}


def _chain(trajectory: Trajectory) -> dict[str, jax.Array]:
    names = ("is_sampled", "has_value", "ends_segment", "ends_episode", "is_truncated")
    return {name: getattr(trajectory, name) for name in names}


def _episodes(trajectory: Trajectory, reward: jax.Array) -> tuple[jax.Array, jax.Array]:
    episode_return = objectives.episode_return(
        reward, trajectory.discount, is_sampled=trajectory.is_sampled, ends_episode=trajectory.ends_episode
    )
    return episode_return, jnp.any(trajectory.ends_episode, axis=1)


def _by_group(
    trajectory: Trajectory, reward: jax.Array, config: LearnerConfig, group: objectives.GroupAdvantage, is_whole: jax.Array
) -> Credit:
    # An unfinished episode is not compared, so it is never in the loss, as under TRL's `mask_truncated_completions`.
    is_used = is_whole if config.zero_variance_groups == "keep" else group.is_used
    advantage = jnp.where(trajectory.is_sampled, group.advantage[:, None], 0.0)
    metrics = {"groups_without_variance": group.num_groups_without_variance}
    return Credit(advantage, returns_of(trajectory, reward), is_decision(trajectory) & is_used[:, None], metrics)
