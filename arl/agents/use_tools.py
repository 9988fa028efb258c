"""Tools: before an action the model may call functions that run on the device, and reads their answers."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.agents.calls import common_string, make_calls, read_call, say_call
from arl.agents.defer import Deferred, defer_action
from arl.agents.imagine import imagine
from arl.agents.layer import Layer, extend
from arl.agents.moves import Move
from arl.agents.size import insert_before_turn
from arl.task import Task, Tool
from arl.types import AgentState, ArlError, Expert, Interaction, Kind, Reward, Segment, State, Text, Turn, make_turn, select


class UseToolsState(NamedTuple):
    """Own state of `UseTools`.

    Attributes:
      action: the action that is deferred while tools are called.
      num_calls: int32 `[]`, calls made before this action, illegal ones included.
      is_calling: bool `[]`, whether a call, or `go_on`, is being written.
    """

    action: Deferred
    num_calls: jax.Array
    is_calling: jax.Array


@dataclasses.dataclass(frozen=True)
class UseTools(Layer):
    """TOOL segments before each ACTION.

    In a TOOL segment the model writes a call, reads the answer and is asked again, or it writes `go_on` and is asked for its action. After
    `max_calls` calls it reads `go_on` instead, so that `go_on` precedes every action. Answers are read as OBSERVATION, and no loss is
    computed on them. An illegal text calls nothing, but counts as a call. (Tools called in text: Toolformer, arXiv 2302.04761; ReAct, arXiv
    2210.03629.) The expert calls the first tool that has an expert, unless it remembers an earlier attempt, and so the answer.

    Attributes:
      tools: names of the task's tools, "imagine" if the task allows it, or tools of your own.
      max_calls: most calls before each action.
      call_cost: cost (as `efficiency` reward) of each call, in the environment's units.
      illegal_penalty: penalty (as `process` reward) for an illegal text, in the environment's units.
      ask: prompt, read before each call.
      go_on: text that the model writes to act without a further call.
    """

    tools: tuple[str | Tool, ...]
    max_calls: int = 1
    call_cost: float = 0.0
    illegal_penalty: float = 0.1
    ask: str = " hint"
    go_on: str = " action"

    def __post_init__(self):
        if isinstance(self.tools, str | Tool):
            raise ArlError(
                f"UseTools.tools is one tool; put it into a tuple, as in UseTools(({getattr(self.tools, 'name', self.tools)!r},))"
            )
        super().__post_init__()
        if not self.tools or self.max_calls < 1:
            raise ArlError(
                f"{len(self.tools)} tools and {self.max_calls} calls are of no use; give at least one of each, or leave UseTools out"
            )
        for field in ("call_cost", "illegal_penalty"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ArlError(f"UseTools.{field} is {getattr(self, field)}, which charges nothing; set it to a number >= 0")

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Calls."""
        return (Kind.TOOL,)

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with tools."""
        tools = [self._find(tool, task) for tool in self.tools]
        calls = make_calls(task.tokenizer, tools, self.go_on, self.ask)
        if (ids := common_string(calls.grammar, inner.grammar)) is not None:
            raise ArlError(
                f"{text.to_string(task.tokenizer, ids)!r} is a call and an action as well; give the tool, or go_on, another word"
            )
        grammar = text.join(inner.grammar, calls.grammar)
        asking, acting = text.encode(task.tokenizer, self.ask), text.encode(task.tokenizer, self.go_on, self.ask)
        budget, answer_capacity = text.longest(calls.grammar), max(tool.capacity for tool in tools)
        ask, go_on = asking.ids.shape[0], acting.ids.shape[0]
        size = insert_before_turn(
            inner.size,
            segments=self.max_calls,
            tokens=self.max_calls * (ask + budget + answer_capacity) + go_on,
            read=max(inner.size.read + ask, answer_capacity + max(ask, go_on)),
            written=budget,
        )
        legal = text.pad_legal(jnp.ones(1 + len(tools), bool), grammar.num_choices)

        def hold(state: AgentState, turn: Turn) -> tuple[AgentState, Turn]:
            """Defers an inner turn that asks for an action and asks for a call; passes any other turn on."""
            action, is_calling, asked = defer_action(turn, Kind.TOOL, budget, grammar.root, legal, asking, size.read)
            return state.push(UseToolsState(action, jnp.int32(0), is_calling)), asked

        def after_call(key: jax.Array, state: AgentState, said: Text) -> tuple[AgentState, Turn]:
            """Returns the turn that reads the answer and asks for another call or for the action."""
            inner_state, held = state.pop()
            choice, arguments = read_call(calls, said)
            num_calls = held.num_calls + (choice != 0)
            calls_again, is_over = (choice != 0) & (num_calls < self.max_calls), (choice != 0) & (num_calls >= self.max_calls)
            said = _answer(tools, answer_capacity, key, inner_state.environment, choice - 1, arguments)
            turn = make_turn(
                text.concatenate(said, text.only_if(calls_again, asking), text.only_if(is_over, acting), capacity=size.read),
                jnp.where(calls_again, Kind.TOOL, Kind.ACTION),
                jnp.where(calls_again, budget, held.action.budget),
                jnp.where(calls_again, grammar.root, held.action.grammar_state),
                jnp.where(calls_again, legal, held.action.legal),
                reward=Reward(
                    process=jnp.where(choice < 0, -self.illegal_penalty, 0.0), efficiency=jnp.where(choice > 0, -self.call_cost, 0.0)
                ),
                attempt=held.action.attempt,
            )
            return inner_state.push(held._replace(num_calls=num_calls, is_calling=calls_again)), turn

        def start(key, curriculum):
            return hold(*inner.start(key, curriculum))

        def advance(key, curriculum, state: AgentState, segment: Segment):
            inner_state, held = state.pop()
            called = after_call(key, state, text.cut(segment.text, budget))
            within = segment._replace(text=text.cut(segment.text, inner.size.written))
            return select(held.is_calling, called, hold(*inner.advance(key, curriculum, inner_state, within)))

        expert = self._expert(task, tools, acting, max(budget, go_on))
        return extend(
            inner,
            self,
            start=start,
            advance=advance,
            grammar=grammar,
            size=size,
            experts={Kind.TOOL: expert},
            asks=lambda own: own.is_calling,
        )

    def move(self, inner: Interaction, task: Task) -> Move:
        """Returns a call as a move, of which `max_calls` can be made before an action; `go_on` is left to the menu's word for acting."""
        tools = [self._find(tool, task) for tool in self.tools]
        calls = make_calls(task.tokenizer, tools, self.go_on, self.ask)
        budget, capacity = text.longest(calls.grammar), max(tool.capacity for tool in tools)
        wanted = self._wanted(task, tools)

        def answer(key, state: State, said: Text) -> tuple[Text, Reward]:
            choice, arguments = read_call(calls, said)
            paid = Reward(process=jnp.where(choice > 0, 0.0, -self.illegal_penalty), efficiency=jnp.where(choice > 0, -self.call_cost, 0.0))
            return _answer(tools, capacity, key, state, choice - 1, arguments), paid

        def expert(key, state: AgentState, count: jax.Array, kept: Text, attempt: jax.Array) -> tuple[jax.Array, Text]:
            return wanted(key, state.environment, count, attempt) if wanted else (jnp.bool_(False), text.empty(budget))

        legal = np.arange(1 + len(tools)) > 0  # not to go on
        return Move(self.ask, Kind.TOOL, budget, calls.grammar, legal, expert, self.max_calls, capacity, answer)

    def _wanted(self, task: Task, tools: list[Tool]) -> Callable[..., tuple[jax.Array, Text]] | None:
        """Returns `(key, environment's state, number of calls, attempt) -> (is_called, call)`, of the first tool that has an expert."""
        tool = next((tool for tool in tools if tool.expert), None)
        if tool is None:
            return None
        is_wanted, say = tool.expert, say_call(task.tokenizer, tool, self.ask)

        def call(key, state: State, num_calls: jax.Array, attempt: jax.Array) -> tuple[jax.Array, Text]:
            is_called, arguments = is_wanted(key, state, num_calls)
            return is_called & (attempt == 0), say(arguments)

        return call

    def _expert(self, task: Task, tools: list[Tool], acting: Text, capacity: int) -> Expert:
        """Returns the expert of calls: that of the first tool that has one, or one that always writes `go_on`."""
        wanted = self._wanted(task, tools)
        if wanted is None:
            return lambda key, state, attempt: acting

        def write(key, state: AgentState, attempt: jax.Array) -> Text:
            is_called, call = wanted(key, state.environment, state.pop()[1].num_calls, attempt)
            return select(is_called, *(text.pad(said, capacity) for said in (call, acting)))

        return write

    def _find(self, tool: str | Tool, task: Task) -> Tool:
        """Returns a tool by name; raises `ArlError` if the task does not offer it, or if it needs more than `max_calls` calls."""
        if isinstance(tool, Tool):
            return tool
        if tool == "imagine":
            if not task.can_imagine:
                raise ArlError("an imagined step would tell for nothing what has to be found out here; take imagine out of UseTools.tools")
            return imagine(task.tokenizer, task.environment)
        if tool not in task.tools:
            known = ", ".join([*task.tools, *(["imagine"] if task.can_imagine else [])])
            raise ArlError(
                f"this task offers no tool {tool}; {f'set UseTools.tools to some of {known}' if known else 'leave UseTools out'}"
            )
        found = task.tools[tool]
        if self.max_calls < found.num_calls:
            raise ArlError(f"here {tool} answers after {found.num_calls} calls; set UseTools.max_calls to as many at least")
        return found


def _answer(tools: list[Tool], capacity: int, key: jax.Array, state: State, which: jax.Array, arguments: jax.Array) -> Text:
    """Returns the answer of tool `which`; an empty text for -1."""

    def say(tool: Tool, arguments: jax.Array) -> Text:
        said = text.checked(tool.call(key, state, arguments[: len(tool.arguments)]), f"tool {tool.name!r}")
        if said.ids.shape[0] > tool.capacity:
            raise ArlError(f"tool {tool.name!r} says up to {said.ids.shape[0]} tokens; set its capacity (now {tool.capacity}) to that")
        said = text.pad(said, capacity)
        return Text(jnp.asarray(said.ids, jnp.int32), jnp.asarray(said.length, jnp.int32))

    branches = [lambda arguments, tool=tool: say(tool, arguments) for tool in tools]
    return text.only_if(which >= 0, jax.lax.switch(jnp.maximum(which, 0), branches, arguments))
