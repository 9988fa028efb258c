"""Help that can be bought: before an action the model decides whether to act by itself, or to have the right action taken at a price."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.agents.defer import Deferred, defer_action
from arl.agents.layer import Layer, experts_of, extend
from arl.agents.size import insert_before_turn
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Kind, Segment, Text, Turn, make_turn, select

ALONE, HELP = range(2)  # choices


class AskForHelpState(NamedTuple):
    """Own state of `AskForHelp`.

    Attributes:
      action: the action that is deferred while the model decides.
      is_deciding: bool `[]`, whether it does.
    """

    action: Deferred
    is_deciding: jax.Array


@dataclasses.dataclass(frozen=True)
class AskForHelp(Layer):
    """A CONTROL segment before each ACTION: the model goes on alone, or buys help.

    Help takes the action of the task's `solution`, or else that of its expert, in the model's place, and the model reads it. The CONTROL
    segment earns what the action earns, and pays the price. An illegal text buys nothing. (Selective prediction, whose abstention costs:
    Chow 1970, "On Optimum Recognition Error and Reject Tradeoff".)

    Where an answer is paid 1 or nothing, it is best to buy help if the probability of the best answer is below `1 - price`. The expert
    does so by the task's `posterior`; without one it never buys.

    Attributes:
      price: cost (as `efficiency` reward) of help, in the environment's units.
      illegal_penalty: penalty (as `process` reward) for an illegal text, in the environment's units.
      ask: prompt, read before the decision.
      alone: text with which the model goes on alone.
      help: text with which it buys help.
    """

    price: float
    illegal_penalty: float = 0.1
    ask: str = " hint"
    alone: str = " no"
    help: str = " yes"

    def __post_init__(self):
        super().__post_init__()
        for field in ("price", "illegal_penalty"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ArlError(f"AskForHelp.{field} is {getattr(self, field)}, which charges nothing; set it to a number >= 0")
        for field in ("ask", "alone", "help"):
            if not getattr(self, field):
                raise ArlError(f"AskForHelp.{field} is empty; set it to a word or more")
        if self.alone == self.help:
            raise ArlError(f"AskForHelp.alone and AskForHelp.help are both {self.help!r}; give one of them another word")

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Decisions."""
        return (Kind.CONTROL,)

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with help."""
        if Kind.ACTION not in inner.writes:
            raise ArlError("nothing within AskForHelp acts, so there is nothing to help with; put Act() first")
        solve = _solver(task)
        words = text.legal_strings(task.tokenizer, [self.alone, self.help], prefix=self.ask)
        grammar, asking = text.join(inner.grammar, words), text.encode(task.tokenizer, self.ask)
        length, budget, answer = asking.ids.shape[0], text.longest(words), text.longest(task.environment.grammar)
        size = insert_before_turn(
            inner.size,
            segments=1,
            tokens=length + budget + answer,
            read=inner.size.read + length + answer,
            written=budget,
        )
        legal = text.pad_legal(jnp.ones(2, bool), grammar.num_choices)

        def hold(state: AgentState, turn: Turn, before: Text) -> tuple[AgentState, Turn]:
            """Reads `before`, and defers an inner turn that asks for an action until the model has decided."""
            action, is_deciding, asked = defer_action(turn, Kind.CONTROL, budget, grammar.root, legal, asking, size.read)
            asked = asked._replace(read=text.concatenate(before, asked.read, capacity=size.read))
            return state.push(AskForHelpState(action, is_deciding)), asked

        def start(key, curriculum):
            return hold(*inner.start(key, curriculum), text.empty(0))

        def advance(key, curriculum, state: AgentState, segment: Segment):
            key_inner, key_help = jax.random.split(key)
            inner_state, held = state.pop()
            wanted, is_deciding = held.action, held.is_deciding
            is_helped = is_deciding & segment.is_legal & (segment.choice == HELP)
            helped = _say(inner, key_help, inner_state, wanted, solve)
            within = segment._replace(text=text.cut(segment.text, inner.size.written))
            after, turn = inner.advance(key_inner, curriculum, inner_state, select(is_helped, helped, within))
            efficiency = turn.reward.efficiency - jnp.where(is_helped, self.price, 0.0)
            turn = turn._replace(reward=turn.reward._replace(efficiency=efficiency))
            followed = hold(after, turn, text.only_if(is_helped, text.cut(helped.text, answer)))
            alone = make_turn(text.empty(size.read), Kind.ACTION, wanted.budget, wanted.grammar_state, wanted.legal, attempt=wanted.attempt)
            penalty = jnp.where(segment.is_legal, 0.0, -self.illegal_penalty)
            alone = alone._replace(reward=alone.reward._replace(process=penalty))
            released = inner_state.push(held._replace(is_deciding=jnp.bool_(False))), alone
            return select(is_deciding & ~is_helped, released, followed)

        experts = {Kind.CONTROL: self._expert(task, words)}
        asks = lambda own: own.is_deciding
        return extend(inner, self, start=start, advance=advance, grammar=grammar, size=size, experts=experts, asks=asks)

    def _expert(self, task: Task, words):
        def write(key, state: AgentState, attempt: jax.Array) -> Text:
            if not task.posterior:
                return text.say_choice(words, ALONE)
            actions = jnp.arange(task.environment.grammar.num_choices)
            chances = jax.vmap(lambda action: task.posterior(state.environment, action))(actions)
            best = jnp.max(jnp.where(task.environment.legal(state.environment), chances, 0.0))
            return text.say_choice(words, jnp.where((attempt == 0) & (best < 1 - self.price), HELP, ALONE))

        return write


def _solver(task: Task):
    """Returns `(key, state of the environment) -> Text` of the right action; raises `ArlError` if nobody knows one."""
    if task.solution:
        return lambda key, state: text.say_choice(task.environment.grammar, task.solution(state))
    expert = experts_of(task).get(Kind.ACTION)
    if expert is None:
        raise ArlError("nobody can help here; give the task a solution or an expert, or leave AskForHelp out")
    return lambda key, state: expert(key, state, jnp.int32(0))


def _say(inner: Interaction, key: jax.Array, state: AgentState, wanted: Deferred, solve) -> Segment:
    """Returns the action that help takes, as a segment of the inner interaction."""
    capacity = inner.size.written
    said = text.pad(text.cut(solve(key, state.environment), capacity), capacity)
    said = Text(jnp.asarray(said.ids, jnp.int32), jnp.asarray(said.length, jnp.int32))
    choice, is_legal = text.parse(inner.grammar, wanted.grammar_state, said)
    is_legal &= wanted.legal[jnp.maximum(choice, 0)]
    return Segment(said, jnp.where(is_legal, choice, -1), is_legal)
