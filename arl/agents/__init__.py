"""Agents: layers (wrappers) around an environment, and interventions on what an agent writes."""

from arl.agents.act import Act
from arl.agents.ask_for_help import AskForHelp
from arl.agents.attempts import Attempts, History, Memory, Nothing, Reflection, Window
from arl.agents.calls import say_call
from arl.agents.confidence import Confidence
from arl.agents.defer import Deferred, defer_action
from arl.agents.imagine import imagine
from arl.agents.intervene import replace_by_expert, replace_segments, segments
from arl.agents.layer import Layer, experts_of, extend, limits_of, make_agent, note_symbols, without_reward
from arl.agents.menu import Menu
from arl.agents.moves import Move
from arl.agents.novelty_bonus import NoveltyBonus
from arl.agents.plan import Plan
from arl.agents.raise_level import RaiseLevel
from arl.agents.remember import Remember
from arl.agents.scale_rewards import ScaleRewards
from arl.agents.size import insert_before_turn, repeat, reset_every
from arl.agents.think import Think
from arl.agents.token_cost import TokenCost
from arl.agents.use_tools import UseTools

__all__ = [
    "Act",
    "AskForHelp",
    "Attempts",
    "Confidence",
    "Deferred",
    "History",
    "Layer",
    "Memory",
    "Menu",
    "Move",
    "Nothing",
    "NoveltyBonus",
    "Plan",
    "RaiseLevel",
    "Reflection",
    "Remember",
    "ScaleRewards",
    "Think",
    "TokenCost",
    "UseTools",
    "Window",
    "defer_action",
    "experts_of",
    "extend",
    "imagine",
    "insert_before_turn",
    "limits_of",
    "make_agent",
    "note_symbols",
    "repeat",
    "replace_by_expert",
    "replace_segments",
    "reset_every",
    "say_call",
    "segments",
    "without_reward",
]
