"""The blind maze, against searches, walks and expectations in plain Python."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, text
from arl.envs import blind_maze
from arl.envs.blind_maze import MazeState
from arl.task import Limits
from arl.types import ArlError, Kind

LEFT, DOWN, RIGHT, UP, START = range(5)
NAMES = {(0, -1): LEFT, (1, 0): DOWN, (0, 1): RIGHT, (-1, 0): UP}
BESIDE = {LEFT: (DOWN, UP), DOWN: (LEFT, RIGHT), RIGHT: (DOWN, UP), UP: (LEFT, RIGHT)}


# ---------------------------------------------------------------- a maze in plain Python


def moved(cell, size):
    """The cells to which the four moves lead."""
    row, column = divmod(cell, size)
    found = [cell] * 4
    for (down, right), move in NAMES.items():
        if 0 <= row + down < size and 0 <= column + right < size:
            found[move] = (row + down) * size + column + right
    return found


def search(holes, goal, size):
    """The number of moves to the goal from each cell that has a way, breadth first."""
    found, wave = {goal: 0}, [goal]
    while wave:
        cell = wave.pop(0)
        for other in moved(cell, size):
            if other not in found and not holes[other]:
                found[other] = found[cell] + 1
                wave.append(other)
    return found


def expected(holes, goal, cell, size, slip, num_moves, sees, cost):
    """The expected outcome of all that may follow, added up branch by branch."""
    if cell == goal or holes[cell] or not num_moves:
        return float(cell == goal)
    after = [expected(holes, goal, to, size, slip, num_moves - 1, sees, cost) for to in moved(cell, size)]
    of_move = [(1 - slip) * after[move] + slip / 2 * sum(after[beside] for beside in BESIDE[move]) - cost for move in range(4)]
    return max(of_move) if sees else sum(of_move) / 4


@functools.cache
def drawn(size, longest, hole_probability, num_mazes):
    """States at the start, on the host."""
    environment = blind_maze.make_blind_maze(text.load_tokenizer(), size, longest, hole_probability, max_moves=longest)
    keys = jax.random.split(jax.random.key(1), num_mazes)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(environment.reset))(keys))


def state_of(holes, goal, cell, num_steps=0):
    return MazeState(jnp.asarray(holes, bool), jnp.int32(goal), jnp.int32(cell), jnp.int32(num_steps))


# ---------------------------------------------------------------- maps


@pytest.mark.parametrize(("size", "most"), [(4, 3), (4, 16), (5, 25)])
def test_distances_are_those_of_a_search(size, most):
    states = drawn(size, 6, 0.4, 300)
    distances = functools.partial(blind_maze._distances, next_cell=jnp.asarray(blind_maze.neighbours(size)), most=most)
    found = np.asarray(jax.jit(jax.vmap(distances))(states.is_hole, states.goal))
    farthest = 0
    for holes, goal, distance in zip(states.is_hole, states.goal, found, strict=True):
        wanted = search(holes, goal, size)
        assert distance.tolist() == [min(wanted.get(cell, most + 1), most + 1) for cell in range(size**2)]
        farthest = max(farthest, *wanted.values())
    assert farthest > 8, "ways lead around holes"


@pytest.mark.parametrize(("size", "longest", "hole_probability"), [(4, 6, 0.3), (7, 9, 0.2), (3, 4, 0.6), (2, 1, 0.0)])
def test_the_distance_of_the_start_is_uniform_as_far_as_a_map_goes(size, longest, hole_probability):
    """And every cell that is so far away is as likely."""
    num_mazes, num_at, probability, ranks = 3000, np.zeros(longest + 1), np.zeros((3000, longest + 1)), []
    states = drawn(size, longest, hole_probability, num_mazes)
    for index, (holes, goal, start) in enumerate(zip(states.is_hole, states.goal, states.cell, strict=True)):
        found = search(holes, goal, size)
        assert start != goal and start in found, "the goal can be reached"
        num_at[found[start]] += 1
        farthest = min(longest, max(found.values()))
        probability[index, 1:farthest] = 1 / longest
        probability[index, farthest] = (longest - farthest + 1) / longest
        equal = sorted(cell for cell, distance in found.items() if distance == found[start])
        ranks.append((equal.index(start) + 0.5) / len(equal))
    error = np.sqrt((probability * (1 - probability)).sum(0))
    assert (abs(num_at - probability.sum(0)) <= 4 * error + 1e-6).all() and num_at[0] == 0 and num_at[1:].all()
    assert abs(np.mean(ranks) - 0.5) <= 4 * np.std(ranks) / np.sqrt(num_mazes)


def test_goals_are_uniform_and_holes_as_frequent_as_they_should_be():
    """A map without holes stands for one whose goal is shut in; beside a goal there are therefore fewer."""
    states = drawn(3, 8, 0.8, 3000)
    share = np.bincount(states.goal, minlength=9) / 3000
    assert (abs(share - 1 / 9) <= 4 * np.sqrt(1 / 9 * 8 / 9 / 3000)).all()
    num_beside = np.array([len(set(moved(goal, 3)) - {goal}) for goal in states.goal])
    no_holes = ~states.is_hole.any(1)
    for count in (2, 3, 4):
        shut, here = 0.8**count, num_beside == count
        far = np.array([[cell != goal and cell not in moved(goal, 3) for cell in range(9)] for goal in states.goal])
        found, wanted = states.is_hole[far & here[:, None]].mean(), 0.8 * (1 - shut)
        assert abs(found - wanted) <= 5 * np.sqrt(1 / here.sum())
        assert abs(no_holes[here].mean() - shut) <= 4 * np.sqrt(shut * (1 - shut) / here.sum()) + 0.2**8
    assert not drawn(2, 1, 0.0, 3000).is_hole.any()


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(("size", "longest", "hole_probability"), [(4, 6, 0.3), (7, 9, 0.2)])
def test_the_map_that_is_read_is_the_map_that_is(tokenizer, size, longest, hole_probability):
    environment = blind_maze.make_blind_maze(tokenizer, size, longest, hole_probability, max_moves=longest)
    states = drawn(size, longest, hole_probability, 3000)
    states = jax.tree.map(lambda x: x[:40], states)
    first = jax.tree.map(np.asarray, jax.jit(jax.vmap(environment.describe))(states))
    walking = states._replace(num_steps=np.arange(1, 41, dtype=np.int32))
    later = jax.tree.map(np.asarray, jax.jit(jax.vmap(environment.describe))(walking))
    for index in range(40):
        holes, goal, cell = states.is_hole[index], states.goal[index], states.cell[index]
        said = text.to_string(tokenizer, jax.tree.map(lambda x, i=index: x[i], first))
        cells, *places = re.fullmatch(r"Map((?: \d+)+) goal (\d+) at (\d+):", said).groups()
        assert [int(mark) - number for number, mark in enumerate(cells.split())] == [50 * hole for hole in holes]
        assert [int(place) for place in places] == [goal, cell]
        after = jax.tree.map(lambda x, i=index: x[i], later)
        assert text.to_string(tokenizer, after) == f" at {cell}:" and after.length == environment.answer_capacity
    assert first.ids.shape[1] == first.length.max() == later.ids.shape[1] == size**2 + 6


def test_text_of_a_walk(tokenizer):
    environment = blind_maze.make_blind_maze(tokenizer, 2, 2)
    state = state_of([0, 1, 0, 0], goal=3, cell=0)
    parts = [environment.describe(state)]
    for action in (START, UP, DOWN, RIGHT):
        state, _ = environment.step(jax.random.key(0), state, jnp.int32(action))
        parts += [text.say_choice(environment.grammar, action), environment.describe(state)]
    said = text.concatenate(*parts)
    assert text.to_string(tokenizer, said) == "Map 0 51 2 3 goal 3 at 0: start at 0: up at 0: down at 2: right at 3:"
    assert text.check_text(tokenizer, said) == []


# ---------------------------------------------------------------- steps


def test_a_walk_begins_once_and_is_one_of_moves_from_then_on(tokenizer):
    environment = blind_maze.make_blind_maze(tokenizer, 3, 4, max_moves=9)
    legal = jax.jit(environment.legal)
    first, *later = [list(np.asarray(legal(state_of([0] * 9, 8, 0, num_steps)))) for num_steps in range(10)]
    assert first == [False] * 4 + [True] and all(each == [True] * 4 + [False] for each in later)


@pytest.mark.parametrize("max_moves", [6, 40])
def test_rewards_and_ends_are_those_of_a_plain_walk(tokenizer, max_moves):
    """The goal pays 1, once; it, a hole, and the last move end the walk, and nothing moves after an end. Borders hold."""
    size, num_lanes, num_steps = 3, 60, 44
    environment = blind_maze.make_blind_maze(tokenizer, size, 6, 0.3, max_moves=max_moves)
    states = jax.tree.map(lambda x: x[:num_lanes], drawn(size, 6, 0.3, 3000))
    actions = np.random.default_rng(0).integers(0, 4, (num_lanes, num_steps))
    actions[:, 0] = START

    def walk(state, actions):
        def step(state, action):
            state, result = environment.step(jax.random.key(0), state, action)
            return state, (state.cell, result)

        return jax.lax.scan(step, state, actions)[1]

    cells, results = jax.tree.map(np.asarray, jax.jit(jax.vmap(walk))(states, actions))
    ends = set()
    for lane in range(num_lanes):
        holes, goal, cell = states.is_hole[lane], states.goal[lane], states.cell[lane]
        is_over, found = False, []
        for index, action in enumerate(actions[lane].tolist()):
            cell = cell if is_over or action == START else moved(cell, size)[action]
            paid, is_last = float(cell == goal and not is_over), index == max_moves
            if not is_over and (cell == goal or holes[cell] or is_last):
                is_over = True
                ends.add("goal" if cell == goal else "hole" if holes[cell] else "last move")
            found.append((cell, paid, is_over))
        wanted = list(zip(cells[lane].tolist(), results.reward[lane].tolist(), results.terminated[lane].tolist(), strict=True))
        assert found == wanted
    assert not results.truncated.any() and environment.max_steps == max_moves + 1
    assert ends == {"goal", "hole", "last move"} if max_moves == 6 else {"goal", "hole"} <= ends


@pytest.mark.parametrize("slip", [0.0, 0.4])
def test_a_move_slips_to_its_two_sides_alone(tokenizer, slip):
    environment, num_draws = blind_maze.make_blind_maze(tokenizer, 3, 4, slip=slip), 4000
    state = state_of([0] * 9, goal=0, cell=4, num_steps=1)
    step = jax.jit(jax.vmap(lambda key, move: environment.step(key, state, move)[0].cell))
    for move in range(4):
        reached = np.asarray(step(jax.random.split(jax.random.key(move), num_draws), jnp.full(num_draws, move)))
        share = {to: np.mean(reached == moved(4, 3)[to]) for to in range(4)}
        for to, wanted in {move: 1 - slip, **dict.fromkeys(BESIDE[move], slip / 2)}.items():
            assert abs(share[to] - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / num_draws)
        assert sum(share.values()) == pytest.approx(1) and len([to for to in share if share[to]]) == (3 if slip else 1)
    begun = environment.step(jax.random.key(0), state._replace(num_steps=jnp.int32(0)), jnp.int32(START))[0]
    assert (int(begun.cell), int(begun.num_steps)) == (4, 1), "the start does not slip"


def test_place_and_time_are_the_state_hash(tokenizer):
    environment = blind_maze.make_blind_maze(tokenizer, 3, 4)
    states = [state_of([0] * 9, 8, cell, num_steps) for cell in range(9) for num_steps in range(12)]
    assert len({int(environment.state_hash(state)) for state in states}) == len(states)
    assert environment.state_hash(states[0]) == environment.state_hash(state_of([0, 1] + [0] * 7, 5, 0)), "the rest is read once"


# ---------------------------------------------------------------- experts


@pytest.mark.parametrize(("size", "longest", "hole_probability"), [(4, 6, 0.3), (6, 12, 0.25)])
def test_an_expert_takes_a_shortest_way(tokenizer, episodes, size, longest, hole_probability):
    environment = blind_maze.make_blind_maze(tokenizer, size, longest, hole_probability, max_moves=longest)
    returns, num_steps, is_over = episodes(environment, environment.expert, 3, 1000, longest + 1)
    keys = jax.random.split(jax.random.split(jax.random.key(3))[0], 1000)  # those with which the episodes begin
    states = jax.tree.map(np.asarray, jax.jit(jax.vmap(environment.reset))(keys))
    distances = [search(*rest, size)[cell] for *rest, cell in zip(states.is_hole, states.goal, states.cell, strict=True)]
    assert is_over.all() and np.all(returns == 1.0) and num_steps.tolist() == [1 + distance for distance in distances]
    assert max(distances) == longest


@functools.cache
def said_by_experts(kind, size=4, longest=5, num_mazes=200):
    """Mazes `(holes, goal, cell)` on the host, each with the cells that the expert of a kind names."""
    tokenizer = text.load_tokenizer()
    task = envs.BlindMaze(size, longest, 0.35).make(tokenizer)
    states = jax.tree.map(lambda x: x[:num_mazes], drawn(size, longest, 0.35, 300))
    write = jax.jit(jax.vmap(lambda state: task.experts(Limits())[kind](jax.random.key(0), state, jnp.int32(0))))
    texts = jax.tree.map(np.asarray, write(states))
    strings = [text.to_string(tokenizer, jax.tree.map(lambda x, i=i: x[i], texts)) for i in range(num_mazes)]
    cells = [[int(cell) for cell in said.split()] for said in strings]
    assert strings == ["".join(f" {cell}" for cell in said) for said in cells]
    return list(zip(states.is_hole, states.goal, states.cell, cells, strict=True))


def test_an_expert_plans_a_shortest_way_and_stays_at_the_goal():
    filled = 0
    for holes, goal, cell, path in said_by_experts(Kind.PLAN):
        distance = search(holes, goal, 4)[cell]
        assert len(path) == 5
        for before, after in zip([cell, *path], path[:distance], strict=False):
            assert after in moved(before, 4) and not holes[after]
        assert goal not in path[: distance - 1] and set(path[distance - 1 :]) == {goal}
        filled += distance < 5
    assert 0 < filled < 200


@pytest.mark.parametrize("size", [4, 6])
def test_an_expert_thinks_of_the_cells_of_a_search_until_it_meets_the_agent(size):
    for holes, goal, cell, thought in said_by_experts(Kind.THINK, size):
        met = list(search(holes, goal, size))
        assert thought == met[: met.index(cell) + 1]


def test_a_thought_leads_to_the_plan():
    """The next cell of the plan is the neighbour that comes first in the thought."""
    for (*_, cell, thought), (*_, plan) in zip(said_by_experts(Kind.THINK), said_by_experts(Kind.PLAN), strict=True):
        for after in plan:
            cell = cell if cell == thought[0] else min((to for to in moved(cell, 4) if to in thought), key=thought.index)
            assert after == cell


def test_an_expert_notes_the_goal_and_the_holes_nearest_to_the_way():
    far = lambda a, b: sum(abs(x - y) for x, y in zip(divmod(a, 4), divmod(b, 4), strict=True))
    for holes, goal, cell, (first, *rest) in said_by_experts(Kind.NOTE):
        detour = lambda hole, cell=cell, goal=goal: far(cell, hole) + far(hole, goal)
        left_out = set(np.flatnonzero(holes)) - set(rest)
        assert first == goal and holes[rest].all() and len(set(rest)) == len(rest) == min(4, holes.sum())
        assert sorted(map(detour, rest)) == list(map(detour, rest)) and all(detour(rest[-1]) <= detour(hole) for hole in left_out)


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("sees", [False, True])
@pytest.mark.parametrize(("slip", "cost"), [(0.0, 0.0), (0.0, 0.125), (0.3, 0.0), (0.3, 0.0625)])
@pytest.mark.parametrize(("size", "num_moves"), [(2, 4), (3, 5)])
def test_what_a_walk_is_worth_is_what_all_its_branches_are(size, num_moves, slip, cost, sees):
    states = jax.tree.map(lambda x: x[:12], drawn(size, 3, 0.4, 64))
    found = blind_maze.success_probabilities(states, size, slip, num_moves, sees, cost)
    mazes = zip(states.is_hole, states.goal, states.cell, strict=True)
    wanted = [expected(*maze, size, slip, num_moves, sees, cost) for maze in mazes]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert len(set(wanted)) > 2 or (sees and not slip)


def agree(samples, expected, num_maps=blind_maze.NUM_MAPS):
    """Whether a mean is within three standard errors of one over other maps."""
    error = np.std(samples) * np.sqrt(1 / len(samples) + 1 / num_maps)
    return abs(np.mean(samples) - expected) <= 3 * error


@pytest.mark.parametrize(
    ("config", "num_steps", "cost"),
    [
        (envs.BlindMaze(), 0, 0.0),
        (envs.BlindMaze(3, 4, 0.2, slip=0.3, max_moves=8), 0, 0.0),
        (envs.BlindMaze(3, 4, 0.2, max_moves=9), 5, 0.0625),
    ],
)
def test_bounds_are_what_is_earned(tokenizer, episodes, uniform, config, num_steps, cost):
    """By random moves; and by an expert, as much as can be, unless it slips."""
    task = config.make(tokenizer)
    environment, bounds = task.environment, task.bounds(Limits(num_steps, cost))
    length = num_steps or environment.max_steps

    def earned(policy):
        returns, taken, _ = episodes(environment, policy, 5, 6000, length)
        return returns - cost * taken

    by_chance, by_expert = earned(uniform(environment)), earned(environment.expert)
    assert agree(by_chance, bounds.random) and bounds.random < by_expert.mean()
    if not config.slip:
        assert agree(by_expert, bounds.optimal)
    else:
        assert not agree(by_expert, 1.0) and by_expert.mean() <= bounds.optimal + 3 * by_expert.std() / 6000**0.5
    is_exact = config == envs.BlindMaze()
    assert (bounds.optimal == 1.0, bounds.optimal_is) == ((True, "exact") if is_exact else (False, "bound"))
    thrice = task.bounds(Limits(num_steps, cost, 3))
    assert (thrice.random, thrice.optimal, thrice.success_at) == pytest.approx((3 * bounds.random, 3 * bounds.optimal, bounds.success_at))


@pytest.mark.parametrize("num_steps", [0, 3, 8])
@pytest.mark.parametrize("cost", [0.0, 0.05, 0.11])
def test_a_success_is_told_from_a_failure(tokenizer, num_steps, cost):
    """The worst way to the goal takes all moves, and the best one to a hole takes one."""
    bounds = envs.BlindMaze().make(tokenizer).bounds(Limits(num_steps, cost))
    late_goal, early_hole = 1 - cost * (num_steps or 11), -2 * cost
    assert early_hole + 0.004 < bounds.success_at < late_goal - 0.004


# ---------------------------------------------------------------- refusals


def test_a_goal_that_is_worth_no_more_than_a_hole_is_refused(tokenizer):
    with pytest.raises(ArlError, match="10 moves that cost 0.125 each make .*; set Act.step_cost below 1 / 9$"):
        envs.BlindMaze().make(tokenizer).bounds(Limits(0, 0.125))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(size=1), "1 x 1 cells .*; set size to 2, ..., 7"),
        (dict(size=8), "8 x 8 cells .*; set size to 2, ..., 7"),
        (dict(longest=0), "A path of 0 moves .*; set longest to 1, ..., 15"),
        (dict(size=2, longest=4), "A path of 4 moves .* on 4 cells; set longest to 1, ..., 3"),
        (dict(max_moves=5), "cannot be walked in 5; set max_moves to at least 6"),
        (dict(hole_probability=1.0), "hole_probability of 1.0 is impossible"),
        (dict(hole_probability=-0.1), "hole_probability of -0.1 is impossible"),
        (dict(hole_probability=float("nan")), "hole_probability of nan is impossible"),
        (dict(slip=1.0), "A slip of 1.0 is impossible"),
        (dict(slip=-0.5), "A slip of -0.5 is impossible"),
    ],
)
def test_a_maze_that_cannot_be_is_refused(tokenizer, options, says):
    with pytest.raises(ArlError, match=says) as error:
        envs.BlindMaze(**options).make(tokenizer)
    assert "\n" not in str(error.value) and str(error.value).count(". ") == 0
