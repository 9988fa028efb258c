"""Credit by kind of segment: each rule is evaluated on the whole trajectory, and a token takes the advantage of its kind's rule."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import objectives
from arl.training.check import check_credit
from arl.training.config import OWN_RULE, LearnerConfig, Rule
from arl.training.credit import ESTIMATORS, Credit, NamedEstimator
from arl.types import Kind, Trajectory


class _Estimate(NamedTuple):
    """How a rule estimates advantages; rules that are equal in this share one evaluation.

    Attributes:
      estimator: name of the estimator; "" for that of the learner.
      gae_lambda: lambda.
      span: as in `Rule`.
      kind: the kind, where the span is "kind"; else None.
    """

    estimator: str
    gae_lambda: float
    span: str
    kind: Kind | None


def assign(
    trajectory: Trajectory, reward: jax.Array, config: LearnerConfig, default: NamedEstimator, axis_name: str | None = None
) -> Credit:
    """Returns advantages by the rules of a config, standardised if it says so, and the targets of the value.

    Args:
      trajectory: `[B, T]`.
      reward: float32 `[B, T]`, scaled.
      config: config of the learner.
      default: the estimator of kinds whose rule names none.
      axis_name: mapped axis of devices over which advantages are standardised.

    Returns:
      The credit: `advantage` and `policy_mask` by the rule of each token's kind, `target` by `value_rule`.

    Raises:
      ArlError: if an estimator returns anything but a `Credit`.
    """
    rules = {Kind[name.upper()]: rule for name, rule in config.rules.items()}
    named = config.estimator if default == ESTIMATORS.get(config.estimator) else ""
    estimate_of = {kind: _estimate_of(kind, rules.get(kind, Rule()), config, named) for kind in Kind}
    whole = _estimate_of(Kind.PAD, Rule(), config, named)
    credits: dict[_Estimate, Credit] = {}
    for estimate in [whole, *(estimate_of[kind] for kind in rules)]:
        if estimate not in credits:
            credits[estimate] = _run(estimate, trajectory, reward, config, default)

    result, metrics = credits[whole], {}
    advantage, policy_mask = jnp.zeros_like(result.advantage), jnp.zeros_like(result.policy_mask)
    for estimate, credit in credits.items():
        kinds = [kind for kind in Kind if estimate_of[kind] == estimate]
        for group in [[kind] for kind in kinds] if config.normalize_by_kind else [kinds]:
            everything = len(group) == len(Kind)
            is_own = jnp.bool_(True) if everything else jnp.isin(trajectory.kind, jnp.array(group, trajectory.kind.dtype))
            if config.normalize and not _named(estimate, default).compares_groups:
                own = objectives.standardize(credit.advantage, credit.policy_mask & is_own, axis_name)
            else:
                own = credit.advantage
            advantage, policy_mask = jnp.where(is_own, own, advantage), jnp.where(is_own, credit.policy_mask, policy_mask)
        suffix = "" if estimate == whole else f"/{kinds[0].name.lower()}"
        metrics |= {f"{name}{suffix}": value for name, value in credit.metrics.items()}
    targets = credits[estimate_of[Kind[config.value_rule.upper()]]] if config.value_rule else result
    return Credit(advantage, targets.target, policy_mask, metrics)


def scales(config: LearnerConfig, kind: jax.Array, field: str) -> jax.Array:
    """Returns a factor of each token's rule.

    Args:
      config: config of the learner.
      kind: int `[B, T]`, kind of the segment of each token.
      field: "weight" or "entropy".

    Returns:
      float32 `[B, T]`.
    """
    factors = [getattr(config.rules.get(each.name.lower(), Rule()), field) for each in Kind]
    return jnp.array(factors, jnp.float32)[kind]


def _estimate_of(kind: Kind, rule: Rule, config: LearnerConfig, default: str) -> _Estimate:
    gae_lambda = config.gae_lambda if rule.gae_lambda is None else rule.gae_lambda
    estimator = "" if rule.estimator == default else rule.estimator
    return _Estimate(estimator, gae_lambda, rule.span, kind if rule.span == "kind" else None)


def _named(estimate: _Estimate, default: NamedEstimator) -> NamedEstimator:
    return ESTIMATORS[estimate.estimator] if estimate.estimator else default


def _run(estimate: _Estimate, trajectory: Trajectory, reward: jax.Array, config: LearnerConfig, default: NamedEstimator) -> Credit:
    config = dataclasses.replace(config, gae_lambda=estimate.gae_lambda)
    if estimate.span == "segment":
        reward = jnp.asarray(trajectory.reward.own) * config.reward_scale
        trajectory = trajectory._replace(discount=jnp.where(trajectory.ends_segment, 0.0, trajectory.discount))
    if estimate.span == "attempt":
        trajectory = trajectory._replace(discount=jnp.where(_ends_attempt(trajectory), 0.0, trajectory.discount))
    if estimate.kind is not None:
        is_own = trajectory.is_sampled & (trajectory.kind == estimate.kind)
        ends = {"ends_segment": trajectory.ends_segment, "ends_episode": trajectory.ends_episode}
        reward, discount = objectives.sum_between(reward, trajectory.discount, is_own=is_own, is_sampled=trajectory.is_sampled, **ends)
        trajectory = trajectory._replace(is_sampled=is_own, discount=discount)
    credit = _named(estimate, default).estimate(trajectory, reward, config)
    check_credit(credit, trajectory.token.shape)
    is_known = _is_paid(trajectory) if estimate.span == "segment" else True
    return credit._replace(policy_mask=credit.policy_mask & (trajectory.author == 0) & is_known)


def with_own_rules(config: LearnerConfig, kinds: tuple[Kind, ...]) -> LearnerConfig:
    """Returns the config with a rule for stated confidences, if these are among the `kinds` that an agent writes and have none."""
    if Kind.CONFIDENCE not in kinds or "confidence" in config.rules:
        return config
    return dataclasses.replace(config, rules={**config.rules, "confidence": OWN_RULE})


def _is_paid(trajectory: Trajectory) -> jax.Array:
    """Returns the positions, bool `[B, T]`, whose segment ends in this trajectory, so that what it is paid is known."""
    index = jnp.arange(trajectory.token.shape[1])
    return index <= jnp.max(jnp.where(trajectory.ends_segment, index, -1), axis=1, keepdims=True)


def _ends_attempt(trajectory: Trajectory) -> jax.Array:
    """Returns the positions, bool `[B, T]`, at which a segment ends an attempt: what is read next belongs to another one."""
    following = jnp.pad(trajectory.attempt[:, 1:], ((0, 0), (0, 1)))
    return trajectory.ends_segment & (following != trajectory.attempt)
