"""The shared types: texts, turns, interactions and trajectories.

An *episode* is the whole interaction of an agent, of one or several *attempts* at a task. In each *turn* the agent reads a text and writes
a *segment*. A *lane* plays episodes one after another, and what it reads, writes and earns is recorded in a *trajectory*.

Axes: `B` lanes, `T` positions of a trajectory, `A` legal strings of a grammar, `E` edges of one of its states, `U` candidates, the tokens
that may be sampled in some state. A type that describes one lane has no `B`; `jax.vmap` adds it.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class ArlError(ValueError):
    """An argument that cannot be used. The message says in one sentence what to change."""


State = Any  # a pytree of arrays, private to the functions that make and take it
Curriculum = Mapping[str, Any]  # values that training changes, by name of layer: schedules, and what `Interaction.update_curriculum` learns


class Kind(enum.IntEnum):
    """The kind of a segment. Masks, budgets, token costs and viewers select by it."""

    PAD = 0
    PROMPT = 1  # the text at the start of an episode, and a context that is read again at the start of a trajectory
    OBSERVATION = 2
    GOAL = 3
    PLAN = 4
    THINK = 5
    ACTION = 6
    REFLECTION = 7
    NOTE = 8
    TOOL = 9
    CONTROL = 10
    CONFIDENCE = 11


class Text(NamedTuple):
    """A run of tokens of bounded length.

    Attributes:
      ids: int32 `[capacity]`, token ids; those at and beyond `length` are arbitrary.
      length: int32 `[]`, at most `capacity`.
    """

    ids: jax.Array
    length: jax.Array


class Reward(NamedTuple):
    """Components of a reward, float32 `[]` each, in the environment's units. The reward is the sum of all but `own`.

    Attributes:
      outcome: the reward of the task itself.
      process: reward or penalty of a step on the way, such as an illegal text.
      exploration: bonus for new states.
      efficiency: cost of turns and tokens.
      own: paid to this segment alone and to no other, such as the score of a stated confidence; see `Rule.span`.
    """

    outcome: jax.Array | float = 0.0
    process: jax.Array | float = 0.0
    exploration: jax.Array | float = 0.0
    efficiency: jax.Array | float = 0.0
    own: jax.Array | float = 0.0


class Turn(NamedTuple):
    """What the model reads next, and what it may then write.

    Attributes:
      read: text to read; not empty if the context is reset.
      kind: int32 `[]`, `Kind` of the segment to write.
      budget: int32 `[]`, token limit of that segment, forced tokens included; 0 only if `truncated`.
      grammar_state: int32 `[]`, state of the interaction's grammar in which the segment begins.
      legal: bool `[A]`, the strings of the grammar that are legal in this turn.
      reset_context: bool `[]`, whether a new context starts with `read`.
      reward: `Reward` of the previous segment.
      discount: float32 `[]`, weight of all that follows that reward.
      attempt: int32 `[]`, index of the attempt to which the next segment belongs.
      terminated: bool `[]`, whether the episode has terminated: nothing is read or written.
      truncated: bool `[]`, whether the episode is truncated: `read` is read and its value recorded, but nothing is written.
    """

    read: Text
    kind: jax.Array
    budget: jax.Array
    grammar_state: jax.Array
    legal: jax.Array
    reset_context: jax.Array
    reward: Reward
    discount: jax.Array
    attempt: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Segment(NamedTuple):
    """A segment that the model wrote.

    Attributes:
      text: its tokens, forced ones included, without a stop token.
      choice: int32 `[]`, index of the legal string; -1 for an illegal text, 0 for free text.
      is_legal: bool `[]`, whether the grammar accepts it in this turn.
    """

    text: Text
    choice: jax.Array
    is_legal: jax.Array


class Grammar(NamedTuple):
    """A token automaton of `S` states that defines which texts are legal. It is built on the host and constant in a compiled program.

    A state has up to `E` edges, one for each token that can follow. A *free* state has a mask of tokens as well, all of which lead to the
    same state; where a token has an edge, the edge takes precedence. State 0 is dead: nothing can follow. Strings are ranked so that those
    reachable from a state form an interval: a prefix sum finds the legal edges, and nothing has size `S x V`.

    Attributes:
      token: int32 `[S, E]`, token ids of the edges of a state, ascending; beyond the last one a number that is no id.
      next_state: int32 `[S, E]`, state after an edge; 0 beyond the last one.
      interval: int32 `[S, 2]`, half-open range of the ranks of the strings that are reachable from a state.
      order: int32 `[R]`, index of the legal string of each rank.
      mask: uint32 `[F, ceil(V / 32)]`, bits of the tokens of the free states' masks, for `V = num_tokens`.
      mask_index: int32 `[S]`, row of `mask` of a free state; -1 for any other.
      mask_state: int32 `[S]`, state after a token of the mask.
      choice: int32 `[S]`, index of the legal string that ends in a state; -1 for none.
      is_accepting: bool `[S]`, whether a text may end in a state.
      must_end: bool `[S]`, whether a text must end in a state, because nothing can follow.
      forced: int32 `[S, N]`, token ids of the only path that leads on from a state.
      forced_length: int32 `[S]`, number of those tokens.
      forced_state: int32 `[S]`, state after them.
      num_choices: `A`, largest number of legal strings of any of the joined grammars.
      num_tokens: number of token ids if a state is free, else 0.
      stop_id: token id that ends a text where it could go on.
      root: root of the grammar that was joined last.
    """

    token: np.ndarray
    next_state: np.ndarray
    interval: np.ndarray
    order: np.ndarray
    mask: np.ndarray
    mask_index: np.ndarray
    mask_state: np.ndarray
    choice: np.ndarray
    is_accepting: np.ndarray
    must_end: np.ndarray
    forced: np.ndarray
    forced_length: np.ndarray
    forced_state: np.ndarray
    num_choices: int
    num_tokens: int
    stop_id: int
    root: int

    @property
    def edge_tokens(self) -> np.ndarray:
        """Token ids that some edge has, int32 `[U]`, ascending."""
        return np.unique(self.token[self.next_state > 0])

    @property
    def candidates(self) -> np.ndarray:
        """Token ids that may be sampled in some state, int32 `[U]`, ascending: the whole vocabulary if a state is free."""
        return np.arange(self.num_tokens, dtype=np.int32) if self.num_tokens else self.edge_tokens


class Size(NamedTuple):
    """The largest size of an episode, static, by which trajectories and contexts are allocated.

    Attributes:
      read: capacity of the text of a turn, tokens.
      written: tokens of the longest segment.
      turns: most segments of an episode.
      episode: most tokens of an episode, read and written.
      context: most tokens of a context; as many as of an episode if the context is never reset.
      context_turns: most segments of a context.
      context_resets: most turns of an episode that reset the context.
      rare: pairs of a kind and the most segments of it in an episode, for kinds that not every turn may ask for.
    """

    read: int
    written: int
    turns: int
    episode: int
    context: int
    context_turns: int
    context_resets: int = 0
    rare: tuple[tuple[Kind, int], ...] = ()


class AgentState(NamedTuple):
    """State of an interaction.

    Attributes:
      environment: state of the environment.
      layers: state of each layer that has one, innermost first.
    """

    environment: State
    layers: tuple[State, ...] = ()

    def push(self, own: State) -> "AgentState":
        """Returns this state with that of another layer, `own`, around it."""
        return AgentState(self.environment, (*self.layers, own))

    def pop(self) -> tuple["AgentState", Any]:
        """Returns the state without that of the outermost layer, and that layer's own state."""
        return AgentState(self.environment, self.layers[:-1]), self.layers[-1]


Expert = Callable[[jax.Array, AgentState, jax.Array], Text]  # (key, state, attempts int32 [] that it remembers): what an expert writes now


class Interaction(NamedTuple):
    """An agent in its environment as pure functions, for one lane. Each layer of an agent maps an interaction to another.

    Attributes:
      start: `(key, curriculum) -> (state, Turn)`, starts an episode.
      advance: `(key, curriculum, state, Segment) -> (state, Turn)`, called after each segment.
      grammar: grammar of all turns.
      size: largest size of an episode.
      experts: experts by kind of segment; empty if there are none.
      update_curriculum: `(curriculum, metrics) -> curriculum`, called once per update; None changes nothing.
      layers: layers of the agent, innermost first; see `arl.agents.Layer`.
      task: the `arl.task.Task`, with the limits that the layers set; None if there is none.
    """

    start: Callable[[jax.Array, Curriculum], tuple[AgentState, Turn]]
    advance: Callable[[jax.Array, Curriculum, AgentState, Segment], tuple[AgentState, Turn]]
    grammar: Grammar
    size: Size
    experts: Mapping[Kind, Expert] = {}
    update_curriculum: Callable[[Curriculum, Any], Curriculum] | None = None
    layers: tuple[Any, ...] = ()
    task: Any = None

    def __repr__(self) -> str:
        layers = ", ".join(layer.label for layer in self.layers)
        where = f" in {self.task.environment!r}" if self.task else ""
        return f"Interaction({layers}{where}, {self.size}, grammar of {len(self.grammar.choice)} states)"

    @property
    def writes(self) -> tuple[Kind, ...]:
        """The kinds of segments that the model writes."""
        return tuple(dict.fromkeys(kind for layer in self.layers for kind in layer.writes))

    @property
    def has_expert(self) -> bool:
        """Whether there is an expert for every kind of segment that the model writes."""
        return bool(self.experts) and all(kind in self.experts for kind in self.writes)


class Trajectory(NamedTuple):
    """What a batch of lanes reads, writes and earns, `[B, T]`. A position holds the token read there, and what was sampled after it.

    Attributes:
      token: int32, token id read.
      token_kind: int8, `Kind` of the token; `PAD` if none was read.
      context_start: int32, position at which the context of this position starts.
      is_sampled: bool, whether a token was sampled after this position.
      kind: int8, `Kind` of the segment being written; `PAD` if no token was sampled.
      sampled: int32, sampled token id.
      grammar_state: int32, state of the grammar in which it was sampled.
      author: int8, who wrote it: 0 for the policy, else the number of another writer.
      has_choice: bool, whether more than one token could be sampled.
      support: uint32 `[B, T, ceil(E / 32)]`, bits of the state's edges that could be sampled; the mask of a free state comes on top.
      narrowed: int32 `[B, T, K]`, tokens left in a free state where decoding narrows, -1 beyond the last; None if it does not.
      log_prob: float32, nats, of the sampled token under the policy that rolled out, whoever wrote it.
      value: float32, value after this position, in the units of the scaled reward; 0 if none was recorded.
      has_value: bool, whether a value was recorded.
      reward: `Reward` of float32, of the segment that ended here.
      discount: float32, weight of what follows; 1 within a segment, 0 where the episode ended.
      ends_segment: bool, whether the sampled token, with those that it forced, ended the segment.
      is_legal: bool, whether the segment that ended here was legal.
      ends_episode: bool, whether the episode ended here: it terminated, or it was truncated and its last observation read.
      is_truncated: bool, whether it was truncated.
      turn: uint16, index of the turn in its episode.
      attempt: uint16, index of the attempt in its episode.
      episode: uint16, index of the episode in its lane and trajectory.
    """

    token: jax.Array
    token_kind: jax.Array
    context_start: jax.Array
    is_sampled: jax.Array
    kind: jax.Array
    sampled: jax.Array
    grammar_state: jax.Array
    author: jax.Array
    has_choice: jax.Array
    support: jax.Array
    narrowed: jax.Array | None
    log_prob: jax.Array
    value: jax.Array
    has_value: jax.Array
    reward: Reward
    discount: jax.Array
    ends_segment: jax.Array
    is_legal: jax.Array
    ends_episode: jax.Array
    is_truncated: jax.Array
    turn: jax.Array
    attempt: jax.Array
    episode: jax.Array


def make_turn(
    read: Text,
    kind: Kind,
    budget: jax.Array | int,
    grammar_state: jax.Array | int,
    legal: jax.Array,
    *,
    reward: Reward = Reward(),
    reset_context: jax.Array | bool = False,
    discount: jax.Array | float = 1.0,
    attempt: jax.Array | int = 0,
    terminated: jax.Array | bool = False,
    truncated: jax.Array | bool = False,
) -> Turn:
    """Returns a `Turn` whose fields have their final types, so that `select` can choose between two turns; arguments as in `Turn`."""
    return Turn(
        read=Text(jnp.asarray(read.ids, jnp.int32), jnp.asarray(read.length, jnp.int32)),
        kind=jnp.asarray(kind, jnp.int32),
        budget=jnp.asarray(budget, jnp.int32),
        grammar_state=jnp.asarray(grammar_state, jnp.int32),
        legal=jnp.asarray(legal, bool),
        reset_context=jnp.asarray(reset_context, bool),
        reward=Reward(*(jnp.asarray(x, jnp.float32) for x in reward)),
        discount=jnp.asarray(discount, jnp.float32),
        attempt=jnp.asarray(attempt, jnp.int32),
        terminated=jnp.asarray(terminated, bool),
        truncated=jnp.asarray(truncated, bool),
    )


def select(which: jax.Array, if_true: Any, if_false: Any) -> Any:
    """Returns one of two pytrees of the same structure and shapes, which may hold typed keys, by a bool `[]`."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), if_true, if_false)
