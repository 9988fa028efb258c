import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import combination_lock as lock
from arl.envs.combination_lock import CombinationLockState, make_combination_lock
from tests.second_tokenizer import second_tokenizer


def best_by_brute_force(length, num_digits, num_attempts):
    """The best expected number of openings: over all codes entered, for each set of codes that the answers leave."""
    codes = list(itertools.product(range(num_digits), repeat=length))

    @functools.cache
    def best(left, num_attempts):  # openings summed over the codes left
        if num_attempts == 0:
            return 0
        totals = []
        for entered in codes:  # any code, also one that is known to be wrong
            parts = {}
            for code in left:
                parts.setdefault(tuple(a == b for a, b in zip(code, entered)), []).append(code)
            totals.append((entered in left) + sum(best(tuple(part), num_attempts - 1) for part in parts.values()))
        return max(totals)

    return best(tuple(codes), num_attempts) / len(codes)


@pytest.mark.parametrize("sizes", [(1, 2, 3), (1, 4, 4), (2, 2, 3), (2, 3, 2), (2, 3, 4), (3, 2, 3)])
def test_bayes_bound_is_the_best_of_all_policies(sizes):
    assert lock.optimal_successes(*sizes) == pytest.approx(best_by_brute_force(*sizes), abs=1e-12)


def test_by_hand():
    """Of three digits one is right at once, or the next, or the last that is left; two places are found together."""
    np.testing.assert_allclose(lock.success_probabilities(1, 3, 4), [1 / 3, 2 / 3, 1, 1])
    np.testing.assert_allclose(lock.success_probabilities(2, 3, 4), [1 / 9, 4 / 9, 1, 1])
    assert lock.optimal_successes(2, 3, 1000) == pytest.approx(1 / 9 + 4 / 9 + 998)
    assert lock.random_successes(2, 3, 4) == pytest.approx(4 / 9)


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("length, num_digits, num_attempts", [(2, 4, 5), (2, 6, 8), (3, 3, 4)])
def test_the_code_to_try_reaches_the_bound_at_every_attempt(length, num_digits, num_attempts, first):
    """Whatever is entered first, if what an attempt tells is entered in the next one."""
    codes, opened = jnp.asarray(list(itertools.product(range(num_digits), repeat=length)), jnp.int32), []
    entered = jnp.full_like(codes, first)
    for _ in range(num_attempts):
        opened.append(jnp.all(entered == codes, axis=1))
        tried = CombinationLockState(codes, entered, jnp.full(len(codes), length))
        entered = jax.vmap(functools.partial(lock.code_to_try, num_digits=num_digits))(tried)
    np.testing.assert_allclose(np.mean(opened, 1), lock.success_probabilities(length, num_digits, num_attempts), atol=1e-6)


def test_an_attempt_that_is_not_over_tells_nothing():
    entered = jnp.asarray([2, 0])
    for code in ([2, 0], [1, 3]):
        state = CombinationLockState(jnp.asarray(code), entered, jnp.int32(1))
        assert lock.code_to_try(state, 4).tolist() == entered.tolist()


def play_attempts(environment, length, num_digits, num_attempts, remembers):
    """Returns a function from a key to the rewards of attempts at its lock, which are told what to try by the one before, or not."""

    def attempt(key, told, key_attempt):
        state, total = environment.reset(key), 0.0
        for digit in told:
            state, answer = environment.step(key_attempt, state, digit)
            total += answer.reward
        return lock.code_to_try(state, num_digits) if remembers else told, total

    def play(key):
        key, key_attempts = jax.random.split(key)
        keys = jax.random.split(key_attempts, num_attempts)
        return jax.lax.scan(functools.partial(attempt, key), jnp.zeros(length, jnp.int32), keys)[1]

    return jax.jit(jax.vmap(play))


def test_in_play_memory_reaches_the_bound_and_none_stays_at_the_floor(tokenizer, agrees):
    environment = make_combination_lock(tokenizer)
    keys = jax.random.split(jax.random.key(0), 6000)
    opened = np.asarray(play_attempts(environment, 2, 6, 5, remembers=True)(keys))
    for k, probability in enumerate(lock.success_probabilities(2, 6, 5)):
        assert agrees(opened[:, k], probability)
    opened = np.asarray(play_attempts(environment, 2, 6, 5, remembers=False)(keys))
    assert agrees(opened.sum(1), lock.random_successes(2, 6, 5))


def test_expert_and_random_policy_open_by_chance(tokenizer, episodes, uniform, agrees):
    environment = make_combination_lock(tokenizer, 2, 4)
    for seed, policy in enumerate((environment.expert, uniform(environment))):
        returns, num_steps, is_over = episodes(environment, policy, seed, 8000, 4)
        assert is_over.all() and set(num_steps) == {2} and set(returns) == {0.0, 1.0}
        assert agrees(returns, lock.random_successes(2, 4, 1)) and lock.optimal_successes(2, 4, 1) == pytest.approx(1 / 16)


def test_codes_are_uniform(tokenizer):
    environment = make_combination_lock(tokenizer, 2, 3)
    code = np.asarray(jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 9000)).code)
    counts = np.bincount(code @ [3, 1], minlength=9)
    assert len(counts) == 9 and np.all(np.abs(counts - 1000) < 4 * np.sqrt(9000 * 8 / 81))


def play(environment, code, actions):
    """Returns the states, the first included, and the answers."""
    state = CombinationLockState(jnp.asarray(code, jnp.int32), jnp.zeros(len(code), jnp.int32), jnp.int32(0))
    states, answers = [state], []
    for action in actions:
        state, answer = environment.step(jax.random.key(0), states[-1], jnp.int32(action))
        states.append(state), answers.append(answer)
    return states, answers


@pytest.mark.parametrize("length, num_digits", [(1, 3), (2, 3), (3, 2)])
def test_every_attempt_at_every_lock(tokenizer, length, num_digits):
    environment = make_combination_lock(tokenizer, length, num_digits)
    environment = environment._replace(step=jax.jit(environment.step), describe=jax.jit(environment.describe))
    codes = list(itertools.product(range(num_digits), repeat=length))
    for code, entered in itertools.product(codes, codes):
        states, answers = play(environment, code, (*entered, 0, 1))  # and two beyond the end
        assert [bool(answer.terminated) for answer in answers] == [False] * (length - 1) + [True] * 3
        assert [float(answer.reward) for answer in answers] == [0.0] * (length - 1) + [float(code == entered), 0.0, 0.0]
        assert not any(answer.truncated for answer in answers)
        assert tuple(np.asarray(states[length].entered)) == entered
        for state in states[length:]:
            assert jax.tree.all(jax.tree.map(np.array_equal, state, states[length]))
        words = ["right" if a == b else "wrong" for a, b in zip(code, entered)]
        answer = " correct\n" if code == entered else f" {' '.join(words)}\n"
        question = f"Guess {length} below {num_digits}:"
        said = [text.to_string(tokenizer, environment.describe(state)) for state in states]
        assert said == [question] + [","] * (length - 1) + [answer] * 3


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
def test_attempts_are_what_the_tokenizer_gives_for_their_words(load):
    tokenizer = load()
    environment = make_combination_lock(tokenizer, 3, 12)
    parts = []
    for entered in ((3, 11, 2), (3, 10, 0), (3, 11, 0)):
        states, _ = play(environment, (3, 11, 0), entered)
        parts.append(environment.describe(states[0]))
        for action, state in zip(entered, states[1:]):
            parts += [text.say_choice(environment.grammar, action), environment.describe(state)]
    joined = text.concatenate(*parts)
    assert text.check_text(tokenizer, joined) == []
    question = "Guess 3 below 12:"
    expected = [f"{question} 3, 11, 2 right right wrong\n", f"{question} 3, 10, 0 right wrong right\n", f"{question} 3, 11, 0 correct\n"]
    assert text.to_string(tokenizer, joined) == "".join(expected)


def test_texts_are_short(tokenizer):
    environment = make_combination_lock(tokenizer)
    states, _ = play(environment, (3, 4), (3, 5))
    assert [int(environment.describe(state).length) for state in states] == [5, 1, 3]


def test_a_batch_is_its_lanes(tokenizer):
    environment = make_combination_lock(tokenizer)

    def run(key):
        state, answer = environment.step(key, environment.reset(key), environment.expert(key, environment.reset(key)))
        return state, answer, environment.describe(state), environment.state_hash(state), environment.legal(state)

    keys = jax.random.split(jax.random.key(1), 5)
    one, batch = jax.jit(run), jax.jit(jax.vmap(run))(keys)
    for lane in range(5):
        assert jax.tree.all(jax.tree.map(lambda a, b, i=lane: np.array_equal(a, b[i]), one(keys[lane]), batch))


def test_what_was_seen_is_the_state_hash(tokenizer):
    environment = make_combination_lock(tokenizer, 2, 3)
    state_hashes, codes = {}, list(itertools.product(range(3), repeat=2))
    for code, entered in itertools.product(codes, codes):
        for count in range(3):
            shown = jnp.asarray([digit if i < count else 0 for i, digit in enumerate(entered)], jnp.int32)
            state = CombinationLockState(jnp.asarray(code, jnp.int32), shown, jnp.int32(count))
            seen = entered[:count] + (tuple(a == b for a, b in zip(code, entered)) if count == 2 else ())
            state_hashes.setdefault(seen, set()).add(int(environment.state_hash(state)))
    assert all(len(found) == 1 for found in state_hashes.values())
    assert len(set.union(*state_hashes.values())) == len(state_hashes)


@pytest.mark.parametrize("length, num_digits, names", [(0, 6, "length"), (9, 6, "length"), (2, 1, "num_digits")])
def test_bad_arguments(tokenizer, length, num_digits, names):
    with pytest.raises(ValueError, match=f"set.*{names}|{names}.*set"):
        make_combination_lock(tokenizer, length, num_digits)
    with pytest.raises(ValueError, match="set"):
        lock.success_probabilities(length, num_digits, 3)
