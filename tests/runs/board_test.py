"""TensorBoard: which curves it shows, under which names, and that a run which goes on leaves no gap in them."""

import dataclasses
import json
import pathlib
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from arl.runs.board import Board, evaluation_scalars, scheduled, tag_of
from arl.training import Schedule
from experiments.build import build
from experiments.config import override
from experiments.presets import get_preset


def events(folder: pathlib.Path) -> list[Event]:
    """All events of a folder, in the order in which TensorBoard reads them."""
    found = []
    for path in sorted(folder.glob("*tfevents*")):
        words, at = path.read_bytes(), 0
        while at < len(words):  # a record is a length, its checksum, as many bytes, and their checksum
            (length,) = struct.unpack_from("<Q", words, at)
            found.append(Event.FromString(words[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def shown(folder: pathlib.Path) -> dict[str, dict[int, float | str]]:
    """What TensorBoard shows of a folder: by tag, value or text of each step; where a run goes on, it drops what stood beyond."""
    found: dict[str, dict[int, float | str]] = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            found = {tag: {step: value for step, value in curve.items() if step < event.step} for tag, curve in found.items()}
        for value in event.summary.value:
            is_scalar = value.HasField("simple_value")
            found.setdefault(value.tag, {})[event.step] = value.simple_value if is_scalar else value.tensor.string_val[0].decode()
    return {tag: curve for tag, curve in found.items() if curve}


@pytest.fixture(scope="module")
def experiment():
    return build(override(get_preset("reflection"), ["learner.num_updates=10"]))


def line(step: int) -> dict[str, float]:
    """Metrics of an update: some move at once, one at update 6, others never."""
    return {
        "update": step,
        "return": 0.5 + step,
        "return/outcome": 0.5 + step,
        "return/process": 0.0,
        "tokens": 100.0 + step,
        "tokens/action": 0.25 + step / 100,
        "tokens/goal": 0.0,
        "sampled": 4.0 + step,
        "sampled/action": 0.125 + step / 100,
        "clip_fraction": 0.0 if step < 6 else 0.5,
        "policy_loss": -0.5 * step,
        "entropy_weight": 0.06,
    }


def test_only_what_moves_is_shown_and_that_from_its_beginning(experiment, tmp_path):
    board = Board(experiment, tmp_path, [], {"preset": "reflection"})
    for step in range(6):
        board.update(step, line(step), 2.0)
    found = shown(tmp_path / "tensorboard")
    assert not {"tokens/read_fraction/goal", "return/process", "diagnostics/clip_fraction"} & set(found)
    assert found["losses/policy"] == {step: -0.5 * step for step in range(6)}
    board.update(6, line(6), 2.0)
    found = shown(tmp_path / "tensorboard")
    assert found["diagnostics/clip_fraction"] == {step: 0.0 if step < 6 else 0.5 for step in range(7)}
    assert not {"tokens/read_fraction/goal", "return/process"} & set(found)


def test_counts_and_shares_have_different_names(experiment, tmp_path):
    board = Board(experiment, tmp_path, [], {"preset": "reflection"})
    for step in range(2):
        board.update(step, line(step), 2.0)
    found = shown(tmp_path / "tensorboard")
    assert found["counts/tokens_read"][1] == 101 and found["time/tokens_per_second"][1] == 50.5
    assert found["tokens/read_fraction/action"][1] == pytest.approx(0.26)
    assert found["episodes/tokens_sampled"][1] == 5 and found["tokens/sampled_fraction/action"][1] == pytest.approx(0.135)
    bounds = experiment.bounds
    assert found["return/normalised_score"][1] == pytest.approx((1.5 - bounds.random) / (bounds.optimal - bounds.random))
    assert json.loads(found["config/text_summary"][0])["preset"] == "reflection"
    values = [value for event in events(tmp_path / "tensorboard") for value in event.summary.value]
    told = [value.metadata.summary_description for value in values if value.tag == "return/normalised_score"]
    assert told[0] == "0 is random, 1 is optimal."


@pytest.mark.parametrize("stopped", [5, 8])
def test_a_run_that_goes_on_shows_the_same_curves(experiment, tmp_path, stopped):
    """Update 4 was saved, update `stopped` was not: before or after a curve that had not moved did."""
    whole, board = tmp_path / "whole", Board(experiment, tmp_path / "whole", [], {"preset": "reflection"})
    for step in range(10):
        board.update(step, line(step), 2.0)
    parts, board = tmp_path / "parts", Board(experiment, tmp_path / "parts", [], {"preset": "reflection"})
    for step in range(stopped):
        board.update(step, line(step), 2.0)
    board = Board(experiment, parts, [line(step) for step in range(4)], {"preset": "reflection"})
    for step in range(4, 10):
        board.update(step, line(step), 2.0)
    assert len(list((parts / "tensorboard").iterdir())) == 2
    assert shown(parts / "tensorboard") == shown(whole / "tensorboard")


def test_metrics_that_nobody_has_named_are_shown_apart():
    assert tag_of("mine") == ("other/mine", "") and tag_of("mine/too") == ("mine/too", "")
    assert tag_of("expert/return/outcome")[0] == "imitation/expert_return/outcome"


def test_schedules_are_those_of_the_part_of_the_run():
    config = get_preset("mastermind")
    learner = dataclasses.replace(
        config.learner,
        num_updates=4,
        learning_rate=Schedule(8.0, 0.0),
        entropy_weight=Schedule(4.0, 4.0),
        schedules={"reward.process": Schedule(1.0)},
    )
    config = dataclasses.replace(config, learner=learner, warm_start=2, warm_start_learning_rate=Schedule(2.0, 0.0))
    found = {name: values.tolist() for name, values in scheduled(config).items()}
    assert found["learning_rate"] == [2, 1, 8, 6, 4, 2], "each from its beginning"
    assert found["entropy_weight"] == [0, 0, 4, 4, 4, 4], "an expert is imitated without"
    assert found["reward.process"] == [1, 1, 1, 0.75, 0.5, 0.25], "it stands still while an expert is imitated"
    without = scheduled(dataclasses.replace(config, warm_start=0))
    assert np.array_equal(without["learning_rate"], [8, 6, 4, 2])


def test_what_held_out_episodes_say_is_shown():
    summary = {
        "normalised_score": 0.75,
        "score": 2.0,
        "random": 0.0,
        "optimal": 3.0,
        "return": 1.5,
        "illegal_fraction": 0.0,
        "max_log_prob_gap": 1e-6,
        "ablations": {"shuffled": 0.0, "reflection by an expert": 1.0},
        "outcome_by_attempt": [0.5, 1.5],
        "bits_by_segment": {"note": [1.0, 2.0]},
    }
    found = {tag: value for tag, (value, _) in evaluation_scalars(summary).items()}
    assert found == {
        "evaluation/normalised_score": 0.75,
        "evaluation/outcome": 2.0,
        "evaluation/return": 1.5,
        "evaluation/illegal_fraction": 0.0,
        "evaluation/max_log_prob_gap": 1e-6,
        "evaluation/normalised_score_with/notes_shuffled": 0.0,
        "evaluation/normalised_score_with/reflections_by_an_expert": 1.0,
        "evaluation/outcome_by_attempt/1": 0.5,
        "evaluation/outcome_by_attempt/2": 1.5,
        "evaluation/bits/note/1": 1.0,
        "evaluation/bits/note/2": 2.0,
    }
