"""Several attempts at one task, and what is carried over from one to the next: nothing, a window, everything, or a reflection."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.agents.layer import Layer, choose_expert, note_symbols, scheduled_value, without_reward
from arl.agents.size import repeat
from arl.checks import Checked
from arl.task import Limits, Task
from arl.types import AgentState, ArlError, Expert, Interaction, Kind, Segment, Text, Turn, select


@dataclasses.dataclass(frozen=True)
class Memory(Checked):
    """What an agent remembers of one attempt in the next: `Nothing`, `History`, `Window` or `Reflection`."""

    @property
    def resets_context(self) -> bool:
        """Whether each attempt starts a new context."""
        return True

    @property
    def num_kept(self) -> int:
        """Tokens of the transcript that are kept."""
        return 0


@dataclasses.dataclass(frozen=True)
class Nothing(Memory):
    """Nothing is carried over: every attempt starts with an empty context."""


@dataclasses.dataclass(frozen=True)
class History(Memory):
    """The whole context is carried over: it is never reset."""

    @property
    def resets_context(self) -> bool:
        """Always false."""
        return False


@dataclasses.dataclass(frozen=True)
class Window(Memory):
    """The last tokens of the episode are carried over, both those read and those written.

    Attributes:
      num_tokens: number of tokens.
    """

    num_tokens: int = 16

    def __post_init__(self):
        super().__post_init__()
        if self.num_tokens < 1:
            raise ArlError(f"a window of {self.num_tokens} tokens keeps nothing; set Window.num_tokens >= 1")

    @property
    def num_kept(self) -> int:
        """Length of the window."""
        return self.num_tokens


@dataclasses.dataclass(frozen=True)
class Reflection(Memory):
    """Only a REFLECTION is carried over, a text that the model writes between two attempts.

    Attributes:
      budget: most tokens of a reflection.
      symbols: vocabulary of a reflection: that of the "task", "any" token, or a tuple of strings of one token each.
      stop: whether the model may end a reflection before its budget is used up.
      ask: prompt, read before a reflection is written and before it is read again.
      annealed: whether the old context is kept as well, with the scheduled probability `curriculum[name]["keep"]` of `Attempts`.
    """

    budget: int = 3
    symbols: str | tuple[str, ...] = "task"
    stop: bool = False
    ask: str = " note"
    annealed: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.budget < 1:
            raise ArlError(f"a reflection of {self.budget} tokens says nothing; set Reflection.budget >= 1, or memory=Nothing()")


class AttemptsState(NamedTuple):
    """Own state of `Attempts`.

    Attributes:
      key: key with which every attempt starts, so that all have the same task.
      attempt: int32 `[]`, index of the attempt.
      is_reflecting: bool `[]`, whether a reflection is being written.
      carried: `Text` carried over into this attempt, read again whenever an inner layer resets the context.
      transcript: `Text`, the last tokens read and written; of capacity 0 unless the memory is a `Window`.
    """

    key: jax.Array
    attempt: jax.Array
    is_reflecting: jax.Array
    carried: Text
    transcript: Text


@dataclasses.dataclass(frozen=True)
class Attempts(Layer):
    """Several attempts at the same task make an episode.

    Each attempt starts the inner interaction with the same key, so that all attempts have the same hidden number or the same map. When one
    has terminated or been truncated, the next one starts; the last one ends the episode in the same way. (Reflection between attempts as in
    LaMer, arXiv 2512.16848; several attempts at one task as in RL^2, arXiv 1611.02779.) Experts remember earlier attempts, unless the
    memory is `Nothing`, or a `Reflection` that no expert can write.

    Attributes:
      num_attempts: number of attempts in an episode, `K`.
      memory: what is carried over from one attempt to the next.
      discount: discount factor between two attempts; within an attempt, `Act.discount` applies.
    """

    num_attempts: int
    memory: Memory = Nothing()
    discount: float = 1.0

    def __post_init__(self):
        if not isinstance(self.memory, Memory):
            raise ArlError(f"Attempts.memory is {self.memory!r}; set it to Nothing(), Window(16), History() or Reflection(3)")
        super().__post_init__()
        if self.num_attempts < 1:
            raise ArlError(f"Attempts.num_attempts is {self.num_attempts}; set it >= 1")
        if isinstance(self.memory, Reflection) and self.num_attempts < 2:
            raise ArlError("a reflection needs a next attempt to be of use; set Attempts.num_attempts >= 2, or memory=Nothing()")
        if not 0 <= self.discount <= 1:
            raise ArlError(f"Attempts.discount is {self.discount}; set it between 0 and 1")

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Reflections, if the memory is one."""
        return (Kind.REFLECTION,) if isinstance(self.memory, Reflection) else ()

    @property
    def schedules(self) -> tuple[str, ...]:
        """Probability that the old context is kept, if it is annealed."""
        return (f"{self.label}.keep",) if isinstance(self.memory, Reflection) and self.memory.annealed else ()

    @property
    def budgets(self) -> dict[Kind, tuple[str, int]]:
        """Budget of a reflection."""
        return {Kind.REFLECTION: ("Reflection.budget", self.memory.budget)} if isinstance(self.memory, Reflection) else {}

    def set_limits(self, limits: Limits) -> Limits:
        """Returns the limits of an episode of several attempts."""
        return limits._replace(num_attempts=limits.num_attempts * self.num_attempts)

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner`, repeated for several attempts."""
        if self.num_attempts > 1 and (paid := [layer.one_time_reward for layer in inner.layers if layer.one_time_reward]):
            raise ArlError(f"{paid[0]} would be paid for again in every attempt; put that layer around Attempts, or set num_attempts=1")
        if not self.memory.resets_context and inner.size.context_resets:
            raise ArlError("History keeps the whole context, but an inner layer resets it; set Attempts.memory to a Window or a Reflection")
        return _Attempts(self, inner, task).interaction()


class _Attempts:
    """The functions of `Attempts` around an interaction."""

    def __init__(self, layer: Attempts, inner: Interaction, task: Task):
        self.layer, self.inner, self.memory = layer, inner, layer.memory
        self.reflection = layer.memory if isinstance(layer.memory, Reflection) else None
        self.grammar, self.ask = inner.grammar, text.empty(0)
        if self.reflection:
            words = text.any_text(task.tokenizer, note_symbols(task, self.reflection.symbols), stop=self.reflection.stop)
            self.grammar, self.ask = text.join(inner.grammar, words), text.encode(task.tokenizer, self.reflection.ask)
        self.budget, ask = (self.reflection.budget if self.reflection else 0), self.ask.ids.shape[0]
        self.carried_capacity = self.memory.num_kept + ask + self.budget
        is_annealed = self.reflection is not None and self.reflection.annealed
        self.size = repeat(
            inner.size,
            layer.num_attempts,
            ask=ask,
            written=self.budget,
            carried=self.carried_capacity,
            resets=self.memory.resets_context,
            always_resets=self.memory.resets_context and not is_annealed,
        )

    def interaction(self) -> Interaction:
        changes = {"start": self.start, "advance": self.advance, "grammar": self.grammar, "size": self.size}
        return self.inner._replace(experts=self.experts(), layers=(*self.inner.layers, self.layer), **changes)

    def fit(self, turn: Turn, before: Text, **rest: Any) -> Turn:
        """Returns `turn` with `before` prepended to its text."""
        read = text.concatenate(before, turn.read, capacity=self.size.read)
        return turn._replace(read=read, legal=text.pad_legal(turn.legal, self.grammar.num_choices), **rest)

    def append(self, transcript: Text, *new: Text) -> Text:
        """Returns the transcript with new texts appended."""
        num_kept = self.memory.num_kept
        return text.keep_last(text.concatenate(transcript, *new), num_kept) if num_kept else transcript

    def start(self, key, curriculum) -> tuple[AgentState, Turn]:
        inner_state, turn = self.inner.start(key, curriculum)
        transcript = self.append(text.empty(self.memory.num_kept), turn.read)
        own = AttemptsState(key, jnp.int32(0), jnp.bool_(False), text.empty(self.carried_capacity), transcript)
        return inner_state.push(own), self.fit(turn, text.empty(0))

    def next_attempt(self, key, curriculum, own: AttemptsState, ended: Turn, note: Text) -> tuple[AgentState, Turn]:
        """Starts the next attempt; `ended` is the turn that ended the last one, or that follows the reflection on it."""
        inner_state, first = self.inner.start(own.key, curriculum)
        resets = jnp.bool_(self.memory.resets_context)
        if self.reflection and self.reflection.annealed:
            resets &= jax.random.uniform(key) >= scheduled_value(curriculum, self.layer.label, "keep")
        transcript = self.append(own.transcript, ended.read)
        carried = text.concatenate(transcript, self.ask, note)
        # A context that is kept is not read again, but the reflection is, so that its position is always the same.
        before = text.concatenate(text.only_if(~resets, ended.read), text.only_if(resets, transcript), self.ask, note)
        discount, attempt = jnp.float32(self.layer.discount), own.attempt + 1
        turn = self.fit(first, before, reward=ended.reward, reset_context=resets, discount=discount, attempt=attempt)
        transcript = self.append(transcript, self.ask, note, first.read)
        return inner_state.push(AttemptsState(own.key, attempt, jnp.bool_(False), carried, transcript)), turn

    def reflect(self, inner_state: AgentState, own: AttemptsState, ended: Turn) -> tuple[AgentState, Turn]:
        """Asks for a reflection on the attempt that has ended."""
        read = text.concatenate(text.only_if(ended.reset_context, own.carried), ended.read, self.ask, capacity=self.size.read)
        turn = ended._replace(
            read=read,
            kind=jnp.int32(Kind.REFLECTION),
            budget=jnp.int32(self.budget),
            grammar_state=jnp.int32(self.grammar.root),
            legal=jnp.ones(self.grammar.num_choices, bool),
            discount=jnp.float32(1.0),
            attempt=own.attempt,
            terminated=jnp.bool_(False),
            truncated=jnp.bool_(False),
        )
        transcript = self.append(own.transcript, ended.read, self.ask)
        return inner_state.push(own._replace(is_reflecting=jnp.bool_(True), transcript=transcript)), turn

    def go_on(self, inner_state: AgentState, own: AttemptsState, turn: Turn) -> tuple[AgentState, Turn]:
        """Continues the attempt, or ends the episode with it."""
        before = text.only_if(turn.reset_context, own.carried)
        transcript = self.append(own.transcript, turn.read)
        return inner_state.push(own._replace(transcript=transcript)), self.fit(turn, before, attempt=own.attempt)

    def advance(self, key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        inner_state, own = state.pop()
        key_inner, key_reset = jax.random.split(key)
        within = segment._replace(text=text.cut(segment.text, self.inner.size.written))
        inner_state, turn = self.inner.advance(key_inner, curriculum, inner_state, within)
        own = own._replace(transcript=self.append(own.transcript, segment.text))
        goes_on = self.go_on(inner_state, own, turn)
        attempt_ends = (turn.terminated | turn.truncated) & (own.attempt < self.layer.num_attempts - 1)
        if not self.reflection:
            return select(attempt_ends, self.next_attempt(key_reset, curriculum, own, turn, text.empty(0)), goes_on)
        silence = without_reward(turn)._replace(read=text.empty(0))
        following = self.next_attempt(key_reset, curriculum, own, silence, text.cut(segment.text, self.budget))
        after_attempt = select(attempt_ends, self.reflect(inner_state, own, turn), goes_on)
        return select(own.is_reflecting, following, after_attempt)

    def experts(self) -> dict[Kind, Expert]:
        """Returns the inner experts, given the number of attempts that they remember, and the expert of reflections."""
        given = self.inner.experts
        is_told = not isinstance(self.memory, Nothing) and not (self.reflection and Kind.REFLECTION not in given)

        def in_attempt(expert: Expert) -> Expert:
            def write(key, state: AgentState, attempt: jax.Array) -> Text:
                inner_state, own = state.pop()
                before = attempt * self.layer.num_attempts + own.attempt
                return expert(key, inner_state, before if is_told else jnp.int32(0))

            return write

        experts = {kind: in_attempt(expert) for kind, expert in given.items()}
        if self.reflection:
            within = experts.get(Kind.REFLECTION, lambda key, state, attempt: text.empty(0))
            reflect = lambda key, state, attempt: text.cut(within(key, state, attempt), self.budget)
            experts[Kind.REFLECTION] = choose_expert(lambda own: own.is_reflecting, reflect, within)
        return experts
