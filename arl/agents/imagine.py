"""A tool that every environment has: itself, asked what would follow from an action."""

from typing import Any

import jax
import numpy as np

from arl import text
from arl.task import Environment, Tool
from arl.types import ArlError, State, Text, select


def imagine(tokenizer: Any, environment: Environment, *, name: str = " if") -> Tool:
    """Returns the tool that says what the environment would answer to an action: ` if left` is answered by what is read after ` left`.

    The state stays as it is, nothing is earned. Where chance decides, it is another chance than that of the action itself. Of an action
    that does not exist now nothing follows: what the environment says of the present state is said again.

    Args:
      tokenizer: that of the environment.
      environment: in which an action is imagined.
      name: of the tool.

    Raises:
      ArlError: if an action, after the name, would not be the same tokens.
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
