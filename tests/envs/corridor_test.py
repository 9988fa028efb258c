import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import corridor
from tests.second_tokenizer import second_tokenizer


@pytest.mark.parametrize("length, num_cues, is_distracting", [(1, 2, True), (8, 2, True), (5, 4, True), (3, 3, False)])
def test_memory_earns_all_and_a_random_door_its_share(tokenizer, episodes, uniform, agrees, length, num_cues, is_distracting):
    environment = corridor.make_corridor(tokenizer, length, num_cues, is_distracting)
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 4000, length + 3)
    assert is_over.all() and set(num_steps) == {length + 1} == {environment.max_steps}
    assert np.all(returns == corridor.optimal_return())
    returns, _, is_over = episodes(environment, uniform(environment), 1, 4000, length + 3)
    assert is_over.all() and agrees(returns, corridor.random_return(num_cues))


def test_who_has_forgotten_the_cue_is_at_chance(tokenizer, episodes, agrees):
    """Nothing but the first text depends on the cue: what the signs say, however it is used, does not help."""
    environment = corridor.make_corridor(tokenizer, 6, 3)
    last_sign = lambda key, state: state.signs[-1]
    most_signs = lambda key, state: jnp.argmax(jnp.bincount(state.signs, length=3))
    for policy in (last_sign, most_signs):
        walk = lambda key, state, policy=policy: jnp.where(environment.legal(state)[-1], 3, policy(key, state))
        assert agrees(episodes(environment, walk, 2, 6000, 7)[0], corridor.random_return(3))
    state = environment.reset(jax.random.key(0))
    for num_steps in range(1, 7):
        said = [environment.describe(state._replace(cue=jnp.int32(cue), num_steps=jnp.int32(num_steps))) for cue in range(3)]
        assert all(np.array_equal(said[0].ids, other.ids) and said[0].length == other.length for other in said)


def test_cue_and_signs_are_uniform_and_independent(tokenizer):
    environment = corridor.make_corridor(tokenizer, 4, 2)
    state = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 10000))
    drawn = np.concatenate([np.asarray(state.cue)[:, None], np.asarray(state.signs)], axis=1)
    assert np.all(abs(drawn.mean(0) - 0.5) < 4 * 0.5 / np.sqrt(10000))
    correlation = np.corrcoef(drawn.T) - np.eye(5)
    assert np.all(abs(correlation) < 4 / np.sqrt(10000))


def test_one_legal_action_until_the_doors(tokenizer):
    environment = corridor.make_corridor(tokenizer, 3, 4)
    state, rewards, ends = environment.reset(jax.random.key(0))._replace(cue=jnp.int32(2)), [], []
    for t in range(6):
        walking, choosing = [False] * 4 + [True], [True] * 4 + [False]
        assert list(environment.legal(state)) == (walking if t < 3 else choosing)
        state, answer = environment.step(jax.random.key(1), state, jnp.int32(4 if t < 3 else 2))
        rewards.append(float(answer.reward))
        ends.append(bool(answer.terminated))
        assert not answer.truncated
    assert rewards == [0, 0, 0, 1, 0, 0] and ends == [False] * 3 + [True] * 3


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
@pytest.mark.parametrize(
    "num_cues, is_distracting, actions, expected",
    [
        (2, True, (2, 2, 2, 0), "Goal right: on here is left: on here is right: on left; doors: left wrong\n"),
        (2, True, (2, 2, 2, 1), "Goal right: on here is left: on here is right: on left; doors: right correct\n"),
        (4, True, (4, 4, 4, 3), "Goal 1: on here is 0: on here is 1: on 0; doors: 3 wrong\n"),
        (4, False, (4, 4, 4, 1), "Goal 1: on here is nothing: on here is nothing: on nothing; doors: 1 correct\n"),
    ],
)
def test_text_of_an_episode(load, num_cues, is_distracting, actions, expected):
    tokenizer = load()
    environment = corridor.make_corridor(tokenizer, 3, num_cues, is_distracting)
    state = environment.reset(jax.random.key(0))._replace(cue=jnp.int32(1))
    state = state._replace(signs=jnp.array([0, 1, 0])) if is_distracting else state
    parts = [environment.describe(state)]
    for action in actions:
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
        parts += [text.say_choice(environment.grammar, action), environment.describe(state)]
    said = text.concatenate(*parts)
    assert text.to_string(tokenizer, said) == expected and text.check_text(tokenizer, said) == []


def test_a_step_is_five_tokens(tokenizer):
    environment = corridor.make_corridor(tokenizer, 3)
    state = environment.reset(jax.random.key(0))
    read = [int(environment.describe(state._replace(num_steps=jnp.int32(t))).length) for t in range(5)]
    assert read == [3, 4, 4, 4, 2]
    assert environment.describe(state).ids.shape == (4,) and text.longest(environment.grammar) == 1


def test_a_batch_is_its_lanes_and_the_same_key_the_same_corridor(tokenizer):
    environment = corridor.make_corridor(tokenizer, 5, 3)
    keys = jax.random.split(jax.random.key(3), 6)
    batch = jax.vmap(environment.reset)(keys)
    for lane in range(6):
        alone = environment.reset(keys[lane])
        assert jax.tree.all(jax.tree.map(lambda a, b, i=lane: np.array_equal(a, b[i]), alone, batch))


def test_place_and_cue_are_the_state_hash(tokenizer):
    environment = corridor.make_corridor(tokenizer, 5, 3)
    state = environment.reset(jax.random.key(0))
    states = [state._replace(cue=jnp.int32(cue), num_steps=jnp.int32(t)) for cue in range(3) for t in range(6)]
    assert len({int(environment.state_hash(x)) for x in states}) == len(states)
    assert environment.state_hash(states[0]) == environment.state_hash(states[0]._replace(signs=jnp.zeros(5, jnp.int32)))


@pytest.mark.parametrize("options, says", [(dict(length=0), "set length to at least 1"), (dict(num_cues=1), "set it to 2, ..., 100")])
def test_bad_arguments(tokenizer, options, says):
    with pytest.raises(ValueError, match=says):
        corridor.make_corridor(tokenizer, **options)
