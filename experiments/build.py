"""From a config to the pure functions of a run."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import agents, models, rollout, text, training
from arl.agents import Layer
from arl.models import Policy
from arl.rollout import RolloutConfig
from arl.task import Bounds, Task
from arl.training import Layout, Learner, LearnerConfig
from arl.types import ArlError, Interaction
from experiments.config import Config
from experiments.fields import nearest


class Experiment(NamedTuple):
    """A run as pure functions.

    Attributes:
      config: config of the run.
      task: the task, with the limits that the agent sets.
      bounds: random and optimal outcome of an episode.
      tokenizer: tokenizer of all texts.
      interaction: the agent in its environment.
      policy: the policy.
      rollout: config of rollouts, with all lengths filled in.
      learner: learner of the updates from rewards.
      warm_start: learner of the first `config.warm_start` updates; None if there are none.
    """

    config: Config
    task: Task
    bounds: Bounds
    tokenizer: Any
    interaction: Interaction
    policy: Policy
    rollout: RolloutConfig
    learner: Learner
    warm_start: Learner | None


def build(config: Config, layout: Layout = Layout()) -> Experiment:
    """Returns the run of a config, divided among devices by a layout.

    Raises:
      ArlError: if the config cannot be run.
    """
    tokenizer = text.load_tokenizer()
    task = config.environment.make(tokenizer)._replace(limits=agents.limits_of(config.agent))
    bounds, interaction = find_bounds(task), agents.make_agent(task, config.agent)
    _check_schedules(config)
    if config.warm_start:
        _check_expert(task, config.agent)
    filled = rollout.fit(config.rollout, interaction)
    if not filled.decoding.constrained:
        interaction = interaction._replace(grammar=text.free(interaction.grammar, len(tokenizer)))
    rollout.check_rollout(interaction, filled, len(tokenizer))
    size = dataclasses.asdict(config.model)
    policy = models.make_policy(models.preset(size.pop("preset"), len(tokenizer), context_length=filled.context_length, **size))
    parts, warm_start = (interaction, policy, filled), None
    learner = training.make_learner(*parts, config.learner, first_step=config.warm_start, layout=layout)
    if config.warm_start:
        warm_start = training.make_warm_start(*parts, warm_start_config(config), num_updates=config.warm_start, layout=layout)
    return Experiment(config, task, bounds, tokenizer, interaction, policy, filled, learner, warm_start)


def find_bounds(task: Task) -> Bounds:
    """Returns the bounds of an episode of a task; raises `ArlError` if there are none, or if random actions are optimal."""
    if task.bounds is None:
        raise ArlError(
            "nothing is known of what can be earned in this task, and no score can be told; give Task.bounds a function of Limits"
        )
    bounds, limits = task.bounds(task.limits), task.limits
    if not bounds.random < bounds.optimal:
        is_limited = limits.num_steps or task.environment.max_steps is None
        longer = f"set Act.time_limit > {limits.num_steps}" if is_limited else "give it more steps"
        more = "put attempts(2) around it" if limits.num_attempts == 1 and not is_limited else longer
        raise ArlError(f"random actions are as good as any in an episode of this task; {more}, or make the environment harder")
    return bounds


def warm_start_config(config: Config) -> LearnerConfig:
    """Returns the learner config of the warm start: that of the run, with its own learning rate and Adam epsilon."""
    optimizer = {"learning_rate": config.warm_start_learning_rate, "adam_epsilon": LearnerConfig.adam_epsilon}
    return dataclasses.replace(config.learner, **optimizer)


def _check_schedules(config: Config) -> None:
    """Raises `ArlError` for an invalid schedule, one that no layer follows, or a missing one."""
    known = [name for layer in config.agent for name in layer.schedules]
    optional = ["expert.fraction"] if config.rollout.expert_fraction else []
    for name in config.learner.schedules:
        if name not in [*known, *optional]:
            raise ArlError(
                f"nothing in this agent follows the schedule {name}; {nearest(name, known) if known else 'set LearnerConfig.schedules={}'}"
            )
    for name in known:
        if name not in config.learner.schedules:
            raise ArlError(f"this agent follows {name}; set LearnerConfig.schedules.{name}.start, or take annealed or scheduled out of it")

    for name, schedule in config.learner.schedules.items():
        low, high = min(schedule.start, schedule.end), max(schedule.start, schedule.end)
        is_fraction = name.endswith((".keep", ".fraction"))
        if low < 0 or (is_fraction and high > 1):
            words = "between 0 and 1" if is_fraction else "at least 0"
            raise ArlError(f"the schedule {name} goes from {schedule.start} to {schedule.end}; set both {words}")


def _check_expert(task: Task, layers: tuple[Layer, ...]) -> None:
    """Raises `ArlError` if the expert's notes are longer than the agent's budget for them."""
    experts, key = agents.experts_of(task), jax.random.key(0)
    state = jax.eval_shape(task.environment.reset, key)
    for layer in layers:
        for kind, (field, budget) in layer.budgets.items():
            if kind not in experts:
                continue
            length = jax.eval_shape(experts[kind], key, state, jnp.int32(0)).ids.shape[0]
            if length > budget:
                raise ArlError(f"an expert notes down {length} tokens here; set {field} >= {length}, or Config.warm_start=0")
