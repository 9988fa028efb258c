"""The loss: against NumPy, term by term, and cut into parts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.models import Policy
from arl.training import LearnerConfig, Rule, Schedule, scoring
from arl.training import credit as credits
from arl.training import loss as losses
from arl.training.loss import Batch, Totals
from arl.types import Kind
from tests import tiny

PLAIN = LearnerConfig(policy_loss="policy_gradient", value_weight=0.0, entropy_weight=Schedule(0.0), aggregation="token_mean")
NAME = "thoughts in attempts"
GRAMMAR = tiny.agent(NAME).grammar


def no_cache(*_):
    raise AssertionError("the loss reads no cache")


# What follows depends on the last token alone: a table of logits and one of values.
TABLES = Policy(
    init=lambda key, pretrained=None: {
        "logits": jax.random.normal(key, (len(tiny.TOKENIZER), len(GRAMMAR.candidates))),
        "value": jnp.ones(len(tiny.TOKENIZER)),
    },
    empty_cache=no_cache,
    read=no_cache,
    forward=lambda params, tokens, context_start: tokens,
    logits=lambda params, features, candidates: params["logits"][features],
    heads={"value": lambda params, features: params["value"][features]},
    vocab_size=len(tiny.TOKENIZER),
)
PARAMS = TABLES.init(jax.random.key(0))


@functools.cache
def batch() -> Batch:
    """What six lanes did, sampled by the tiny model; to the tables they are off-policy."""
    _, trajectory, _ = tiny.roll(NAME, *tiny.keys(6))
    trajectory = jax.tree.map(jnp.asarray, trajectory)
    key_advantage, key_target, key_reference = jax.random.split(jax.random.key(1), 3)
    decides = credits.is_decision(trajectory)
    advantage = jnp.where(trajectory.is_sampled, jax.random.normal(key_advantage, decides.shape), 0.0)
    target = jnp.where(trajectory.is_sampled, jax.random.normal(key_target, decides.shape), 0.0)
    reference = trajectory.log_prob - jnp.where(decides, jax.random.uniform(key_reference, decides.shape), 0.0)
    return Batch(trajectory, advantage, target, decides & (jnp.arange(6) != 2)[:, None], decides, trajectory.log_prob, reference)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loss(options, entropy_weight, totals, params, part):
    config = dataclasses.replace(PLAIN, **dict(options))
    given = jax.value_and_grad(functools.partial(losses.loss, TABLES, GRAMMAR, config, 1.0, jnp.float32(entropy_weight)), 1, has_aux=True)
    return given(totals, params, part)


def loss(params=PARAMS, part=None, totals=None, entropy_weight=0.0, **options):
    """Loss, metrics and gradient of a part, by default of the whole."""
    part = batch() if part is None else part
    totals = losses.count(part, dataclasses.replace(PLAIN, **options)) if totals is None else totals
    (value, metrics), gradient = _loss(tuple(sorted(options.items())), entropy_weight, totals, params, part)
    return float(value), metrics, gradient


def scored(temperature=1.0):
    """Log-prob and entropy of each slot in NumPy: softmax over the support alone."""
    trajectory = batch().trajectory
    support = tiny.kept(GRAMMAR, trajectory)
    logits = np.asarray(PARAMS["logits"], np.float64)[np.asarray(trajectory.token)] / temperature
    weights = np.where(support, np.exp(logits), 0.0)
    probs = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    chosen = np.take_along_axis(probs, tiny.sampled(GRAMMAR, trajectory), -1)[..., 0]
    log_prob = np.log(np.where(trajectory.is_sampled, chosen, 1.0))
    return log_prob, -(probs * np.log(np.where(probs > 0, probs, 1.0))).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_what_was_written_is_scored_under_the_support_that_it_was_sampled_from(temperature):
    trajectory = batch().trajectory
    log_prob, entropy, value = scoring.score(TABLES, GRAMMAR, PARAMS, trajectory, temperature)
    wanted, wanted_entropy = scored(temperature)
    np.testing.assert_allclose(log_prob[trajectory.is_sampled], wanted[trajectory.is_sampled], atol=1e-5)
    np.testing.assert_allclose(entropy[trajectory.is_sampled], wanted_entropy[trajectory.is_sampled], atol=1e-5)
    np.testing.assert_allclose(value["value"], 1.0)


def test_each_term_is_what_it_says():
    """Policy, value, entropy and divergence in NumPy; the loss is their weighted sum."""
    whole, (log_prob, entropy) = batch(), scored()
    trajectory, kept, decides = whole.trajectory, np.asarray(whole.policy_mask), np.asarray(whole.regularizer_mask)
    ratio, advantage = np.exp(log_prob - np.asarray(trajectory.log_prob)), np.asarray(whole.advantage)
    surrogate = np.maximum(-ratio * advantage, -np.clip(ratio, 0.9, 1.3) * advantage)
    policy = surrogate[kept].mean()
    clipped = np.where(advantage > 0, ratio > 1.3, ratio < 0.9)[kept].mean()
    values = 0.5 * np.square(1.0 - np.asarray(whole.target))[np.asarray(trajectory.is_sampled)].mean()
    difference = (log_prob - np.asarray(whole.reference_log_prob))[decides]
    kl = {"k1": difference, "k2": difference**2 / 2, "k3": np.exp(-difference) - 1 + difference}
    scale = np.where(np.asarray(trajectory.kind) == Kind.THINK, 0.0, np.where(np.asarray(trajectory.kind) == Kind.ACTION, 3.0, 1.0))
    options = dict(policy_loss="ppo", clip_low=0.1, clip_high=0.3, value_weight=0.7, kl_weight=0.2)
    for estimator, each in kl.items():
        value, metrics, _ = loss(entropy_weight=0.05, kl_estimator=estimator, **options)
        np.testing.assert_allclose(metrics["policy_loss"], policy, rtol=1e-4)
        np.testing.assert_allclose(metrics["clip_fraction"], clipped, rtol=1e-4)
        np.testing.assert_allclose(metrics["value_loss"], values, rtol=1e-4)
        np.testing.assert_allclose(metrics["entropy"], entropy[decides].mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics["kl_from_reference"], each.mean(), rtol=1e-4)
        np.testing.assert_allclose(value, policy + 0.7 * values - 0.05 * entropy[decides].mean() + 0.2 * each.mean(), rtol=1e-4)
    scaled = dataclasses.replace(
        PLAIN, **options, kl_in_reward=True, rules={"think": Rule(entropy=0.0, weight=2.0), "action": Rule(entropy=3.0)}
    )
    totals = losses.count(whole, scaled)
    value, metrics = losses.loss(TABLES, GRAMMAR, scaled, 1.0, jnp.float32(0.05), totals, PARAMS, whole)
    weight = np.where(np.asarray(trajectory.kind) == Kind.THINK, 2.0, 1.0)
    policy = (surrogate * weight)[kept].mean()
    np.testing.assert_allclose(value, policy + 0.7 * values - 0.05 * (entropy * scale)[decides].mean(), rtol=1e-4)
    gap = np.abs(log_prob - np.asarray(trajectory.log_prob))[np.asarray(trajectory.is_sampled)].max()
    np.testing.assert_allclose(metrics["max_log_prob_gap"], gap, rtol=1e-5)


def trl_mean(per_token, mask, loss_type):
    """The last lines of TRL's `GRPOTrainer._compute_loss`: `per_token` `[B, T]` to one number."""
    if loss_type == "grpo":
        return ((per_token * mask).sum(-1) / np.maximum(mask.sum(-1), 1)).mean()
    return (per_token * mask).sum() / max(mask.sum(), 1)  # "bnpo"; "dapo" where a batch is one step


@pytest.mark.parametrize(("aggregation", "loss_type"), [("sequence_mean", "grpo"), ("token_mean", "bnpo")])
def test_groups_without_variance_under_trl_s_formula_dapo_s_and_the_default(aggregation, loss_type):
    """Three groups of two, the middle one without variance: TRL counts it in every mean, DAPO's sampler in none, the default in some."""
    trajectory, (log_prob, entropy) = batch().trajectory, scored()
    outcome = jnp.array([1.0, 0.0, 2.0, 2.0, 0.5, 3.0])
    reward = jnp.where(trajectory.ends_episode & (jnp.cumsum(trajectory.ends_episode, axis=1) == 1), outcome[:, None], 0.0)
    advantage = np.array([0.5, -0.5, 0.0, 0.0, -1.25, 1.25])[:, None]  # TRL's with scale_rewards="none"
    mask, is_in = np.asarray(batch().regularizer_mask), np.array([True, True, False, False, True, True])
    ratio, difference = np.exp(log_prob - np.asarray(trajectory.log_prob)), np.asarray(batch().reference_log_prob) - log_prob
    policy = -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    rest = 0.04 * (np.exp(difference) - difference - 1) - 0.05 * entropy
    wanted = {
        "keep": trl_mean(policy + rest, mask, loss_type),
        "filter": trl_mean((policy + rest)[is_in], mask[is_in], loss_type),
        "mask": trl_mean(policy[is_in], mask[is_in], loss_type) + trl_mean(rest, mask, loss_type),
    }
    assert LearnerConfig().zero_variance_groups == "mask"
    for choice, value in wanted.items():
        options = dict(aggregation=aggregation, policy_loss="ppo", kl_weight=0.04)
        config = dataclasses.replace(PLAIN, **options, group_size=2, normalize=False, zero_variance_groups=choice)
        credit = credits.grpo(trajectory, reward, config)
        counted = credits.regularizer_mask(trajectory, credit.policy_mask, config)
        part = batch()._replace(advantage=credit.advantage, policy_mask=credit.policy_mask, regularizer_mask=counted)
        found, _, _ = loss(part=part, entropy_weight=0.05, **options)
        np.testing.assert_allclose(found, value, rtol=1e-4, err_msg=choice)
    assert len({round(float(value), 4) for value in wanted.values()}) == 3


@pytest.mark.parametrize(
    "options",
    [
        dict(aggregation="token_mean", policy_loss="ppo", value_weight=0.5),
        dict(aggregation="sequence_mean", ratio="sequence", policy_loss="ppo", kl_weight=0.1),
        dict(aggregation="constant", constant_tokens=3, value_weight=0.5, value_clip=0.2),
    ],
    ids=str,
)
def test_parts_add_up(options):
    """Loss, metrics and gradient of unequal parts are those of the whole, divided by the totals of the whole."""
    whole = batch()
    parts = [jax.tree.map(lambda x, part=part: x[part], whole) for part in (slice(0, 1), slice(1, 4), slice(4, 6))]
    counts = [losses.count(part, dataclasses.replace(PLAIN, **options)) for part in parts]
    totals = Totals(*(sum(each) for each in zip(*counts, strict=True)))
    value, metrics, gradient = loss(entropy_weight=0.01, **options)
    shares = [loss(part=part, totals=totals, entropy_weight=0.01, **options) for part in parts]
    np.testing.assert_allclose(sum(share[0] for share in shares), value, rtol=1e-5)
    for name in metrics:
        together = max if name == "max_log_prob_gap" else sum
        np.testing.assert_allclose(together(float(share[1][name]) for share in shares), metrics[name], rtol=1e-4, err_msg=name)
    for leaf, *of_parts in zip(jax.tree.leaves(gradient), *(jax.tree.leaves(share[2]) for share in shares), strict=True):
        np.testing.assert_allclose(sum(of_parts), leaf, atol=1e-6)


def test_what_is_not_kept_moves_nothing():
    """Neither what was only read, nor a lane that the policy does not learn from, nor a candidate that was not in the support."""
    whole = batch()
    _, _, gradient = loss(policy_loss="ppo")
    rows = np.unique(np.asarray(whole.trajectory.token)[np.asarray(whole.policy_mask)])
    others = np.setdiff1d(np.arange(len(tiny.TOKENIZER)), rows)
    assert not np.asarray(gradient["logits"])[others].any() and np.asarray(gradient["logits"])[rows].any()
    dirty = whole._replace(advantage=jnp.where(whole.policy_mask, whole.advantage, 100.0))
    np.testing.assert_array_equal(loss(part=dirty, policy_loss="ppo")[2]["logits"], gradient["logits"])


def test_values_do_not_move_beyond_their_bounds():
    """A value that has moved further than `value_clip` towards its target has no gradient (PPO2's clipped value loss)."""
    whole = batch()
    near = whole._replace(
        target=jnp.where(whole.trajectory.is_sampled, 5.0, 0.0),
        trajectory=whole.trajectory._replace(value=jnp.full_like(whole.target, 0.5)),
    )
    assert np.any(loss(part=near, value_weight=1.0)[2]["value"])
    assert not np.any(loss(part=near, value_weight=1.0, value_clip=0.2)[2]["value"])
    assert np.any(loss(part=near, value_weight=1.0, value_clip=0.6)[2]["value"])
