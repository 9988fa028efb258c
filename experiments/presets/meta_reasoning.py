"""Pointers to follow, for as many hops as it takes: what to do next is the agent's own choice."""

import functools

from arl.agents import Act, Layer, Menu, RaiseLevel, ScaleRewards, Think, TokenCost
from arl.envs import PointerChase
from arl.training import Schedule
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes

LONGEST = 6
ON = Think(1, "task", stop=False, after="")  # one node a thought


def pointer_chase(*thoughts: Layer, first: int = 1, price: float = 0.0, **environment) -> Config:
    """Nine pointers, of which one to six lead to a goal; thoughts of one hop are cloned, and rewards teach the rest, hop by hop.

    Args:
      *thoughts: layers with which the agent thinks.
      first: most hops of the warm start, and of the first updates from rewards.
      price: cost of a token of a thought, or of a choice, in the last third of the training.
      **environment: fields of the environment.
    """
    charge = {"think": price, "control": price} if any(isinstance(layer, Menu) for layer in thoughts) else {"think": price}
    priced = (TokenCost(**charge), ScaleRewards(scheduled=("efficiency",))) if price else ()
    return Config(
        environment=PointerChase(**{"longest": LONGEST, **environment}),
        agent=(Act(), *thoughts, RaiseLevel(first=first), *priced),
        rollout=whole_episodes(),
        learner=refining(
            400,
            320,
            entropy=0.005,
            learning_rate=Schedule(5e-4, 0.0, since=0.8),
            schedules={"scale_rewards.efficiency": Schedule(0.0, 1.0, since=0.66, until=0.7)} if price else {},
        ),
        warm_start=45,
        warm_start_learning_rate=Schedule(2e-3, 4e-4, since=0.5),
    )


def fixed(budget: int) -> Layer:
    """A thought of a fixed length, whatever the task."""
    return Think(budget, "task", stop=False, before="")


MENU = Menu((ON,), LONGEST + 2)
PRESETS = {
    "pointer_chase": functools.partial(pointer_chase, MENU, price=0.01),
    "pointer_chase_told": functools.partial(pointer_chase, Menu((ON,), 10), price=0.01, longest=8, is_told=True),
    "pointer_chase_thought": functools.partial(pointer_chase, Think(LONGEST + 2, "task", before=""), price=0.01),
    "pointer_chase_without_thoughts": functools.partial(pointer_chase, first=LONGEST),
    **{f"pointer_chase_fixed_{budget}": functools.partial(pointer_chase, fixed(budget), first=LONGEST) for budget in (2, 4, 6)},
}
ROWS = {"meta_reasoning": ("pointer_chase", "pointer_chase_without_thoughts")}
