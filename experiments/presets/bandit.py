"""Bernoulli arms: explore, then exploit."""

from arl.agents import Act
from arl.envs import Bandit
from arl.rollout import RolloutConfig
from arl.runs.config import EvaluationConfig
from arl.training import LearnerConfig, Schedule
from experiments.config import Config


def bandit() -> Config:
    """Two Bernoulli arms and ten pulls, with the history in the context: explore, then exploit."""
    return Config(
        environment=Bandit(2, 10),
        agent=(Act(),),
        rollout=RolloutConfig(trajectory_length=36, widths=((1, 3),)),
        learner=LearnerConfig(
            num_updates=300,
            num_lanes=320,
            microbatch_size=40,
            reward_scale=0.2,
            entropy_weight=Schedule(0.03, 0.0, until=0.9),
            learning_rate=Schedule(1e-3, 0.0, since=0.3),
        ),
        evaluation=EvaluationConfig(num_episodes=16384),
    )


PRESETS = {"bandit": bandit}
