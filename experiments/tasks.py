"""The environments by name: what of each can be set, and the floor and ceiling of a life of several attempts in it.

Each class below is one environment: its fields are its options, `make` is the task that they describe. The environment is made first: it
refuses what cannot be, and what is computed of it after that holds.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import agents, envs, text
from arl.agents import Tool
from arl.envs import (
    arithmetic,
    bandit,
    combination_lock,
    corridor,
    frozen_lake,
    hidden_lake,
    ledger,
    mastermind,
    minesweeper,
    number_guess,
    restless_bandit,
    shifting_controls,
    twenty_questions,
)
from arl.training.adaptation import Course
from arl.types import Environment, State, Text

ASK = " hint"  # what is read before a tool may be called


class Limits(NamedTuple):
    """What holds for every environment.

    Attributes:
      steps: of an episode, after which it is truncated; 0 for no limit.
      cost: charged for every step, in the environment's units.
      num_attempts: episodes in a life, all of the same task.
    """

    steps: int
    cost: float
    num_attempts: int


class Offer(NamedTuple):
    """A tool that a task offers.

    Attributes:
      tool: to be called.
      expert_call: `(key, state, number of calls made) -> Text`, what an expert would call; see `agents.use_tools`.
      num_calls: that the answer takes.
    """

    tool: Tool
    expert_call: Callable[[jax.Array, State, jax.Array], Text]
    num_calls: int = 1


class Shifts(NamedTuple):
    """Rules that change within an episode.

    Attributes:
      course: `first state -> Course`, when they do and what is asked.
      informed: reward of a step of one who always knows them.
    """

    course: Callable[[State], Course]
    informed: float


class Task(NamedTuple):
    """An environment and what is known of it.

    Attributes:
      environment: the task, without its limits.
      floor: expected outcome of a life of random actions.
      ceiling: the best expected outcome of a life that remembers all, or a bound above it; of `shifting_controls` a Bayes filter's.
      success_at: outcome from which an attempt is a success, half-way to the next best; None where there is no such thing.
      symbols: strings of one token; what a note may be made of.
      bits: `(state before, state after) -> float32 []`, what an answer told; None where that is not known.
      offers: tools by name.
      expert_note: `(key, state) -> Text`, what an expert notes down; None where there is none.
      expert_again: `(key, state, attempt) -> Text`, the action of an expert who knows what earlier attempts told; None where nobody says.
      expert_reflection: the same, what it notes down after an attempt; None for its `expert_note`. Both know the attempts that the expert
        would have made: in the place of an agent's that made others they are those of an oracle.
      can_imagine: whether a step may be tried for nothing: none would tell what has to be found out.
      hidden: what of the environment's state has to be found out, integers; None where that changes.
      shifts: of the rules; None where they stay.
    """

    environment: Environment
    floor: float
    ceiling: float
    success_at: float | None
    symbols: tuple[str, ...]
    bits: agents.Process | None = None
    offers: dict[str, Offer] = {}
    expert_note: agents.ExpertNote | None = None
    expert_again: agents.ExpertAgain | None = None
    expert_reflection: agents.ExpertAgain | None = None
    can_imagine: bool = False
    hidden: Callable[[State], jax.Array] | None = None
    shifts: Shifts | None = None


def letters(number: int) -> tuple[str, ...]:
    """Returns " A", " B", ..."""
    return tuple(f" {chr(ord('A') + i)}" for i in range(number))


def numbers(number: int) -> tuple[str, ...]:
    """Returns " 0", " 1", ..."""
    return tuple(f" {i}" for i in range(number))


def environment_within(state: State) -> State:
    """Returns the state of the environment within an interaction's, without its limits."""
    return envs.unwrapped(agents.environment_state(state))


def note_length(task: Task, is_reflection: bool) -> int:
    """Returns the tokens that an expert notes down at most, within an attempt or after it; 0 if there is no such expert."""
    if not (task.expert_note or (is_reflection and task.expert_reflection)):
        return 0
    key = jax.random.key(0)
    state = jax.eval_shape(lambda key: agents.act(task.environment).start(key, {})[0], key)
    if is_reflection and task.expert_reflection:
        return jax.eval_shape(task.expert_reflection, key, state, jnp.int32(0)).ids.shape[0]
    return jax.eval_shape(task.expert_note, key, state).ids.shape[0]


def _priced(
    least: Callable[[int | None], float], random: Callable[[int | None], float], limits: Limits
) -> tuple[float, float, float | None]:
    """Returns floor, ceiling and success of a life whose steps cost 1 each, and after whose first episode one step an episode is enough.

    An episode is a success that ends before its last step.

    Args:
      least: smallest expected number of steps of an episode, by its limit.
      random: expected number of random steps, by its limit.
      limits: of an episode.
    """
    steps, price = limits.steps or None, 1.0 + limits.cost
    again = limits.num_attempts - 1
    success_at = price * (0.5 - steps) if steps else None
    return -price * random(steps) * limits.num_attempts, -price * (least(steps) + again), success_at


def _whole(limits: Limits, num_steps: int, name: str) -> float:
    """Returns what the steps of an episode cost that always has `num_steps` of them; refuses to cut it."""
    if limits.steps and limits.steps < num_steps:
        raise ValueError(f"an episode of {name} is its {num_steps} steps; set environment.time_limit=0, or at least {num_steps}")
    return limits.cost * num_steps


def _planned(
    environment: Environment,
    plans: np.ndarray,
    notes: np.ndarray,
    which: Callable[[State], jax.Array],
    num_made: Callable[[State], jax.Array],
) -> dict[str, agents.ExpertAgain]:
    """Returns the fields of `Task` of an expert who remembers, from what it does in each of the cases that it cannot tell apart at first.

    Args:
      environment: whose actions these are.
      plans: int `[cases, attempts, steps]`, its actions.
      notes: int `[cases, attempts, tokens]`, the actions that it names after an attempt.
      which: case, int32 `[]`, of an environment's state.
      num_made: actions made, int32 `[]`, of an environment's state.
    """
    say = lambda action: text.say_choice(environment.grammar, action)

    def expert_again(key: jax.Array, state: State, attempt: jax.Array) -> Text:
        at = environment_within(state)
        return say(jnp.asarray(plans)[which(at), attempt, jnp.minimum(num_made(at), plans.shape[2] - 1)])

    def expert_reflection(key: jax.Array, state: State, attempt: jax.Array) -> Text:
        return text.concatenate(*map(say, jnp.asarray(notes)[which(environment_within(state)), attempt]))

    return {"expert_again": expert_again, "expert_reflection": expert_reflection}


def _free(limits: Limits, name: str) -> None:
    if limits.cost or limits.steps:
        raise ValueError(f"the optimum of {name} under limits is not known; set environment.turn_cost=0 and environment.time_limit=0")


@dataclasses.dataclass(frozen=True)
class NumberGuess:
    """Options of `envs.make_number_guess`."""

    num_numbers: int = 8
    one_guess: bool = True

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task."""
        size, symbols = self.num_numbers, numbers(self.num_numbers)
        environment = envs.make_number_guess(tokenizer, size, one_guess=self.one_guess)
        if self.one_guess:
            attempts, cost = limits.num_attempts, limits.cost * limits.num_attempts
            floor, ceiling = number_guess.random_successes(size, attempts), number_guess.optimal_successes(size, attempts)
            return Task(environment, floor - cost, ceiling - cost, 0.5 - limits.cost, symbols, hidden=lambda state: state.number)
        least, random = number_guess.optimal_num_guesses, number_guess.random_num_guesses
        bounds = _priced(lambda steps: least(size, steps), lambda steps: random(size, steps), limits)
        return Task(environment, *bounds, symbols, hidden=lambda state: state.number)


@dataclasses.dataclass(frozen=True)
class FrozenLake:
    """Options of `envs.make_frozen_lake`.

    Attributes:
      map: "4x4", "8x8", or the rows of a map with "/" between them, as in "SF/FG"; random maps are of its size.
      is_slippery: whether a move may go astray.
      num_random_maps: how many maps there are of which each life has one; 0 for `map` alone.
      is_hidden: whether random maps are not shown.
    """

    map: str = "4x4"
    is_slippery: bool = True
    num_random_maps: int = 0
    is_hidden: bool = False

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task; the ceiling is that of one who knows the map, or of one who remembers, if it is hidden and can be solved.

        There an expert remembers too; after an attempt it notes down the moves of the next. Of other hidden maps there is no expert.
        """
        horizon, attempts = limits.steps, limits.num_attempts
        if not horizon:
            raise ValueError("a lake without a time limit has no end; set environment.time_limit >= 1")
        if limits.cost:
            raise ValueError("the optimum of a lake whose steps cost something is not known; set environment.turn_cost=0")
        given = tuple(self.map.split("/")) if "/" in self.map else self.map
        options = {"map": given, "is_slippery": self.is_slippery, "num_random_maps": self.num_random_maps, "horizon": horizon}
        options["show_map"] = False if self.is_hidden else None
        maps = envs.random_maps(self.num_random_maps, given) if self.num_random_maps else [given]
        floor = np.mean([frozen_lake.random_return(m, self.is_slippery, horizon) for m in maps])
        ceiling = np.mean([frozen_lake.optimal_return(m, self.is_slippery, horizon) for m in maps])
        environment = envs.make_frozen_lake(tokenizer, **options)
        task = Task(environment, float(floor) * attempts, float(ceiling) * attempts, 0.5, frozen_lake.ACTIONS)
        if not self.is_hidden:
            return task._replace(can_imagine=True)
        if self.is_slippery or len(maps) > hidden_lake.MAX_MAPS or horizon * attempts > hidden_lake.MAX_MOVES:
            return task._replace(environment=environment._replace(expert=None))
        plans, once = hidden_lake.plans(maps, horizon, attempts), jnp.asarray(hidden_lake.plans(maps, horizon, 1)[:, 0])
        forgetful = lambda key, state: once[state.map_index, jnp.minimum(state.num_moves, once.shape[1] - 1)]
        task = task._replace(environment=environment._replace(expert=forgetful))
        notes = np.roll(plans, -1, axis=1)  # the moves of the next attempt, which are known: they meet nothing but ice, or their end
        expert = _planned(environment, plans, notes, lambda state: state.map_index, lambda state: state.num_moves)
        ceiling = hidden_lake.optimal_return(maps, horizon, attempts)
        return task._replace(ceiling=ceiling, **expert, hidden=lambda state: state.map_index)


@dataclasses.dataclass(frozen=True)
class Bandit:
    """Options of `envs.make_bandit`."""

    num_arms: int = 2
    num_pulls: int = 10

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task; several attempts at the same arms are as good as one long one.

        Of more pulls than are solved exactly the ceiling is a bound, that of one who knows the arms.
        """
        environment = envs.make_bandit(tokenizer, self.num_arms, self.num_pulls)
        num_pulls = min(self.num_pulls, limits.steps or self.num_pulls) * limits.num_attempts
        cost = limits.cost * num_pulls
        is_solved = bandit.num_decisions(self.num_arms, num_pulls) <= bandit.MAX_STATES
        best = bandit.optimal_return if is_solved else bandit.informed_return
        floor, ceiling = (returned(self.num_arms, num_pulls) - cost for returned in (bandit.random_return, best))
        return Task(environment, floor, ceiling, None, letters(self.num_arms))


@dataclasses.dataclass(frozen=True)
class CombinationLock:
    """Options of `envs.make_combination_lock`."""

    length: int = 2
    num_digits: int = 4

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task; an expert tries every place's digits in turn until they are right, and notes down the code to enter next."""
        environment = envs.make_combination_lock(tokenizer, self.length, self.num_digits)
        cost = _whole(limits, self.length, "combination_lock")
        size = (self.length, self.num_digits, limits.num_attempts)
        bounds = (
            best(*size) - cost * limits.num_attempts for best in (combination_lock.random_successes, combination_lock.optimal_successes)
        )

        def expert_note(key: jax.Array, state: State) -> Text:
            del key
            code = combination_lock.code_to_try(environment_within(state), self.num_digits)
            return text.concatenate(*(text.say_choice(environment.grammar, digit) for digit in code))

        def expert_again(key: jax.Array, state: State, attempt: jax.Array) -> Text:
            del key
            at = environment_within(state)
            return text.say_choice(environment.grammar, jnp.minimum(attempt, at.code[jnp.minimum(at.num_entered, self.length - 1)]))

        notes = {"symbols": numbers(self.num_digits), "expert_note": expert_note}
        return Task(environment, *bounds, 0.5 - cost, **notes, expert_again=expert_again, hidden=lambda state: state.code)


@dataclasses.dataclass(frozen=True)
class Mastermind:
    """Options of `envs.make_mastermind`."""

    num_pegs: int = 2
    num_colors: int = 4

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task."""
        size = (self.num_pegs, self.num_colors)
        environment = envs.make_mastermind(tokenizer, *size)
        least, random = mastermind.optimal_num_guesses, mastermind.random_num_guesses
        bounds = _priced(lambda steps: least(*size, steps), lambda steps: random(*size, steps), limits)
        symbols = letters(self.num_colors) + numbers(self.num_pegs + 1)
        return Task(environment, *bounds, symbols, bits=_unwrapped(mastermind.bits), hidden=lambda state: state.code)


@dataclasses.dataclass(frozen=True)
class TwentyQuestions:
    """Options of `envs.make_twenty_questions`."""

    num_objects: int = 4
    num_attributes: int = 3

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task."""
        size = (self.num_objects, self.num_attributes)
        environment = envs.make_twenty_questions(tokenizer, *size)
        least, random = twenty_questions.optimal_num_moves, twenty_questions.random_num_moves
        bounds = _priced(lambda steps: least(*size, steps), lambda steps: random(*size, steps), limits)
        symbols = letters(self.num_objects) + numbers(self.num_attributes + 1)
        return Task(environment, *bounds, symbols, bits=_unwrapped(twenty_questions.bits))


@dataclasses.dataclass(frozen=True)
class Corridor:
    """Options of `envs.make_corridor`."""

    length: int = 8
    num_cues: int = 2
    is_distracting: bool = True

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task; an expert notes down the cue."""
        environment = envs.make_corridor(tokenizer, self.length, self.num_cues, self.is_distracting)
        cost = _whole(limits, self.length + 1, "corridor")
        floor, ceiling = ((x - cost) * limits.num_attempts for x in (corridor.random_return(self.num_cues), corridor.optimal_return()))
        doors = tuple(f" {name}" for name in corridor.door_names(self.num_cues))
        names = text.stack([text.token_ids(tokenizer, door) for door in doors])

        def expert_note(key: jax.Array, state: State) -> Text:
            del key
            return text.lookup(names, environment_within(state).cue)

        return Task(environment, floor, ceiling, 0.5 - cost, doors, expert_note=expert_note, hidden=lambda state: state.cue)


@dataclasses.dataclass(frozen=True)
class Minesweeper:
    """Options of `envs.make_minesweeper`."""

    size: int = 3
    num_mines: int = 2
    shows_board: bool = False

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task; of many boards the ceiling is a bound, that of one who knows the board after the first cell.

        Of few boards an expert remembers earlier attempts; after one it notes down the cells that are safe, and where it blew up.
        """
        environment = envs.make_minesweeper(tokenizer, self.size, self.num_mines, self.shows_board)
        _free(limits, "minesweeper")
        is_solved = math.comb(self.size**2, self.num_mines) <= minesweeper.MAX_TABLED
        best = minesweeper.optimal_return if is_solved else minesweeper.bound_return
        floor = minesweeper.random_return(self.num_mines, limits.num_attempts)
        ceiling = best(self.size, self.num_mines, limits.num_attempts)
        success_at = 1.0 - 0.5 / (self.size**2 - self.num_mines)  # all safe cells are open
        task = Task(environment, floor, ceiling, success_at, numbers(self.size**2), hidden=lambda state: state.mines)
        if not is_solved:
            return task
        boards = jnp.asarray(minesweeper.all_boards(self.size, self.num_mines)[0])
        board = lambda state: jnp.argmax(jnp.all(boards == state.mines, axis=1))
        plans, known = minesweeper.plans(self.size, self.num_mines, limits.num_attempts)
        return task._replace(**_planned(environment, plans, known, board, lambda state: jnp.sum(state.opened)))


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """Options of `envs.make_arithmetic`; it offers a calculator."""

    num_digits: int = 2
    digits_per_action: int = 1

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task; an expert notes down the product."""
        environment = envs.make_arithmetic(tokenizer, self.num_digits, self.digits_per_action)
        cost = _whole(limits, 2 * self.num_digits // self.digits_per_action, "arithmetic")
        floor, ceiling = (
            (best(self.num_digits) - cost) * limits.num_attempts for best in (arithmetic.random_return, arithmetic.optimal_return)
        )
        tool = agents.calculator(tokenizer, self.num_digits, self.digits_per_action)
        say, first = agents.say_call(tokenizer, tool, ASK), 10 ** (self.num_digits - 1)

        def expert_call(key: jax.Array, state: State, num_calls: jax.Array) -> Text:
            del key
            at = environment_within(state)
            factors = jnp.stack([at.left - first, jnp.int32(0), at.right - first])
            return text.only_if((num_calls == 0) & (at.num_written == 0), say(factors))

        def expert_note(key: jax.Array, state: State) -> Text:
            del key
            at = environment_within(state)
            product = arithmetic.digits(arithmetic.multiply(at.left, at.right), 2 * self.num_digits)
            return text.flatten(text.lookup(words, product))

        words = text.stack([text.token_ids(tokenizer, word) for word in numbers(10)])
        options = {"offers": {"calculator": Offer(tool, expert_call)}, "expert_note": expert_note, "can_imagine": True}
        return Task(environment, floor, ceiling, 0.5 - cost, numbers(10), **options)


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Options of `envs.make_ledger`; it offers its table."""

    num_entries: int = 64
    num_hops: int = 1

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task."""
        attempts, size = limits.num_attempts, self.num_entries
        environment = envs.make_ledger(tokenizer, size, self.num_hops)
        cost = _whole(limits, 1, "ledger")
        floor, ceiling = (ledger.random_return(size) - cost) * attempts, (1.0 - cost) * attempts
        look_up = lambda state, row: ledger.look_up(envs.unwrapped(state), row)
        tool = agents.table(tokenizer, look_up, size)
        say = agents.say_call(tokenizer, tool, ASK)

        def expert_call(key: jax.Array, state: State, num_calls: jax.Array) -> Text:
            del key
            at = environment_within(state)
            row = jax.lax.fori_loop(0, num_calls, lambda _, row: ledger.look_up(at, row), at.row)
            return text.only_if(num_calls < self.num_hops, say(row[None]))

        offers = {"table": Offer(tool, expert_call, self.num_hops)}
        return Task(environment, floor, ceiling, 0.5 - cost, numbers(size), offers=offers, can_imagine=True)


@dataclasses.dataclass(frozen=True)
class ShiftingControls:
    """Options of `envs.make_shifting_controls`.

    Attributes:
      hazard: probability of a shift before every step but the first; 0 for one shift in the middle third.
    """

    num_actions: int = 3
    num_steps: int = 20
    hazard: float = 0.0
    starts_plain: bool = False

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task; the ceiling is what a Bayes filter earned in 10,000 games, which nobody was seen to exceed."""
        size, options = (self.num_actions, self.num_steps), {"hazard": self.hazard or None, "starts_plain": self.starts_plain}
        environment = envs.make_shifting_controls(tokenizer, *size, **options)
        cost = _whole(limits, self.num_steps, "shifting_controls")
        if limits.num_attempts > 1:
            raise ValueError("the optimum of several attempts at shifting_controls is not known; set agent.num_attempts=1")
        floor, ceiling = shifting_controls.random_return(*size), shifting_controls.adaptive_return(*size, **options)[0]
        shifts = Shifts(lambda state: Course(state.is_shift, state.asked), 1.0 - limits.cost)
        symbols = (" left", " right", " up", " down")[: self.num_actions]
        return Task(environment, floor - cost, ceiling - cost, None, symbols, shifts=shifts)


@dataclasses.dataclass(frozen=True)
class RestlessBandit:
    """Options of `envs.make_restless_bandit`."""

    num_pulls: int = 20
    shift_probability: float = 0.05
    pay_probability: float = 0.9

    def make(self, tokenizer: Any, limits: Limits) -> Task:
        """Returns the task."""
        options = (self.num_pulls, self.shift_probability, self.pay_probability)
        environment = envs.make_restless_bandit(tokenizer, *options)
        cost = _whole(limits, self.num_pulls, "restless_bandit")
        if limits.num_attempts > 1:
            raise ValueError("the optimum of several attempts at restless_bandit is not known; set agent.num_attempts=1")
        floor, ceiling = restless_bandit.random_return(self.num_pulls), restless_bandit.optimal_return(*options)
        shifts = Shifts(lambda state: Course(_changes(state.best[:-1]), jnp.zeros_like(state.pulled)), self.pay_probability - limits.cost)
        return Task(environment, floor - cost, ceiling - cost, None, letters(2), shifts=shifts)


def _changes(values: jax.Array) -> jax.Array:
    """Returns bool `[T]`: where a value is not the one before it."""
    return values != jnp.concatenate([values[:1], values[:-1]])


def _unwrapped(bits: agents.Process) -> agents.Process:
    """Returns `bits` of states within wrappers."""
    return lambda before, after: bits(envs.unwrapped(before), envs.unwrapped(after))
