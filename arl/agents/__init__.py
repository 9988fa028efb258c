"""Interactions: an agent in its environment, and the combinators that give it cognition."""

from arl.agents.act import act
from arl.agents.attempts import Carry, attempts, history, nothing, reflection, window
from arl.agents.intervene import replace_by_expert, replace_segments, segments
from arl.agents.think import think

__all__ = [
    "Carry",
    "act",
    "attempts",
    "history",
    "nothing",
    "reflection",
    "replace_by_expert",
    "replace_segments",
    "segments",
    "think",
    "window",
]
