"""A task: an environment in text, with its bounds, experts, tools and hidden variables."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from arl.types import ArlError, Grammar, Kind, State, Text


class Step(NamedTuple):
    """The result of an action.

    Attributes:
      reward: float32 `[]`, outcome reward, in the environment's units.
      terminated: bool `[]`, whether the attempt has terminated.
      truncated: bool `[]`, whether a limit that is not part of the task has ended it.
    """

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Environment(NamedTuple):
    """An environment in text, as pure functions for one lane.

    Attributes:
      reset: `key -> state`, starts an attempt.
      step: `(key, state, action int32 []) -> (state, Step)`.
      describe: `state -> Text`, what the agent reads: the task after `reset`, the observation after `step`, and a prompt for the next
        action.
      grammar: grammar of the actions; string `i` is action `i`.
      legal: `state -> bool [A]`, the legal actions, at least one.
      max_steps: most actions of an attempt; None if only a time limit bounds it. It is a promise that `step` terminates or truncates by
        then: the sizes of episodes, contexts and trajectories depend on it. An attempt that goes on is cut there, as by a time limit.
      expert: `(key, state) -> action int32 []`, an expert that remembers this attempt only; None for none.
      state_hash: `state -> uint32 []`, hash of what the agent can know of the state; None for none.
      worst_reward: smallest reward of a step, at most 0; the reward of an illegal text.
      answer_capacity: tokens of the longest text after an action, for environments whose first text is much longer; None for the capacity
        of `describe`. After an illegal text, so many tokens from the end of the present text are read.
      reset_at: `(key, level int32 []) -> state`, starts an attempt of a level of difficulty, from 1 on, as `arl.agents.RaiseLevel` asks
        for it; None if there are no levels.
      num_levels: number of levels.
    """

    reset: Callable[[jax.Array], State]
    step: Callable[[jax.Array, State, jax.Array], tuple[State, Step]]
    describe: Callable[[State], Text]
    grammar: Grammar
    legal: Callable[[State], jax.Array]
    max_steps: int | None
    expert: Callable[[jax.Array, State], jax.Array] | None = None
    state_hash: Callable[[State], jax.Array] | None = None
    worst_reward: float = 0.0
    answer_capacity: int | None = None
    reset_at: Callable[[jax.Array, jax.Array], State] | None = None
    num_levels: int = 1

    def __repr__(self) -> str:
        made_in = getattr(self.reset, "__module__", "unknown")
        return f"Environment({made_in}, {self.grammar.num_choices} actions, max_steps={self.max_steps})"


class Limits(NamedTuple):
    """The limits that the layers of an agent set to an episode.

    Attributes:
      time_limit: actions after which an attempt is truncated; 0 for no limit.
      step_cost: cost of every action, in the environment's units.
      num_attempts: number of attempts at the same task in an episode.
    """

    time_limit: int = 0
    step_cost: float = 0.0
    num_attempts: int = 1


class Bounds(NamedTuple):
    """Reference values of the outcome of an episode, in the environment's units.

    Attributes:
      random: expected outcome of random actions.
      optimal: largest expected outcome of an agent that remembers the whole episode.
      success_at: outcome from which an attempt counts as a success, set half-way to the next smaller outcome to allow for rounding; None if
        the task has no success.
      optimal_is: what `optimal` is: "exact"; "bound", an upper bound that may not be reached; or "filter", the estimated outcome of a Bayes
        filter.
    """

    random: float
    optimal: float
    success_at: float | None = None
    optimal_is: str = "exact"


class Tool(NamedTuple):
    """A pure function that an agent calls in text, and whose result it reads.

    Attributes:
      name: string with which a call begins, including the space before it.
      arguments: the strings that each of the `N` arguments may be, in the order in which they are written; a fixed word between two
        arguments is an argument with one string.
      call: `(key, state, arguments int32 [N]) -> Text`, the answer, from the environment's state and the indices of the strings.
      capacity: tokens of the longest answer.
      expert: `(key, state, num_calls int32 []) -> (is_called bool [], arguments int32 [N])`, whether an expert calls it after so many
        calls, and with which strings; None if it never does.
      num_calls: number of calls that the expert needs before an action.
    """

    name: str
    arguments: tuple[tuple[str, ...], ...]
    call: Callable[[jax.Array, State, jax.Array], Text]
    capacity: int
    expert: Callable[[jax.Array, State, jax.Array], tuple[jax.Array, jax.Array]] | None = None
    num_calls: int = 1


class Course(NamedTuple):
    """The shifts and questions of an attempt of `T` steps; the agent is not told of the shifts.

    Attributes:
      is_shift: bool `[T]`, whether the rules of a step differ from those of the step before.
      asked: int32 `[T]`, index of the question of each step.
    """

    is_shift: jax.Array
    asked: jax.Array


class Shifts(NamedTuple):
    """Rules that change within an attempt.

    Attributes:
      course: `state -> Course`, from the first state of an attempt.
      informed: expected reward of a step for an agent that always knows the rules, before costs, in the environment's units.
    """

    course: Callable[[State], Course]
    informed: float


TaskExpert = Callable[[jax.Array, State, jax.Array], Text]
"""`(key, environment's state, attempt int32 []) -> Text`: what an expert writes in that attempt; it remembers those before."""


class Task(NamedTuple):
    """An environment and what is known of it. States are those of the environment.

    Attributes:
      environment: the environment.
      tokenizer: tokenizer of its texts.
      bounds: `Limits -> Bounds`; None if they are not known.
      experts: `Limits -> {kind: TaskExpert}`, experts of actions, notes and reflections. The default for actions is the environment's
        expert, and for reflections the expert of notes.
      tools: tools that can be called, by name.
      note_symbols: strings of one token that notes may consist of; None for the whole vocabulary.
      can_imagine: whether the agent may simulate steps, because that reveals nothing that is hidden.
      hidden: `state -> integers`, the hidden variable; None if there is none, or if it changes.
      information_gain: `(state before, state after) -> float32 []`, information of a step about the hidden variable, bits; None if it
        is not known.
      posterior: `(state, action int32 []) -> float32 []`, exact probability that the action is right, given all that was read in this
        attempt; None if it is not known.
      solution: `state -> action int32 []`, the right action, which the agent may not be able to know; None if there is none.
      shifts: shifts of the rules; None if the rules do not change.
      limits: limits of an episode, set by `arl.agents.make_agent`.
    """

    environment: Environment
    tokenizer: Any
    bounds: Callable[[Limits], Bounds] | None = None
    experts: Callable[[Limits], Mapping[Kind, TaskExpert]] = lambda limits: {}
    tools: Mapping[str, Tool] = {}
    note_symbols: tuple[str, ...] | None = None
    can_imagine: bool = False
    hidden: Callable[[State], jax.Array] | None = None
    information_gain: Callable[[State, State], jax.Array] | None = None
    posterior: Callable[[State, jax.Array], jax.Array] | None = None
    solution: Callable[[State], jax.Array] | None = None
    shifts: Shifts | None = None
    limits: Limits = Limits()


def whole_attempt_cost(limits: Limits, num_steps: int) -> float:
    """Returns the cost of the actions of an attempt, in the environment's units.

    Args:
      limits: limits of an episode.
      num_steps: number of actions that every attempt has.

    Raises:
      ArlError: if a time limit truncates the attempt.
    """
    if limits.time_limit and limits.time_limit < num_steps:
        raise ArlError(f"an attempt at this task has {num_steps} actions; set Act.time_limit=0, or at least {num_steps}")
    return limits.step_cost * num_steps


def bounds_of_search(least: Callable[[int | None], float], random: Callable[[int | None], float], limits: Limits) -> Bounds:
    """Returns the bounds of a search, in which every action costs 1 until the hidden variable is found.

    Once found, it takes one action in each later attempt. An attempt is a success if it takes fewer actions than the time limit.

    Args:
      least: `time limit -> smallest expected number of actions of the first attempt`.
      random: `time limit -> expected number of random actions of an attempt`.
      limits: limits of an episode.

    Returns:
      The bounds.
    """
    steps, cost = limits.time_limit or None, 1.0 + limits.step_cost
    optimal = -cost * (least(steps) + limits.num_attempts - 1)
    return Bounds(-cost * random(steps) * limits.num_attempts, optimal, cost * (0.5 - steps) if steps else None)
