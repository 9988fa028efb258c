"""`arl`: agentic reinforcement learning of language models in JAX, the whole loop in one compiled program.

    run = arl.train(arl.make_agent(task, [arl.agents.Act(), arl.agents.Think(8)]), output="runs/mine")

What is named here is loaded when it is first used, so that `import arl` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = ("agents", "envs", "models", "objectives", "rollout", "runs", "task", "text", "training", "types")
_PUBLIC = {
    **dict.fromkeys(("ArlError", "Grammar", "Interaction", "Kind", "Reward", "Segment", "Text", "Trajectory", "Turn"), "arl.types"),
    **dict.fromkeys(("Bounds", "Environment", "Limits", "Step", "Task", "Tool"), "arl.task"),
    "load_tokenizer": "arl.text",
    **dict.fromkeys(("Layer", "make_agent"), "arl.agents"),
    **dict.fromkeys(("Policy", "Variables", "make_policy"), "arl.models"),
    **dict.fromkeys(("Decoding", "RolloutConfig", "Writer"), "arl.rollout"),
    **dict.fromkeys(("Credit", "Layout", "LearnerConfig", "Rule", "Schedule", "make_learner"), "arl.training"),
    **dict.fromkeys(("EvaluationConfig", "TrainConfig"), "arl.runs.config"),
    **dict.fromkeys(("Observer", "Tracker"), "arl.runs.observers"),
    **dict.fromkeys(("Run", "train"), "arl.runs.train"),
    "check": "arl.runs.checker",
    "live": "arl.runs.live",
    "use_all_cores": "arl.runs.devices",
}

__all__ = ["__version__", *_ROOMS, *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"arl.{name}")
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'arl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:  # for editors and type checkers
    from arl import agents, envs, models, objectives, rollout, runs, task, text, training, types
    from arl.agents import Layer, make_agent
    from arl.models import Policy, Variables, make_policy
    from arl.rollout import Decoding, RolloutConfig, Writer
    from arl.runs.checker import check
    from arl.runs.config import EvaluationConfig, TrainConfig
    from arl.runs.devices import use_all_cores
    from arl.runs.live import live
    from arl.runs.observers import Observer, Tracker
    from arl.runs.train import Run, train
    from arl.task import Bounds, Environment, Limits, Step, Task, Tool
    from arl.text import load_tokenizer
    from arl.training import Credit, Layout, LearnerConfig, Rule, Schedule, make_learner
    from arl.types import ArlError, Grammar, Interaction, Kind, Reward, Segment, Text, Trajectory, Turn
