"""Tools: before it acts the model may call functions on the device, and reads what they say."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.agents.calls import Tool, common_string, make_calls, read_call
from arl.types import Interaction, Kind, Reward, Size, State, Text, Turn, Written, check_whole, make_turn, select


class UseToolsState(NamedTuple):
    """State of `use_tools`.

    Attributes:
      inner: state of the interaction within.
      budget, grammar, legal, attempt: what the inner action is asked with, as in `Turn`; held back while tools are called.
      num_calls: int32 `[]`, calls made before this action, illegal ones included.
      is_calling: bool `[]`, whether a call, or the word to go on without one, is being written.
    """

    inner: State
    budget: jax.Array
    grammar: jax.Array
    legal: jax.Array
    attempt: jax.Array
    num_calls: jax.Array
    is_calling: jax.Array


def use_tools(
    inner: Interaction,
    tokenizer: Any,
    tools: Sequence[Tool],
    *,
    max_calls: int,
    price: float = 0.0,
    illegal_penalty: float = 0.1,
    ask: str = " tool",
    go_on: str = " action",
    expert_call: Callable[[jax.Array, State, jax.Array], Text] | None = None,
) -> Interaction:
    """Returns `inner` with TOOL segments before each of its ACTIONs.

    In a TOOL segment the model writes a call, reads the answer and is asked again, or writes `go_on` and is asked for its action. After
    `max_calls` calls it is not asked again: it reads `go_on`, so that an action always follows that word. What a tool says is read, as an
    OBSERVATION: nothing of it was written, nothing of it is learned from as if it were. An illegal text calls nothing and counts as a call.
    (Tools called in text, and their answers read: Toolformer, arXiv 2302.04761; ReAct, arXiv 2210.03629.)

    Args:
      inner: the interaction to use tools in.
      tokenizer: that of `inner`.
      tools: pure functions with their text form, such as `calculator`, `table` and `imagine` make.
      max_calls: calls before each action.
      price: charged (as `efficiency`) for each call, in the environment's units.
      illegal_penalty: charged (as `process` reward) for an illegal text, in the environment's units.
      ask: read before each call.
      go_on: written to call nothing and act.
      expert_call: `(key, state of inner, int32 [] number of calls made) -> Text`, what an expert would call now, empty where nothing;
        None for an expert that calls nothing. `say_call` writes calls.

    Returns:
      The interaction; its state is a `UseToolsState`.

    Raises:
      ValueError: if there is nothing to call, or calls that could not be told apart from each other or from actions.
    """
    check_whole(max_calls=max_calls)
    if not tools or max_calls < 1:
        raise ValueError(f"{len(tools)} tools and {max_calls} calls are of no use; give at least one of each, or leave use_tools() out")
    for name, cost in (("price", price), ("illegal_penalty", illegal_penalty)):
        if not 0 <= cost < float("inf"):
            raise ValueError(f"{name} is {cost}, which charges nothing; set price and illegal_penalty >= 0")
    calls = make_calls(tokenizer, tools, go_on, ask)
    if (ids := common_string(calls.grammar, inner.grammar)) is not None:
        raise ValueError(f"{text.to_string(tokenizer, ids)!r} is a call and an action as well; give the tool, or go_on, another word")
    grammar = text.join(inner.grammar, calls.grammar)
    asking, acting = text.encode(tokenizer, ask), text.encode(tokenizer, go_on, ask)
    budget, answer_capacity = text.longest(calls.grammar), max(tool.capacity for tool in tools)
    size = _size(inner.size, max_calls, budget, answer_capacity, asking.ids.shape[0], acting.ids.shape[0])
    legal = text.pad_legal(jnp.ones(1 + len(tools), bool), grammar.num_choices)

    def hold(state: State, turn: Turn) -> tuple[UseToolsState, Turn]:
        """The inner action is held back and a call is asked for; whatever else is asked within is passed on."""
        wanted = text.pad_legal(turn.legal, grammar.num_choices)
        is_calling = (turn.kind == Kind.ACTION) & ~turn.truncated & ~turn.terminated
        held = UseToolsState(state, turn.budget, turn.grammar, wanted, turn.attempt, jnp.int32(0), is_calling)
        asked = turn._replace(
            read=text.concatenate(turn.read, text.only_if(is_calling, asking), capacity=size.read),
            kind=jnp.where(is_calling, Kind.TOOL, turn.kind).astype(jnp.int32),
            budget=jnp.where(is_calling, budget, turn.budget).astype(jnp.int32),
            grammar=jnp.where(is_calling, grammar.root, turn.grammar).astype(jnp.int32),
            legal=jnp.where(is_calling, legal, wanted),
        )
        return held, asked

    def answer(key: jax.Array, state: State, which: jax.Array, arguments: jax.Array) -> Text:
        """Returns what the tool says that is called; nothing (tool -1) says nothing."""

        def say(tool: Tool, arguments: jax.Array) -> Text:
            said = text.checked(tool.call(key, state, arguments[: len(tool.arguments)]), f"tool {tool.name!r}")
            if said.ids.shape[0] > tool.capacity:
                raise ValueError(
                    f"tool {tool.name!r} says up to {said.ids.shape[0]} tokens; set its capacity (now {tool.capacity}) to that"
                )
            said = text.pad(said, answer_capacity)
            return Text(jnp.asarray(said.ids, jnp.int32), jnp.asarray(said.length, jnp.int32))

        branches = [lambda arguments, tool=tool: say(tool, arguments) for tool in tools]
        return text.only_if(which >= 0, jax.lax.switch(jnp.maximum(which, 0), branches, arguments))

    def after_call(key: jax.Array, state: UseToolsState, said: Text) -> tuple[UseToolsState, Turn]:
        """The answer is read, and another call or the action is asked for."""
        choice, arguments = read_call(calls, said)
        num_calls = state.num_calls + (choice != 0)
        asks, is_over = (choice != 0) & (num_calls < max_calls), (choice != 0) & (num_calls >= max_calls)
        said = answer(key, state.inner, choice - 1, arguments)
        turn = make_turn(
            text.concatenate(said, text.only_if(asks, asking), text.only_if(is_over, acting), capacity=size.read),
            jnp.where(asks, Kind.TOOL, Kind.ACTION),
            jnp.where(asks, budget, state.budget),
            jnp.where(asks, grammar.root, state.grammar),
            jnp.where(asks, legal, state.legal),
            reward=Reward(process=jnp.where(choice < 0, -illegal_penalty, 0.0), efficiency=jnp.where(choice > 0, -price, 0.0)),
            attempt=state.attempt,
        )
        return state._replace(num_calls=num_calls, is_calling=asks), turn

    def start(key, setting):
        return hold(*inner.start(key, setting))

    def advance(key, setting, state: UseToolsState, written: Written):
        called = after_call(key, state, text.cut(written.text, budget))
        inner_written = written._replace(text=text.cut(written.text, inner.size.written))
        return select(state.is_calling, called, hold(*inner.advance(key, setting, state.inner, inner_written)))

    def expert(key, state: UseToolsState) -> Text:
        wanted, call = text.pad(inner.expert(key, state.inner), size.written), text.pad(acting, size.written)
        if expert_call is not None:
            said = text.pad(expert_call(key, state.inner, state.num_calls), size.written)
            call = select(said.length > 0, said, call)
        return select(state.is_calling, call, wanted)

    return Interaction(
        start=start,
        advance=advance,
        grammar=grammar,
        size=size,
        adapt=inner.adapt,
        expert=expert if inner.expert else None,
        anchor=(lambda state: inner.anchor(state.inner)) if inner.anchor else None,
        explores=inner.explores,
    )


def _size(size: Size, max_calls: int, budget: int, answer: int, ask: int, go_on: int) -> Size:
    """Returns the bounds of a life; the last four are numbers of tokens. Before an action most is read and written by `max_calls` calls."""
    extra = max_calls * (ask + budget + answer) + go_on
    return Size(
        read=max(size.read + ask, answer + max(ask, go_on)),
        written=max(size.written, budget),
        turns=size.turns * (1 + max_calls),
        life=size.life + size.turns * extra,
        context=size.context + size.context_turns * extra,
        context_turns=size.context_turns * (1 + max_calls),
        forgets=size.forgets,
    )
