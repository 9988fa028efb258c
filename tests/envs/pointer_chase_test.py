"""The pointer chase, against ways and texts in plain Python."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, text
from arl.envs import pointer_chase
from arl.envs.pointer_chase import make_pointer_chase
from arl.task import Limits
from arl.types import ArlError, Kind

SIZES = {
    "goals": dict(num_nodes=9, longest=6),
    "two goals": dict(num_nodes=5, longest=3, num_goals=2),
    "letters": dict(num_nodes=12, longest=8),
    "told": dict(num_nodes=9, longest=8, is_told=True),
    "round and round": dict(num_nodes=4, longest=11, is_told=True),
}


def drawn(environment, num_lanes=2000):
    """States at the start, on the host."""
    keys = jax.random.split(jax.random.key(1), num_lanes)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(environment.reset))(keys))


def each(tree):
    """The parts of a batch, one after another."""
    return [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(len(jax.tree.leaves(tree)[0]))]


def walk(next_node, start, length):
    """The nodes that are met."""
    met = [int(next_node[start])]
    while len(met) < length:
        met.append(int(next_node[met[-1]]))
    return met


@pytest.mark.parametrize("name", SIZES)
def test_the_first_goal_that_is_met_or_the_last_hop_is_the_answer(tokenizer, name):
    environment, is_told = make_pointer_chase(tokenizer, **SIZES[name]), SIZES[name].get("is_told", False)
    states, counts = drawn(environment), collections.Counter()
    answers = np.asarray(jax.jit(jax.vmap(lambda state: environment.expert(jax.random.key(0), state)))(states))
    legal = np.asarray(jax.jit(jax.vmap(environment.legal))(states))
    for state, answer, can in zip(each(states), answers, legal, strict=True):
        nodes, met = len(state.next_node), walk(state.next_node, state.start, int(state.hops))
        assert sorted(walk(state.next_node, state.start, nodes)) == list(range(nodes)), "one circle"
        assert answer == met[-1] and sorted(state.order) == list(range(nodes))
        if not is_told:
            goals = state.goals.tolist()
            assert [node for node in met if node in goals] == [answer] and state.start not in goals and len(set(goals)) == len(goals)
            assert np.flatnonzero(can).tolist() == sorted(goals)
        counts[int(state.hops)] += 1
    expected = len(answers) / SIZES[name]["longest"]
    assert set(counts) == set(range(1, SIZES[name]["longest"] + 1)) and all(abs(x - expected) < 5 * expected**0.5 for x in counts.values())
    assert (not is_told) or legal.all()


def test_nothing_but_the_way_tells_the_goals_apart(tokenizer):
    """Each place in the list, and each goal behind the first, is as likely."""
    environment = make_pointer_chase(tokenizer, 6, 1, num_goals=3)
    places, others = collections.Counter(), collections.Counter()
    for state in each(drawn(environment, 3000)):
        met = walk(state.next_node, state.start, 5)
        distance = [met.index(goal) for goal in state.goals.tolist()]
        places[distance.index(0)] += 1
        others.update(x for x in distance if x)
    assert set(places) == {0, 1, 2} and all(abs(count - 1000) < 5 * 1000**0.5 for count in places.values())
    assert set(others) == {1, 2, 3, 4} and all(abs(count - 1500) < 5 * 1500**0.5 for count in others.values())


@pytest.mark.parametrize("name", SIZES)
def test_a_level_is_a_number_of_hops(tokenizer, name):
    environment = make_pointer_chase(tokenizer, **SIZES[name])
    levels = jnp.arange(1, environment.num_levels + 1)
    reset_at, keys = environment.reset_at, jax.random.split(jax.random.key(0), len(levels))
    assert reset_at and environment.num_levels == SIZES[name]["longest"]
    states = jax.jit(jax.vmap(reset_at))(keys, levels)
    assert states.hops.tolist() == levels.tolist()
    assert jax.tree.structure(states) == jax.tree.structure(jax.eval_shape(environment.reset, keys[0]))


@pytest.mark.parametrize("name", SIZES)
def test_the_question_tells_what_is_asked_and_ends_with_the_start(tokenizer, name):
    environment = make_pointer_chase(tokenizer, **SIZES[name])
    names = pointer_chase.node_names(SIZES[name]["num_nodes"])
    node = {sign: index for index, sign in enumerate(names)} | {sign.lower(): index for index, sign in enumerate(names)}
    states = jax.tree.map(lambda x: x[:50], drawn(environment))
    said = jax.tree.map(np.asarray, jax.jit(jax.vmap(environment.describe))(states))
    for state, words in zip(each(states), each(said), strict=True):
        pointers, goals, hops, start = re.fullmatch(
            r"Map((?: \w\w)+)(?: goal:([\w,]+)| steps (\d+)) at (\w)", text.to_string(tokenizer, words)
        ).groups()
        shown = [(node[a], node[b]) for a, b in pointers.split()]
        assert dict(shown) == dict(enumerate(state.next_node.tolist())) and [a for a, _ in shown] == state.order.tolist()
        assert node[start] == state.start and words.ids[words.length - 1] == text.token_ids(tokenizer, f" {start}")[0]
        assert [node[goal] for goal in goals.split(",")] == state.goals.tolist() if goals else int(hops) == state.hops
        assert text.check_text(tokenizer, text.constant(words.ids[: words.length])) == []


def test_a_pointer_between_digits_is_one_token(tokenizer):
    state = jax.eval_shape(make_pointer_chase(tokenizer).describe, jax.eval_shape(make_pointer_chase(tokenizer).reset, jax.random.key(0)))
    assert state.ids.shape == (1 + 9 + len(" goal : , ,".split()) + 3 + 2,)


def test_an_episode_is_one_answer(tokenizer):
    environment = make_pointer_chase(tokenizer)
    state = environment.reset(jax.random.key(0))
    right = int(environment.expert(jax.random.key(0), state))
    wrong = next(goal for goal in state.goals.tolist() if goal != right)
    for action, reward, end in ((right, 1.0, " correct\n"), (wrong, 0.0, " wrong\n")):
        after, answer = environment.step(jax.random.key(0), state, jnp.int32(action))
        assert (float(answer.reward), bool(answer.terminated)) == (reward, True)
        assert text.to_string(tokenizer, environment.describe(after)) == end
        again, answer = environment.step(jax.random.key(0), after, jnp.int32(right))
        assert float(answer.reward) == 0.0 and int(again.answer) == action


@pytest.mark.parametrize("name", SIZES)
def test_expert_and_random_answers_earn_what_is_computed(tokenizer, episodes, uniform, agrees, name):
    environment, config = make_pointer_chase(tokenizer, **SIZES[name]), envs.PointerChase(**SIZES[name])
    bounds = config.make(tokenizer).bounds(Limits())
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 500, 2)
    assert is_over.all() and set(num_steps) == {1} and np.all(returns == bounds.optimal)
    assert agrees(episodes(environment, uniform(environment), 1, 10_000, 1)[0], bounds.random)


@pytest.mark.parametrize("name", SIZES)
def test_an_expert_thinks_of_the_nodes_that_are_met(tokenizer, name):
    task = envs.PointerChase(**SIZES[name]).make(tokenizer)
    states = jax.tree.map(lambda x: x[:50], drawn(task.environment))
    think = jax.jit(jax.vmap(lambda state: task.experts(Limits())[Kind.THINK](jax.random.key(0), state, jnp.int32(0))))
    for state, thought in zip(each(states), each(jax.tree.map(np.asarray, think(states))), strict=True):
        wanted = "".join(task.note_symbols[node] for node in walk(state.next_node, state.start, int(state.hops)))
        assert text.to_string(tokenizer, thought) == wanted


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (dict(num_nodes=2), "set num_nodes to 3, ..., 26"),
        (dict(num_nodes=27), "set num_nodes to 3, ..., 26"),
        (dict(num_goals=1), "set num_goals to at least 2"),
        (dict(longest=7), "with 2 goals behind the first of 9 nodes; set longest to 1, ..., 6"),
        (dict(longest=0, is_told=True), "set longest to 1, ..., 99"),
    ],
)
def test_a_chase_that_is_impossible_is_refused(tokenizer, sizes, words):
    with pytest.raises(ArlError, match=words):
        make_pointer_chase(tokenizer, **sizes)
