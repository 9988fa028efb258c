"""The judge: what is taken from an agent, and put in its place."""

import math

import jax
import pytest

from experiments.build import build
from experiments.config import EvaluationConfig, override
from experiments.judge import judge
from experiments.presets import get_preset


def test_notes_are_shuffled_blanked_and_written_by_an_expert_that_has_some():
    experiment = build(override(get_preset("combination_lock"), ["agent.num_attempts=2"]))
    params = experiment.model.init(jax.random.key(0))
    judged = judge(experiment, params, 0, EvaluationConfig(num_lives=16))
    assert set(judged["ablations"]) == {"shuffled", "blanked", "by an expert"} and len(judged["bits"]["reflection"]) == 1
    assert set(judged["token_shares"]) == {"action", "reflection"} and set(judged["ablated_by_attempt"]) == set(judged["ablations"])
    assert not build(get_preset("reflection")).task.expert_note


def test_what_questions_tell_is_counted_for_agent_and_expert():
    experiment = build(override(get_preset("mastermind"), ["environment.time_limit=6"]))
    judged = judge(experiment, experiment.model.init(jax.random.key(0)), 0, EvaluationConfig(num_lives=32))
    bits = judged["bits_a_question"]
    assert 0 < bits["agent"] < bits["expert"] <= math.log2(6) and judged["ablations"] == {}
    assert set(judged["token_shares"]) == {"action"} and 0.1 < judged["token_shares"]["action"] < 0.5


@pytest.mark.parametrize("name", ["shifting_controls", "restless_bandit"])
def test_curves_around_a_shift_are_told(name):
    experiment = build(get_preset(name))
    judged = judge(experiment, experiment.model.init(jax.random.key(0)), 0, EvaluationConfig(num_lives=64))
    curves = judged["around_shift"]
    assert {len(curve) for curve in curves.values()} == {13} and set(curves) == {"step", "reward", "expert", "switches"}
    assert judged["recovered"] < judged["expert_recovered"] <= 1.05
    assert curves["expert"][5] < curves["expert"][4] and curves["expert"][5] < curves["expert"][12], "it falls at the shift, and recovers"
