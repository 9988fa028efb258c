"""Memory for an agent whose context is reset every few turns: only its notes are read again."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.agents.layer import Layer, extend, note_symbols, scheduled_value, without_reward
from arl.agents.size import reset_every
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Kind, Segment, Text, Turn, check_whole, make_turn, select


class RememberState(NamedTuple):
    """Own state of `Remember`.

    Attributes:
      notes: `Text` of all notes, ids `[num_notes, budget]`, lengths `[num_notes]`.
      num_turns: int32 `[]`, number of inner turns that the model has answered.
      place: int32 `[]`, index of the note that was chosen last.
      held: the inner turn that is deferred while a note is written; its reward has been passed on.
      attempt: int32 `[]`, index of the attempt of the last inner segment, and of the notes that follow it.
      is_choosing: bool `[]`, whether the note to overwrite is being chosen.
      is_noting: bool `[]`, whether a note is being written.
    """

    notes: Text
    num_turns: jax.Array
    place: jax.Array
    held: Turn
    attempt: jax.Array
    is_choosing: jax.Array
    is_noting: jax.Array


@dataclasses.dataclass(frozen=True)
class Remember(Layer):
    """A short context: every few turns the model writes a NOTE, and the context is reset.

    The new context starts with all notes, in order, each after its name, and then the inner turn that was deferred while the note was
    written. The notes are also read again whenever an inner layer resets the context. (A memory of fixed length that is overwritten, and
    trained by later rewards: MemAgent, arXiv 2507.02259.)

    With several notes, the model first chooses the one to overwrite, in a CONTROL segment with the legal strings " 0", " 1", .... The
    choice is thus a decision with its own grammar and credit, and a note holds only its content, so that interventions can replace it by
    another episode's or blank it. A note's name is the text before it when it was written: `ask`, and the string that chose it.

    `every` counts segments: around `Think`, where each action takes two, an even `every` resets the context between an action and the next
    thought. `size.context` is the length of `every` turns and the notes, however long the episode. The expert writes the task expert's note
    or, without one, the shortest note, of the first symbol; it overwrites its notes round-robin.

    Attributes:
      num_notes: number of notes.
      budget: most tokens of a note.
      every: turns from one note to the next.
      symbols: vocabulary of a note: that of the "task", "any" token, or a tuple of strings of one token each.
      stop: whether the model may end a note before its budget is used up.
      ask: prompt, read before a note is chosen or written, and before each note when it is read again.
      annealed: whether the old context is kept as well, with the scheduled probability `curriculum[name]["keep"]`. The notes are read again
        all the same, so that they always precede the deferred turn; `size.context` is then that of an episode without resets.
    """

    num_notes: int = 1
    budget: int = 1
    every: int = 4
    symbols: str | tuple[str, ...] = "task"
    stop: bool = False
    ask: str = " note"
    annealed: bool = False

    def __post_init__(self):
        check_whole(**{f"Remember.{field}": getattr(self, field) for field in ("num_notes", "budget", "every")})
        if self.num_notes < 1:
            raise ArlError(f"a memory of {self.num_notes} notes holds nothing; set Remember.num_notes >= 1, or leave the layer out")
        if self.budget < 1:
            raise ArlError(f"a note of {self.budget} tokens cannot be written; set Remember.budget >= 1, or leave the layer out")
        if not self.ask:
            raise ArlError("Remember.ask is empty; set it to a word or more")

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Notes, and choices between them if there are several."""
        return (Kind.NOTE, Kind.CONTROL) if self.num_notes > 1 else (Kind.NOTE,)

    @property
    def schedules(self) -> tuple[str, ...]:
        """Probability that the old context is kept, if it is annealed."""
        return (f"{self.label}.keep",) if self.annealed else ()

    @property
    def budgets(self) -> dict[Kind, tuple[str, int]]:
        """Budget of a note."""
        return {Kind.NOTE: ("Remember.budget", self.budget)}

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with notes."""
        if inner.size.turns < 2:
            raise ArlError("an episode of one turn has nothing to remember; leave Remember out")
        if not 1 <= self.every < inner.size.turns:
            raise ArlError(f"Remember.every is {self.every}; set it to at least 1 and below {inner.size.turns}, the turns of an episode")
        return _Remember(self, inner, task).interaction()


class _Remember:
    """The functions of `Remember` around an interaction."""

    def __init__(self, layer: Remember, inner: Interaction, task: Task):
        self.layer, self.inner = layer, inner
        tokenizer, many = task.tokenizer, layer.num_notes > 1
        symbols = note_symbols(task, layer.symbols)
        self.places = text.legal_strings(tokenizer, [f" {place}" for place in range(layer.num_notes)], prefix=layer.ask)
        grammar = text.join(inner.grammar, self.places) if many else inner.grammar
        self.places_root = grammar.root
        words = text.any_text(tokenizer, symbols, stop=layer.stop)
        self.grammar = text.join(grammar, words)
        ask = text.token_ids(tokenizer, layer.ask)
        address = lambda place: text.token_ids(tokenizer, f" {place}", after=layer.ask) if many else []
        self.names = [text.constant(ask + address(place)) for place in range(layer.num_notes)]
        self.asked, self.choice_budget = text.constant(ask), text.longest(self.places) if many else 0
        self.first_word = text.token_ids(tokenizer, symbols[0])[0] if symbols else int(text.mask_tokens(words, words.root)[0])
        self.size = reset_every(
            inner.size,
            layer.every,
            ask=len(ask),
            choose=self.choice_budget,
            written=layer.budget,
            kept=sum(name.ids.shape[0] + layer.budget for name in self.names),
            always_resets=not layer.annealed,
        )

    def interaction(self) -> Interaction:
        changes = {"start": self.start, "advance": self.advance, "grammar": self.grammar, "size": self.size}
        return extend(self.inner, self.layer, experts=self.experts(), asks=lambda own: own.is_choosing | own.is_noting, **changes)

    def read_notes(self, notes: Text) -> Text:
        """Returns all notes, each after its name."""
        return text.concatenate(*(part for i, name in enumerate(self.names) for part in (name, Text(notes.ids[i], notes.length[i]))))

    def fit(self, turn: Turn, before: Text) -> Turn:
        """Returns `turn` with `before` prepended to its text."""
        read = text.concatenate(before, turn.read, capacity=self.size.read)
        return turn._replace(read=read, legal=text.pad_legal(turn.legal, self.grammar.num_choices))

    def ask_for_note(self, inner_state: AgentState, own: RememberState, read: Text, **rest) -> tuple[AgentState, Turn]:
        legal = text.pad_legal(jnp.ones(1, bool), self.grammar.num_choices)
        read, budget = text.pad(read, self.size.read), self.layer.budget
        turn = make_turn(read, Kind.NOTE, budget, self.grammar.root, legal, attempt=own.attempt, **rest)
        return inner_state.push(own._replace(is_choosing=jnp.bool_(False), is_noting=jnp.bool_(True))), turn

    def ask_for_place(self, inner_state: AgentState, own: RememberState, read: Text, **rest) -> tuple[AgentState, Turn]:
        legal = text.pad_legal(jnp.ones(self.layer.num_notes, bool), self.grammar.num_choices)
        read, budget = text.pad(read, self.size.read), self.choice_budget
        turn = make_turn(read, Kind.CONTROL, budget, self.places_root, legal, attempt=own.attempt, **rest)
        return inner_state.push(own._replace(is_choosing=jnp.bool_(True))), turn

    def start(self, key, curriculum) -> tuple[AgentState, Turn]:
        inner_state, turn = self.inner.start(key, curriculum)
        num_notes, no = self.layer.num_notes, jnp.bool_(False)
        notes = Text(jnp.zeros((num_notes, self.layer.budget), jnp.int32), jnp.zeros(num_notes, jnp.int32))
        own = RememberState(notes, jnp.int32(0), jnp.int32(0), without_reward(turn), turn.attempt, no, no)
        return inner_state.push(own), self.fit(turn, text.empty(0))

    def after_turn(self, key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        """Advances the inner interaction; if a note is due, defers the inner turn and asks for the note before the context is reset."""
        inner_state, own = state.pop()
        within = segment._replace(text=text.cut(segment.text, self.inner.size.written))
        inner_state, turn = self.inner.advance(key, curriculum, inner_state, within)
        own = own._replace(num_turns=own.num_turns + 1, held=without_reward(turn))
        is_due = (own.num_turns % self.layer.every == 0) & ~turn.terminated & ~turn.truncated
        ask_for = self.ask_for_place if self.layer.num_notes > 1 else self.ask_for_note
        interrupted = ask_for(inner_state, own, self.asked, reward=turn.reward, discount=turn.discount)
        read = self.fit(turn, text.only_if(turn.reset_context, self.read_notes(own.notes)))
        return select(is_due, interrupted, (inner_state.push(own._replace(attempt=turn.attempt)), read))

    def after_note(self, key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        """Stores the note, and starts a new context with all notes and the deferred turn."""
        inner_state, own = state.pop()
        ids = own.notes.ids.at[own.place].set(text.cut(segment.text, self.layer.budget).ids)
        notes = Text(ids, own.notes.length.at[own.place].set(jnp.minimum(segment.text.length, self.layer.budget)))
        resets = jnp.bool_(True)
        if self.layer.annealed:
            keep = scheduled_value(curriculum, self.layer.label, "keep")
            resets = own.held.reset_context | (jax.random.uniform(key) >= keep)
        turn = self.fit(own.held, self.read_notes(notes))._replace(reset_context=resets)
        return inner_state.push(own._replace(notes=notes, attempt=turn.attempt, is_noting=jnp.bool_(False))), turn

    def advance(self, key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        key_inner, key_cut = jax.random.split(key)
        inner_state, own = state.pop()
        following = self.after_turn(key_inner, curriculum, state, segment)
        following = select(own.is_noting, self.after_note(key_cut, curriculum, state, segment), following)
        if self.layer.num_notes == 1:
            return following
        chosen = own._replace(place=jnp.maximum(segment.choice, 0))  # an illegal choice means the first
        return select(own.is_choosing, self.ask_for_note(inner_state, chosen, text.empty(0)), following)

    def experts(self) -> dict:
        """Returns the experts of notes and of choices between them."""
        given, budget = self.inner.experts.get(Kind.NOTE), self.layer.budget

        def note(key, state: AgentState, attempt: jax.Array) -> Text:
            if given:
                return text.cut(given(key, state.pop()[0], attempt), budget)
            return text.only_if(not self.layer.stop, text.constant([self.first_word] * budget))

        def choose(key, state: AgentState, attempt: jax.Array) -> Text:
            return text.say_choice(self.places, (state.pop()[1].num_turns // self.layer.every - 1) % self.layer.num_notes)

        return {Kind.NOTE: note, **({Kind.CONTROL: choose} if self.layer.num_notes > 1 else {})}
