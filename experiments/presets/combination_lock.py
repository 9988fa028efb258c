"""A code that is checked as a whole: without a reflection the next attempt knows nothing of it."""

import functools

from arl.agents import Act, Attempts, Nothing, Reflection
from arl.envs import CombinationLock
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes


def combination_lock(reflects: bool = True) -> Config:
    """A code that is entered digit by digit and checked as a whole; a reflection takes the result to the next attempt."""
    return Config(
        environment=CombinationLock(2, 3),
        agent=(Act(), Attempts(4, Reflection(2) if reflects else Nothing())),
        rollout=whole_episodes(),
        learner=refining(100, 160, entropy=0.005),
        warm_start=100,
    )


PRESETS = {
    "combination_lock": combination_lock,
    "combination_lock_without_reflection": functools.partial(combination_lock, reflects=False),
}
ROWS = {"reflection": ("combination_lock", "combination_lock_without_reflection")}
