"""Blind maze: a map that is shown once, before a walk to its goal. Whoever has not planned the way by then walks among holes unseen.

The cells of a square are numbered row by row. The map names them in order, a hole by its number and 50 more, as in
`Map 0 51 2 3 goal 3 at 2:` for two by two cells with a hole at 1. The only legal action is then " start". From there on, an agent that no
longer has the map in its context reads nothing but where it is, such as ` at 2:`. A map is longer than a path, and every episode has
another one: what has to be kept is not the map but a decision about it.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, TaskExpert
from arl.types import ArlError, Kind, Text, select

MOVES = (" left", " down", " right", " up")  # neighbours in this order are those to which a move may slip
START = len(MOVES)  # the action with which the walk begins
HOLE = 50  # added to the number of a cell with a hole
MAX_SIZE = 7  # more cells than `HOLE` could not be named
NUM_MAPS = 4096  # maps whose values are averaged for the bounds


class MazeState(NamedTuple):
    """The map, and where the agent is.

    Attributes:
      is_hole: bool `[cells]`.
      goal: int32 `[]`, cell of the goal.
      cell: int32 `[]`, cell of the agent.
      num_steps: int32 `[]`, number of actions, " start" among them.
    """

    is_hole: jax.Array
    goal: jax.Array
    cell: jax.Array
    num_steps: jax.Array


def make_blind_maze(
    tokenizer: Any, size: int = 4, longest: int = 6, hole_probability: float = 0.3, slip: float = 0.0, max_moves: int = 10
) -> Environment:
    """Returns the maze as an environment whose actions are the four moves and, last, " start".

    The distance from the start to the goal is drawn uniformly from 1 to `longest`; where a map has no cell so far away, the farthest is
    taken. The reward is 1 for the goal; a hole, the goal, and the last move end the walk. A move against the border stays where it is.

    Args:
      tokenizer: a fast tokenizer.
      size: cells of a side.
      longest: longest distance from the start to the goal, in moves.
      hole_probability: probability that a cell is a hole.
      slip: probability that a move slips to one of the two neighbouring directions.
      max_moves: most moves.

    Raises:
      ArlError: if a size or a probability is out of range.
    """
    _check(size, longest, hole_probability, slip, max_moves)
    num_cells, next_cell = size * size, jnp.asarray(neighbours(size), jnp.int32)
    places = [f" {cell}" for cell in range(num_cells)]
    marks = text.choice([f" {cell + HOLE * is_hole}" for cell in range(num_cells) for is_hole in (0, 1)])
    place = text.choice(places)
    say_map = text.template(
        tokenizer,
        "Map" + "".join(f"{{cell{i}}}" for i in range(num_cells)) + " goal{goal} at{at}:",
        **{f"cell{i}": marks for i in range(num_cells)},
        goal=place,
        at=place,
    )
    say_place = text.template(tokenizer, " at{at}:", at=place)

    def reset(key: jax.Array) -> MazeState:
        key_holes, key_goal, key_distance, key_start = jax.random.split(key, 4)
        goal = jax.random.randint(key_goal, (), 0, num_cells)
        is_hole = jax.random.bernoulli(key_holes, hole_probability, (num_cells,)).at[goal].set(False)
        is_shut = jnp.all(is_hole[next_cell[goal]] | (next_cell[goal] == goal))
        is_hole &= ~is_shut  # a goal among holes gets a map without any
        distance = _distances(is_hole, goal, next_cell, longest)
        wanted = jax.random.randint(key_distance, (), 1, longest + 1)
        draw = jax.random.uniform(key_start, (num_cells,))  # between cells that are equally far
        cell = jnp.argmax(jnp.where((distance > 0) & (distance <= wanted), distance + draw, -1.0))
        return MazeState(is_hole, goal, cell.astype(jnp.int32), jnp.int32(0))

    def is_over(state: MazeState) -> jax.Array:
        return (state.cell == state.goal) | state.is_hole[state.cell] | (state.num_steps > max_moves)

    def step(key: jax.Array, state: MazeState, action: jax.Array) -> tuple[MazeState, Step]:
        key_slip, key_side = jax.random.split(key)
        turned = (action + jnp.where(jax.random.bernoulli(key_side), 1, len(MOVES) - 1)) % len(MOVES)
        move = jnp.where(jax.random.uniform(key_slip) < slip, turned, jnp.minimum(action, len(MOVES) - 1))
        was_over = is_over(state)
        cell = jnp.where((state.num_steps == 0) | was_over, state.cell, next_cell[state.cell, move])
        state = state._replace(cell=cell, num_steps=state.num_steps + 1)
        return state, Step(((cell == state.goal) & ~was_over).astype(jnp.float32), is_over(state), jnp.bool_(False))

    def describe(state: MazeState) -> Text:
        cells = {f"cell{i}": 2 * i + state.is_hole[i] for i in range(num_cells)}
        whole = say_map(**cells, goal=state.goal, at=state.cell)
        return select(state.num_steps == 0, whole, text.pad(say_place(at=state.cell), whole.ids.shape[0]))

    def expert(key: jax.Array, state: MazeState) -> jax.Array:
        rank = search_order(state, size)
        return jnp.where(state.num_steps == 0, START, jnp.argmin(rank[next_cell[state.cell]])).astype(jnp.int32)

    return Environment(
        reset=reset,
        step=step,
        describe=describe,
        grammar=text.legal_strings(tokenizer, [*MOVES, " start"]),
        legal=lambda state: (jnp.arange(len(MOVES) + 1) == START) == (state.num_steps == 0),
        max_steps=1 + max_moves,
        expert=expert,
        state_hash=lambda state: (state.num_steps * num_cells + state.cell).astype(jnp.uint32),
        answer_capacity=say_place(at=0).ids.shape[0],
    )


def neighbours(size: int) -> np.ndarray:
    """Returns the cell to which each move leads, int `[cells, 4]`: at a border, the cell itself.

    Args:
      size: cells of a side.
    """
    row, column = np.divmod(np.arange(size * size), size)
    moved = [(row, np.maximum(column - 1, 0)), (np.minimum(row + 1, size - 1), column)]
    moved += [(row, np.minimum(column + 1, size - 1)), (np.maximum(row - 1, 0), column)]
    return np.stack([to_row * size + to_column for to_row, to_column in moved], axis=1)


def _distances(is_hole: jax.Array, goal: jax.Array, next_cell: jax.Array, most: int) -> jax.Array:
    """Returns the number of moves from each cell to the goal, int32 `[cells]`; `most + 1` for holes and for what is farther away."""
    far = jnp.full(is_hole.shape, most + 1, jnp.int32)

    def nearer(distance: jax.Array, _) -> tuple[jax.Array, None]:
        distance = jnp.minimum(distance, 1 + jnp.min(distance[next_cell], axis=-1))
        return jnp.where(is_hole, most + 1, distance), None

    return jax.lax.scan(nearer, far.at[goal].set(0), length=most)[0]


def search_order(state: MazeState, size: int) -> jax.Array:
    """Returns the order in which a breadth-first search from the goal meets the cells, int32 `[cells]`; `cells` for what it never meets.

    Neighbours are met in the order of `MOVES`. The neighbour that was met first is the next cell of a shortest path to the goal.

    Args:
      state: state of the environment.
      size: cells of a side.
    """
    num_cells = size * size
    met_by = jnp.asarray(neighbours(size)[:, [2, 3, 0, 1]], jnp.int32)  # the cell from which each move, in its order, leads here

    def meet(rank: jax.Array, count: jax.Array) -> tuple[jax.Array, None]:
        turn = jnp.min(rank[met_by] * len(MOVES) + jnp.arange(len(MOVES)), axis=-1)
        turn = jnp.where(state.is_hole | (rank < num_cells), num_cells * len(MOVES), turn)
        first = jnp.argmin(turn)
        return jnp.where((jnp.arange(num_cells) == first) & (turn[first] < num_cells * len(MOVES)), count, rank), None

    rank = jnp.full(num_cells, num_cells, jnp.int32).at[state.goal].set(0)
    return jax.lax.scan(meet, rank, jnp.arange(1, num_cells, dtype=jnp.int32))[0]


def expert_path(state: MazeState, size: int, length: int) -> jax.Array:
    """Returns the next cells of a shortest path to the goal, int32 `[length]`; the goal fills the rest.

    Args:
      state: state of the environment.
      size: cells of a side.
      length: number of cells.
    """
    next_cell, rank = jnp.asarray(neighbours(size), jnp.int32), search_order(state, size)

    def follow(cell: jax.Array, _) -> tuple[jax.Array, jax.Array]:
        cell = jnp.where(cell == state.goal, cell, next_cell[cell, jnp.argmin(rank[next_cell[cell]])])
        return cell, cell

    return jax.lax.scan(follow, state.cell, length=length)[1]


def _detours(state: MazeState, size: int) -> jax.Array:
    """Returns the length of the way from the agent to the goal over each cell, were there no holes, int32 `[cells]`."""
    row, column = jnp.divmod(jnp.arange(size * size), size)
    far = lambda cell: abs(row - cell // size) + abs(column - cell % size)
    return far(state.cell) + far(state.goal)


def success_probabilities(states: MazeState, size: int, slip: float, num_moves: int, sees: bool, cost: float = 0.0) -> np.ndarray:
    """Computes the expected outcome of the walk by backward induction.

    Args:
      states: states `[N]` at the start.
      size: cells of a side.
      slip: probability that a move slips.
      num_moves: most moves.
      sees: whether the moves are the best ones of whoever sees the map; otherwise they are uniform.
      cost: cost of a move.

    Returns:
      float64 `[N]`.
    """
    next_cell, is_hole, goal = neighbours(size), np.asarray(states.is_hole), np.asarray(states.goal)
    is_goal = goal[:, None] == np.arange(size * size)
    value = np.zeros(is_hole.shape)
    for _ in range(num_moves):
        after = np.where(is_goal, 1.0, np.where(is_hole, 0.0, value))[:, next_cell]
        sides = (np.roll(after, 1, axis=-1) + np.roll(after, -1, axis=-1)) / 2
        of_move = (1 - slip) * after + slip * sides - cost
        value = of_move.max(-1) if sees else of_move.mean(-1)
    return value[np.arange(len(goal)), np.asarray(states.cell)]


def _check(size: int, longest: int, hole_probability: float, slip: float, max_moves: int) -> None:
    """Raises an `ArlError` for a maze that is impossible."""
    if not 2 <= size <= MAX_SIZE:
        raise ArlError(f"A maze of {size} x {size} cells has no way, or no names for its cells; set size to 2, ..., {MAX_SIZE}.")
    if not 1 <= longest < size * size:
        raise ArlError(f"A path of {longest} moves does not exist on {size * size} cells; set longest to 1, ..., {size * size - 1}.")
    if max_moves < longest:
        raise ArlError(f"A path of {longest} moves cannot be walked in {max_moves}; set max_moves to at least {longest}.")
    if not 0 <= hole_probability < 1:
        raise ArlError(f"A hole_probability of {hole_probability} is impossible; set it to at least 0 and below 1.")
    if not 0 <= slip < 1:
        raise ArlError(f"A slip of {slip} is impossible; set it to at least 0 and below 1.")


@dataclasses.dataclass(frozen=True)
class BlindMaze(Checked):
    """Config of the maze; fields as the arguments of `make_blind_maze`.

    The optimum is that of whoever sees the map all the time: without slips whoever plans reaches it too, with slips it is a bound. With
    slips, or with holes, it and the random baseline are means over 4,096 maps.

    The expert's plan names the next `longest` cells. Its thought names the cells that a breadth-first search from the goal meets, up to
    that of the agent: the neighbour that comes first in it is the next cell of a shortest path. Its note names the goal, then the holes,
    first those nearest to the way, no more cells than a plan.
    """

    size: int = 4
    longest: int = 6
    hole_probability: float = 0.3
    slip: float = 0.0
    max_moves: int = 10

    def make(self, tokenizer: Any) -> Task:
        """Returns the task.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_blind_maze(tokenizer, self.size, self.longest, self.hole_probability, self.slip, self.max_moves)
        places = tuple(f" {cell}" for cell in range(self.size**2))
        names = text.stack([text.token_ids(tokenizer, place) for place in places])

        def say(cells: jax.Array, count: int | jax.Array) -> Text:
            return text.concatenate(*(text.only_if(i < count, text.lookup(names, cell)) for i, cell in enumerate(cells)))

        def plan(key: jax.Array, state: MazeState, attempt: jax.Array) -> Text:
            return say(expert_path(state, self.size, self.longest), self.longest)

        def thought(key: jax.Array, state: MazeState, attempt: jax.Array) -> Text:
            rank = search_order(state, self.size)
            return say(jnp.argsort(rank), rank[state.cell] + 1)

        def note(key: jax.Array, state: MazeState, attempt: jax.Array) -> Text:
            cells = jnp.argsort(jnp.where(state.is_hole, _detours(state, self.size), 2 * self.size * self.size))
            return say(jnp.append(state.goal, cells)[: self.longest], 1 + jnp.sum(state.is_hole))

        experts: dict[Kind, TaskExpert] = {Kind.PLAN: plan, Kind.THINK: thought, Kind.NOTE: note}
        return Task(
            environment,
            tokenizer,
            bounds=lambda limits: self._bounds(environment, limits),
            experts=lambda limits: experts,
            note_symbols=places,
        )

    def _bounds(self, environment: Environment, limits: Limits) -> Bounds:
        states = jax.device_get(jax.jit(jax.vmap(environment.reset))(jax.random.split(jax.random.key(0), NUM_MAPS)))
        num_moves, cost = min(self.max_moves, (limits.time_limit or self.max_moves + 1) - 1), limits.step_cost
        of = lambda sees: success_probabilities(states, self.size, self.slip, num_moves, sees, cost).mean() - cost
        random, optimal = (float(of(sees)) * limits.num_attempts for sees in (False, True))
        is_exact = not self.slip and not cost and num_moves >= self.longest
        late_goal, early_hole = 1.0 - cost * (1 + num_moves), -2.0 * cost
        if late_goal <= early_hole:
            says = f"{num_moves} moves that cost {cost} each make a late goal worth no more than an early hole"
            raise ArlError(f"{says}; set Act.step_cost below 1 / {num_moves - 1}")
        return Bounds(random, optimal, (late_goal + early_hole) / 2, "exact" if is_exact else "bound")
