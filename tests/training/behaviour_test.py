"""Lanes rolled out with weights rounded to int8: what the learner makes of the two policies, against enumerated gradients.

PPO's ratio is that of the policy after and before its steps. The truncated importance weight is that of the policy before them and the
one that sampled.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arl import rollout, training
from arl.models import Policy, Variables
from arl.training import credit as credits
from arl.training.learner import Experience
from tests import tiny
from tests.training.gradient_test import AGENTS, assert_equal, config, enumerate_all, exact_gradient, log_probabilities

LEVELS = 2  # of int8's 127: coarse, so that the two policies differ much


class Rounded(NamedTuple):
    """Weights as int8, and the size of a step."""

    values: dict
    steps: dict


def rounded(variables: Variables) -> Rounded:
    """The weights as multiples of a step, one for each matrix."""
    steps = jax.tree.map(lambda x: jnp.max(jnp.abs(x)) / LEVELS, variables.trainable)
    return Rounded(jax.tree.map(lambda x, step: jnp.round(x / step).astype(jnp.int8), variables.trainable, steps), steps)


def weights(variables) -> Variables:
    """The weights themselves, of either form."""
    if isinstance(variables, Variables):
        return variables
    return Variables(jax.tree.map(lambda x, step: x * step, variables.values, variables.steps))


def policy() -> Policy:
    """The tiny model, rolled out with rounded weights."""
    base = tiny.model()

    def on_weights(function):
        return lambda variables, *rest: function(weights(variables), *rest)

    functions = {name: on_weights(getattr(base, name)) for name in ("read", "forward", "logits")}
    return base._replace(**functions, heads={"value": on_weights(base.value)}, behaviour=rounded)


@functools.cache
def enumerated(name):
    """Every trajectory of an agent, with its probability under the rounded weights."""
    return enumerate_all(name, behaviour=lambda variables: weights(rounded(variables)))


def learned(name, most, *, epochs=1, rate=1.0):
    """The weights after steps of plain descent on all trajectories, each weighed with its probability, and the metrics."""
    found = enumerated(name)

    def estimate(trajectory, reward, config):
        given = credits.monte_carlo(trajectory, reward, config)
        return given._replace(advantage=given.advantage * (found.weight * len(found.weight))[:, None])

    interaction = AGENTS[name][0]()
    shape = config(found.trajectory, policy_loss="ppo", entropy_weight=training.Schedule(), num_epochs=epochs)
    options = {"estimator": estimate, "optimizer": optax.sgd(rate), "importance_cap": most}
    learner = training.make_learner(interaction, policy(), tiny.config(interaction, widths=()), shape, **options)
    state = learner.init(jax.random.key(0))
    state = state._replace(variables=tiny.params(), optimizer_state=optax.sgd(rate).init(tiny.params().trainable))
    experience = Experience(found.trajectory, None, rollout.Usage(jnp.float32(1.0), jnp.int32(1)))
    after, metrics = jax.jit(learner.learn)(state, experience)
    return after.variables, metrics


def descent(name, most, *, epochs=1, rate=1.0):
    """The same, written out: the surrogate of PPO with both ratios, over all trajectories."""
    found = enumerated(name)
    grammar, trajectory = found.grammar, found.trajectory
    decides = credits.is_decision(trajectory)
    old = log_probabilities(tiny.params(), trajectory, grammar)
    sampled = log_probabilities(weights(rounded(tiny.params())), trajectory, grammar)
    importance = jnp.minimum(jnp.exp(old - sampled), most)
    returns = jnp.cumsum(tiny.total(trajectory.reward)[:, ::-1], 1)[:, ::-1]

    def loss(variables):
        ratio = jnp.exp(log_probabilities(variables, trajectory, grammar) - old)
        surrogate = jnp.minimum(ratio * returns, jnp.clip(ratio, 0.8, 1.2) * returns)
        return -jnp.sum(found.weight[:, None] * importance * surrogate * decides)

    variables = tiny.params()
    for _ in range(epochs):
        variables = jax.tree.map(lambda x, g: x - rate * g, variables, jax.jit(jax.grad(loss))(variables))
    return variables


def moved(variables):
    return jax.tree.map(jnp.subtract, variables, tiny.params())


def test_the_two_policies_differ():
    found = enumerated("think")
    gap = np.abs(log_probabilities(tiny.params(), found.trajectory, found.grammar) - found.trajectory.log_prob)
    assert gap.max() > 0.3
    np.testing.assert_allclose(
        log_probabilities(weights(rounded(tiny.params())), found.trajectory, found.grammar), found.trajectory.log_prob, atol=1e-5
    )


def test_with_one_decision_the_weight_makes_the_gradient_exact():
    """One guess: the gradient of the return of the policy that is trained, from what the other one sampled."""
    variables, metrics = learned("one guess", math.inf)
    assert_equal(moved(variables), exact_gradient(enumerate_all("one guess")))
    found = enumerated("one guess")
    gap = np.abs(log_probabilities(tiny.params(), found.trajectory, found.grammar) - found.trajectory.log_prob).max()
    np.testing.assert_allclose(metrics["max_log_prob_gap"], gap, rtol=1e-4)


@pytest.mark.parametrize(("most", "epochs"), [(math.inf, 1), (1.05, 1), (1.05, 4)])
def test_both_ratios_are_where_they_belong(most, epochs):
    """Several steps: later ones move PPO's ratio beyond its clip range, and the weight stays."""
    steps = {"epochs": epochs, "rate": 3.0}
    variables, metrics = learned("think", most, **steps)
    assert (metrics["clip_fraction"] > 0) == (epochs > 1)
    assert_equal(moved(variables), moved(descent("think", most, **steps)))


def test_the_cap_and_the_clip_matter():
    one, other = (moved(learned("think", most, rate=3.0)[0]) for most in (math.inf, 1.05))
    assert np.abs(np.asarray(one.trainable["head"]) - other.trainable["head"]).max() > 1e-3
