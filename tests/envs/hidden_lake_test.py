import functools

import numpy as np
import pytest

from arl.envs import hidden_lake, lake_maps

POOL = ("SFFF", "FHFH", "FFFH", "HFFG"), ("SFFF", "FFHF", "HFFF", "FFFG"), ("SHFF", "FFFF", "FHHF", "FFFG")
SMALL = ("SFG", "FFF"), ("SHG", "FFF"), ("SFG", "HFF")  # one of two ways is closed, or none


def brute_force(maps, horizon, num_attempts):
    """Value of the game over all sequences of moves; what is known is what was seen, a set of (tile, letter)."""
    letters = [lake_maps.read_map(m) for m in maps]
    num_rows, num_columns = letters[0].shape

    def look(true, place):
        return "FFHG"[letters[true][place]]

    @functools.cache
    def value(seen, place, moves, attempts):
        if attempts == 0:
            return 0.0
        if moves == 0:
            return value(seen, (0, 0), horizon, attempts - 1)
        possible = [true for true in range(len(maps)) if all(look(true, at) == letter for at, letter in seen)]
        values = []
        for down, right in ((0, -1), (1, 0), (0, 1), (-1, 0)):
            to = (min(max(place[0] + down, 0), num_rows - 1), min(max(place[1] + right, 0), num_columns - 1))
            total = 0.0
            for true in possible:
                met, knows = look(true, to), seen | {(to, look(true, to))}
                goes_on = (to, moves - 1, attempts) if met == "F" else ((0, 0), horizon, attempts - 1)
                total += (met == "G") + value(knows, *goes_on)
            values.append(total / len(possible))
        return max(values)

    return value(frozenset(), (0, 0), horizon, num_attempts)


@pytest.mark.parametrize("maps, horizon", [(SMALL, 2), (SMALL, 4), (POOL, 6)])
@pytest.mark.parametrize("num_attempts", [1, 2, 3])
def test_optimum_is_the_best_of_all_sequences_of_moves(maps, horizon, num_attempts):
    assert hidden_lake.optimal_return(maps, horizon, num_attempts) == pytest.approx(brute_force(maps, horizon, num_attempts), abs=1e-5)


def test_optimum_of_one_map_is_that_of_one_who_sees_it():
    assert hidden_lake.optimal_return(["4x4"], 10, 3) == pytest.approx(3.0, abs=1e-5)
    assert hidden_lake.optimal_return(["4x4"], 5, 3) == pytest.approx(0.0, abs=1e-5)


def test_a_closed_form():
    """Two equal ways of two moves, each closed in one map of two: who errs once knows."""
    assert hidden_lake.optimal_return([("SF", "HG"), ("SH", "FG")], 2, 3) == pytest.approx(2.5, abs=1e-5)


@pytest.mark.parametrize("maps", [SMALL, POOL, tuple(lake_maps.random_maps(8))])
def test_plans_earn_the_optimum_and_agree_until_something_differs(maps):
    horizon, num_attempts = 8, 3
    plans, earned, seen = hidden_lake.plans(maps, horizon, num_attempts), 0, {}
    for true, m in enumerate(maps):
        letters = lake_maps.read_map(m)
        next_tile, history = lake_maps.neighbours(letters), []
        for attempt in range(num_attempts):
            tile = 0
            for move in plans[true, attempt]:
                assert seen.setdefault(tuple(history), move) == move, "it knows more than it has seen"
                tile = next_tile[tile, move]
                letter = letters.flat[tile]
                history.append((move, letter))
                if letter in (lake_maps.HOLE, lake_maps.GOAL):
                    earned += letter == lake_maps.GOAL
                    break
    assert earned / len(maps) == pytest.approx(hidden_lake.optimal_return(maps, horizon, num_attempts), abs=1e-5)


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match="take fewer"):
        hidden_lake.solve(lake_maps.random_maps(17), 8, 2)
    for horizon, num_attempts in ((0, 1), (8, 0), (101, 2)):
        with pytest.raises(ValueError, match="1 to 200 moves"):
            hidden_lake.solve(POOL, horizon, num_attempts)
    for other in (("SFF", "FFG"), ("FS", "FG")):
        with pytest.raises(ValueError, match="one size and one start"):
            hidden_lake.solve([("SF", "FG"), other], 8, 2)


def test_maps_are_counted_in_the_expectation():
    """The same map twice is as likely as it is often."""
    once, twice = ([("SF", "HG"), ("SH", "FG")], [("SF", "HG"), ("SH", "FG"), ("SH", "FG")])
    assert np.isclose(hidden_lake.optimal_return(once, 2, 1), 1 / 2, atol=1e-5)
    assert np.isclose(hidden_lake.optimal_return(twice, 2, 1), 2 / 3, atol=1e-5)
