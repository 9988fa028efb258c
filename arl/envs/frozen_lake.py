"""Frozen lake: walk from the start to the goal over ice, past the holes; the ice may be slippery.

Dynamics, rewards and the two named maps are those of Gymnasium's `FrozenLake-v1`: the reward is 1 at the goal and 0 elsewhere; a slippery
move goes in its direction or to either side of it, with probability 1/3 each. Tiles are numbered row by row from the upper left corner.
An attempt reads `At 0 0: right 0 1: down 1 1 hole`, with row and column after each move. `Act.time_limit` limits its moves.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.envs import hidden_lake
from arl.envs.experts import planned
from arl.envs.lake_maps import (
    ACTIONS,
    GOAL,
    HOLE,
    START,
    SYMBOLS,
    Map,
    expert_actions,
    legal_moves,
    neighbours,
    optimal_return,
    random_maps,
    random_return,
    read_map,
)
from arl.task import Bounds, Environment, Limits, Step, Task, TaskExpert
from arl.types import ArlError, Kind, Text, select


class FrozenLakeState(NamedTuple):
    """The map and the place of the agent.

    Attributes:
      map_index: int32 `[]`, index of the map in the pool.
      tile: int32 `[]`, `row * columns + column`.
      num_moves: int32 `[]`, number of moves in this attempt.
    """

    map_index: jax.Array
    tile: jax.Array
    num_moves: jax.Array


def make_frozen_lake(
    tokenizer: Any,
    map: Map = "4x4",
    is_slippery: bool = True,
    num_random_maps: int = 0,
    frozen_probability: float = 0.8,
    seed: int = 0,
    show_map: bool | None = None,
    only_moves_that_exist: bool = False,
    horizon: int = 100,
) -> Environment:
    """Returns the frozen lake as an environment whose actions are " left", " down", " right" and " up".

    Args:
      tokenizer: a fast tokenizer.
      map: name of a map, or rows of `S` (start), `F` (frozen), `H` (hole) and `G` (goal).
      is_slippery: whether a move may slip sideways.
      num_random_maps: number of random maps of the size of `map`, of which `reset` draws one, see `random_maps`; 0 for `map` alone.
      frozen_probability: as in `random_maps`.
      seed: seed of the random maps.
      show_map: whether the first text of an attempt shows the map; None shows random maps only.
      only_moves_that_exist: whether moves against the border are illegal, so that the legal actions depend on the state.
      horizon: number of moves within which the expert plans to reach the goal, that is the time limit.

    Raises:
      ArlError: if a map, probability or number is out of range.

    Source: Towers et al., 2024, "Gymnasium: A Standard Interface for Reinforcement Learning Environments".
    """
    if horizon < 1:
        raise ArlError(f"A horizon of {horizon} moves leaves the expert no move; set horizon to at least 1.")
    maps = random_maps(num_random_maps, map, frozen_probability, seed) if num_random_maps else [map]
    letters = np.stack([read_map(m) for m in maps])
    tiles = letters.reshape(len(maps), -1)
    start = np.argmax(tiles == START, axis=1)
    is_goal, is_over = tiles == GOAL, (tiles == GOAL) | (tiles == HOLE)
    next_tile = np.stack([neighbours(x) for x in letters])
    exists = legal_moves(letters[0], only_moves_that_exist)

    def reset(key: jax.Array) -> FrozenLakeState:
        map_index = jax.random.randint(key, (), 0, len(maps))
        return FrozenLakeState(map_index, jnp.asarray(start, jnp.int32)[map_index], jnp.int32(0))

    def step(key: jax.Array, state: FrozenLakeState, action: jax.Array) -> tuple[FrozenLakeState, Step]:
        direction = action
        if is_slippery:
            slip = (jax.random.bits(key) % 3).astype(jnp.int32)  # uniform up to one part in 2**32
            direction = (action + slip - 1) % len(ACTIONS)
        tile = jnp.asarray(next_tile, jnp.int32)[state.map_index, state.tile, direction]
        reaches_goal = jnp.asarray(is_goal)[state.map_index, tile] & (tile != state.tile)
        answer = Step(reaches_goal.astype(jnp.float32), jnp.asarray(is_over)[state.map_index, tile], jnp.bool_(False))
        return FrozenLakeState(state.map_index, tile, state.num_moves + 1), answer

    def legal(state: FrozenLakeState) -> jax.Array:
        return jnp.asarray(exists)[state.tile]

    def state_hash(state: FrozenLakeState) -> jax.Array:
        return (state.map_index * tiles.shape[1] + state.tile).astype(jnp.uint32)

    shows_map = num_random_maps > 0 if show_map is None else show_map
    describe = _descriptions(tokenizer, letters, shows_map)
    grammar = text.legal_strings(tokenizer, ACTIONS)
    expert = _expert(maps, is_slippery, horizon, only_moves_that_exist)
    return Environment(reset, step, describe, grammar, legal, max_steps=None, expert=expert, state_hash=state_hash)


def _expert(
    maps: Sequence[Map], is_slippery: bool, horizon: int, only_moves_that_exist: bool = False
) -> Callable[[jax.Array, FrozenLakeState], jax.Array]:
    """Returns an expert that knows the map, and plans for `horizon` moves."""
    best = np.stack([expert_actions(m, is_slippery, horizon, only_moves_that_exist) for m in maps])

    def expert(key: jax.Array, state: FrozenLakeState) -> jax.Array:
        moves_left = jnp.maximum(horizon - state.num_moves, 1)
        return jnp.asarray(best)[state.map_index, moves_left - 1, state.tile].astype(jnp.int32)

    return expert


# ---------------------------------------------------------------- text
def _descriptions(tokenizer: Any, letters: np.ndarray, shows_map: bool) -> Callable[[FrozenLakeState], Text]:
    """Returns `describe`, whose texts are the agent's place and, if shown, first the map; `letters` is int `[maps, rows, columns]`."""
    num_maps, num_rows, num_columns = letters.shape
    place = dict(row=text.number(0, num_rows - 1), column=text.number(0, num_columns - 1))
    after_move = text.template(tokenizer, " {row} {column}{end}", end=text.choice([":", " hole\n", " goal\n"]), **place)
    if shows_map:
        after_reset = text.template(tokenizer, "Map:\n{map}\nAt {row} {column}:", map=text.grid(num_rows, num_columns, SYMBOLS), **place)
    else:
        after_reset = text.template(tokenizer, "At {row} {column}:", **place)
    ends = np.select([letters == HOLE, letters == GOAL], [1, 2], 0).reshape(num_maps, -1)

    def describe(state: FrozenLakeState) -> Text:
        row, column = jnp.divmod(state.tile, num_columns)
        shown = {"map": jnp.asarray(letters, jnp.int32)[state.map_index]} if shows_map else {}
        first = after_reset(row=row, column=column, **shown)
        later = after_move(row=row, column=column, end=jnp.asarray(ends, jnp.int32)[state.map_index, state.tile])
        capacity = max(first.ids.shape[0], later.ids.shape[0])
        return select(state.num_moves == 0, text.pad(first, capacity), text.pad(later, capacity))

    return describe


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class FrozenLake(Checked):
    """A walk over ice from the start to the goal, past the holes; it needs `Act.time_limit`.

    Attributes:
      map: "4x4", "8x8", or the rows of a map with "/" between them, as in "SF/FG"; random maps have its size.
      is_slippery: whether a move may slip sideways.
      num_random_maps: number of random maps, of which each episode has one; 0 for `map` alone.
      is_hidden: whether random maps are hidden from the agent.
    """

    map: str = "4x4"
    is_slippery: bool = True
    num_random_maps: int = 0
    is_hidden: bool = False

    def make(self, tokenizer: Any) -> Task:
        """Returns the task. Hidden maps have an expert only if they can be solved; it remembers earlier attempts.

        Args:
          tokenizer: a fast tokenizer.
        """
        given = tuple(self.map.split("/")) if "/" in self.map else self.map
        options = {"map": given, "is_slippery": self.is_slippery, "num_random_maps": self.num_random_maps}
        environment = make_frozen_lake(tokenizer, **options, show_map=False if self.is_hidden else None)
        maps = random_maps(self.num_random_maps, given) if self.num_random_maps else [given]
        return Task(
            environment._replace(expert=None),
            tokenizer,
            bounds=lambda limits: self._bounds(maps, limits),
            experts=lambda limits: self._experts(environment, maps, limits),
            note_symbols=ACTIONS,
            can_imagine=not self.is_hidden,
            hidden=(lambda state: state.map_index) if self.is_hidden else None,
        )

    def _is_solved(self, maps: list[Map], limits: Limits) -> bool:
        """Returns whether the optimal policy is known for an agent that remembers earlier attempts but does not see the map."""
        length = limits.time_limit * limits.num_attempts
        return self.is_hidden and not self.is_slippery and len(maps) <= hidden_lake.MAX_MAPS and length <= hidden_lake.MAX_MOVES

    def _bounds(self, maps: list[Map], limits: Limits) -> Bounds:
        """Returns the bounds. The optimum is that of an agent that knows the map, unless the maps are hidden and can be solved."""
        horizon, attempts = limits.time_limit, limits.num_attempts
        if not horizon:
            raise ArlError("a lake without a time limit has no end; set Act.time_limit >= 1")
        if limits.step_cost:
            raise ArlError("the optimum of a lake whose steps cost something is not known; set Act.step_cost=0")
        random = float(np.mean([random_return(m, self.is_slippery, horizon) for m in maps])) * attempts
        if self._is_solved(maps, limits):
            return Bounds(random, hidden_lake.optimal_return(maps, horizon, attempts), 0.5)
        optimal = float(np.mean([optimal_return(m, self.is_slippery, horizon) for m in maps])) * attempts
        return Bounds(random, optimal, 0.5, "bound" if self.is_hidden else "exact")

    def _experts(self, environment: Environment, maps: list[Map], limits: Limits) -> dict[Kind, TaskExpert]:
        """Returns an expert that knows the map; for hidden maps, experts that remember attempts and note the moves of the next one."""
        if not self.is_hidden:
            expert = _expert(maps, self.is_slippery, limits.time_limit or 100)
            return {Kind.ACTION: lambda key, state, attempt: text.say_choice(environment.grammar, expert(key, state))}
        if not self._is_solved(maps, limits):
            return {}
        plans = hidden_lake.plans(maps, limits.time_limit, limits.num_attempts)
        # A note names the moves of the next attempt, which the expert already knows.
        notes = np.roll(plans, -1, axis=1)
        return planned(environment, plans, notes, lambda state: state.map_index, lambda state: state.num_moves)
