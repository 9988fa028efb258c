"""A map that is shown once: a plan of the way, or a note of the map, made while the map is in the context."""

import functools

from arl.agents import Act, Layer, Plan, Remember
from arl.envs import BlindMaze
from arl.training import Schedule
from experiments.config import Config, ModelSizeConfig
from experiments.presets.recipes import refining, whole_episodes

BUDGET = 6  # cells of a plan, as many as the longest path has


def blind_maze(**plan) -> Config:
    """A plan of six cells before a walk of up to ten moves; with the map for half of the lanes, then for fewer and fewer."""
    return _walk(Plan(BUDGET, first=1, annealed=True, **plan))


def blind_maze_with_note() -> Config:
    """The same walk with a note of six cells in place of a plan; the warm start notes the goal and the holes nearest to the way."""
    return _walk(Remember(budget=BUDGET, every=0, first=1, annealed=True))


def _walk(layer: Layer) -> Config:
    return Config(
        environment=BlindMaze(),
        agent=(Act(), layer),
        model=ModelSizeConfig("0.3M"),
        rollout=whole_episodes(),
        learner=refining(
            300,
            320,
            entropy=0.003,
            group_size=8,
            estimator="rloo",
            value_weight=0.0,
            schedules={f"{layer.label}.keep": Schedule(0.5, 0.0, until=0.6)},
        ),
        warm_start=150,
        warm_start_learning_rate=Schedule(2e-3, 0.0, since=0.5),
    )


PRESETS = {
    "blind_maze": blind_maze,
    "blind_maze_with_note": blind_maze_with_note,
    "blind_maze_without_plan": functools.partial(blind_maze, symbols=(" nothing",)),
}
ROWS = {"planning": ("blind_maze", "blind_maze_with_note", "blind_maze_without_plan")}
