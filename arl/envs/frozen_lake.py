"""Frozen lake: walk from the start to the goal over ice, past the holes; the ice may be slippery.

Dynamics, rewards and the two given maps are those of Gymnasium's `FrozenLake-v1`: 1 for reaching the goal, else nothing; a slippery move
goes where it should, or to either side of it, with probability 1/3 each. A tile is numbered row by row from the upper left corner.
An episode reads `At 0 0: right 0 1: down 1 1 hole`: row and column after each move. Limit its moves with `time_limit`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Environment, Step, Text, select

MAPS = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": ("SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG"),
}
ACTIONS = (" left", " down", " right", " up")  # Gymnasium's order: the two neighbours of a direction are where it may slip to
SYMBOLS = "SFHG"  # start, frozen, hole, goal
START, FROZEN, HOLE, GOAL = range(4)
MAX_DRAWS = 2000  # of random maps, for each that can be solved

Map = str | Sequence[str]


class FrozenLakeState(NamedTuple):
    """Where the agent is.

    Attributes:
      map_index: int32 `[]`, which map of the pool; 0 where there is one.
      tile: int32 `[]`, `row * columns + column`.
      num_moves: int32 `[]`, moves made since the reset.
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
      map: name of a given map, or rows of `S` (the start), `F` (frozen), `H` (a hole) and `G` (a goal).
      is_slippery: whether a move may go astray.
      num_random_maps: if positive, `reset` draws one of so many random maps of the size of `map`; see `random_maps`.
      frozen_probability: how much of a random map is frozen.
      seed: of the random maps.
      show_map: whether the first text of an episode shows the map; None shows random maps only. A given map can be learnt by heart.
      only_moves_that_exist: whether moves against the border are illegal, so that the legal actions depend on the state.
      horizon: number of moves within which the expert means to reach the goal; give it the time limit.

    Raises:
      ValueError: if a map, a probability or a count is impossible.

    Source: Towers et al., 2024, "Gymnasium: A Standard Interface for Reinforcement Learning Environments".
    """
    if horizon < 1:
        raise ValueError(f"A horizon of {horizon} moves leaves the expert no move; set horizon to at least 1.")
    maps = random_maps(num_random_maps, map, frozen_probability, seed) if num_random_maps else [map]
    letters = np.stack([read_map(m) for m in maps])
    tiles = letters.reshape(len(maps), -1)
    start = np.argmax(tiles == START, axis=1)
    is_goal, is_over = tiles == GOAL, (tiles == GOAL) | (tiles == HOLE)
    next_tile = np.stack([neighbours(x) for x in letters])
    exists = _legal_moves(letters[0], only_moves_that_exist)
    best = np.stack([expert_actions(m, is_slippery, horizon, only_moves_that_exist) for m in maps])

    def reset(key: jax.Array) -> FrozenLakeState:
        map_index = jax.random.randint(key, (), 0, len(maps))
        return FrozenLakeState(map_index, jnp.asarray(start, jnp.int32)[map_index], jnp.int32(0))

    def step(key: jax.Array, state: FrozenLakeState, action: jax.Array) -> tuple[FrozenLakeState, Step]:
        direction = action
        if is_slippery:
            slip = (jax.random.bits(key) % 3).astype(jnp.int32)  # 0, 1, 2 equal to one part in 2**32
            direction = (action + slip - 1) % len(ACTIONS)
        tile = jnp.asarray(next_tile, jnp.int32)[state.map_index, state.tile, direction]
        reaches_goal = jnp.asarray(is_goal)[state.map_index, tile] & (tile != state.tile)
        answer = Step(reaches_goal.astype(jnp.float32), jnp.asarray(is_over)[state.map_index, tile], jnp.bool_(False))
        return FrozenLakeState(state.map_index, tile, state.num_moves + 1), answer

    def legal(state: FrozenLakeState) -> jax.Array:
        return jnp.asarray(exists)[state.tile]

    def expert(key: jax.Array, state: FrozenLakeState) -> jax.Array:
        moves_left = jnp.maximum(horizon - state.num_moves, 1)
        return jnp.asarray(best)[state.map_index, moves_left - 1, state.tile].astype(jnp.int32)

    def anchor(state: FrozenLakeState) -> jax.Array:
        return (state.map_index * tiles.shape[1] + state.tile).astype(jnp.uint32)

    shows_map = num_random_maps > 0 if show_map is None else show_map
    describe = _descriptions(tokenizer, letters, shows_map)
    grammar = text.legal_strings(tokenizer, ACTIONS)
    return Environment(reset, step, describe, grammar, legal, max_steps=None, expert=expert, anchor=anchor)


# ---------------------------------------------------------------- maps, on the host
def read_map(map: Map) -> np.ndarray:
    """Returns a map as int `[rows, columns]`, each an index into `SYMBOLS`.

    Args:
      map: as in `make_frozen_lake`.

    Raises:
      ValueError: if it is not a map that can be solved.
    """
    if isinstance(map, str) and map not in MAPS:
        raise ValueError(f"There is no map {map!r}; choose one of {', '.join(MAPS)}, or give its rows.")
    rows = MAPS[map] if isinstance(map, str) else tuple(map)
    if not rows or len({len(row) for row in rows}) > 1 or not set("".join(rows)) <= set(SYMBOLS):
        raise ValueError(f"The rows {rows} are no map; give rows of one length made of {', '.join(SYMBOLS)}.")
    letters = np.array([[SYMBOLS.index(x) for x in row] for row in rows])
    if np.sum(letters == START) != 1:
        raise ValueError(f"The map {rows} has {np.sum(letters == START)} starts; mark exactly one tile S.")
    if not _is_solvable(letters):
        raise ValueError(f"No path leads from S to a G in the map {rows}; take a hole away or mark a goal.")
    return letters


def neighbours(letters: np.ndarray) -> np.ndarray:
    """Returns int `[tiles, 4]`: the tile to which each direction leads. Borders hold, and nothing leaves a hole or a goal.

    Args:
      letters: int `[rows, columns]`, a map as `read_map` returns it.
    """
    num_rows, num_columns = letters.shape
    row, column = np.divmod(np.arange(letters.size), num_columns)
    left, right = np.maximum(column - 1, 0), np.minimum(column + 1, num_columns - 1)
    up, down = np.maximum(row - 1, 0), np.minimum(row + 1, num_rows - 1)
    moved = np.stack([row * num_columns + left, down * num_columns + column, row * num_columns + right, up * num_columns + column], 1)
    is_over = np.isin(letters.ravel(), (HOLE, GOAL))
    return np.where(is_over[:, None], np.arange(letters.size)[:, None], moved)


def _legal_moves(letters: np.ndarray, only_moves_that_exist: bool) -> np.ndarray:
    """Returns bool `[tiles, 4]`: the legal moves, which are all of them, or those that do not lead against the border."""
    frozen = np.full_like(letters, FROZEN)
    return (neighbours(frozen) != np.arange(letters.size)[:, None]) | (not only_moves_that_exist)


def _is_solvable(letters: np.ndarray) -> bool:
    """Returns whether a path leads from the start to a goal."""
    next_tile, tiles = neighbours(letters), letters.ravel()
    reached = tiles == START
    for _ in range(tiles.size):
        reached[next_tile[reached]] = True
    return bool(np.any(reached & (tiles == GOAL)))


def random_maps(num_maps: int, size: Map = "4x4", frozen_probability: float = 0.8, seed: int = 0) -> list[tuple[str, ...]]:
    """Returns random maps that can be solved, with the start in the upper left corner and the goal in the lower right.

    Args:
      num_maps: how many; they may repeat.
      size: a map of the size that they are to have.
      frozen_probability: the probability of each other tile to be frozen rather than a hole, before maps without a path are rejected.
      seed: two calls with one seed give the same maps.

    Returns:
      Maps, each a tuple of rows.

    Raises:
      ValueError: if the pool is empty, or the probability impossible or too small.
    """
    if num_maps < 1:
        raise ValueError(f"A pool of {num_maps} random maps is empty; ask for at least 1.")
    if not 0.0 < frozen_probability <= 1.0:
        raise ValueError(f"A frozen_probability of {frozen_probability} is impossible; choose one above 0 and at most 1.")
    shape = read_map(size).shape
    generator = np.random.default_rng(seed)
    maps = []
    for _ in range(MAX_DRAWS * num_maps):
        letters = np.where(generator.random(shape) < frozen_probability, FROZEN, HOLE)
        letters.flat[0], letters.flat[-1] = START, GOAL
        if _is_solvable(letters):
            maps.append(tuple("".join(SYMBOLS[x] for x in row) for row in letters))
        if len(maps) == num_maps:
            return maps
    raise ValueError(f"Hardly a random map with a frozen_probability of {frozen_probability} can be solved; choose a larger one.")


# ---------------------------------------------------------------- oracle and baseline, exact
def transitions(map: Map, is_slippery: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a move does.

    Args:
      map: as in `make_frozen_lake`.
      is_slippery: as in `make_frozen_lake`.

    Returns:
      probability: float64 `[tiles, 4, tiles]` of the next tile.
      reward: float64 `[tiles, 4]`, expected.
    """
    letters = read_map(map)
    next_tile, tiles = neighbours(letters), letters.ravel()
    stays = np.eye(tiles.size)[next_tile]
    probability = (np.roll(stays, 1, axis=1) + stays + np.roll(stays, -1, axis=1)) / 3 if is_slippery else stays
    reward = np.where(np.isin(tiles, (HOLE, GOAL))[:, None], 0.0, probability @ (tiles == GOAL))
    return probability, reward


def action_values(map: Map, is_slippery: bool, horizon: int, combine: Callable[[np.ndarray], np.ndarray], price: float = 0.0) -> np.ndarray:
    """Returns the expected return `[horizon, tiles, 4]` of a move with 1, 2, ..., `horizon` moves left, by backward induction.

    Args:
      map: as in `make_frozen_lake`.
      is_slippery: as in `make_frozen_lake`.
      horizon: the number of moves.
      combine: from action values `[tiles, 4]` to a tile's value `[tiles]`: the policy that follows.
      price: charged for a move that does not end the episode.
    """
    probability, reward = transitions(map, is_slippery)
    is_over = np.isin(read_map(map).ravel(), (HOLE, GOAL))
    reward = reward - price * (probability @ ~is_over)
    values, value = [], np.zeros(is_over.size)
    for _ in range(horizon):
        values.append(reward + probability @ value)
        value = np.where(is_over, 0.0, combine(values[-1]))
    return np.stack(values)


def expert_actions(map: Map, is_slippery: bool, horizon: int, only_moves_that_exist: bool = False) -> np.ndarray:
    """Returns int8 `[horizon, tiles]`: the best move with 1, 2, ..., `horizon` moves left; of equally good ones the quickest.

    Args:
      map: as in `make_frozen_lake`, and so is the rest.
      is_slippery: whether a move may go astray.
      horizon: the number of moves.
      only_moves_that_exist: whether moves against the border are illegal.
    """
    is_legal = _legal_moves(read_map(map), only_moves_that_exist)

    def best(values):
        return np.max(np.where(is_legal, values, -np.inf), axis=1)

    values = action_values(map, is_slippery, horizon, best, price=1e-9)  # the price only breaks ties
    return np.argmax(np.where(is_legal, np.round(values, 12), -np.inf), axis=2).astype(np.int8)


def optimal_return(map: Map = "4x4", is_slippery: bool = True, horizon: int = 100, only_moves_that_exist: bool = False) -> float:
    """Returns the largest probability of reaching the goal within `horizon` moves; of a pool of maps, take the mean.

    Args:
      map: as in `make_frozen_lake`, and so is the rest.
      is_slippery: whether a move may go astray.
      horizon: the number of moves, the time limit.
      only_moves_that_exist: whether moves against the border are illegal.
    """
    letters = read_map(map)
    is_legal = _legal_moves(letters, only_moves_that_exist)

    def best(values):
        return np.max(np.where(is_legal, values, -np.inf), axis=1)

    return float(best(action_values(map, is_slippery, horizon, best)[-1])[np.argmax(letters == START)])


def random_return(map: Map = "4x4", is_slippery: bool = True, horizon: int = 100, only_moves_that_exist: bool = False) -> float:
    """Returns the probability of reaching the goal within `horizon` moves that are drawn uniformly from the legal ones.

    Args:
      map: as in `make_frozen_lake`, and so is the rest.
      is_slippery: whether a move may go astray.
      horizon: the number of moves, the time limit.
      only_moves_that_exist: whether moves against the border are illegal.
    """
    letters = read_map(map)
    is_legal = _legal_moves(letters, only_moves_that_exist)

    def mean(values):
        return np.average(values, axis=1, weights=is_legal)

    return float(mean(action_values(map, is_slippery, horizon, mean)[-1])[np.argmax(letters == START)])


# ---------------------------------------------------------------- text
def _descriptions(tokenizer: Any, letters: np.ndarray, shows_map: bool) -> Callable[[FrozenLakeState], Text]:
    """Returns `describe`: where the agent is, after a reset perhaps with the map; `letters` is int `[maps, rows, columns]`."""
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
