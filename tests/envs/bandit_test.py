import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arl import text
from arl.envs import bandit

LEVELS = (0.1, 0.5, 0.9)


def probability_of(history, num_arms, levels):
    """Of the outcomes of a history of (arm, outcome), before anything is known: an integral over independent arms."""
    result = 1.0
    for arm in range(num_arms):
        wins = sum(paid for which, paid in history if which == arm)
        losses = sum(1 - paid for which, paid in history if which == arm)
        if levels is None:
            result *= math.factorial(wins) * math.factorial(losses) / math.factorial(wins + losses + 1)  # the Beta integral
        else:
            result *= np.mean([p**wins * (1 - p) ** losses for p in levels])
    return result


@pytest.mark.parametrize("levels", [None, LEVELS, (0.2, 0.2, 0.7)])
def test_bayes_optimum_is_the_best_of_all_policies_and_the_baseline_their_mean(levels):
    num_arms, num_pulls = 2, 3
    situations = [h for n in range(num_pulls) for h in itertools.product((0, 1), repeat=n)]  # what was paid so far
    returns = []
    for choice in itertools.product(range(num_arms), repeat=len(situations)):
        policy = dict(zip(situations, choice, strict=True))
        total = 0.0
        for paid in itertools.product((0, 1), repeat=num_pulls):
            history = [(policy[paid[:t]], paid[t]) for t in range(num_pulls)]
            total += sum(paid) * probability_of(history, num_arms, levels)
        returns.append(total)
    assert bandit.optimal_return(num_arms, num_pulls, levels) == pytest.approx(max(returns), abs=1e-12)
    assert bandit.random_return(num_arms, num_pulls, levels) == pytest.approx(np.mean(returns), abs=1e-12)


def test_closed_forms():
    assert bandit.optimal_return(2, 1) == pytest.approx(1 / 2)
    assert bandit.optimal_return(2, 2) == pytest.approx(1 / 2 + (2 / 3 + 1 / 2) / 2)  # stay after a win, leave after a loss
    assert bandit.optimal_return(3, 6, (0.25,)) == pytest.approx(1.5)
    assert bandit.informed_return(2, 10) == pytest.approx(20 / 3)
    assert bandit.informed_return(2, 1, (0.0, 1.0)) == pytest.approx(3 / 4)
    assert bandit.informed_return(3, 4, LEVELS) == pytest.approx(4 * np.mean([max(x) for x in itertools.product(LEVELS, repeat=3)]))
    assert bandit.optimal_return(2, 5, (0.0, 1.0)) == pytest.approx(5 * 3 / 4 - 1 / 4)  # one pull is lost to find out, in a case of four


@pytest.mark.parametrize("num_arms, num_pulls, levels", [(2, 12, None), (3, 8, None), (2, 10, LEVELS), (4, 5, None), (26, 4, None)])
def test_optimum_lies_between_baseline_and_bound(num_arms, num_pulls, levels):
    arguments = num_arms, num_pulls, levels
    assert bandit.random_return(*arguments) < bandit.optimal_return(*arguments) < bandit.informed_return(*arguments)


@pytest.mark.parametrize("num_arms, num_pulls", [(2, 6), (3, 4)])
def test_rank_numbers_the_tables_of_counts_by_pulls(num_arms, num_pulls):
    tables = np.array([x for x in itertools.product(range(num_pulls + 1), repeat=2 * num_arms) if sum(x) <= num_pulls])
    place = bandit.rank(tables, bandit.binomials(num_arms, num_pulls))
    assert sorted(place) == list(range(len(tables)))
    total = tables.sum(1)
    assert np.all(np.diff(total[np.argsort(place)]) >= 0)
    assert np.sum(total < num_pulls) == bandit.num_decisions(num_arms, num_pulls)


@pytest.mark.parametrize("num_arms, num_pulls, levels", [(2, 10, None), (3, 6, None), (2, 10, LEVELS)])
def test_expert_and_random_policy_earn_what_is_computed(tokenizer, episodes, uniform, agrees, num_arms, num_pulls, levels):
    environment = bandit.make_bandit(tokenizer, num_arms, num_pulls, levels)
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 20000, num_pulls + 2)
    assert is_over.all() and set(num_steps) == {num_pulls}
    assert agrees(returns, bandit.optimal_return(num_arms, num_pulls, levels))
    returns, _, _ = episodes(environment, uniform(environment), 1, 20000, num_pulls + 2)
    assert agrees(returns, bandit.random_return(num_arms, num_pulls, levels))
    best = lambda key, state: jnp.argmax(state.probability)
    assert agrees(episodes(environment, best, 2, 20000, num_pulls)[0], bandit.informed_return(num_arms, num_pulls, levels))


def test_index_in_closed_form():
    index = bandit.gittins_index(12, None)
    wins, losses = np.meshgrid(np.arange(4), np.arange(4), indexing="ij")
    np.testing.assert_allclose(index[0, :4, :4], (wins + 1) / (wins + losses + 2), atol=1e-6)  # one pull left: what it pays
    # Two pulls left, nothing known: 2 x = 1/2 (1 + 2/3) + 1/2 x.
    assert index[1, 0, 0] == pytest.approx(5 / 9, abs=1e-3)
    assert np.all(np.diff(index[:8, 2, 1]) > 0)  # the more is left, the more knowledge is worth


@pytest.mark.parametrize("num_pulls, levels", [(9, None), (8, LEVELS)])
def test_index_policy_is_almost_optimal(num_pulls, levels):
    index, mean = bandit.gittins_index(num_pulls, levels), bandit.posterior_mean(num_pulls, levels)
    values = {}
    for pulled in reversed(range(num_pulls)):
        for wins in itertools.product(range(pulled + 1), repeat=2):
            for losses in itertools.product(range(pulled + 1), repeat=2):
                if sum(wins) + sum(losses) != pulled:
                    continue
                arm = max(range(2), key=lambda i: index[num_pulls - pulled - 1, wins[i], losses[i]])
                more_wins, more_losses = (tuple(n + (i == arm) for i, n in enumerate(x)) for x in (wins, losses))
                pays = mean[wins[arm], losses[arm]]
                win, lose = values.get((more_wins, losses), 0.0), values.get((wins, more_losses), 0.0)
                values[wins, losses] = pays * (1 + win) + (1 - pays) * lose
    best = bandit.optimal_return(2, num_pulls, levels)
    assert 0.995 * best <= values[(0, 0), (0, 0)] <= best + 1e-9


def test_a_game_too_large_to_solve_has_an_expert_and_a_bound(tokenizer, episodes):
    with pytest.raises(ValueError, match="informed_return"):
        bandit.optimal_return(5, 20)
    environment = bandit.make_bandit(tokenizer, 5, 20)
    mean = episodes(environment, environment.expert, 0, 4000, 20)[0].mean()
    floor, bound = bandit.random_return(5, 20), bandit.informed_return(5, 20)
    assert (mean - floor) / (bound - floor) > 0.5
    assert mean < bound


@pytest.fixture(scope="module")
def play(tokenizer):
    environment = bandit.make_bandit(tokenizer, 3, 5)

    @jax.jit
    def play(seed, actions):
        key = jax.random.key(seed)
        step = lambda state, x: (lambda s, answer: (s, (s, answer)))(*environment.step(jax.random.fold_in(key, x[0]), state, x[1]))
        return jax.lax.scan(step, environment.reset(key), (jnp.arange(7), actions))[1]

    return play


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 2), min_size=7, max_size=7))
def test_counts_are_what_was_pulled_and_paid(play, seed, actions):
    states, steps = play(seed, jnp.asarray(actions, jnp.int32))
    for t in range(7):
        made = min(t + 1, 5)
        assert list(np.asarray(states.wins + states.losses)[t]) == list(np.bincount(actions[:made], minlength=3))
        assert states.wins[t].sum() == steps.reward[: t + 1].sum()
        assert steps.terminated[t] == (t >= 4) and not steps.truncated[t]
        assert states.answer[t] == (bandit.WON if steps.reward[min(t, 4)] else bandit.LOST)


def test_text_of_an_episode(tokenizer):
    environment = bandit.make_bandit(tokenizer, 3, 3, levels=(0.0, 1.0))
    state = environment.reset(jax.random.key(0))._replace(probability=jnp.array([1.0, 0.0, 1.0]))
    heard = [text.to_string(tokenizer, environment.describe(state))]
    for action in (0, 1, 2, 1):
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
        heard.append(text.to_string(tokenizer, environment.describe(state)))
    assert heard == ["Pull A, B or C for 3 steps:", " 1:", " 0:", " 1\n", " 1\n"]


def test_levels_are_drawn_uniformly(tokenizer):
    environment = bandit.make_bandit(tokenizer, 2, 3, LEVELS)
    drawn = np.asarray(jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 4500)).probability)
    counts = np.array([np.sum(np.isclose(drawn, level)) for level in LEVELS])
    assert counts.sum() == 9000 and np.all(np.abs(counts - 3000) < 4 * np.sqrt(9000 * 2 / 9))
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 4 / np.sqrt(4500)


def test_counts_are_the_state_hash(tokenizer):
    environment = bandit.make_bandit(tokenizer, 2, 4)
    tables = [x for x in itertools.product(range(5), repeat=4) if sum(x) <= 4]
    wins, losses = np.array(tables)[:, :2], np.array(tables)[:, 2:]
    state = lambda i: bandit.BanditState(jnp.zeros(2), jnp.asarray(wins[i], jnp.int32), jnp.asarray(losses[i], jnp.int32), jnp.int32(1))
    assert len({int(environment.state_hash(state(i))) for i in range(len(tables))}) == len(tables)


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(num_arms=1), "num_arms"),
        (dict(num_arms=27), "num_arms"),
        (dict(num_pulls=0), "num_pulls"),
        (dict(num_pulls=201), "at most 200"),
        (dict(levels=()), "probabilities"),
        (dict(levels=(0.5, 1.2)), "probabilities"),
    ],
)
def test_bad_arguments(tokenizer, options, says):
    with pytest.raises(ValueError, match=says):
        bandit.make_bandit(tokenizer, **options)
