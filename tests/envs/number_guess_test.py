import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arl import text
from arl.envs import number_guess as guess

HIGHER, LOWER, CORRECT = guess.HIGHER, guess.LOWER, guess.CORRECT


def answer(number, action):
    return CORRECT if number == action else HIGHER if number > action else LOWER


def histories(num_answers, answers):
    return [h for n in range(num_answers) for h in itertools.product(answers, repeat=n)]


def policies(num_numbers, num_guesses, answers):
    """All deterministic policies: a guess for each history of answers."""
    situations = histories(num_guesses, answers)
    for choice in itertools.product(range(num_numbers), repeat=len(situations)):
        yield dict(zip(situations, choice, strict=True))


def test_bayes_bound_is_the_best_of_all_policies_and_the_floor_their_mean():
    successes = []
    for policy in policies(3, 2, (HIGHER, LOWER, CORRECT)):
        total = 0
        for number in range(3):
            first = policy[()]
            second = policy[(answer(number, first),)]
            total += (first == number) + (second == number)
        successes.append(total / 3)
    assert guess.optimal_successes(3, 2) == pytest.approx(max(successes))
    assert guess.random_successes(3, 2) == pytest.approx(np.mean(successes))


def test_fewest_guesses_is_the_best_of_all_policies_and_the_baseline_their_mean():
    num_guesses = []
    for policy in policies(3, 3, (HIGHER, LOWER)):
        total = 0
        for number in range(3):
            history = ()
            while len(history) < 3:
                total += 1
                said = answer(number, policy[history])
                if said == CORRECT:
                    break
                history += (said,)
        num_guesses.append(total / 3)
    assert guess.optimal_num_guesses(3, 3) == pytest.approx(min(num_guesses))
    assert guess.random_num_guesses(3, 3) == pytest.approx(np.mean(num_guesses))


def test_closed_forms():
    # A perfect binary search tree of depth d holds 2**d - 1 numbers at mean depth ((d - 1) 2**d + 1) / (2**d - 1).
    for depth in range(1, 7):
        size = 2**depth - 1
        assert guess.optimal_num_guesses(size) == pytest.approx(((depth - 1) * 2**depth + 1) / size)
    assert guess.optimal_num_guesses(32) == pytest.approx(135 / 32)
    assert guess.optimal_num_guesses(32, 1) == 1.0
    assert guess.random_num_guesses(32) == 32
    assert guess.random_num_guesses(32, 1) == pytest.approx(1.0)
    assert guess.optimal_successes(8, 1) == pytest.approx(1 / 8)
    assert guess.optimal_successes(1, 5) == 5.0
    assert guess.optimal_successes(8, 4) == pytest.approx(2.375)  # right at once 1/8, after one answer 2/8, after two 4/8; else found


@pytest.mark.parametrize("num_numbers", [2, 3, 8, 16, 21])
@pytest.mark.parametrize("num_attempts", [1, 2, 4, 5, 7])
def test_halving_reaches_the_bayes_bound(num_numbers, num_attempts):
    """The expert's rule, kept up over attempts: what an agent that remembers all can do."""
    total = 0
    for number in range(num_numbers):
        low, high = 0, num_numbers
        for _ in range(num_attempts):
            middle = (low + high - 1) // 2
            said = answer(number, middle)
            total += said == CORRECT
            low, high = {CORRECT: (middle, middle + 1), HIGHER: (middle + 1, high), LOWER: (low, middle)}[said]
    assert total / num_numbers == pytest.approx(guess.optimal_successes(num_numbers, num_attempts))


@pytest.mark.parametrize("num_numbers", [5, 32])
def test_expert_and_random_policy_earn_what_is_computed(tokenizer, episodes, uniform, agrees, num_numbers):
    environment = guess.make_number_guess(tokenizer, num_numbers)
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 8000, 8)
    assert is_over.all() and np.array_equal(returns, -num_steps)
    assert agrees(returns, -guess.optimal_num_guesses(num_numbers))
    returns, _, _ = episodes(environment, uniform(environment), 1, 8000, 20)
    assert agrees(returns, -guess.random_num_guesses(num_numbers, 20))


def test_one_guess_an_attempt(tokenizer, episodes, uniform, agrees):
    environment = guess.make_number_guess(tokenizer, 8, one_guess=True)
    for policy in (environment.expert, uniform(environment)):
        returns, num_steps, is_over = episodes(environment, policy, 2, 8000, 3)
        assert is_over.all() and set(num_steps) == {1}
        assert agrees(returns, 1 / 8)
    state = environment.reset(jax.random.key(0))
    assert int(environment.expert(jax.random.key(1), state)) == 3
    again = environment.reset(jax.random.key(0))
    assert int(again.number) == int(state.number)


def test_numbers_are_uniform(tokenizer):
    environment = guess.make_number_guess(tokenizer, 5)
    number = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 10000)).number
    counts = np.bincount(np.asarray(number), minlength=5)
    assert len(counts) == 5 and np.all(np.abs(counts - 2000) < 4 * np.sqrt(10000 * 4 / 25))


NUM_NUMBERS = 11


@pytest.fixture(scope="module")
def play(tokenizer):
    environment = guess.make_number_guess(tokenizer, NUM_NUMBERS)
    key = jax.random.key(0)

    @jax.jit
    def play(number, actions):
        state = environment.reset(key)._replace(number=number)
        return jax.lax.scan(lambda state, action: (lambda s, x: (s, (s, x)))(*environment.step(key, state, action)), state, actions)[1]

    return play


@settings(deadline=None, max_examples=40)
@given(st.integers(0, NUM_NUMBERS - 1), st.lists(st.integers(0, NUM_NUMBERS - 1), min_size=6, max_size=6))
def test_the_number_stays_within_what_the_answers_allow(play, number, actions):
    states, steps = play(jnp.int32(number), jnp.asarray(actions, jnp.int32))
    found = False
    possible = set(range(NUM_NUMBERS))
    for t, action in enumerate(actions):
        if not found:
            said = answer(number, action)
            possible = {x for x in possible if answer(x, action) == said}
            assert steps.reward[t] == -1.0
        else:
            assert steps.reward[t] == 0.0  # an episode that is over pays nothing, and goes on saying so
        found |= action == number
        assert steps.terminated[t] == found and states.answer[t] == (CORRECT if found else said)
        assert set(range(int(states.low[t]), int(states.high[t]))) == possible


def test_text_of_an_episode(tokenizer):
    for one_guess, expected in (
        (False, ["Number below 32:", " higher:", " lower:", " correct\n", " correct\n"]),
        (True, ["Guess:"] + [" higher\n"] * 4),
    ):
        environment = guess.make_number_guess(tokenizer, 32, one_guess)
        state = environment.reset(jax.random.key(0))._replace(number=jnp.int32(20))
        heard = [text.to_string(tokenizer, environment.describe(state))]
        for action in (17, 24, 20, 3):
            state, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
            heard.append(text.to_string(tokenizer, environment.describe(state)))
        assert heard == expected


def test_what_is_known_is_the_state_hash(tokenizer):
    environment = guess.make_number_guess(tokenizer, 9)
    states = [guess.NumberGuessState(jnp.int32(0), jnp.int32(a), jnp.int32(b), jnp.int32(0)) for a in range(9) for b in range(a + 1, 10)]
    assert len({int(environment.state_hash(state)) for state in states}) == len(states)


def test_bad_arguments(tokenizer):
    with pytest.raises(ValueError, match="at least 2"):
        guess.make_number_guess(tokenizer, 1)
