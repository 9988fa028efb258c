"""Plans: the model writes what it is about to do, and then acts with the plan in place of what it has read before."""

import dataclasses

from arl.agents.layer import Layer
from arl.agents.moves import Move
from arl.agents.notes import Notes, note_move
from arl.task import Task
from arl.types import ArlError, Interaction, Kind


@dataclasses.dataclass(frozen=True)
class Plan(Layer):
    """A PLAN segment before the first action, or every few turns; then the context is reset, and the plan is all that is left of it.

    The model reads the text of the next turn, writes the plan, and reads that text again in a new context, after the plan. The plan is also
    read again whenever an inner layer resets the context. Its credit is data: `LearnerConfig.rules["plan"]` with `span="kind"` makes each
    plan one decision whose reward is all that is earned until the next plan, as an option in a semi-MDP (Sutton, Precup and Singh 1999),
    with a lambda of its own; without a rule, plans are credited as all other segments.

    The expert writes the plan of the task's expert of plans or, without one, the shortest plan, of the first symbol.

    Attributes:
      budget: most tokens of a plan.
      first: turns before the first plan.
      every: turns from one plan to the next; 0 for a single plan.
      symbols: vocabulary of a plan: that of the "task", "any" token, or a tuple of strings of one token each.
      stop: whether the model may end a plan before its budget is used up.
      ask: prompt, read before a plan is written, and before the plan when it is read again.
      annealed: whether the old context is kept as well, with the scheduled probability `curriculum[name]["keep"]`. The plan and the text of
        the turn are read again all the same; `size.context` is then that of an episode without resets.
    """

    budget: int = 6
    first: int = 0
    every: int = 0
    symbols: str | tuple[str, ...] = "task"
    stop: bool = False
    ask: str = " plan"
    annealed: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.budget < 1:
            raise ArlError(f"a plan of {self.budget} tokens cannot be written; set Plan.budget >= 1, or leave the layer out")
        if self.every < 0:
            raise ArlError(f"Plan.every is {self.every}; set it to 0 for a single plan, or to the turns from one plan to the next")
        if not self.ask:
            raise ArlError("Plan.ask is empty; set it to a word or more")

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Plans."""
        return (Kind.PLAN,)

    @property
    def schedules(self) -> tuple[str, ...]:
        """Probability that the old context is kept, if it is annealed."""
        return (f"{self.label}.keep",) if self.annealed else ()

    @property
    def budgets(self) -> dict[Kind, tuple[str, int]]:
        """Budget of a plan."""
        return {Kind.PLAN: ("Plan.budget", self.budget)}

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with plans."""
        if not 0 <= self.first < inner.size.turns:
            raise ArlError(f"Plan.first is {self.first}; set it to at least 0 and below {inner.size.turns}, the turns of an episode")
        every = self.every or inner.size.turns
        return Notes(self, inner, task, Kind.PLAN, first=self.first, every=every, reads_first=True).interaction()

    def move(self, inner: Interaction, task: Task) -> Move:
        """Returns a plan as a move that starts a new context; when it is made is up to the agent."""
        return note_move(self, inner, task, Kind.PLAN)
