"""Minesweeper: open all cells that hide no mine; a cell that was opened says how many of its neighbours are mines.

An action opens one cell, called by its number, row by row: `Map 6, hole 5: 14 1: 20 0: 3 hole`, on 6 x 6 cells with 5 mines, which the
texts call holes, as the frozen lake does. A safe cell is paid so that all of them are worth 1; a mine ends the attempt, and even the first
cell may be one. Several attempts at one board (episodes reset with the same key) need a memory that crosses from one to the next.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Environment, Step, Text, select

MAX_SIZE = 10  # numbers below 100 are one token
MAX_SOLVED = 600  # boards for which the optimum is computed: on the host, about five seconds an attempt
MAX_TABLED = 150  # boards for which the expert plays it: half a second when the environment is built
MAX_LISTED = 1000  # boards that the expert counts one by one on the device
NUM_ROUNDS = 5  # of deduction in a turn; the next turn deduces on from what was opened
MINE, MAX_COUNT = 10, 8  # what a cell shows: 0 closed, 1 + number of neighbouring mines, or `MINE`


class MinesweeperState(NamedTuple):
    """The board and what of it is open. A cell is `row * size + column`.

    Attributes:
      mines: bool `[cells]`, hidden.
      opened: bool `[cells]`.
      last: int32 `[]`, the cell opened last; -1 before the first.
    """

    mines: jax.Array
    opened: jax.Array
    last: jax.Array


def make_minesweeper(tokenizer: Any, size: int = 6, num_mines: int = 5, shows_board: bool = False) -> Environment:
    """Returns the game as an environment whose action `i` opens cell `i`; cells that are open are illegal.

    The expert opens a cell that is certainly safe, if it finds one. Else, where there are at most `MAX_TABLED` boards (3x3; 4x4 with 2
    mines), it plays the best guess for one attempt: it is optimal. Beyond, it opens the cell that is least likely a mine: exactly where
    there are at most `MAX_LISTED` boards, or else by the largest share of mines that a number leaves to a cell's neighbourhood. It knows
    nothing of other attempts.

    Args:
      tokenizer: a fast tokenizer.
      size: rows, and columns, 2 to 10.
      num_mines: drawn uniformly, 1 to one less than there are cells.
      shows_board: whether the whole board is shown every turn (X is a closed cell), or only what was found in the cell opened last.

    Raises:
      ValueError: if there is no such board.
    """
    _check_board(size, num_mines)
    num_cells = size * size
    near = jnp.asarray(neighbours(size), jnp.int32)
    weights = _hash_weights(num_cells)

    def reset(key: jax.Array) -> MinesweeperState:
        mines = jax.random.permutation(key, num_cells) < num_mines
        return MinesweeperState(mines, jnp.zeros(num_cells, bool), jnp.int32(-1))

    def step(key: jax.Array, state: MinesweeperState, action: jax.Array) -> tuple[MinesweeperState, Step]:
        del key  # the board was drawn by `reset`
        action = jnp.asarray(action, jnp.int32)
        was_over, is_new = is_over(state), ~state.opened[action]
        opened = state.opened | (jnp.arange(num_cells) == action)
        state = select(was_over, state, MinesweeperState(state.mines, opened, action))
        is_paid = ~was_over & is_new & ~state.mines[action]
        return state, Step(is_paid.astype(jnp.float32) / (num_cells - num_mines), is_over(state), jnp.bool_(False))

    def legal(state: MinesweeperState) -> jax.Array:
        return ~state.opened

    def shown(state: MinesweeperState) -> jax.Array:
        return jnp.where(state.opened, jnp.where(state.mines, MINE, 1 + near @ state.mines), 0)

    def anchor(state: MinesweeperState) -> jax.Array:
        return _hash(weights, shown(state), jnp)

    choose = _make_expert(size, num_mines, weights)
    grammar = text.legal_strings(tokenizer, [f" {cell}" for cell in range(num_cells)])
    describe = _descriptions(tokenizer, size, num_mines, shows_board, shown)
    expert = lambda key, state: choose(shown(state))
    return Environment(reset, step, describe, grammar, legal, max_steps=num_cells - num_mines, expert=expert, anchor=anchor)


def is_over(state: MinesweeperState) -> jax.Array:
    """Returns bool `[]`: whether a mine is open, or all that is no mine.

    Args:
      state: of one lane.
    """
    return jnp.any(state.opened & state.mines) | jnp.all(state.opened | state.mines)


def neighbours(size: int) -> np.ndarray:
    """Returns bool `[cells, cells]`: which cells touch, at a side or a corner; none touches itself.

    Args:
      size: rows, and columns.
    """
    row, column = np.divmod(np.arange(size * size), size)
    distance = np.maximum(abs(row[:, None] - row), abs(column[:, None] - column))
    return distance == 1


def _check_board(size: int, num_mines: int) -> None:
    """Raises ValueError unless there is such a board."""
    if not 2 <= size <= MAX_SIZE:
        raise ValueError(f"A board of size {size} cannot be played; set size to 2, ..., {MAX_SIZE}.")
    if not 1 <= num_mines < size * size:
        raise ValueError(f"A board of {size * size} cells cannot hide {num_mines} mines; set num_mines to 1, ..., {size * size - 1}.")


def _descriptions(
    tokenizer: Any, size: int, num_mines: int, shows_board: bool, shown: Callable[[MinesweeperState], jax.Array]
) -> Callable[[MinesweeperState], Text]:
    """Returns `describe`: the task, or what was found in the cell opened last; then, if wanted, the board."""
    counts = range(MAX_COUNT + 1)
    end, won = "\n" if shows_board else "", 1 + len(counts)  # some tokenizers join a line's end with what stands before it
    options = [f"Map {size}, hole {num_mines}:{end}"] + [f" {count}{end or ':'}" for count in counts]
    options += [f" {count} won\n" for count in counts] + [" hole\n"]
    holes = dict(said=text.choice(options))
    if shows_board:
        holes["board"] = text.when("{cells}\nTry:", cells=text.grid(size, size, ["X", *map(str, counts), "M"]))
    say = text.template(tokenizer, "{said}{board}" if shows_board else "{said}", **holes)

    def describe(state: MinesweeperState) -> Text:
        cells, is_end = shown(state), is_over(state)
        found = cells[jnp.maximum(state.last, 0)]  # 1 + count
        later = jnp.where(found == MINE, len(options) - 1, jnp.where(is_end, won + found - 1, found))
        said = jnp.where(state.last < 0, 0, later)
        return say(said=said, **(dict(board=~is_end, cells=cells.reshape(size, size)) if shows_board else {}))

    return describe


# ---------------------------------------------------------------- the expert
def _make_expert(size: int, num_mines: int, weights: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """Returns the expert, from what the cells show, int32 `[cells]`, to a cell that is closed, int32 `[]`."""
    num_boards = math.comb(size * size, num_mines)
    chance_of_mine = _chances_by_counting(size, num_mines) if num_boards <= MAX_LISTED else _chances_by_deduction(size, num_mines)
    table = _guesses(size, num_mines, weights) if num_boards <= MAX_TABLED else None

    def choose(cells: jax.Array) -> jax.Array:
        is_closed = cells == 0
        chance = jnp.where(is_closed, chance_of_mine(cells), jnp.inf)
        least = jnp.argmin(chance).astype(jnp.int32)
        if table is None:
            return least
        keys, guesses = (jnp.asarray(x) for x in table)
        place = jnp.minimum(jnp.searchsorted(keys, _hash(weights, cells, jnp)), len(keys) - 1)
        is_known = (keys[place] == _hash(weights, cells, jnp)) & is_closed[guesses[place]] & (chance[least] > 0)
        return jnp.where(is_known, guesses[place], least)

    return choose


def _chances_by_counting(size: int, num_mines: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from what cells show to the probability of a mine in each, float32 `[cells]`: a share of the boards that fit."""
    boards, counts = all_boards(size, num_mines)
    would_show = np.where(boards, MINE, 1 + counts).astype(np.int8)

    def chances(cells: jax.Array) -> jax.Array:
        fits = jnp.all((cells == 0) | (jnp.asarray(would_show) == cells), axis=1)
        return jnp.sum(fits[:, None] & boards, axis=0) / jnp.maximum(jnp.sum(fits), 1)

    return chances


def _chances_by_deduction(size: int, num_mines: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from what cells show to how likely each is a mine, float32 `[cells]`: 0 and 1 where it is certain.

    A number says how many mines are in a set of cells. Where one set holds another, the rest has the difference of the mines: if that is
    none, the rest is safe; if that is as many as it has cells, all are mines. The whole board and the empty set are such sets too.
    """
    num_cells = size * size
    sets = np.concatenate([neighbours(size), np.ones((1, num_cells), bool), np.zeros((1, num_cells), bool)])

    def deduce(found, numbers):
        is_safe, is_mine = found
        number, is_told = numbers
        members = jnp.asarray(sets) & ~is_safe & ~is_mine & is_told[:, None]
        num_members, num_left = members.sum(1), number - (jnp.asarray(sets) & is_mine).sum(1)
        outside = members.astype(jnp.int32) @ (~members).T.astype(jnp.int32)  # cells of one set (row) that another has not
        holds = is_told[:, None] & is_told & (outside.T == 0)  # the set of the row holds that of the column
        rest, mines = num_members[:, None] - num_members, num_left[:, None] - num_left
        in_rest = lambda rule: jnp.any(members & ((rule & holds).astype(jnp.int32) @ (~members).astype(jnp.int32) > 0), axis=0)
        return is_safe | in_rest((mines == 0) & (rest > 0)), is_mine | in_rest((mines == rest) & (rest > 0))

    def chances(cells: jax.Array) -> jax.Array:
        is_number = (cells > 0) & (cells < MINE)
        number = jnp.concatenate([cells - 1, jnp.array([num_mines, 0])])
        numbers = number, jnp.concatenate([is_number, jnp.array([True, True])])
        found = is_number, cells == MINE
        for _ in range(NUM_ROUNDS):
            found = deduce(found, numbers)
        is_safe, is_mine = found
        members = jnp.asarray(sets) & ~is_safe & ~is_mine & numbers[1][:, None]
        share = (number - (jnp.asarray(sets) & is_mine).sum(1)) / jnp.maximum(members.sum(1), 1)
        nearby = jnp.max(jnp.where(members, share[:, None], 0.0)[:num_cells], axis=0)
        guess = jnp.where(jnp.any(members[:num_cells], axis=0), nearby, share[num_cells])
        return jnp.where(is_safe, 0.0, jnp.where(is_mine, 1.0, guess))

    return chances


def _hash_weights(num_cells: int) -> np.ndarray:
    """Returns uint32 `[cells, MINE + 1]`, what each thing that a cell can show adds to a hash (Zobrist, 1970).

    Up to nine cells they are the digits of a number, so that all hashes differ; beyond they are random, and hardly two are the same.
    """
    if num_cells <= 9:
        return ((MINE + 1) ** np.arange(num_cells)[:, None] * np.arange(MINE + 1)).astype(np.uint32)
    return np.random.default_rng(0).integers(2**32, size=(num_cells, MINE + 1), dtype=np.uint32)


def _hash(weights: np.ndarray, cells: Any, numpy: Any) -> Any:
    """Returns uint32 `[]` of what the cells show, int `[cells]`; in NumPy or JAX."""
    return numpy.sum(numpy.asarray(weights)[np.arange(len(weights)), cells], dtype=numpy.uint32)


def _guesses(size: int, num_mines: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best cell to open where none is certainly safe: hashes of what is shown, uint32 ascending, and cells, int32."""
    boards, counts = all_boards(size, num_mines)
    keys, cells = [], []
    for (possible, _), (_, cell) in solve(size, num_mines, 1).items():
        some = np.frombuffer(possible, np.int32)
        if cell >= 0:
            is_safe = ~boards[some].any(0)
            keys.append(_hash(weights, np.where(is_safe, 1 + counts[some[0]], 0), np))
            cells.append(cell)
    order = np.argsort(keys)
    return np.asarray(keys, np.uint32)[order], np.asarray(cells, np.int32)[order]


# ---------------------------------------------------------------- bounds and baseline, exact
def all_boards(size: int, num_mines: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns all boards of a size, bool `[boards, cells]`, and how many mines are next to each cell, int8 `[boards, cells]`.

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
    """Returns value and best action of every state of knowledge that good play can meet, by dynamic programming.

    What is known is the set of boards that are still possible. To open what is certainly safe costs nothing and tells something, so it is
    always done first, in a new attempt too: then what is open follows from what is known, and there is nothing else to a state.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
      num_attempts: at the same board, by a player who remembers all.

    Returns:
      From the boards that are possible, int32 as bytes (they index `all_boards`), and the attempts left, this one included, to the expected
      return of this and later attempts, and the cell to open; -1 where the board is known.
    """
    boards, counts = all_boards(size, num_mines)
    num_safe = size * size - num_mines
    solved: dict[tuple[bytes, int], tuple[float, int]] = {}

    def follow(possible: np.ndarray, attempts: int) -> float:
        """Expected return, weighted with the number of boards, after opening what is certainly safe."""
        return sum(len(part) * value(part, attempts)[0] for part in _open_safe(boards, counts, possible))

    def value(possible: np.ndarray, attempts: int) -> tuple[float, int]:
        state = possible.tobytes(), attempts
        if state in solved:
            return solved[state]
        best = (float(attempts), -1) if len(possible) == 1 else (-1.0, -1)
        is_mine = boards[possible]
        num_hits = is_mine.sum(0)
        earned = np.sum(num_hits == 0) / num_safe  # if this attempt ends now
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
    """Returns the possible boards, int32 `[n]`, in parts that opening all that is certainly safe tells apart, until nothing new is safe."""
    is_safe = ~boards[possible].any(0)
    found = counts[possible][:, is_safe]
    if (found == found[0]).all():
        return [possible]
    parts: dict[bytes, list[int]] = {}
    for board, told in zip(possible, found):
        parts.setdefault(told.tobytes(), []).append(board)
    return [closed for part in parts.values() for closed in _open_safe(boards, counts, np.array(part, np.int32))]


def plans(size: int, num_mines: int, num_attempts: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a player opens who remembers all, and what it then knows, board by board.

    Cells that are certainly safe are opened first, in their order; then the best guess, as `solve` has it.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
      num_attempts: at the same board.

    Returns:
      opened: int32 `[boards, attempts, safe cells]`, the cells in turn; 0 after the end of an attempt.
      known: int32, alike, after each attempt the cells that are certainly safe, in their order, and then the mine that ended it.
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
    """Returns the largest expected return, summed over attempts at the same board by a player who remembers all: the Bayes bound.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
      num_attempts: how many attempts.

    Raises:
      ValueError: if the exact solution is too large; `bound_return` bounds it.
    """
    _check_board(size, num_mines)
    num_boards = math.comb(size * size, num_mines)
    if num_boards > MAX_SOLVED:
        raise ValueError(
            f"There are {num_boards:,} boards, more than the {MAX_SOLVED} that are solved exactly; choose a smaller size or fewer mines, "
            "or use `bound_return`."
        )
    start = np.arange(num_boards, dtype=np.int32)
    return solve(size, num_mines, num_attempts)[start.tobytes(), num_attempts][0]


def bound_return(size: int = 6, num_mines: int = 5, num_attempts: int = 1) -> float:
    """Returns a return that nobody can exceed in expectation, summed over attempts: that of one who knows the board after the first cell.

    The first cell of the first attempt is a mine with the same probability, whichever it is. Who knows the board at once earns
    `num_attempts`.

    Args:
      size: as in `make_minesweeper`.
      num_mines: as in `make_minesweeper`.
      num_attempts: how many attempts.
    """
    _check_board(size, num_mines)
    return num_attempts - num_mines / (size * size)


def random_return(num_mines: int = 5, num_attempts: int = 1) -> float:
    """Returns the expected return of cells opened in random order, whatever the size: before the first mine.

    Each safe cell comes before all of the mines with probability 1 / (mines + 1).

    Args:
      num_mines: as in `make_minesweeper`.
      num_attempts: how many attempts.
    """
    return num_attempts / (num_mines + 1)
