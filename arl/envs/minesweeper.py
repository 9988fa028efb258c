"""Minesweeper: open all cells without a mine; an open cell shows how many of its neighbours are mines.

An action opens one cell, by its number row by row: `Map 6, hole 5: 14 1: 20 0: 3 hole`, on 6 x 6 cells with 5 mines, which the texts call
holes. All safe cells together are worth 1, in equal parts. A mine ends the attempt, and even the first cell may be one. Several attempts
at one board (reset with the same key) need a memory across attempts.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.envs.experts import planned
from arl.envs.minesweeper_oracle import (
    MAX_COUNT,
    MINE,
    all_boards,
    bound_return,
    check_board,
    neighbours,
    optimal_return,
    plans,
    random_return,
    solve,
)
from arl.task import Bounds, Environment, Limits, Step, Task, TaskExpert
from arl.types import ArlError, Kind, Text, select

MAX_TABLED = 150  # most boards for which the expert is optimal: half a second when the environment is built
MAX_LISTED = 1000  # most boards that the expert enumerates on the device
NUM_ROUNDS = 5  # rounds of deduction per turn


class MinesweeperState(NamedTuple):
    """The board and its open cells. The number of a cell is `row * size + column`.

    Attributes:
      mines: bool `[cells]`, hidden: whether a cell is a mine.
      opened: bool `[cells]`, whether a cell is open.
      last: int32 `[]`, the cell opened last; -1 if there is none.
    """

    mines: jax.Array
    opened: jax.Array
    last: jax.Array


def make_minesweeper(tokenizer: Any, size: int = 6, num_mines: int = 5, shows_board: bool = False) -> Environment:
    """Returns the game as an environment whose action `i` opens cell `i`; cells that are open are illegal.

    The expert opens a cell that is certainly safe if it finds one. Otherwise it opens the best guess, if there are at most `MAX_TABLED`
    boards (3x3; 4x4 with 2 mines), which is optimal for one attempt, or else the cell that is least probably a mine. These probabilities
    are exact for at most `MAX_LISTED` boards; beyond that, the largest fraction of mines among the closed neighbours of a number
    approximates them. The expert does not remember other attempts.

    Args:
      tokenizer: a fast tokenizer.
      size: number of rows, and of columns, 2 to 10.
      num_mines: number of mines, 1 to `size**2 - 1`, drawn uniformly.
      shows_board: whether every text shows the whole board (X is a closed cell) or only the cell opened last.

    Raises:
      ArlError: if a size is out of range.
    """
    check_board(size, num_mines)
    num_cells = size * size
    near = jnp.asarray(neighbours(size), jnp.int32)
    weights = _hash_weights(num_cells)

    def reset(key: jax.Array) -> MinesweeperState:
        mines = jax.random.permutation(key, num_cells) < num_mines
        return MinesweeperState(mines, jnp.zeros(num_cells, bool), jnp.int32(-1))

    def step(key: jax.Array, state: MinesweeperState, action: jax.Array) -> tuple[MinesweeperState, Step]:
        del key  # `reset` draws the board
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

    def state_hash(state: MinesweeperState) -> jax.Array:
        return _hash(weights, shown(state), jnp)

    choose = _make_expert(size, num_mines, weights)
    grammar = text.legal_strings(tokenizer, [f" {cell}" for cell in range(num_cells)])
    describe = _descriptions(tokenizer, size, num_mines, shows_board, shown)
    expert = lambda key, state: choose(shown(state))
    return Environment(reset, step, describe, grammar, legal, max_steps=num_cells - num_mines, expert=expert, state_hash=state_hash)


def is_over(state: MinesweeperState) -> jax.Array:
    """Returns whether a mine or all safe cells are open, bool `[]`.

    Args:
      state: state of one lane.
    """
    return jnp.any(state.opened & state.mines) | jnp.all(state.opened | state.mines)


def _descriptions(
    tokenizer: Any, size: int, num_mines: int, shows_board: bool, shown: Callable[[MinesweeperState], jax.Array]
) -> Callable[[MinesweeperState], Text]:
    """Returns `describe`, whose texts are the task or the cell opened last, and the board if it is shown."""
    counts = range(MAX_COUNT + 1)
    end, won = "\n" if shows_board else "", 1 + len(counts)  # some tokenizers join a newline with the text before it
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
    """Returns the expert, a function from the visible board, int32 `[cells]`, to a closed cell, int32 `[]`."""
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
    """Returns a function from the visible board to the probability of a mine in each cell, float32 `[cells]`, by enumeration of boards."""
    boards, counts = all_boards(size, num_mines)
    would_show = np.where(boards, MINE, 1 + counts).astype(np.int8)

    def chances(cells: jax.Array) -> jax.Array:
        fits = jnp.all((cells == 0) | (jnp.asarray(would_show) == cells), axis=1)
        return jnp.sum(fits[:, None] & boards, axis=0) / jnp.maximum(jnp.sum(fits), 1)

    return chances


def _chances_by_deduction(size: int, num_mines: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from the visible board to approximate probabilities of a mine in each cell, float32 `[cells]`, 0 or 1 if certain.

    A number is the count of mines in a set of cells. If one set contains another, the difference of the sets has the difference of the
    counts: if that is 0, its cells are safe; if it is the number of its cells, all are mines. The whole board and the empty set are such
      sets
    too.
    """
    num_cells = size * size
    sets = np.concatenate([neighbours(size), np.ones((1, num_cells), bool), np.zeros((1, num_cells), bool)])

    def deduce(found, numbers):
        is_safe, is_mine = found
        number, is_told = numbers
        members = jnp.asarray(sets) & ~is_safe & ~is_mine & is_told[:, None]
        num_members, num_left = members.sum(1), number - (jnp.asarray(sets) & is_mine).sum(1)
        outside = members.astype(jnp.int32) @ (~members).T.astype(jnp.int32)  # number of cells of one set (row) that are not in another
        holds = is_told[:, None] & is_told & (outside.T == 0)  # the set of the row contains that of the column
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
        fraction = (number - (jnp.asarray(sets) & is_mine).sum(1)) / jnp.maximum(members.sum(1), 1)
        nearby = jnp.max(jnp.where(members, fraction[:, None], 0.0)[:num_cells], axis=0)
        guess = jnp.where(jnp.any(members[:num_cells], axis=0), nearby, fraction[num_cells])
        return jnp.where(is_safe, 0.0, jnp.where(is_mine, 1.0, guess))

    return chances


def _hash_weights(num_cells: int) -> np.ndarray:
    """Returns the term of each visible content of each cell in a hash, uint32 `[cells, MINE + 1]` (Zobrist, 1970).

    Up to nine cells contents are the digits of a number, so that all hashes differ; beyond that the terms are random, and collisions are
    rare.
    """
    if num_cells <= 9:
        return ((MINE + 1) ** np.arange(num_cells)[:, None] * np.arange(MINE + 1)).astype(np.uint32)
    return np.random.default_rng(0).integers(2**32, size=(num_cells, MINE + 1), dtype=np.uint32)


def _hash(weights: np.ndarray, cells: Any, numpy: Any) -> Any:
    """Returns the hash of a visible board, int `[cells]`, as uint32 `[]`, in NumPy or JAX."""
    return numpy.sum(numpy.asarray(weights)[np.arange(len(weights)), cells], dtype=numpy.uint32)


def _guesses(size: int, num_mines: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best guesses where no cell is certainly safe: hashes of visible boards, uint32 ascending, and cells to open, int32."""
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


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class Minesweeper(Checked):
    """Minesweeper on a small board; the return of an attempt is the fraction of safe cells that are opened.

    Attributes:
      size: number of rows, and of columns.
      num_mines: number of mines on the board.
      shows_board: whether every text shows the whole board.
    """

    size: int = 3
    num_mines: int = 2
    shows_board: bool = False

    def make(self, tokenizer: Any) -> Task:
        """Returns the task. For few boards it has experts that remember earlier attempts, and note the safe cells and the mine hit.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_minesweeper(tokenizer, self.size, self.num_mines, self.shows_board)
        symbols = tuple(f" {i}" for i in range(self.size**2))
        hidden = lambda state: state.mines
        is_solved = math.comb(self.size**2, self.num_mines) <= MAX_TABLED
        experts = self._experts if is_solved else lambda environment, limits: {}
        return Task(
            environment,
            tokenizer,
            bounds=lambda limits: self._bounds(is_solved, limits),
            experts=lambda limits: experts(environment, limits),
            note_symbols=symbols,
            hidden=hidden,
        )

    def _bounds(self, is_solved: bool, limits: Limits) -> Bounds:
        """Returns the bounds; for many boards the optimum is an upper bound, see `bound_return`."""
        if limits.step_cost or limits.time_limit:
            raise ArlError("the optimum of minesweeper under limits is not known; set Act.step_cost=0 and Act.time_limit=0")
        best = optimal_return if is_solved else bound_return
        return Bounds(
            random_return(self.num_mines, limits.num_attempts),
            best(self.size, self.num_mines, limits.num_attempts),
            1.0 - 0.5 / (self.size**2 - self.num_mines),  # all safe cells are open
            "exact" if is_solved else "bound",
        )

    def _experts(self, environment: Environment, limits: Limits) -> dict[Kind, TaskExpert]:
        boards = jnp.asarray(all_boards(self.size, self.num_mines)[0])
        board = lambda state: jnp.argmax(jnp.all(boards == state.mines, axis=1))
        opened, known = plans(self.size, self.num_mines, limits.num_attempts)
        return planned(environment, opened, known, board, lambda state: jnp.sum(state.opened))
