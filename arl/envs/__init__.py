"""Environments: tasks in text, each with an optimal return or a bound of it, and a random baseline."""

from arl.envs import (
    arithmetic,
    bandit,
    blind_maze,
    combination_lock,
    corridor,
    frozen_lake,
    hidden_lake,
    lake_maps,
    ledger,
    mastermind,
    minesweeper,
    number_guess,
    pointer_chase,
    restless_bandit,
    shifting_controls,
    twenty_questions,
    witnesses,
)
from arl.envs.arithmetic import Arithmetic, calculator, make_arithmetic
from arl.envs.bandit import Bandit, make_bandit
from arl.envs.blind_maze import BlindMaze, make_blind_maze
from arl.envs.combination_lock import CombinationLock, make_combination_lock
from arl.envs.corridor import Corridor, make_corridor
from arl.envs.frozen_lake import FrozenLake, make_frozen_lake
from arl.envs.lake_maps import random_maps
from arl.envs.ledger import Ledger, make_ledger, table
from arl.envs.mastermind import Mastermind, make_mastermind
from arl.envs.minesweeper import Minesweeper, make_minesweeper
from arl.envs.number_guess import NumberGuess, make_number_guess
from arl.envs.pointer_chase import PointerChase, make_pointer_chase
from arl.envs.restless_bandit import RestlessBandit, make_restless_bandit
from arl.envs.shifting_controls import ShiftingControls, make_shifting_controls
from arl.envs.twenty_questions import TwentyQuestions, make_twenty_questions
from arl.envs.witnesses import Witnesses, make_witnesses

__all__ = [
    "Arithmetic",
    "Bandit",
    "BlindMaze",
    "CombinationLock",
    "Corridor",
    "FrozenLake",
    "Ledger",
    "Mastermind",
    "Minesweeper",
    "NumberGuess",
    "PointerChase",
    "RestlessBandit",
    "ShiftingControls",
    "TwentyQuestions",
    "Witnesses",
    "arithmetic",
    "bandit",
    "blind_maze",
    "calculator",
    "combination_lock",
    "corridor",
    "frozen_lake",
    "hidden_lake",
    "lake_maps",
    "ledger",
    "make_arithmetic",
    "make_bandit",
    "make_blind_maze",
    "make_combination_lock",
    "make_corridor",
    "make_frozen_lake",
    "make_ledger",
    "make_mastermind",
    "make_minesweeper",
    "make_number_guess",
    "make_pointer_chase",
    "make_restless_bandit",
    "make_shifting_controls",
    "make_twenty_questions",
    "make_witnesses",
    "mastermind",
    "minesweeper",
    "number_guess",
    "pointer_chase",
    "random_maps",
    "restless_bandit",
    "shifting_controls",
    "table",
    "twenty_questions",
    "witnesses",
]
