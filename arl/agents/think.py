"""Thinking: the model writes a thought, then its action, or its plan."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.agents.defer import Deferred, defer_action
from arl.agents.layer import Layer, extend, note_symbols
from arl.agents.moves import Move, fill, part_of
from arl.agents.size import insert_before_turn
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Kind, Reward, Segment, Text, Turn, make_turn, select


class ThinkState(NamedTuple):
    """Own state of `Think`.

    Attributes:
      deferred: the segment that is deferred while a thought is written.
      is_thinking: bool `[]`, whether a thought is being written.
    """

    deferred: Deferred
    is_thinking: jax.Array


@dataclasses.dataclass(frozen=True)
class Think(Layer):
    """A THINK segment before each ACTION, or before each segment of another kind, such as a PLAN.

    The expert writes the thought of the task's expert, as much of it as the budget holds; without one, thoughts are empty. Where a thought
    cannot be stopped, its last token fills it.

    Attributes:
      budget: most tokens of a thought.
      symbols: vocabulary of a thought: "any" token, that of the "task", or a tuple of strings of one token each.
      stop: whether the model may end a thought with the stop token; otherwise every thought has `budget` tokens.
      before: prompt, read before a thought.
      after: prompt, read between a thought and what follows it.
      precedes: kind of the segments before which the model thinks, such as "action" or, around `Plan`, "plan".
    """

    budget: int = 16
    symbols: str | tuple[str, ...] = "any"
    stop: bool = True
    before: str = " think"
    after: str = " so"
    precedes: str = "action"

    def __post_init__(self):
        super().__post_init__()
        if self.budget < 1:
            raise ArlError(f"a thought of {self.budget} tokens cannot be written; set Think.budget >= 1, or leave the layer out")

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Thoughts."""
        return (Kind.THINK,)

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with thoughts."""
        if self.precedes not in [kind.name.lower() for kind in inner.writes]:
            written = ", ".join(kind.name.lower() for kind in inner.writes)
            raise ArlError(f"Think.precedes is {self.precedes!r}, and the layers within write {written}; set it to one of these")
        kind = Kind[self.precedes.upper()]
        grammar = text.join(inner.grammar, text.any_text(task.tokenizer, note_symbols(task, self.symbols), stop=self.stop))
        opening, closing = text.encode(task.tokenizer, self.before), text.encode(task.tokenizer, self.after)
        length, end = opening.ids.shape[0], closing.ids.shape[0]
        size = insert_before_turn(
            inner.size,
            segments=1,
            tokens=length + self.budget + end,
            read=max(inner.size.read + length, end),
            written=self.budget,
            kind=kind,
        )
        legal = text.pad_legal(jnp.ones(1, bool), grammar.num_choices)

        def hold(state: AgentState, turn: Turn) -> tuple[AgentState, Turn]:
            """Defers the inner turn and asks for a thought, if the inner turn asks for a segment of the kind that thoughts precede."""
            deferred, is_thinking, asked = defer_action(turn, Kind.THINK, self.budget, grammar.root, legal, opening, size.read, kind)
            return state.push(ThinkState(deferred, is_thinking)), asked

        def start(key, curriculum):
            return hold(*inner.start(key, curriculum))

        def advance(key, curriculum, state: AgentState, segment: Segment):
            inner_state, held = state.pop()
            wanted = held.deferred
            released = make_turn(
                text.pad(closing, size.read), kind, wanted.budget, wanted.grammar_state, wanted.legal, attempt=wanted.attempt
            )
            after_thought = inner_state.push(held._replace(is_thinking=jnp.bool_(False))), released
            within = segment._replace(text=text.cut(segment.text, inner.size.written))
            return select(held.is_thinking, after_thought, hold(*inner.advance(key, curriculum, inner_state, within)))

        given = inner.experts.get(Kind.THINK)

        def expert(key, state: AgentState, attempt: jax.Array) -> Text:
            if given is None:
                return text.empty(0)
            said = text.cut(given(key, state.pop()[0], attempt), self.budget)
            return said if self.stop else fill(said)

        return extend(
            inner,
            self,
            start=start,
            advance=advance,
            grammar=grammar,
            size=size,
            experts={Kind.THINK: expert},
            asks=lambda own: own.is_thinking,
        )

    def move(self, inner: Interaction, task: Task) -> Move:
        """Returns a thought as a move; with each one, the expert writes the next part of its thought."""
        if self.precedes != "action":
            raise ArlError(f"Think.precedes is {self.precedes!r}, and a menu stands before actions; set it to 'action'")
        words = text.any_text(task.tokenizer, note_symbols(task, self.symbols), stop=self.stop)
        closing, given = text.encode(task.tokenizer, self.after), inner.experts.get(Kind.THINK)

        def expert(key, state: AgentState, count: jax.Array, kept: Text, attempt: jax.Array) -> tuple[jax.Array, Text]:
            rest = part_of(given(key, state, attempt) if given else text.empty(0), count * self.budget, self.budget)
            return rest.length > 0, rest

        answer = lambda key, state, said: (closing, Reward())
        capacity = closing.ids.shape[0]
        return Move(self.before, Kind.THINK, self.budget, words, np.ones(1, bool), expert, capacity=capacity, answer=answer)
