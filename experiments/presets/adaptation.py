"""Rules that change within an episode, for agents with and without their history in the context."""

import functools
from typing import Any

from arl.agents import Act
from arl.envs import RestlessBandit, ShiftingControls
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes


def shifting_controls(resets_context: bool = False) -> Config:
    """Direction words whose meanings are permuted within an episode, unannounced; the expert is a Bayes filter."""
    return adaptation(ShiftingControls(), resets_context)


def restless_bandit(resets_context: bool = False) -> Config:
    """A two-armed bandit whose better arm changes within an episode, unannounced; the expert is a Bayes filter."""
    return adaptation(RestlessBandit(), resets_context)


def adaptation(environment: Any, resets_context: bool) -> Config:
    """The config of both; with `resets_context` the agent sees only the present turn."""
    return Config(
        environment=environment,
        agent=(Act(resets_context=resets_context),),
        rollout=whole_episodes(),
        learner=refining(100, 160, entropy=0.01, reward_scale=0.2, gae_lambda=0.9),
        warm_start=200,
    )


PRESETS = {
    "shifting_controls": shifting_controls,
    "shifting_controls_without_memory": functools.partial(shifting_controls, resets_context=True),
    "restless_bandit": restless_bandit,
    "restless_bandit_without_memory": functools.partial(restless_bandit, resets_context=True),
}
ROWS = {
    "controls": ("shifting_controls", "shifting_controls_without_memory"),
    "restless": ("restless_bandit", "restless_bandit_without_memory"),
}
