"""Experts that remember earlier attempts, from tables of their actions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.task import Environment, TaskExpert
from arl.types import Kind, State, Text


def planned(
    environment: Environment,
    plans: np.ndarray,
    notes: np.ndarray,
    which: Callable[[State], jax.Array],
    num_made: Callable[[State], jax.Array],
) -> dict[Kind, TaskExpert]:
    """Returns experts of actions and of reflections, from tables by hidden case.

    They play whole episodes. Where the policy has acted before them, their next action may be illegal, and is then left to the policy.

    Args:
      environment: environment of the actions.
      plans: int `[cases, attempts, steps]`, actions of each attempt.
      notes: int `[cases, attempts, n]`, actions that the reflection after each attempt names.
      which: `state -> int32 []`, the case of an environment's state.
      num_made: `state -> int32 []`, number of actions made in an environment's state.

    Returns:
      Experts by kind of segment.
    """
    say = lambda action: text.say_choice(environment.grammar, action)

    def act(key: jax.Array, state: State, attempt: jax.Array) -> Text:
        return say(jnp.asarray(plans)[which(state), attempt, jnp.minimum(num_made(state), plans.shape[2] - 1)])

    def reflect(key: jax.Array, state: State, attempt: jax.Array) -> Text:
        return text.concatenate(*map(say, jnp.asarray(notes)[which(state), attempt]))

    return {Kind.ACTION: act, Kind.REFLECTION: reflect}
