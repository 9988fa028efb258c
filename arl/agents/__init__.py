"""Interactions: an agent in its environment, and the combinators that give it cognition."""

from arl.agents.act import Process, act
from arl.agents.attempts import Carry, ExpertAgain, attempts, history, nothing, reflection, window
from arl.agents.calls import Tool, say_call
from arl.agents.explore import explore
from arl.agents.intervene import replace_by_expert, replace_segments, segments
from arl.agents.price import price
from arl.agents.remember import ExpertNote, remember
from arl.agents.think import think
from arl.agents.tools import calculator, environment_state, imagine, table
from arl.agents.use_tools import use_tools
from arl.agents.weigh import weigh

__all__ = [
    "Carry",
    "ExpertAgain",
    "ExpertNote",
    "Process",
    "Tool",
    "act",
    "attempts",
    "calculator",
    "environment_state",
    "explore",
    "history",
    "imagine",
    "nothing",
    "price",
    "reflection",
    "remember",
    "replace_by_expert",
    "replace_segments",
    "say_call",
    "segments",
    "table",
    "think",
    "use_tools",
    "weigh",
    "window",
]
