import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import mastermind
from arl.envs.mastermind import MastermindState, make_mastermind
from tests.second_tokenizer import second_tokenizer


def pegs_of(code, guess):
    """Black and white pegs, as one lays them by hand: what is matched is taken away."""
    left, asked, black = list(code), list(guess), 0
    for place in reversed(range(len(code))):
        if left[place] == asked[place]:
            black += 1
            del left[place], asked[place]
    white = 0
    for colour in asked:
        if colour in left:
            white += 1
            left.remove(colour)
    return black, white


def all_codes(num_pegs, num_colors):
    return list(itertools.product(range(num_colors), repeat=num_pegs))


def fewest_by_brute_force(num_pegs, num_colors, num_steps):
    """The smallest expected number of guesses: every guess at every set of codes, no shortcuts."""
    codes = all_codes(num_pegs, num_colors)

    @functools.cache
    def best(left, num_steps):  # guesses summed over the codes left
        if num_steps == 0 or not left:
            return 0
        totals = []
        for guess in codes:
            parts = {}
            for code in left:
                parts.setdefault(pegs_of(code, guess), []).append(code)
            parts.pop((num_pegs, 0), None)
            totals.append(len(left) + sum(best(tuple(part), num_steps - 1) for part in parts.values()))
        return min(totals)

    return best(tuple(codes), num_steps) / len(codes)


@pytest.mark.parametrize("num_pegs, num_colors", [(1, 4), (2, 2), (2, 3), (3, 2)])
def test_fewest_guesses_is_the_best_of_all_policies(num_pegs, num_colors):
    # No sensible player needs more guesses than there are codes; one more step than that changes nothing.
    depth = {(1, 4): 5, (2, 2): 5, (2, 3): 6, (3, 2): 6}[num_pegs, num_colors]
    for num_steps in range(depth + 1):
        expected = fewest_by_brute_force(num_pegs, num_colors, num_steps)
        assert mastermind.optimal_num_guesses(num_pegs, num_colors, num_steps) == pytest.approx(expected)
    assert mastermind.optimal_num_guesses(num_pegs, num_colors) == pytest.approx(expected)


def test_closed_forms():
    assert mastermind.optimal_num_guesses(1, 9) == pytest.approx(5.0)  # one peg: colours are tried one after the other
    assert mastermind.optimal_num_guesses(3, 4, 1) == 1.0
    assert mastermind.optimal_num_guesses(3, 4, 0) == 0.0
    assert mastermind.optimal_num_guesses(3, 4, 2) == pytest.approx(2 - 1 / 64)  # the first guess is right once in 64
    assert mastermind.optimal_num_guesses(3, 4, 20) == mastermind.optimal_num_guesses(3, 4)
    assert mastermind.random_num_guesses(3, 4) == 64
    assert mastermind.random_num_guesses(3, 4, 1) == pytest.approx(1.0)
    assert mastermind.most_bits(1, 4) == pytest.approx(2 - 3 / 4 * math.log2(3))
    assert mastermind.most_bits(2, 2) == pytest.approx(1.5)  # " A B": a quarter each for two and none black, a half for one


@pytest.mark.parametrize("num_pegs, num_colors", [(2, 6), (3, 4), (4, 3)])
def test_the_policy_needs_what_is_computed_and_no_tree_of_answers_less(num_pegs, num_colors):
    codes, num_codes = all_codes(num_pegs, num_colors), num_colors**num_pegs
    sets, guesses = mastermind.optimal_policy(num_pegs, num_colors)
    policy = {tuple(np.flatnonzero(row)): int(guess) for row, guess in zip(sets, guesses)}
    assert len(policy) == len(sets)
    num_guesses = []
    for code in codes:
        left, count = tuple(range(num_codes)), 0
        while True:
            guess, count = codes[policy[left]], count + 1
            if guess == code:
                break
            left = tuple(i for i in left if pegs_of(codes[i], guess) == pegs_of(code, guess))
        num_guesses.append(count)
    optimum = mastermind.optimal_num_guesses(num_pegs, num_colors)
    assert np.mean(num_guesses) == pytest.approx(optimum)
    # An answer tells no more than the best split; with w wrong answers at most w**(k - 1) codes are found by guess k.
    wrong = len({pegs_of(a, b) for a in codes for b in codes}) - 1
    depths = np.repeat(np.arange(1, 10), [min(wrong**k, 100) for k in range(9)])[:num_codes]
    assert optimum >= depths.mean()


@pytest.mark.parametrize("num_pegs, num_colors", [(2, 5), (3, 3), (4, 2)])
def test_answers(num_pegs, num_colors):
    codes = all_codes(num_pegs, num_colors)
    table, pegs = mastermind.answers_to(num_pegs, num_colors)
    assert np.array_equal(mastermind.codes(num_pegs, num_colors), codes)
    for i, guess in enumerate(codes):
        for j, code in enumerate(codes):
            assert pegs[table[i, j]] == pegs_of(code, guess)
    assert pegs[-1] == (num_pegs, 0) and len(set(pegs)) == len(pegs)
    assert [i for i in range(len(pegs)) if not np.any(table == i)] == []


def test_expert_and_random_policy_need_what_is_computed(tokenizer, episodes, uniform, agrees):
    environment = make_mastermind(tokenizer)
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 3000, 8)
    assert is_over.all() and np.array_equal(returns, -num_steps)
    assert agrees(returns, -mastermind.optimal_num_guesses(3, 4))
    returns, _, is_over = episodes(environment, uniform(environment), 1, 6000, 20)
    assert not is_over.all() and agrees(returns, -mastermind.random_num_guesses(3, 4, 20))


def follow(environment, code, first, num_steps):
    """Returns states `[1 + num_steps]` and answers of the expert at a code, after a given first guess (or none, if negative)."""
    num_codes = environment.grammar.num_choices

    def step(state, t):
        action = jnp.where((t == 0) & (first >= 0), first, environment.expert(jax.random.key(0), state))
        after, answer = environment.step(jax.random.key(0), state, action)
        return after, (after, action, answer, mastermind.information_gain(state, after))

    state = MastermindState(jnp.asarray(code, jnp.int32), jnp.ones(num_codes, bool), jnp.int32(0))
    return jax.lax.scan(step, state, jnp.arange(num_steps))[1]


@pytest.mark.parametrize("num_pegs, num_colors", [(2, 6), (3, 4)])
def test_the_expert_is_optimal_at_every_code_and_knows_what_to_do_after_any_first_guess(tokenizer, num_pegs, num_colors):
    environment, num_codes = make_mastermind(tokenizer, num_pegs, num_colors), num_colors**num_pegs
    play = jax.jit(jax.vmap(functools.partial(follow, environment), in_axes=(0, None, None)), static_argnums=2)
    _, _, answer, information = play(jnp.arange(num_codes), -1, 9)
    assert np.asarray(answer.terminated)[:, -1].all()
    best = -np.asarray(answer.reward).sum(1).mean()
    assert best == pytest.approx(mastermind.optimal_num_guesses(num_pegs, num_colors))
    np.testing.assert_allclose(np.asarray(information).sum(1), math.log2(num_codes), rtol=1e-5)  # the whole code, whoever played
    assert np.asarray(information)[:, 0].mean() <= mastermind.most_bits(num_pegs, num_colors) + 1e-5
    for first in range(0, num_codes, 7):
        _, _, answer, information = play(jnp.arange(num_codes), first, 9)
        assert np.asarray(answer.terminated)[:, -1].all()
        assert best - 1e-6 <= -np.asarray(answer.reward).sum(1).mean() <= best + 1.5
        np.testing.assert_allclose(np.asarray(information).sum(1), math.log2(num_codes), rtol=1e-5)


def test_codes_that_agree_with_the_answers_stay_possible(tokenizer):
    environment = make_mastermind(tokenizer, 2, 4)
    codes, step = all_codes(2, 4), jax.jit(environment.step)
    generator, key = np.random.default_rng(0), jax.random.key(0)
    for _ in range(8):
        hidden = int(generator.integers(16))
        state = environment.reset(key)._replace(code=jnp.int32(hidden))
        left, found = set(range(16)), False
        for _ in range(6):
            guess = int(generator.integers(16))
            after, answer = step(key, state, jnp.int32(guess))
            fewer = left if found else {i for i in left if pegs_of(codes[i], codes[guess]) == pegs_of(codes[hidden], codes[guess])}
            assert set(np.flatnonzero(after.possible)) == fewer
            assert float(mastermind.information_gain(state, after)) == pytest.approx(math.log2(len(left) / len(fewer)), abs=1e-6)
            assert float(answer.reward) == (0.0 if found else -1.0) and not answer.truncated
            found |= guess == hidden
            assert bool(answer.terminated) == found
            state, left = after, fewer


def test_the_first_guess_is_worth_what_is_computed(tokenizer):
    """The mean of `information_gain` over all codes is the entropy of the answer; the best of them is `most_bits`."""
    environment = make_mastermind(tokenizer, 2, 4)
    start = environment.reset(jax.random.key(0))

    def worth(code, guess):
        before = start._replace(code=code)
        return mastermind.information_gain(before, environment.step(jax.random.key(0), before, guess)[0])

    every = jnp.arange(16)
    table = jax.jit(jax.vmap(jax.vmap(worth, in_axes=(0, None)), in_axes=(None, 0)))(every, every)
    assert float(jnp.mean(table, axis=1).max()) == pytest.approx(mastermind.most_bits(2, 4), rel=1e-5)


def test_codes_are_uniform(tokenizer):
    environment = make_mastermind(tokenizer, 2, 3)
    code = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 9000)).code
    counts = np.bincount(np.asarray(code), minlength=9)
    assert len(counts) == 9 and np.all(np.abs(counts - 1000) < 4 * np.sqrt(9000 * 8 / 81))


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
def test_text_of_an_episode(load):
    tokenizer = load()
    environment, codes = make_mastermind(tokenizer), all_codes(3, 4)
    state = environment.reset(jax.random.key(0))._replace(code=jnp.int32(codes.index((0, 2, 1))))
    parts = [environment.describe(state)]
    for guess in ((0, 0, 1), (3, 3, 3), (1, 0, 2), (0, 2, 1)):
        action = codes.index(guess)
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
        parts += [text.say_choice(environment.grammar, action), environment.describe(state)]
    joined = text.concatenate(*parts)
    expected = "Guess 3 from A to D: A A B 2 0: D D D 0 0: B A C 0 3: A C B correct\n"
    assert text.to_string(tokenizer, joined) == expected and text.check_text(tokenizer, joined) == []


def test_texts_are_short(tokenizer):
    environment = make_mastermind(tokenizer)
    state = environment.reset(jax.random.key(0))
    assert int(environment.describe(state).length) == environment.describe(state).ids.shape[0] == 7
    assert int(environment.describe(state._replace(answer=jnp.int32(1))).length) == text.longest(environment.grammar) == 3


def test_a_batch_is_its_lanes(tokenizer):
    environment = make_mastermind(tokenizer, 2, 4)

    def run(key):
        first, _ = environment.step(key, environment.reset(key), jnp.int32(1))
        state, answer = environment.step(key, first, environment.expert(key, first))
        seen = environment.describe(state), environment.state_hash(state), environment.legal(state)
        return state, answer, seen, mastermind.information_gain(first, state)

    keys = jax.random.split(jax.random.key(1), 5)
    one, batch = jax.jit(run), jax.jit(jax.vmap(run))(keys)
    for lane in range(5):
        assert jax.tree.all(jax.tree.map(lambda a, b, i=lane: np.array_equal(a, b[i]), one(keys[lane]), batch))


def test_what_is_known_is_the_state_hash(tokenizer):
    """The same state hash for the same set of codes, another for every other set, whatever was hidden or said."""
    environment = make_mastermind(tokenizer)
    play = jax.jit(jax.vmap(functools.partial(follow, environment), in_axes=(0, 0, None)), static_argnums=2)
    code, first = (x.ravel() for x in np.meshgrid(np.arange(64), np.arange(0, 64, 3)))
    states, _, _, _ = play(code, first, 3)
    states = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), states)
    state_hashes = np.asarray(jax.vmap(environment.state_hash)(states)).tolist()
    sets = [row.tobytes() for row in np.asarray(states.possible)]
    assert len(set(zip(sets, state_hashes))) == len(set(sets)) == len(set(state_hashes)) > 500


@pytest.mark.parametrize("num_pegs, num_colors", [(0, 4), (3, 0), (2, 27), (3, 1), (4, 6)])
def test_bad_arguments(tokenizer, num_pegs, num_colors):
    for make in (functools.partial(make_mastermind, tokenizer), mastermind.optimal_num_guesses, mastermind.optimal_policy):
        with pytest.raises(ValueError, match="set num_pegs") as error:
            make(num_pegs, num_colors)
        assert "\n" not in str(error.value) and str(error.value).count(". ") == 0
