"""Forecasts of an agent, in words and by a head, against an account in plain Python."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, rollout, text, training
from arl.agents import Act, Attempts, Confidence, History
from arl.models import Variables
from arl.training import calibration
from arl.training import credit as credits
from arl.training import loss as losses
from arl.types import ArlError, Kind
from tests import tiny

LEVELS = (10, 50, 90)


@functools.cache
def played():
    """Two attempts at three pulls each, with confidences, by the tiny model with a head: agent, policy, variables and trajectories."""
    layers = Act(), Confidence(LEVELS), Attempts(2, History())
    interaction = agents.make_agent(envs.Bandit(2, 3).make(tiny.TOKENIZER), layers)
    policy = tiny.model(confidence_head=True)
    head = jax.random.normal(jax.random.key(5), (16,))
    variables = Variables({**tiny.params().trainable, "confidence_head": head})
    shape = tiny.config(interaction)

    @jax.jit
    def roll(lane_keys, task_keys):
        lanes = rollout.start_lanes(interaction, {}, shape, lane_keys, task_keys)
        return rollout.roll_out(interaction, policy, shape, variables, {}, lanes)[1]

    return interaction, policy, variables, jax.tree.map(np.asarray, roll(*tiny.keys(5)))


def by_hand(trajectory, lane):
    """The first episode of a lane: of each confidence its end, level and whether the pull before it paid; and attempts and outcomes."""
    said, last, outcomes = [], None, {}
    word = {text.token_ids(tiny.TOKENIZER, f" {level}")[0]: level / 100 for level in LEVELS}
    for place in np.flatnonzero(trajectory.is_sampled[lane] & (trajectory.episode[lane] == 0)):
        attempt = int(trajectory.attempt[lane, place])
        outcomes[attempt] = outcomes.get(attempt, 0.0) + float(trajectory.reward.outcome[lane, place])
        if trajectory.kind[lane, place] == Kind.ACTION:
            last = float(trajectory.reward.outcome[lane, place])
        else:
            said.append((int(place), word[int(trajectory.sampled[lane, place])], last == 1.0))
    return said, outcomes


def test_what_was_stated_is_read_from_the_text():
    interaction, _, _, trajectory = played()
    found = jax.tree.map(np.asarray, calibration.stated(interaction, jax.tree.map(jnp.asarray, trajectory)))
    seen = set()
    for lane in range(5):
        said, _ = by_hand(trajectory, lane)
        assert len(said) == 6
        for place, level, is_right in said:
            assert found.mask[lane, place] and found.confidence[lane, place] == pytest.approx(level)
            assert found.is_right[lane, place] == is_right
            paid = trajectory.reward.own[lane, place]
            assert paid == pytest.approx(-((level - is_right) ** 2), abs=1e-6)
            seen.add((level, is_right))
        first = trajectory.episode[lane] == 0
        assert found.mask[lane][first].sum() == 6
    assert len(seen) >= 3  # two levels at least, right and wrong


@pytest.mark.parametrize("success_at", [1.0, 2.0])
def test_successes_are_those_of_whole_attempts(success_at):
    _, _, _, trajectory = played()
    found, known = (np.asarray(x) for x in credits.successes(jax.tree.map(jnp.asarray, trajectory), success_at))
    for lane in range(5):
        _, outcomes = by_hand(trajectory, lane)
        mine = np.flatnonzero(trajectory.is_sampled[lane] & (trajectory.episode[lane] == 0))
        assert known[lane, mine].all() and sorted(outcomes) == [0, 1]
        for place in mine:
            assert found[lane, place] == (outcomes[int(trajectory.attempt[lane, place])] >= success_at)
        assert not known[lane][~trajectory.is_sampled[lane]].any()


def test_attempts_that_are_cut_at_either_side_are_not_known():
    _, _, _, trajectory = played()
    attempt = np.asarray(trajectory.attempt)
    lane, middle = 0, int(np.flatnonzero((attempt[0] == 1) & trajectory.is_sampled[0])[1])
    cut = jax.tree.map(lambda x: jnp.asarray(x[:1, 2:middle]), trajectory)
    cut = cut._replace(turn=cut.turn + 1)
    _, known = credits.successes(cut, 1.0)
    assert not known[lane].any()


def test_the_head_is_asked_where_an_action_begins():
    _, policy, variables, trajectory = played()
    found = calibration.foreseen(policy, variables, jax.tree.map(jnp.asarray, trajectory), 2.0)
    features = policy.forward(variables, jnp.asarray(trajectory.token), jnp.asarray(trajectory.context_start))
    np.testing.assert_allclose(found.confidence, jax.nn.sigmoid(features @ variables.trainable["confidence_head"]), atol=1e-5)
    first = trajectory.episode == 0
    acts = trajectory.is_sampled & (trajectory.kind == Kind.ACTION) & first
    np.testing.assert_array_equal(np.asarray(found.mask) & first, acts)  # a pull is one token


def test_the_summary_is_that_of_the_forecasts_that_count():
    forecasts = calibration.Forecasts(jnp.array([[0.9, 0.1, 0.9, 0.5]]), jnp.array([[True, True, False, True]]), jnp.arange(4)[None] < 3)
    found = calibration.summarise_forecasts(forecasts)
    assert found["brier"] == pytest.approx((0.01 + 0.81 + 0.81) / 3) and found["right"] == pytest.approx(2 / 3)
    assert found["calibration_error"] == pytest.approx((0.8 + 0.9) / 3) and found["mean"] == pytest.approx(1.9 / 3)
    assert found["base_rate_brier"] == pytest.approx(2 / 9)
    assert calibration.summarise_forecasts(forecasts._replace(mask=jnp.zeros((1, 4), bool))) == {}


def test_who_states_no_confidence_is_told_so():
    with pytest.raises(ArlError, match="put a Confidence layer around it"):
        calibration.confidence_layer(tiny.agent("act"))


def test_the_loss_of_the_head_is_the_mean_brier_score_and_moves_it_alone_where_nothing_else_is_learned():
    interaction, policy, variables, trajectory = played()
    trajectory = jax.tree.map(jnp.asarray, trajectory)
    config = training.LearnerConfig(confidence_weight=2.0, success_at=2.0, value_weight=0.0, policy_loss="policy_gradient")
    floats = jnp.zeros_like(trajectory.log_prob)
    nothing = jnp.zeros(floats.shape, bool)
    batch = losses.Batch(trajectory, floats, floats, nothing, nothing, trajectory.log_prob, floats)
    totals = losses.count(batch, config)
    total, metrics = losses.loss(policy, interaction.grammar, config, 1.0, jnp.float32(0.0), totals, variables, batch)
    features = policy.forward(variables, trajectory.token, trajectory.context_start)
    confidence = np.asarray(policy.heads["confidence"](variables, features))
    is_success, known = (np.asarray(x) for x in credits.successes(trajectory, 2.0))
    wanted = np.square(confidence - is_success)[known].mean()
    assert metrics["confidence_loss"] == pytest.approx(wanted, rel=1e-5) and total == pytest.approx(2 * wanted, rel=1e-5)


def test_a_head_that_is_not_there_is_not_trained():
    interaction = tiny.agent("act")
    config = training.LearnerConfig(num_lanes=32, microbatch_size=8, confidence_weight=1.0)
    with pytest.raises(ArlError, match='has no head "confidence"; set ModelConfig.confidence_head=True'):
        training.make_learner(interaction, tiny.model(), tiny.config(interaction), config)
