import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import minesweeper as mines
from arl.envs import minesweeper_oracle
from tests.second_tokenizer import second_tokenizer


def brute_force(size, num_mines, num_attempts, combine):
    """Value of a game over all orders of all cells, `combine`d from the values of the closed cells; nothing is taken to be obvious."""
    boards, counts = mines.all_boards(size, num_mines)
    num_cells = size * size

    @functools.cache
    def value(possible, opened, attempts):
        """Possible boards (their indices), the cells open in this attempt, and the attempts left, this one included."""
        if attempts == 0:
            return 0.0
        if len(opened) == num_cells - num_mines:
            return value(possible, frozenset(), attempts - 1)
        values = []
        for cell in set(range(num_cells)) - opened:
            total, told = 0.0, {}
            for board in possible:
                told.setdefault(-1 if boards[board, cell] else counts[board, cell], set()).add(board)
            for found, part in told.items():
                goes_on = (frozenset(part), frozenset(), attempts - 1) if found < 0 else (frozenset(part), opened | {cell}, attempts)
                total += len(part) * ((found >= 0) / (num_cells - num_mines) + value(*goes_on))
            values.append(total / len(possible))
        return combine(values)

    return value(frozenset(range(len(boards))), frozenset(), num_attempts)


@pytest.mark.parametrize("size, num_mines, num_attempts", [(2, 1, 1), (2, 1, 3), (2, 2, 2), (2, 3, 3), (3, 1, 1), (3, 2, 1), (3, 7, 2)])
def test_optimum_is_the_best_of_all_orders_and_the_baseline_their_mean(size, num_mines, num_attempts):
    assert mines.optimal_return(size, num_mines, num_attempts) == pytest.approx(brute_force(size, num_mines, num_attempts, max))
    if num_attempts == 1:
        assert mines.random_return(num_mines) == pytest.approx(brute_force(size, num_mines, 1, np.mean))


def test_closed_forms():
    # With one mine that is not hit at once its place is soon known: at most the first cell is lost, once.
    assert mines.optimal_return(3, 1) == pytest.approx(8 / 9)
    assert mines.optimal_return(3, 1, 5) == pytest.approx(5 - 1 / 9)
    # One safe cell among four, no count tells anything: it is found in the k-th attempt.
    assert mines.optimal_return(2, 3, 4) == pytest.approx(np.mean([4, 3, 2, 1]))
    assert mines.random_return(5) == pytest.approx(1 / 6) and mines.random_return(5, 3) == pytest.approx(1 / 2)
    assert mines.bound_return(6, 5, 2) == pytest.approx(2 - 5 / 36)


@pytest.mark.parametrize("size, num_mines", [(3, 1), (3, 2), (3, 3), (3, 4), (4, 2)])
def test_optimum_lies_between_baseline_and_bound_and_attempts_add_to_it(size, num_mines):
    optimum = [mines.optimal_return(size, num_mines, attempts) for attempts in (1, 2, 3)]
    gains = np.diff([0.0, *optimum])
    assert np.all(gains[1:] > gains[0]) and np.all(gains <= 1.0 + 1e-9)  # what was learned helps, to at most the whole board
    for attempts, value in enumerate(optimum, 1):
        assert mines.random_return(num_mines, attempts) < value <= mines.bound_return(size, num_mines, attempts) + 1e-9


@pytest.mark.parametrize("size, num_mines, num_attempts", [(3, 2, 1), (3, 2, 3), (3, 3, 2)])
def test_play_over_attempts_earns_the_bayes_bound(size, num_mines, num_attempts):
    """The solution's actions, played on every board by somebody who keeps the boards that fit all that was ever shown."""
    boards, counts = mines.all_boards(size, num_mines)
    solved = mines.solve(size, num_mines, num_attempts)

    def play(board):
        earned, fits = 0, np.ones(len(boards), bool)
        for attempts in range(num_attempts, 0, -1):
            opened = np.zeros(size * size, bool)
            while opened.sum() < size * size - num_mines:
                sure = ~boards[fits].any(0) & ~opened
                cell = np.argmax(sure) if sure.any() else solved[np.flatnonzero(fits).astype(np.int32).tobytes(), attempts][1]
                fits &= boards[:, cell] == boards[board, cell]
                if boards[board, cell]:
                    break
                fits &= counts[:, cell] == counts[board, cell]
                opened[cell] = True
            earned += opened.sum() / (size * size - num_mines)
        return earned

    mean = np.mean([play(board) for board in range(len(boards))])
    assert mean == pytest.approx(mines.optimal_return(size, num_mines, num_attempts))


@pytest.mark.parametrize("size, num_mines", [(3, 3), (4, 2)])
def test_expert_and_random_policy_earn_what_is_computed(tokenizer, episodes, uniform, agrees, size, num_mines):
    environment = mines.make_minesweeper(tokenizer, size, num_mines)
    returns, _, is_over = episodes(environment, environment.expert, 0, 6000, environment.max_steps)
    assert is_over.all() and agrees(returns, mines.optimal_return(size, num_mines))
    returns, _, is_over = episodes(environment, uniform(environment), 1, 6000, environment.max_steps)
    assert is_over.all() and agrees(returns, mines.random_return(num_mines))


@pytest.mark.parametrize("size, num_mines, least", [(4, 3, 0.97), (6, 5, 0.8)])
def test_expert_of_a_large_board_is_between_baseline_and_bound(tokenizer, episodes, uniform, agrees, size, num_mines, least):
    """By exact chances it is nearly optimal; by deduction it earns most of what one who sees the board would."""
    environment = mines.make_minesweeper(tokenizer, size, num_mines)
    bound = mines.optimal_return(4, 3) if size == 4 else mines.bound_return(size, num_mines)
    mean = episodes(environment, environment.expert, 0, 1500, environment.max_steps)[0].mean()
    floor = mines.random_return(num_mines)
    assert (mean - floor) / (bound - floor) > least and mean < bound + 0.03
    assert agrees(episodes(environment, uniform(environment), 1, 3000, environment.max_steps)[0], floor)


def shown_at_random(size, num_mines, num_boards, seed):
    """Returns int `[num_boards, cells]`: what is shown of random boards when some random safe cells are open."""
    generator = np.random.default_rng(seed)
    boards, counts = mines.all_boards(size, num_mines)
    which = generator.integers(len(boards), size=num_boards)
    is_open = ~boards[which] & (generator.random((num_boards, size * size)) < generator.random((num_boards, 1)))
    return np.where(is_open, 1 + counts[which], 0)


def test_deduction_is_right_and_finds_most(tokenizer):
    cells = shown_at_random(4, 3, 600, 0)
    exact = np.asarray(jax.vmap(mines._chances_by_counting(4, 3))(jnp.asarray(cells)))
    deduced = np.asarray(jax.vmap(mines._chances_by_deduction(4, 3))(jnp.asarray(cells)))
    is_closed = cells == 0
    for certain in (0.0, 1.0):
        found, is_so = is_closed & (deduced == certain), is_closed & (exact == certain)
        assert np.all(is_so[found]) and found.sum() > 0.9 * is_so.sum() > 0
    assert np.all((deduced >= 0) & (deduced <= 1))


def test_chances_by_counting():
    chances = mines._chances_by_counting(3, 2)
    assert np.asarray(chances(jnp.zeros(9, jnp.int32))) == pytest.approx(2 / 9)
    cells = jnp.zeros(9, jnp.int32).at[4].set(1 + 2).at[0].set(1 + 2)  # two around the centre, and both touch the corner
    expected = np.array([0, 1, 0, 1, 0, 0, 0, 0, 0])
    assert np.asarray(chances(cells)) == pytest.approx(expected)


def test_expert_uses_what_is_seen_alone(tokenizer):
    """Boards that show the same are played the same, whatever they hide."""
    environment = mines.make_minesweeper(tokenizer, 3, 2)
    boards, counts = mines.all_boards(3, 2)
    states = [mines.MinesweeperState(jnp.asarray(b), jnp.arange(9) == 0, jnp.int32(0)) for b in boards if not b[0]]
    played = {}
    for state, count in zip(states, (c[0] for b, c in zip(boards, counts) if not b[0]), strict=True):
        played.setdefault(int(count), set()).add(int(environment.expert(jax.random.key(0), state)))
    assert len(played) == 3 and all(len(cells) == 1 for cells in played.values())


def test_rewards_and_ends(tokenizer):
    environment = mines.make_minesweeper(tokenizer, 3, 2)
    board = jnp.zeros(9, bool).at[jnp.array([0, 8])].set(True)

    def play(cells):
        state, heard = environment.reset(jax.random.key(0))._replace(mines=board), []
        for cell in cells:
            state, answer = environment.step(jax.random.key(1), state, jnp.int32(cell))
            heard.append((round(float(answer.reward) * 7), bool(answer.terminated), int(environment.legal(state).sum())))
            assert not answer.truncated
        return heard

    assert play([4, 0, 1, 8]) == [(1, False, 8), (0, True, 7), (0, True, 7), (0, True, 7)]  # an end is an end
    assert play([4, 4, 1]) == [(1, False, 8), (0, False, 8), (1, False, 7)]  # what is open is not paid again
    won = play([1, 2, 3, 4, 5, 6, 7, 0])
    assert [x[0] for x in won] == [1] * 7 + [0] and [x[1] for x in won] == [False] * 6 + [True] * 2
    assert environment.max_steps == 7


def test_boards_are_uniform_and_the_same_key_gives_the_same(tokenizer):
    environment = mines.make_minesweeper(tokenizer, 3, 2)
    keys = jax.random.split(jax.random.key(0), 9000)
    drawn = np.asarray(jax.vmap(environment.reset)(keys).mines)
    assert np.all(drawn.sum(1) == 2)
    boards, _ = mines.all_boards(3, 2)
    counts = (drawn.astype(int) @ boards.T.astype(int) == 2).sum(0)
    assert counts.sum() == 9000 and np.all(abs(counts - 250) < 4.5 * np.sqrt(250))
    assert np.array_equal(drawn[5], environment.reset(keys[5]).mines)


@pytest.mark.parametrize("size, num_mines, num_attempts", [(2, 2, 3), (3, 2, 3), (3, 3, 2)])
def test_plans_earn_the_optimum_and_agree_until_something_differs(size, num_mines, num_attempts):
    boards, counts = mines.all_boards(size, num_mines)
    opened, known = mines.plans(size, num_mines, num_attempts)
    earned, seen, noted = 0.0, {}, {}
    for board, count, plan, notes in zip(boards, counts, opened, known):
        history = []
        for cells, note in zip(plan, notes):
            for cell in cells:
                assert seen.setdefault(tuple(history), cell) == cell, "it knows more than it has seen"
                history.append((cell, -1 if board[cell] else count[cell]))
                if board[cell]:
                    break
                earned += 1 / len(cells)
            note = tuple(note)
            assert noted.setdefault(tuple(history), note) == note, "it notes down more than it has seen"
            is_mine = board[list(note)]
            assert (np.diff(is_mine.astype(int)) >= 0).all() and len({cell for cell in note if board[cell]}) <= 1
    assert earned / len(boards) == pytest.approx(mines.optimal_return(size, num_mines, num_attempts))


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
@pytest.mark.parametrize(
    "shows_board, cells, expected",
    [
        (False, (4, 2, 0), "Map 3, hole 2: 4 2: 2 0: 0 hole\n"),
        (False, (1, 2, 3, 4, 5, 6, 7), "Map 3, hole 2: 1 1: 2 0: 3 1: 4 2: 5 1: 6 0: 7 1 won\n"),
        (True, (2, 8), "Map 3, hole 2:\nX X X\nX X X\nX X X\nTry: 2 0\nX X 0\nX X X\nX X X\nTry: 8 hole\n"),
    ],
)
def test_text_of_an_episode(load, shows_board, cells, expected):
    tokenizer = load()
    environment = mines.make_minesweeper(tokenizer, 3, 2, shows_board)
    state = environment.reset(jax.random.key(0))._replace(mines=jnp.zeros(9, bool).at[jnp.array([0, 8])].set(True))
    parts = [environment.describe(state)]
    for cell in cells:
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(cell))
        parts += [text.say_choice(environment.grammar, cell), environment.describe(state)]
    said = text.concatenate(*parts)
    assert text.to_string(tokenizer, said) == expected and text.check_text(tokenizer, said) == []


def test_a_turn_is_three_tokens(tokenizer):
    environment = mines.make_minesweeper(tokenizer)
    state = environment.reset(jax.random.key(0))._replace(mines=jnp.arange(36) < 5)
    assert int(environment.describe(state).length) == environment.describe(state).ids.shape[0] == 6
    state, _ = environment.step(jax.random.key(0), state, jnp.int32(30))
    assert int(environment.describe(state).length) == 2 and text.longest(environment.grammar) == 1


@pytest.mark.parametrize("size, num_mines", [(3, 2), (4, 2)])
def test_what_is_shown_is_the_state_hash(tokenizer, size, num_mines):
    environment = mines.make_minesweeper(tokenizer, size, num_mines)
    boards, counts = mines.all_boards(size, num_mines)
    generator = np.random.default_rng(0)
    board = boards[generator.integers(len(boards), size=3000)]
    opened = generator.random(board.shape) < 0.5
    shown = np.where(opened, np.where(board, 10, 1 + board.astype(int) @ mines.neighbours(size)), 0)
    states = mines.MinesweeperState(jnp.asarray(board), jnp.asarray(opened), jnp.zeros(3000, jnp.int32))
    state_hash = np.asarray(jax.vmap(environment.state_hash)(states))
    assert len(np.unique(state_hash)) == len(np.unique(shown, axis=0)) == len(np.unique(np.c_[shown, state_hash], axis=0))


def test_a_batch_is_its_lanes(tokenizer):
    environment = mines.make_minesweeper(tokenizer, 5, 4)
    look = lambda state: (environment.describe(state), environment.expert(jax.random.key(0), state), environment.state_hash(state))

    def run(key):
        state = environment.reset(key)
        for cell in (7, 3):
            state, answer = environment.step(key, state, jnp.int32(cell))
        return state, answer, look(state)

    keys = jax.random.split(jax.random.key(3), 5)
    batch, one = jax.jit(jax.vmap(run))(keys), jax.jit(run)
    for lane in range(5):
        assert jax.tree.all(jax.tree.map(lambda a, b, i=lane: np.array_equal(a, b[i]), one(keys[lane]), batch))


@pytest.mark.parametrize(
    "size, num_mines, says",
    [(1, 1, "set size to 2, ..., 10"), (11, 1, "set size"), (3, 0, "set num_mines to 1, ..., 8"), (3, 9, "num_mines")],
)
def test_bad_arguments(tokenizer, size, num_mines, says):
    for function in (functools.partial(mines.make_minesweeper, tokenizer), mines.optimal_return, mines.bound_return):
        with pytest.raises(ValueError, match=says):
            function(size, num_mines)


def test_a_board_too_large_to_solve_has_a_bound():
    assert math.comb(36, 5) > minesweeper_oracle.MAX_SOLVED
    with pytest.raises(ValueError, match="bound_return"):
        mines.optimal_return(6, 5)
