"""A map that is shown once: a plan of the way, made while the map is in the context."""

import functools

from arl.agents import Act, Plan
from arl.envs import BlindMaze
from arl.rollout import RolloutConfig
from arl.training import LearnerConfig, Schedule
from experiments.config import Config, ModelSizeConfig

BUDGET = 6  # cells of a plan, as many as the longest path has


def blind_maze(**plan) -> Config:
    """A plan of six cells before a walk of up to ten moves; with the map for half of the lanes, then for fewer and fewer."""
    layer = Plan(BUDGET, first=1, annealed=True, **plan)
    return Config(
        environment=BlindMaze(),
        agent=(Act(), layer),
        model=ModelSizeConfig("0.3M"),
        rollout=RolloutConfig(widths=((1, 6),)),
        learner=LearnerConfig(
            num_updates=300,
            num_lanes=320,
            group_size=8,
            microbatch_size=40,
            estimator="rloo",
            normalize=False,
            value_weight=0.0,
            entropy_weight=Schedule(0.003, 0.0, until=0.9),
            learning_rate=Schedule(3e-4, 0.0, since=0.4),
            adam_epsilon=1e-3,
            schedules={f"{layer.label}.keep": Schedule(0.5, 0.0, until=0.6)},
        ),
        warm_start=150,
        warm_start_learning_rate=Schedule(2e-3, 0.0, since=0.5),
    )


PRESETS = {
    "blind_maze": blind_maze,
    "blind_maze_without_plan": functools.partial(blind_maze, symbols=(" nothing",)),
}
ROWS = {"planning": ("blind_maze", "blind_maze_without_plan")}
