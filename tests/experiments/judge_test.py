"""The judge: what is taken from an agent, and put in its place."""

import jax

from experiments.build import build
from experiments.config import EvaluationConfig, override
from experiments.judge import judge
from experiments.presets import get_preset


def test_notes_are_shuffled_blanked_and_written_by_an_expert_that_has_some():
    experiment = build(override(get_preset("combination_lock"), ["agent.num_attempts=2"]))
    params = experiment.model.init(jax.random.key(0))
    judged = judge(experiment, params, 0, EvaluationConfig(num_lives=16))
    assert set(judged["ablations"]) == {"shuffled", "blanked", "by an expert"} and len(judged["bits"]["reflection"]) == 1
    assert not build(get_preset("reflection")).has_expert_note
