"""Writers write whole segments in the policy's place: an expert, a search, another model, or a mixture of them with the policy.

A writer is asked for every segment that begins. Where it leaves a segment to the policy, or its text cannot be written there, the policy
writes. The author of each token is recorded: the policy learns its own tokens from rewards, those of others by imitation.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.rollout.lanes import Lane, Writing, draw_author, segment_key
from arl.types import AgentState, ArlError, Curriculum, Grammar, Interaction, Text, select

UNITS = ("episode", "segment")
POLICY, EXPERT = 0, 1  # authors; a writer of your own may have any number from 1 to 127


class Request(NamedTuple):
    """Segments that begin, one in each of `b` lanes.

    Attributes:
      key: `[b]`, random keys of the segments.
      state: `AgentState` `[b]`.
      kind: int32 `[b]`, `Kind` of the segment.
      budget: int32 `[b]`, most tokens of the segment, without those of `begun`.
      grammar_state: int32 `[b]`, state of the interaction's grammar after `begun`.
      legal: bool `[b, A]`, legal strings.
      attempt: int32 `[b]`, index of the attempt.
      begun: `Text` `[b]`, what the grammar forces at the beginning.
      episode_draw: float32 `[b]` in [0, 1), a random number drawn once per episode; the lanes of a group share that of their first one.
    """

    key: jax.Array
    state: AgentState
    kind: jax.Array
    budget: jax.Array
    grammar_state: jax.Array
    legal: jax.Array
    attempt: jax.Array
    begun: Text
    episode_draw: jax.Array


class Proposal(NamedTuple):
    """What a writer would write.

    Attributes:
      text: `Text` `[b]`, whole segments, `begun` included, without stop token.
      author: int32 `[b]`, the writer's number; 0, or one beyond 127, leaves the segment to the policy.
    """

    text: Text
    author: jax.Array


class Writer(NamedTuple):
    """A writer.

    Attributes:
      write: `(variables, curriculum, Request, is_waiting bool [b]) -> Proposal`. Only the lanes that wait are served; the proposals of the
        others are ignored. `variables` are those that roll out.
      num_lanes: lanes that are served at once, so that an expensive writer does not run for all lanes whenever one asks. Lanes wait until
        so many ask, or until no other lane can go on. 0 lets none wait. It changes the speed and not the result, unless the writer depends
        on `variables` or `curriculum`: a lane that waits at the end of a trajectory is served in the next update.
    """

    write: Callable[[Any, Curriculum, Request, jax.Array], Proposal]
    num_lanes: int = 0


def expert_writer(interaction: Interaction, fraction: float = 1.0, unit: str = "episode") -> Writer:
    """Returns a writer that writes a fraction of all episodes or segments as the interaction's experts would.

    A mixture of expert and policy visits the states of both (DAgger: Ross, Gordon and Bagnell 2011, arXiv:1011.0686, algorithm 3.1).

    Args:
      interaction: the agent in its environment, with an expert for every kind of segment.
      fraction: fraction that the experts write; the curriculum's `{"expert": {"fraction": ...}}` takes its place, if there is one.
      unit: "episode" or "segment": whether whole episodes or single segments are given to the experts at random.

    Returns:
      The writer.

    Raises:
      ArlError: if `unit` is something else, or there is no expert for a kind of segment.
    """
    if unit not in UNITS:
        raise ArlError(f"unit is {unit!r}; set it to one of {', '.join(UNITS)}")
    if missing := [kind.name for kind in interaction.writes if kind not in interaction.experts]:
        raise ArlError(f"there is no expert for {missing[0]}; add one to Interaction.experts")

    def of_lane(request: Request) -> Text:
        capacity, said = interaction.size.written, text.empty(interaction.size.written)
        for kind in interaction.writes:
            of_kind = interaction.experts[kind](request.key, request.state, jnp.int32(0))  # layers fill in the attempts
            said = select(request.kind == kind, text.pad(text.cut(of_kind, capacity), capacity), said)
        return Text(jnp.asarray(said.ids, jnp.int32), jnp.asarray(said.length, jnp.int32))

    def write(variables, curriculum, request, is_waiting):
        del variables, is_waiting
        drawn = request.episode_draw if unit == "episode" else jax.vmap(draw_author)(request.key)
        is_expert = drawn < curriculum.get("expert", {}).get("fraction", fraction)
        return Proposal(jax.vmap(of_lane)(request), jnp.where(is_expert, EXPERT, POLICY))

    return Writer(write)


def begin(interaction: Interaction, lanes: Lane, start_keys: jax.Array) -> Lane:
    """Prepares lanes for a writer.

    Args:
      interaction: the agent in its environment.
      lanes: `[B]`, at the start of their first episodes.
      start_keys: `[B]`, with which these started.

    Returns:
      The lanes, which ask for their first segments.
    """
    num_lanes = lanes.position.shape[0]
    writing = Writing(
        author=jnp.zeros(num_lanes, jnp.int32),
        proposed=Text(jnp.zeros((num_lanes, interaction.size.written), jnp.int32), jnp.zeros(num_lanes, jnp.int32)),
        episode_draw=jax.vmap(draw_author)(start_keys),
        is_waiting=jnp.ones(num_lanes, bool),
    )
    return lanes._replace(writing=writing)


def begin_segment(writing: Writing, begins: jax.Array) -> Writing:
    """Returns who writes in lanes `[b]`: where `begins`, bool `[b]`, is true, the policy, until a writer has answered."""
    return writing._replace(is_waiting=writing.is_waiting | begins, author=jnp.where(begins, POLICY, writing.author))


def ask(interaction: Interaction, writer: Writer, variables: Any, curriculum: Curriculum, lanes: Lane) -> Lane:
    """Serves the lanes that ask: they get the writer's text, or are left to the policy. Nothing is computed if none asks.

    Args:
      interaction: the agent in its environment.
      writer: the writer.
      variables: variables with which the lanes are rolled out.
      curriculum: curriculum of the interaction.
      lanes: `[b]`.

    Returns:
      The lanes, none of which asks.
    """
    writing: Any = lanes.writing

    def serve() -> Writing:
        request = Request(
            key=jax.vmap(segment_key)(lanes),
            state=lanes.state,
            kind=lanes.kind,
            budget=lanes.budget,
            grammar_state=lanes.grammar_state,
            legal=lanes.legal,
            attempt=lanes.attempt,
            begun=lanes.written,
            episode_draw=writing.episode_draw,
        )
        proposal = _checked(writer.write(variables, curriculum, request, writing.is_waiting), len(writing.is_waiting))
        fits = jax.vmap(functools.partial(_fits, interaction.grammar, interaction.size.written))(request, proposal.text)
        is_author = fits & (proposal.author > 0) & (proposal.author <= np.iinfo(np.int8).max)
        author = jnp.where(is_author, proposal.author, POLICY).astype(jnp.int32)
        answered = writing._replace(author=author, proposed=jax.vmap(_fitted, (None, 0))(interaction.size.written, proposal.text))
        return jax.vmap(select)(writing.is_waiting, answered, writing)._replace(is_waiting=jnp.zeros_like(writing.is_waiting))

    return lanes._replace(writing=jax.lax.cond(jnp.any(writing.is_waiting), serve, lambda: writing))


def _checked(proposal: Any, num_lanes: int) -> Proposal:
    """Returns what a writer returned; raises `ArlError` if it is no `Proposal` for so many lanes."""
    if not isinstance(proposal, Proposal):
        raise ArlError(f"the writer returns a {type(proposal).__name__}; return a rollout.Proposal(text, author)")
    said = text.checked(proposal.text, "the writer's proposal")
    for name, array, num_axes in (("text.ids", said.ids, 2), ("text.length", said.length, 1), ("author", proposal.author, 1)):
        shape, dtype = tuple(getattr(array, "shape", ())), getattr(array, "dtype", type(array).__name__)
        if len(shape) != num_axes or shape[:1] != (num_lanes,) or not jnp.issubdtype(array.dtype, jnp.integer):
            wanted = f"[{num_lanes}, capacity]" if num_axes == 2 else f"[{num_lanes}]"
            raise ArlError(f"the writer proposes {name} of {dtype}{list(shape)}; return int32 {wanted}, one row for each of its lanes")
    return proposal


def next_token(grammar: Grammar, proposed: Text, written: Text) -> jax.Array:
    """Returns the token, int32 `[]`, with which a proposed text goes on after what is written: its next one, or the stop token."""
    index = jnp.minimum(written.length, proposed.ids.shape[0] - 1)
    return jnp.where(written.length < proposed.length, proposed.ids[index], grammar.stop_id)


def _fitted(capacity: int, said: Text) -> Text:
    said = text.pad(text.cut(said, capacity), capacity)
    return Text(said.ids.astype(jnp.int32), said.length.astype(jnp.int32))


def _fits(grammar: Grammar, capacity: int, request: Request, said: Text) -> jax.Array:
    """Returns whether a text can be written in the segment that one lane begins, bool `[]`."""
    begun, index, num_left = request.begun, jnp.arange(said.ids.shape[-1]), said.length - request.begun.length
    forced = jnp.take(begun.ids, index, mode="clip")
    begins = (num_left >= 0) & jnp.all((said.ids == forced) | (index >= begun.length))
    end = text.reach(grammar, request.grammar_state, Text(jnp.roll(said.ids, -begun.length), num_left))
    can_stop = text.follow(grammar, end, jnp.int32(grammar.stop_id)) > 0
    ends = jnp.asarray(grammar.must_end)[end] | (num_left == request.budget) | can_stop
    return begins & (num_left <= request.budget) & (said.length <= capacity) & ends & text.accepts(grammar, end, request.legal)
