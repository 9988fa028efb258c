"""A check of environments, tasks and agents before anything is trained on them: it plays, and names what is broken."""

from typing import Any

import jax

from arl.agents import Act, limits_of, make_agent
from arl.checks import check_key, check_whole
from arl.runs.check_agent import check_agent
from arl.runs.check_environment import check_environment
from arl.runs.experiment import make_task
from arl.task import Task
from arl.types import ArlError, Interaction

TIME_LIMIT = 8  # actions of an attempt at a task without a limit of its own


def check(checked: Any, *, key: jax.Array | None = None, num_episodes: int = 64) -> None:
    """Plays random legal, illegal and expert texts, and raises an error that says in one sentence what is broken and what to change.

    A task is checked itself, then as an agent with `Act` alone; an agent is checked after its task. What passes may still be wrong: random
    episodes do not reach every state.

    Args:
      checked: config of an environment, a frozen dataclass with `make(tokenizer) -> Task`, which gets the tokenizer that ships with `arl`;
        a `Task`; or an `Interaction`, an agent in its environment.
      key: random key of the episodes; None for `jax.random.key(0)`.
      num_episodes: number of episodes of each kind.

    Raises:
      ArlError: if something is broken.
    """
    key = jax.random.key(0) if key is None else key
    check_key(key)
    check_whole(num_episodes=num_episodes)
    key_task, key_agent = jax.random.split(key)
    if num_episodes < 8:
        raise ArlError(f"{num_episodes} episodes show too little; set num_episodes >= 8")
    if isinstance(checked, Interaction):
        _check_interaction(checked, key_task, key_agent, num_episodes)
        return
    task = checked if isinstance(checked, Task) else _make(checked)
    is_limited = not isinstance(task.environment, tuple) or getattr(task.environment, "max_steps", None) is not None
    act = Act(time_limit=0 if is_limited else TIME_LIMIT)
    task = task._replace(limits=limits_of([act]))
    check_environment(task, key_task, num_episodes)
    check_agent(make_agent(task, [act]), key_agent, num_episodes)


def _make(config: Any) -> Task:
    """Returns the task of an environment's config."""
    if isinstance(config, type) or not callable(getattr(config, "make", None)):
        given = f"the class {config.__name__}" if isinstance(config, type) else f"a {type(config).__name__}"
        raise ArlError(
            f"{given} cannot be checked; give the config of an environment, with make(tokenizer) -> Task, a Task, or an agent made by "
            "arl.agents.make_agent"
        )
    return make_task(config)


def _check_interaction(agent: Interaction, key_task: jax.Array, key_agent: jax.Array, num_episodes: int) -> None:
    """Checks an agent and its task; names the layer with which a fault comes."""
    if agent.task is not None:
        check_environment(agent.task, key_task, num_episodes)
    try:
        check_agent(agent, key_agent, num_episodes)
    except ArlError as error:
        label = _layer_at_fault(agent, key_agent, num_episodes)
        raise ArlError(f"in the layer {label}: {error}" if label else str(error)) from None


def _layer_at_fault(agent: Interaction, key: jax.Array, num_episodes: int) -> str:
    """Returns the label of the innermost layer with which an agent is broken; empty if it cannot be told."""
    if agent.task is None or len(agent.layers) < 2:
        return ""
    for number in range(1, len(agent.layers)):
        try:
            inner = make_agent(agent.task, agent.layers[:number])
        except ArlError:  # a layer may need those around it
            continue
        try:
            check_agent(inner, key, num_episodes)
        except ArlError:
            return agent.layers[number - 1].label
    return agent.layers[-1].label
