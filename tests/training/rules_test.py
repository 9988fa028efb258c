"""Credit by kind, against transcriptions in NumPy that walk a lane's segments one after another."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import training
from arl.agents import Act, Plan, Think
from arl.training import ESTIMATORS, Rule, rules
from arl.training import credit as credits
from arl.types import Kind
from tests import tiny

NAME = "thoughts in attempts"  # thoughts, actions, and a note between two attempts
CONFIG = training.LearnerConfig(estimator="gae", gae_lambda=0.9, normalize=False)
GAE = ESTIMATORS["gae"]


@functools.cache
def trajectory(name=NAME, **options):
    """With values, and discounts below 1 where a segment ends."""
    _, found, _ = tiny.roll(name, *tiny.keys(6), **options)
    random = np.random.default_rng(0)
    discount = np.where(found.ends_segment & ~found.ends_episode, random.uniform(0.7, 1.0, found.discount.shape), found.discount)
    return found._replace(value=np.where(found.has_value, random.normal(size=found.value.shape), 0.0).astype(np.float32), discount=discount)


@functools.cache
def longer():
    """Lanes that restart, the last episode of each cut."""
    return trajectory(restarts=True, trajectory_length=tiny.agent(NAME).size.context + 40)


def reward_of(found):
    return tiny.total(found.reward).astype(np.float32)


def assign(found, config, default=GAE):
    return jax.jit(lambda t, r: rules.assign(t, r, config, default))(jax.tree.map(jnp.asarray, found), jnp.asarray(reward_of(found)))


def steps_of_kind(found, lane, kind):
    """Positions of the kind's tokens, each with the reward, the discount and what follows until the next one: a position or a bootstrap."""
    reward, own = reward_of(found)[lane], []
    num_tokens = found.token.shape[1]
    for now in np.flatnonzero(found.is_sampled[lane] & (found.kind[lane] == kind)):
        total, weight, after, bootstrap = 0.0, 1.0, None, 0.0
        if not found.ends_segment[lane, now]:
            own.append((now, 0.0, 1.0, now_next(found, lane, now), 0.0))
            continue
        for place in range(now, num_tokens):
            if place > now and found.is_sampled[lane, place] and found.kind[lane, place] == kind:
                after = place
                break
            if found.is_sampled[lane, place]:
                total += weight * reward[place]
                weight *= 0.0 if found.ends_episode[lane, place] else found.discount[lane, place]
                if found.ends_episode[lane, place]:
                    break
            else:
                last = np.flatnonzero(found.has_value[lane] | found.is_sampled[lane]).max()
                if found.ends_episode[lane, place] or place == last:
                    is_open = found.is_truncated[lane, place] or not found.ends_episode[lane, place]
                    bootstrap = float(found.value[lane, place]) if is_open and found.has_value[lane, place] else 0.0
                    break
        own.append((now, total, weight, after, bootstrap))
    return own


def now_next(found, lane, now):
    return int(np.flatnonzero(found.is_sampled[lane] & (np.arange(found.token.shape[1]) > now))[0])


def gae_of_kind(found, kind, gae_lambda):
    """Generalised advantage estimation whose steps are the kind's own segments."""
    advantage = np.zeros(found.token.shape)
    for lane in range(len(found.token)):
        for now, total, weight, after, bootstrap in reversed(steps_of_kind(found, lane, kind)):
            next_value = bootstrap if after is None else found.value[lane, after]
            next_advantage = 0.0 if after is None else advantage[lane, after]
            decay = gae_lambda if found.ends_segment[lane, now] else 1.0
            advantage[lane, now] = total + weight * next_value - found.value[lane, now] + weight * decay * next_advantage
    return advantage


@pytest.mark.parametrize("found", [trajectory, longer])
def test_two_kinds_have_credit_of_their_own(found):
    """Thoughts: what is earned until the next thought, lambda 0.5 a thought. Notes: their return. Actions: as the config says."""
    found = found()
    table = {"think": Rule(span="kind", gae_lambda=0.5), "reflection": Rule(estimator="monte_carlo")}
    credit = assign(found, dataclasses.replace(CONFIG, rules=table))
    plain = assign(found, CONFIG)
    of = lambda kind: found.is_sampled & (found.kind == kind)
    np.testing.assert_allclose(credit.advantage[of(Kind.THINK)], gae_of_kind(found, Kind.THINK, 0.5)[of(Kind.THINK)], atol=1e-5)
    np.testing.assert_array_equal(credit.advantage[of(Kind.ACTION)], plain.advantage[of(Kind.ACTION)])
    returns = ESTIMATORS["monte_carlo"].estimate(jax.tree.map(jnp.asarray, found), jnp.asarray(reward_of(found)), CONFIG)
    np.testing.assert_allclose(credit.advantage[of(Kind.REFLECTION)], returns.advantage[of(Kind.REFLECTION)], atol=1e-6)
    np.testing.assert_array_equal(credit.target, plain.target)
    for kind in (Kind.THINK, Kind.REFLECTION):
        assert np.abs(np.asarray(credit.advantage - plain.advantage))[of(kind)].max() > 0.1


def plans(monkeypatch):
    """Lanes with plans before the first action, the third and the fifth, and thoughts between; some episodes are cut."""
    name = "plans"
    monkeypatch.setitem(
        tiny.COMPOSITIONS, name, lambda: tiny.make(tiny.make_walk(6), Act(), Think(1, tiny.SYMBOLS), Plan(2, every=4, symbols=tiny.SYMBOLS))
    )
    return trajectory(name, restarts=True, trajectory_length=2 * tiny.agent(name).size.episode)


@pytest.mark.parametrize("gae_lambda", [1.0, 0.5])
def test_plans_have_credit_of_their_own_and_actions_as_without_it(monkeypatch, gae_lambda):
    """A plan is one decision: it is paid all that is earned until the next one, whose value stands for the rest."""
    found = plans(monkeypatch)
    credit = assign(found, dataclasses.replace(CONFIG, rules={"plan": Rule(estimator="gae", span="kind", gae_lambda=gae_lambda)}))
    flat = assign(found, CONFIG)
    is_plan = found.is_sampled & (found.kind == Kind.PLAN)
    np.testing.assert_allclose(credit.advantage[is_plan], gae_of_kind(found, Kind.PLAN, gae_lambda)[is_plan], atol=1e-5)
    np.testing.assert_array_equal(credit.advantage[~is_plan], flat.advantage[~is_plan])
    np.testing.assert_array_equal(credit.target, flat.target)
    assert np.abs(np.asarray(credit.advantage - flat.advantage))[is_plan].max() > 0.1
    num_plans = [(is_plan & found.ends_segment & (found.episode == episode)).sum(1).max() for episode in range(2)]
    assert num_plans == [3, 3]


def test_what_a_plan_is_paid_is_added_up_until_the_next_plan(monkeypatch):
    """With lambda 0 and values of 0 that is all; the plans of an episode share what it earns."""
    found = plans(monkeypatch)
    found = found._replace(value=np.zeros_like(found.value), discount=np.where(found.ends_episode, 0.0, 1.0).astype(np.float32))
    credit = assign(found, dataclasses.replace(CONFIG, rules={"plan": Rule(estimator="gae", span="kind", gae_lambda=0.0)}))
    reward, checked = reward_of(found), 0
    for lane in range(len(found.token)):
        ends = np.flatnonzero(found.is_sampled[lane] & found.ends_segment[lane] & (found.kind[lane] == Kind.PLAN))
        for now, after in zip(ends, [*ends[1:], found.token.shape[1]], strict=True):
            wanted = reward[lane, now:after].sum()
            np.testing.assert_allclose(credit.advantage[lane, now], wanted, atol=1e-5)
            checked += wanted != 0 and after < found.token.shape[1]
    assert checked > 6


def test_with_lambda_zero_a_segment_is_credited_with_what_is_earned_until_the_next_of_its_kind():
    found = trajectory()
    credit = assign(found, dataclasses.replace(CONFIG, rules={"think": Rule(span="kind", gae_lambda=0.0)}))
    ends = 0
    for lane in range(len(found.token)):
        for now, total, weight, after, bootstrap in steps_of_kind(found, lane, Kind.THINK):
            following = bootstrap if after is None else found.value[lane, after]
            if found.ends_segment[lane, now]:
                wanted = total + weight * following - found.value[lane, now]
                np.testing.assert_allclose(credit.advantage[lane, now], wanted, atol=1e-5)
                ends += 1
    assert ends > 10


def test_nothing_of_a_later_attempt_counts_within_the_span_of_an_attempt():
    """The return of each action, to the end of its attempt and of the note on it."""
    found = trajectory()
    credit = assign(
        found, dataclasses.replace(CONFIG, estimator="monte_carlo", rules={"action": Rule(span="attempt")}), ESTIMATORS["monte_carlo"]
    )
    reward, differ = reward_of(found), 0
    for lane in range(len(found.token)):
        for now in np.flatnonzero(found.is_sampled[lane] & (found.kind[lane] == Kind.ACTION)):
            total, weight = 0.0, 1.0
            for place in range(now, found.token.shape[1]):
                if found.is_sampled[lane, place] and found.attempt[lane, place] == found.attempt[lane, now]:
                    total += weight * reward[lane, place]
                    weight *= found.discount[lane, place]
            np.testing.assert_allclose(credit.advantage[lane, now], total, atol=1e-5)
            differ += found.attempt[lane, now] == 0
    assert differ > 6


def test_rules_that_estimate_alike_are_standardised_together_and_others_apart():
    found = trajectory()
    of = lambda kind: np.asarray(found.is_sampled & found.has_choice & (found.kind == kind))
    moments = lambda credit, which: (float(np.mean(credit.advantage[which])), float(np.std(credit.advantage[which])))
    normal = dataclasses.replace(CONFIG, normalize=True)
    everything = assign(found, normal)
    np.testing.assert_allclose(moments(everything, of(Kind.THINK) | of(Kind.ACTION) | of(Kind.REFLECTION)), (0, 1), atol=1e-5)
    weighed = assign(found, dataclasses.replace(normal, rules={"think": Rule(weight=2.0, entropy=0.0)}))
    np.testing.assert_array_equal(weighed.advantage, everything.advantage)
    apart = assign(found, dataclasses.replace(normal, rules={"think": Rule(gae_lambda=0.5)}))
    for which in (of(Kind.THINK), of(Kind.ACTION) | of(Kind.REFLECTION)):
        np.testing.assert_allclose(moments(apart, which), (0, 1), atol=1e-5)
    by_kind = assign(found, dataclasses.replace(normal, normalize_by_kind=True))
    for kind in (Kind.THINK, Kind.ACTION, Kind.REFLECTION):
        np.testing.assert_allclose(moments(by_kind, of(kind)), (0, 1), atol=1e-5)


def test_a_named_estimator_is_not_the_one_that_was_given():
    found, table = trajectory(), {"reflection": Rule(estimator="gae")}
    mine = credits.NamedEstimator(ESTIMATORS["monte_carlo"].estimate)
    credit, plain = assign(found, dataclasses.replace(CONFIG, rules=table), mine), assign(found, CONFIG)
    own = found.is_sampled & (found.kind == Kind.REFLECTION)
    np.testing.assert_array_equal(credit.advantage[own], plain.advantage[own])
    assert np.abs(np.asarray(credit.advantage - plain.advantage))[found.is_sampled & ~own].max() > 0.1


def test_an_attempt_that_is_cut_keeps_its_bootstrap():
    """Lanes that restart: the last attempt of a truncated episode ends with the value of what was read last."""
    found = trajectory("limits in attempts", restarts=True, trajectory_length=tiny.agent("limits in attempts").size.context + 60)
    config = dataclasses.replace(CONFIG, estimator="monte_carlo", rules={"action": Rule(span="attempt")})
    credit, checked = assign(found, config, ESTIMATORS["monte_carlo"]), 0
    reward = reward_of(found)
    for lane in range(len(found.token)):
        for cut in np.flatnonzero(found.is_truncated[lane] & found.ends_episode[lane]):
            last = np.flatnonzero(found.is_sampled[lane, :cut]).max()
            wanted = reward[lane, last] + found.discount[lane, last] * found.value[lane, cut]
            if found.kind[lane, last] == Kind.ACTION:
                np.testing.assert_allclose(credit.advantage[lane, last], wanted, atol=1e-5)
                checked += 1
    assert checked > 2


def test_a_named_rule_gives_the_targets_of_the_value():
    found = trajectory()
    table = {"action": Rule(estimator="monte_carlo"), "think": Rule(span="attempt")}
    targets = lambda name: assign(found, dataclasses.replace(CONFIG, rules=table, value_rule=name)).target
    returns = ESTIMATORS["monte_carlo"].estimate(jax.tree.map(jnp.asarray, found), jnp.asarray(reward_of(found)), CONFIG)
    np.testing.assert_allclose(targets("action"), returns.target, atol=1e-6)
    assert len({np.asarray(targets(name)).tobytes() for name in ("", "action", "think")}) == 3


def test_what_others_wrote_is_not_kept_and_does_not_count_in_the_standardisation():
    found = trajectory()
    other = found._replace(author=np.where(found.kind == Kind.THINK, 1, 0).astype(np.int8))
    credit = assign(other, dataclasses.replace(CONFIG, normalize=True))
    assert not np.asarray(credit.policy_mask)[found.kind == Kind.THINK].any()
    kept = np.asarray(credit.policy_mask)
    np.testing.assert_allclose(np.std(np.asarray(credit.advantage)[kept]), 1.0, atol=1e-5)
    assert kept.sum() == (found.is_sampled & found.has_choice & (found.kind != Kind.THINK)).sum()


def test_each_kind_has_its_factors():
    kinds = jnp.array([[Kind.THINK, Kind.ACTION, Kind.PAD]], jnp.int8)
    config = dataclasses.replace(CONFIG, rules={"think": Rule(weight=0.5, entropy=3.0)})
    assert rules.scales(config, kinds, "weight").tolist() == [[0.5, 1.0, 1.0]]
    assert rules.scales(config, kinds, "entropy").tolist() == [[3.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"think": Rule(estimator="gea")}, "LearnerConfig.rules.think.estimator is 'gea'; set it to one of gae"),
        ({"think": Rule(estimator="grpo")}, "LearnerConfig.rules.think.estimator='grpo' compares the lanes of a group"),
        ({"think": Rule(estimator="segment_gae")}, "subtracts values that nothing trains"),
        ({"think": Rule(gae_lambda=0.5)}, "'monte_carlo' has no lambda; leave LearnerConfig.rules.think.gae_lambda out"),
    ],
)
def test_a_rule_that_lacks_what_it_needs_is_refused(table, words):
    interaction = tiny.agent(NAME)
    config = training.LearnerConfig(
        num_lanes=8, microbatch_size=8, num_minibatches=1, estimator="monte_carlo", value_weight=0.0, rules=table
    )
    with pytest.raises(ValueError, match=words):
        training.make_learner(interaction, tiny.model(), tiny.config(interaction), config)
    grouped = dataclasses.replace(config, estimator="grpo", group_size=2, rules={"think": Rule(span="kind")})
    with pytest.raises(ValueError, match="'grpo' compares whole episodes; set LearnerConfig.rules.think.span='episode'"):
        training.make_learner(interaction, tiny.model(), tiny.config(interaction), grouped)


def test_a_learner_follows_its_rules():
    """Where the weights of all kinds are 0, nothing is learned, and one that is not moves the policy."""
    interaction, none = tiny.agent(NAME), Rule(weight=0.0, entropy=0.0)
    plain = dict(num_lanes=8, microbatch_size=8, num_minibatches=1, num_epochs=1, estimator="monte_carlo", value_weight=0.0)
    tables = [{"think": none, "action": none, "reflection": none}, {"think": Rule(span="attempt"), "action": none, "reflection": none}]
    for table, moves in zip(tables, (False, True), strict=True):
        config = training.LearnerConfig(**plain, rules=table)
        learner = training.make_learner(interaction, tiny.model(), tiny.config(interaction), config)
        _, metrics = jax.jit(learner.update)(jax.jit(learner.init)(jax.random.key(0)))
        assert (float(metrics["gradient_norm"]) > 1e-3) == moves
