"""The boards of minesweeper, their optimal policy and return, and a random baseline."""

import itertools
import math

import numpy as np

from arl.types import ArlError

MAX_SIZE = 10  # numbers below 100 are one token
MAX_SOLVED = 600  # most boards for which the optimum is computed, about five seconds per attempt on the host
MINE, MAX_COUNT = 10, 8  # visible content of a cell: 0 if closed, 1 + number of neighbouring mines, or `MINE`


def neighbours(size: int) -> np.ndarray:
    """Returns whether two cells touch at a side or a corner, bool `[cells, cells]`; a cell does not touch itself.

    Args:
      size: number of rows, and of columns.
    """
    row, column = np.divmod(np.arange(size * size), size)
    distance = np.maximum(abs(row[:, None] - row), abs(column[:, None] - column))
    return distance == 1


def check_board(size: int, num_mines: int) -> None:
    """Checks the size of a board.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.

    Raises:
      ArlError: if one is out of range.
    """
    if not 2 <= size <= MAX_SIZE:
        raise ArlError(f"A board of size {size} cannot be played; set size to 2, ..., {MAX_SIZE}.")
    if not 1 <= num_mines < size * size:
        raise ArlError(f"A board of {size * size} cells cannot hide {num_mines} mines; set num_mines to 1, ..., {size * size - 1}.")


def all_boards(size: int, num_mines: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns all boards, bool `[boards, cells]`, and the number of neighbouring mines of each cell, int8 `[boards, cells]`.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
    """
    num_cells = size * size
    chosen = np.array(list(itertools.combinations(range(num_cells), num_mines)))
    boards = np.zeros((len(chosen), num_cells), bool)
    np.put_along_axis(boards, chosen, True, axis=1)
    return boards, boards.astype(np.int8) @ neighbours(size)


def solve(size: int, num_mines: int, num_attempts: int) -> dict[tuple[bytes, int], tuple[float, int]]:
    """Computes the value and best action of every belief state that optimal play can reach, by dynamic programming.

    A belief state is the set of boards that are still possible. Cells that are certainly safe are always opened first, because that costs
    nothing and may be informative, so the open cells follow from the belief state.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
      num_attempts: number of attempts at the same board, by an agent that remembers earlier ones.

    Returns:
      A dict from the possible boards, int32 indices into `all_boards` as bytes, and the attempts left, including this one, to the expected
      return of this and later attempts and the cell to open, -1 if the board is known.
    """
    boards, counts = all_boards(size, num_mines)
    num_safe = size * size - num_mines
    solved: dict[tuple[bytes, int], tuple[float, int]] = {}

    def follow(possible: np.ndarray, attempts: int) -> float:
        """Returns the expected return times the number of boards, after all certainly safe cells have been opened."""
        return sum(len(part) * value(part, attempts)[0] for part in _open_safe(boards, counts, possible))

    def value(possible: np.ndarray, attempts: int) -> tuple[float, int]:
        state = possible.tobytes(), attempts
        if state in solved:
            return solved[state]
        best = (float(attempts), -1) if len(possible) == 1 else (-1.0, -1)
        is_mine = boards[possible]
        num_hits = is_mine.sum(0)
        earned = np.sum(num_hits == 0) / num_safe  # return of this attempt if it ends now
        for cell in np.flatnonzero((num_hits > 0) & (num_hits < len(possible))):
            total = num_hits[cell] * earned + follow(possible[~is_mine[:, cell]], attempts)
            if attempts > 1:
                total += follow(possible[is_mine[:, cell]], attempts - 1)
            if total / len(possible) > best[0] + 1e-12:
                best = float(total / len(possible)), int(cell)
        solved[state] = best
        return best

    follow(np.arange(len(boards), dtype=np.int32), num_attempts)
    return solved


def _open_safe(boards: np.ndarray, counts: np.ndarray, possible: np.ndarray) -> list[np.ndarray]:
    """Splits the possible boards, int32 `[n]`, by what their certainly safe cells show, until no more cells are certainly safe."""
    is_safe = ~boards[possible].any(0)
    found = counts[possible][:, is_safe]
    if (found == found[0]).all():
        return [possible]
    parts: dict[bytes, list[int]] = {}
    for board, told in zip(possible, found):
        parts.setdefault(told.tobytes(), []).append(board)
    return [closed for part in parts.values() for closed in _open_safe(boards, counts, np.array(part, np.int32))]


def plans(size: int, num_mines: int, num_attempts: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the actions of optimal play on each board, and what is known after each attempt.

    Cells that are certainly safe are opened first, in ascending order, and then the best guess of `solve`.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
      num_attempts: number of attempts at the same board.

    Returns:
      Cells in the order in which they are opened, int32 `[boards, attempts, safe cells]`, 0 after the end of an attempt; and after each
      attempt the cells that are certainly safe, in ascending order, followed by the mine that ended it, of the same shape.
    """
    boards, counts = all_boards(size, num_mines)
    solved = solve(size, num_mines, num_attempts)
    opened = np.zeros((len(boards), num_attempts, size * size - num_mines), np.int32)
    known = np.zeros_like(opened)
    for true, plan in enumerate(opened):
        possible = np.arange(len(boards), dtype=np.int32)
        for attempt in range(num_attempts):
            closed = np.ones(size * size, bool)
            for turn in range(plan.shape[1]):
                is_safe = closed & ~boards[possible].any(0)
                cell = np.argmax(is_safe) if is_safe.any() else solved[possible.tobytes(), num_attempts - attempt][1]
                plan[attempt, turn], closed[cell] = cell, False
                shown = np.where(boards[:, cell], MINE, counts[:, cell])
                possible = possible[shown[possible] == shown[true]]
                if boards[true, cell]:
                    break
            safe, hit = np.flatnonzero(~boards[possible].any(0)), np.flatnonzero(boards[true] & ~closed)
            known[true, attempt, : len(safe)], known[true, attempt, len(safe) :] = safe, hit
    return opened, known


def optimal_return(size: int = 3, num_mines: int = 2, num_attempts: int = 1) -> float:
    """Returns the Bayes-optimal return, summed over attempts at the same board, for an agent that remembers earlier ones.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
      num_attempts: number of attempts.

    Raises:
      ArlError: if the exact solution is too large; `bound_return` is an upper bound then.
    """
    check_board(size, num_mines)
    num_boards = math.comb(size * size, num_mines)
    if num_boards > MAX_SOLVED:
        raise ArlError(
            f"There are {num_boards:,} boards, more than the {MAX_SOLVED} that are solved exactly; choose a smaller size or fewer mines, "
            "or use `bound_return`."
        )
    start = np.arange(num_boards, dtype=np.int32)
    return solve(size, num_mines, num_attempts)[start.tobytes(), num_attempts][0]


def bound_return(size: int = 6, num_mines: int = 5, num_attempts: int = 1) -> float:
    """Returns an upper bound of the expected return, summed over attempts: that of an agent that knows the board after the first cell.

    The first cell of the first attempt is a mine with the same probability whichever it is; all else is opened safely.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
      num_attempts: number of attempts.
    """
    check_board(size, num_mines)
    return num_attempts - num_mines / (size * size)


def random_return(num_mines: int = 5, num_attempts: int = 1) -> float:
    """Returns the expected return of opening cells in random order.

    Each safe cell comes before all mines with probability 1 / (mines + 1), for any size.

    Args:
      num_mines: as in `make_minesweeper`.
      num_attempts: number of attempts.
    """
    return num_attempts / (num_mines + 1)
