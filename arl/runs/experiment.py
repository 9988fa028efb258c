"""From an agent, a policy and a config to the pure functions of a training."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import agents, models, rollout, text, training
from arl.checks import check_fields
from arl.models import Policy
from arl.rollout import RolloutConfig
from arl.runs.check_functions import trace
from arl.runs.check_outcomes import bounds_of
from arl.runs.config import TrainConfig
from arl.task import Bounds, Task
from arl.training import Layout, Learner
from arl.types import ArlError, Interaction


class Experiment(NamedTuple):
    """A training as pure functions.

    Attributes:
      name: name for titles and messages.
      config: config of the training.
      interaction: the agent in its environment.
      policy: the policy.
      bounds: random and optimal outcome of an episode; None if they are not known.
      rollout: config of rollouts, with all lengths filled in.
      learner: learner of the updates from rewards.
      warm_start: learner of the first `config.warm_start` updates; None if there are none.
      pretrained: weights that it starts from, as in `Policy.init`; None for random ones.
    """

    name: str
    config: TrainConfig
    interaction: Interaction
    policy: Policy
    bounds: Bounds | None
    rollout: RolloutConfig
    learner: Learner
    warm_start: Learner | None
    pretrained: Any = None

    @property
    def task(self) -> Task:
        """The task, with the limits that the agent sets."""
        return self.interaction.task

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of all texts."""
        return self.task.tokenizer


def make_experiment(
    agent: Interaction,
    policy: Policy | str,
    config: TrainConfig,
    *,
    name: str = "agent",
    layout: Layout = Layout(),
    model: dict[str, Any] | None = None,
    pretrained: Any = None,
    **options: Any,
) -> Experiment:
    """Returns a training as pure functions, and checks that its parts fit together.

    Args:
      agent: the agent in its environment, made by `arl.agents.make_agent`.
      policy: the policy, or the name of a preset of `arl.models`, "0.1M" to "10M", for a transformer of that size.
      config: config of the training.
      name: name for titles and messages.
      layout: how lanes and weights are divided among devices.
      model: fields of `ModelConfig` that replace those of the preset.
      pretrained: weights to start from, as `Policy.init` takes them; None for random ones.
      **options: `writer`, `estimator`, `optimizer` and so on, as `arl.training.make_learner` takes them.

    Returns:
      The experiment.

    Raises:
      ArlError: if the parts do not fit together.
    """
    check_types(agent, config)
    filled = rollout.resolve_lengths(config.rollout, agent)
    _check_schedules(agent, config)
    if config.warm_start:
        _check_expert(agent)
    vocab_size = len(agent.task.tokenizer)
    if not filled.decoding.constrained:
        agent = agent._replace(grammar=text.free(agent.grammar, vocab_size))
    rollout.check_rollout(agent, filled, vocab_size)
    if isinstance(policy, str):
        policy = models.make_policy(models.preset(policy, vocab_size, **{"context_length": filled.context_length, **(model or {})}))
    elif isinstance(policy, Policy) and policy.vocab_size < vocab_size:
        raise ArlError(
            f"a policy for {policy.vocab_size} tokens cannot read those of a tokenizer with {vocab_size}; set "
            f"ModelConfig.vocab_size={vocab_size}"
        )
    parts, warm_start = (agent, policy, filled), None
    learner = training.make_learner(*parts, config.learner, first_step=config.warm_start, layout=layout, **options)
    if config.warm_start:
        warm = {"num_updates": config.warm_start, "layout": layout, **options}
        warm_start = training.make_warm_start(*parts, config.warm_start_learner, **warm)
    if pretrained is not None:
        _check_pretrained(pretrained)
        jax.eval_shape(learner.init, jax.random.key(0), pretrained)  # refuses weights that do not fit
    bounds = find_bounds(agent.task)  # last, as it may take a while
    return Experiment(name, config, agent, policy, bounds, filled, learner, warm_start, pretrained)


def _check_pretrained(pretrained: Any) -> None:
    """Raises `ArlError` if pretrained weights are no arrays of finite numbers."""
    leaves = jax.tree_util.tree_leaves_with_path(pretrained)
    if not leaves:
        raise ArlError("the pretrained weights are empty; leave `pretrained` out for random ones")
    for path, leaf in leaves:
        name = f"{jax.tree_util.keystr(path)} is a {type(leaf).__name__}"
        if not hasattr(leaf, "dtype"):
            raise ArlError(f"pretrained{name}; give a tree of arrays, such as run.variables.trainable")
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not bool(jnp.all(jnp.isfinite(leaf))):
            raise ArlError(f"pretrained{jax.tree_util.keystr(path)} has values that are not finite; give others")


def make_task(config: Any) -> Task:
    """Returns the task of an environment, with the tokenizer that ships with `arl`.

    Args:
      config: config of the environment, a frozen dataclass with `make(tokenizer) -> Task`.

    Raises:
      ArlError: if it is none, or makes something else.
    """
    kind = type(config)
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:
        raise ArlError(f"{kind.__name__} is no frozen dataclass; put @dataclasses.dataclass(frozen=True) above it")
    check_fields(config)
    task = config.make(text.load_tokenizer())
    if not isinstance(task, Task):
        raise ArlError(f"make of {kind.__name__} returns a {type(task).__name__}; return an arl.Task")
    return task


def check_types(agent: Any, config: Any) -> None:
    """Raises `ArlError` if `agent` is no agent of a task, or `config` no `TrainConfig`."""
    if not isinstance(agent, Interaction) or agent.task is None:
        raise ArlError("the agent has no task; make it by arl.make_agent(task, layers)")
    text.check_tokenizer(agent.task.tokenizer)
    if not isinstance(config, TrainConfig):
        raise ArlError(f"the config is a {type(config).__name__}; give an arl.TrainConfig, such as TrainConfig(learner=LearnerConfig())")


def find_bounds(task: Task) -> Bounds | None:
    """Returns the bounds of an episode of a task, None if they are not known; raises `ArlError` if random actions are optimal."""
    bounds, limits = bounds_of(task), task.limits
    if bounds and not bounds.random < bounds.optimal:
        is_limited = limits.time_limit or task.environment.max_steps is None
        longer = f"set Act.time_limit > {limits.time_limit}" if is_limited else "give it more steps"
        more = "put attempts(2) around it" if limits.num_attempts == 1 and not is_limited else longer
        raise ArlError(f"random actions are as good as any in an episode of this task; {more}, or make the environment harder")
    return bounds


def _check_schedules(agent: Interaction, config: TrainConfig) -> None:
    """Raises `ArlError` for an invalid schedule, one that no layer follows, or a missing one."""
    known = [name for layer in agent.layers for name in layer.schedules]
    optional = ["expert.fraction"] if config.rollout.expert_fraction else []
    for name in config.learner.schedules:
        if name not in [*known, *optional]:
            do = f"it follows {' and '.join(known)}" if known else "set LearnerConfig.schedules={}"
            raise ArlError(f"nothing in this agent follows the schedule {name}; {do}")
    for name in known:
        if name not in config.learner.schedules:
            raise ArlError(f"this agent follows {name}; set LearnerConfig.schedules.{name}.start, or take annealed or scheduled out of it")

    for name, schedule in config.learner.schedules.items():
        low, high = min(schedule.start, schedule.end), max(schedule.start, schedule.end)
        is_fraction = name.endswith((".keep", ".fraction"))
        if low < 0 or (is_fraction and high > 1):
            words = "between 0 and 1" if is_fraction else "at least 0"
            raise ArlError(f"the schedule {name} goes from {schedule.start} to {schedule.end}; set both {words}")


def _check_expert(agent: Interaction) -> None:
    """Raises `ArlError` if the expert's notes are longer than the agent's budget for them."""
    experts, key = agents.experts_of(agent.task), jax.random.key(0)
    state = trace("the environment's reset", agent.task.environment.reset, key)
    for layer in agent.layers:
        for kind, (field, budget) in layer.budgets.items():
            if kind not in experts:
                continue
            length = trace(f"the expert of {kind.name}", experts[kind], key, state, jnp.int32(0)).ids.shape[0]
            if length > budget:
                raise ArlError(f"an expert notes down {length} tokens here; set {field} >= {length}, or TrainConfig.warm_start=0")
