"""Objectives: functions of a trajectory's arrays that compute advantages, losses of tokens, and the weights that aggregate them."""

from arl.objectives.advantages import episode_return, gae, reinforce, returns, segment_gae, standardize, sum_between
from arl.objectives.aggregate import (
    AGGREGATIONS,
    constant_weights,
    masked_mean,
    sequence_mean_weights,
    sum_by_index,
    token_mean_weights,
    weighted_mean,
)
from arl.objectives.calibration import brier, calibration_error
from arl.objectives.entropy import categorical_entropy
from arl.objectives.group import GroupAdvantage, grpo, leave_one_out_baseline, rloo
from arl.objectives.kl import KL_ESTIMATORS, kl_in_reward, kl_k1, kl_k2, kl_k3
from arl.objectives.policy import (
    POLICY_LOSSES,
    RATIOS,
    cross_entropy,
    policy_gradient,
    ppo_clip,
    sequence_ratio,
    token_ratio,
    truncated_weight,
)
from arl.objectives.value import clipped_value_loss, explained_variance, value_loss

__all__ = [
    "AGGREGATIONS",
    "KL_ESTIMATORS",
    "POLICY_LOSSES",
    "RATIOS",
    "GroupAdvantage",
    "brier",
    "calibration_error",
    "categorical_entropy",
    "clipped_value_loss",
    "constant_weights",
    "cross_entropy",
    "explained_variance",
    "gae",
    "grpo",
    "kl_in_reward",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "leave_one_out_baseline",
    "episode_return",
    "masked_mean",
    "policy_gradient",
    "ppo_clip",
    "reinforce",
    "returns",
    "rloo",
    "segment_gae",
    "sequence_mean_weights",
    "sequence_ratio",
    "standardize",
    "sum_between",
    "sum_by_index",
    "token_mean_weights",
    "token_ratio",
    "truncated_weight",
    "value_loss",
    "weighted_mean",
]
