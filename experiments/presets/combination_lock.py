"""A code that is answered as a whole: without a note the next attempt knows nothing."""

import functools

from arl.agents import Act, Attempts, Nothing, Reflection
from arl.envs import CombinationLock
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes


def combination_lock(reflects: bool = True) -> Config:
    """A code is entered digit by digit and answered as a whole: what an answer tells must cross to the next attempt as a note."""
    return Config(
        environment=CombinationLock(2, 3),
        agent=(Act(), Attempts(4, Reflection(2) if reflects else Nothing())),
        rollout=whole_episodes(),
        learner=refining(100, 160, entropy=0.005),
        warm_start=100,
    )


PRESETS = {
    "combination_lock": combination_lock,
    "combination_lock_blind": functools.partial(combination_lock, reflects=False),
}
ROWS = {"reflection": ("combination_lock", "combination_lock_blind")}
