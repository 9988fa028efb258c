"""What each decision is worth: a trajectory by hand, and real trajectories against a second account."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.training import ESTIMATORS, LearnerConfig
from arl.training import credit as credits
from arl.types import Kind, Reward, Trajectory
from tests import tiny

CONFIG = LearnerConfig(gae_lambda=0.5, group_size=2)


def hand_trajectory(num_lanes=1, **changes) -> Trajectory:
    """Each lane: reads, writes two candidates (a segment that pays 1), reads, writes a forced candidate and one that pays 2; ends."""
    row = {
        "token": [7, 1, 2, 7, 3, 4, 0],
        "token_kind": [Kind.PROMPT, Kind.ACTION, Kind.OBSERVATION, Kind.OBSERVATION, Kind.ACTION, 0, 0],
        "is_sampled": [1, 1, 0, 1, 1, 0, 0],
        "has_choice": [1, 1, 0, 0, 1, 0, 0],
        "author": [0, 0, 0, 0, 0, 0, 0],
        "ends_segment": [0, 1, 0, 0, 1, 0, 0],
        "ends_episode": [0, 0, 0, 0, 1, 0, 0],
        "discount": [1, 0.5, 1, 1, 0, 1, 1],
        "value": [4, 3, 0, 2, 1, 0, 0],
    }
    types = {"token": jnp.int32, "token_kind": jnp.int32, "discount": jnp.float32, "value": jnp.float32}
    arrays = {name: jnp.tile(jnp.array(x, types.get(name, bool)), (num_lanes, 1)) for name, x in row.items()}
    floats, ints, false = jnp.zeros_like(arrays["value"]), jnp.zeros_like(arrays["token"]), jnp.zeros_like(arrays["is_sampled"])
    reward = Reward(jnp.tile(jnp.array([0, 1, 0, 0, 2.0, 0, 0]), (num_lanes, 1)), floats, floats, floats, floats)
    return Trajectory(
        **arrays, context_start=ints, kind=ints, sampled=ints, grammar_state=ints, support=ints[..., None].astype(jnp.uint32),
        narrowed=None,
        log_prob=floats,
        has_value=arrays["is_sampled"], reward=reward, is_legal=arrays["ends_segment"], is_truncated=false, turn=ints, attempt=ints,
        episode=ints,
    )._replace(**changes)  # fmt: skip


def estimate(name, trajectory, config=CONFIG):
    return jax.jit(functools.partial(ESTIMATORS[name].estimate, config=config))(trajectory, credits.total_reward(trajectory.reward))


def test_components_of_a_reward_add_up():
    reward = Reward(*(jnp.full((1, 2), x) for x in (1.0, -0.5, 0.25, -2.0, 64.0)))
    np.testing.assert_allclose(credits.total_reward(reward), -1.25)  # without that of the segment alone


def test_a_candidate_without_alternative_is_no_decision():
    assert credits.is_decision(hand_trajectory()).tolist() == [[True, True, False, False, True, False, False]]


# Returns: 2 at the last segment, 1 + 0.5 * 2 at the first. TD errors are next value (times discount), plus reward, less value.
BY_HAND = {
    "monte_carlo": ([2, 2, 0, 2, 2, 0, 0], [2, 2, 0, 2, 2, 0, 0]),
    "reinforce": ([-2, -1, 0, 0, 1, 0, 0], [2, 2, 0, 2, 2, 0, 0]),
    # delta = [-1, 1 + 0.5 * 2 - 3, 1 - 2, 2 - 1] = [-1, -1, -1, 1]; the trace of 0.5 lies between segments only
    "gae": ([-2, -1, 0, 0, 1, 0, 0], [2, 2, 0, 2, 2, 0, 0]),
    # delta = [1 + 0.5 * 2 - 4, 2 - 2] = [-2, 0], at all tokens of the segment
    "segment_gae": ([-2, -2, 0, 0, 0, 0, 0], None),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_trajectory_by_hand(name):
    found = estimate(name, hand_trajectory())
    advantage, target = BY_HAND[name]
    np.testing.assert_allclose(found.advantage[0], advantage, atol=1e-6)
    if target:
        np.testing.assert_allclose(found.target[0], target, atol=1e-6)
    assert found.policy_mask.tolist() == [[True, True, False, False, True, False, False]]


def test_a_trace_that_counts_tokens_fades_within_a_segment():
    found = estimate("gae", hand_trajectory(), LearnerConfig(gae_lambda=0.5, gae_lambda_counts="token"))
    # delta = [-1, -1, -1, 1]; 0.5 from token to token, times the discount of 0.5 at the border
    np.testing.assert_allclose(found.advantage[0, [0, 1, 3, 4]], [-1 + 0.5 * -1.125, -1 + 0.25 * -0.5, -1 + 0.5, 1.0])


def by_return(outcomes, **changes):
    """Lanes whose last segment pays `outcomes`; the episode's return is 1 and half of that."""
    trajectory = hand_trajectory(len(outcomes))
    return trajectory._replace(
        reward=trajectory.reward._replace(outcome=trajectory.reward.outcome.at[:, 4].set(jnp.array(outcomes))), **changes
    )


def test_groups_by_hand():
    trajectory = by_return([2.0, 6.0, 3.0, 3.0])
    for name, config, first in [
        ("rloo", CONFIG, -2.0),
        ("grpo", LearnerConfig(group_size=2, normalize=False), -1.0),
        ("grpo", LearnerConfig(group_size=2, normalize=True), -1.0),
    ]:
        found = estimate(name, trajectory, config)
        written = np.array([1, 1, 0, 1, 1, 0, 0])
        np.testing.assert_allclose(found.advantage, np.array([first, -first, 0, 0])[:, None] * written, atol=1e-5)
        assert float(found.metrics["groups_without_variance"]) == 1
        assert found.policy_mask.any(1).tolist() == [True, True, False, False]


@pytest.mark.parametrize("name", ["grpo", "rloo"])
@pytest.mark.parametrize(
    ("choice", "kept", "counted"),
    [("mask", [1, 1, 0, 0], [1, 1, 1, 1]), ("keep", [1, 1, 1, 1], [1, 1, 1, 1]), ("filter", [1, 1, 0, 0], [1, 1, 0, 0])],
)
def test_groups_without_variance_count_as_chosen(name, choice, kept, counted):
    trajectory, config = by_return([2.0, 6.0, 3.0, 3.0]), LearnerConfig(group_size=2, zero_variance_groups=choice)
    found, decides = estimate(name, trajectory, config), np.asarray(credits.is_decision(trajectory))
    np.testing.assert_array_equal(found.advantage, estimate(name, trajectory).advantage)
    np.testing.assert_array_equal(found.policy_mask, decides & np.array(kept, bool)[:, None])
    np.testing.assert_array_equal(
        credits.regularizer_mask(trajectory, found.policy_mask, config), decides & np.array(counted, bool)[:, None]
    )


@pytest.mark.parametrize("choice", ["mask", "keep", "filter"])
def test_an_episode_that_did_not_end_is_compared_with_nobody(choice):
    trajectory = by_return([2.0, 6.0, 8.0], ends_episode=hand_trajectory(3).ends_episode.at[2].set(False))
    found = estimate("rloo", trajectory, LearnerConfig(group_size=3, zero_variance_groups=choice))
    np.testing.assert_allclose(found.advantage[:, 0], [-2.0, 2.0, 0.0])
    assert found.policy_mask[:2].any(1).all() and not found.policy_mask[2].any()


def returns_of(trajectory, lane):
    """What follows each token, backwards, in plain Python; the last value of a truncated episode stands for what is cut."""
    reward, found, following = tiny.total(trajectory.reward)[lane], np.zeros(trajectory.token.shape[1]), 0.0
    for slot in reversed(range(len(found))):
        if trajectory.ends_episode[lane, slot]:
            following = trajectory.value[lane, slot] if trajectory.is_truncated[lane, slot] else 0.0
        if trajectory.is_sampled[lane, slot]:
            discount = trajectory.discount[lane, slot] if trajectory.ends_segment[lane, slot] else 1.0
            following = found[slot] = reward[slot] + discount * following
    return found


@pytest.mark.parametrize("name", ["thoughts in attempts", "limits in attempts", "cost"])
def test_real_trajectories(name):
    _, trajectory, _ = tiny.roll(name, *tiny.keys(6))
    wanted = np.stack([returns_of(trajectory, lane) for lane in range(6)])
    trajectory = jax.tree.map(jnp.asarray, trajectory)
    baseline = np.where(trajectory.is_sampled, wanted - trajectory.value, 0.0)
    np.testing.assert_allclose(estimate("monte_carlo", trajectory).advantage, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(estimate("reinforce", trajectory).advantage, baseline, rtol=1e-4, atol=1e-4)
    for counts in ("segment", "token"):
        found = estimate("gae", trajectory, LearnerConfig(gae_lambda=1.0, gae_lambda_counts=counts))
        np.testing.assert_allclose(found.advantage, baseline, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.target, np.where(trajectory.is_sampled, wanted, 0.0), rtol=1e-4, atol=1e-4)
    choices = tiny.kept(tiny.agent(name).grammar, trajectory).sum(-1)
    assert np.array_equal(credits.is_decision(trajectory), np.asarray(trajectory.is_sampled) & (choices > 1))


def test_names_are_those_of_the_config():
    assert {name for name, known in ESTIMATORS.items() if known.compares_groups} == {
        "grpo",
        "rloo",
    } and LearnerConfig().estimator in ESTIMATORS
