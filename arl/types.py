"""The shared vocabulary: texts, turns, interactions, environments and streams.

Everything here is plain data or a pure function. Axis letters: `B` lanes, `T` tokens of a stream, `A` legal strings of a grammar,
`U` letters of an agent's alphabet. A type that describes one lane has no `B`; `jax.vmap` adds it.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

State = Any  # a pytree of arrays, private to the function that made it
Setting = Mapping[str, Any]  # what training changes over time: schedules' values and what `adapt` learns, by name


class Kind(enum.IntEnum):
    """The kind of a segment: what a run of tokens is for. Masks, budgets, prices and viewers select by it."""

    PAD = 0
    PROMPT = 1  # a lane's live context, read again at the start of a stream
    OBSERVATION = 2
    GOAL = 3
    PLAN = 4
    THINK = 5
    ACTION = 6
    REFLECTION = 7
    NOTE = 8
    TOOL = 9
    CONTROL = 10


class Text(NamedTuple):
    """A run of tokens of bounded length.

    Attributes:
      ids: int32 `[capacity]`; what stands at or beyond `length` has no meaning.
      length: int32 `[]`, at most `capacity`.
    """

    ids: jax.Array
    length: jax.Array


class Reward(NamedTuple):
    """Named components of a reward, float32 `[]` each, in the environment's units; they add up.

    Attributes:
      outcome: what the task itself pays.
      process: paid or charged on the way (an illegal text, for instance).
      exploration: paid for what is new.
      efficiency: charged for turns and tokens.
    """

    outcome: jax.Array | float = 0.0
    process: jax.Array | float = 0.0
    exploration: jax.Array | float = 0.0
    efficiency: jax.Array | float = 0.0


class Turn(NamedTuple):
    """What the model reads next, and what it is then asked to write.

    Attributes:
      read: the text to be read; not empty where the context begins anew.
      kind: int32 `[]`, `Kind` of the segment to be written.
      budget: int32 `[]`, tokens that it may hold, forced ones included; 0 only where `truncated`.
      grammar: int32 `[]`, state of the interaction's grammar in which the segment begins.
      legal: bool `[A]`, which of the grammar's strings exist in this turn.
      forget: bool `[]`, whether the context begins anew with `read`.
      reward: earned by the segment written last.
      discount: float32 `[]`, weight of all that comes after that reward.
      attempt: int32 `[]`, which attempt at the task the next segment belongs to.
      terminated: bool `[]`, whether the life is over: nothing follows, `read` is not read.
      truncated: bool `[]`, whether the life is cut: `read` is read and its value recorded, nothing is written.
    """

    read: Text
    kind: jax.Array
    budget: jax.Array
    grammar: jax.Array
    legal: jax.Array
    forget: jax.Array
    reward: Reward
    discount: jax.Array
    attempt: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Written(NamedTuple):
    """A segment that the model wrote.

    Attributes:
      text: its tokens, forced ones included, without the stop token that may have ended it.
      choice: int32 `[]`, index of the legal string that it is; -1 for an illegal text, 0 for free text.
      is_legal: bool `[]`, whether the turn's grammar accepted it.
    """

    text: Text
    choice: jax.Array
    is_legal: jax.Array


class Grammar(NamedTuple):
    """A token automaton: what may be written, token by token. Built on the host; constant in the compiled program.

    State 0 is dead: nothing is legal from there. Several grammars live in one automaton after `arl.text.join`; each begins in its own root.

    Attributes:
      alphabet: int32 `[U]`, the token ids that can be written at all, ascending.
      next_state: int32 `[S, U]`, the state after a letter; 0 where the letter is not legal.
      choice: int32 `[S]`, index of the legal string that ends in this state, or -1.
      is_accepting: bool `[S]`, whether a text may end in this state.
      is_final: bool `[S]`, whether a text must end in this state: nothing can follow.
      forced: int32 `[S, F]`, token ids that are the only way on from this state.
      forced_length: int32 `[S]`.
      forced_state: int32 `[S]`, the state after the forced tokens.
      num_choices: the largest number of legal strings of any part, `A`.
      stop_id: token id that ends a text that could go on.
      root: state in which the part that was added last begins.
    """

    alphabet: np.ndarray
    next_state: np.ndarray
    choice: np.ndarray
    is_accepting: np.ndarray
    is_final: np.ndarray
    forced: np.ndarray
    forced_length: np.ndarray
    forced_state: np.ndarray
    num_choices: int
    stop_id: int
    root: int


class Size(NamedTuple):
    """Static bounds of a life, from which streams and contexts are sized and checked when a program is built.

    Attributes:
      read: capacity of the text of a turn, tokens.
      written: tokens of the longest segment.
      turns: segments that a life can hold.
      life: tokens that a life can hold, read and written together.
      context: tokens that a live context can hold: those of a life, unless something is forgotten.
      context_turns: segments that a live context can hold.
      forgets: turns of a life that can begin the context anew.
    """

    read: int
    written: int
    turns: int
    life: int
    context: int
    context_turns: int
    forgets: int = 0


class Interaction(NamedTuple):
    """An agent in its environment as one stateless step function, for one lane. Combinators map interactions to interactions.

    Attributes:
      start: `(key, setting) -> (state, Turn)` begins a life.
      advance: `(key, setting, state, Written) -> (state, Turn)` is called when a segment has been written.
      grammar: all that may be written in any turn.
      size: bounds of a life.
      adapt: `(setting, outcomes) -> setting`, once an update; None changes nothing.
      expert: `(key, state) -> Text`, what an expert would write now; None where there is none.
      anchor: `state -> uint32 []`, equal for states that are the same decision; None where there is none.
      explores: whether what is new in a life is paid for; lives within a life would be paid for it again.
    """

    start: Callable[[jax.Array, Setting], tuple[State, Turn]]
    advance: Callable[[jax.Array, Setting, State, Written], tuple[State, Turn]]
    grammar: Grammar
    size: Size
    adapt: Callable[[Setting, Any], Setting] | None = None
    expert: Callable[[jax.Array, State], Text] | None = None
    anchor: Callable[[State], jax.Array] | None = None
    explores: bool = False


class Step(NamedTuple):
    """What an environment answers to an action.

    Attributes:
      reward: float32 `[]`.
      terminated: bool `[]`, whether the task is over.
      truncated: bool `[]`, whether it was cut by a limit that is not part of the task.
    """

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Environment(NamedTuple):
    """A task in text, as pure functions for one lane.

    Attributes:
      reset: `key -> state`.
      step: `(key, state, action int32 []) -> (state, Step)`; `action` is the index of a legal string.
      describe: `state -> Text`, what the agent reads: after `reset` the task, after `step` what followed, and the words that ask for more.
      grammar: the legal strings; string `i` is action `i`.
      legal: `state -> bool [A]`, the actions that exist now; at least one.
      max_steps: actions that an episode can hold; None where only a `time_limit` would bound it.
      expert: `(key, state) -> action int32 []`, None where there is none.
      anchor: `state -> uint32 []`, None where there is none.
      worst_reward: the least that a step can earn, at most 0. An illegal text earns it.
    """

    reset: Callable[[jax.Array], State]
    step: Callable[[jax.Array, State, jax.Array], tuple[State, Step]]
    describe: Callable[[State], Text]
    grammar: Grammar
    legal: Callable[[State], jax.Array]
    max_steps: int | None
    expert: Callable[[jax.Array, State], jax.Array] | None = None
    anchor: Callable[[State], jax.Array] | None = None
    worst_reward: float = 0.0


class Stream(NamedTuple):
    """What a batch of lanes read, wrote and earned: slot `t` holds the token read there and what was decided after reading it.

    Every array is `[B, T]` unless said. A slot is *read* if it holds a token, *written at* if a token was sampled after it.

    Attributes:
      token: int32, the token read.
      token_kind: int32, `Kind` of the token read, `PAD` where nothing was.
      begin: int32, the slot at which the live context of this slot begins.
      is_written: bool, whether a token was sampled after this slot.
      kind: int32, `Kind` of the segment being written; `PAD` where nothing is.
      written: int32, index in the alphabet of the token sampled, and
      support: uint32 `[B, T, ceil(U / 32)]`, bits of the letters that it was sampled from.
      log_prob: float32, nats, of the sampled token under the distribution that it was sampled from.
      value: float32, the value head after this slot; 0 where it was not asked.
      has_value: bool, whether it was.
      reward: `Reward` of float32, earned by the segment that ended here.
      discount: float32, weight of what follows this slot; 1 within a segment, 0 where the life terminated.
      ends_segment: bool, whether the sampled token (and what it forced) ended the segment.
      is_legal: bool, whether the segment that ended here was legal.
      ends_life: bool, whether the life ended here: terminated, or truncated after its last observation had been read.
      is_truncated: bool, whether it was truncated.
      turn: int32, index of the turn in its life.
      attempt: int32, index of the attempt in its life.
      life: int32, index of the life in its lane.
    """

    token: jax.Array
    token_kind: jax.Array
    begin: jax.Array
    is_written: jax.Array
    kind: jax.Array
    written: jax.Array
    support: jax.Array
    log_prob: jax.Array
    value: jax.Array
    has_value: jax.Array
    reward: Reward
    discount: jax.Array
    ends_segment: jax.Array
    is_legal: jax.Array
    ends_life: jax.Array
    is_truncated: jax.Array
    turn: jax.Array
    attempt: jax.Array
    life: jax.Array


class LanguageModel(NamedTuple):
    """A model as pure functions over its parameters. `C` tokens a lane are read at a call; `features` is a pytree `[B, C, ...]`.

    Attributes:
      init: `key -> params`.
      empty_cache: `(num_lanes, num_slots) -> cache`, a ring of slots a lane.
      read: `(params, tokens [B, C], position [B, C], begin [B, C], is_valid [B, C], cache, lane [B] or None) -> (features, cache)`.
        Token `i` of row `b` stands at `position` in the stream of lane `lane[b]` (row `b` is lane `b` if None) and sees what lies in
        `[begin, position]` of it. Rows that are not valid leave the cache as it is.
      score: `(params, tokens [B, T], begin [B, T]) -> features`, the same for a whole stream at once, without a cache.
      logits: `(params, features, alphabet [U]) -> float32 [..., U]`.
      value: `(params, features) -> float32 [...]`.
      context_length: tokens of the longest context that it can score; None for any.
    """

    init: Callable[[jax.Array], Any]
    empty_cache: Callable[[int, int], Any]
    read: Callable[..., tuple[Any, Any]]
    score: Callable[[Any, jax.Array, jax.Array], Any]
    logits: Callable[[Any, Any, jax.Array], jax.Array]
    value: Callable[[Any, Any], jax.Array]
    context_length: int | None = None


def make_turn(
    read: Text,
    kind: Kind,
    budget: jax.Array | int,
    grammar: jax.Array | int,
    legal: jax.Array,
    *,
    reward: Reward = Reward(),
    forget: jax.Array | bool = False,
    discount: jax.Array | float = 1.0,
    attempt: jax.Array | int = 0,
    terminated: jax.Array | bool = False,
    truncated: jax.Array | bool = False,
) -> Turn:
    """Returns a `Turn` whose fields all have their final types, so that two turns can be selected between."""
    return Turn(
        read=Text(jnp.asarray(read.ids, jnp.int32), jnp.asarray(read.length, jnp.int32)),
        kind=jnp.asarray(kind, jnp.int32),
        budget=jnp.asarray(budget, jnp.int32),
        grammar=jnp.asarray(grammar, jnp.int32),
        legal=jnp.asarray(legal, bool),
        forget=jnp.asarray(forget, bool),
        reward=Reward(*(jnp.asarray(x, jnp.float32) for x in reward)),
        discount=jnp.asarray(discount, jnp.float32),
        attempt=jnp.asarray(attempt, jnp.int32),
        terminated=jnp.asarray(terminated, bool),
        truncated=jnp.asarray(truncated, bool),
    )


def check_whole(**numbers: Any) -> None:
    """Raises `ValueError` for a size that is no whole number.

    Args:
      **numbers: what was given, by name.
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{name} is {value!r}; set it to a whole number")


def follow(setting: Setting, name: str, field: str) -> Any:
    """Returns `setting[name][field]`, what a schedule says now.

    Args:
      setting: of the interaction.
      name: key of a combinator's part of it.
      field: what is wanted of that part.

    Raises:
      ValueError: if nothing sets it.
    """
    try:
        return setting[name][field]
    except KeyError:
        raise ValueError(
            f"nothing sets {name}.{field}; give LearnerConfig.schedules['{name}.{field}'] a Schedule, or the setting that value"
        ) from None


def select(which: jax.Array, if_true: Any, if_false: Any) -> Any:
    """Returns one of two pytrees of the same structure and shapes, by a bool `[]`; typed keys included."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), if_true, if_false)
