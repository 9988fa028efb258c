"""How an agent is trained: a small tree of plain values, saved with every run."""

import dataclasses

import jax
import jax.numpy as jnp

from arl import objectives
from arl.types import Kind, check_whole

MOST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A number that moves in a straight line over a part of training and stays.

    Attributes:
      start: its value at the beginning.
      end: its value from `until` on.
      until: the fraction of training at which it arrives.
      since: the fraction of training at which it begins to move.
      warmup: the fraction of training over which the whole is faded in from 0.
    """

    start: float = 0.0
    end: float = 0.0
    until: float = 1.0
    since: float = 0.0
    warmup: float = 0.0

    def __post_init__(self):
        if not 0 <= self.since < self.until <= 1 or not 0 <= self.warmup <= 1:
            raise ValueError(
                f"a schedule from {self.since} until {self.until} with warmup {self.warmup} does not fit in a run; "
                "set 0 <= since < until <= 1 and warmup as fractions of it"
            )

    def __call__(self, progress: jax.Array | float) -> jax.Array:
        """Returns the value, float32 `[]`, when a fraction `progress` of training is done."""
        share = jnp.clip((jnp.asarray(progress, jnp.float32) - self.since) / (self.until - self.since), 0.0, 1.0)
        value = self.start + (self.end - self.start) * share
        return value * jnp.clip(progress / self.warmup, 0.0, 1.0) if self.warmup else value


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    """How lanes become updates.

    Attributes:
      num_updates: updates of a run, the unit of all schedules.
      num_lanes: `B`, over all devices.
      group_size: `G`, consecutive lanes that are given the same task; 1 for none.
      blocks: lanes are shuffled within this many blocks of the batch, so that no lane leaves its device; a multiple of the devices.
      epochs: times that a stream is learned from.
      minibatches: optimizer steps an epoch.
      microbatch: lanes whose gradient is computed at once.
      reward_scale: multiplies rewards before they are learned from, so that values are of the order of 1.
      credit: how rewards become advantages: a name in `arl.training.credit.ESTIMATORS`.
      trace: lambda of GAE.
      trace_counts: whether the trace fades by "segment" or by "token".
      normalize: whether advantages are standardised over the batch (for "grpo": by the deviation of their group).
      policy_loss: "ppo" (clipped), "policy_gradient", or "cross_entropy": without a ratio, for tokens that the policy did not sample.
      ratio: importance ratio by "token" or by "sequence".
      clip_low, clip_high: the ratio counts within `[1 - clip_low, 1 + clip_high]`.
      aggregation: "token_mean", "sequence_mean" or "constant".
      constant_tokens: what a lane counts for under "constant", tokens.
      zero_variance_groups: the means that count the lives of a group whose returns do not differ ("grpo", "rloo"; their advantage is 0).
        "keep": all, as in GRPO (arXiv:2402.03300, equation 3) and TRL. "filter": none, as under DAPO's dynamic sampling (arXiv:2503.14476),
        though no others are sampled in their place. "mask": those of divergence and entropy, not that of the policy's loss; beside it a
        token's divergence then weighs the less, the more such groups there are.
      value_weight: of the value loss.
      value_clip: how far values may move in an update, in the reward's units; 0 for free.
      entropy: weight of the entropy bonus.
      entropy_scales: by kind of segment ("action", "reflection"), what multiplies that weight; 1 where a kind is not named.
      kl_weight: weight of the divergence from the initial policy; 0 keeps no reference.
      kl_estimator: "k1", "k2" or "k3".
      kl_in_reward: whether the divergence is charged as a reward rather than added to the loss.
      learning_rate: of Adam.
      adam_b1, adam_b2, adam_epsilon, weight_decay: of AdamW.
      max_gradient_norm: gradients are scaled down to it.
      schedules: values of the interaction's `setting` over training, by dotted name ("attempts.keep").
    """

    num_updates: int = 400
    num_lanes: int = 256
    group_size: int = 1
    blocks: int = 8
    epochs: int = 2
    minibatches: int = 4
    microbatch: int = 64
    reward_scale: float = 1.0
    credit: str = "gae"
    trace: float = 0.95
    trace_counts: str = "segment"
    normalize: bool = True
    policy_loss: str = "ppo"
    ratio: str = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    aggregation: str = "token_mean"
    constant_tokens: int = 1
    zero_variance_groups: str = "mask"
    value_weight: float = 0.5
    value_clip: float = 0.0
    entropy: Schedule = Schedule(0.03, 0.0)
    entropy_scales: dict[str, float] = dataclasses.field(default_factory=dict)
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
    """Raises a ValueError, in one sentence, for a batch that cannot be cut as asked or a value that does not exist."""
    for name in ("num_updates", "num_lanes", "group_size", "blocks", "epochs", "minibatches", "microbatch", "constant_tokens"):
        check_whole(**{f"learner.{name}": getattr(config, name)})
        if getattr(config, name) < 1:
            raise ValueError(f"learner.{name} is {getattr(config, name)}; set it >= 1")
    for name in ("num_updates", "num_lanes"):
        if getattr(config, name) > MOST:
            raise ValueError(f"learner.{name} is {getattr(config, name)}; set it <= {MOST}, what an int32 can count")
    _check_ranges(config)
    if config.num_lanes % config.group_size:
        raise ValueError(
            f"groups of {config.group_size} do not divide {config.num_lanes} lanes; set learner.num_lanes to a multiple of the group size"
        )
    unit = config.minibatches * config.microbatch
    if config.num_lanes % unit:
        raise ValueError(
            f"{config.num_lanes} lanes cannot be cut into {config.minibatches} minibatches of microbatches of {config.microbatch}; "
            f"set learner.num_lanes to a multiple of {unit}"
        )
    if config.microbatch % config.blocks:
        raise ValueError(
            f"a microbatch of {config.microbatch} lanes does not take the same number from each of {config.blocks} blocks; "
            f"set learner.microbatch to a multiple of learner.blocks"
        )
    kinds = [kind.name.lower() for kind in Kind]
    for name in config.entropy_scales:
        if name not in kinds:
            raise ValueError(f"learner.entropy_scales names {name!r}, which is no kind of segment; set it to one of {', '.join(kinds)}")
        if not 0 <= config.entropy_scales[name] < float("inf"):
            raise ValueError(f"learner.entropy_scales.{name} is {config.entropy_scales[name]}; set it to a number >= 0")
    choices = {
        "trace_counts": ("segment", "token"),
        "policy_loss": ("ppo", "policy_gradient", "cross_entropy"),
        "ratio": ("token", "sequence"),
        "aggregation": ("token_mean", "sequence_mean", "constant"),
        "zero_variance_groups": ("keep", "filter", "mask"),
        "kl_estimator": tuple(objectives.KL_ESTIMATORS),
    }
    for name, options in choices.items():
        if getattr(config, name) not in options:
            raise ValueError(f"learner.{name} is {getattr(config, name)!r}; set it to one of {', '.join(options)}")


def _check_ranges(config: LearnerConfig) -> None:
    """Refuses numbers that mean nothing where they stand."""
    ranges = {
        "reward_scale": (config.reward_scale > 0, "above 0"),
        "max_gradient_norm": (config.max_gradient_norm > 0, "above 0"),
        "adam_epsilon": (config.adam_epsilon > 0, "above 0"),
        "clip_high": (config.clip_high > 0, "above 0"),
        "clip_low": (0 < config.clip_low <= 1, "above 0 and at most 1"),
        "trace": (0 <= config.trace <= 1, "between 0 and 1"),
        "adam_b1": (0 <= config.adam_b1 < 1, "at least 0 and below 1"),
        "adam_b2": (0 <= config.adam_b2 < 1, "at least 0 and below 1"),
        **{name: (getattr(config, name) >= 0, "at least 0") for name in ("value_weight", "value_clip", "kl_weight", "weight_decay")},
    }
    for name, (is_possible, words) in ranges.items():
        if not is_possible:
            raise ValueError(f"learner.{name} is {getattr(config, name)}; set it {words}")
    for name in ("learning_rate", "entropy"):
        schedule = getattr(config, name)
        if not isinstance(schedule, Schedule):
            raise ValueError(f"learner.{name} is {schedule!r}; set it to a Schedule(start, end)")
        if min(schedule.start, schedule.end) < 0:
            raise ValueError(f"learner.{name} falls to {min(schedule.start, schedule.end)}; set learner.{name}.start and .end at least 0")


def setting_at(schedules: dict[str, Schedule], progress: jax.Array | float) -> dict:
    """Returns the scheduled part of an interaction's setting.

    Args:
      schedules: by dotted name.
      progress: the fraction of training that is done.

    Returns:
      Nested dicts of float32 `[]`: `{"attempts": {"keep": ...}}`.
    """
    setting: dict = {}
    for name, schedule in schedules.items():
        *path, last = name.split(".")
        inner = setting
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = schedule(progress)
    return setting
