"""What a user gives to a learner and does not fit is answered in one sentence that says what to give."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from arl import rollout, training
from arl.training import Credit, LearnerConfig, parallel
from tests import tiny

CONFIG = LearnerConfig(num_updates=2, num_lanes=8, num_blocks=2, num_epochs=1, num_minibatches=1, microbatch_size=8)
INTERACTION = tiny.guess()
SHAPE = tiny.config(INTERACTION)


def make(interaction=INTERACTION, model=None, shape=SHAPE, config=CONFIG, **options):
    """A learner of one guess."""
    return training.make_learner(interaction, model or tiny.model(), shape, config, **options)


def refusal(learner) -> str:
    """What is said when an update is traced."""
    with pytest.raises(ValueError) as caught:
        jax.eval_shape(learner.update, jax.eval_shape(learner.init, jax.random.key(0)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def good(trajectory, reward, config):
    """An estimator as it should be."""
    return Credit(reward, reward, trajectory.is_sampled, {"seen": jnp.sum(reward)})


def test_a_credit_is_taken():
    learner = make(estimator=good)
    assert "seen" in jax.eval_shape(learner.update, jax.eval_shape(learner.init, jax.random.key(0)))[1]


def but(**changes):
    """The good estimator with other fields."""
    return lambda trajectory, reward, config: good(trajectory, reward, config)._replace(
        **{name: change(trajectory, reward) for name, change in changes.items()}
    )


EPISODE = SHAPE.trajectory_length
WRONG = {
    f"the estimator returned an array of shape (8, {EPISODE}); return a Credit(advantage, target, policy_mask, metrics), the first three "
    f"of shape (8, {EPISODE}), as the trajectory is ([B, T])": lambda trajectory, reward, config: reward,
    "the estimator returned None; return a Credit(": lambda trajectory, reward, config: None,
    "the estimator returned a tuple; return a Credit(": lambda trajectory, reward, config: tuple(good(trajectory, reward, config)),
    "the estimator returned an array of shape (8,) as advantage": but(advantage=lambda trajectory, reward: reward.sum(1)),
    f"the estimator returned an array of shape (8, {EPISODE - 1}) as target": but(target=lambda trajectory, reward: reward[:, 1:]),
    "the estimator returned 0.0 as target": but(target=lambda trajectory, reward: 0.0),
    "the estimator returned an array of shape (8, 1) as policy_mask": but(
        policy_mask=lambda trajectory, reward: trajectory.is_sampled[:, :1]
    ),
    "the estimator returned float32 as policy_mask; return it as bool": but(
        policy_mask=lambda trajectory, reward: trajectory.is_sampled * 1.0
    ),
    "the estimator returned int32 as advantage; return it as float32": but(advantage=lambda trajectory, reward: trajectory.is_sampled * 1),
    "the estimator returned None as metrics; return a dict": but(metrics=lambda trajectory, reward: None),
    "the estimator returned an array of shape (8,) as metrics['sum']": but(metrics=lambda trajectory, reward: {"sum": reward.sum(1)}),
    "the estimator returned a dict as metrics['sums']": but(metrics=lambda trajectory, reward: {"sums": {"sum": reward.sum()}}),
    "the estimator returned 'many' as metrics['sum']": but(metrics=lambda trajectory, reward: {"sum": "many"}),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_no_credit_is_refused(words):
    assert words in refusal(make(estimator=WRONG[words]))


@pytest.mark.parametrize(
    ("adapted", "words"),
    [
        (lambda curriculum, metrics: {"count": curriculum["count"] + 0.5}, "count int32[], and returned one of count float32[]"),
        (lambda curriculum, metrics: {"count": curriculum["count"][None]}, "count int32[], and returned one of count int32[1]"),
        (lambda curriculum, metrics: {**curriculum, "more": 1.0}, "count int32[], and returned one of count int32[], more float32[]"),
        (lambda curriculum, metrics: None, "count int32[], and returned one of nothing"),
    ],
)
def test_a_setting_of_another_form_is_refused(adapted, words):
    said = refusal(make(INTERACTION._replace(update_curriculum=adapted), curriculum={"count": jnp.int32(0)}))
    assert words in said and "return one of that form" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            dict(estimator="gae"),
            "estimator is 'gae'; give a function (trajectory, reward, config) -> Credit, or set LearnerConfig.estimator",
        ),
        (dict(shape=CONFIG, config=SHAPE), "rollout_config is a LearnerConfig; give a RolloutConfig"),
        (dict(config=dataclasses.asdict(CONFIG)), "config is a dict; give a LearnerConfig"),
        (dict(interaction=tiny.make_walk()), "interaction is an Environment; give an Interaction"),
        (dict(model=tiny.make_walk()), "policy is an Environment; give a Policy"),
        (dict(curriculum=0.5), "curriculum is 0.5; give a dict"),
        (dict(first_step=-1), "first_step is -1; set it >= 0"),
        (dict(first_step=0.5), "first_step is 0.5; set it to a whole number"),
        (dict(layout=training.Layout(num_devices=0)), "Layout.num_devices is 0; set it >= 1"),
        (dict(layout=training.Layout(jax.make_mesh((2,), ("batch",)))), "has an axis 'batch'; name its axes 'data', 'fsdp', 'tensor'"),
        (dict(layout=training.Layout(parallel.make_mesh(2), "data")), "give one of them"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_cannot_be_a_learner_is_refused_at_once(options, words):
    with pytest.raises(ValueError) as caught:
        make(**options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(importance_cap=0.0), "importance_cap is 0.0; set it above 0"),
        (dict(importance_cap=float("nan")), "set it above 0"),
        (dict(layout=jax.make_mesh((1,), ("data",))), "layout is a Mesh; give a Layout, such as Layout"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_a_policy_without_values_is_refused():
    with pytest.raises(ValueError, match='has no head "value"; add it to Policy.heads'):
        make(model=tiny.model()._replace(heads={}))


def proposed(change):
    """A writer that proposes what has been begun, after a change."""
    return rollout.Writer(lambda variables, curriculum, request, is_waiting: change(rollout.Proposal(request.begun, request.kind)))


@pytest.mark.parametrize(
    ("writer", "words"),
    [
        (proposed(lambda proposal: 3), "the writer returns a int; return a rollout.Proposal(text, author)"),
        (proposed(lambda proposal: proposal._replace(text=proposal.author)), "the writer's proposal returns"),
        (proposed(lambda proposal: proposal._replace(author=None)), "author of NoneType[]; return int32 [8]"),
        (proposed(lambda proposal: proposal._replace(author=proposal.author * 1.0)), "author of float32[8]; return int32 [8]"),
        (proposed(lambda proposal: proposal._replace(author=proposal.author[:3])), "author of int32[3]; return int32 [8]"),
        (proposed(lambda proposal: proposal._replace(text=jax.tree.map(lambda x: x[0], proposal.text))), "return int32 [8, capacity]"),
    ],
)
def test_what_a_writer_returns_is_checked_when_it_is_traced(writer, words):
    config = dataclasses.replace(CONFIG, imitation_weight=1.0)
    assert words in refusal(make(config=config, writer=writer))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(writer=rollout.Writer(None)), "Writer.write is None; give a function that returns a rollout.Proposal"),
        (dict(writer=rollout.Writer(lambda variables, curriculum: None)), "the writer does not take (variables, curriculum, request,"),
        (dict(importance_cap="a"), "importance_cap is 'a'; set it above 0"),
    ],
)
def test_what_cannot_be_called_or_compared_is_refused(options, words):
    config = dataclasses.replace(CONFIG, imitation_weight=1.0 if "writer" in options else 0.0)
    with pytest.raises(ValueError) as caught:
        make(config=config, **options)
    assert words in str(caught.value)


def test_rules_of_kinds_that_nobody_writes_are_refused():
    with pytest.raises(ValueError, match="LearnerConfig.rules names plan, and this agent writes action alone; take it out of the rules"):
        make(config=dataclasses.replace(CONFIG, rules={"plan": training.Rule()}))
