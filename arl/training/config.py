"""The config of a learner: plain values, saved with every run."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from arl import objectives
from arl.checks import Checked
from arl.types import ArlError, Kind

MOST = 2**31 - 1  # largest int32


@dataclasses.dataclass(frozen=True)
class Schedule(Checked):
    """A number that changes linearly over a part of training.

    Attributes:
      start: value at the start of training.
      end: value from `until` on.
      until: fraction of training at which it reaches `end`.
      since: fraction of training at which it leaves `start`.
      warmup: fraction of training over which the value is scaled up from 0.
    """

    start: float = 0.0
    end: float = 0.0
    until: float = 1.0
    since: float = 0.0
    warmup: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not math.isfinite(self.start) or not math.isfinite(self.end):
            raise ArlError(f"a schedule from {self.start} to {self.end} has no end; set Schedule.start and Schedule.end to finite numbers")
        if not 0 <= self.since < self.until <= 1 or not 0 <= self.warmup <= 1:
            raise ArlError(
                f"a schedule from {self.since} until {self.until} with warmup {self.warmup} does not fit in a run; "
                "set 0 <= since < until <= 1 and warmup as fractions of it"
            )

    def __call__(self, progress: jax.Array | float) -> jax.Array:
        """Returns the value, float32 `[]`, after a fraction `progress` of training."""
        elapsed = jnp.clip((jnp.asarray(progress, jnp.float32) - self.since) / (self.until - self.since), 0.0, 1.0)
        value = self.start + (self.end - self.start) * elapsed
        return value * jnp.clip(progress / self.warmup, 0.0, 1.0) if self.warmup else value


@dataclasses.dataclass(frozen=True)
class Rule(Checked):
    """How the segments of a kind are credited.

    Attributes:
      estimator: estimator of their advantages, a name in `arl.training.credit.ESTIMATORS`; "" for `LearnerConfig.estimator`.
      span: what counts for a segment. "episode": all that follows in its episode. "attempt": what follows in its attempt; values should
        then be those of an attempt too (`LearnerConfig.value_rule`). "kind": the segments of the kind are the only decisions, the step of
        each is all that follows until the next one, and lambda counts them. "segment": `Reward.own` of the segment alone, which counts in
        no other span.
      gae_lambda: lambda of generalised advantage estimation; None for `LearnerConfig.gae_lambda`.
      weight: factor of their policy loss.
      entropy: factor of `LearnerConfig.entropy_weight` at their tokens.
    """

    estimator: str = ""
    span: str = "episode"
    gae_lambda: float | None = None
    weight: float = 1.0
    entropy: float = 1.0


SPANS = ("episode", "attempt", "kind", "segment")
OWN_RULE = Rule("monte_carlo", span="segment")  # of stated confidences, if no other is given


@dataclasses.dataclass(frozen=True)
class LearnerConfig(Checked):
    """How an agent learns from its trajectories.

    Attributes:
      num_updates: number of updates of a run; schedules are fractions of it.
      num_lanes: `B`, number of lanes on all devices.
      group_size: `G`, number of consecutive lanes that are given the same task; 1 for no groups.
      num_blocks: blocks of the batch within which lanes are shuffled, so that no lane leaves its device; a multiple of the devices.
      num_epochs: passes over a batch of trajectories in an update.
      num_minibatches: optimizer steps per epoch.
      microbatch_size: number of lanes on all devices whose gradient is computed at once; `num_lanes` is a multiple of `num_minibatches`
        times it.
      reward_scale: factor of all rewards in learning, so that values are of the order of 1.
      estimator: estimator of advantages, a name in `arl.training.credit.ESTIMATORS`.
      gae_lambda: lambda of generalised advantage estimation.
      gae_lambda_counts: whether lambda applies to each "segment" or to each "token".
      normalize: whether advantages are standardised over the batch; for "grpo", over their group. Kinds of segments whose rules estimate
        advantages differently are standardised apart.
      normalize_by_kind: whether every kind is standardised apart.
      rules: how segments of a kind ("action", "reflection") are credited; kinds that are not named as `Rule()` says, but "confidence" as
        `Rule("monte_carlo", span="segment")` does.
      value_rule: kind whose rule gives the targets of the value; "" for `estimator` over whole episodes.
      policy_loss: "ppo" (clipped) or "policy_gradient", of what the policy wrote.
      imitation_weight: weight of the cross-entropy of what experts and other writers wrote.
      ratio: importance ratio of each "token" or of each "sequence".
      clip_low: the ratio is clipped below at `1 - clip_low`.
      clip_high: the ratio is clipped above at `1 + clip_high`.
      aggregation: how token losses are aggregated: "token_mean", "sequence_mean" or "constant".
      constant_tokens: tokens that a lane counts for under "constant".
      zero_variance_groups: which means count the groups of "grpo" and "rloo" whose returns are equal, and whose advantages are 0. "keep":
        all means, as in GRPO (arXiv:2402.03300, equation 3) and TRL. "filter": none, as under DAPO's dynamic sampling (arXiv:2503.14476),
        but without sampling others in their place. "mask": those of KL and entropy but not of the policy loss; the more such
        groups there are, the less the KL of a token weighs against the policy loss.
      value_weight: weight of the value loss.
      value_clip: clip range of the value loss, in the reward's units; 0 for none.
      confidence_weight: weight of the Brier loss of the head "confidence"; 0 for none.
      success_at: outcome of an attempt from which it is a success, as that head should foresee, in the environment's units.
      entropy_weight: weight of the entropy bonus.
      kl_weight: weight of the KL from the reference, the initial policy; 0 for none.
      kl_estimator: estimator of that KL: "k1", "k2" or "k3".
      kl_in_reward: whether the KL is subtracted from the reward instead of added to the loss.
      learning_rate: learning rate of AdamW.
      adam_b1: decay rate of AdamW's first moment.
      adam_b2: decay rate of AdamW's second moment.
      adam_epsilon: epsilon of AdamW.
      weight_decay: weight decay of AdamW.
      max_gradient_norm: norm to which gradients are clipped.
      schedules: schedules of curriculum values by dotted name ("attempts.keep").
    """

    num_updates: int = 400
    num_lanes: int = 256
    group_size: int = 1
    num_blocks: int = 8
    num_epochs: int = 2
    num_minibatches: int = 4
    microbatch_size: int = 64
    reward_scale: float = 1.0
    estimator: str = "gae"
    gae_lambda: float = 0.95
    gae_lambda_counts: str = "segment"
    normalize: bool = True
    normalize_by_kind: bool = False
    rules: dict[str, Rule] = dataclasses.field(default_factory=dict)
    value_rule: str = ""
    policy_loss: str = "ppo"
    imitation_weight: float = 0.0
    ratio: str = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    aggregation: str = "token_mean"
    constant_tokens: int = 1
    zero_variance_groups: str = "mask"
    value_weight: float = 0.5
    value_clip: float = 0.0
    confidence_weight: float = 0.0
    success_at: float = 0.5
    entropy_weight: Schedule = Schedule(0.03, 0.0)
    kl_weight: float = 0.0
    kl_estimator: str = "k3"
    kl_in_reward: bool = False
    learning_rate: Schedule = Schedule(1e-3, 0.0)
    adam_b1: float = 0.9
    adam_b2: float = 0.99
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    schedules: dict[str, Schedule] = dataclasses.field(default_factory=dict)


def check_config(config: LearnerConfig) -> None:
    """Checks a config on its own.

    Raises:
      ArlError: if a value is out of range, or lanes do not divide into groups, minibatches and blocks.
    """
    for name in (
        "num_updates",
        "num_lanes",
        "group_size",
        "num_blocks",
        "num_epochs",
        "num_minibatches",
        "microbatch_size",
        "constant_tokens",
    ):
        if getattr(config, name) < 1:
            raise ArlError(f"LearnerConfig.{name} is {getattr(config, name)}; set it >= 1")
    for name in ("num_updates", "num_lanes"):
        if getattr(config, name) > MOST:
            raise ArlError(f"LearnerConfig.{name} is {getattr(config, name)}; set it <= {MOST}, what an int32 can count")
    _check_ranges(config)
    if config.num_lanes % config.group_size:
        raise ArlError(
            f"groups of {config.group_size} do not divide {config.num_lanes} lanes; "
            "set LearnerConfig.num_lanes to a multiple of the group size"
        )
    unit = config.num_minibatches * config.microbatch_size
    if config.num_lanes % unit:
        raise ArlError(
            f"{config.num_lanes} lanes do not divide into {config.num_minibatches} minibatches of whole microbatches of "
            f"{config.microbatch_size}; "
            f"set LearnerConfig.num_lanes to a multiple of {unit}, or microbatch_size lower"
        )
    if config.microbatch_size % config.num_blocks:
        raise ArlError(
            f"a microbatch of {config.microbatch_size} lanes does not take the same number from each of {config.num_blocks} blocks; "
            f"set LearnerConfig.microbatch_size to a multiple of LearnerConfig.num_blocks"
        )
    _check_rules(config)
    choices = {
        "gae_lambda_counts": ("segment", "token"),
        "policy_loss": tuple(objectives.POLICY_LOSSES),
        "ratio": tuple(objectives.RATIOS),
        "aggregation": tuple(objectives.AGGREGATIONS),
        "zero_variance_groups": ("keep", "filter", "mask"),
        "kl_estimator": tuple(objectives.KL_ESTIMATORS),
    }
    for name, options in choices.items():
        if getattr(config, name) not in options:
            raise ArlError(f"LearnerConfig.{name} is {getattr(config, name)!r}; set it to one of {', '.join(options)}")


def _check_rules(config: LearnerConfig) -> None:
    """Raises an `ArlError` for a rule of what is no kind of segment, or with a value that is out of range."""
    kinds = [kind.name.lower() for kind in Kind]
    for name, rule in config.rules.items():
        if name not in kinds:
            raise ArlError(f"LearnerConfig.rules names {name!r}, which is no kind of segment; set it to one of {', '.join(kinds)}")
        if rule.span not in SPANS:
            raise ArlError(f"LearnerConfig.rules.{name}.span is {rule.span!r}; set it to one of {', '.join(SPANS)}")
        if name == "confidence" and rule.span != "segment":
            raise ArlError(
                f"a confidence that is paid by the {rule.span} is no honest one; set LearnerConfig.rules.confidence.span='segment'"
            )
        if rule.gae_lambda is not None and not 0 <= rule.gae_lambda <= 1:
            raise ArlError(f"LearnerConfig.rules.{name}.gae_lambda is {rule.gae_lambda}; set it between 0 and 1")
        for field in ("weight", "entropy"):
            if not 0 <= getattr(rule, field) < float("inf"):
                raise ArlError(f"LearnerConfig.rules.{name}.{field} is {getattr(rule, field)}; set it to a number >= 0")
    if config.normalize_by_kind and not config.normalize:
        raise ArlError(
            "advantages that are not standardised cannot be by kind; set LearnerConfig.normalize=True, or normalize_by_kind=False"
        )
    if config.value_rule and config.value_rule not in config.rules:
        raise ArlError(f"LearnerConfig.value_rule is {config.value_rule!r}, and LearnerConfig.rules has none of that name; add it")
    if config.value_rule and config.rules[config.value_rule].span in ("kind", "segment"):
        raise ArlError(
            f"the rule of {config.value_rule} has targets for its own segments alone; set another LearnerConfig.value_rule, or its span to "
            "'episode' or 'attempt'"
        )


def _check_ranges(config: LearnerConfig) -> None:
    """Raises an `ArlError` for a number that is out of range."""
    ranges = {
        "reward_scale": (0 < config.reward_scale < math.inf, "above 0"),
        "max_gradient_norm": (config.max_gradient_norm > 0, "above 0"),
        "adam_epsilon": (config.adam_epsilon > 0, "above 0"),
        "clip_high": (config.clip_high > 0, "above 0"),
        "clip_low": (0 < config.clip_low <= 1, "above 0 and at most 1"),
        "gae_lambda": (0 <= config.gae_lambda <= 1, "between 0 and 1"),
        "adam_b1": (0 <= config.adam_b1 < 1, "at least 0 and below 1"),
        "adam_b2": (0 <= config.adam_b2 < 1, "at least 0 and below 1"),
        **{
            name: (getattr(config, name) >= 0, "at least 0")
            for name in ("imitation_weight", "value_weight", "value_clip", "confidence_weight", "kl_weight", "weight_decay")
        },
    }
    for name, (is_possible, words) in ranges.items():
        if not is_possible:
            raise ArlError(f"LearnerConfig.{name} is {getattr(config, name)}; set it {words}")
    for name in ("learning_rate", "entropy_weight"):
        schedule = getattr(config, name)
        if min(schedule.start, schedule.end) < 0:
            lowest = min(schedule.start, schedule.end)
            raise ArlError(f"LearnerConfig.{name} falls to {lowest}; set LearnerConfig.{name}.start and .end at least 0")


def curriculum_at(schedules: dict[str, Schedule], progress: jax.Array | float) -> dict:
    """Returns the scheduled part of an interaction's curriculum.

    Args:
      schedules: schedules by dotted name.
      progress: fraction of training that is done.

    Returns:
      Nested dicts of float32 `[]`: `{"attempts": {"keep": ...}}`.
    """
    curriculum: dict = {}
    for name, schedule in schedules.items():
        *path, last = name.split(".")
        inner = curriculum
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = schedule(progress)
    return curriculum


def first_curriculum(layers: Sequence[Any]) -> dict[str, Any] | None:
    """Returns what the layers of an interaction learn of their curricula, before they have learned anything; None for nothing.

    Args:
      layers: layers, as in `Interaction.layers`.
    """
    return {layer.label: dict(layer.learned) for layer in layers if layer.learned} or None
