"""Questions that cost, with and without a reward for the information that they yield."""

import functools
from typing import Any

from arl.agents import Act, ScaleRewards
from arl.envs import Mastermind, TwentyQuestions
from arl.training import Schedule
from experiments.config import Config
from experiments.presets.recipes import learning, refining, whole_episodes


def mastermind(information_bonus: float = 1.0, warm_start: int = 150) -> Config:
    """A hidden code, found by guesses at a cost of 1 each; a reward per bit of information is annealed."""
    return asking(Mastermind(2, 4), information_bonus, warm_start, 100 if warm_start else 600)


def twenty_questions(information_bonus: float = 1.0, warm_start: int = 120) -> Config:
    """An object of a random table, found by questions at a cost of 1 each; a reward per bit of information is annealed."""
    return asking(TwentyQuestions(4, 3), information_bonus, warm_start, 80 if warm_start else 1000)


def asking(environment: Any, information_bonus: float, warm_start: int, num_updates: int) -> Config:
    """The config of both; without a warm start the entropy bonus is larger."""
    make, entropy = (refining, 0.003) if warm_start else (learning, 0.06)
    schedules = {"scale_rewards.process": Schedule(1.0, 0.0, until=0.5)}
    return Config(
        environment=environment,
        agent=(Act(time_limit=8, information_bonus=information_bonus), ScaleRewards(scheduled=("process",))),
        rollout=whole_episodes(),
        learner=make(num_updates, 320, entropy=entropy, reward_scale=0.2, schedules=schedules),
        warm_start=warm_start,
    )


PRESETS = {
    "mastermind": mastermind,
    "mastermind_from_scratch": functools.partial(mastermind, warm_start=0),
    "mastermind_without_information_bonus": functools.partial(mastermind, information_bonus=0.0, warm_start=0),
    "twenty_questions": twenty_questions,
    "twenty_questions_without_information_bonus": functools.partial(twenty_questions, information_bonus=0.0),
}
ROWS = {
    "mastermind": ("mastermind", "mastermind_from_scratch", "mastermind_without_information_bonus"),
    "twenty_questions": ("twenty_questions", "twenty_questions_without_information_bonus"),
}
