"""Evaluation: a fixed number of whole episodes on held-out seeds, and estimates of means with confidence intervals."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import agents, rollout
from arl.models import Policy
from arl.rollout import RolloutConfig
from arl.task import Bounds
from arl.training.credit import total_reward
from arl.training.scoring import score
from arl.types import ArlError, Curriculum, Interaction, Kind, State, Text, Trajectory


class Episodes(NamedTuple):
    """Measurements of `N` episodes, of `K` attempts each.

    Attributes:
      returned: float32 `[N]`, undiscounted sum of all components of the reward but `own`, in the environment's units.
      outcome: float32 `[N]`, sum of the outcome rewards, same units.
      outcome_by_attempt: float32 `[N, K]`, the same for each attempt.
      turns: int32 `[N]`, number of segments.
      actions: int32 `[N]`, number of segments of kind ACTION.
      illegal: int32 `[N]`, number of illegal segments.
      is_finished: bool `[N]`, whether the episode ended within its trajectory.
      gap: float32 `[N]`, largest difference between the log-probs of the sampler and of the learner, nats.
      recorded: arrays `[N, ...]`, what `play` was asked to record of the first state; an empty tuple if nothing.
    """

    returned: jax.Array
    outcome: jax.Array
    outcome_by_attempt: jax.Array
    turns: jax.Array
    actions: jax.Array
    illegal: jax.Array
    is_finished: jax.Array
    gap: jax.Array
    recorded: Any


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its 95% confidence interval (normal approximation).

    Attributes:
      mean: mean, in the unit of the values.
      interval: half-width of the interval, same unit.
    """

    mean: float
    interval: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Estimate":
        """Returns the estimate from independent values `[N]`."""
        values = np.asarray(values, np.float64)
        return cls(float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf"))


def play(
    interaction: Interaction,
    policy: Policy,
    config: RolloutConfig,
    variables: Any,
    curriculum: Curriculum,
    key: jax.Array,
    num_episodes: int,
    num_attempts: int = 1,
    record: Callable[[State], Any] | None = None,
) -> tuple[Episodes, Trajectory]:
    """Plays whole episodes, one in each lane.

    Args:
      interaction: the agent in its environment.
      policy: the policy that writes.
      config: config of the rollout, of which restarts and the trajectory's length are replaced so that each lane holds one whole episode.
      variables: variables of the policy.
      curriculum: curriculum of the interaction.
      key: random key of these episodes, different from those of training.
      num_episodes: `N`, number of episodes.
      num_attempts: `K`, number of attempts in an episode.
      record: `state -> arrays`, what to record of the first state, such as the number to be guessed; None for nothing.

    Returns:
      `Episodes`, and the trajectories `[N, T]`.
    """
    config = dataclasses.replace(config, restarts=False, trajectory_length=0)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num_episodes))
    key_lane, key_task = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    lanes = rollout.start_lanes(interaction, curriculum, config, key_lane, key_task)
    _, trajectory, _ = rollout.roll_out(interaction, policy, config, variables, curriculum, lanes)
    by_attempt = [jnp.sum(trajectory.reward.outcome * (trajectory.attempt == index), axis=1) for index in range(num_attempts)]
    episodes = Episodes(
        returned=jnp.sum(total_reward(trajectory.reward), axis=1),
        outcome=jnp.sum(trajectory.reward.outcome, axis=1),
        outcome_by_attempt=jnp.stack(by_attempt, axis=1),
        turns=jnp.sum(trajectory.ends_segment, axis=1),
        actions=jnp.sum(trajectory.ends_segment & (trajectory.kind == Kind.ACTION), axis=1),
        illegal=jnp.sum(trajectory.ends_segment & ~trajectory.is_legal, axis=1),
        is_finished=jnp.any(trajectory.ends_episode, axis=1),
        gap=_gap(interaction, policy, config, variables, trajectory),
        recorded=jax.vmap(record)(lanes.state) if record else (),
    )
    return episodes, trajectory


def _gap(interaction: Interaction, policy: Policy, config: RolloutConfig, variables: Any, trajectory: Trajectory) -> jax.Array:
    """Returns the largest difference between the log-probs of the sampler and of the learner in each episode, float32 `[N]`, nats."""

    def of_lane(lane: Trajectory) -> jax.Array:
        row = jax.tree.map(lambda x: x[None], lane)
        log_prob, _, _ = score(policy, interaction.grammar, variables, row, config.decoding.temperature)
        return jnp.max(jnp.where(row.is_sampled, jnp.abs(log_prob - row.log_prob), 0.0))

    return jax.lax.map(of_lane, trajectory, batch_size=min(16, len(trajectory.token)))


ABLATIONS = ("shuffled", "blanked", "expert")


def ablated(interaction: Interaction, trajectory: Trajectory, kind: Kind, how: str) -> Interaction:
    """Returns an interaction whose segments of a kind are replaced, to measure what they are worth.

    Args:
      interaction: the agent in its environment.
      trajectory: `[N, T]`, episodes played without the ablation, whose segments are used by "shuffled".
      kind: kind of the segments to replace.
      how: "shuffled" takes the segments of other episodes, "blanked" empty ones, and "expert" those of the expert.

    Returns:
      The interaction.

    Raises:
      ArlError: if `how` is something else, or there is no expert.
    """
    if how not in ABLATIONS:
        raise ArlError(f"there is no ablation {how!r}; choose one of {', '.join(ABLATIONS)}")
    if how == "expert":
        return agents.replace_by_expert(interaction, kind)
    notes = written_segments(interaction, trajectory, kind)
    if how == "blanked":
        notes = notes._replace(length=jnp.zeros_like(notes.length))
    return agents.replace_segments(interaction, kind, notes)


def written_segments(interaction: Interaction, trajectory: Trajectory, kind: Kind) -> Text:
    """Returns the segments of a kind that episodes wrote.

    Args:
      interaction: the agent in its environment.
      trajectory: `[N, T]`, on the host, as the number of segments depends on it.
      kind: kind of the segments.

    Returns:
      `Text` of ids `[N, S, capacity]` without stop tokens: the segments of each episode in order, `S` for the most that one has.
    """
    is_kind = trajectory.is_sampled & (trajectory.kind == kind)
    num_segments = max(1, int(np.max(np.sum(np.asarray(is_kind & trajectory.ends_segment), axis=1))))
    said = jnp.where(trajectory.sampled == interaction.grammar.stop_id, -1, trajectory.sampled)
    return agents.segments(said, jnp.asarray(is_kind), jnp.asarray(trajectory.ends_segment), num_segments, interaction.size.written)


def segment_information(interaction: Interaction, trajectory: Trajectory, kind: Kind, hidden: np.ndarray) -> list[float]:
    """Returns the mutual information of segments and a hidden variable.

    Args:
      interaction: the agent in its environment.
      trajectory: `[N, T]`, on the host.
      kind: kind of the segments.
      hidden: integers `[N, ...]`, the hidden variable of each episode.

    Returns:
      Bits, for the first segment of each episode, the second, and so on.
    """
    said = jax.tree.map(np.asarray, written_segments(interaction, trajectory, kind))
    is_said = np.arange(said.ids.shape[-1]) < said.length[..., None]
    rows = np.where(is_said, said.ids, -1)
    return [mutual_information(rows[:, index], hidden) for index in range(rows.shape[1])]


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Estimates the mutual information of two discrete variables, such as a note and the hidden task that it is about.

    The plug-in estimate is biased upwards for many values and few samples (Paninski 2003, "Estimation of entropy and mutual information").
    The bias is estimated by the mean over a few fixed shuffles of `second`, and subtracted.

    Args:
      first: integers `[N]` or `[N, ...]`; each row is one value.
      second: integers `[N]` or `[N, ...]`; each row is one value.

    Returns:
      Bits, at least 0.
    """
    first, second = (np.unique(np.asarray(x).reshape(len(x), -1), axis=0, return_inverse=True)[1].ravel() for x in (first, second))

    def entropy(values: np.ndarray) -> float:
        probability = np.unique(values, return_counts=True)[1] / len(values)
        return float(-np.sum(probability * np.log2(probability)))

    def plug_in(other: np.ndarray) -> float:
        return entropy(first) + entropy(other) - entropy(first * (other.max() + 1) + other)

    random = np.random.default_rng(0)
    bias = np.mean([plug_in(random.permutation(second)) for _ in range(8)])
    return max(0.0, plug_in(second) - float(bias))


def normalised_score(outcome: float, bounds: Bounds) -> float:
    """Returns the normalised score of an outcome: 0 for random actions, 1 for optimal ones.

    Args:
      outcome: mean outcome of an episode, in the environment's units.
      bounds: bounds of that outcome.
    """
    return (outcome - bounds.random) / (bounds.optimal - bounds.random)


def summarise(episodes: Episodes, bounds: Bounds | None) -> dict[str, Any]:
    """Summarises an evaluation as plain numbers.

    Args:
      episodes: measurements of the episodes.
      bounds: bounds of the outcome of an episode; None if they are not known.

    Returns:
      Values by name. Intervals are half-widths of 95% confidence intervals.

      - `score`: environment's units, mean outcome of an episode.
      - `score_interval`: environment's units.
      - `normalised_score`: no unit, that outcome on the scale from random (0) to optimal (1); only with bounds, as the next four.
      - `interval`: no unit, interval of `normalised_score`.
      - `random`, `optimal`, `optimal_is`: as in `Bounds`.
      - `return`: environment's units, mean return.
      - `turns`: segments per episode.
      - `actions`: ACTION segments per episode; of a vote, every proposal.
      - `illegal_fraction`: mean fraction of illegal segments in an episode.
      - `success`: fraction of episodes in which an attempt has an outcome of at least `success_at`; only if the bounds have one.
      - `<name>_interval`: interval of `return`, `turns`, `actions`, `illegal_fraction` and `success`.
      - `outcome_by_attempt`: environment's units, mean outcome of each attempt.
      - `unfinished_fraction`: fraction of episodes that did not end within their trajectory.
      - `max_log_prob_gap`: nats, largest difference between the log-probs of the sampler and of the learner.
    """
    outcome = Estimate.of(np.asarray(episodes.outcome))
    estimates = {
        "return": Estimate.of(np.asarray(episodes.returned)),
        "turns": Estimate.of(np.asarray(episodes.turns)),
        "actions": Estimate.of(np.asarray(episodes.actions)),
        "illegal_fraction": Estimate.of(np.asarray(episodes.illegal) / np.maximum(np.asarray(episodes.turns), 1)),
    }
    if bounds is not None and bounds.success_at is not None:
        estimates["success"] = Estimate.of(np.any(np.asarray(episodes.outcome_by_attempt) >= bounds.success_at, axis=1))
    return {
        "score": outcome.mean,
        "score_interval": outcome.interval,
        **(_on_scale(outcome, bounds) if bounds else {}),
        **{name: estimate.mean for name, estimate in estimates.items()},
        **{f"{name}_interval": estimate.interval for name, estimate in estimates.items()},
        "outcome_by_attempt": np.asarray(episodes.outcome_by_attempt, np.float64).mean(0).tolist(),
        "unfinished_fraction": float(1.0 - np.asarray(episodes.is_finished).mean()),
        "max_log_prob_gap": float(np.asarray(episodes.gap).max()),
    }


def _on_scale(outcome: Estimate, bounds: Bounds) -> dict[str, Any]:
    return {
        "interval": outcome.interval / abs(bounds.optimal - bounds.random),
        "normalised_score": normalised_score(outcome.mean, bounds),
        "random": bounds.random,
        "optimal": bounds.optimal,
        "optimal_is": bounds.optimal_is,
    }
