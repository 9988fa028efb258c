"""Evaluation: a fixed number of whole lives on held-out seeds, and what they say with how much certainty."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import agents, rollout
from arl.rollout import RolloutConfig
from arl.training.credit import total_reward
from arl.training.loss import score
from arl.types import Interaction, Kind, LanguageModel, Setting, State, Stream, Text


class Lives(NamedTuple):
    """What was seen of each life, `[N]` each.

    Attributes:
      returned: float32, the sum of all rewards.
      outcome: float32, the sum of the task's own rewards.
      outcome_by_attempt: float32 `[N, K]`.
      turns: int32, segments written.
      actions: int32, segments of kind ACTION.
      illegal: int32, illegal ones.
      is_finished: bool, whether it ended before its stream did.
      gap: float32, the largest difference between sampler's and learner's log-probs, nats.
      unseen: arrays `[N, ...]`, what the agent could not see when its life began; none unless `live` was told what that is.
    """

    returned: jax.Array
    outcome: jax.Array
    outcome_by_attempt: jax.Array
    turns: jax.Array
    actions: jax.Array
    illegal: jax.Array
    is_finished: jax.Array
    gap: jax.Array
    unseen: Any


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its 95% confidence interval (normal approximation).

    Attributes:
      mean: in the unit of what was measured.
      interval: half the width, same unit.
    """

    mean: float
    interval: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Estimate":
        """Returns the estimate from independent `values` `[N]`."""
        values = np.asarray(values, np.float64)
        return cls(float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf"))


def live(
    interaction: Interaction,
    model: LanguageModel,
    config: RolloutConfig,
    params: Any,
    setting: Setting,
    key: jax.Array,
    num_lives: int,
    num_attempts: int = 1,
    unseen: Callable[[State], Any] | None = None,
) -> tuple[Lives, Stream]:
    """Lets `num_lives` lives be lived to their ends, one in each lane, however they were trained.

    Args:
      interaction: what they do.
      model: that writes.
      config: how lanes are rolled out; restarts are switched off and the stream is made as long as a life can be.
      params: of the model.
      setting: of the interaction.
      key: of these lives; no life of training has it.
      num_lives: `N`.
      num_attempts: `K`, attempts in a life, for `outcome_by_attempt`.
      unseen: `state -> arrays`, what of a life's first state the agent cannot see, such as a number to be guessed; or None.

    Returns:
      What was seen, and the streams.
    """
    config = dataclasses.replace(config, restarts=False, stream_length=0)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num_lives))
    key_lane, key_task = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    lanes = rollout.start_lanes(interaction, setting, config, key_lane, key_task)
    _, stream, _ = rollout.roll_out(interaction, model, config, params, setting, lanes)
    by_attempt = [jnp.sum(stream.reward.outcome * (stream.attempt == index), axis=1) for index in range(num_attempts)]
    lives = Lives(
        returned=jnp.sum(total_reward(stream.reward), axis=1),
        outcome=jnp.sum(stream.reward.outcome, axis=1),
        outcome_by_attempt=jnp.stack(by_attempt, axis=1),
        turns=jnp.sum(stream.ends_segment, axis=1),
        actions=jnp.sum(stream.ends_segment & (stream.kind == Kind.ACTION), axis=1),
        illegal=jnp.sum(stream.ends_segment & ~stream.is_legal, axis=1),
        is_finished=jnp.any(stream.ends_life, axis=1),
        gap=_gap(interaction, model, config, params, stream),
        unseen=jax.vmap(unseen)(lanes.state) if unseen else (),
    )
    return lives, stream


def _gap(interaction: Interaction, model: LanguageModel, config: RolloutConfig, params: Any, stream: Stream) -> jax.Array:
    """Returns the largest difference between the sampler's log-probs and the learner's, float32 `[N]`, nats."""

    def of_lane(lane: Stream) -> jax.Array:
        row = jax.tree.map(lambda x: x[None], lane)
        log_prob, _, _ = score(model, interaction.grammar, params, row, config.decoding.temperature)
        return jnp.max(jnp.where(row.is_written, jnp.abs(log_prob - row.log_prob), 0.0))

    return jax.lax.map(of_lane, stream, batch_size=min(16, len(stream.token)))


ABLATIONS = ("shuffled", "blanked", "expert")


def ablated(interaction: Interaction, stream: Stream, kind: Kind, how: str) -> Interaction:
    """Returns the interaction with its segments of a kind shuffled between lives, blanked, or said by its expert.

    Args:
      interaction: what the lives did.
      stream: `[N, T]`, lives lived without the ablation, from which the segments are taken.
      kind: of the segments.
      how: "shuffled", "blanked" or "expert".

    Returns:
      The interaction.

    Raises:
      ValueError: for another `how`, or if there is no expert.
    """
    if how not in ABLATIONS:
        raise ValueError(f"there is no ablation {how!r}; choose one of {', '.join(ABLATIONS)}")
    if how == "expert":
        return agents.replace_by_expert(interaction, kind)
    notes = written_segments(interaction, stream, kind)
    if how == "blanked":
        notes = notes._replace(length=jnp.zeros_like(notes.length))
    return agents.replace_segments(interaction, kind, notes)


def written_segments(interaction: Interaction, stream: Stream, kind: Kind) -> Text:
    """Returns what lives wrote in segments of a kind, ids `[N, S, capacity]` by life and order, without stop tokens.

    Args:
      interaction: what the lives did.
      stream: `[N, T]`, on the host: the number `S` of segments is read from it.
      kind: of the segments.
    """
    is_kind = stream.is_written & (stream.kind == kind)
    num_segments = max(1, int(np.max(np.sum(np.asarray(is_kind & stream.ends_segment), axis=1))))
    tokens = jnp.asarray(interaction.grammar.alphabet)[stream.written]
    said = jnp.where(tokens == interaction.grammar.stop_id, -1, tokens)
    return agents.segments(said, jnp.asarray(is_kind), jnp.asarray(stream.ends_segment), num_segments, interaction.size.written)


def bits_about(interaction: Interaction, stream: Stream, kind: Kind, hidden: np.ndarray) -> list[float]:
    """Returns what the segments of a kind tell about a hidden variable, bits, for the first, the second, ... segment of each life.

    Args:
      interaction: what the lives did.
      stream: `[N, T]`, on the host.
      kind: of the segments.
      hidden: `[N, ...]`, integers.
    """
    said = jax.tree.map(np.asarray, written_segments(interaction, stream, kind))
    is_said = np.arange(said.ids.shape[-1]) < said.length[..., None]
    rows = np.where(is_said, said.ids, -1)
    return [mutual_information(rows[:, index], hidden) for index in range(rows.shape[1])]


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Estimates the mutual information of two discrete variables, such as a note and the hidden task that it is about.

    The plug-in estimate is biased upwards where there are many values and few samples; what is left when `second` is shuffled, averaged
    over a few fixed shuffles, is taken off. (Plug-in estimate and its bias: Paninski 2003, "Estimation of entropy and mutual information".)

    Args:
      first: integers `[N]` or `[N, ...]`; a row is one value.
      second: integers `[N]` or `[N, ...]`.

    Returns:
      Bits, at least 0.
    """
    first, second = (np.unique(np.asarray(x).reshape(len(x), -1), axis=0, return_inverse=True)[1].ravel() for x in (first, second))

    def entropy(values: np.ndarray) -> float:
        share = np.unique(values, return_counts=True)[1] / len(values)
        return float(-np.sum(share * np.log2(share)))

    def plug_in(other: np.ndarray) -> float:
        return entropy(first) + entropy(other) - entropy(first * (other.max() + 1) + other)

    random = np.random.default_rng(0)
    bias = np.mean([plug_in(random.permutation(second)) for _ in range(8)])
    return max(0.0, plug_in(second) - float(bias))


def fraction_of_the_way(value: float, floor: float, ceiling: float) -> float:
    """Returns where `value` lies on the way from `floor` (0) to `ceiling` (1)."""
    return (value - floor) / (ceiling - floor)


def summarise(lives: Lives, floor: float, ceiling: float, success_at: float | None) -> dict[str, Any]:
    """Returns what an evaluation says, as plain numbers.

    Args:
      lives: what was seen.
      floor: the outcome of a life of random actions.
      ceiling: the best possible expected outcome, or a bound above it.
      success_at: outcome of an attempt from which it is a success; None where there is no such thing. A life is a success if any of its
        attempts is. Set it half-way between what a success earns and the next best: outcomes are sums of float32.

    Returns:
      `score` (mean outcome) and `fraction` of the way from floor to ceiling, with an interval; return, success, turns, actions, illegal
      share, unfinished share, outcome by attempt and the largest gap between log-probs.
    """
    outcome = Estimate.of(np.asarray(lives.outcome))
    estimates = {
        "return": Estimate.of(np.asarray(lives.returned)),
        "turns": Estimate.of(np.asarray(lives.turns)),
        "actions": Estimate.of(np.asarray(lives.actions)),
        "illegal_share": Estimate.of(np.asarray(lives.illegal) / np.maximum(np.asarray(lives.turns), 1)),
    }
    if success_at is not None:
        estimates["success"] = Estimate.of(np.any(np.asarray(lives.outcome_by_attempt) >= success_at, axis=1))
    return {
        "score": outcome.mean,
        "interval": outcome.interval / abs(ceiling - floor),
        "fraction": fraction_of_the_way(outcome.mean, floor, ceiling),
        "floor": floor,
        "ceiling": ceiling,
        **{name: estimate.mean for name, estimate in estimates.items()},
        **{f"{name}_interval": estimate.interval for name, estimate in estimates.items()},
        "outcome_by_attempt": np.asarray(lives.outcome_by_attempt, np.float64).mean(0).tolist(),
        "unfinished_share": float(1.0 - np.asarray(lives.is_finished).mean()),
        "max_log_prob_gap": float(np.asarray(lives.gap).max()),
    }
