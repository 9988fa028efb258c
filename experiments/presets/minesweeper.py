"""Several attempts at one board: a reflection tells which cells are safe."""

import functools

from arl.agents import Act, Attempts, Nothing, Reflection
from arl.envs import Minesweeper
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes


def minesweeper(reflects: bool = True) -> Config:
    """Three attempts at one small board; a reflection tells the next attempt which cells are safe and where a mine was.

    Episodes without reflections have half as many tokens, so that agent has twice as many updates.
    """
    times = 1 if reflects else 2
    return Config(
        environment=Minesweeper(3, 2),
        agent=(Act(), Attempts(3, Reflection(7) if reflects else Nothing())),
        rollout=whole_episodes(),
        learner=refining(80 * times, 160, entropy=0.005),
        warm_start=80 * times,
    )


PRESETS = {"minesweeper": minesweeper, "minesweeper_without_reflection": functools.partial(minesweeper, reflects=False)}
ROWS = {"minesweeper": ("minesweeper", "minesweeper_without_reflection")}
