"""The slippery lake, by PPO and by group objectives; and hidden maps, where a reflection tells the way."""

import functools

from arl.agents import Act, Attempts, Nothing, Reflection
from arl.envs import FrozenLake
from arl.rollout import RolloutConfig
from arl.runs.config import EvaluationConfig
from arl.training import LearnerConfig, Schedule
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes


def frozen_lake(map: str = "4x4", time_limit: int = 64) -> Config:
    """The slippery lake by PPO; every turn resets the context, since the position is the whole state."""
    return Config(
        environment=FrozenLake(map),
        agent=(Act(time_limit=time_limit, resets_context=True),),
        rollout=RolloutConfig(trajectory_length=96, widths=((1, 3),), restarts=True),
        learner=LearnerConfig(num_updates=300, num_lanes=256, microbatch_size=64, entropy_weight=Schedule(0.03, 0.0, until=0.9)),
        evaluation=EvaluationConfig(num_episodes=8192),
    )


def frozen_lake_group(estimator: str, entropy: float, learning_rate: float) -> Config:
    """The slippery lake by a group objective, which compares whole episodes that start alike."""
    return Config(
        environment=FrozenLake(),
        agent=(Act(time_limit=64, resets_context=True),),
        rollout=RolloutConfig(trajectory_length=200, widths=((1, 3), (4, 3), (16, 3))),
        learner=LearnerConfig(
            num_updates=200,
            num_lanes=256,
            group_size=32,
            num_epochs=1,
            microbatch_size=64,
            estimator=estimator,
            value_weight=0.0,
            entropy_weight=Schedule(entropy, 0.0, until=0.9),
            learning_rate=Schedule(learning_rate, 0.0, since=0.5),
        ),
        evaluation=EvaluationConfig(num_episodes=8192),
    )


def frozen_lake_hidden(reflects: bool = True) -> Config:
    """Three attempts at one of eight hidden maps; a reflection tells the next attempt the way.

    Episodes without reflections have half as many tokens, so that agent has twice as many updates.
    """
    times = 1 if reflects else 2
    return Config(
        environment=FrozenLake("4x4", is_slippery=False, num_random_maps=8, is_hidden=True),
        agent=(Act(time_limit=10), Attempts(3, Reflection(6) if reflects else Nothing())),
        rollout=whole_episodes(),
        learner=refining(80 * times, 160, entropy=0.005),
        warm_start=80 * times,
    )


PRESETS = {
    "frozen_lake": frozen_lake,
    "frozen_lake_8x8": functools.partial(frozen_lake, "8x8", 200),
    "frozen_lake_grpo": functools.partial(frozen_lake_group, "grpo", 0.06, 1e-3),
    "frozen_lake_rloo": functools.partial(frozen_lake_group, "rloo", 0.027, 1e-3),
    "frozen_lake_hidden": frozen_lake_hidden,
    "frozen_lake_hidden_without_reflection": functools.partial(frozen_lake_hidden, reflects=False),
}
ROWS = {"hidden_lake": ("frozen_lake_hidden", "frozen_lake_hidden_without_reflection")}
