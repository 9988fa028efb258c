"""Whether lives keep to the size that their interaction declares: streams and contexts are as long as it says."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.rollout.config import RolloutConfig
from arl.rollout.loop import roll_out, start_lanes
from arl.types import Interaction, Kind, LanguageModel, Setting, Stream


def check_size(interaction: Interaction, key: jax.Array, *, setting: Setting | None = None, num_lives: int = 64) -> None:
    """Lives lives of random legal texts and refuses an interaction that runs past its own `size`.

    Random lives do not go everywhere: what they find is wrong, but an interaction in which they find nothing may be wrong still.

    Args:
      interaction: to be checked.
      key: of these lives.
      setting: of the interaction; None for an empty one.
      num_lives: how many.

    Raises:
      ValueError: if a life is longer than `size` says, in tokens, turns, its context or one of its texts.
    """
    size = interaction.size
    beyond = 2 * size.life + size.read + size.written + 2  # a stream in which a life that is too long shows
    config = RolloutConfig(stream_length=beyond, context_length=beyond, widths=((1, max(size.read, 1)),))
    keys = jax.random.split(key, (2, num_lives))

    @jax.jit
    def live(keys):
        lanes = start_lanes(interaction, setting or {}, config, *keys)
        return roll_out(interaction, _uniform_model(), config, {}, setting or {}, lanes)[1]

    found = measure(jax.tree.map(np.asarray, live(keys)))
    for name, most in found.items():
        if most > (declared := getattr(size, name)):
            raise ValueError(
                f"a life reaches {most} where the interaction's size.{name} is {declared}; set size.{name} to the most that can be"
            )


def measure(stream: Stream) -> dict[str, int]:
    """Returns the largest of each number that `Size` bounds, over lives of which each stands in a lane of its own.

    Args:
      stream: `[B, T]`, on the host.
    """
    is_read = stream.token_kind > 0
    context = np.where(is_read, np.arange(is_read.shape[1]) - stream.begin + 1, 0)
    in_turn = functools.partial(_most_in_a_turn, stream.turn)
    begins_anew = is_read[:, 1:] & (stream.begin[:, 1:] != stream.begin[:, :-1])
    found = {
        "read": in_turn(is_read & (stream.token_kind <= Kind.OBSERVATION)),
        "written": in_turn(stream.is_written),
        "turns": np.sum(stream.ends_segment, axis=1),
        "life": np.sum(is_read, axis=1),
        "context": context,
        "forgets": np.sum(begins_anew, axis=1),
    }
    return {name: int(np.max(values)) for name, values in found.items()}


def _most_in_a_turn(turn: np.ndarray, which: np.ndarray) -> int:
    """Returns the most slots of one turn of a lane among those, bool `[B, T]`, that are asked for."""
    return max(int(np.max(np.bincount(row[some], minlength=1))) for row, some in zip(turn, which, strict=True))


def _uniform_model() -> LanguageModel:
    """Returns a model to which every token is as good as any, and which keeps nothing."""

    def features(tokens: jax.Array) -> jax.Array:
        return jnp.zeros((*tokens.shape, 1))

    def read(params: Any, tokens, position, begin, is_valid, cache, lane=None):
        return features(tokens), cache

    return LanguageModel(
        init=lambda key: {},
        empty_cache=lambda num_lanes, num_slots: (),
        read=read,
        score=lambda params, tokens, begin: features(tokens),
        logits=lambda params, features, alphabet: jnp.zeros((*features.shape[:-1], len(alphabet))),
        value=lambda params, features: jnp.zeros(features.shape[:-1]),
    )
