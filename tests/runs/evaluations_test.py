"""Evaluation of an agent, with its notes replaced and with an expert in its place."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.runs import evaluations
from arl.runs.config import EvaluationConfig
from arl.runs.evaluations import ablation_label, evaluate_agent, make_evaluator
from arl.runs.transcript import typical_episodes
from arl.task import Limits
from arl.types import Kind
from experiments.build import build
from experiments.config import override
from experiments.presets import get_preset

NARROW = "rollout.widths=()"  # the programs of wider calls take longer to compile


def test_notes_are_shuffled_blanked_and_written_by_an_expert_that_has_some():
    experiment = build(override(get_preset("combination_lock"), ["agent.attempts.num_attempts=2", NARROW]))
    params = experiment.policy.init(jax.random.key(0))
    told: list[str] = []
    evaluated = evaluate_agent(experiment, params, 0, EvaluationConfig(num_episodes=16), told.append).summary
    assert told == [
        "the agent (1 of 4)",
        "notes shuffled (2 of 4)",
        "notes blanked (3 of 4)",
        "notes by an expert (4 of 4)",
    ]
    assert set(evaluated["ablations"]) == {"shuffled", "blanked", "by an expert"} and len(evaluated["bits_by_segment"]["reflection"]) == 1
    assert set(evaluated["token_fractions"]) == {"action", "reflection"} and set(evaluated["ablated_by_attempt"]) == set(
        evaluated["ablations"]
    )
    assert not build(get_preset("reflection")).task.experts(Limits())


def test_what_questions_tell_is_counted_for_agent_and_expert():
    experiment = build(override(get_preset("mastermind"), ["agent.act.time_limit=6", NARROW]))
    told: list[str] = []
    evaluated = evaluate_agent(
        experiment, experiment.policy.init(jax.random.key(0)), 0, EvaluationConfig(num_episodes=32), told.append
    ).summary
    assert told[-1] == "information of an expert (3 of 3)" and len(told) == 3
    bits = evaluated["bits_per_action"]
    assert 0 < bits["agent"] < bits["expert"] <= math.log2(6) and evaluated["ablations"] == {}
    assert set(evaluated["token_fractions"]) == {"action"} and 0.1 < evaluated["token_fractions"]["action"] < 0.5


@pytest.mark.parametrize("name", ["shifting_controls", "restless_bandit"])
def test_curves_around_a_shift_are_told(name, monkeypatch):
    experiment = build(override(get_preset(name), [NARROW]))
    seen, around_shift = [], evaluations.adaptation.around_shift
    monkeypatch.setattr(evaluations.adaptation, "around_shift", lambda *told: seen.append(told[:2]) or around_shift(*told))
    told: list[str] = []
    evaluated = evaluate_agent(
        experiment, experiment.policy.init(jax.random.key(0)), 0, EvaluationConfig(num_episodes=64), told.append
    ).summary
    assert told == ["the agent (1 of 2)", "an expert (2 of 2)"]
    curves = evaluated["around_shift"]
    assert {len(curve) for curve in curves.values()} == {13} and set(curves) == {"step", "reward", "expert", "switches"}
    assert evaluated["recovered"] < evaluated["expert_recovered"] <= 1.05
    for share, (earned, is_shift) in zip(("recovered", "expert_recovered"), seen):
        settled = [[row[: t + 1].any() and not row[max(t - 3, 0) : t + 1].any() for t in range(len(row))] for row in is_shift]
        assert evaluated[share] == pytest.approx(earned[np.array(settled)].mean() / experiment.task.shifts.informed)
    assert curves["expert"][5] < curves["expert"][4] and curves["expert"][5] < curves["expert"][12], "it falls at the shift, and recovers"


@pytest.fixture(scope="module")
def guesser():
    """A small run without notes, and its first parameters."""
    small = ["environment.num_numbers=3", "agent.attempts.num_attempts=2", "evaluation.num_episodes=16", NARROW]
    experiment = build(override(get_preset("history"), small))
    return experiment, experiment.policy.init(jax.random.key(0))


def test_a_greedy_agent_has_a_gap_too_that_of_episodes_that_it_samples(guesser, monkeypatch):
    experiment, params = guesser
    monkeypatch.setattr(evaluations, "GAP_EPISODES", 4)
    told: list[str] = []
    greedy = evaluate_agent(experiment, params, 0, EvaluationConfig(num_episodes=16, greedy=True), told.append)
    assert told == ["the agent (1 of 2)", "sampled episodes (2 of 2)"] and greedy.trajectory.token.shape[0] == 16
    sampled = evaluate_agent(experiment, params, 0, EvaluationConfig(num_episodes=4))
    assert greedy.summary.keys() == sampled.summary.keys() and not greedy.trajectory.log_prob.any()
    said = [typical_episodes(experiment.interaction, experiment.tokenizer, evaluated.trajectory) for evaluated in (greedy, sampled)]
    assert ["written greedily" in episodes.splitlines()[0] for episodes in said] == [True, False]
    assert greedy.summary["max_log_prob_gap"] == sampled.summary["max_log_prob_gap"] <= 1e-4


def test_transcripts_during_training_are_compiled_once(guesser, monkeypatch):
    experiment, params = guesser
    traced, play = [], evaluations.evaluation.play
    monkeypatch.setattr(evaluations.evaluation, "play", lambda *arguments: traced.append(1) or play(*arguments))
    evaluate = make_evaluator(experiment)
    (summary, first), (_, other) = evaluate(params, 0), evaluate(experiment.policy.init(jax.random.key(1)), 0)
    assert evaluate(params, 0)[1] == first not in (other, evaluate(params, 1)[1]) and len(traced) == 1
    assert summary["score_interval"] > 0 and f"(mean {summary['return']:.2f})" in first
    assert first.startswith("3 of 16 held-out episodes, chosen by their return (mean ") and "of 16: return" in first
    assert first.index("the 10th percentile") < first.index("the median") < first.index("the best")


@pytest.mark.parametrize("seed", [0, 3])
def test_the_episodes_that_are_evaluated_have_no_key_of_training(seed):
    """A run's keys are split from that of its seed, and from those in turn; that of the evaluated episodes is none of them."""
    key = jax.random.key(seed)
    of_training = jax.random.key_data(jnp.append(jax.random.split(key, 100_000), key))  # whatever a learner takes its parts for
    of_episodes = jax.random.key_data(evaluations._key(seed))
    assert not (of_training == of_episodes).all(axis=1).any()


@pytest.mark.parametrize(("is_greedy", "temperature"), [(False, 0.5), (True, 0.0)])
def test_an_agent_is_evaluated_as_at_the_end_of_its_training(monkeypatch, is_greedy, temperature):
    """Nothing of the old context is kept any more, which is what its schedule ends with; a greedy agent alone is decoded otherwise."""
    config = override(get_preset("reflection"), ["rollout.decoding.temperature=0.5"])
    assert config.learner.schedules["attempts.keep"].start > 0
    monkeypatch.setattr(evaluations.evaluation, "play", lambda *arguments: arguments)
    experiment = types.SimpleNamespace(config=config, rollout=config.rollout, policy=None, task=types.SimpleNamespace(limits=Limits()))
    _, _, rollout, _, curriculum, *_ = evaluations._played(experiment, None, None, EvaluationConfig(greedy=is_greedy), None)
    assert curriculum["attempts"]["keep"] == 0 and rollout.decoding.temperature == temperature


def test_shares_of_tokens_are_of_all_that_were_read():
    """Two lanes of four slots: two words of an action, one of a note, three tokens read for nothing else, and two slots of no token."""
    trajectory = types.SimpleNamespace(
        kind=np.array([[0, Kind.ACTION, Kind.ACTION, 0], [0, Kind.NOTE, 0, 0]]),
        is_sampled=np.array([[0, 1, 1, 0], [0, 1, 0, 0]], bool),
        token_kind=np.array([[Kind.PROMPT, Kind.ACTION, Kind.ACTION, Kind.PAD], [Kind.PROMPT, Kind.NOTE, Kind.OBSERVATION, Kind.PAD]]),
    )
    assert evaluations.token_fractions(trajectory) == {"action": pytest.approx(2 / 6), "note": pytest.approx(1 / 6)}


@pytest.mark.parametrize(
    ("preset", "names"),
    [("history", []), ("reflection", ["shuffled", "blanked"]), ("corridor", ["shuffled", "blanked", "by an expert"])]
    + [("composed", [f"{kind} {how}" for how in ("shuffled", "blanked", "by an expert") for kind in ("reflection", "note")])],
)
def test_notes_of_every_kind_are_taken_away(preset, names):
    assert list(evaluations._ablations(build(get_preset(preset)))) == names


def test_ablations_are_named_for_people():
    assert ablation_label("shuffled") == "notes shuffled" and ablation_label("by an expert") == "notes by an expert"
    assert ablation_label("reflection shuffled") == "reflections shuffled" and ablation_label("note blanked") == "notes blanked"
