"""Wrappers: functions from environment to environment. They compose, and change nothing but what they say."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl.types import Environment, Step, check_whole


class TimeLimitState(NamedTuple):
    """An environment's state and how much of its time has passed.

    Attributes:
      inner: state of the environment inside.
      num_steps: int32 `[]`, steps made since the reset.
    """

    inner: Any
    num_steps: jax.Array


def unwrapped(state: Any) -> Any:
    """Returns the state of the environment within all wrappers.

    Args:
      state: of an environment, wrapped or not.
    """
    while isinstance(state, TimeLimitState):
        state = state.inner
    return state


def time_limit(environment: Environment, num_steps: int) -> Environment:
    """Returns the environment with its episodes cut after a number of steps: truncated, not terminated, unless the task ends just then.

    Args:
      environment: what to limit.
      num_steps: the steps that an episode may have.

    Raises:
      ValueError: if no step is allowed.
    """
    check_whole(num_steps=num_steps)
    if not num_steps >= 1:
        raise ValueError(f"A time limit of {num_steps} steps allows no step; set num_steps to at least 1.")

    def reset(key: jax.Array) -> TimeLimitState:
        return TimeLimitState(environment.reset(key), jnp.int32(0))

    def step(key: jax.Array, state: TimeLimitState, action: jax.Array) -> tuple[TimeLimitState, Step]:
        inner, answer = environment.step(key, state.inner, action)
        is_late = state.num_steps + 1 >= num_steps
        truncated = (answer.truncated | is_late) & ~answer.terminated
        return TimeLimitState(inner, state.num_steps + 1), answer._replace(truncated=truncated)

    expert, anchor = environment.expert, environment.anchor
    return environment._replace(
        reset=reset,
        step=step,
        describe=lambda state: environment.describe(state.inner),
        legal=lambda state: environment.legal(state.inner),
        max_steps=num_steps if environment.max_steps is None else min(num_steps, environment.max_steps),
        expert=expert and (lambda key, state: expert(key, state.inner)),
        anchor=anchor and (lambda state: anchor(state.inner)),
    )


def turn_cost(environment: Environment, cost: float) -> Environment:
    """Returns the environment with a charge for every step.

    Args:
      environment: what to charge for.
      cost: taken from the reward of each step, in the reward's unit.

    Raises:
      ValueError: if the cost is negative.
    """
    if not 0 <= cost < float("inf"):
        raise ValueError(f"A turn cost of {cost} would pay for turns; give what a turn costs as a positive number.")

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, Step]:
        state, answer = environment.step(key, state, action)
        return state, answer._replace(reward=answer.reward - cost)

    return environment._replace(step=step, worst_reward=environment.worst_reward - cost)
