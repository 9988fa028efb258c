"""What is printed while a run goes on, where output is no terminal."""

import json
import time
import types

import pytest

from arl.runs.progress import Progress, reporting
from arl.task import Bounds

EXPERIMENT = types.SimpleNamespace(bounds=Bounds(1.0, 3.0), config=types.SimpleNamespace(num_updates=40))


def test_parts_of_a_task_are_told_one_a_line(capsys):
    with reporting("evaluating") as report:
        report("the agent (1 of 2)")
        assert capsys.readouterr().out == "evaluating: the agent (1 of 2)\n", "at once"
        report("notes shuffled (2 of 2)")
    assert capsys.readouterr().out == "evaluating: notes shuffled (2 of 2)\n"


def test_updates_are_told_with_their_score(tmp_path, capsys):
    with Progress(EXPERIMENT, tmp_path, 0) as progress:
        for step in range(40):
            progress(step, {"tokens": 50.0, "return/outcome": 2.0}, 0.5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 21 and "update 40/40: normalised score 0.50, outcome 2.000, 100 tokens/s" in lines[-1]
    assert len((tmp_path / "times.jsonl").read_text().splitlines()) == 40


def test_means_over_seeds_are_called_so(tmp_path, capsys):
    with Progress(EXPERIMENT, tmp_path, 0, num_seeds=3) as progress:
        progress(0, {"tokens": 50.0, "return/outcome": 2.0}, 0.5)
    assert "update 1/40: 3 seeds: normalised score 0.50, outcome 2.000" in capsys.readouterr().out


def test_what_is_done_aside_takes_no_time_of_training(tmp_path, capsys):
    with Progress(EXPERIMENT, tmp_path, 0) as progress:
        before = progress.spent()["seconds"]
        with progress.aside("writing transcripts"):
            time.sleep(0.5)
        assert progress.spent()["seconds"] - before < 0.4
        progress(0, {"tokens": 50.0, "return/outcome": 2.0}, 0.5)
    assert "writing transcripts" in capsys.readouterr().out
    spent = json.loads((tmp_path / "times.jsonl").read_text())["seconds"]
    again = Progress(EXPERIMENT, tmp_path, 1).spent()
    assert again["seconds"] == pytest.approx(spent, abs=0.4), "a run that goes on counts what it has taken"


def test_compilation_is_part_of_the_time_of_training_and_counted_over_all_starts(tmp_path):
    for step in range(2):
        with Progress(EXPERIMENT, tmp_path, step) as progress:
            with progress.compiling():
                time.sleep(0.2)
            progress(step, {"tokens": 50.0, "return/outcome": 2.0}, 0.5)
    spent = json.loads((tmp_path / "times.jsonl").read_text().splitlines()[-1])
    assert 0.4 <= spent["compile_seconds"] < spent["seconds"]


def test_times_of_a_run_from_before_compilation_was_counted_are_read(tmp_path):
    (tmp_path / "times.jsonl").write_text('{"update": 0, "seconds": 7.0}\n{"upd')
    spent = Progress(EXPERIMENT, tmp_path, 1).spent()
    assert spent["seconds"] >= 7.0 and spent["compile_seconds"] == 0.0
