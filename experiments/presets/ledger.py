"""A number that is in no text: a tool looks it up."""

import functools

from arl.agents import Act, UseTools
from arl.envs import Ledger
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes


def ledger(*tools: str) -> Config:
    """A number from a table that is in no text, with or without the tool that looks it up."""
    return Config(
        environment=Ledger(64),
        agent=(Act(), UseTools(tools)) if tools else (Act(),),
        rollout=whole_episodes(),
        learner=refining(100, 320, entropy=0.003),
        warm_start=100,
    )


PRESETS = {"ledger": functools.partial(ledger, "table"), "ledger_without_tools": ledger}
ROWS = {"table": ("ledger", "ledger_without_tools")}
