"""A cost of each written token, by kind of segment."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from arl.agents.layer import Layer, extend
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Kind, Segment


@dataclasses.dataclass(frozen=True)
class TokenCost(Layer):
    """A cost of each written token, as `efficiency` reward of its segment.

    A segment costs its length times the cost per token of its kind. The length includes forced tokens but not the stop token, so that an
    empty thought is free. Legal and illegal segments are charged alike, when they end. (The cost of computation: Principles of
    Metareasoning, Russell & Wefald 1991.)

    Only segments of inner layers are charged: to charge for thoughts, notes or reflections, put this layer around the one that asks for
    them. `UseTools.go_on` is a TOOL segment too. `ScaleRewards` can schedule the costs. The layer's own state is the kind of the segment
    that is being written, int32 `[]`.

    Attributes:
      goal, plan, think, action, reflection, note, tool, control, confidence: cost per token of this kind, in the environment's units.
    """

    goal: float = 0.0
    plan: float = 0.0
    think: float = 0.0
    action: float = 0.0
    reflection: float = 0.0
    note: float = 0.0
    tool: float = 0.0
    control: float = 0.0
    confidence: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for kind, cost in self.costs.items():
            if not 0 <= cost < float("inf"):
                raise ArlError(f"TokenCost.{kind.name.lower()} is {cost}, which would not be paid; set it to a number >= 0")
        if not any(self.costs.values()):
            raise ArlError("tokens that cost nothing change nothing; give a kind of segment a cost, as in TokenCost(think=0.01)")

    @property
    def costs(self) -> dict[Kind, float]:
        """Cost per token, by kind of segment."""
        return {kind: getattr(self, kind.name.lower()) for kind in Kind if kind > Kind.OBSERVATION}

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with costs."""
        del task
        table = np.zeros(len(Kind), np.float32)
        for kind, cost in self.costs.items():
            if cost and inner.writes and kind not in inner.writes:
                written = ", ".join(kind.name.lower() for kind in inner.writes)
                raise ArlError(f"TokenCost charges for {kind.name.lower()}, which nothing within it asks for; charge for {written}")
            table[kind] = cost

        def start(key, curriculum):
            state, turn = inner.start(key, curriculum)
            return state.push(turn.kind), turn

        def advance(key, curriculum, state: AgentState, segment: Segment):
            inner_state, kind = state.pop()
            cost = jnp.asarray(table)[kind] * segment.text.length
            inner_state, turn = inner.advance(key, curriculum, inner_state, segment)
            reward = turn.reward._replace(efficiency=turn.reward.efficiency - cost)
            return inner_state.push(turn.kind), turn._replace(reward=reward)

        return extend(inner, self, start=start, advance=advance)
