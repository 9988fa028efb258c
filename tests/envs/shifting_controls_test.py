import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import shifting_controls as controls
from arl.envs import shifting_controls_bounds as bounds
from arl.training import adaptation
from tests.second_tokenizer import second_tokenizer

GAMES = {
    "once": dict(num_actions=3, num_steps=6, shift_range=(2, 4)),
    "once_plain": dict(num_actions=3, num_steps=5, shift_range=(1, 4), starts_plain=True),
    "hazard": dict(num_actions=3, num_steps=5, hazard=0.2),
    "hazard_plain": dict(num_actions=2, num_steps=7, hazard=0.3, starts_plain=True),
}


def paths(num_actions, num_steps, shift_range=None, hazard=None, starts_plain=False):
    """All courses that the permutations can take (int `[N, num_steps]`) and their probabilities, written down from the rules."""
    size = math.factorial(num_actions)
    courses = {}
    firsts = {0: 1.0} if starts_plain else dict.fromkeys(range(size), 1.0 / size)
    if hazard is None:
        first, last = shift_range
        for before, at, after in itertools.product(firsts, range(first, last + 1), range(size)):
            if after != before:
                chance = firsts[before] / (last - first + 1) / (size - 1)
                courses[(before,) * at + (after,) * (num_steps - at)] = chance
    else:
        for course in itertools.product(range(size), repeat=num_steps):
            stays = [a == b for a, b in itertools.pairwise(course)]
            chance = firsts.get(course[0], 0.0) * math.prod(1 - hazard if stay else hazard / (size - 1) for stay in stays)
            if chance:
                courses[course] = chance
    return np.array(list(courses)), np.array(list(courses.values()))


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_filter_is_bayes_rule_over_all_courses(tokenizer, game):
    environment, table = controls.make_shifting_controls(tokenizer, **game), controls.permutations(game["num_actions"])
    course, chance = paths(**game)
    assert chance.sum() == pytest.approx(1.0)
    last_shift = lambda t: np.max(np.where(np.diff(course[:, : t + 1], axis=1) != 0, np.arange(1, t + 1), -99), axis=1, initial=-99)
    step, filtered = jax.jit(environment.step), jax.jit(controls.posterior)
    for seed in range(3):
        state = environment.reset(jax.random.key(seed))
        words = np.random.default_rng(seed).integers(game["num_actions"], size=game["num_steps"])
        weight = chance.copy()
        for t, word in enumerate(words):
            state, _ = step(jax.random.key(9), state, jnp.int32(word))
            weight *= table[course[:, t], word] == int(state.controls[t, word])
            since = t - last_shift(t)
            row = np.where(since > 90, -1, np.minimum(since, controls.NUM_RECENT))
            expected = np.zeros((controls.NUM_RECENT + 2, len(table)))
            np.add.at(expected, (row, course[:, t]), weight / weight.sum())
            np.testing.assert_allclose(filtered(state), expected, atol=2e-6)
            for within in (1, controls.NUM_RECENT):
                is_recent = (since < within) & (row >= 0)
                assert float(controls.change_probability(state, within)) == pytest.approx(weight @ is_recent / weight.sum(), abs=2e-6)


def exact_returns(game):
    """Expected returns of the best policy, and of the one that writes what most probably is right, over all that can be asked and seen."""
    table, (course, chance) = controls.permutations(game["num_actions"]), paths(**game)
    num_actions, num_steps = game["num_actions"], game["num_steps"]

    def value(t, weight, is_greedy):
        """Weighted with the probability of what was seen so far."""
        if t == num_steps:
            return 0.0
        went = table[course[:, t]]
        later = []
        for word in range(num_actions):
            later.append(sum(follow(t + 1, weight * (went[:, word] == direction), is_greedy) for direction in range(num_actions)))
        total = 0.0
        for asked in range(num_actions):
            right = np.array([weight @ (went[:, word] == asked) for word in range(num_actions)])
            values = right + np.array(later)
            total += (values[np.argmax(right.round(12))] if is_greedy else values.max()) / num_actions
        return total

    @functools.cache
    def remembered(t, weight, is_greedy):
        return value(t, np.frombuffer(weight), is_greedy)

    def follow(t, weight, is_greedy):
        return remembered(t, weight.tobytes(), is_greedy) if weight.any() else 0.0

    return follow(0, chance, False), follow(0, chance, True)


@pytest.mark.parametrize(
    "game",
    [
        dict(num_actions=2, num_steps=9, hazard=0.3, starts_plain=True),
        dict(num_actions=3, num_steps=4, shift_range=(1, 3)),
        dict(num_actions=3, num_steps=4, hazard=0.2),
        dict(num_actions=3, num_steps=7, shift_range=(3, 5)),
        dict(num_actions=3, num_steps=6, shift_range=(3, 4), starts_plain=True),
    ],
)
def test_what_the_filter_earns_is_the_best_that_anybody_can(game):
    best, greedy = exact_returns(game)
    mean, half_width = controls.adaptive_return(**game)
    assert greedy == pytest.approx(best) and best < bounds.informed_return(game["num_steps"])
    assert abs(mean - greedy) <= 2 * half_width


def test_expert_reaches_the_optimum(tokenizer, episodes, agrees):
    game = dict(num_actions=3, num_steps=4, shift_range=(1, 3))
    environment = controls.make_shifting_controls(tokenizer, **game)
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 6000, 5)
    assert is_over.all() and set(num_steps) == {4}
    assert agrees(returns, exact_returns(game)[0])


@pytest.mark.parametrize("game", [dict(), dict(starts_plain=True, hazard=0.1)], ids=["default", "hazard"])
def test_all_players_earn_what_is_computed(tokenizer, episodes, uniform, agrees, game):
    environment = controls.make_shifting_controls(tokenizer, **game)
    play = lambda policy, num_games: episodes(environment, policy, 0, num_games, environment.max_steps)[0]
    mean, half_width = controls.adaptive_return(**game)
    expert = play(environment.expert, 2000)
    assert abs(expert.mean() - mean) <= 2 * half_width + 4 * expert.std() / np.sqrt(2000)
    assert agrees(play(uniform(environment), 4000), controls.random_return())
    assert agrees(play(lambda key, state: state.asked[state.num_steps], 4000), bounds.fixed_rewards(**game).sum())
    knows = lambda key, state: jnp.argmax(state.controls[state.num_steps] == state.asked[state.num_steps])
    assert np.all(play(knows, 500) == bounds.informed_return())
    assert bounds.fixed_rewards(**game).sum() < mean - half_width < bounds.informed_return()


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_fixed_strategy_in_closed_form(game):
    course, chance = paths(**game)
    table = controls.permutations(game["num_actions"])
    is_kept = (table == np.arange(game["num_actions"])).mean(1)  # how often a word moves as it says
    np.testing.assert_allclose(bounds.fixed_rewards(**game), chance @ is_kept[course], atol=1e-12)


def test_the_filter_falls_at_the_shift_and_recovers_and_a_fixed_strategy_does_not():
    reward, is_shift = bounds.play_filter(starts_plain=True, num_games=20_000)
    assert is_shift.dtype == bool and np.all(is_shift.sum(1) == 1)
    since_shift = adaptation.since_shift(is_shift)
    curve = np.array([reward[since_shift == t].mean() for t in range(-5, 7)])
    assert curve[:5].min() > 0.9 and curve[5] < 0.4 and np.all(np.diff(curve[5:]) > 0) and curve[-1] > 0.9
    assert bounds.fixed_rewards(starts_plain=True)[-1] < 0.25


def test_change_is_believed_as_often_as_it_happens(tokenizer):
    environment = controls.make_shifting_controls(tokenizer, 3, 12)

    @jax.jit
    @jax.vmap
    def play(key):
        def step(state, _):
            state, _ = environment.step(key, state, environment.expert(key, state))
            return state, controls.change_probability(state, 2)

        state, belief = jax.lax.scan(step, environment.reset(key), None, 12)
        return belief, state.is_shift

    belief, is_so = (np.array(x) for x in play(jax.random.split(jax.random.key(0), 3000)))
    is_so[:, 1:] |= is_so[:, :-1].copy()  # before the last step, or the one before
    bins = np.digitize(belief, [0.02, 0.1, 0.25, 0.4, 0.6, 0.8])
    for which in range(7):
        inside = bins == which
        assert inside.sum() > 300
        assert abs(is_so[inside].mean() - belief[inside].mean()) < 4 * np.sqrt(0.25 / inside.sum())


def test_shifts_are_drawn_as_said(tokenizer):
    keys = jax.random.split(jax.random.key(0), 6000)
    state = jax.vmap(controls.make_shifting_controls(tokenizer, 3, 10, (3, 6)).reset)(keys)
    is_shift, course = np.asarray(state.is_shift), np.asarray(state.controls)
    assert np.all(is_shift.sum(1) == 1)
    counts = is_shift.sum(0)
    assert counts[:3].sum() == counts[7:].sum() == 0 and np.all(abs(counts[3:7] - 1500) < 4 * np.sqrt(1500 * 3 / 4))
    assert np.array_equal(np.any(np.diff(course, axis=1) != 0, axis=2), is_shift[:, 1:])
    after = np.bincount(course[:, -1] @ [9, 3, 1], minlength=27)
    assert np.all(abs(after[after > 0] - 1000) < 4 * np.sqrt(1000)) and (after > 0).sum() == 6
    asked = np.bincount(np.asarray(state.asked).ravel())
    assert np.all(abs(asked - 20000) < 4 * np.sqrt(60000 * 2 / 9))

    state = jax.vmap(controls.make_shifting_controls(tokenizer, 2, 10, hazard=0.25, starts_plain=True).reset)(keys)
    is_shift = np.asarray(state.is_shift)
    assert not is_shift[:, 0].any() and np.all(abs(is_shift[:, 1:].mean(0) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 6000))
    assert np.all(np.asarray(state.controls)[:, 0] == [0, 1])


def test_rewards_and_ends(tokenizer):
    environment = controls.make_shifting_controls(tokenizer, 3, 4, (2, 2))
    swapped, turned = [1, 0, 2], [1, 2, 0]
    state = environment.reset(jax.random.key(0))._replace(asked=jnp.array([0, 1, 1, 2]), controls=jnp.array([swapped] * 2 + [turned] * 2))
    rewards, ends = [], []
    for word in (1, 1, 0, 1, 1, 0):
        state, answer = environment.step(jax.random.key(1), state, jnp.int32(word))
        rewards.append(float(answer.reward))
        ends.append(bool(answer.terminated))
        assert not answer.truncated
    assert rewards == [1, 0, 1, 1, 0, 0] and ends == [False] * 3 + [True] * 3
    assert list(state.words) == [1, 1, 0, 1] and list(controls.moved(state)) == [0, 0, 1, 2] and int(state.num_steps) == 4


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
def test_text_of_an_episode(load):
    tokenizer = load()
    environment = controls.make_shifting_controls(tokenizer, 4, 4)
    permutation = jnp.array([[3, 2, 0, 1]] * 4)
    state = environment.reset(jax.random.key(0))._replace(asked=jnp.array([2, 0, 3, 1]), controls=permutation)
    parts = [environment.describe(state)]
    for word in (0, 1, 2, 3):
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(word))
        parts += [text.say_choice(environment.grammar, word), environment.describe(state)]
    said = text.concatenate(*parts)
    assert text.to_string(tokenizer, said) == "Move up: left down, left: right up, down: up left, right: down right\n"
    assert text.check_text(tokenizer, said) == []


def test_a_turn_is_five_tokens(tokenizer):
    environment = controls.make_shifting_controls(tokenizer)
    state = environment.reset(jax.random.key(0))
    assert environment.describe(state).ids.shape == (4,) and text.longest(environment.grammar) == 1


def test_expert_uses_what_is_seen_alone(tokenizer):
    """Other controls that moved every word written to the same place give the same belief, action and state hash."""
    environment = controls.make_shifting_controls(tokenizer, 4, 6)
    state = environment.reset(jax.random.key(0))._replace(controls=jnp.array([[0, 1, 2, 3]] * 6), asked=jnp.array([0, 1, 0, 1, 3, 2]))
    other = state._replace(controls=jnp.array([[0, 1, 3, 2]] * 6), is_shift=~state.is_shift)
    for word in (0, 1, 0, 1):
        (state, _), (other, _) = (environment.step(jax.random.key(1), x, jnp.int32(word)) for x in (state, other))
        assert np.array_equal(controls.posterior(state), controls.posterior(other))
        assert environment.expert(jax.random.key(1), state) == environment.expert(jax.random.key(1), other)
        assert environment.state_hash(state) == environment.state_hash(other)


def test_what_was_seen_and_is_asked_is_the_state_hash(tokenizer):
    environment = controls.make_shifting_controls(tokenizer, 3, 4)
    table, histories, states = controls.permutations(3), [], []
    state = environment.reset(jax.random.key(0))
    for num_steps in range(3):
        for words in itertools.product(range(3), repeat=num_steps):
            for course in itertools.product(range(6), repeat=num_steps):
                for asked in range(3):
                    histories.append((tuple(zip(words, table[list(course), list(words)].tolist(), strict=True)), asked))
                    course_padded, words_padded = [*course, *[0] * (4 - num_steps)], [*words, *[0] * (4 - num_steps)]
                    states.append((table[course_padded], words_padded, num_steps, [asked] * 4))
    course, words, num_steps, asked = (jnp.asarray(np.array(x), jnp.int32) for x in zip(*states, strict=True))
    state_hash = lambda c, w, n, a: environment.state_hash(state._replace(controls=c, words=w, num_steps=n, asked=a))
    state_hashes = np.asarray(jax.vmap(state_hash)(course, words, num_steps, asked)).tolist()
    assert len(set(state_hashes)) == len(set(histories)) == len(set(zip(state_hashes, histories, strict=True)))


def test_a_batch_is_its_lanes_and_the_same_key_the_same_game(tokenizer):
    environment = controls.make_shifting_controls(tokenizer, 4, 8)

    def run(key):
        def step(state, _):
            action = environment.expert(key, state)
            state, answer = environment.step(key, state, action)
            return state, (action, answer, environment.describe(state))

        return jax.lax.scan(step, environment.reset(key), None, 8)

    keys = jax.random.split(jax.random.key(3), 6)
    batch, one = jax.jit(jax.vmap(run))(keys), jax.jit(run)
    for lane in range(6):
        assert jax.tree.all(jax.tree.map(lambda a, b, i=lane: np.array_equal(a, b[i]), one(keys[lane]), batch))


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(num_actions=1), "set num_actions to 2, ..., 4"),
        (dict(num_actions=5), "set num_actions"),
        (dict(num_steps=0), "set num_steps to at least 1"),
        (dict(num_steps=1), "set num_steps to at least 2"),
        (dict(shift_range=(0, 3)), "choose 1 <= first"),
        (dict(shift_range=(5, 3)), "choose 1 <= first"),
        (dict(shift_range=(5, 20)), "choose 1 <= first"),
        (dict(hazard=0.0), "choose one between 0 and 1"),
        (dict(hazard=1.5), "choose one between 0 and 1"),
        (dict(hazard=0.1, shift_range=(1, 2)), "give one of them"),
    ],
)
def test_bad_arguments(tokenizer, options, says):
    with pytest.raises(ValueError, match=says):
        controls.make_shifting_controls(tokenizer, **options)


@pytest.mark.parametrize("within", [0, controls.NUM_RECENT + 1])
def test_a_window_that_the_filter_does_not_tell_apart_is_refused(tokenizer, within):
    state = controls.make_shifting_controls(tokenizer).reset(jax.random.key(0))
    with pytest.raises(ValueError, match="set within to 1, ..., 3"):
        controls.change_probability(state, within)
