"""What a stream says about training, as numbers that add up over devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from arl.rollout import Usage
from arl.types import Kind, Size, Stream

WRITTEN_KINDS = tuple(kind.name.lower() for kind in Kind if kind > Kind.OBSERVATION)


def stream_metrics(stream: Stream, usage: Usage, total: Callable = lambda x: x) -> dict[str, jax.Array]:
    """Returns means and counts over a batch of streams.

    The return is the reward of all slots by the number of lives that ended: exact where every stream holds whole lives, right in the long
    run where lives cross streams.

    Args:
      stream: `[B, T]`.
      usage: what the rollout computed.
      total: adds sums up over devices.

    Returns:
      float32 `[]` by name: `return` and `return/<component>` a life, `illegal_share` of segments, `turns` and `written` a life,
      `unfinished_share` of lives, `useful_share` of computed slots, `tokens/<kind>`, the share of each kind in the tokens read,
      `written/<kind>`, the tokens written in segments of a kind by the tokens read (a note that crosses a border is read as an
      observation), and `entropy/<kind>`, the mean of minus the log-prob of what was written, nats (of an expert's words the
      cross-entropy). Counts are `lives` that ended, `whole_lives` among them that began in the same stream, `tokens` read and `calls` of
      the model.
    """
    is_read = stream.token_kind > 0
    sums = {
        "lives": jnp.sum(stream.ends_life),
        "whole_lives": jnp.sum(stream.ends_life & ((stream.life > 0) | (stream.turn[:, :1] == 0))),
        "unfinished": jnp.sum(~jnp.take_along_axis(stream.ends_life, _last_event(stream)[:, None], axis=1)),
        "segments": jnp.sum(stream.ends_segment),
        "illegal": jnp.sum(stream.ends_segment & ~stream.is_legal),
        "written": jnp.sum(stream.is_written),
        "tokens": jnp.sum(is_read),
        "slots": usage.num_slots,
        "calls": usage.num_calls,
        **{f"return/{name}": jnp.sum(value) for name, value in stream.reward._asdict().items()},
        **{f"tokens/{kind.name.lower()}": jnp.sum(stream.token_kind == kind) for kind in Kind if kind},
    }
    for kind in WRITTEN_KINDS:
        is_kind = stream.is_written & (stream.kind == Kind[kind.upper()])
        sums[f"written/{kind}"] = jnp.sum(is_kind)
        sums[f"entropy/{kind}"] = jnp.sum(jnp.where(is_kind, -stream.log_prob, 0.0))
    sums = total({name: value.astype(jnp.float32) for name, value in sums.items()})
    lives = jnp.maximum(sums["lives"], 1.0)
    returns = {name: value / lives for name, value in sums.items() if name.startswith("return/")}
    return {
        "return": jnp.sum(jnp.stack(list(returns.values()))),
        **returns,
        "lives": sums["lives"],
        "whole_lives": sums["whole_lives"],
        "turns": sums["segments"] / lives,
        "written": sums["written"] / lives,
        "illegal_share": sums["illegal"] / jnp.maximum(sums["segments"], 1.0),
        "unfinished_share": sums["unfinished"] / jnp.maximum(sums["lives"] + sums["unfinished"], 1.0),
        "useful_share": sums["tokens"] / sums["slots"],
        "tokens": sums["tokens"],
        "calls": sums["calls"],
        **{name: value / jnp.maximum(sums["tokens"], 1.0) for name, value in sums.items() if name.startswith("tokens/")},
        **{f"written/{kind}": sums[f"written/{kind}"] / jnp.maximum(sums["tokens"], 1.0) for kind in WRITTEN_KINDS},
        **{f"entropy/{kind}": sums[f"entropy/{kind}"] / jnp.maximum(sums[f"written/{kind}"], 1.0) for kind in WRITTEN_KINDS},
    }


def size_metrics(stream: Stream, size: Size, total: Callable = lambda x: x) -> dict[str, jax.Array]:
    """Returns whether lives keep to the size that their interaction declares, from which streams and contexts are made.

    Args:
      stream: `[B, T]`.
      size: of the interaction.
      total: adds sums up over devices.

    Returns:
      float32 `[]` by name: `beyond_size_share` of lanes in which a life wrote more segments than `size.turns`, or a context held more
      tokens than `size.context`. It should be 0: else `size` is wrong, and returns are those of lives that were cut.
    """
    position = jnp.arange(stream.token.shape[1])
    is_beyond = stream.is_written & ((stream.turn >= size.turns) | (position - stream.begin >= size.context))
    lanes, all_lanes = total(jnp.sum(jnp.any(is_beyond, axis=1) * 1.0)), total(jnp.float32(len(stream.token)))
    return {"beyond_size_share": lanes / all_lanes}


def imitation_metrics(log_prob: jax.Array, is_kept: jax.Array, total: Callable = lambda x: x) -> dict[str, jax.Array]:
    """Returns how far a model is from its expert.

    Args:
      log_prob: float32 `[B, T]`, nats, of the expert's tokens under the model.
      is_kept: bool `[B, T]`, those that it learns from.
      total: adds sums up over devices.

    Returns:
      float32 `[]` by name: `negative_log_likelihood`, nats a token.
    """
    surprise, count = total(jnp.sum(jnp.where(is_kept, -log_prob, 0.0))), total(jnp.sum(is_kept * 1.0))
    return {"negative_log_likelihood": surprise / jnp.maximum(count, 1.0)}


def _last_event(stream: Stream) -> jax.Array:
    """Returns int32 `[B]`, the last slot of each lane at which something was decided or a life was closed."""
    index = jnp.arange(stream.token.shape[1])
    happened = stream.is_written | stream.ends_life
    return jnp.max(jnp.where(happened, index, 0), axis=1)
