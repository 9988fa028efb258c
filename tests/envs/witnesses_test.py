"""Witnesses, against Bayes' rule over all questions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import Witnesses, witnesses
from arl.envs.witnesses import make_witnesses
from arl.task import Limits
from arl.types import ArlError

LEVELS = (50, 70, 95)


def questions(num_witnesses):
    """All questions as `(says, level)`, with the probability of each together with that of either answer."""
    for says in itertools.product((0, 1), repeat=num_witnesses):
        for level in itertools.product(range(len(LEVELS)), repeat=num_witnesses):
            chances = [LEVELS[index] / 100 for index in level]
            spoken = [np.prod([c if said == truth else 1 - c for said, c in zip(says, chances, strict=True)]) for truth in (0, 1)]
            yield says, level, 0.5 * np.array(spoken) / len(LEVELS) ** num_witnesses


@pytest.mark.parametrize("num_witnesses", [1, 3])
def test_posterior_and_bounds_are_those_of_all_questions(tokenizer, num_witnesses):
    environment = make_witnesses(tokenizer, num_witnesses, LEVELS)
    state = environment.reset(jax.random.key(0))
    says, level, joint = (np.array(x) for x in zip(*questions(num_witnesses), strict=True))
    states = jax.vmap(lambda says, level: state._replace(says=says, level=level))(jnp.asarray(says), jnp.asarray(level))
    chances = jax.vmap(lambda state: jax.vmap(lambda a: witnesses.posterior(LEVELS, state, a))(jnp.arange(2)))(states)
    wanted = joint / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(chances, wanted, atol=1e-5)
    for price in (1.0, 0.2):
        optimal = (joint.sum(1) * np.maximum(wanted.max(1), 1 - price)).sum()
        assert witnesses.optimal_return(num_witnesses, LEVELS, price) == pytest.approx(optimal)
    assert witnesses.posterior_brier(num_witnesses, LEVELS) == pytest.approx((joint.sum(1) * wanted.prod(1)).sum())
    assert joint.sum() == pytest.approx(1.0)
    chosen = jax.vmap(lambda state: environment.expert(jax.random.key(0), state))(states)
    is_sure = abs(wanted[:, 0] - 0.5) > 1e-4
    assert np.array_equal(chosen[is_sure], wanted.argmax(1)[is_sure])


def test_expert_and_random_answers_earn_what_is_computed(tokenizer, episodes, uniform, agrees):
    config = Witnesses(4, LEVELS)
    environment, found = make_witnesses(tokenizer, 4, LEVELS), config.make(tokenizer).bounds(Limits())
    for policy, expected in ((environment.expert, found.optimal), (uniform(environment), found.random)):
        returns, num_steps, is_over = episodes(environment, policy, 0, 20_000, 2)
        assert is_over.all() and set(num_steps) == {1} and agrees(returns, expected)
    found = config.make(tokenizer).bounds(Limits(step_cost=0.125, num_attempts=3))
    optimal = witnesses.optimal_return(4, LEVELS) + 2
    assert (found.random, found.optimal) == (1.5 - 0.375, pytest.approx(optimal - 0.375))


def test_witnesses_are_right_as_often_as_they_are_said_to_be(tokenizer):
    environment = make_witnesses(tokenizer, 2, LEVELS)
    state = jax.vmap(environment.reset)(jax.random.split(jax.random.key(1), 20_000))
    right, level = np.asarray(state.says == state.truth[:, None]), np.asarray(state.level)
    for index, percent in enumerate(LEVELS):
        mine = right[level == index]
        assert abs(mine.mean() - percent / 100) < 4 * np.sqrt(0.25 / len(mine)) and abs(len(mine) - 40_000 / 3) < 400
    assert abs(np.mean(state.truth) - 0.5) < 0.02


def test_text_of_an_episode(tokenizer):
    environment = make_witnesses(tokenizer, 3, LEVELS)
    state = environment.reset(jax.random.key(0))
    state = state._replace(says=jnp.array([0, 1, 1]), level=jnp.array([2, 0, 1]), truth=jnp.int32(0))
    assert text.to_string(tokenizer, environment.describe(state)) == "Guess A 95, B 50, B 70:"
    for action, end, reward in ((0, " correct\n", 1.0), (1, " wrong\n", 0.0)):
        after, step = environment.step(jax.random.key(1), state, jnp.int32(action))
        assert text.to_string(tokenizer, environment.describe(after)) == end and step.reward == reward and step.terminated
        assert environment.step(jax.random.key(1), after, jnp.int32(0))[1].reward == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(num_witnesses=0), "0 witnesses say nothing; set num_witnesses to at least 1"),
        (dict(num_witnesses=1.5), "set it to a whole number"),
        (dict(reliabilities=(60, 60)), "set them to different percents from 1 to 99"),
        (dict(reliabilities=(60, 100)), "set them to different percents from 1 to 99"),
        (dict(reliabilities=()), "set them to different percents from 1 to 99"),
    ],
)
def test_what_cannot_be_asked_is_refused(tokenizer, options, words):
    with pytest.raises(ArlError, match=words):
        make_witnesses(tokenizer, **options)


def test_too_many_questions_are_not_summed_up():
    with pytest.raises(ArlError, match="use fewer witnesses or reliabilities"):
        witnesses.optimal_return(12, tuple(range(50, 60)))
