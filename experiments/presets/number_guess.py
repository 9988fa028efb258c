"""A hidden number: notes between attempts, history, or many guesses an attempt."""

import functools

from arl.agents import Act, Attempts, History, Reflection
from arl.envs import NumberGuess
from arl.rollout import RolloutConfig
from arl.training import LearnerConfig, Schedule
from experiments.config import Config


def reflection(
    num_numbers: int = 8,
    num_attempts: int = 4,
    symbols: str = "task",
    num_updates: int = 600,
    entropy: float = 0.06,
    note: float = 1.0,
    keep: Schedule = Schedule(0.8, 0.0, until=0.5),
) -> Config:
    """One guess an attempt at a hidden number; a note of three tokens is all that crosses to the next attempt.

    Writer and reader must invent a language at once. Forgetting is annealed: at first the old context is mostly kept beside the note, in
    the end never. The entropy bonus is large on actions, so that no guess dies before the notes can tell the numbers apart.
    """
    return Config(
        environment=NumberGuess(num_numbers),
        agent=(Act(), Attempts(num_attempts, Reflection(3, symbols, annealed=True))),
        rollout=RolloutConfig(widths=((1, 6),)),
        learner=LearnerConfig(
            num_updates=num_updates,
            num_lanes=320,
            microbatch=40,
            gae_lambda_counts="token",
            entropy=Schedule(entropy, 0.0, until=0.9, since=0.4),
            entropy_scales={"action": 2.5, "reflection": note},
            learning_rate=Schedule(1e-3, 0.0, since=0.4),
            schedules={"attempts.keep": keep},
        ),
    )


def reflection_16() -> Config:
    """The same with 16 numbers and 5 guesses: the search is learned first, while everything is kept, and then the language of the notes."""
    return reflection(16, 5, num_updates=2000, entropy=0.04, note=0.3, keep=Schedule(1.0, 0.0, since=0.15, until=0.7))


def history() -> Config:
    """The task of `reflection` when everything crosses: learned in seconds."""
    return Config(
        environment=NumberGuess(8),
        agent=(Act(), Attempts(4, History())),
        rollout=RolloutConfig(widths=((1, 5),)),
        learner=LearnerConfig(num_updates=150, num_lanes=320, microbatch=40),
    )


def number_guess() -> Config:
    """Many guesses an attempt at a number below 32, each at the price of 1, history kept."""
    return Config(
        environment=NumberGuess(32, one_guess=False),
        agent=(Act(time_limit=10),),
        rollout=RolloutConfig(trajectory_length=36, widths=((1, 3), (4, 3))),
        learner=LearnerConfig(
            num_updates=800,
            num_lanes=320,
            microbatch=40,
            reward_scale=0.1,
            entropy=Schedule(0.03, 0.0, until=0.8),
            learning_rate=Schedule(1e-3, 0.0, since=0.5),
        ),
    )


PRESETS = {
    "reflection": reflection,
    "reflection_16": reflection_16,
    "reflection_text": functools.partial(reflection, symbols="any", note=0.05, num_updates=800),
    "history": history,
    "number_guess": number_guess,
}
