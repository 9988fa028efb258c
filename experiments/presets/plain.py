"""The defaults, for an environment and an agent of your own."""

from arl.envs import Bandit
from experiments.config import Config


def plain() -> Config:
    """The defaults, for an environment and an agent of your own, set by --config.environment and --config.agent."""
    return Config(environment=Bandit())


PRESETS = {"plain": plain}
