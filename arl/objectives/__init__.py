"""Objectives: plain functions from arrays of a stream to advantages, losses of single tokens, and weights that add them up."""

from arl.objectives.advantages import gae, life_return, reinforce, returns, segment_gae, standardize
from arl.objectives.aggregate import constant_weights, masked_mean, sequence_mean_weights, token_mean_weights, weighted_mean
from arl.objectives.entropy import categorical_entropy
from arl.objectives.group import GroupAdvantage, grpo, leave_one_out_baseline, rloo
from arl.objectives.kl import KL_ESTIMATORS, kl_in_reward, kl_k1, kl_k2, kl_k3
from arl.objectives.policy import policy_gradient, ppo_clip, sequence_ratio, token_ratio
from arl.objectives.value import clipped_value_loss, explained_variance, value_loss

__all__ = [
    "KL_ESTIMATORS",
    "GroupAdvantage",
    "categorical_entropy",
    "clipped_value_loss",
    "constant_weights",
    "explained_variance",
    "gae",
    "grpo",
    "kl_in_reward",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "leave_one_out_baseline",
    "life_return",
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
    "token_mean_weights",
    "token_ratio",
    "value_loss",
    "weighted_mean",
]
