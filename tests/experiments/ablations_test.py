"""Ablations: a row is made of runs, and is not made twice."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments import ablations
from experiments.presets import PRESETS

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.learner.num_updates=2 --config.learner.num_lanes=32 --config.learner.minibatches=1 --config.learner.microbatch=8 "
    "--config.evaluation.num_lives=16"
).split()


def ablate(*arguments):
    command = [sys.executable, str(ROOT / "experiments" / "ablations.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ, timeout=300)


def test_every_row_names_presets_and_two_arms():
    for arms in ablations.ROWS.values():
        assert len(arms) >= 2 and set(arms) <= set(PRESETS)


def test_a_row_is_made_with_table_and_curves_and_not_made_twice(tmp_path):
    arguments = ("--row=restless", "--seeds=3", f"--output={tmp_path}", *SMALL, "--config.environment.restless_bandit.num_pulls=2")
    made = ablate(*arguments)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "restless"
    summary = json.loads((folder / "restless_bandit-3" / "summary.json").read_text())
    table = (folder / "table.md").read_text()
    assert f"| restless_bandit | 1 | {summary['fraction']:.1%}" in table and "| restless_bandit_memoryless | 1 |" in table
    assert (folder / "curves.png").stat().st_size > 1000
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("summary.json")}
    again = ablate(*arguments)
    assert again.returncode == 0 and table in again.stdout and len(times) == 2
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("summary.json")}


WRONG = [
    (["--row=memori"], "memory"),
    ([], "choose one of"),
    (["--row=memory", "--seeds=one"], "is no seed"),
    (["--row=memory", "--seeds="], "no runs"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_what_cannot_be_is_answered_in_one_line(arguments, says):
    answered = ablate(*arguments)
    assert answered.returncode == 2 and says in answered.stderr and answered.stderr.count("\n") == 1
