"""A tool that simulates one step of the environment."""

from typing import Any

import jax
import numpy as np

from arl import text
from arl.task import Environment, Tool
from arl.types import ArlError, State, Text, select


def imagine(tokenizer: Any, environment: Environment, *, name: str = " if") -> Tool:
    """Returns a tool that simulates an action: the answer to ` if left` is the observation that would follow ` left`.

    The simulation changes no state and earns no reward, and its random numbers are not those of the real step. The answer to an illegal
    action is the present observation.

    Args:
      tokenizer: tokenizer of the environment.
      environment: the environment to simulate.
      name: name of the tool.

    Raises:
      ArlError: if an action has other tokens after `name` than by itself.
    """
    said = text.say_choice(environment.grammar, np.arange(environment.grammar.num_choices))
    ids = [row[:length].tolist() for row, length in zip(np.asarray(said.ids), np.asarray(said.length), strict=True)]
    actions = tuple(text.to_string(tokenizer, row) for row in ids)
    if wrong := [action for action, row in zip(actions, ids) if text.token_ids(tokenizer, action, name) != row]:
        raise ArlError(f"the action {wrong[0]!r} is other tokens after {name!r}; take another name for the tool that imagines it")

    def call(key: jax.Array, state: State, arguments: jax.Array) -> Text:
        after, _ = environment.step(key, state, arguments[0])
        return environment.describe(select(environment.legal(state)[arguments[0]], after, state))

    capacity = jax.eval_shape(lambda key: environment.describe(environment.reset(key)), jax.random.key(0)).ids.shape[0]
    return Tool(name, (actions,), call, capacity)
