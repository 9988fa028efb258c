"""Environments: tasks in text, each with an exact oracle or bound and a random baseline; and wrappers."""

from arl.envs import bandit, frozen_lake, number_guess
from arl.envs.bandit import make_bandit
from arl.envs.frozen_lake import make_frozen_lake, random_maps
from arl.envs.number_guess import make_number_guess
from arl.envs.wrappers import time_limit, turn_cost

__all__ = [
    "bandit",
    "frozen_lake",
    "make_bandit",
    "make_frozen_lake",
    "make_number_guess",
    "number_guess",
    "random_maps",
    "time_limit",
    "turn_cost",
]
