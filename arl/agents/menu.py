"""Meta-reasoning: before each inner turn the agent itself chooses what to do next, such as to think on, to call a tool, or to act."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.agents.defer import Deferred, defer_action
from arl.agents.layer import Layer, extend
from arl.agents.moves import Move
from arl.agents.size import insert_before_turn
from arl.task import Task
from arl.types import AgentState, ArlError, Expert, Interaction, Kind, Reward, Segment, Text, Turn, make_turn, select


class MenuState(NamedTuple):
    """Own state of `Menu`, for `N` moves.

    Attributes:
      action: the action that is deferred while moves are made.
      read: text of the deferred turn, which is read again after a move that starts a new context; empty if there is no such move.
      doing: int32 `[]`, index of the move whose segment is being written; `N` while the next move is chosen, -1 in any other segment.
      counts: int32 `[N]`, how often each move has been made before this action.
      kept: the segment that each move keeps, in order; empty for moves that keep none.
    """

    action: Deferred
    read: Text
    doing: jax.Array
    counts: jax.Array
    kept: tuple[Text, ...]


@dataclasses.dataclass(frozen=True)
class Menu(Layer):
    """A CONTROL segment before each ACTION, in which the model chooses its next move: one of some layers' segments, or to act.

    A move is a layer that could also stand around the agent. There, the nesting says what is written before an action and in which order;
    here, the model says so itself. It writes the word that names a move (`Think.before`, `UseTools.ask`, `Plan.ask`, `Remember.ask`), then
    the segment, and chooses again; or it writes the word `act`, and then its action. After `budget` moves it reads that word instead, so
    that it precedes every action; so it does after a choice that is illegal. (To compute or to act: Principles of Metareasoning, Russell
    and Wefald 1991; what a move costs is set by `TokenCost` around this layer.)

    Thoughts and calls join the context. A plan or a note starts a new one: it is read first, and then the text of the turn once more, and
    it is also read again whenever an inner layer resets the context. Each can be written once before an action. The expert makes the first
    of the `moves` for which there is a reason: a thought as long as the task's expert has more to think, a call that its tool's expert
    wants, a plan or a note if there is none yet. Then it acts.

    Attributes:
      moves: layers that can be chosen, each kind of segment once.
      budget: most moves before each action.
      ask: prompt, read before each choice; may be empty.
      act: word that the model writes to act.
    """

    moves: tuple[Layer, ...]
    budget: int = 8
    ask: str = ""
    act: str = " action"

    def __post_init__(self):
        super().__post_init__()
        if not self.moves:
            raise ArlError(f"Menu.moves is {self.moves!r}, which offers nothing; give a tuple of layers, as in Menu((Think(1),))")
        if self.budget < 1:
            raise ArlError(f"Menu.budget is {self.budget}, and no move can be made; set it >= 1, or leave the layer out")
        if not self.act:
            raise ArlError("Menu.act is empty, and the agent could never act; set it to a word, such as ' action'")

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Choices, and what the moves write."""
        return (Kind.CONTROL, *(kind for move in self.moves for kind in move.writes))

    @property
    def budgets(self) -> dict[Kind, tuple[str, int]]:
        """Budgets of the notes that the moves write."""
        return {kind: budget for move in self.moves for kind, budget in move.budgets.items()}

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with the menu."""
        moves = [self._move(layer, inner, task) for layer in self.moves]
        for index, move in enumerate(moves):
            if not move.word:
                raise ArlError(f"a move of Menu that writes {move.kind.name} has no word that names it; set the prompt before it to a word")
            if twice := [other for other in moves[:index] if move.kind == other.kind or move.word == other.word]:
                raise ArlError(f"Menu.moves has {twice[0].word!r} and {move.word!r} for one kind of move; leave one of them out")
        return _Menu(self, inner, task, moves).interaction()

    def _move(self, layer: Any, inner: Interaction, task: Task) -> Move:
        move = layer.move(inner, task) if isinstance(layer, Layer) else None
        if move is None:
            raise ArlError(f"Menu.moves holds {layer!r}, which is no move; give layers such as Think, UseTools, Plan and Remember")
        return move


class _Menu:
    """The functions of `Menu` around an interaction."""

    def __init__(self, layer: Menu, inner: Interaction, task: Task, moves: list[Move]):
        self.layer, self.inner, self.moves = layer, inner, moves
        words = [*(move.word for move in moves), layer.act]
        self.choices = text.legal_strings(task.tokenizer, words, prefix=layer.ask)
        self.names = [text.encode(task.tokenizer, word, layer.ask) for word in words]
        self.asking = text.encode(task.tokenizer, layer.ask) if layer.ask else text.empty(0)
        self.grammar = text.join(inner.grammar, self.choices)
        self.choices_root, roots = self.grammar.root, []
        for move in moves:
            self.grammar = text.join(self.grammar, move.grammar)
            roots.append(self.grammar.root)
        self.roots, self.most = np.array(roots, np.int32), np.array([move.most or layer.budget for move in moves], np.int32)
        pad = lambda legal: np.pad(legal, (0, self.grammar.num_choices - len(legal)))
        self.legal = np.stack([pad(move.legal) for move in moves])
        self.keeps = any(move.keeps for move in moves)
        self.choice_budget = text.longest(self.choices)
        self.size = self._size()

    def _size(self):
        inner, layer, acting = self.inner.size, self.layer, self.names[-1].ids.shape[0]
        ask, answer = self.asking.ids.shape[0], max(move.capacity for move in self.moves)
        longest = max(move.budget + move.capacity for move in self.moves)
        kept = [self.names[index].ids.shape[0] + move.budget for index, move in enumerate(self.moves) if move.keeps]
        carried, again = sum(kept), len(kept) * (sum(kept) + inner.read)  # what is read again before an action
        size = insert_before_turn(
            inner,
            segments=2 * layer.budget,
            tokens=layer.budget * (ask + self.choice_budget + longest) + acting + again,
            read=carried + max(inner.read, answer) + max(ask, acting),
            written=max(self.choice_budget, *(move.budget for move in self.moves)),
        )
        episode = size.episode + inner.context_resets * carried
        resets = inner.context_resets + len(kept) * inner.turns
        rare = ((move.kind, inner.turns * int(most)) for move, most in zip(self.moves, self.most, strict=True))
        context = min(size.context + carried, episode)
        return size._replace(episode=episode, context=context, context_resets=resets, rare=(*inner.rare, *rare))

    def interaction(self) -> Interaction:
        """Returns the inner interaction with the menu."""
        changes = {"start": self.start, "advance": self.advance, "grammar": self.grammar, "size": self.size}
        return extend(self.inner, self.layer, experts=self.experts(), asks=lambda own: own.doing >= 0, **changes)

    def read_kept(self, kept: tuple[Text, ...]) -> Text:
        """Returns what moves have kept, each after its word; empty for moves that have kept nothing yet."""
        pairs = [(name, said) for name, said, move in zip(self.names, kept, self.moves, strict=False) if move.keeps]
        return text.concatenate(*(part for name, said in pairs for part in (text.only_if(said.length > 0, name), said)))

    def legal_choices(self, counts: jax.Array) -> jax.Array:
        """Returns the moves that can be chosen, and to act, bool `[A]`."""
        return text.pad_legal(jnp.append(counts < self.most, True), self.grammar.num_choices)

    def hold(self, inner_state: AgentState, turn: Turn, kept: tuple[Text, ...]) -> tuple[AgentState, Turn]:
        """Defers an inner turn that asks for an action and asks for a choice; passes any other turn on."""
        counts, read = jnp.zeros(len(self.moves), jnp.int32), turn.read
        if self.keeps:
            before = text.only_if(turn.reset_context, self.read_kept(kept))
            read = text.concatenate(before, turn.read, capacity=before.ids.shape[0] + turn.read.ids.shape[0])
        legal = self.legal_choices(counts)
        action, is_choosing, asked = defer_action(
            turn._replace(read=read), Kind.CONTROL, self.choice_budget, self.choices_root, legal, self.asking, self.size.read
        )
        doing = jnp.where(is_choosing, len(self.moves), -1).astype(jnp.int32)
        again = Text(turn.read.ids, jnp.asarray(turn.read.length, jnp.int32)) if self.keeps else text.empty(0)
        return inner_state.push(MenuState(action, again, doing, counts, kept)), asked

    def start(self, key, curriculum) -> tuple[AgentState, Turn]:
        """Starts an episode, with nothing kept; arguments and result as `Interaction`."""
        nothing = tuple(Text(jnp.zeros(move.budget if move.keeps else 0, jnp.int32), jnp.int32(0)) for move in self.moves)
        return self.hold(*self.inner.start(key, curriculum), nothing)

    def after_choice(self, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        """Returns the turn in which the chosen move's segment, or the action, is written."""
        inner_state, own = state.pop()
        action, num_moves = own.action, len(self.moves)
        acts = (segment.choice < 0) | (segment.choice >= num_moves)
        move = jnp.clip(segment.choice, 0, num_moves - 1)
        turn = make_turn(
            text.pad(text.only_if(segment.choice < 0, self.names[-1]), self.size.read),
            jnp.where(acts, Kind.ACTION, jnp.asarray([move.kind for move in self.moves])[move]),
            jnp.where(acts, action.budget, jnp.asarray([move.budget for move in self.moves])[move]),
            jnp.where(acts, action.grammar_state, jnp.asarray(self.roots)[move]),
            jnp.where(acts, action.legal, jnp.asarray(self.legal)[move]),
            attempt=action.attempt,
        )
        return inner_state.push(own._replace(doing=jnp.where(acts, -1, move).astype(jnp.int32))), turn

    def after_move(self, key, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        """Returns the turn that reads the answer to a move, if there is one, and asks for the next choice or for the action."""
        inner_state, own = state.pop()
        capacity = max(move.capacity for move in self.moves)
        said, reward, kept, resets = text.empty(capacity), Reward(*[jnp.float32(0.0)] * len(Reward._fields)), [], jnp.bool_(False)
        for index, (move, old) in enumerate(zip(self.moves, own.kept, strict=True)):
            is_made, written = own.doing == index, text.cut(segment.text, move.budget)
            answer, earned = move.answer(key, inner_state.environment, written)
            earned = Reward(*(jnp.asarray(part, jnp.float32) for part in earned))
            said, reward = select(is_made, (text.pad(answer, capacity), earned), (said, reward))
            kept.append(select(is_made, written, old) if move.keeps else old)
            resets |= is_made & move.keeps
        counts = own.counts + (jnp.arange(len(self.moves)) == own.doing)
        asks = jnp.sum(counts) < self.layer.budget
        again = [text.only_if(resets, part) for part in (self.read_kept(tuple(kept)), own.read)] if self.keeps else []
        closing = (text.only_if(asks, self.asking), text.only_if(~asks, self.names[-1]))
        turn = make_turn(
            text.concatenate(*again, said, *closing, capacity=self.size.read),
            jnp.where(asks, Kind.CONTROL, Kind.ACTION),
            jnp.where(asks, self.choice_budget, own.action.budget),
            jnp.where(asks, self.choices_root, own.action.grammar_state),
            jnp.where(asks, self.legal_choices(counts), own.action.legal),
            reward=reward,
            reset_context=resets,
            attempt=own.action.attempt,
        )
        doing = jnp.where(asks, len(self.moves), -1).astype(jnp.int32)
        return inner_state.push(own._replace(doing=doing, counts=counts, kept=tuple(kept))), turn

    def advance(self, key, curriculum, state: AgentState, segment: Segment) -> tuple[AgentState, Turn]:
        """Takes a segment: a choice, that of a move, or an inner one; arguments and result as `Interaction`."""
        inner_state, own = state.pop()
        within = segment._replace(text=text.cut(segment.text, self.inner.size.written))
        following = self.hold(*self.inner.advance(key, curriculum, inner_state, within), own.kept)
        own_turn = select(own.doing == len(self.moves), self.after_choice(state, segment), self.after_move(key, state, segment))
        return select(own.doing >= 0, own_turn, following)

    def experts(self) -> dict[Kind, Expert]:
        """Returns the experts of choices and of the moves' segments."""

        def ask(index: int, key, state: AgentState, attempt: jax.Array) -> tuple[jax.Array, Text]:
            inner_state, own = state.pop()
            return self.moves[index].expert(key, inner_state, own.counts[index], own.kept[index], attempt)

        def choose(key, state: AgentState, attempt: jax.Array) -> Text:
            wanted = [ask(index, key, state, attempt)[0] for index in range(len(self.moves))]
            wanted = jnp.append(jnp.stack(wanted) & (state.pop()[1].counts < self.most), True)
            return text.say_choice(self.choices, jnp.argmax(wanted))

        def write(index: int) -> Expert:
            return lambda key, state, attempt: text.cut(ask(index, key, state, attempt)[1], self.moves[index].budget)

        return {Kind.CONTROL: choose, **{move.kind: write(index) for index, move in enumerate(self.moves)}}
