"""The rollout: one loop in which lanes read what is in their inboxes and write when they have read all.

Lanes think, act, reflect and restart out of step. Nothing of an environment or a cognitive capability is known here: only turns.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.rollout import decoding as decode
from arl.rollout import expert as experts
from arl.rollout import lanes as lane_steps
from arl.rollout import schedule
from arl.rollout.config import RolloutConfig, fit
from arl.rollout.lanes import Event, Lane
from arl.types import Interaction, LanguageModel, Reward, Setting, Stream, select

EVERY_LETTER = 0xFFFFFFFF  # bits of a support that keeps all


class Usage(NamedTuple):
    """What a rollout computed.

    Attributes:
      num_slots: float32 `[]`, token slots that the model computed.
      num_calls: int32 `[]`, calls of the model.
    """

    num_slots: jax.Array
    num_calls: jax.Array


def start_lanes(interaction: Interaction, setting: Setting, config: RolloutConfig, keys: jax.Array, start_keys: jax.Array) -> Lane:
    """Returns lanes `[B]` at the beginning of their lives.

    Args:
      interaction: what the lanes do.
      setting: its setting.
      config: of the rollout that they are for.
      keys: `[B]`, each lane's own.
      start_keys: `[B]`, from which the first tasks are made; the lanes of a group share theirs.

    Returns:
      A batch of `Lane`.
    """
    config = fit(config, interaction)
    capacity = lane_steps.inbox_capacity(interaction, config.context_length if config.restarts else 0)
    lanes = lane_steps.open_lanes(interaction, setting, capacity, keys, start_keys)
    return experts.first_texts(interaction, lanes) if config.expert else lanes


def roll_out(
    interaction: Interaction,
    model: LanguageModel,
    config: RolloutConfig,
    params: Any,
    setting: Setting,
    lanes: Lane,
    axis_name: str | None = None,
) -> tuple[Lane, Stream, Usage]:
    """Lets each lane read and write until it stops or has read `T` tokens.

    Args:
      interaction: what the lanes do.
      model: that writes.
      config: of the rollout.
      params: of the model.
      setting: of the interaction.
      lanes: `[B]`, at position 0.
      axis_name: of a `vmap` over whole rollouts, if there is one.

    Returns:
      The lanes as the next stream finds them (of use where they restart), the stream `[B, T]`, and what was computed.
    """
    config, num_lanes = fit(config, interaction), lanes.position.shape[0]
    shapes = schedule.make_shapes(num_lanes, config.widths)
    stream = _empty_stream(interaction, num_lanes, config.stream_length)
    calls = [functools.partial(_call, interaction, model, config, shape, params, setting) for shape in shapes]

    def is_true_anywhere(condition):
        return condition if axis_name is None else jax.lax.psum(condition.astype(jnp.int32), axis_name) > 0

    def is_running(slots, carry):
        unread = _unread(carry[0], config)
        running = is_true_anywhere(jnp.any(unread > 0))
        if slots == config.num_slots:
            return running
        reach = jnp.max(carry[0].position + jnp.minimum(unread, config.widest))
        return running & ~is_true_anywhere(reach > slots)

    def is_best(which, slots, carry):
        best = schedule.choose(shapes, _unread(carry[0], config), config.overhead, axis_name)
        return is_running(slots, carry) & (best == which)

    def call(which, carry):
        lanes, cache, stream, usage = carry
        lanes, cache, stream = calls[which](lanes, cache, stream)
        cost = shapes[which].lanes * shapes[which].width
        return lanes, cache, stream, Usage(usage.num_slots + cost, usage.num_calls + 1)

    def call_each(slots, carry):
        # A loop for each shape, which goes on while it is the best, and not one `switch`: XLA changes what a loop carries in place, but
        # copies the cache into a conditional and out of it.
        for which in range(len(shapes)):
            carry = jax.lax.while_loop(functools.partial(is_best, which, slots), functools.partial(call, which), carry)
        return carry

    usage, cache = Usage(jnp.float32(0.0), jnp.int32(0)), model.empty_cache(num_lanes, config.stages[0])
    for slots in config.stages:
        cache = _grow(model, cache, num_lanes, slots)
        lanes, cache, stream, usage = jax.lax.while_loop(
            functools.partial(is_running, slots), functools.partial(call_each, slots), (lanes, cache, stream, usage)
        )
    if config.restarts:
        lanes = jax.vmap(lane_steps.carry_over)(lanes, stream.token)
    return lanes, stream, usage


def _grow(model: LanguageModel, cache: Any, num_lanes: int, slots: int) -> Any:
    """Returns a cache with more slots that holds the same tokens: none has come round the ring yet, each is in its position's slot."""
    larger = model.empty_cache(num_lanes, slots)
    return jax.tree.map(lambda new, old: jax.lax.dynamic_update_slice(new, old, (0,) * old.ndim), larger, cache)


def _unread(lanes: Lane, config: RolloutConfig) -> jax.Array:
    """Returns int32 `[B]`, tokens that each lane can still read in this stream."""
    return jnp.minimum(lanes.inbox_length - lanes.next_unread, config.stream_length - lanes.position)


def _call(interaction, model, config, shape, params, setting, lanes, cache, stream):
    """One call of the model: the lanes that it serves read up to `width` tokens, and write one if they have read all."""
    served = None
    rows = lanes
    if shape.lanes < lanes.position.shape[0]:
        _, served = jax.lax.top_k(_unread(lanes, config), shape.lanes)
        rows = jax.tree.map(lambda x: x[served], lanes)

    offset = jnp.arange(shape.width)
    count = jnp.minimum(_unread(rows, config), shape.width)
    is_valid = offset < count[:, None]
    position = rows.position[:, None] + offset
    at = jnp.clip(rows.next_unread[:, None] + offset, 0, rows.inbox.shape[1] - 1)
    tokens = jnp.take_along_axis(rows.inbox, at, 1)
    token_kind = jnp.take_along_axis(rows.inbox_kind, at, 1)
    begin = jnp.broadcast_to(rows.begin[:, None], position.shape)
    features, cache = model.read(params, tokens, position, begin, is_valid, cache, served)
    last = jnp.maximum(count - 1, 0)
    features = jax.tree.map(lambda x: jnp.take_along_axis(x, last[:, None, None], 1)[:, 0], features)
    value = model.value(params, features)

    slot = rows.position + last
    rows = rows._replace(position=rows.position + count, next_unread=rows.next_unread + count)
    has_read_all = (count > 0) & (rows.next_unread == rows.inbox_length)
    # The last slot of a stream is read, its value the bootstrap of an unfinished life; what it would write is left to the next stream.
    is_last_slot = slot == config.stream_length - 1
    is_closing = has_read_all & (rows.budget == 0)
    is_writing = has_read_all & ~is_closing & ~is_last_slot

    logits = model.logits(params, features, interaction.grammar.alphabet)
    letter, support, log_probs = _choose(interaction.grammar, config, rows, logits)
    after, event = _live_on(interaction, setting, config.restarts, rows, letter, is_writing, is_closing)
    if config.expert:
        after = experts.consult(interaction, after, event.ends_segment | event.ends_life)

    where = jnp.arange(lanes.position.shape[0]) if served is None else served
    has_value = (has_read_all | is_last_slot) & (count > 0)
    log_prob = jnp.take_along_axis(log_probs, letter[:, None], 1)[:, 0]
    # Where nothing is written a slot holds zeros, so that the stream does not tell at which widths it was read.
    record = {
        "is_written": is_writing,
        "kind": jnp.where(is_writing, rows.kind, 0),
        "written": jnp.where(is_writing, letter, 0),
        "support": jnp.where(is_writing[:, None], text.pack(support), np.uint32(EVERY_LETTER)),
        "log_prob": jnp.where(is_writing, log_prob, 0.0),
        "value": jnp.where(has_value, value, 0.0),
        "has_value": has_value,
        **event._asdict(),
    }
    read = {"token": tokens, "token_kind": token_kind, "begin": begin}
    read |= {name: jnp.broadcast_to(getattr(rows, name)[:, None], begin.shape) for name in ("turn", "attempt", "life")}
    stream = _put(stream, (where[:, None], jnp.where(is_valid, position, config.stream_length)), read)
    stream = _put(stream, (where, jnp.where(count > 0, slot, config.stream_length)), record)
    lanes = after if served is None else jax.tree.map(lambda all_, some: all_.at[served].set(some), lanes, after)
    return lanes, cache, stream


def _choose(grammar, config: RolloutConfig, rows: Lane, logits) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the letters of the lanes `[b]`, what they were chosen among, bool `[b, U]`, and the log-probs of that."""
    support = text.support(grammar, rows.grammar, rows.legal) if config.decoding.constrained else jnp.ones(logits.shape, bool)
    support = decode.narrow(logits, support, config.decoding)
    log_probs = decode.masked_log_probs(logits, support, config.decoding.temperature)
    letter = decode.sample(jax.vmap(lane_steps.draw)(rows), log_probs, support)
    if config.expert:
        letter, is_followed = experts.follow(grammar, rows, letter)
        support &= is_followed[:, None] | (jnp.arange(logits.shape[-1]) == letter[:, None])
        log_probs = decode.masked_log_probs(logits, support, config.decoding.temperature)
    return letter, support, log_probs


def _live_on(interaction, setting, restarts, rows: Lane, letter, is_writing, is_closing) -> tuple[Lane, Event]:
    """Returns the lanes `[b]` after their tokens have been written, and what followed.

    An interaction is advanced under a condition on the whole batch: where no lane ends a segment, as in most tokens of a thought, it costs
    nothing.
    """
    wrote, ends, own = jax.vmap(functools.partial(lane_steps.write, interaction))(rows, letter)
    ends &= is_writing
    rows = _where(is_writing, wrote, rows)
    nothing = jax.tree.map(lambda x: jnp.broadcast_to(x, ends.shape), lane_steps.no_event())

    def advance(rows):
        step = jax.vmap(functools.partial(lane_steps.end_segment, interaction, setting, restarts))
        advanced, event = step(rows, own)
        return _where(ends, advanced, rows), _where(ends, event, nothing)

    def close(rows, event):
        step = jax.vmap(functools.partial(lane_steps.end_truncated, interaction, setting, restarts))
        closed, closing = step(rows)
        return _where(is_closing, closed, rows), _where(is_closing, closing, event)

    rows, event = jax.lax.cond(jnp.any(ends), advance, lambda rows: (rows, nothing), rows)
    return jax.lax.cond(jnp.any(is_closing), close, lambda rows, event: (rows, event), rows, event)


def _where(which: jax.Array, if_true: Any, if_false: Any) -> Any:
    return jax.vmap(select)(which, if_true, if_false)


def _put(stream: Stream, index: tuple, values: dict) -> Stream:
    """Writes values at (lane, slot) pairs; a slot beyond the stream is dropped."""

    def put(array, value):
        return array.at[index].set(value, mode="drop")

    return stream._replace(**{name: jax.tree.map(put, getattr(stream, name), value) for name, value in values.items()})


def _empty_stream(interaction: Interaction, num_lanes: int, num_tokens: int) -> Stream:
    shape = (num_lanes, num_tokens)
    ints, floats, bools = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, bool)
    words = (len(interaction.grammar.alphabet) + 31) // 32
    return Stream(
        token=ints,
        token_kind=ints,
        begin=jnp.broadcast_to(jnp.arange(num_tokens), shape),  # a slot that is not read sees itself alone
        is_written=bools,
        kind=ints,
        written=ints,
        support=jnp.full((*shape, words), np.uint32(EVERY_LETTER)),
        log_prob=floats,
        value=floats,
        has_value=bools,
        reward=Reward(floats, floats, floats, floats),
        discount=floats + 1.0,
        ends_segment=bools,
        is_legal=bools,
        ends_life=bools,
        is_truncated=bools,
        turn=ints,
        attempt=ints,
        life=ints,
    )
