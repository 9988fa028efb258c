"""Notes that the model rewrites every few turns, and that alone are read again when the context is reset: see `Remember` and `Plan`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.agents.layer import extend, note_symbols, scheduled_value, without_reward
from arl.agents.moves import Move
from arl.agents.size import reset_every
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Kind, Segment, Text, Turn, make_turn, select


class NotesState(NamedTuple):
    """Own state of a layer with notes.

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


class Notes:
    """The functions of a layer with notes around an interaction."""

    def __init__(
        self, layer, inner: Interaction, task: Task, kind: Kind, *, num_notes: int = 1, first: int, every: int, reads_first: bool = False
    ):
        """Takes what the functions depend on.

        Args:
          layer: the layer, with `budget`, `symbols`, `stop`, `ask` and `annealed` as in `Remember`.
          inner: the inner interaction.
          task: task of the agent.
          kind: `Kind` of a note.
          num_notes: number of notes; if there are several, the one to overwrite is chosen first.
          first: turns before the first note.
          every: turns from one note to the next.
          reads_first: whether the turn that a note precedes is read before it as well as after it.
        """
        self.layer, self.inner, self.kind, self.num_notes = layer, inner, kind, num_notes
        self.first, self.every, self.reads_first = first, every, reads_first
        tokenizer, many = task.tokenizer, num_notes > 1
        symbols = note_symbols(task, layer.symbols)
        self.places = text.legal_strings(tokenizer, [f" {place}" for place in range(num_notes)], prefix=layer.ask)
        grammar = text.join(inner.grammar, self.places) if many else inner.grammar
        self.places_root = grammar.root
        words = text.any_text(tokenizer, symbols, stop=layer.stop)
        self.grammar = text.join(grammar, words)
        ask = text.token_ids(tokenizer, layer.ask)
        address = lambda place: text.token_ids(tokenizer, f" {place}", after=layer.ask) if many else []
        self.names = [text.constant(ask + address(place)) for place in range(num_notes)]
        self.asked, self.choice_budget = text.constant(ask), text.longest(self.places) if many else 0
        self.first_word = text.token_ids(tokenizer, symbols[0])[0] if symbols else int(text.mask_tokens(words, words.root)[0])
        self.size = reset_every(
            inner.size,
            every,
            first=first,
            ask=len(ask),
            choose=self.choice_budget,
            written=layer.budget,
            carried=sum(name.ids.shape[0] + layer.budget for name in self.names),
            always_resets=not layer.annealed,
            reads_first=reads_first,
            kind=kind,
        )

    def interaction(self) -> Interaction:
        """Returns the inner interaction with notes."""
        changes = {"start": self.start, "advance": self.advance, "grammar": self.grammar, "size": self.size}
        return extend(self.inner, self.layer, experts=self.experts(), asks=lambda own: own.is_choosing | own.is_noting, **changes)

    def read_notes(self, notes: Text) -> Text:
        """Returns all notes, each after its name."""
        return text.concatenate(*(part for i, name in enumerate(self.names) for part in (name, Text(notes.ids[i], notes.length[i]))))

    def with_text(self, turn: Turn, before: Text) -> Turn:
        """Returns `turn` with `before` prepended to its text."""
        read = text.concatenate(before, turn.read, capacity=self.size.read)
        return turn._replace(read=read, legal=text.pad_legal(turn.legal, self.grammar.num_choices))

    def ask_for_note(self, inner_state: AgentState, own: NotesState, read: Text, **rest) -> tuple[AgentState, Turn]:
        """Returns the turn in which a note is written, after `read`; `rest` are fields of the turn."""
        legal = text.pad_legal(jnp.ones(1, bool), self.grammar.num_choices)
        read, budget = text.pad(read, self.size.read), self.layer.budget
        turn = make_turn(read, self.kind, budget, self.grammar.root, legal, attempt=own.attempt, **rest)
        return inner_state.push(own._replace(is_choosing=jnp.bool_(False), is_noting=jnp.bool_(True))), turn

    def ask_for_place(self, inner_state: AgentState, own: NotesState, read: Text, **rest) -> tuple[AgentState, Turn]:
        """Returns the turn in which the note to overwrite is chosen; arguments as `ask_for_note`."""
        legal = text.pad_legal(jnp.ones(self.num_notes, bool), self.grammar.num_choices)
        read, budget = text.pad(read, self.size.read), self.choice_budget
        turn = make_turn(read, Kind.CONTROL, budget, self.places_root, legal, attempt=own.attempt, **rest)
        return inner_state.push(own._replace(is_choosing=jnp.bool_(True))), turn

    def before_turn(self, inner_state: AgentState, own: NotesState, turn: Turn, before: Text) -> tuple[AgentState, Turn]:
        """Returns the inner turn with `before` prepended, or the one that asks for a note, if a note is due."""
        own = own._replace(held=without_reward(turn))
        since = own.num_turns - self.first
        is_due = (since >= 0) & (since % self.every == 0) & ~turn.terminated & ~turn.truncated
        read = self.with_text(turn, before)
        ask_for = self.ask_for_place if self.num_notes > 1 else self.ask_for_note
        rest = {"reward": turn.reward, "discount": turn.discount}
        if self.reads_first:
            asked = text.concatenate(read.read, self.asked, capacity=self.size.read)
            interrupted = ask_for(inner_state, own._replace(attempt=turn.attempt), asked, reset_context=turn.reset_context, **rest)
        else:
            interrupted = ask_for(inner_state, own, self.asked, **rest)
        return select(is_due, interrupted, (inner_state.push(own._replace(attempt=turn.attempt)), read))

    def start(self, key, curriculum) -> tuple[AgentState, Turn]:
        """Starts an episode, without notes; arguments and result as `Interaction`."""
        inner_state, turn = self.inner.start(key, curriculum)
        no = jnp.bool_(False)
        notes = Text(jnp.zeros((self.num_notes, self.layer.budget), jnp.int32), jnp.zeros(self.num_notes, jnp.int32))
        own = NotesState(notes, jnp.int32(0), jnp.int32(0), turn, turn.attempt, no, no)
        return self.before_turn(inner_state, own, turn, text.empty(0))

    def after_turn(self, key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        """Advances the inner interaction; arguments and result as `Interaction`."""
        inner_state, own = state.pop()
        within = segment._replace(text=text.cut(segment.text, self.inner.size.written))
        inner_state, turn = self.inner.advance(key, curriculum, inner_state, within)
        before = text.only_if(turn.reset_context, self.read_notes(own.notes))
        return self.before_turn(inner_state, own._replace(num_turns=own.num_turns + 1), turn, before)

    def after_note(self, key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        """Stores the note, and starts a new context with all notes and the deferred turn; arguments and result as `Interaction`."""
        inner_state, own = state.pop()
        ids = own.notes.ids.at[own.place].set(text.cut(segment.text, self.layer.budget).ids)
        notes = Text(ids, own.notes.length.at[own.place].set(jnp.minimum(segment.text.length, self.layer.budget)))
        resets = jnp.bool_(True)
        if self.layer.annealed:
            keep = scheduled_value(curriculum, self.layer.label, "keep")
            resets = own.held.reset_context | (jax.random.uniform(key) >= keep)
        turn = self.with_text(own.held, self.read_notes(notes))._replace(reset_context=resets)
        return inner_state.push(own._replace(notes=notes, attempt=turn.attempt, is_noting=jnp.bool_(False))), turn

    def advance(self, key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        """Takes a segment: a note, a choice of the note to overwrite, or an inner one; arguments and result as `Interaction`."""
        key_inner, key_cut = jax.random.split(key)
        inner_state, own = state.pop()
        following = self.after_turn(key_inner, curriculum, state, segment)
        following = select(own.is_noting, self.after_note(key_cut, curriculum, state, segment), following)
        if self.num_notes == 1:
            return following
        chosen = own._replace(place=jnp.maximum(segment.choice, 0))  # an illegal choice means the first
        return select(own.is_choosing, self.ask_for_note(inner_state, chosen, text.empty(0)), following)

    def experts(self) -> dict:
        """Returns the experts of notes and of choices between them."""
        given, budget = self.inner.experts.get(self.kind), self.layer.budget

        def note(key, state: AgentState, attempt: jax.Array) -> Text:
            if given:
                return text.cut(given(key, state.pop()[0], attempt), budget)
            return text.only_if(not self.layer.stop, text.constant([self.first_word] * budget))

        def choose(key, state: AgentState, attempt: jax.Array) -> Text:
            return text.say_choice(self.places, ((state.pop()[1].num_turns - self.first) // self.every) % self.num_notes)

        return {self.kind: note, **({Kind.CONTROL: choose} if self.num_notes > 1 else {})}


def note_move(layer, inner: Interaction, task: Task, kind: Kind) -> Move:
    """Returns a note as a move of `Menu`.

    Args:
      layer: layer with notes, such as `Remember` or `Plan`.
      inner: the agent without the menu.
      task: task of the agent.
      kind: `Kind` of the note.

    Raises:
      ArlError: if the layer is set to what the agent is to decide.
    """
    name = type(layer).__name__
    unset = {"every": 0, "first": 0, "num_notes": 1, "annealed": False}
    for field, value in unset.items():
        if getattr(layer, field, value) != value:
            raise ArlError(f"in a menu the agent decides when it writes a {kind.name.lower()}; set {name}.{field}={value}")
    symbols = note_symbols(task, layer.symbols)
    words = text.any_text(task.tokenizer, symbols, stop=layer.stop)
    given = inner.experts.get(kind)

    def expert(key, state: AgentState, count: jax.Array, kept: Text, attempt: jax.Array) -> tuple[jax.Array, Text]:
        said = text.cut(given(key, state, attempt), layer.budget) if given else text.empty(layer.budget)
        return (said.length > 0) & (kept.length == 0), said

    return Move(layer.ask, kind, layer.budget, words, np.ones(1, bool), expert, most=1, keeps=True)
