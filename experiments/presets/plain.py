"""Where a task or an agent of one's own begins."""

from arl.envs import Bandit
from experiments.config import Config


def plain() -> Config:
    """The defaults of every part: for a task and an agent of your own, by --config.environment and --config.agent."""
    return Config(environment=Bandit())


PRESETS = {"plain": plain}
