"""Maps of a frozen lake, with the exact optimal return and the random baseline of each."""

from collections.abc import Callable, Sequence

import numpy as np

from arl.types import ArlError

MAPS = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": ("SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG"),
}
ACTIONS = (" left", " down", " right", " up")  # in Gymnasium's order: a move may slip to the two neighbouring directions
SYMBOLS = "SFHG"  # start, frozen, hole, goal
START, FROZEN, HOLE, GOAL = range(4)
MAX_DRAWS = 2000  # random maps drawn, at most, for each one that is solvable

Map = str | Sequence[str]


def read_map(map: Map) -> np.ndarray:
    """Reads a map.

    Args:
      map: name of a map in `MAPS`, or rows of `S` (start), `F` (frozen), `H` (hole) and `G` (goal).

    Returns:
      int `[rows, columns]`, index into `SYMBOLS` of each tile.

    Raises:
      ArlError: if it is not a solvable map.
    """
    if isinstance(map, str) and map not in MAPS:
        raise ArlError(f"There is no map {map!r}; choose one of {', '.join(MAPS)}, or give its rows.")
    rows = MAPS[map] if isinstance(map, str) else tuple(map)
    if not rows or len({len(row) for row in rows}) > 1 or not set("".join(rows)) <= set(SYMBOLS):
        raise ArlError(f"The rows {rows} are no map; give rows of one length made of {', '.join(SYMBOLS)}.")
    letters = np.array([[SYMBOLS.index(x) for x in row] for row in rows])
    if np.sum(letters == START) != 1:
        raise ArlError(f"The map {rows} has {np.sum(letters == START)} starts; mark exactly one tile S.")
    if not _is_solvable(letters):
        raise ArlError(f"No path leads from S to a G in the map {rows}; take a hole away or mark a goal.")
    return letters


def neighbours(letters: np.ndarray) -> np.ndarray:
    """Returns the tile to which each direction leads.

    Args:
      letters: int `[rows, columns]`, from `read_map`.

    Returns:
      int `[tiles, 4]`: the tile itself at a border, and in a hole or a goal.
    """
    num_rows, num_columns = letters.shape
    row, column = np.divmod(np.arange(letters.size), num_columns)
    left, right = np.maximum(column - 1, 0), np.minimum(column + 1, num_columns - 1)
    up, down = np.maximum(row - 1, 0), np.minimum(row + 1, num_rows - 1)
    moved = np.stack([row * num_columns + left, down * num_columns + column, row * num_columns + right, up * num_columns + column], 1)
    is_over = np.isin(letters.ravel(), (HOLE, GOAL))
    return np.where(is_over[:, None], np.arange(letters.size)[:, None], moved)


def legal_moves(letters: np.ndarray, only_moves_that_exist: bool) -> np.ndarray:
    """Returns the legal moves, bool `[tiles, 4]`.

    Args:
      letters: int `[rows, columns]`, from `read_map`.
      only_moves_that_exist: whether moves against the border are illegal.
    """
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
    """Returns solvable random maps, with the start in the upper left corner and the goal in the lower right corner.

    Args:
      num_maps: number of maps, which may repeat.
      size: a map of the same size.
      frozen_probability: probability that any other tile is frozen instead of a hole, before maps without a path are rejected.
      seed: seed of the maps.

    Returns:
      Maps, each a tuple of rows.

    Raises:
      ArlError: if `num_maps` is below 1, or the probability is out of range or too small.
    """
    if num_maps < 1:
        raise ArlError(f"A pool of {num_maps} random maps is empty; ask for at least 1.")
    if not 0.0 < frozen_probability <= 1.0:
        raise ArlError(f"A frozen_probability of {frozen_probability} is impossible; choose one above 0 and at most 1.")
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
    raise ArlError(f"Hardly a random map with a frozen_probability of {frozen_probability} can be solved; choose a larger one.")


# ---------------------------------------------------------------- optimal return and baseline, exact
def transitions(map: Map, is_slippery: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the dynamics of a map.

    Args:
      map: as in `read_map`.
      is_slippery: whether a move may slip sideways.

    Returns:
      Probability of the next tile, float64 `[tiles, 4, tiles]`, and expected reward, float64 `[tiles, 4]`.
    """
    letters = read_map(map)
    next_tile, tiles = neighbours(letters), letters.ravel()
    stays = np.eye(tiles.size)[next_tile]
    probability = (np.roll(stays, 1, axis=1) + stays + np.roll(stays, -1, axis=1)) / 3 if is_slippery else stays
    reward = np.where(np.isin(tiles, (HOLE, GOAL))[:, None], 0.0, probability @ (tiles == GOAL))
    return probability, reward


def action_values(map: Map, is_slippery: bool, horizon: int, combine: Callable[[np.ndarray], np.ndarray], cost: float = 0.0) -> np.ndarray:
    """Computes action values by backward induction.

    Args:
      map: as in `read_map`.
      is_slippery: whether a move may slip sideways.
      horizon: number of moves.
      combine: `action values [tiles, 4] -> values [tiles]`, the policy of later moves.
      cost: cost of a move that does not end the attempt.

    Returns:
      float64 `[horizon, tiles, 4]`, expected return of a move with 1, 2, ..., `horizon` moves left.
    """
    probability, reward = transitions(map, is_slippery)
    is_over = np.isin(read_map(map).ravel(), (HOLE, GOAL))
    reward = reward - cost * (probability @ ~is_over)
    values, value = [], np.zeros(is_over.size)
    for _ in range(horizon):
        values.append(reward + probability @ value)
        value = np.where(is_over, 0.0, combine(values[-1]))
    return np.stack(values)


def expert_actions(map: Map, is_slippery: bool, horizon: int, only_moves_that_exist: bool = False) -> np.ndarray:
    """Returns the best moves; among equally good ones, those that reach the goal fastest.

    Args:
      map: as in `read_map`.
      is_slippery: whether a move may slip sideways.
      horizon: number of moves.
      only_moves_that_exist: whether moves against the border are illegal.

    Returns:
      int8 `[horizon, tiles]`, for 1, 2, ..., `horizon` moves left.
    """
    is_legal = legal_moves(read_map(map), only_moves_that_exist)

    def best(values):
        return np.max(np.where(is_legal, values, -np.inf), axis=1)

    values = action_values(map, is_slippery, horizon, best, cost=1e-9)  # the cost breaks ties
    return np.argmax(np.where(is_legal, np.round(values, 12), -np.inf), axis=2).astype(np.int8)


def optimal_return(map: Map = "4x4", is_slippery: bool = True, horizon: int = 100, only_moves_that_exist: bool = False) -> float:
    """Returns the largest probability of reaching the goal within `horizon` moves, for an agent that knows the map.

    Args:
      map: as in `read_map`.
      is_slippery: whether a move may slip sideways.
      horizon: number of moves of an attempt.
      only_moves_that_exist: whether moves against the border are illegal.
    """
    letters = read_map(map)
    is_legal = legal_moves(letters, only_moves_that_exist)

    def best(values):
        return np.max(np.where(is_legal, values, -np.inf), axis=1)

    return float(best(action_values(map, is_slippery, horizon, best)[-1])[np.argmax(letters == START)])


def random_return(map: Map = "4x4", is_slippery: bool = True, horizon: int = 100, only_moves_that_exist: bool = False) -> float:
    """Returns the probability of reaching the goal within `horizon` uniformly random legal moves.

    Args:
      map: as in `read_map`.
      is_slippery: whether a move may slip sideways.
      horizon: number of moves of an attempt.
      only_moves_that_exist: whether moves against the border are illegal.
    """
    letters = read_map(map)
    is_legal = legal_moves(letters, only_moves_that_exist)

    def mean(values):
        return np.average(values, axis=1, weights=is_legal)

    return float(mean(action_values(map, is_slippery, horizon, mean)[-1])[np.argmax(letters == START)])
