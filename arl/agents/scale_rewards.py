"""Scales of the reward's components, fixed or scheduled."""

import dataclasses

from arl.agents.layer import Layer, scheduled_value
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Reward, Segment


@dataclasses.dataclass(frozen=True)
class ScaleRewards(Layer):
    """Each component of the reward is multiplied by its scale.

    The scales apply to the rewards of inner layers, so put this layer outermost. The metrics `return/<component>` are those of the scaled
    components; at scale 0 a component does not show. The layer has no state of its own.

    Attributes:
      outcome, process, exploration, efficiency, own: scale of this component.
      scheduled: components whose scale is `curriculum[name][component]`.
    """

    outcome: float = 1.0
    process: float = 1.0
    exploration: float = 1.0
    efficiency: float = 1.0
    own: float = 1.0
    scheduled: tuple[str, ...] = ()

    def __post_init__(self):
        if isinstance(self.scheduled, str):
            raise ArlError(f"ScaleRewards.scheduled is the string {self.scheduled!r}; set it to a tuple, such as ({self.scheduled!r},)")
        super().__post_init__()
        if all(scale == 1 for scale in self.scales) and not self.scheduled:
            raise ArlError("scales of 1 change nothing; give a component another scale or a schedule, or leave ScaleRewards out")
        for component in self.scheduled:
            if component not in Reward._fields:
                raise ArlError(
                    f"the reward has no component {component!r}; set ScaleRewards.scheduled to some of {', '.join(Reward._fields)}"
                )
            if getattr(self, component) != 1:
                raise ArlError(f"the scale of {component!r} is fixed and scheduled as well; take it out of ScaleRewards.scheduled")
        for component, scale in self.scales._asdict().items():
            if not 0 <= scale < float("inf"):
                raise ArlError(f"ScaleRewards.{component} is {scale}, which would not let it count for what it is; set it to a number >= 0")

    @property
    def scales(self) -> Reward:
        """The fixed scales."""
        return Reward(*(getattr(self, component) for component in Reward._fields))

    @property
    def schedules(self) -> tuple[str, ...]:
        """Schedules of the scheduled components."""
        return tuple(f"{self.label}.{component}" for component in self.scheduled)

    @property
    def scales_rewards(self) -> bool:
        """Always true."""
        return True

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with scaled rewards."""
        del task

        def advance(key, curriculum, state: AgentState, segment: Segment):
            state, turn = inner.advance(key, curriculum, state, segment)
            now = {component: scheduled_value(curriculum, self.label, component) for component in self.scheduled}
            scales = {**self.scales._asdict(), **now}
            scaled = {component: value * scales[component] for component, value in turn.reward._asdict().items()}
            return state, turn._replace(reward=Reward(**scaled))

        return inner._replace(advance=advance, layers=(*inner.layers, self))
