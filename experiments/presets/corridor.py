"""A cue that leaves the context before it is needed: memory."""

import functools

from arl.agents import Act, Remember
from arl.envs import Corridor
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes


def corridor(remembers: bool = True) -> Config:
    """A cue, then a walk four times as long as the context; without notes every turn resets the context, and the cue is lost."""
    return Config(
        environment=Corridor(length=16),
        agent=(Act(), Remember(every=4)) if remembers else (Act(resets_context=True),),
        rollout=whole_episodes(),
        learner=refining(60, 160, entropy=0.005),
        warm_start=40,
    )


PRESETS = {"corridor": corridor, "corridor_without_memory": functools.partial(corridor, remembers=False)}
ROWS = {"memory": ("corridor", "corridor_without_memory")}
