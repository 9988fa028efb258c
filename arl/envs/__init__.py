"""Environments: tasks in text, each with an exact oracle or bound and a random baseline; and wrappers."""

from arl.envs import (
    arithmetic,
    bandit,
    combination_lock,
    corridor,
    frozen_lake,
    hidden_lake,
    ledger,
    mastermind,
    minesweeper,
    number_guess,
    restless_bandit,
    shifting_controls,
    twenty_questions,
)
from arl.envs.arithmetic import make_arithmetic
from arl.envs.bandit import make_bandit
from arl.envs.combination_lock import make_combination_lock
from arl.envs.corridor import make_corridor
from arl.envs.frozen_lake import make_frozen_lake, random_maps
from arl.envs.ledger import make_ledger
from arl.envs.mastermind import make_mastermind
from arl.envs.minesweeper import make_minesweeper
from arl.envs.number_guess import make_number_guess
from arl.envs.restless_bandit import make_restless_bandit
from arl.envs.shifting_controls import make_shifting_controls
from arl.envs.twenty_questions import make_twenty_questions
from arl.envs.wrappers import time_limit, turn_cost, unwrapped

__all__ = [
    "arithmetic",
    "bandit",
    "combination_lock",
    "corridor",
    "frozen_lake",
    "hidden_lake",
    "ledger",
    "make_arithmetic",
    "make_bandit",
    "make_combination_lock",
    "make_corridor",
    "make_frozen_lake",
    "make_ledger",
    "make_mastermind",
    "make_minesweeper",
    "make_number_guess",
    "make_restless_bandit",
    "make_shifting_controls",
    "make_twenty_questions",
    "mastermind",
    "minesweeper",
    "number_guess",
    "random_maps",
    "restless_bandit",
    "shifting_controls",
    "time_limit",
    "turn_cost",
    "twenty_questions",
    "unwrapped",
]
