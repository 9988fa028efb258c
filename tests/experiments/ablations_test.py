"""Ablations: a row is made of runs, and is not made twice."""

import json
import pathlib
import subprocess
import sys

import pytest

from experiments.config import override
from experiments.folder import record
from experiments.presets import PRESETS, ROWS, get_preset
from experiments.tables import table

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.learner.num_updates=2 --config.learner.num_lanes=32 --config.learner.num_minibatches=1 --config.learner.microbatch_size=8 "
    "--config.evaluation.num_episodes=16 --config.environment.num_pulls=4 --config.warm_start=1 --config.rollout.widths=()"
).split()


def ablate(*arguments):
    command = [sys.executable, str(ROOT / "experiments" / "ablations.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_every_row_names_presets_and_two_arms():
    for arms in ROWS.values():
        assert len(arms) >= 2 and set(arms) <= set(PRESETS)


SUMMARY = {
    "normalised_score": 0.875,
    "warm_start": 20,
    "normalised_score_after_warm_start": 0.5,
    "outcome_by_attempt": [1.0],
    "seconds": 7.0,
    "score": 1.0,
    "return": 1.0,
    "optimal": -2.5,
    "actions": 2.75,
    "ablations": {},
    "token_fractions": {"action": 0.5},
}


def test_what_some_summaries_tell_stands_in_their_line():
    asking = SUMMARY | {"bits_per_action": {"agent": 1.25, "expert": 1.5}, "return": 0.5, "token_fractions": {"action": 0.1, "tool": 0.25}}
    line = table({"mastermind": [asking, asking | {"normalised_score": 0.5, "seconds": 9.0}]}).splitlines()[-1]
    assert line == (
        "| `mastermind` | 20: 50% | 2 | 68.8% (50.0%) |  |  | 2.75 questions (optimum 2.50); 1.25 bits per question (expert 1.50); "
        "return 0.50; tool 25% of tokens | 8 |"
    )


def test_what_each_attempt_earned_stands_in_the_line_of_several():
    episodes = [SUMMARY | {"outcome_by_attempt": [0.25, first]} for first in (0.5, 1.0, 0.75)]
    assert "| 0.25, 0.75 |" in table({"combination_lock": episodes}).splitlines()[-1]


def test_a_row_makes_what_is_missing_and_nothing_twice(tmp_path):
    """One arm has been made before, the other has not."""
    folder = tmp_path / "restless"
    done = folder / "restless_bandit-3"
    done.mkdir(parents=True)
    lines = [{"update": step, "expert/return/outcome" if step < 20 else "return/outcome": 1.5} for step in range(22)]
    (done / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {**SUMMARY, "random": 1.0, "optimal": 1.8, "ablations": {"shuffled": 0.25, "by an expert": 0.9}}
    curve = {"step": list(range(-5, 8)), **{name: [0.5] * 13 for name in ("reward", "expert", "switches")}}
    summary |= {"around_shift": curve, "recovered": 0.75, "expert_recovered": 0.875}
    (done / "summary.json").write_text(json.dumps(summary))
    assignments = [flag.removeprefix("--config.") for flag in SMALL]
    config = override(get_preset("restless_bandit"), assignments)
    (done / "config.json").write_text(json.dumps(record(config, 3)))
    arguments = ("--row=restless", "--seeds=3", f"--output={tmp_path}", *SMALL)
    answered = ablate(*arguments)
    assert answered.returncode == 0, answered.stderr
    made = (folder / "table.md").read_text()
    assert "| `restless_bandit` | 20: 50% | 1 | 87.5% (87.5%) |  | shuffled 25.0% | 75% of the informed" in made
    assert all((folder / name).stat().st_size > 1000 for name in ("curves.png", "around_shift.png"))
    other = folder / "restless_bandit_without_memory-3" / "summary.json"
    score, when = json.loads(other.read_text())["normalised_score"], other.stat().st_mtime_ns
    began = json.loads(other.read_text())["normalised_score_after_warm_start"]
    assert f"| `restless_bandit_without_memory` | 1: {began:.0%} | 1 | {score:.1%} ({score:.1%})" in made
    other_config = ablate(*arguments, "--config.warm_start=2")
    assert other_config.returncode == 2 and "warm_start is 1 there and 2 here" in other_config.stderr
    again = ablate(*arguments)
    assert again.returncode == 0 and made in again.stdout and other.stat().st_mtime_ns == when


WRONG = [
    (["--row=memori"], "memory"),
    ([], "choose one of"),
    (["--row=memory", "--seeds=one"], "is no seed"),
    (["--row=memory", "--seeds="], "is empty"),
    (["--row=memory", "--seeds=1,1"], "stands twice"),
    (["--row=memory", "--config.agent.nonsense=4"], "nonsense"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_what_cannot_be_is_answered_in_one_line(arguments, says):
    answered = ablate(*arguments)
    assert answered.returncode == 2 and says in answered.stderr and answered.stderr.count("\n") == 1
