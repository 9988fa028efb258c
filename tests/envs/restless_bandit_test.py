import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import restless_bandit as restless
from arl.envs.restless_bandit import RestlessBanditState, make_restless_bandit
from tests.second_tokenizer import second_tokenizer

GAMES = [(0.05, 0.9), (0.2, 0.7), (0.0, 0.8), (0.1, 1.0), (0.5, 0.9), (0.8, 0.75)]  # shift_probability, pay_probability


def paths(num_pulls, shift_probability):
    """All sequences of better arms, with their probabilities."""
    for path in itertools.product((0, 1), repeat=num_pulls):
        shifts = sum(a != b for a, b in zip(path, path[1:]))
        yield path, 0.5 * shift_probability**shifts * (1 - shift_probability) ** (num_pulls - 1 - shifts)


def likelihood(path, pulled, paid, pay_probability):
    chances = [pay_probability if arm == best else 1 - pay_probability for arm, best in zip(pulled, path)]
    return np.prod([p if won else 1 - p for p, won in zip(chances, paid)])


def state_of(pulled, paid, num_pulls, best=None):
    fill = lambda x: jnp.asarray(list(x) + [0] * (num_pulls - len(x)), jnp.int32)
    best = jnp.zeros(num_pulls + 1, jnp.int32) if best is None else jnp.asarray(best, jnp.int32)
    return RestlessBanditState(best, fill(pulled), fill(paid), jnp.int32(len(pulled)))


def best_of_all_plans(num_pulls, shift_probability, pay_probability):
    """The Bayes-optimal value by a search over all histories of pulls and payments, with the joint probability of path and history."""
    weights = dict(paths(num_pulls, shift_probability))

    def value(pulled, paid):
        if len(pulled) == num_pulls:
            return sum(paid) * sum(w * likelihood(path, pulled, paid, pay_probability) for path, w in weights.items())
        return max(sum(value((*pulled, arm), (*paid, won)) for won in (0, 1)) for arm in (0, 1))

    return value((), ())


@pytest.mark.parametrize("shift_probability, pay_probability", GAMES)
@pytest.mark.parametrize("num_pulls", [1, 2, 4])
def test_bayes_optimum_is_the_best_of_all_plans(num_pulls, shift_probability, pay_probability):
    best = best_of_all_plans(num_pulls, shift_probability, pay_probability)
    below, above = restless.optimal_return_bounds(num_pulls, shift_probability, pay_probability)
    assert below - 1e-12 <= best <= above + 1e-12
    assert above == pytest.approx(best, abs=1e-5)


def enumerated_optimum(num_pulls, shift_probability, pay_probability):
    """The exact value by the `2**t` beliefs after each number of answers: evidence does not depend on the arms pulled."""
    belief, weight, total = np.array([0.5]), np.array([1.0]), 0.0
    for _ in range(num_pulls):
        right = weight @ np.maximum(belief, 1 - belief)
        total += right * pay_probability + (1 - right) * (1 - pay_probability)
        after, mass = [], []
        for given_a in (pay_probability, 1 - pay_probability):
            seen = belief * given_a + (1 - belief) * (1 - given_a)
            posterior = belief * given_a / np.maximum(seen, 1e-300)
            after.append(posterior * (1 - shift_probability) + (1 - posterior) * shift_probability)
            mass.append(weight * seen)
        belief, weight = np.concatenate(after), np.concatenate(mass)
    return total


@pytest.mark.parametrize("shift_probability, pay_probability", GAMES)
@pytest.mark.parametrize("num_pulls", [7, 18])
def test_grid_agrees_with_enumeration(num_pulls, shift_probability, pay_probability):
    exact = enumerated_optimum(num_pulls, shift_probability, pay_probability)
    below, above = restless.optimal_return_bounds(num_pulls, shift_probability, pay_probability)
    assert below - 1e-9 <= exact <= above + 1e-9
    assert above - below < 1e-4 * num_pulls
    assert restless.optimal_return(num_pulls, shift_probability, pay_probability) == above


@pytest.mark.parametrize("shift_probability, pay_probability", [(0.05, 0.9), (0.02, 0.7)])
def test_bounds_of_long_episodes_are_close(shift_probability, pay_probability):
    below, above = restless.optimal_return_bounds(300, shift_probability, pay_probability)
    assert 0 <= above - below < 0.01
    finer_below, finer_above = restless.optimal_return_bounds(300, shift_probability, pay_probability, 8001)
    assert below - 1e-9 <= finer_below <= finer_above <= above + 1e-9


def test_closed_forms():
    assert restless.optimal_return(1, 0.1, 0.9) == pytest.approx(0.5)
    right = 0.9 * 0.9 + 0.1 * 0.1  # of the second pull: the first answer was right, and the arms stayed; or neither
    assert restless.optimal_return(2, 0.1, 0.9) == pytest.approx(0.5 + right * 0.9 + (1 - right) * 0.1)
    assert restless.optimal_return(6, 0.5, 0.9) == pytest.approx(3.0)  # what was seen says nothing
    assert restless.optimal_return(9, 0.25, 1.0) == pytest.approx(0.5 + 8 * 0.75)  # the last answer says all
    assert restless.last_answer_return(9, 0.25, 1.0) == pytest.approx(0.5 + 8 * 0.75)
    assert restless.fixed_return(3, 0.25, 0.9) == pytest.approx(0.9 + 0.7 + 0.6)
    assert restless.fixed_return(4, 0.0, 0.8) == pytest.approx(restless.informed_return(4, 0.8)) == pytest.approx(3.2)


def last_pull_rule(num_pulls, shift_probability, pay_probability, leave_after_win, leave_after_loss):
    """The value of the rule that leaves its arm with a probability for each answer: two states, on the better arm or not."""
    right, total = 0.5, 0.0
    for _ in range(num_pulls):
        total += right * pay_probability + (1 - right) * (1 - pay_probability)
        leave_right = pay_probability * leave_after_win + (1 - pay_probability) * leave_after_loss
        leave_wrong = (1 - pay_probability) * leave_after_win + pay_probability * leave_after_loss
        right = right * (1 - leave_right) + (1 - right) * leave_wrong
        right = right * (1 - shift_probability) + (1 - right) * shift_probability
    return total


@pytest.mark.parametrize("shift_probability, pay_probability", [(0.05, 0.9), (0.01, 0.6), (0.3, 0.7)])
def test_win_stay_lose_shift_is_the_best_rule_of_the_last_pull(shift_probability, pay_probability):
    rules = itertools.product(np.linspace(0, 1, 21), repeat=2)
    values = {rule: last_pull_rule(30, shift_probability, pay_probability, *rule) for rule in rules}
    assert max(values, key=values.get) == (0.0, 1.0)
    assert values[0.0, 1.0] == pytest.approx(restless.last_answer_return(30, shift_probability, pay_probability))


@pytest.mark.parametrize("shift_probability, pay_probability", [(0.1, 0.9), (0.3, 0.75), (0.4, 0.95)])
def test_where_shifts_are_as_frequent_as_misleading_answers_the_last_answer_is_all(shift_probability, pay_probability):
    game = 20, shift_probability, pay_probability
    assert restless.last_answer_return(*game) == pytest.approx(restless.optimal_return(*game), abs=1e-4)
    rarer = 20, (1 - pay_probability) / 2, pay_probability
    assert restless.last_answer_return(*rarer) < restless.optimal_return_bounds(*rarer)[0] - 1e-3


def test_order_of_bounds_and_baselines():
    game = 20, 0.05, 0.9
    order = [
        restless.random_return(20),
        restless.fixed_return(*game),
        restless.last_answer_return(*game),
        restless.optimal_return(*game),
        restless.informed_return(20, 0.9),
    ]
    assert order == sorted(order) and len(set(order)) == 5


@pytest.mark.parametrize("num_pulls, shift_probability, pay_probability", [(20, 0.05, 0.9), (12, 0.2, 0.7)])
def test_policies_earn_what_is_computed(tokenizer, episodes, uniform, agrees, num_pulls, shift_probability, pay_probability):
    game = num_pulls, shift_probability, pay_probability
    environment = make_restless_bandit(tokenizer, *game)

    def win_stay(key, state):
        last = jnp.maximum(state.num_pulled - 1, 0)
        return jnp.where(state.paid[last] == 1, state.pulled[last], 1 - state.pulled[last])

    for seed, (policy, expected) in enumerate(
        [
            (environment.expert, restless.optimal_return(*game)),
            (uniform(environment), restless.random_return(num_pulls)),
            (lambda key, state: state.best[state.num_pulled], restless.informed_return(num_pulls, pay_probability)),
            (lambda key, state: state.best[0], restless.fixed_return(*game)),
            (win_stay, restless.last_answer_return(*game)),
        ]
    ):
        returns, num_steps, is_over = episodes(environment, policy, seed, 8_000, num_pulls + 1)
        assert is_over.all() and set(num_steps) == {num_pulls}
        assert agrees(returns, expected)


def test_a_fixed_arm_pays_less_than_chance_after_the_first_shift(tokenizer):
    """Before it, it pays as the better arm does; the expert is back above chance two pulls after."""
    environment = make_restless_bandit(tokenizer, 20, 0.05, 0.9)

    def play(key, policy):
        def step(state, key):
            after, answer = environment.step(key, state, policy(key, state))
            first = jnp.argmax(state.best != state.best[0])  # 0 if there is no shift
            return after, (answer.reward, jnp.where(first > 0, state.num_pulled - first, -100))

        return jax.lax.scan(step, environment.reset(key), jax.random.split(jax.random.fold_in(key, 1), 20))[1]

    def curve(policy):
        reward, since = (np.asarray(x) for x in jax.jit(jax.vmap(lambda k: play(k, policy)))(jax.random.split(jax.random.key(0), 8_000)))
        return {lag: reward[since == lag].mean() for lag in (-2, 0, 1, 2, 4)}

    fixed, expert = curve(lambda key, state: state.best[0]), curve(environment.expert)
    assert abs(fixed[-2] - 0.9) < 0.02 and abs(fixed[0] - 0.1) < 0.02 and fixed[4] < 0.3
    assert expert[0] < 0.3 and expert[2] > 0.5 and expert[4] > 0.65


@pytest.mark.parametrize("shift_probability, pay_probability", [(0.05, 0.9), (0.2, 0.7), (0.1, 1.0)])
def test_filter_agrees_with_all_paths(shift_probability, pay_probability):
    """Belief and change probability for every history of three pulls, by summing over all sequences of better arms."""
    num_pulls = 5
    believe = jax.jit(lambda s: restless.belief(s, shift_probability, pay_probability))
    change = jax.jit(lambda s, w: restless.change_probability(s, w, shift_probability, pay_probability))
    for count in range(4):
        for pulled in itertools.product((0, 1), repeat=count):
            for paid in itertools.product((0, 1), repeat=count):
                joint = [(p, w * likelihood(p, pulled, paid, pay_probability)) for p, w in paths(count + 1, shift_probability)]
                total = sum(w for _, w in joint)
                state = state_of(pulled, paid, num_pulls)
                assert believe(state) == pytest.approx(sum(w for p, w in joint if p[count] == 0) / total, abs=1e-6)
                for window in (1, 2, 4):
                    shifted = sum(w for p, w in joint if any(p[i] != p[i + 1] for i in range(max(count - window, 0), count)))
                    assert change(state, window) == pytest.approx(shifted / total, abs=1e-6)


def test_what_is_hidden_is_not_used(tokenizer):
    environment = make_restless_bandit(tokenizer, 6)
    look = jax.jit(lambda s: (environment.expert(jax.random.key(0), s), environment.state_hash(s), environment.describe(s)))
    for pulled, paid in (((0, 0, 1, 0), (1, 0, 1, 1)), ((), ()), ((1, 1, 1, 0, 0, 0), (1, 1, 0, 0, 0, 1))):
        seen = [look(state_of(pulled, paid, 6, best)) for best in itertools.product((0, 1), repeat=7)]
        assert all(jax.tree.all(jax.tree.map(np.array_equal, seen[0], other)) for other in seen[1:])


def test_change_probability_is_calibrated(tokenizer):
    environment = make_restless_bandit(tokenizer, 20, 0.05, 0.9)

    def play(key):
        def step(state, key):
            state, _ = environment.step(key, state, environment.expert(key, state))
            return state, restless.change_probability(state, 4, 0.05, 0.9)

        state, guess = jax.lax.scan(step, environment.reset(key), jax.random.split(jax.random.fold_in(key, 1), 20))
        return guess[9], state.best  # after ten pulls, one a lane: independent

    guess, best = (np.asarray(x) for x in jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), 8_000)))
    truth = np.any(np.diff(best[:, 6:11]) != 0, axis=1)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0)):
        inside = (guess >= low) & (guess < high)
        assert inside.sum() > 100
        assert abs(truth[inside].mean() - guess[inside].mean()) < 4 * np.sqrt(0.25 / inside.sum())
    assert guess[truth].mean() > 2 * guess[~truth].mean()


@pytest.mark.parametrize("shift_probability", [0.0, 0.2, 1.0])
def test_arms_shift_as_often_as_said(tokenizer, shift_probability):
    environment = make_restless_bandit(tokenizer, 10, shift_probability)
    best = np.asarray(jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 5000)).best)
    assert best.shape == (5000, 11) and set(np.unique(best)) == {0, 1}
    assert abs(best[:, 0].mean() - 0.5) < 4 * 0.5 / np.sqrt(5000)
    shifts = best[:, 1:] != best[:, :-1]
    error = 4 * np.sqrt(shift_probability * (1 - shift_probability) / 5000) + 1e-9
    assert np.all(np.abs(shifts.mean(0) - shift_probability) <= error)


def test_history_is_what_was_pulled_and_paid(tokenizer):
    environment = make_restless_bandit(tokenizer, 5)
    actions = np.array([0, 1, 1, 0, 1, 0, 1])

    @jax.jit
    @jax.vmap
    def play(key):
        step = lambda state, x: (lambda s, answer: (s, (s, answer)))(*environment.step(x[0], state, x[1]))
        keys = jax.random.split(jax.random.fold_in(key, 1), len(actions))
        return jax.lax.scan(step, environment.reset(key), (keys, jnp.asarray(actions, jnp.int32)))[1]

    states, steps = jax.tree.map(np.asarray, play(jax.random.split(jax.random.key(0), 50)))
    for t in range(len(actions)):
        made = min(t + 1, 5)
        assert np.all(states.num_pulled[:, t] == made)
        assert np.array_equal(states.pulled[:, t, :made], np.tile(actions[:made], (50, 1)))
        assert np.array_equal(states.paid[:, t, :made], steps.reward[:, :made])
        assert not states.pulled[:, t, made:].any() and not states.paid[:, t, made:].any()
        assert np.all(steps.terminated[:, t] == (t >= 4)) and not steps.truncated.any()
    assert not steps.reward[:, 5:].any()
    assert np.array_equal(states.best[:, 0], states.best[:, -1])


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
def test_text_of_an_episode(load):
    tokenizer = load()
    environment = make_restless_bandit(tokenizer, 4, 0.1, 1.0)
    state = environment.reset(jax.random.key(0))._replace(best=jnp.array([0, 0, 1, 1, 1]))
    parts = [environment.describe(state)]
    for action in (0, 1, 0, 1):
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
        parts += [text.say_choice(environment.grammar, action), environment.describe(state)]
    whole = text.concatenate(*parts)
    assert text.to_string(tokenizer, whole) == "Pull A or B for 4 steps: A 1: B 0: A 0: B 1\n"
    assert text.check_text(tokenizer, whole) == []


def test_evidence_is_the_state_hash(tokenizer):
    environment = make_restless_bandit(tokenizer, 5)
    state_hashes = {}
    for count in range(6):
        for pulled in itertools.product((0, 1), repeat=count):
            for paid in itertools.product((0, 1), repeat=count):
                evidence = tuple(arm == 1 - won for arm, won in zip(pulled, paid))
                state_hashes.setdefault(evidence, set()).add(int(environment.state_hash(state_of(pulled, paid, 5))))
    assert all(len(x) == 1 for x in state_hashes.values())  # the same evidence, the same decision
    assert len(set.union(*state_hashes.values())) == len(state_hashes) == 63


def test_state_hash_of_a_long_episode_tells_the_latest_answers(tokenizer):
    environment = make_restless_bandit(tokenizer, 40)
    last = lambda paid: int(environment.state_hash(state_of((0,) * 40, (0,) * 38 + paid, 40)))
    assert len({last(paid) for paid in itertools.product((0, 1), repeat=2)}) == 4


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(num_pulls=0), "at least 1"),
        (dict(shift_probability=-0.1), "shift_probability from 0 to 1"),
        (dict(shift_probability=1.1), "shift_probability from 0 to 1"),
        (dict(pay_probability=0.5), "pay_probability above 0.5"),
        (dict(pay_probability=1.2), "at most 1"),
    ],
)
def test_bad_arguments(tokenizer, options, says):
    with pytest.raises(ValueError, match=says):
        make_restless_bandit(tokenizer, **options)
    with pytest.raises(ValueError, match=says):
        restless.optimal_return_bounds(**{**dict(num_pulls=3, shift_probability=0.1, pay_probability=0.9), **options})
