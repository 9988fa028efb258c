"""Memory for an agent whose context is reset every few turns: only its notes are read again."""

import dataclasses

from arl.agents.layer import Layer
from arl.agents.moves import Move
from arl.agents.notes import Notes, note_move
from arl.task import Task
from arl.types import ArlError, Interaction, Kind


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
      every: turns from one note to the next; 0 for a single note, after `first` turns.
      symbols: vocabulary of a note: that of the "task", "any" token, or a tuple of strings of one token each.
      stop: whether the model may end a note before its budget is used up.
      ask: prompt, read before a note is chosen or written, and before each note when it is read again.
      annealed: whether the old context is kept as well, with the scheduled probability `curriculum[name]["keep"]`. The notes are read again
        all the same, so that they always precede the deferred turn; `size.context` is then that of an episode without resets.
      first: turns before the first note; 0 for as many as `every`.
    """

    num_notes: int = 1
    budget: int = 1
    every: int = 4
    symbols: str | tuple[str, ...] = "task"
    stop: bool = False
    ask: str = " note"
    annealed: bool = False
    first: int = 0

    def __post_init__(self):
        super().__post_init__()
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
        turns, first = inner.size.turns, self.first or self.every
        if not 1 <= first < turns:
            field = "first" if self.first or not self.every else "every"
            raise ArlError(f"Remember.{field} is {first}; set it to at least 1 and below {turns}, the turns of an episode")
        if self.every < 0:
            raise ArlError(f"Remember.every is {self.every}; set it to 0 for a single note, or to the turns from one note to the next")
        return Notes(self, inner, task, Kind.NOTE, num_notes=self.num_notes, first=first, every=self.every or turns).interaction()

    def move(self, inner: Interaction, task: Task) -> Move:
        """Returns a note as a move that starts a new context; when it is made is up to the agent."""
        return note_move(self, inner, task, Kind.NOTE)
