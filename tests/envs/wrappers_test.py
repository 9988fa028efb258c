import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.envs import make_bandit, make_frozen_lake, make_number_guess, number_guess, time_limit, turn_cost


def test_a_time_limit_truncates_and_does_not_terminate(tokenizer):
    environment = time_limit(make_number_guess(tokenizer, 8), 3)
    state = environment.reset(jax.random.key(0))
    state = state._replace(inner=state.inner._replace(number=jnp.int32(5)))
    ends = []
    for action in (0, 1, 2, 3):
        state, answer = environment.step(jax.random.key(1), state, jnp.int32(action))
        ends.append((bool(answer.terminated), bool(answer.truncated)))
    assert ends == [(False, False), (False, False), (False, True), (False, True)]


def test_a_task_that_ends_with_its_last_step_is_terminated(tokenizer):
    environment = time_limit(make_bandit(tokenizer, 2, 3), 3)
    state = environment.reset(jax.random.key(0))
    for _ in range(3):
        state, answer = environment.step(jax.random.key(1), state, jnp.int32(0))
    assert answer.terminated and not answer.truncated


def test_the_shorter_of_two_limits_counts(tokenizer, episodes, uniform):
    for first, second in ((5, 2), (2, 5)):
        environment = time_limit(time_limit(make_frozen_lake(tokenizer, "8x8", is_slippery=False), first), second)
        assert environment.max_steps == 2
        _, num_steps, is_over = episodes(environment, uniform(environment), 0, 50, 6)
        assert set(num_steps) == {2} and is_over.all()


def test_a_turn_costs(tokenizer, episodes, agrees):
    environment = turn_cost(time_limit(make_number_guess(tokenizer, 32), 3), 0.5)
    returns, num_steps, _ = episodes(environment, environment.expert, 0, 4000, 5)
    np.testing.assert_allclose(returns, -1.5 * num_steps)
    assert agrees(num_steps, number_guess.optimal_num_guesses(32, 3))


def test_wrappers_commute_and_leave_the_rest_alone(tokenizer):
    plain = make_frozen_lake(tokenizer, "4x4", only_moves_that_exist=True)
    one, other = turn_cost(time_limit(plain, 4), 0.1), time_limit(turn_cost(plain, 0.1), 4)
    state_one, state_other, state = (e.reset(jax.random.key(0)) for e in (one, other, plain))
    for t in range(6):
        key = jax.random.key(t)
        action = plain.expert(key, state)
        assert int(one.expert(key, state_one)) == int(action)
        (state_one, a), (state_other, b), (state, c) = (
            e.step(key, s, action) for e, s in ((one, state_one), (other, state_other), (plain, state))
        )
        assert jax.tree.all(jax.tree.map(jnp.array_equal, (state_one, a), (state_other, b)))
        assert jax.tree.all(jax.tree.map(jnp.array_equal, state_one.inner, state))
        assert a.reward == pytest.approx(float(c.reward) - 0.1) and bool(a.terminated) == bool(c.terminated)
        for f in ("describe", "legal", "anchor"):
            assert jax.tree.all(jax.tree.map(jnp.array_equal, getattr(one, f)(state_one), getattr(plain, f)(state)))


def test_what_an_environment_lacks_stays_none(tokenizer):
    environment = time_limit(make_bandit(tokenizer)._replace(expert=None, anchor=None), 3)
    assert environment.expert is None and environment.anchor is None


def test_a_limit_beyond_the_end_of_the_task_bounds_nothing(tokenizer):
    assert time_limit(make_bandit(tokenizer, num_pulls=5), 9).max_steps == 5
    assert make_frozen_lake(tokenizer).max_steps is None
    assert make_number_guess(tokenizer, one_guess=True).max_steps == 1


def test_bad_arguments(tokenizer):
    with pytest.raises(ValueError, match="num_steps"):
        time_limit(make_bandit(tokenizer), 0)
    with pytest.raises(ValueError, match="positive"):
        turn_cost(make_bandit(tokenizer), -0.1)
