import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import twenty_questions as questions
from arl.envs.twenty_questions import CORRECT, NO, WRONG, YES, TwentyQuestionsState, make_twenty_questions
from tests.second_tokenizer import second_tokenizer


def answers(table, action, target):
    """What a move says of the objects of a table of attribute sets: an attribute, or after them the name of an object."""
    num_attributes, objects = table
    return action in objects[target] if action < num_attributes else action - num_attributes == target


def fewest_by_brute_force(table, num_steps):
    """The smallest expected number of moves: every move at every set of objects, no shortcuts."""
    num_attributes, objects = table

    @functools.cache
    def best(left, num_steps):  # moves summed over the objects left
        if num_steps == 0 or not left:
            return 0
        totals = []
        for action in range(num_attributes + len(objects)):
            yes = tuple(i for i in left if answers(table, action, i))
            no = tuple(i for i in left if i not in yes)
            after = 0 if action >= num_attributes else best(yes, num_steps - 1)
            totals.append(len(left) + after + best(no, num_steps - 1))
        return min(totals)

    return best(tuple(range(len(objects))), num_steps) / len(objects)


def table_of(attributes, num_attributes):
    return num_attributes, [{i for i in range(num_attributes) if kind >> i & 1} for kind in attributes]


@pytest.mark.parametrize("num_objects, num_attributes", [(2, 1), (3, 2), (4, 3), (5, 3), (6, 4)])
def test_fewest_moves_at_a_table_is_the_best_of_all_policies(num_objects, num_attributes):
    generator = np.random.default_rng(num_objects)
    for _ in range(4):
        attributes = generator.permutation(2**num_attributes)[:num_objects]
        table = table_of(attributes.tolist(), num_attributes)
        for num_steps in range(num_objects + 3):
            expected = fewest_by_brute_force(table, num_steps)
            assert questions.num_moves(attributes, num_attributes, num_steps) == pytest.approx(expected)
        assert questions.num_moves(attributes, num_attributes) == pytest.approx(expected)


@pytest.mark.parametrize("num_objects, num_attributes", [(2, 2), (3, 2), (4, 3), (5, 3)])
def test_the_mean_is_over_all_tables(num_objects, num_attributes):
    tables = list(itertools.permutations(range(2**num_attributes), num_objects))
    for num_steps in (None, 2):
        mean = questions.num_moves(np.array(tables), num_attributes, num_steps).mean()
        assert questions.optimal_num_moves(num_objects, num_attributes, num_steps) == pytest.approx(mean)


def test_an_estimate_agrees_with_the_exact_mean():
    mean, error = questions.sampled_num_moves(6, 4, num_tables=1500)
    assert 0.0 < error < 0.01 and abs(mean - questions.optimal_num_moves(6, 4)) < 4 * error
    assert questions.sampled_num_moves(6, 4, num_tables=50, seed=1) == questions.sampled_num_moves(6, 4, num_tables=50, seed=1)
    with pytest.raises(ValueError, match="sampled_num_moves"):
        questions.optimal_num_moves(10, 8)


def test_closed_forms():
    assert questions.optimal_num_moves(2, 1) == pytest.approx(1.5)  # name one, then the other
    assert questions.optimal_num_moves(4, 2) == pytest.approx(2.5)  # one question, then two that are left: 1 + 1.5
    assert questions.optimal_num_moves(8, 3) == pytest.approx(3.5)  # two questions before that
    assert questions.optimal_num_moves(6, 4, 1) == 1.0
    assert questions.optimal_num_moves(6, 4, 9) == questions.optimal_num_moves(6, 4)
    assert questions.random_num_moves(6, 4) == 10
    assert questions.random_num_moves(6, 4, 1) == pytest.approx(1.0)


def test_expert_and_random_policy_need_what_is_computed(tokenizer, episodes, uniform, agrees):
    environment = make_twenty_questions(tokenizer)
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 6000, 8)
    assert is_over.all() and np.array_equal(returns, -num_steps)
    assert agrees(returns, -questions.optimal_num_moves(6, 4))
    returns, _, is_over = episodes(environment, uniform(environment), 1, 8000, 12)
    assert not is_over.all() and agrees(returns, -questions.random_num_moves(6, 4, 12))


def start(attributes, target):
    return TwentyQuestionsState(jnp.asarray(attributes, jnp.int32), jnp.int32(target), jnp.ones(len(attributes), bool), jnp.int32(0))


def test_the_expert_is_optimal_at_every_object_of_a_table(tokenizer):
    environment, key = make_twenty_questions(tokenizer, 5, 3), jax.random.key(0)

    def play(attributes, target):
        def step(state, _):
            after, answer = environment.step(key, state, environment.expert(key, state))
            return after, (answer, questions.information_gain(state, after))

        state = start(attributes, 0)._replace(target=target)
        return jax.lax.scan(step, state, length=6)[1]

    tables = np.array(list(itertools.islice(itertools.permutations(range(8), 5), 0, None, 97)))
    answer, bits = jax.jit(jax.vmap(jax.vmap(play, in_axes=(None, 0)), in_axes=(0, None)))(jnp.asarray(tables), jnp.arange(5))
    assert np.asarray(answer.terminated)[..., -1].all()
    np.testing.assert_allclose(-np.asarray(answer.reward).sum(-1).mean(-1), questions.num_moves(tables, 3), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(bits).sum(-1), math.log2(5), rtol=1e-5)  # the whole, whoever played
    assert np.asarray(bits).mean(1).max() <= 1.0 + 1e-6  # over the objects: a yes or no tells one bit at most


def test_objects_that_agree_with_the_answers_stay_possible(tokenizer):
    environment, key = make_twenty_questions(tokenizer, 5, 3), jax.random.key(0)
    step, generator = jax.jit(environment.step), np.random.default_rng(0)
    for _ in range(12):
        attributes, target = generator.permutation(8)[:5].tolist(), int(generator.integers(5))
        table, state = table_of(attributes, 3), start(attributes, target)
        left, found, said = set(range(5)), False, 0
        for action in generator.integers(8, size=7).tolist():
            after, answer = step(key, state, jnp.int32(action))
            fewer = left
            if not found:
                is_yes = answers(table, action, target)
                fewer = {i for i in left if answers(table, action, i) == is_yes}
                said = (CORRECT if is_yes else WRONG) if action >= 3 else YES if is_yes else NO
            assert set(np.flatnonzero(after.possible)) == fewer and int(after.answer) == said
            assert float(questions.information_gain(state, after)) == pytest.approx(math.log2(len(left) / len(fewer)), abs=1e-6)
            assert float(answer.reward) == (0.0 if found else -1.0) and not answer.truncated
            found |= said == CORRECT
            assert bool(answer.terminated) == found
            state, left = after, fewer


def test_tables_differ_and_objects_are_uniform(tokenizer):
    environment = make_twenty_questions(tokenizer, 3, 2)
    states = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 7200))
    tables = np.asarray(states.attributes)
    assert all(len(set(row)) == 3 for row in tables.tolist())
    counts = np.bincount((tables @ [16, 4, 1]) * 3 + np.asarray(states.target))
    counts = counts[counts > 0]
    assert len(counts) == 72 and np.all(np.abs(counts - 100) < 5 * np.sqrt(100))  # 24 tables and 3 objects


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
def test_text_of_an_episode(load):
    tokenizer = load()
    environment = make_twenty_questions(tokenizer, 4, 4)
    state = start([0b0101, 0b0010, 0, 0b1111], 1)
    parts = [environment.describe(state)]
    for action in (0, 1, 4 + 3, 4 + 1):
        state, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
        parts += [text.say_choice(environment.grammar, action), environment.describe(state)]
    joined = text.concatenate(*parts)
    expected = "Guess A 1 3, B 2, C none, D 1 2 3 4: 1 no: 2 yes: D wrong: B correct\n"
    assert text.to_string(tokenizer, joined) == expected and text.check_text(tokenizer, joined) == []


def test_texts_are_short(tokenizer):
    environment = make_twenty_questions(tokenizer)
    state = environment.reset(jax.random.key(0))
    said = environment.describe(state)
    shown = sum(max(bin(kind).count("1"), 1) for kind in np.asarray(state.attributes).tolist())
    assert int(said.length) == 1 + 2 * 6 + shown and said.ids.shape[0] == 1 + 2 * 6 + 4 * 6
    assert int(environment.describe(state._replace(answer=jnp.int32(YES))).length) == 2
    assert text.longest(environment.grammar) == 1


def test_a_batch_is_its_lanes(tokenizer):
    environment = make_twenty_questions(tokenizer, 4, 3)

    def run(key):
        first = environment.reset(key)
        state, answer = environment.step(key, first, environment.expert(key, first))
        said = environment.describe(first), environment.describe(state)
        return state, answer, said, environment.state_hash(state), environment.legal(state), questions.information_gain(first, state)

    keys = jax.random.split(jax.random.key(1), 5)
    one, batch = jax.jit(run), jax.jit(jax.vmap(run))(keys)
    for lane in range(5):
        assert jax.tree.all(jax.tree.map(lambda a, b, i=lane: np.array_equal(a, b[i]), one(keys[lane]), batch))


def test_what_is_known_is_the_state_hash(tokenizer):
    environment = make_twenty_questions(tokenizer, 3, 2)
    tables = list(itertools.permutations(range(4), 3))
    cases = list(itertools.product(tables, itertools.product((False, True), repeat=3)))
    states = TwentyQuestionsState(
        jnp.asarray([table for table, _ in cases], jnp.int32),
        jnp.zeros(len(cases), jnp.int32),
        jnp.asarray([possible for _, possible in cases]),
        jnp.zeros(len(cases), jnp.int32),
    )
    state_hashes = np.asarray(jax.vmap(environment.state_hash)(states)).tolist()
    assert len(set(state_hashes)) == len(cases) == 24 * 8
    other = states._replace(target=states.target + 1, answer=states.answer + YES)  # neither is knowledge
    assert np.asarray(jax.vmap(environment.state_hash)(other)).tolist() == state_hashes


@pytest.mark.parametrize("num_objects, num_attributes, name", [(1, 4, "num_objects"), (11, 4, "num_objects"), (6, 2, "num_attributes")])
def test_bad_arguments(tokenizer, num_objects, num_attributes, name):
    for make in (functools.partial(make_twenty_questions, tokenizer), questions.optimal_num_moves, questions.sampled_num_moves):
        with pytest.raises(ValueError, match=f"set {name} to") as error:
            make(num_objects, num_attributes)
        assert str(error.value).count(". ") == 0
    with pytest.raises(ValueError, match="set num_attributes to 3, ..., 8"):
        make_twenty_questions(tokenizer, 6, 9)
