"""The gradient is right: summed over every trajectory of a small task, the estimate is the exact gradient of the expected return.

All trajectories are enumerated: every sequence of letters takes the place of the draws, each stream is credited and scored by the code of
training, and each gradient is weighed with the probability of its trajectory.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, rollout, text, training
from arl.rollout import loop
from arl.training import credit as credits
from arl.training import loss as losses
from arl.training.loss import Batch
from tests import tiny

SYMBOLS = (" 0", " 1")


def guess():
    """One guess at a number below 2."""
    return agents.act(envs.make_number_guess(tiny.TOKENIZER, 2, one_guess=True))


AGENTS = {
    "act": lambda: agents.act(envs.time_limit(envs.make_number_guess(tiny.TOKENIZER, 2), 2)),
    "think": lambda: tiny.think(guess(), budget=1, symbols=list(SYMBOLS), stop=False),
    "nothing": lambda: tiny.attempts(guess(), 2),
    "history": lambda: tiny.attempts(guess(), 2, carry=agents.history()),
    "window": lambda: tiny.attempts(guess(), 2, carry=agents.window(3)),
    "reflection": lambda: tiny.attempts(guess(), 2, carry=agents.reflection(1, symbols=SYMBOLS)),
}
UNBIASED = [
    dict(credit="monte_carlo"),
    dict(credit="reinforce"),
    dict(credit="gae", trace=1.0),
    dict(credit="gae", trace=1.0, trace_counts="token"),
    dict(credit="segment_gae", trace=1.0),
]


def enumerate_streams(interaction, monkeypatch, task_key):
    """Every trajectory of a life with one task, as the lanes of one stream, under the policy of the tiny model."""
    num_letters, length = len(interaction.grammar.alphabet), interaction.size.turns
    plans = jnp.array(list(itertools.product(range(num_letters), repeat=length)), jnp.uint32)
    shape = tiny.config(interaction)
    # The draw of a lane is its planned letter: the key of a lane holds the number of its plan.
    keys = jax.vmap(jax.random.wrap_key_data)(jnp.stack([jnp.zeros(len(plans), jnp.uint32), jnp.arange(len(plans), dtype=jnp.uint32)], 1))
    monkeypatch.setattr(loop.lane_steps, "draw", lambda lane: plans[jax.random.key_data(lane.key)[1], lane.num_sampled].astype(jnp.float32))
    monkeypatch.setattr(loop.decode, "sample", lambda uniform, log_probs, support: uniform.astype(jnp.int32))
    lanes = rollout.start_lanes(interaction, {}, shape, keys, jnp.broadcast_to(task_key, keys.shape))
    _, stream, _ = jax.jit(lambda p: rollout.roll_out(interaction, tiny.model(), shape, p, {}, lanes))(tiny.params())
    # A plan that names an illegal letter, or letters beyond the end of its life, is not a trajectory of its own.
    support = text.unpack(stream.support, num_letters)
    is_legal = jnp.take_along_axis(support, stream.written[..., None], -1)[..., 0] | ~stream.is_written
    count = jnp.sum(stream.is_written, 1)
    is_first = jnp.array([not np.any(np.asarray(plan)[int(n) :]) for plan, n in zip(plans, count, strict=True)])
    kept = np.flatnonzero(np.asarray(jnp.all(is_legal, 1) & is_first))
    return jax.tree.map(lambda x: x[kept], stream)


def log_probability(params, stream, grammar):
    log_prob, _, _ = losses.score(tiny.model(), grammar, params, stream, 1.0)
    return jnp.sum(jnp.where(stream.is_written, log_prob, 0.0), 1)


def expected_return(params, stream, grammar):
    """Sum over trajectories of probability times discounted return."""
    reward, discount = credits.total_reward(stream.reward), jnp.where(stream.ends_segment, stream.discount, 1.0)
    weight = jnp.cumprod(jnp.concatenate([jnp.ones_like(discount[:, :1]), discount[:, :-1]], 1), 1)
    closing = jnp.sum(jnp.where(stream.is_truncated & stream.ends_life, weight * stream.value, 0.0), 1)
    return jnp.sum(jnp.exp(log_probability(params, stream, grammar)) * (jnp.sum(reward * weight, 1) + closing))


def estimated_gradient(config, stream, grammar):
    """Minus the expected gradient of the learner's loss, whose weights count each lane once."""
    given = credits.ESTIMATORS[config.credit](stream, credits.total_reward(stream.reward), config)
    decides = credits.is_decision(stream)
    batch = Batch(stream, given.advantage, given.target, given.is_kept, decides, jnp.zeros_like(stream.log_prob))
    probability = jnp.exp(log_probability(tiny.params(), stream, grammar))
    totals = losses.Totals(jnp.float32(1.0), jnp.float32(1.0), jnp.float32(1.0))

    def of_lane(lane):
        row = jax.tree.map(lambda x: x[None], lane)
        part = functools.partial(losses.loss, tiny.model(), grammar, config, 1.0, jnp.float32(0.0), totals)
        return jax.grad(lambda params: part(params, row)[0])(tiny.params())

    gradients = jax.lax.map(of_lane, batch)
    return jax.tree.map(lambda g: -jnp.tensordot(probability, g, 1), gradients), jnp.sum(probability)


@pytest.mark.parametrize("name", AGENTS)
def test_the_expected_estimate_is_the_gradient_of_the_expected_return(name, monkeypatch):
    interaction = AGENTS[name]()
    for task in range(2):
        stream = enumerate_streams(interaction, monkeypatch, jax.random.key(task))
        exact = jax.grad(expected_return)(tiny.params(), stream, interaction.grammar)
        assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(exact)) > 1e-3
        for options in UNBIASED:
            config = training.LearnerConfig(
                **options, policy_loss="policy_gradient", aggregation="constant", constant_tokens=1, value_weight=0.0
            )
            estimate, probability = jax.jit(lambda s, config=config: estimated_gradient(config, s, interaction.grammar))(stream)
            np.testing.assert_allclose(probability, 1.0, rtol=1e-5, err_msg="all trajectories are there")
            for a, b in zip(jax.tree.leaves(estimate), jax.tree.leaves(exact), strict=True):
                np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-3, err_msg=str(options))


def test_rloo_is_unbiased_and_grpo_is_shrunk(monkeypatch):
    """Over all pairs of trajectories, RLOO gives the exact gradient, Dr. GRPO (G - 1) / G of it (arXiv:2503.20783)."""
    interaction = guess()
    stream = enumerate_streams(interaction, monkeypatch, jax.random.key(0))
    num = len(stream.token)
    pairs = jnp.array(list(itertools.product(range(num), repeat=2)))
    exact = jax.grad(expected_return)(tiny.params(), stream, interaction.grammar)
    probability = jnp.exp(log_probability(tiny.params(), stream, interaction.grammar))
    for credit, share in (("rloo", 1.0), ("grpo", 0.5)):
        config = training.LearnerConfig(
            credit=credit, group_size=2, normalize=False, policy_loss="policy_gradient", aggregation="constant", value_weight=0.0
        )
        total = jax.tree.map(jnp.zeros_like, exact)
        for pair in pairs:
            group = jax.tree.map(lambda x, pair=pair: x[pair], stream)
            given = credits.ESTIMATORS[credit](group, credits.total_reward(group.reward), config)
            batch = Batch(group, given.advantage, given.target, given.is_kept, credits.is_decision(group), jnp.zeros_like(group.log_prob))
            totals = losses.Totals(*(jnp.float32(2.0),) * 3)
            part = functools.partial(losses.loss, tiny.model(), interaction.grammar, config, 1.0, jnp.float32(0.0), totals)
            gradient = jax.grad(lambda params, part=part, batch=batch: part(params, batch)[0])(tiny.params())
            weight = probability[pair[0]] * probability[pair[1]]
            total = jax.tree.map(lambda t, g, weight=weight: t - weight * g, total, gradient)
        for a, b in zip(jax.tree.leaves(total), jax.tree.leaves(exact), strict=True):
            np.testing.assert_allclose(a, share * b, atol=2e-5, rtol=1e-3, err_msg=credit)
