"""Metrics of trajectories, computed from sums that add up over devices."""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from arl.rollout import Usage
from arl.training.credit import is_imitated
from arl.types import Kind, Size, Trajectory

WRITTEN_KINDS = tuple(kind for kind in Kind if kind > Kind.OBSERVATION)


def trajectory_metrics(
    trajectory: Trajectory, usage: Usage, total: Callable = lambda x: x, kinds: Collection[Kind] = WRITTEN_KINDS
) -> dict[str, jax.Array]:
    """Returns metrics of a batch of trajectories.

    Per episode means a sum over all positions divided by the number of episodes that ended. That is exact if trajectories hold whole
    episodes, and right on average if episodes continue in the next trajectory.

    Args:
      trajectory: `[B, T]`.
      usage: work of the rollout.
      total: adds a value up over devices.
      kinds: kinds of the segments that the agent writes; the metrics of other kinds are left out.

    Returns:
      float32 `[]` by name:

      - `return`: environment's units per episode, undiscounted sum of all components of the reward but `own`.
      - `return/<component>`: environment's units per episode, undiscounted sum of one component of the reward.
      - `episodes`: count, episodes that ended.
      - `whole_episodes`: count, episodes that ended and began in the same trajectory.
      - `turns`: segments per episode.
      - `sampled`: tokens per episode, sampled ones only.
      - `illegal_fraction`: fraction of segments, those that the grammar rejected.
      - `unfinished_fraction`: fraction of episodes, those that their trajectory cut off.
      - `useful_fraction`: fraction of the tokens computed, those that are not padding.
      - `tokens`: tokens, read in all.
      - `calls`: count, calls of the model.
      - `tokens/<kind>`: fraction of the tokens read, those of a kind. What a layer passes on to a later context is read as an observation.
      - `sampled/<kind>`: sampled tokens in segments of a kind, per token read.
      - `entropy/<kind>`: nats per token, mean negative log-prob of the sampled tokens of a kind; the cross-entropy if an expert writes.
    """
    is_read = trajectory.token_kind > 0
    sums = {
        "episodes": jnp.sum(trajectory.ends_episode),
        "whole_episodes": jnp.sum(trajectory.ends_episode & ((trajectory.episode > 0) | (trajectory.turn[:, :1] == 0))),
        "unfinished": jnp.sum(~jnp.take_along_axis(trajectory.ends_episode, _last_event(trajectory)[:, None], axis=1)),
        "segments": jnp.sum(trajectory.ends_segment),
        "illegal": jnp.sum(trajectory.ends_segment & ~trajectory.is_legal),
        "sampled": jnp.sum(trajectory.is_sampled),
        "tokens": jnp.sum(is_read),
        "computed": usage.num_computed,
        "calls": usage.num_calls,
        **{f"return/{name}": jnp.sum(value) for name, value in trajectory.reward._asdict().items()},
        **{f"tokens/{kind.name.lower()}": jnp.sum(trajectory.token_kind == kind) for kind in (Kind.PROMPT, Kind.OBSERVATION, *kinds)},
    }
    written = [kind.name.lower() for kind in kinds]
    for kind in kinds:
        is_kind = trajectory.is_sampled & (trajectory.kind == kind)
        sums[f"sampled/{kind.name.lower()}"] = jnp.sum(is_kind)
        sums[f"entropy/{kind.name.lower()}"] = jnp.sum(jnp.where(is_kind, -trajectory.log_prob, 0.0))
    sums = total({name: value.astype(jnp.float32) for name, value in sums.items()})
    episodes = jnp.maximum(sums["episodes"], 1.0)
    returns = {name: value / episodes for name, value in sums.items() if name.startswith("return/")}
    return {
        "return": jnp.sum(jnp.stack([value for name, value in returns.items() if name != "return/own"])),
        **returns,
        "episodes": sums["episodes"],
        "whole_episodes": sums["whole_episodes"],
        "turns": sums["segments"] / episodes,
        "sampled": sums["sampled"] / episodes,
        "illegal_fraction": sums["illegal"] / jnp.maximum(sums["segments"], 1.0),
        "unfinished_fraction": sums["unfinished"] / jnp.maximum(sums["episodes"] + sums["unfinished"], 1.0),
        "useful_fraction": sums["tokens"] / sums["computed"],
        "tokens": sums["tokens"],
        "calls": sums["calls"],
        **{name: value / jnp.maximum(sums["tokens"], 1.0) for name, value in sums.items() if name.startswith("tokens/")},
        **{f"sampled/{kind}": sums[f"sampled/{kind}"] / jnp.maximum(sums["tokens"], 1.0) for kind in written},
        **{f"entropy/{kind}": sums[f"entropy/{kind}"] / jnp.maximum(sums[f"sampled/{kind}"], 1.0) for kind in written},
    }


def size_metrics(trajectory: Trajectory, size: Size, total: Callable = lambda x: x) -> dict[str, jax.Array]:
    """Returns a metric that tells whether episodes exceed the size that their interaction declares.

    Args:
      trajectory: `[B, T]`.
      size: size of the interaction.
      total: adds a value up over devices.

    Returns:
      float32 `[]` by name:

      - `beyond_size_fraction`: fraction of lanes, those in which an episode has more than `size.turns` segments or a context more than
        `size.context` tokens. If it is not 0, `size` is wrong and returns are those of episodes that were cut off.
    """
    position = jnp.arange(trajectory.token.shape[1])
    is_beyond = trajectory.is_sampled & ((trajectory.turn >= size.turns) | (position - trajectory.context_start >= size.context))
    lanes, all_lanes = total(jnp.sum(jnp.any(is_beyond, axis=1) * 1.0)), total(jnp.float32(len(trajectory.token)))
    return {"beyond_size_fraction": lanes / all_lanes}


def imitation_metrics(trajectory: Trajectory, total: Callable = lambda x: x) -> dict[str, jax.Array]:
    """Returns metrics of what other authors than the policy wrote.

    Args:
      trajectory: `[B, T]`.
      total: adds a value up over devices.

    Returns:
      float32 `[]` by name:

      - `negative_log_likelihood`: nats per token, mean over the tokens of other authors that had an alternative.
      - `imitated_tokens`: count of these tokens.
      - `imitated_fraction`: fraction of the sampled tokens, those of other authors.
    """
    imitated = is_imitated(trajectory)
    sums = {
        "surprise": jnp.sum(jnp.where(imitated, -trajectory.log_prob, 0.0)),
        "imitated": jnp.sum(imitated * 1.0),
        "others": jnp.sum((trajectory.is_sampled & (trajectory.author > 0)) * 1.0),
        "sampled": jnp.sum(trajectory.is_sampled * 1.0),
    }
    sums = total(sums)
    return {
        "negative_log_likelihood": sums["surprise"] / jnp.maximum(sums["imitated"], 1.0),
        "imitated_tokens": sums["imitated"],
        "imitated_fraction": sums["others"] / jnp.maximum(sums["sampled"], 1.0),
    }


def _last_event(trajectory: Trajectory) -> jax.Array:
    """Returns int32 `[B]`, the last position of each lane at which a token was sampled or an episode ended."""
    index = jnp.arange(trajectory.token.shape[1])
    happened = trajectory.is_sampled | trajectory.ends_episode
    return jnp.max(jnp.where(happened, index, 0), axis=1)
