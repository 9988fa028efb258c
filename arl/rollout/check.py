"""A check that no episode is longer than the `Size` its interaction declares, from which trajectories and contexts are sized."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.models import Policy, Variables
from arl.rollout.config import RolloutConfig
from arl.rollout.loop import roll_out, start_lanes
from arl.types import ArlError, Curriculum, Interaction, Kind, Trajectory


def check_size(interaction: Interaction, key: jax.Array, *, curriculum: Curriculum | None = None, num_episodes: int = 64) -> None:
    """Plays episodes of random legal texts and refuses an interaction that exceeds its own `size`.

    Random episodes do not reach every state, so a check that passes is no proof.

    Args:
      interaction: the interaction to check.
      key: random key of these episodes.
      curriculum: curriculum of the interaction; None for an empty one.
      num_episodes: number of episodes.

    Raises:
      ArlError: if an episode exceeds a bound of `size`: its tokens, turns, context, context resets or one of its texts.
    """
    size = interaction.size
    beyond = 2 * size.episode + size.read + size.written + 2  # long enough for an episode that is too long to show
    config = RolloutConfig(trajectory_length=beyond, context_length=beyond, widths=((1, max(size.read, 1)),))
    keys = jax.random.split(key, (2, num_episodes))
    policy = _uniform_policy(int(interaction.grammar.candidates.max()) + 1)

    @jax.jit
    def live(keys):
        lanes = start_lanes(interaction, curriculum or {}, config, *keys)
        return roll_out(interaction, policy, config, Variables(()), curriculum or {}, lanes)[1]

    found = measure(jax.tree.map(np.asarray, live(keys)))
    for name, most in found.items():
        if most > (declared := getattr(size, name)):
            raise ArlError(
                f"an episode reaches {most} where the interaction's size.{name} is {declared}; set size.{name} to the most that can be"
            )


def measure(trajectory: Trajectory) -> dict[str, int]:
    """Returns the largest value of each quantity that `Size` bounds, over trajectories with one episode in each lane.

    Args:
      trajectory: `[B, T]`, on the host.
    """
    is_read = trajectory.token_kind > 0
    context = np.where(is_read, np.arange(is_read.shape[1]) - trajectory.context_start + 1, 0)
    in_turn = functools.partial(_most_in_a_turn, trajectory.turn)
    is_reset = is_read[:, 1:] & (trajectory.context_start[:, 1:] != trajectory.context_start[:, :-1])
    found = {
        "read": in_turn(is_read & (trajectory.token_kind <= Kind.OBSERVATION)),
        "written": in_turn(trajectory.is_sampled),
        "turns": np.sum(trajectory.ends_segment, axis=1),
        "episode": np.sum(is_read, axis=1),
        "context": context,
        "context_resets": np.sum(is_reset, axis=1),
    }
    return {name: int(np.max(values)) for name, values in found.items()}


def _most_in_a_turn(turn: np.ndarray, which: np.ndarray) -> int:
    """Returns the largest number of positions that one turn of a lane has where `which`, bool `[B, T]`, is true."""
    return max(int(np.max(np.bincount(row[some], minlength=1))) for row, some in zip(turn, which, strict=True))


def _uniform_policy(vocab_size: int) -> Policy:
    """Returns a policy without variables or cache under which all tokens are equally probable."""

    def features(tokens: jax.Array) -> jax.Array:
        return jnp.zeros((*tokens.shape, 1))

    def read(variables: Any, tokens, position, context_start, is_valid, cache, lane=None):
        return features(tokens), cache

    return Policy(
        init=lambda key, pretrained=None: Variables(()),
        empty_cache=lambda num_lanes, num_slots: (),
        read=read,
        forward=lambda variables, tokens, context_start: features(tokens),
        logits=lambda variables, features, candidates: jnp.zeros((*features.shape[:-1], len(candidates))),
        heads={"value": lambda variables, features: jnp.zeros(features.shape[:-1])},
        vocab_size=vocab_size,
    )
