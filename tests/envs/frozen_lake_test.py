import itertools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.toy_text import frozen_lake as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from arl import text
from arl.envs import frozen_lake as lake
from arl.envs import lake_maps

OWN = ("FHFF", "SFFG", "GFHF")
LAKES = [("4x4", True), ("4x4", False), ("8x8", True), (OWN, True), (OWN, False)]


def gymnasium_lake(map, is_slippery):
    where = {"map_name": map} if isinstance(map, str) else {"desc": list(map)}
    return gymnasium.make("FrozenLake-v1", is_slippery=is_slippery, **where).unwrapped


def test_given_maps_are_those_of_gymnasium():
    assert {name: list(rows) for name, rows in lake_maps.MAPS.items()} == reference.MAPS
    assert [reference.LEFT, reference.DOWN, reference.RIGHT, reference.UP] == [0, 1, 2, 3]


@pytest.mark.parametrize("map, is_slippery", LAKES)
def test_every_transition_of_the_oracle_is_that_of_gymnasium(map, is_slippery):
    probability, reward = lake_maps.transitions(map, is_slippery)
    for tile, moves in gymnasium_lake(map, is_slippery).P.items():
        for action, outcomes in moves.items():
            expected = np.zeros(probability.shape[2])
            for p, next_tile, _, _ in outcomes:
                expected[next_tile] += p
            np.testing.assert_allclose(probability[tile, action], expected, atol=1e-12)
            assert reward[tile, action] == pytest.approx(sum(p * r for p, _, r, _ in outcomes))


@pytest.mark.parametrize("map, is_slippery", LAKES)
def test_every_step_is_a_transition_of_gymnasium(tokenizer, map, is_slippery):
    environment = lake.make_frozen_lake(tokenizer, map, is_slippery)
    P = gymnasium_lake(map, is_slippery).P
    keys = jax.random.split(jax.random.key(0), 64)
    slips = [keys[int(np.argmax(np.asarray(jax.vmap(jax.random.bits)(keys)) % 3 == slip))] for slip in range(3)]
    slips = jnp.stack(slips) if is_slippery else jnp.stack(slips[:1])
    tile, action = (x.ravel() for x in np.meshgrid(np.arange(len(P)), np.arange(4), indexing="ij"))
    state = lake.FrozenLakeState(jnp.zeros(len(tile), jnp.int32), jnp.asarray(tile, jnp.int32), jnp.zeros(len(tile), jnp.int32))
    over_slips = jax.vmap(environment.step, (0, None, None))
    after, answer = jax.jit(jax.vmap(over_slips, (None, 0, 0)))(slips, state, jnp.asarray(action, jnp.int32))
    for i, (s, a) in enumerate(zip(tile, action, strict=True)):
        for j in range(len(slips)):
            _, next_tile, reward, is_over = P[s][a][j % len(P[s][a])]  # a hole or a goal has one outcome, whatever the slip
            assert after.tile[i, j] == next_tile
            assert (answer.reward[i, j], answer.terminated[i, j], answer.truncated[i, j]) == (reward, is_over, False)


def test_slips_are_equally_likely(tokenizer):
    environment = lake.make_frozen_lake(tokenizer, "8x8")
    state = lake.FrozenLakeState(jnp.int32(0), jnp.int32(9), jnp.int32(0))  # all its neighbours are frozen
    after, _ = jax.vmap(environment.step, (0, None, None))(jax.random.split(jax.random.key(1), 9000), state, jnp.int32(2))
    counts = np.bincount(np.asarray(after.tile), minlength=64)[[17, 10, 1]]
    assert counts.sum() == 9000
    assert np.all(np.abs(counts - 3000) < 4 * np.sqrt(9000 * 2 / 9))


def test_oracle_and_baseline_are_the_best_and_the_mean_of_all_policies():
    map, horizon = ("SF", "HG"), 3
    probability, reward = lake_maps.transitions(map, True)
    returns = []
    for choices in itertools.product(range(4), repeat=2 * horizon):  # an action for each ice tile and move
        value = np.zeros(4)
        for step in range(horizon):
            policy = [choices[2 * step], choices[2 * step + 1], 0, 0]
            value = np.array([reward[s, a] + probability[s, a] @ value for s, a in enumerate(policy)])
        returns.append(value[0])
    assert lake.optimal_return(map, True, horizon) == pytest.approx(max(returns), abs=1e-12)
    # Each time is met once, so that drawing a move when it is needed is drawing the whole policy before.
    assert lake.random_return(map, True, horizon) == pytest.approx(np.mean(returns), abs=1e-12)


def test_closed_forms():
    assert lake.optimal_return(("SG",), False, 1) == 1.0
    assert lake.random_return(("SG",), False, 2) == pytest.approx(1 - (3 / 4) ** 2)
    assert lake.optimal_return(("SG",), True, 1) == pytest.approx(1 / 3)
    assert lake.optimal_return("4x4", False, 5) == 0.0
    assert lake.optimal_return("4x4", False, 6) == 1.0
    returns = [lake.optimal_return("4x4", True, h) for h in (1, 10, 100, 1000)]
    assert returns == sorted(returns)
    assert returns[-1] == pytest.approx(14 / 17, abs=1e-6)  # the known limit without discount, 0.8235


@pytest.mark.parametrize("map, is_slippery, only, horizon", [("4x4", True, False, 64), ("8x8", True, True, 60), ("8x8", False, True, 20)])
def test_expert_and_random_policy_earn_what_is_computed(tokenizer, episodes, uniform, agrees, map, is_slippery, only, horizon):
    environment = lake.make_frozen_lake(tokenizer, map, is_slippery, only_moves_that_exist=only, horizon=horizon)
    expert = episodes(environment, environment.expert, 2, 8000, horizon)[0]
    assert agrees(expert, lake.optimal_return(map, is_slippery, horizon, only))
    random = episodes(environment, uniform(environment), 3, 20000, horizon)[0]
    assert agrees(random, lake.random_return(map, is_slippery, horizon, only))


def test_expert_earns_the_optimum_on_a_pool_of_maps(tokenizer, episodes, uniform, agrees):
    options = dict(map="4x4", is_slippery=True, num_random_maps=7, seed=5, horizon=30)
    environment = lake.make_frozen_lake(tokenizer, **options)
    maps = lake.random_maps(7, "4x4", seed=5)
    assert agrees(episodes(environment, environment.expert, 4, 8000, 30)[0], np.mean([lake.optimal_return(m, True, 30) for m in maps]))
    assert agrees(episodes(environment, uniform(environment), 5, 8000, 30)[0], np.mean([lake.random_return(m, True, 30) for m in maps]))


def test_expert_takes_the_shortest_path_where_nothing_slips(tokenizer, episodes):
    environment = lake.make_frozen_lake(tokenizer, "8x8", is_slippery=False, horizon=100)
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 2, 20)
    assert list(returns) == [1.0, 1.0] and list(num_steps) == [14, 14] and is_over.all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.6, 1.0), st.sampled_from(["4x4", "8x8", OWN]))
def test_random_maps_can_be_solved_and_follow_the_seed(seed, frozen_probability, size):
    maps = lake.random_maps(3, size, frozen_probability, seed)
    assert maps == lake.random_maps(3, size, frozen_probability, seed)
    for rows in maps:
        assert np.array(rows).size == lake.read_map(size).shape[0] and rows[0][0] == "S" and rows[-1][-1] == "G"
        if len(rows) == len(rows[0]):
            assert reference.is_valid([list(row) for row in rows], len(rows))
        assert lake.optimal_return(rows, False, 64) == 1.0


@pytest.mark.parametrize("rows", [("SH", "HG"), ("SHF", "FHF", "FHG")])
def test_a_map_without_a_path_is_not_solvable(rows):
    assert not reference.is_valid([list(row) for row in rows], len(rows))
    with pytest.raises(ValueError, match="No path"):
        lake.read_map(rows)


def test_only_moves_that_exist_are_legal(tokenizer):
    environment = lake.make_frozen_lake(tokenizer, "4x4", only_moves_that_exist=True)
    at = lambda tile: list(np.asarray(environment.legal(lake.FrozenLakeState(jnp.int32(0), jnp.int32(tile), jnp.int32(0)))))
    assert at(0) == [False, True, True, False]
    assert at(4) == [False, True, True, True]
    assert at(6) == [True] * 4
    assert at(15) == [True, False, False, True]
    everything = lake.make_frozen_lake(tokenizer, "4x4")
    assert np.asarray(everything.legal(everything.reset(jax.random.key(0)))).all()


def test_text_of_an_episode(tokenizer):
    environment = lake.make_frozen_lake(tokenizer, "4x4", is_slippery=False)
    say = lambda state: text.to_string(tokenizer, environment.describe(state))
    state = environment.reset(jax.random.key(0))
    assert say(state) == "At 0 0:"
    heard = []
    for action in (2, 3, 1, 1):
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
        heard.append(say(state))
    assert heard == [" 0 1:", " 0 1:", " 1 1 hole\n", " 1 1 hole\n"]
    goal = lake.FrozenLakeState(jnp.int32(0), jnp.int32(15), jnp.int32(6))
    assert say(goal) == " 3 3 goal\n"


def test_random_maps_are_shown_after_the_reset(tokenizer):
    environment = lake.make_frozen_lake(tokenizer, "4x4", num_random_maps=5, seed=3)
    maps = lake.random_maps(5, "4x4", seed=3)
    seen = set()
    for seed in range(20):
        state = environment.reset(jax.random.key(seed))
        seen.add(int(state.map_index))
        said = text.to_string(tokenizer, environment.describe(state))
        assert [x for x in said.split("\nAt")[0] if x in lake.SYMBOLS] == list("".join(maps[int(state.map_index)]))
        assert said.startswith("Map:\n") and said.endswith("\nAt 0 0:")
    assert len(seen) == 5


def test_a_given_map_is_shown_on_demand(tokenizer):
    environment = lake.make_frozen_lake(tokenizer, ("SF", "HG"), show_map=True)
    state = environment.reset(jax.random.key(0))
    assert text.to_string(tokenizer, environment.describe(state)) == "Map:\nS F\nH G\nAt 0 0:"
    state, _ = environment.step(jax.random.key(0), state, jnp.int32(3))
    assert text.to_string(tokenizer, environment.describe(state)) in (" 0 0:", " 0 1:")
    hidden = lake.make_frozen_lake(tokenizer, num_random_maps=3, show_map=False)
    assert text.to_string(tokenizer, hidden.describe(hidden.reset(jax.random.key(0)))) == "At 0 0:"


def test_the_same_place_has_the_same_state_hash(tokenizer):
    environment = lake.make_frozen_lake(tokenizer, "4x4", num_random_maps=3)
    state = lambda m, t, n: lake.FrozenLakeState(jnp.int32(m), jnp.int32(t), jnp.int32(n))
    state_hashes = [int(environment.state_hash(state(m, t, n))) for n in (0, 5) for m in range(3) for t in range(16)]
    assert state_hashes[:48] == state_hashes[48:] and len(set(state_hashes)) == 48


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(map="5x5"), "no map '5x5'"),
        (dict(map=("SF", "G")), "rows of one length"),
        (dict(map=("SX", "FG")), "rows of one length"),
        (dict(map=("SS", "FG")), "exactly one"),
        (dict(map=("SH", "HG")), "No path"),
        (dict(num_random_maps=-1), "at least 1"),
        (dict(num_random_maps=2, frozen_probability=0.0), "frozen_probability"),
        (dict(map="8x8", num_random_maps=1, frozen_probability=0.01), "choose a larger"),
        (dict(horizon=0), "horizon"),
    ],
)
def test_bad_arguments(tokenizer, options, says):
    with pytest.raises(ValueError, match=says) as error:
        lake.make_frozen_lake(tokenizer, **options)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
