"""A hidden number: reflections between attempts, the whole history, or many guesses in one attempt."""

import functools

from arl.agents import Act, Attempts, History, Reflection
from arl.envs import NumberGuess
from arl.rollout import RolloutConfig
from arl.training import LearnerConfig, Rule, Schedule
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
    """One guess per attempt at a hidden number; only a reflection of three tokens is carried over.

    The agent must learn to write and to read reflections at the same time. The old context is mostly kept at first, and never in the end.
    The entropy bonus is larger on actions, so that no guess becomes improbable before reflections can tell the numbers apart.
    """
    return Config(
        environment=NumberGuess(num_numbers),
        agent=(Act(), Attempts(num_attempts, Reflection(3, symbols, annealed=True))),
        rollout=RolloutConfig(widths=((1, 6),)),
        learner=LearnerConfig(
            num_updates=num_updates,
            num_lanes=320,
            microbatch_size=40,
            gae_lambda_counts="token",
            entropy_weight=Schedule(entropy, 0.0, until=0.9, since=0.4),
            rules={"action": Rule(entropy=2.5), "reflection": Rule(entropy=note)},
            learning_rate=Schedule(1e-3, 0.0, since=0.4),
            schedules={"attempts.keep": keep},
        ),
    )


def reflection_16() -> Config:
    """16 numbers and 5 guesses: the agent learns to search while the old context is kept, and then to write reflections."""
    return reflection(16, 5, num_updates=2000, entropy=0.04, note=0.3, keep=Schedule(1.0, 0.0, since=0.15, until=0.7))


def history() -> Config:
    """The task of `reflection` with the whole history kept, which is learned in seconds."""
    return Config(
        environment=NumberGuess(8),
        agent=(Act(), Attempts(4, History())),
        rollout=RolloutConfig(widths=((1, 5),)),
        learner=LearnerConfig(num_updates=150, num_lanes=320, microbatch_size=40),
    )


def number_guess() -> Config:
    """At most ten guesses at a number below 32, at a cost of 1 each, with the history in the context."""
    return Config(
        environment=NumberGuess(32, one_guess=False),
        agent=(Act(time_limit=10),),
        rollout=RolloutConfig(trajectory_length=36, widths=((1, 3), (4, 3))),
        learner=LearnerConfig(
            num_updates=800,
            num_lanes=320,
            microbatch_size=40,
            reward_scale=0.1,
            entropy_weight=Schedule(0.03, 0.0, until=0.8),
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
