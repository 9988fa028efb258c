"""The rollout: calls the model in a loop until every lane has stopped or filled its trajectory.

In each call a lane reads up to `width` tokens of its inbox (chunked prefill). When it has read them all, the model samples one token (see
`arl.rollout.lanes`). Lanes need not be in step: one may think while another acts, reflects or begins its next episode. The loop knows only
turns, no environment and no layer of an agent.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.models import Policy
from arl.rollout import decoding as decode
from arl.rollout import lanes as lane_steps
from arl.rollout import schedule, writers
from arl.rollout.config import RolloutConfig, resolve_lengths
from arl.rollout.lanes import Event, Lane
from arl.rollout.sampling import choose
from arl.rollout.writers import Writer
from arl.types import ArlError, Curriculum, Interaction, Reward, Trajectory, select


class Usage(NamedTuple):
    """The work of a rollout.

    Attributes:
      num_computed: float32 `[]`, tokens computed, padding included.
      num_calls: int32 `[]`, calls of the model.
    """

    num_computed: jax.Array
    num_calls: jax.Array


def start_lanes(
    interaction: Interaction,
    curriculum: Curriculum,
    config: RolloutConfig,
    keys: jax.Array,
    start_keys: jax.Array,
    has_writer: bool = False,
) -> Lane:
    """Returns lanes at the start of their first episodes.

    Args:
      interaction: the agent in its environment.
      curriculum: curriculum of the interaction.
      config: config of the rollout that will use the lanes.
      keys: `[B]`, random keys of the lanes.
      start_keys: `[B]`, random keys of the first episodes' starts; lanes of a group share theirs.
      has_writer: whether `roll_out` will be given a writer.

    Returns:
      `Lane`, `[B]`.
    """
    config = resolve_lengths(config, interaction)
    capacity = lane_steps.inbox_capacity(interaction, config.context_length if config.restarts else 0)
    lanes = lane_steps.open_lanes(interaction, curriculum, capacity, keys, start_keys)
    return writers.begin(interaction, lanes, start_keys) if has_writer else lanes


def roll_out(
    interaction: Interaction,
    policy: Policy,
    config: RolloutConfig,
    variables: Any,
    curriculum: Curriculum,
    lanes: Lane,
    writer: Writer | None = None,
    axis_name: str | None = None,
) -> tuple[Lane, Trajectory, Usage]:
    """Rolls out lanes until each has stopped or read `T` tokens; raises `ArlError` if lanes and writer do not fit together.

    Args:
      interaction: the agent in its environment.
      policy: the policy that writes.
      config: config of the rollout.
      variables: variables of the policy.
      curriculum: curriculum of the interaction.
      lanes: `[B]`, at position 0.
      writer: writes segments in the policy's place; None for none. The lanes have to be started with `has_writer=True`.
      axis_name: axis of a `vmap` over whole rollouts, if there is one.

    Returns:
      The lanes, at position 0 of the next trajectory if they restart; the trajectory `[B, T]`; and the work done.
    """
    _check_writer(lanes, writer)
    config, num_lanes = resolve_lengths(config, interaction), lanes.position.shape[0]
    shapes = schedule.make_shapes(num_lanes, config.widths)
    trajectory = _empty_trajectory(interaction, config, num_lanes)
    waits = writer is not None and writer.num_lanes > 0
    serve = functools.partial(_serve, interaction, writer, config)
    serve_at_once = serve if writer and not waits else lambda variables, curriculum, lanes: lanes
    write_token = jax.jit(functools.partial(_write_token, interaction, policy, config, serve_at_once))  # traced once for all shapes
    calls = [functools.partial(_call, policy, config, shape, write_token, variables, curriculum) for shape in shapes]

    def is_true_anywhere(condition):
        return condition if axis_name is None else jax.lax.psum(condition.astype(jnp.int32), axis_name) > 0

    def must_serve(carry):
        return is_true_anywhere(_must_serve(writer, config, carry[0]))

    def is_running(slots, carry):
        unread = _unread(carry[0], config)
        running = is_true_anywhere(jnp.any((unread > 0) | _is_waiting(carry[0], config)) if waits else jnp.any(unread > 0))
        if slots == config.num_slots:
            return running
        reach = jnp.max(carry[0].position + jnp.minimum(unread, config.widest))
        return running & ~is_true_anywhere(reach > slots)

    def is_best(which, slots, carry):
        best = schedule.choose(shapes, _unread(carry[0], config), config.overhead, axis_name)
        is_next = is_running(slots, carry) & (best == which)
        return is_next & ~must_serve(carry) if waits else is_next

    def call(which, carry):
        lanes, cache, trajectory, usage = carry
        lanes, cache, trajectory = calls[which](lanes, cache, trajectory)
        cost = shapes[which].lanes * shapes[which].width
        return lanes, cache, trajectory, Usage(usage.num_computed + cost, usage.num_calls + 1)

    def call_each(slots, carry):
        # A loop for each shape, which runs while that shape is best, instead of one `switch`: XLA updates the carry of a loop in place, but
        # copies the cache into a conditional and out of it.
        if waits:
            carry = jax.lax.while_loop(must_serve, lambda carry: (serve(variables, curriculum, carry[0]), *carry[1:]), carry)
        for which in range(len(shapes)):
            carry = jax.lax.while_loop(functools.partial(is_best, which, slots), functools.partial(call, which), carry)
        return carry

    usage, cache = Usage(jnp.float32(0.0), jnp.int32(0)), policy.empty_cache(num_lanes, config.stages[0])
    lanes = serve_at_once(variables, curriculum, lanes)
    for slots in config.stages:
        cache = _grow(policy, cache, num_lanes, slots)
        lanes, cache, trajectory, usage = jax.lax.while_loop(
            functools.partial(is_running, slots), functools.partial(call_each, slots), (lanes, cache, trajectory, usage)
        )
    if config.restarts:
        lanes = jax.vmap(lane_steps.carry_over)(lanes, trajectory.token)
    return lanes, trajectory, usage


def _check_writer(lanes: Lane, writer: Writer | None) -> None:
    if (writer is None) != (lanes.writing is None):
        does = "wait for a writer, and there is none" if writer is None else "were started without a writer"
        raise ArlError(f"the lanes {does}; give start_lanes has_writer=True and roll_out a writer, or neither")


def _grow(policy: Policy, cache: Any, num_lanes: int, slots: int) -> Any:
    """Returns a cache with more slots that holds the same tokens; none has wrapped around the ring yet, so each keeps its slot."""
    larger = policy.empty_cache(num_lanes, slots)
    return jax.tree.map(lambda new, old: jax.lax.dynamic_update_slice(new, old, (0,) * old.ndim), larger, cache)


def _unread(lanes: Lane, config: RolloutConfig) -> jax.Array:
    """Returns int32 `[B]`, tokens that each lane can still read in this trajectory."""
    unread = jnp.minimum(lanes.inbox_length - lanes.next_unread, config.trajectory_length - lanes.position)
    return unread if lanes.writing is None else jnp.where(lanes.writing.is_waiting, 0, unread)


def _is_waiting(lanes: Lane, config: RolloutConfig) -> jax.Array:
    """Returns bool `[B]`, the lanes that wait for a writer's answer and can go on in this trajectory."""
    is_waiting = False if lanes.writing is None else lanes.writing.is_waiting
    return is_waiting & (lanes.position < config.trajectory_length)


def _must_serve(writer: Writer | None, config: RolloutConfig, lanes: Lane) -> jax.Array:
    """Returns whether enough lanes wait for the writer, or no other lane can go on."""
    is_waiting, most = _is_waiting(lanes, config), writer.num_lanes if writer else 0
    return (jnp.sum(is_waiting) >= min(most, len(is_waiting))) | (jnp.any(is_waiting) & ~jnp.any(_unread(lanes, config) > 0))


def _serve(interaction, writer: Writer, config: RolloutConfig, variables: Any, curriculum: Curriculum, lanes: Lane) -> Lane:
    """Returns the lanes, of which those that ask have been served, but at most `writer.num_lanes` at once."""
    if not 0 < writer.num_lanes < lanes.position.shape[0]:
        return writers.ask(interaction, writer, variables, curriculum, lanes)
    _, served = jax.lax.top_k(_is_waiting(lanes, config).astype(jnp.int32), writer.num_lanes)
    rows = jax.tree.map(lambda x: x[served], lanes)
    rows = writers.ask(interaction, writer, variables, curriculum, rows)
    return jax.tree.map(lambda all_, some: all_.at[served].set(some), lanes, rows)


def _call(policy: Policy, config: RolloutConfig, shape: schedule.Shape, write_token, variables, curriculum, lanes, cache, trajectory):
    """Calls the policy once: each lane that is served reads up to `width` tokens, and writes one if it has then read them all.

    Args:
      policy: the policy that writes.
      config: config of the rollout, without lengths of 0.
      shape: shape of the call.
      write_token: `_write_token` without its first arguments.
      variables: variables of the policy.
      curriculum: curriculum of the interaction.
      lanes: `[B]`.
      cache: cache of the policy.
      trajectory: `[B, T]`, what has been recorded so far.

    Returns:
      The lanes, the cache and the trajectory.
    """
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
    context_start = jnp.broadcast_to(rows.context_start[:, None], position.shape)
    features, cache = policy.read(variables, tokens, position, context_start, is_valid, cache, served)
    last = jnp.maximum(count - 1, 0)
    features = jax.tree.map(lambda x: jnp.take_along_axis(x, last.reshape(-1, *[1] * (x.ndim - 1)), 1)[:, 0], features)
    after, record = write_token(variables, curriculum, rows, features, count)

    where = jnp.arange(lanes.position.shape[0]) if served is None else served
    read = {"token": tokens, "token_kind": token_kind, "context_start": context_start}
    read |= {name: jnp.broadcast_to(getattr(rows, name)[:, None], context_start.shape) for name in ("turn", "attempt", "episode")}
    trajectory = _put(trajectory, (where[:, None], jnp.where(is_valid, position, config.trajectory_length)), read)
    trajectory = _put(trajectory, (where, jnp.where(count > 0, rows.position + last, config.trajectory_length)), record)
    lanes = after if served is None else jax.tree.map(lambda all_, some: all_.at[served].set(some), lanes, after)
    return lanes, cache, trajectory


def _write_token(interaction, policy: Policy, config: RolloutConfig, serve, variables, curriculum, rows: Lane, features, count):
    """Samples a token in the lanes that have read all of their inboxes, and advances the interaction where a segment ends.

    Args:
      interaction: the agent in its environment.
      policy: the policy that writes.
      config: config of the rollout, without lengths of 0.
      serve: serves lanes `[b]` that ask a writer which answers at once.
      variables: variables of the policy.
      curriculum: curriculum of the interaction.
      rows: lanes `[b]` before they read.
      features: features of the policy at the last token that each has read.
      count: int32 `[b]`, tokens that each has read.

    Returns:
      The lanes, and what is recorded at their last tokens, by names of `Trajectory`.
    """
    value = policy.value(variables, features)
    last_position = rows.position + jnp.maximum(count - 1, 0)
    rows = rows._replace(position=rows.position + count, next_unread=rows.next_unread + count)
    has_read_all = (count > 0) & (rows.next_unread == rows.inbox_length)
    # At the last position of a trajectory nothing is sampled: its value bootstraps, and the next trajectory samples there.
    is_at_end = last_position == config.trajectory_length - 1
    is_closing = has_read_all & (rows.budget == 0)
    is_writing = has_read_all & ~is_closing & ~is_at_end

    logits = policy.logits(variables, features, interaction.grammar.candidates)
    sample = choose(interaction.grammar, config.decoding, rows, logits)
    after, event = _advance(interaction, curriculum, config.restarts, rows, sample.token, is_writing, is_closing)
    if after.writing is not None:
        begins = (event.ends_segment | event.ends_episode) & (after.budget > 0)
        after = serve(variables, curriculum, after._replace(writing=writers.begin_segment(after.writing, begins)))

    has_value = (has_read_all | is_at_end) & (count > 0)
    # A position without a sampled token holds zeros, so that a trajectory does not depend on the widths of the calls.
    record = {
        "is_sampled": is_writing,
        "kind": jnp.where(is_writing, rows.kind, 0),
        "sampled": jnp.where(is_writing, sample.token, 0),
        "grammar_state": jnp.where(is_writing, rows.grammar_state, 0),
        "author": jnp.where(is_writing, rows.writing.author, 0) if rows.writing else jnp.zeros_like(rows.kind),
        "has_choice": is_writing & sample.has_choice,
        "support": jnp.where(is_writing[:, None], sample.support, np.uint32(0)),
        "narrowed": None if sample.narrowed is None else jnp.where(is_writing[:, None], sample.narrowed, -1),
        "log_prob": jnp.where(is_writing, sample.log_prob, 0.0),
        "value": jnp.where(has_value, value, 0.0),
        "has_value": has_value,
        **event._asdict(),
    }
    return after, record


def _advance(interaction, curriculum, restarts, rows: Lane, token, is_writing, is_closing) -> tuple[Lane, Event]:
    """Returns the lanes `[b]` after they have written their tokens, and their events.

    The interaction is advanced under one condition for the whole batch, so that it costs nothing in calls in which no segment ends.
    """
    wrote, ends, own = jax.vmap(functools.partial(lane_steps.write, interaction))(rows, token)
    ends &= is_writing
    rows = _where(is_writing, wrote, rows)
    nothing = jax.tree.map(lambda x: jnp.broadcast_to(x, ends.shape), lane_steps.no_event())

    def advance(rows):
        step = jax.vmap(functools.partial(lane_steps.end_segment, interaction, curriculum, restarts))
        advanced, event = step(rows, own)
        return _where(ends, advanced, rows), _where(ends, event, nothing)

    def close(rows, event):
        step = jax.vmap(functools.partial(lane_steps.end_truncated, interaction, curriculum, restarts))
        closed, closing = step(rows)
        return _where(is_closing, closed, rows), _where(is_closing, closing, event)

    rows, event = jax.lax.cond(jnp.any(ends), advance, lambda rows: (rows, nothing), rows)
    return jax.lax.cond(jnp.any(is_closing), close, lambda rows, event: (rows, event), rows, event)


def _where(which: jax.Array, if_true: Any, if_false: Any) -> Any:
    return jax.vmap(select)(which, if_true, if_false)


def _put(trajectory: Trajectory, index: tuple, values: dict) -> Trajectory:
    """Returns the trajectory with values at pairs of lane and position; positions beyond its end are dropped."""

    def put(array, value):
        return array.at[index].set(value.astype(array.dtype), mode="drop")

    return trajectory._replace(**{name: jax.tree.map(put, getattr(trajectory, name), value) for name, value in values.items()})


def _empty_trajectory(interaction: Interaction, config: RolloutConfig, num_lanes: int) -> Trajectory:
    grammar, num_tokens = interaction.grammar, config.trajectory_length
    shape, num_kept = (num_lanes, num_tokens), decode.num_kept(grammar, config.decoding)
    ints, floats, bools = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, bool)
    kinds, indices = jnp.zeros(shape, jnp.int8), jnp.zeros(shape, jnp.uint16)
    return Trajectory(
        token=ints,
        token_kind=kinds,
        context_start=jnp.broadcast_to(jnp.arange(num_tokens), shape),  # a position without a token attends to itself alone
        is_sampled=bools,
        kind=kinds,
        sampled=ints,
        grammar_state=ints,
        author=kinds,
        has_choice=bools,
        support=jnp.zeros((*shape, text.num_words(grammar.token.shape[1])), jnp.uint32),
        narrowed=jnp.full((*shape, num_kept), -1, jnp.int32) if num_kept else None,
        log_prob=floats,
        value=floats,
        has_value=bools,
        reward=Reward(*[floats] * len(Reward._fields)),
        discount=floats + 1.0,
        ends_segment=bools,
        is_legal=bools,
        ends_episode=bools,
        is_truncated=bools,
        turn=indices,
        attempt=indices,
        episode=indices,
    )
