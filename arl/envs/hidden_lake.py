"""Optimal play of several attempts at a frozen lake whose map is hidden, for an agent that remembers earlier attempts.

The map is drawn uniformly from a pool of maps of one size and start, and revealed only by where the holes and goals are. It is not
slippery.
"""

from collections.abc import Sequence

import numpy as np

from arl.envs.lake_maps import FROZEN, GOAL, HOLE, START, Map, neighbours, read_map
from arl.types import ArlError

MAX_MAPS, MAX_MOVES = 16, 200  # largest pool, and most moves in all attempts, for which the optimum is computed


def solve(maps: Sequence[Map], horizon: int, num_attempts: int) -> dict[tuple[int, int, int, int], tuple[float, int]]:
    """Computes the value and best move of every belief state that optimal play can reach, by dynamic programming.

    Args:
      maps: maps of one size and one start.
      horizon: number of moves of an attempt.
      num_attempts: number of attempts at the same map.

    Returns:
      A dict from belief states to values and moves. A belief state is the maps that are still possible (bit `i` for map `i`), the tile, the
      moves left of this attempt, and the attempts left, including this one. The value is the expected return of this and later attempts;
      among equally good moves the fastest is taken.

    Raises:
      ArlError: if the maps differ in size or start, or are too many, or the attempts too long.
    """
    tiles, start, next_tile = _pool(maps)
    if not 1 <= horizon * num_attempts <= MAX_MOVES:
        raise ArlError(f"{num_attempts} attempts of {horizon} moves are not solved; let them have 1 to {MAX_MOVES} moves in all.")
    if len(maps) > MAX_MAPS:
        raise ArlError(f"{len(maps)} maps are more than the {MAX_MAPS} whose optimum is computed; take fewer.")
    holes, goals = ([sum(1 << int(i) for i in np.flatnonzero(tile == kind)) for tile in tiles.T] for kind in (HOLE, GOAL))
    solved: dict[tuple[int, int, int, int], tuple[float, int]] = {}

    def value(possible: int, tile: int, moves: int, attempts: int) -> float:
        """Returns the expected return times the number of possible maps."""
        if moves == 0 and attempts > 1:
            return value(possible, start, horizon, attempts - 1)
        if moves == 0 or possible == 0:
            return 0.0
        state = possible, tile, moves, attempts
        if state not in solved:
            totals = [total(possible, to, moves, attempts) if to != tile else -1.0 for to in next_tile[tile]]
            solved[state] = max(totals), int(np.argmax(np.round(totals, 12)))
        return solved[state][0]

    def total(possible: int, tile: int, moves: int, attempts: int) -> float:
        """Returns the same after a move to a tile."""
        won, lost = possible & goals[tile], possible & holes[tile]
        ended = won.bit_count() + sum(value(part, start, horizon, attempts - 1) for part in (won, lost) if attempts > 1)
        return ended + value(possible & ~(won | lost), tile, moves - 1, attempts) - 1e-9  # the cost breaks ties

    value((1 << len(maps)) - 1, start, horizon, num_attempts)
    return {state: (round(best / state[0].bit_count(), 6), move) for state, (best, move) in solved.items()}


def plans(maps: Sequence[Map], horizon: int, num_attempts: int) -> np.ndarray:
    """Returns the moves of optimal play on each map, as `solve` computes it.

    Args:
      maps: as in `solve`.
      horizon: number of moves of an attempt.
      num_attempts: number of attempts at the same map.

    Returns:
      int32 `[maps, attempts, moves]`, 0 after the end of an attempt; `moves` is the length of the longest attempt.
    """
    solved, (tiles, start, next_tile) = solve(maps, horizon, num_attempts), _pool(maps)
    moves, longest = np.zeros((len(maps), num_attempts, horizon), np.int32), 0
    for true, plan in enumerate(moves):
        possible = (1 << len(maps)) - 1
        for attempt in range(num_attempts):
            tile = start
            for made in range(horizon):
                longest = max(longest, made + 1)
                plan[attempt, made] = solved[possible, tile, horizon - made, num_attempts - attempt][1]
                tile = next_tile[tile][plan[attempt, made]]
                possible &= sum(1 << int(i) for i in np.flatnonzero(tiles[:, tile] == tiles[true, tile]))
                if tiles[true, tile] != FROZEN:
                    break
    return moves[..., :longest]


def optimal_return(maps: Sequence[Map], horizon: int, num_attempts: int) -> float:
    """Returns the Bayes-optimal return, summed over attempts at the same hidden map.

    Args:
      maps: as in `solve`.
      horizon: number of moves of an attempt.
      num_attempts: number of attempts at the same map.
    """
    return solve(maps, horizon, num_attempts)[(1 << len(maps)) - 1, _pool(maps)[1], horizon, num_attempts][0]


def _pool(maps: Sequence[Map]) -> tuple[np.ndarray, int, list[list[int]]]:
    """Returns the tiles of each map, with the start as frozen, int `[maps, tiles]`; the start; and where moves lead, `[tiles][4]`."""
    letters = [read_map(m) for m in maps]
    if len({(x.shape, int(np.argmax(x == START))) for x in letters}) > 1:
        raise ArlError("Maps that are to look alike differ in their size or their start; give maps of one size and one start.")
    tiles = np.stack([np.where(x == START, FROZEN, x).ravel() for x in letters])
    return tiles, int(np.argmax(letters[0] == START)), neighbours(np.full_like(letters[0], FROZEN)).tolist()
