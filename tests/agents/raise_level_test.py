"""`RaiseLevel`: the levels that are drawn, when they rise, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, text, training
from arl.agents import Act, Attempts, RaiseLevel
from arl.training.config import first_curriculum
from arl.types import ArlError, Segment
from tests import tiny

CHASE = envs.PointerChase(9, 6)


def make(*layers):
    return agents.make_agent(CHASE.make(tiny.TOKENIZER), (Act(), *layers))


def at(highest):
    return {"raise_level": {"highest": jnp.float32(highest)}}


@pytest.mark.parametrize(("highest", "focus"), [(1, 0.5), (4, 0.5), (4, 1.0), (6, 0.0)])
def test_half_of_the_episodes_are_of_the_highest_level_and_the_rest_of_any_up_to_it(highest, focus):
    interaction, num_lanes = make(RaiseLevel(focus=focus)), 4000
    state, _ = jax.jit(jax.vmap(lambda key: interaction.start(key, at(highest))))(jax.random.split(jax.random.key(0), num_lanes))
    share = np.bincount(state.environment.hops, minlength=7)[1:] / num_lanes
    wanted = np.where(np.arange(6) < highest, (1 - focus) / highest, 0.0) + focus * (np.arange(6) == highest - 1)
    assert (abs(share - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / num_lanes)).all()


def test_without_a_learned_curriculum_tasks_are_those_of_the_environment():
    """As in an evaluation: the same keys give the same tasks."""
    keys = jax.random.split(jax.random.key(0), 20)
    with_layer, without = (jax.vmap(lambda key, a=agent: a.start(key, {})[0].environment)(keys) for agent in (make(RaiseLevel()), make()))
    assert jax.tree.all(jax.tree.map(np.array_equal, with_layer, without))


def test_all_attempts_are_at_one_task_even_if_the_level_has_risen_meanwhile():
    interaction = make(Attempts(2), RaiseLevel(focus=1.0))
    state, turn = interaction.start(jax.random.key(0), at(2))
    said = text.pad(text.say_choice(interaction.grammar, jnp.argmax(turn.legal)), interaction.size.written)
    after, _ = interaction.advance(jax.random.key(1), at(3), state, Segment(said, jnp.argmax(turn.legal), jnp.bool_(True)))
    assert int(after.environment.hops) == 2
    assert jax.tree.all(jax.tree.map(np.array_equal, after.environment, state.environment))


@pytest.mark.parametrize(("outcome", "highest", "wanted"), [(0.94, 2, 3), (0.93, 2, 2), (1.0, 6, 6), (0.2, 3, 3)])
def test_the_highest_level_rises_where_the_normalised_score_is_high(outcome, highest, wanted):
    """Random answers among three goals earn a third, so that 0.9 is an outcome of 0.9333."""
    interaction = make(RaiseLevel())
    assert interaction.update_curriculum
    updated = interaction.update_curriculum({**at(highest), "other": {"value": 7}}, {"return/outcome": jnp.float32(outcome)})
    assert float(updated["raise_level"]["highest"]) == wanted and updated["other"] == {"value": 7}


def test_a_learner_begins_at_the_first_level_and_keeps_what_was_learned():
    interaction = make(RaiseLevel(2, raise_at=0.001))
    assert first_curriculum(interaction.layers) == {"raise_level": {"highest": np.float32(2)}} and first_curriculum(make().layers) is None
    parts = (interaction, tiny.model(), tiny.config(interaction), tiny.LEARNER)
    learner = training.make_learner(*parts)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    after, _ = jax.eval_shape(learner.update, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    cloning = training.make_warm_start(*parts, num_updates=1)
    assert jax.tree.structure(jax.eval_shape(cloning.update, state)[0]) == jax.tree.structure(state)
    assert training.make_learner(*parts, curriculum=at(5)).init(jax.random.key(0)).curriculum == at(5)


@pytest.mark.parametrize(
    ("make_layer", "words"),
    [
        (lambda: make(RaiseLevel(7)), "RaiseLevel.first is 7; set it to 1, ..., 6"),
        (lambda: make(RaiseLevel(0)), "RaiseLevel.first is 0; set it to 1, ..., 6"),
        (lambda: RaiseLevel(1.5), "RaiseLevel.first is 1.5; set it to a whole number"),
        (lambda: RaiseLevel(focus=1.5), "RaiseLevel.focus is 1.5, which is no probability"),
        (lambda: RaiseLevel(raise_at=0), "RaiseLevel.raise_at is 0; set it to a normalised score"),
        (lambda: tiny.guess(RaiseLevel()), "RaiseLevel needs an environment with levels and bounds"),
    ],
)
def test_levels_that_do_not_exist_are_refused(make_layer, words):
    with pytest.raises(ArlError, match=words):
        make_layer()
