"""Tool calls as text: a name, then arguments, each one of a list of strings, as in ` number 37 X 84`.

A calculator of two-digit factors has 8,100 calls. Their automaton has one end state per string of each argument, not per call: the state in
which an argument ends identifies its string.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.task import Tool
from arl.types import ArlError, Grammar, Text


class Calls(NamedTuple):
    """The grammar of all calls of some tools, and of going on without a call.

    Attributes:
      grammar: automaton of `S` states; choice 0 goes on, choice `i` calls tool `i - 1`.
      argument: int32 `[S]`, index of the argument that ends in a state; -1 for none.
      string: int32 `[S]`, index of the string of that argument; -1 for none.
      num_arguments: largest number of arguments of a tool.
    """

    grammar: Grammar
    argument: np.ndarray
    string: np.ndarray
    num_arguments: int


class _States(NamedTuple):
    """An automaton under construction, as lists over its states; `edges[s]` maps token ids to states with larger numbers."""

    edges: list[dict[int, int]]
    choice: list[int]
    argument: list[int]
    string: list[int]


def make_calls(tokenizer: Any, tools: Sequence[Tool], go_on: str, after: str = "") -> Calls:
    """Returns the grammar of the calls of some tools.

    Args:
      tokenizer: a fast tokenizer with an end token.
      tools: the tools.
      go_on: text that is written instead of a call.
      after: the end of the text before a call, as far as the tokenizer depends on it.

    Raises:
      ArlError: if a call is ambiguous, token by token, or an argument has no strings.
    """
    if isinstance(tools, Tool):
        raise ArlError(f"tools is the tool {tools.name!r} itself; put it into a list")
    if wrong := [tool.name for tool in tools if any(isinstance(strings, str) for strings in tool.arguments)]:
        raise ArlError(f"an argument of tool {wrong[0]!r} is a string; set arguments to a tuple with a tuple of strings for each")
    names = [go_on, *(tool.name for tool in tools)]
    _check_names(tokenizer, names, after)
    first = text.legal_strings(tokenizer, names, after)
    none = [-1] * len(first.choice)
    states = _States(text.edges_of(first), [*none], [*none], [*none])
    for choice in range(len(names)):
        ends = np.flatnonzero(first.choice == choice).tolist()
        strings = argument_grammars(tokenizer, tools[choice - 1], after) if choice else []
        for index, grammar in enumerate(strings):
            what = f"argument {index + 1} of tool {names[choice]!r}"
            ends = _append_argument(states, ends, grammar, index, is_last=index == len(strings) - 1, what=what)
        for end in ends:
            states.choice[end] = choice
    num_arguments = max((len(tool.arguments) for tool in tools), default=0)
    grammar = text.automaton(states.edges, states.choice, len(names), first.stop_id, first.root)
    return Calls(grammar, np.asarray(states.argument, np.int32), np.asarray(states.string, np.int32), num_arguments)


def argument_grammars(tokenizer: Any, tool: Tool, after: str = "") -> list[Grammar]:
    """Returns the grammar of each argument of a tool, tokenised after its name and the first string of each argument before.

    Args:
      tokenizer: a fast tokenizer with an end token.
      tool: the tool.
      after: see `make_calls`.

    Raises:
      ArlError: if an argument has no strings, or two of its strings are the same.
    """
    grammars, before = [], after + tool.name
    for index, strings in enumerate(tool.arguments):
        if not strings:
            raise ArlError(f"argument {index + 1} of tool {tool.name!r} can be nothing; give it at least one string")
        grammars.append(text.legal_strings(tokenizer, strings, before))
        before += strings[0]
    return grammars


def say_call(tokenizer: Any, tool: Tool, after: str = "") -> Callable[[jax.Array], Text]:
    """Returns a function that writes a call for an expert: `int32 [N] -> Text`, from the index of each argument's string.

    Args:
      tokenizer: a fast tokenizer with an end token.
      tool: the tool to call, with `N` arguments.
      after: see `make_calls`.
    """
    name, grammars = text.encode(tokenizer, tool.name, after), argument_grammars(tokenizer, tool, after)

    def say(arguments: jax.Array) -> Text:
        return text.concatenate(name, *(text.say_choice(grammar, arguments[i]) for i, grammar in enumerate(grammars)))

    return say


def read_call(calls: Calls, said: Text) -> tuple[jax.Array, jax.Array]:
    """Parses the call of a tool, for one lane.

    Args:
      calls: grammar of the calls.
      said: text to parse, ids `[capacity]`, without a stop token.

    Returns:
      choice: int32 `[]`, 0 to go on, `i` for tool `i - 1`, -1 for a text that is no call.
      arguments: int32 `[num_arguments]`, index of each argument's string; meaningless beyond the tool's own arguments.
    """
    grammar = calls.grammar
    argument, string = jnp.asarray(calls.argument), jnp.asarray(calls.string)

    def walk(carry, inputs):
        (state, arguments), (token, is_said) = carry, inputs
        state = jnp.where(is_said, text.follow(grammar, state, token), state)
        is_complete = jnp.arange(calls.num_arguments) == argument[state]
        return (state, jnp.where(is_complete, string[state], arguments)), None

    begin = jnp.int32(grammar.root), jnp.zeros(calls.num_arguments, jnp.int32)
    is_said = jnp.arange(said.ids.shape[-1]) < said.length
    (state, arguments), _ = jax.lax.scan(walk, begin, (said.ids, is_said))
    return jnp.asarray(grammar.choice)[state], arguments


def common_string(first: Grammar, second: Grammar) -> list[int] | None:
    """Returns the token ids of a string that both grammars accept, None if there is none or if one of them is free text.

    Args:
      first, second: grammars; of a joined one, only the part that was joined first counts.
    """
    edges = text.edges_of(first), text.edges_of(second)
    paths: dict[tuple[int, int], list[int]] = {(1, 1): []}
    waiting = list(paths)
    while waiting:
        a, b = pair = waiting.pop()
        if first.mask_index[a] >= 0 or second.mask_index[b] >= 0:
            return None
        if first.is_accepting[a] and second.is_accepting[b]:
            return paths[pair]
        for token in edges[0][a].keys() & edges[1][b].keys():
            following = edges[0][a][token], edges[1][b][token]
            if following[0] == a or following[1] == b:
                return None
            if following not in paths:
                paths[following] = [*paths[pair], token]
                waiting.append(following)
    return None


def _check_names(tokenizer: Any, names: Sequence[str], after: str) -> None:
    ids = [text.token_ids(tokenizer, name, after) for name in names]
    for i, first in enumerate(ids):
        for j, second in enumerate(ids):
            if i != j and first == second[: len(first)]:
                raise ArlError(f"{names[i]!r} cannot be told from the beginning of {names[j]!r}; give each tool, and go_on, its own word")


def _append_argument(states: _States, ends: list[int], grammar: Grammar, argument: int, is_last: bool, what: str) -> list[int]:
    """Appends an argument to the states in which the one before it ends; returns the states in which it ends itself."""
    shift, edges = len(states.edges) - 1, text.edges_of(grammar)  # the dead state is shared
    is_end = grammar.choice >= 0
    if not is_last:  # the next argument marks the end of this one; no stop token is needed
        for row in edges:
            is_end[row.pop(grammar.stop_id, 0)] = False
    states.edges.extend({token: state + shift for token, state in row.items()} for row in edges[1:])
    states.choice.extend([-1] * (len(edges) - 1))
    states.argument.extend(np.where(grammar.choice >= 0, argument, -1)[1:].tolist())
    states.string.extend(grammar.choice[1:].tolist())
    root = states.edges[grammar.root + shift]
    for end in ends:
        if states.edges[end].keys() & root.keys():
            raise ArlError(f"{what} can begin with what goes on with the argument before; put an argument of one word between the two")
        states.edges[end] |= root
    return (np.flatnonzero(is_end) + shift).tolist()
