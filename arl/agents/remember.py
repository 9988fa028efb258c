"""Memory for an agent whose context is cut: what it notes down is all that crosses the cut."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Interaction, Kind, Reward, Size, State, Text, Turn, Written, check_whole, follow, make_turn, select

ExpertNote = Callable[[jax.Array, State], Text]
"""`(key, state of the interaction within) -> Text`: what an expert would note down now."""


class RememberState(NamedTuple):
    """State of `remember`.

    Attributes:
      inner: state of the interaction within.
      notes: `Text` table of what stands in the slots, ids `[num_slots, budget]`, lengths `[num_slots]`.
      num_turns: int32 `[]`, turns of the interaction within that have been written.
      slot: int32 `[]`, the slot that was chosen last.
      held: the turn of the interaction within that is held back while a note is written; its reward has been passed on.
      attempt: int32 `[]`, the attempt that the last segment written within belongs to, and so do notes that follow it.
      is_choosing: bool `[]`, whether a slot is being chosen.
      is_noting: bool `[]`, whether a note is being written.
    """

    inner: State
    notes: Text
    num_turns: jax.Array
    slot: jax.Array
    held: Turn
    attempt: jax.Array
    is_choosing: jax.Array
    is_noting: jax.Array


def remember(
    inner: Interaction,
    tokenizer,
    *,
    num_slots: int,
    budget: int,
    every: int,
    symbols: Sequence[str] | None = None,
    stop: bool = False,
    ask: str = " note",
    annealed: bool = False,
    expert_note: ExpertNote | None = None,
    name: str = "remember",
) -> Interaction:
    """Returns `inner` in a short context: after every `every` turns a NOTE is written into a slot, and the context begins anew.

    The new context begins with what stands in all slots, in their order, each note after its slot's name; then comes the turn that was
    held back meanwhile. So what is cut is what has been answered, and of that the notes alone remain. They are read as well wherever
    `inner` begins its context anew. (A memory of fixed length that is written over, trained by what follows: MemAgent, arXiv 2507.02259.)

    With several slots the note is preceded by a CONTROL segment, one of the legal strings " 0", " 1", ...; with one slot nothing is asked.
    Where a note goes is thus a decision of its own, with a grammar, a credit and an ablation of its own, and a note is nothing but what
    it says: notes of other lives, or blank ones, can be put in its place and stand in the slot that was chosen here. A slot's name is
    what stood before its note when it was written: `ask`, and the string that chose the slot.

    A turn is a segment: over `think`, where every action takes two, an even `every` cuts between an action and the next thought.
    The longest live context, `size.context`, is that of `every` turns, a note and the slots, however long the life.

    Args:
      inner: the interaction to remember in.
      tokenizer: that of `inner`.
      num_slots: how many notes can be kept.
      budget: tokens of a note.
      every: turns of `inner` from one note to the next.
      symbols: strings of one token each that a note is made of; None for the whole vocabulary.
      stop: whether the model may end its note before its budget.
      ask: read before a slot is chosen or the one slot is written, and before each note when it is read again.
      annealed: whether the cut is a schedule: the old context is kept too with probability `setting[name]["keep"]`. The notes are read
        all the same, so that they always stand before what follows; `size.context` is then that of a life without a cut.
      expert_note: an expert's note, of exactly `budget` tokens unless it may stop; None for the shortest one, of the first symbol. The
        expert fills the slots in turn.
      name: key of this combinator's part of `setting`.

    Returns:
      The interaction; its state is a `RememberState`.

    Raises:
      ValueError: if there is nothing to write, nowhere or never, or nothing that asks for it.
    """
    _check(inner.size, num_slots, budget, every, ask)
    slots = text.legal_strings(tokenizer, [f" {slot}" for slot in range(num_slots)], prefix=ask)
    grammar = text.join(inner.grammar, slots) if num_slots > 1 else inner.grammar
    slots_root = grammar.root
    words = text.any_text(tokenizer, symbols, stop=stop)
    grammar = text.join(grammar, words)
    ask_ids = text.token_ids(tokenizer, ask)
    address = lambda slot: text.token_ids(tokenizer, f" {slot}", after=ask) if num_slots > 1 else []
    names = [text.constant(ask_ids + address(slot)) for slot in range(num_slots)]
    asked, page_capacity = text.constant(ask_ids), sum(slot_name.ids.shape[0] + budget for slot_name in names)
    slot_budget = text.longest(slots) if num_slots > 1 else 0
    first_word = text.token_ids(tokenizer, symbols[0])[0] if symbols else int(words.alphabet[0])
    size = _size(inner.size, every, annealed, len(ask_ids), slot_budget, budget, page_capacity)

    def read_notes(notes: Text) -> Text:
        return text.concatenate(*(part for i, slot_name in enumerate(names) for part in (slot_name, Text(notes.ids[i], notes.length[i]))))

    def fit(turn: Turn, before: Text) -> Turn:
        read = text.concatenate(before, turn.read, capacity=size.read)
        return turn._replace(read=read, legal=text.pad_legal(turn.legal, grammar.num_choices))

    def ask_for_note(state: RememberState, read: Text, **rest) -> tuple[RememberState, Turn]:
        legal = text.pad_legal(jnp.ones(1, bool), grammar.num_choices)
        turn = make_turn(text.pad(read, size.read), Kind.NOTE, budget, grammar.root, legal, attempt=state.attempt, **rest)
        return state._replace(is_choosing=jnp.bool_(False), is_noting=jnp.bool_(True)), turn

    def ask_for_slot(state: RememberState, read: Text, **rest) -> tuple[RememberState, Turn]:
        legal = text.pad_legal(jnp.ones(num_slots, bool), grammar.num_choices)
        turn = make_turn(text.pad(read, size.read), Kind.CONTROL, slot_budget, slots_root, legal, attempt=state.attempt, **rest)
        return state._replace(is_choosing=jnp.bool_(True)), turn

    def start(key, setting):
        inner_state, turn = inner.start(key, setting)
        notes = Text(jnp.zeros((num_slots, budget), jnp.int32), jnp.zeros(num_slots, jnp.int32))
        no = jnp.bool_(False)
        state = RememberState(inner_state, notes, jnp.int32(0), jnp.int32(0), _silent(turn), turn.attempt, no, no)
        return state, fit(turn, text.empty(0))

    def after_turn(key, setting, state: RememberState, written: Written) -> tuple[RememberState, Turn]:
        """The interaction within goes on, or its turn is held back and a note is asked for, in the context that it is to sum up."""
        inner_written = written._replace(text=text.cut(written.text, inner.size.written))
        inner_state, turn = inner.advance(key, setting, state.inner, inner_written)
        state = state._replace(inner=inner_state, num_turns=state.num_turns + 1, held=_silent(turn))
        is_due = (state.num_turns % every == 0) & ~turn.terminated & ~turn.truncated
        ask_for = ask_for_slot if num_slots > 1 else ask_for_note
        interrupted = ask_for(state, asked, reward=turn.reward, discount=turn.discount)
        goes_on = state._replace(attempt=turn.attempt), fit(turn, text.only_if(turn.forget, read_notes(state.notes)))
        return select(is_due, interrupted, goes_on)

    def after_note(key, setting, state: RememberState, written: Written) -> tuple[RememberState, Turn]:
        """The note stands in its slot; the context begins anew with all of them and the turn that was held back."""
        ids = state.notes.ids.at[state.slot].set(text.cut(written.text, budget).ids)
        notes = Text(ids, state.notes.length.at[state.slot].set(jnp.minimum(written.text.length, budget)))
        forget = jnp.bool_(True)
        if annealed:
            forget = state.held.forget | (jax.random.uniform(key) >= follow(setting, name, "keep"))
        turn = fit(state.held, read_notes(notes))._replace(forget=forget)
        return state._replace(notes=notes, attempt=turn.attempt, is_noting=jnp.bool_(False)), turn

    def advance(key, setting, state: RememberState, written: Written):
        key_inner, key_cut = jax.random.split(key)
        following = after_turn(key_inner, setting, state, written)
        following = select(state.is_noting, after_note(key_cut, setting, state, written), following)
        if num_slots == 1:
            return following
        chosen = state._replace(slot=jnp.maximum(written.choice, 0))  # where a grammar does not bind, what names no slot means the first
        return select(state.is_choosing, ask_for_note(chosen, text.empty(0)), following)

    def expert(key, state: RememberState) -> Text:
        wanted = text.pad(inner.expert(key, state.inner), size.written)
        if expert_note:
            note = text.cut(expert_note(key, state.inner), budget)
        else:
            note = text.only_if(not stop, text.constant([first_word] * budget))
        wanted = select(state.is_noting, text.pad(note, size.written), wanted)
        if num_slots == 1:
            return wanted
        slot = text.say_choice(slots, (state.num_turns // every - 1) % num_slots)
        return select(state.is_choosing, text.pad(slot, size.written), wanted)

    return Interaction(
        start=start,
        advance=advance,
        grammar=grammar,
        size=size,
        adapt=inner.adapt,
        expert=expert if inner.expert else None,
        anchor=(lambda state: inner.anchor(state.inner)) if inner.anchor else None,
        explores=inner.explores,
    )


def _silent(turn: Turn) -> Turn:
    """Returns the turn without what it pays: that goes to the segment written last, and is passed on with the question for a note."""
    return turn._replace(reward=Reward(*map(jnp.zeros_like, turn.reward)), discount=jnp.float32(1.0))


def _check(size: Size, num_slots: int, budget: int, every: int, ask: str) -> None:
    check_whole(num_slots=num_slots, budget=budget, every=every)
    if num_slots < 1:
        raise ValueError(f"a memory of {num_slots} slots holds nothing; set num_slots >= 1, or leave remember() out")
    if budget < 1:
        raise ValueError(f"a note of {budget} tokens cannot be written; set its budget >= 1, or leave remember() out")
    if size.turns < 2:
        raise ValueError("a life of one turn has nothing to remember; leave remember() out (in configs agent.memory_slots=0)")
    if not 1 <= every < size.turns:
        raise ValueError(
            f"a life of {size.turns} turns has no note after every {every}; set every (in configs agent.memory_every) to at least 1 and "
            f"below {size.turns}"
        )
    if not ask:
        raise ValueError("a note that nothing asks for has no place in a context; set ask to a word or more")


def _size(size: Size, every: int, annealed: bool, ask: int, slot: int, budget: int, page: int) -> Size:
    """Returns the bounds of a life; `ask`, `slot`, `budget` and `page`, all slots read again, are numbers of tokens."""
    num_notes = (size.turns - 1) // every  # none follows the turn that ends a life
    num_pages = min(num_notes + size.forgets, size.turns)  # a turn that forgets and was held back reads them once
    noted, note_turns = ask + slot + budget, 2 if slot else 1
    turns = size.turns + num_notes * note_turns
    life = size.life + num_notes * noted + num_pages * page
    if annealed:
        context = page + size.context + num_notes * (noted + page)
    else:  # between two cuts the notes are read once, if nothing within forgets; the last turn of a cut life is only read
        context = page + min(every * (size.read + size.written) + max(noted, size.read), size.context + noted)
    return Size(
        read=max(page + size.read, ask),
        written=max(size.written, slot, budget),
        turns=turns,
        life=life,
        context=min(context, life),
        context_turns=turns if annealed else min(every, size.context_turns) + note_turns,
        forgets=num_pages,
    )
