"""Products that need a calculator: tools, alone and together with memory and reflection."""

import functools

from arl.agents import Act, Attempts, Nothing, Reflection, Remember, TokenCost, UseTools
from arl.envs import Arithmetic
from arl.runs.config import EvaluationConfig
from experiments.config import Config
from experiments.presets.recipes import refining, whole_episodes


def arithmetic(*tools: str) -> Config:
    """A product of two numbers, with or without a calculator; the warm start teaches its calls."""
    return Config(
        environment=Arithmetic(2),
        agent=(Act(), UseTools(tools)) if tools else (Act(),),
        rollout=whole_episodes(),
        learner=refining(80, 160, entropy=0.003),
        warm_start=80,
    )


def composed(calculates: bool = True, remembers: bool = True, reflects: bool = True) -> Config:
    """Three attempts at one product in a context of two digits, with a calculator whose tokens cost, notes and reflections.

    Without the calculator the product is unknown, without notes its last digits are lost, and without reflections every attempt has to call
    again. The expert calls in its first attempt, and then knows the product from its note.
    """
    tools = (UseTools(("calculator",)),) if calculates else ()
    memory = (Remember(budget=4, every=4 if calculates else 2),) if remembers else ()
    attempts = Attempts(3, Reflection(4) if reflects else Nothing())
    cost = (TokenCost(tool=0.05),) if calculates else ()
    return Config(
        environment=Arithmetic(2),
        agent=(Act(resets_context=not remembers), *tools, *memory, attempts, *cost),
        rollout=whole_episodes(),
        learner=refining(40, 96, entropy=0.003),
        warm_start=160,
        evaluation=EvaluationConfig(num_episodes=512),
    )


PRESETS = {
    "arithmetic": functools.partial(arithmetic, "calculator"),
    "arithmetic_without_tools": arithmetic,
    "composed": composed,
    "composed_without_tools": functools.partial(composed, calculates=False),
    "composed_without_memory": functools.partial(composed, remembers=False),
    "composed_without_reflection": functools.partial(composed, reflects=False),
}
ROWS = {
    "calculator": ("arithmetic", "arithmetic_without_tools"),
    "composed": ("composed", "composed_without_tools", "composed_without_memory", "composed_without_reflection"),
}
