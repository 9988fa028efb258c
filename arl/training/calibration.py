"""Calibration: how well what an agent says of its own chances, in words or by a head, fits what happened."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import agents, objectives, text
from arl.models import Policy
from arl.training.credit import successes
from arl.types import ArlError, Interaction, Kind, Trajectory


class Forecasts(NamedTuple):
    """Probabilities of success, and what happened.

    Attributes:
      confidence: float32 `[N, T]`, the probability.
      is_right: bool `[N, T]`, whether there was success.
      mask: bool `[N, T]`, the positions that have a forecast.
    """

    confidence: jax.Array
    is_right: jax.Array
    mask: jax.Array


def confidence_layer(interaction: Interaction) -> agents.Confidence:
    """Returns the layer with which an agent states its confidence.

    Raises:
      ArlError: if there is none.
    """
    for layer in interaction.layers:
        if isinstance(layer, agents.Confidence):
            return layer
    raise ArlError("the agent states no confidence; put a Confidence layer around it")


def stated(interaction: Interaction, trajectory: Trajectory) -> Forecasts:
    """Returns the confidences that an agent stated, where it stated them; illegal ones are left out.

    Args:
      interaction: the agent in its environment.
      trajectory: `[N, T]`.

    Raises:
      ArlError: if the agent states no confidence.
    """
    layer, grammar = confidence_layer(interaction), interaction.grammar
    ends, index = trajectory.is_sampled & trajectory.ends_segment, jnp.arange(trajectory.token.shape[1])
    state = jax.vmap(jax.vmap(lambda state, token: text.follow(grammar, state, token)))(trajectory.grammar_state, trajectory.sampled)
    choice = jnp.asarray(grammar.choice)[jnp.asarray(grammar.forced_state)[state]]
    mask = ends & (trajectory.kind == Kind.CONFIDENCE) & trajectory.is_legal & (choice >= 0)
    confidence = jnp.asarray(layer.probabilities)[jnp.clip(choice, 0, len(layer.levels) - 1)]
    acted = jax.lax.cummax(jnp.where(ends & (trajectory.kind == Kind.ACTION), index, 0), axis=1)
    outcome = jnp.take_along_axis(jnp.asarray(trajectory.reward.outcome), acted, axis=1)
    was_legal = jnp.take_along_axis(jnp.asarray(trajectory.is_legal), acted, axis=1)
    return Forecasts(confidence, was_legal & (outcome >= layer.right_at), mask)


def foreseen(policy: Policy, variables: Any, trajectory: Trajectory, success_at: float) -> Forecasts:
    """Returns what the head "confidence" says where an action begins, and whether the attempt succeeded.

    Args:
      policy: a policy with that head.
      variables: its variables.
      trajectory: `[N, T]`.
      success_at: outcome of an attempt from which it is a success, in the environment's units.
    """

    def of_lane(lane: tuple[jax.Array, jax.Array]) -> jax.Array:
        token, context_start = (x[None] for x in lane)
        return policy.heads["confidence"](variables, policy.forward(variables, token, context_start))[0]

    lanes = jnp.asarray(trajectory.token), jnp.asarray(trajectory.context_start)
    confidence = jax.lax.map(of_lane, lanes, batch_size=min(64, len(trajectory.token)))
    is_success, is_known = successes(trajectory, success_at)
    acts = trajectory.is_sampled & (trajectory.kind == Kind.ACTION)
    return Forecasts(confidence, is_success, is_known & acts & _begins(acts, trajectory))


def _begins(acts: jax.Array, trajectory: Trajectory) -> jax.Array:
    """Returns whether a position of `acts` is the first of its turn, bool `[N, T]`; forced tokens may lie between those of a segment."""
    index = jnp.where(acts, jnp.arange(acts.shape[1]), -1)
    before = jnp.pad(jax.lax.cummax(index, axis=1)[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    turn, episode = (jnp.take_along_axis(jnp.asarray(x), jnp.maximum(before, 0), axis=1) for x in (trajectory.turn, trajectory.episode))
    return (before < 0) | (turn != trajectory.turn) | (episode != trajectory.episode)


def summarise_forecasts(forecasts: Forecasts) -> dict[str, float]:
    """Summarises forecasts as plain numbers.

    Args:
      forecasts: the forecasts.

    Returns:
      Values by name, all without unit; empty if there is no forecast.

      - `brier`: mean Brier score.
      - `calibration_error`: expected calibration error, in ten bins.
      - `base_rate_brier`: Brier score of the base rate, which needs no knowledge of the single case.
      - `right`: fraction of successes.
      - `mean`: mean confidence.
    """
    mask = np.asarray(forecasts.mask)
    if not mask.any():
        return {}
    confidence, is_right = (jnp.asarray(np.asarray(x)[mask]) for x in forecasts[:2])
    everywhere, right = jnp.ones(confidence.shape, bool), float(jnp.mean(is_right))
    return {
        "brier": float(jnp.mean(objectives.brier(confidence, is_right, everywhere))),
        "calibration_error": float(objectives.calibration_error(confidence, is_right, everywhere)),
        "base_rate_brier": right * (1 - right),
        "right": right,
        "mean": float(jnp.mean(confidence)),
    }
