"""A lane: one agent in its life, and what happens when it has read its inbox and writes a token."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Interaction, Kind, Reward, Setting, State, Text, Turn, Written, select


class Lane(NamedTuple):
    """An agent in its life, for one lane.

    Attributes:
      key: of this lane; folded with `num_sampled`, never with the call or the place in the batch.
      state: the interaction's.
      inbox: int32 `[Q]`, tokens to be read; those from `next_unread` to `inbox_length` are unread.
      inbox_kind: int32 `[Q]`, `Kind` of each.
      next_unread: int32 `[]`.
      inbox_length: int32 `[]`.
      kind, budget, grammar, legal: as in `Turn`; `budget` is what is left, `grammar` the state reached.
      written: `Text` of the segment so far.
      position: int32 `[]`, tokens of this stream read so far, the slot of the next one.
      begin: int32 `[]`, the slot at which the live context begins.
      num_sampled: int32 `[]`, tokens that this lane has ever sampled.
      turn, attempt, life: int32 `[]`, their indices.
      is_stopped: bool `[]`, whether the lane's life has ended and no other follows.
      expert: `Text` that an expert would write in the present segment; None where none writes in the model's place.
    """

    key: jax.Array
    state: State
    inbox: jax.Array
    inbox_kind: jax.Array
    next_unread: jax.Array
    inbox_length: jax.Array
    kind: jax.Array
    budget: jax.Array
    grammar: jax.Array
    legal: jax.Array
    written: Text
    position: jax.Array
    begin: jax.Array
    num_sampled: jax.Array
    turn: jax.Array
    attempt: jax.Array
    life: jax.Array
    is_stopped: jax.Array
    expert: Text | None = None


class Event(NamedTuple):
    """What followed from a token, for one lane.

    Attributes:
      reward: earned by the segment that ended, zero if none did.
      discount: float32 `[]`, weight of what follows.
      ends_segment, is_legal, ends_life, is_truncated: bool `[]`, as in `Stream`.
    """

    reward: Reward
    discount: jax.Array
    ends_segment: jax.Array
    is_legal: jax.Array
    ends_life: jax.Array
    is_truncated: jax.Array


def no_event() -> Event:
    """Returns the event of a lane to which nothing happened."""
    zero, false = jnp.float32(0.0), jnp.bool_(False)
    return Event(Reward(zero, zero, zero, zero), jnp.float32(1.0), false, false, false, false)


def inbox_capacity(interaction: Interaction, context: int) -> int:
    """Returns the tokens that an inbox must hold: a live context read again, or a turn's text after what was just written.

    Args:
      interaction: what the lane does.
      context: tokens of a live context that may have to be read again at the start of a stream; 0 if lanes never cross streams.

    Returns:
      A number of tokens.
    """
    forced = interaction.grammar.forced.shape[1]
    return max(context, 1 + forced) + interaction.size.read + forced


def open_lane(interaction: Interaction, setting: Setting, capacity: int, key: jax.Array, start_key: jax.Array) -> Lane:
    """Returns a lane at the beginning of its first life.

    Args:
      interaction: what the lane does.
      setting: the interaction's setting.
      capacity: of the inbox, tokens.
      key: the lane's own.
      start_key: of the first life; lanes of a group share it.

    Returns:
      The lane.
    """
    state, turn = interaction.start(start_key, setting)
    zero = jnp.int32(0)
    empty = jnp.zeros(capacity, jnp.int32)
    lane = Lane(
        key, state, empty, empty, zero, zero, zero, zero, zero, turn.legal, text.empty(interaction.size.written),
        zero, zero, zero, zero, zero, zero, jnp.bool_(False),
    )  # fmt: skip
    return _take_turn(interaction, lane, state, turn, text.empty(0), Kind.PROMPT)


def _take_turn(interaction: Interaction, lane: Lane, state: State, turn: Turn, own: Text, read_kind: Kind | jax.Array) -> Lane:
    """Returns the lane with a turn's text in its inbox, after `own`, its last written tokens that are not yet read."""
    grammar = interaction.grammar
    prefix, after_prefix = text.forced_run(grammar, turn.grammar)
    # A string that is forced to its end is sampled all the same: each segment holds a decision. So is one that does not fit its budget.
    takes = ~jnp.asarray(grammar.is_final)[after_prefix] & (prefix.length < turn.budget)
    prefix = text.only_if(takes, prefix)
    inbox = text.concatenate(own, turn.read, prefix, capacity=lane.inbox.shape[0])
    index = jnp.arange(lane.inbox.shape[0])
    kind = jnp.where(index < own.length, lane.kind, jnp.where(index < own.length + turn.read.length, read_kind, turn.kind))
    return lane._replace(
        state=state,
        inbox=inbox.ids,
        inbox_kind=kind.astype(jnp.int32),
        next_unread=jnp.int32(0),
        inbox_length=inbox.length,
        kind=turn.kind,
        budget=turn.budget - prefix.length,
        grammar=jnp.where(takes, after_prefix, turn.grammar).astype(jnp.int32),
        legal=turn.legal,
        written=text.concatenate(prefix, capacity=lane.written.ids.shape[0]),
        attempt=turn.attempt,
    )


def restart(interaction: Interaction, setting: Setting, lane: Lane) -> Lane:
    """Returns the lane at the beginning of its next life, in the same stream."""
    state, turn = interaction.start(_key(lane, 2), setting)
    lane = lane._replace(begin=lane.position, turn=jnp.int32(0), life=lane.life + 1)
    return _take_turn(interaction, lane, state, turn, text.empty(0), Kind.PROMPT)


def stop(lane: Lane) -> Lane:
    """Returns the lane with nothing to read and nothing to write."""
    return lane._replace(is_stopped=jnp.bool_(True), next_unread=jnp.int32(0), inbox_length=jnp.int32(0), budget=jnp.int32(0))


def _key(lane: Lane, purpose: int) -> jax.Array:
    """Returns the lane's key for one of three purposes at its present token: 0 to sample, 1 to advance, 2 to start."""
    return jax.random.fold_in(lane.key, 3 * lane.num_sampled + purpose)


def draw(lane: Lane) -> jax.Array:
    """Returns the uniform number, float32 `[]` in [0, 1), by which the lane's next token is sampled."""
    return jax.random.uniform(_key(lane, 0))


def expert_key(lane: Lane) -> jax.Array:
    """Returns the key by which an expert chooses what to write in the segment that the lane begins."""
    return jax.random.fold_in(_key(lane, 0), 1)


def write(interaction: Interaction, lane: Lane, letter: jax.Array) -> tuple[Lane, jax.Array, Text]:
    """The lane writes a token, and what the grammar forces after it.

    Args:
      interaction: what the lane does.
      lane: one that has read its inbox.
      letter: int32 `[]`, index in the alphabet.

    Returns:
      The lane, whose inbox holds what it wrote; bool `[]`, whether the segment ends; and what it wrote, as `Text`.
    """
    grammar = interaction.grammar
    token = jnp.asarray(grammar.alphabet)[letter]
    state = jnp.asarray(grammar.next_state)[lane.grammar, letter]
    run, after_run = text.forced_run(grammar, state)
    fits = run.length < lane.budget
    run = text.only_if(fits, run)
    state = jnp.where(fits, after_run, state)
    is_stop = token == grammar.stop_id
    own = text.concatenate(Text(token[None], jnp.int32(1)), run)
    said = Text(own.ids, jnp.where(is_stop, 0, own.length))
    written = text.concatenate(lane.written, said, capacity=lane.written.ids.shape[0])
    budget = lane.budget - own.length
    ends = jnp.asarray(grammar.is_final)[state] | is_stop | (budget <= 0)
    inbox = text.pad(own, lane.inbox.shape[0])
    lane = lane._replace(
        inbox=inbox.ids,
        inbox_kind=jnp.full_like(lane.inbox_kind, lane.kind),
        next_unread=jnp.int32(0),
        inbox_length=own.length,
        budget=budget,
        grammar=state.astype(jnp.int32),
        written=written,
        num_sampled=lane.num_sampled + 1,
    )
    return lane, ends, own


def end_segment(interaction: Interaction, setting: Setting, restarts: bool, lane: Lane, own: Text) -> tuple[Lane, Event]:
    """The segment has been written: the interaction says what follows.

    Args:
      interaction: what the lane does.
      setting: the interaction's setting.
      restarts: whether another life follows the one that ends.
      lane: as `write` left it.
      own: what was written last and is not yet read.

    Returns:
      The lane and the event.
    """
    grammar = interaction.grammar
    is_legal = text.accepts(grammar, lane.grammar, lane.legal)
    choice = jnp.where(is_legal, jnp.asarray(grammar.choice)[lane.grammar], -1)
    state, turn = interaction.advance(_key(lane, 1), setting, lane.state, Written(lane.written, choice, is_legal))
    own = text.only_if(~turn.forget, own)  # what is forgotten need not be read
    turned = lane._replace(begin=jnp.where(turn.forget, lane.position, lane.begin), turn=lane.turn + 1)
    turned = _take_turn(interaction, turned, state, turn, own, Kind.OBSERVATION)
    over = restart(interaction, setting, lane) if restarts else stop(lane)
    event = Event(
        reward=turn.reward,
        discount=jnp.where(turn.terminated, 0.0, turn.discount),
        ends_segment=jnp.bool_(True),
        is_legal=is_legal,
        ends_life=turn.terminated,
        is_truncated=jnp.bool_(False),
    )
    return select(turn.terminated, over, turned), event


def end_truncated(interaction: Interaction, setting: Setting, restarts: bool, lane: Lane) -> tuple[Lane, Event]:
    """The last observation of a truncated life has been read: the lane restarts or stops; arguments and results as `end_segment`."""
    event = no_event()._replace(discount=jnp.float32(0.0), ends_life=jnp.bool_(True), is_truncated=jnp.bool_(True))
    return restart(interaction, setting, lane) if restarts else stop(lane), event


def carry_over(lane: Lane, token: jax.Array) -> Lane:
    """Returns the lane as the next stream finds it: its live context is read again, then what it had not read.

    Args:
      lane: one at the end of a stream.
      token: int32 `[T]`, what it read in that stream.

    Returns:
      The lane at position 0 of the next stream.
    """
    capacity, num_tokens = lane.inbox.shape[0], token.shape[0]
    index = jnp.arange(capacity)
    context_length = lane.position - lane.begin
    from_stream = token[jnp.clip(lane.begin + index, 0, num_tokens - 1)]
    unread = jnp.clip(lane.next_unread + index - context_length, 0, capacity - 1)
    is_context = index < context_length
    return lane._replace(
        inbox=jnp.where(is_context, from_stream, lane.inbox[unread]),
        inbox_kind=jnp.where(is_context, Kind.PROMPT, lane.inbox_kind[unread]).astype(jnp.int32),
        next_unread=jnp.int32(0),
        inbox_length=context_length + lane.inbox_length - lane.next_unread,
        position=jnp.int32(0),
        begin=jnp.int32(0),
        life=jnp.int32(0),
    )


def open_lanes(interaction: Interaction, setting: Setting, capacity: int, keys: jax.Array, start_keys: jax.Array) -> Lane:
    """Returns a batch of lanes, each at the beginning of its first life; arguments as `open_lane`, the keys `[B]` each."""
    return jax.vmap(functools.partial(open_lane, interaction, setting, capacity))(keys, start_keys)
