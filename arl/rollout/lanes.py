"""A lane: one agent in its episode. Its functions write a token, end a segment or an episode, and begin the next one.

A lane alternates between reading and writing. Its inbox holds the tokens that the model has yet to read. When the inbox is empty the model
writes one token, which goes to the inbox together with the tokens that the grammar forces after it. When a segment ends, the interaction
is advanced and the text of its next turn goes to the inbox.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Curriculum, Interaction, Kind, Reward, Segment, State, Text, Turn, select

_SAMPLE, _ADVANCE, _START = 0, 1, 2  # uses of a lane's random key; each token of the lane has a key for each


class Writing(NamedTuple):
    """Who writes the segment of a lane, where others than the policy write; see `arl.rollout.writers`.

    Attributes:
      author: int32 `[]`, 0 for the policy.
      proposed: `Text` that another author writes.
      episode_draw: float32 `[]` in [0, 1), a random number of the episode; lanes of a group share that of their first one.
      is_waiting: bool `[]`, whether the lane waits for a writer's answer.
    """

    author: jax.Array
    proposed: Text
    episode_draw: jax.Array
    is_waiting: jax.Array


class Lane(NamedTuple):
    """The state of one lane.

    Attributes:
      key: random key of the lane. Random numbers depend on it and on `num_sampled` alone, not on the calls of the model or the batch.
      state: state of the interaction.
      inbox: int32 `[Q]`, tokens to read; those from `next_unread` to `inbox_length` are unread.
      inbox_kind: int32 `[Q]`, `Kind` of each token.
      next_unread: int32 `[]`, index in the inbox.
      inbox_length: int32 `[]`, tokens.
      kind: int32 `[]`, `Kind` of the segment being written.
      budget: int32 `[]`, tokens that the segment may still hold.
      grammar_state: int32 `[]`, state of the grammar that the segment has reached.
      legal: bool `[A]`, legal strings of the turn.
      written: `Text` of the segment so far.
      position: int32 `[]`, position in the trajectory of the next token to read.
      context_start: int32 `[]`, position at which the context starts.
      num_sampled: int32 `[]`, tokens that this lane has sampled in all its trajectories.
      turn: int32 `[]`, index of the turn in its episode.
      attempt: int32 `[]`, index of the attempt in its episode.
      episode: int32 `[]`, index of the episode in this trajectory.
      writing: who writes this segment; None if there is no writer but the policy.
    """

    key: jax.Array
    state: State
    inbox: jax.Array
    inbox_kind: jax.Array
    next_unread: jax.Array
    inbox_length: jax.Array
    kind: jax.Array
    budget: jax.Array
    grammar_state: jax.Array
    legal: jax.Array
    written: Text
    position: jax.Array
    context_start: jax.Array
    num_sampled: jax.Array
    turn: jax.Array
    attempt: jax.Array
    episode: jax.Array
    writing: Writing | None = None


class Event(NamedTuple):
    """What a lane records at a token beside the token itself.

    Attributes:
      reward: reward of the segment that ended, in the environment's units; 0 if none did.
      discount: float32 `[]`, weight of what follows.
      ends_segment: bool `[]`, as in `Trajectory`.
      is_legal: bool `[]`, as in `Trajectory`.
      ends_episode: bool `[]`, as in `Trajectory`.
      is_truncated: bool `[]`, as in `Trajectory`.
    """

    reward: Reward
    discount: jax.Array
    ends_segment: jax.Array
    is_legal: jax.Array
    ends_episode: jax.Array
    is_truncated: jax.Array


def no_event() -> Event:
    """Returns the event of a token that ends neither a segment nor an episode."""
    zero, false = jnp.float32(0.0), jnp.bool_(False)
    return Event(Reward(*[zero] * len(Reward._fields)), jnp.float32(1.0), false, false, false, false)


def inbox_capacity(interaction: Interaction, context: int) -> int:
    """Returns the capacity that an inbox needs, tokens.

    Args:
      interaction: the agent in its environment.
      context: tokens of the longest context, which is read again at the start of the next trajectory; 0 if lanes have only one trajectory.

    Returns:
      Room for the text of a turn, the tokens that are forced after it, and what comes first: a context, or the tokens written last.
    """
    forced = interaction.grammar.forced.shape[1]
    return max(context, 1 + forced) + interaction.size.read + forced


def open_lane(interaction: Interaction, curriculum: Curriculum, capacity: int, key: jax.Array, start_key: jax.Array) -> Lane:
    """Returns a lane at the start of its first episode.

    Args:
      interaction: the agent in its environment.
      curriculum: curriculum of the interaction.
      capacity: capacity of the inbox, tokens.
      key: random key of the lane.
      start_key: random key of the first episode's start; lanes of a group share it.

    Returns:
      The lane.
    """
    state, turn = interaction.start(start_key, curriculum)
    zero = jnp.int32(0)
    empty = jnp.zeros(capacity, jnp.int32)
    lane = Lane(
        key=key,
        state=state,
        inbox=empty,
        inbox_kind=empty,
        next_unread=zero,
        inbox_length=zero,
        kind=zero,
        budget=zero,
        grammar_state=zero,
        legal=turn.legal,
        written=text.empty(interaction.size.written),
        position=zero,
        context_start=zero,
        num_sampled=zero,
        turn=zero,
        attempt=zero,
        episode=zero,
    )
    return _take_turn(interaction, lane, state, turn, text.empty(0), Kind.PROMPT)


def _take_turn(interaction: Interaction, lane: Lane, state: State, turn: Turn, own: Text, read_kind: Kind | jax.Array) -> Lane:
    """Returns the lane with the text of a turn in its inbox.

    Args:
      interaction: the agent in its environment.
      lane: the lane before the turn.
      state: state of the interaction.
      turn: the turn that begins.
      own: tokens written last and not yet read; they stand before the text of the turn.
      read_kind: `Kind` of the text of the turn.

    Returns:
      The lane; tokens that the grammar forces at the start of the segment follow in its inbox.
    """
    grammar = interaction.grammar
    prefix, after_prefix = text.forced_run(grammar, turn.grammar_state)
    # Each segment has a sampled token: where a whole string is forced, or forced tokens exceed the budget, they are sampled instead.
    takes = ~jnp.asarray(grammar.must_end)[after_prefix] & (prefix.length < turn.budget)
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
        grammar_state=jnp.where(takes, after_prefix, turn.grammar_state).astype(jnp.int32),
        legal=turn.legal,
        written=text.concatenate(prefix, capacity=lane.written.ids.shape[0]),
        attempt=turn.attempt,
    )


def restart(interaction: Interaction, curriculum: Curriculum, lane: Lane) -> Lane:
    """Returns the lane at the start of its next episode, in the same trajectory."""
    key = _key(lane, _START)
    state, turn = interaction.start(key, curriculum)
    writing = lane.writing and lane.writing._replace(episode_draw=draw_author(key))
    lane = lane._replace(context_start=lane.position, turn=jnp.int32(0), episode=lane.episode + 1, writing=writing)
    return _take_turn(interaction, lane, state, turn, text.empty(0), Kind.PROMPT)


def stop(lane: Lane) -> Lane:
    """Returns the lane with nothing to read and nothing to write."""
    return lane._replace(next_unread=jnp.int32(0), inbox_length=jnp.int32(0), budget=jnp.int32(0))


def _key(lane: Lane, purpose: int) -> jax.Array:
    """Returns the lane's random key at its present token, for `_SAMPLE`, `_ADVANCE` or `_START`."""
    return jax.random.fold_in(lane.key, 3 * lane.num_sampled + purpose)


def draw(lane: Lane) -> jax.Array:
    """Returns the uniform number, float32 `[]` in [0, 1), from which the lane's next token is sampled."""
    return jax.random.uniform(_key(lane, _SAMPLE))


def draw_author(key: jax.Array) -> jax.Array:
    """Returns the number, float32 `[]` in [0, 1), that decides who writes the episode or segment that begins with `key`."""
    return jax.random.uniform(jax.random.fold_in(key, 2**31 - 1))


def segment_key(lane: Lane) -> jax.Array:
    """Returns the random key of a writer for the segment that the lane begins."""
    return jax.random.fold_in(_key(lane, _SAMPLE), 1)


def write(interaction: Interaction, lane: Lane, token: jax.Array) -> tuple[Lane, jax.Array, Text]:
    """Writes a token and those that the grammar forces after it.

    Args:
      interaction: the agent in its environment.
      lane: a lane that has read its inbox.
      token: int32 `[]`, id of the token.

    Returns:
      The lane, with the written tokens in its inbox; bool `[]`, whether the segment ends; and the written tokens, `Text`.
    """
    grammar = interaction.grammar
    state = text.follow(grammar, lane.grammar_state, token)
    run, after_run = text.forced_run(grammar, state)
    fits = run.length < lane.budget
    run = text.only_if(fits, run)
    state = jnp.where(fits, after_run, state)
    is_stop = token == grammar.stop_id
    own = text.concatenate(Text(token[None], jnp.int32(1)), run)
    said = Text(own.ids, jnp.where(is_stop, 0, own.length))
    written = text.concatenate(lane.written, said, capacity=lane.written.ids.shape[0])
    budget = lane.budget - own.length
    ends = jnp.asarray(grammar.must_end)[state] | is_stop | (budget <= 0)
    inbox = text.pad(own, lane.inbox.shape[0])
    lane = lane._replace(
        inbox=inbox.ids,
        inbox_kind=jnp.full_like(lane.inbox_kind, lane.kind),
        next_unread=jnp.int32(0),
        inbox_length=own.length,
        budget=budget,
        grammar_state=state.astype(jnp.int32),
        written=written,
        num_sampled=lane.num_sampled + 1,
    )
    return lane, ends, own


def end_segment(interaction: Interaction, curriculum: Curriculum, restarts: bool, lane: Lane, own: Text) -> tuple[Lane, Event]:
    """Ends a segment: advances the interaction and begins its next turn, or ends the episode.

    Args:
      interaction: the agent in its environment.
      curriculum: curriculum of the interaction.
      restarts: whether another episode begins when one ends.
      lane: the lane that `write` returned.
      own: tokens written last and not yet read.

    Returns:
      The lane and the event.
    """
    grammar = interaction.grammar
    is_legal = text.accepts(grammar, lane.grammar_state, lane.legal)
    choice = jnp.where(is_legal, jnp.asarray(grammar.choice)[lane.grammar_state], -1)
    state, turn = interaction.advance(_key(lane, _ADVANCE), curriculum, lane.state, Segment(lane.written, choice, is_legal))
    own = text.only_if(~turn.reset_context, own)  # the new context does not hold them
    turned = lane._replace(context_start=jnp.where(turn.reset_context, lane.position, lane.context_start), turn=lane.turn + 1)
    turned = _take_turn(interaction, turned, state, turn, own, Kind.OBSERVATION)
    over = restart(interaction, curriculum, lane) if restarts else stop(lane)
    event = Event(
        reward=turn.reward,
        discount=jnp.where(turn.terminated, 0.0, turn.discount),
        ends_segment=jnp.bool_(True),
        is_legal=is_legal,
        ends_episode=turn.terminated,
        is_truncated=jnp.bool_(False),
    )
    return select(turn.terminated, over, turned), event


def end_truncated(interaction: Interaction, curriculum: Curriculum, restarts: bool, lane: Lane) -> tuple[Lane, Event]:
    """Ends a truncated episode whose last observation has been read.

    Args:
      interaction: the agent in its environment.
      curriculum: curriculum of the interaction.
      restarts: whether another episode begins.
      lane: the lane that has read the observation.

    Returns:
      The lane and the event.
    """
    event = no_event()._replace(discount=jnp.float32(0.0), ends_episode=jnp.bool_(True), is_truncated=jnp.bool_(True))
    return restart(interaction, curriculum, lane) if restarts else stop(lane), event


def carry_over(lane: Lane, token: jax.Array) -> Lane:
    """Carries a lane over to the next trajectory, in which it reads its context again.

    Args:
      lane: the lane at the end of a trajectory.
      token: int32 `[T]`, the tokens of that trajectory.

    Returns:
      The lane at position 0, with its context in its inbox and what it had not read after that.
    """
    capacity, num_tokens = lane.inbox.shape[0], token.shape[0]
    index = jnp.arange(capacity)
    context_length = lane.position - lane.context_start
    from_trajectory = token[jnp.clip(lane.context_start + index, 0, num_tokens - 1)]
    unread = jnp.clip(lane.next_unread + index - context_length, 0, capacity - 1)
    is_context = index < context_length
    return lane._replace(
        inbox=jnp.where(is_context, from_trajectory, lane.inbox[unread]),
        inbox_kind=jnp.where(is_context, Kind.PROMPT, lane.inbox_kind[unread]).astype(jnp.int32),
        next_unread=jnp.int32(0),
        inbox_length=context_length + lane.inbox_length - lane.next_unread,
        position=jnp.int32(0),
        context_start=jnp.int32(0),
        episode=jnp.int32(0),
    )


def open_lanes(interaction: Interaction, curriculum: Curriculum, capacity: int, keys: jax.Array, start_keys: jax.Array) -> Lane:
    """Returns lanes `[B]` at the start of their first episodes; arguments as `open_lane`, with keys `[B]`."""
    return jax.vmap(functools.partial(open_lane, interaction, curriculum, capacity))(keys, start_keys)
