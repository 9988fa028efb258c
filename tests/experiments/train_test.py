"""The binaries as a user starts them: killed and resumed, finished, damaged, wrongly asked."""

import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from arl.training import Checkpoints, read_metrics
from experiments.build import build
from experiments.config import from_dict
from tests.runs.board_test import shown

ROOT = pathlib.Path(__file__).parents[2]
NUM_UPDATES = 40
SMALL = [
    "--preset=reflection",
    "--config.environment.num_numbers=3",
    "--config.agent.attempts.num_attempts=2",
    "--config.agent.attempts.memory.budget=1",
    "--config.rollout.restarts=True",  # so that lanes with live tokens cross from one update to the next
    "--config.rollout.trajectory_length=17",
    "--config.rollout.widths=()",  # the programs of wider calls take longer to compile
    "--config.learner.num_lanes=16",
    "--config.learner.num_minibatches=2",
    "--config.learner.microbatch_size=8",
    f"--config.learner.num_updates={NUM_UPDATES}",
    "--config.evaluation.num_episodes=32",
    "--config.checkpoint_every=7",
]


def start(name: str, *arguments: str) -> subprocess.Popen:
    """Starts a binary."""
    command = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def end(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit code, output and errors of one that ends by itself."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def one_sentence(errors: str) -> str:
    """What was said on stderr: one line, and nothing beside it."""
    lines = errors.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), errors
    return lines[0]


def interrupt(process: subprocess.Popen, folder: pathlib.Path, num_lines: int, number: int) -> None:
    """Sends a signal once so many updates are written down and a checkpoint, which is written meanwhile, is whole."""
    path, deadline = folder / "metrics.jsonl", time.monotonic() + 300

    def is_time():
        has_checkpoint = any(saved.name.isdigit() for saved in (folder / "checkpoints").glob("*"))
        return has_checkpoint and path.exists() and path.read_bytes().count(b"\n") >= num_lines

    while not is_time():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(number)


def last_state(folder: pathlib.Path) -> list[np.ndarray]:
    """Every array of the newest checkpoint: parameters, optimizer, lanes, keys, step."""
    values = json.loads((folder / "config.json").read_text())
    seed = values.pop("seed")
    init = build(from_dict(values)).learner.init
    checkpoints = Checkpoints(folder / "checkpoints")
    state = checkpoints.restore(jax.eval_shape(init, jax.random.key(seed)))
    checkpoints.close()
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    code, _, errors = end(start("train", *SMALL, f"--output={folder}"))
    assert code == 0, errors
    return folder


def test_run_leaves_all_that_scripts_rely_on(finished):
    names = {"config.json", "metrics.jsonl", "curve.png", "transcripts.txt", "checkpoints", "tensorboard", "summary.json"}
    assert names <= {path.name for path in finished.iterdir()}
    summary = json.loads((finished / "summary.json").read_text())
    wanted = "name preset command seed updates seconds compile_seconds score random optimal normalised_score interval max_log_prob_gap"
    assert {*wanted.split(), "ablations"} <= set(summary) and set(summary["ablations"]) == {"shuffled", "blanked"}
    assert summary["preset"] == summary["name"] == "reflection" and 0 < summary["compile_seconds"] < summary["seconds"]
    assert summary["updates"] == NUM_UPDATES == len((finished / "metrics.jsonl").read_text().splitlines())
    assert summary["max_log_prob_gap"] <= 1e-4
    scale = summary["optimal"] - summary["random"]
    assert summary["normalised_score"] == pytest.approx((summary["score"] - summary["random"]) / scale)


def test_transcripts_are_shown_before_during_and_after_training(finished):
    transcripts = (finished / "transcripts.txt").read_text()
    quarters = [f"after {updates} of {NUM_UPDATES} updates" for updates in (10, 20, 30)]
    titles = [line.removeprefix("===== ") for line in transcripts.splitlines() if line.startswith("=====")]
    assert titles == ["before training", *quarters, "after training"]
    episodes = [line for line in transcripts.split("after training")[1].splitlines() if line.startswith("episode ")]
    returned = [float(line.split("return ")[1].split(",")[0]) for line in episodes]
    assert returned == sorted(returned) and "the median" in "".join(episodes) and "of 32: return" in episodes[0]
    assert "\\n" not in transcripts and "'" not in transcripts


def test_tensorboard_shows_training_and_what_came_of_it(finished):
    found, lines = shown(finished / "tensorboard"), [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((finished / "summary.json").read_text())
    is_curve = lambda tag: not tag.startswith("evaluation/") and not tag.endswith("text_summary")
    assert all(len(curve) == NUM_UPDATES and len(set(curve.values())) > 1 for tag, curve in found.items() if is_curve(tag))
    assert found["return/outcome"] == {line["update"]: pytest.approx(line["return/outcome"]) for line in lines}
    assert found["schedules/entropy_weight"] == {line["update"]: pytest.approx(line["entropy_weight"], abs=1e-8) for line in lines}
    assert {"schedules/learning_rate", "schedules/attempts.keep", "tokens/sampled_fraction/reflection", "counts/episodes"} <= set(found)
    assert not any(kind in tag for tag in found for kind in ("goal", "plan", "think", "tool", "control"))
    evaluated = {line["update"]: line["normalised_score"] for line in read_metrics(finished / "evaluations.jsonl")}
    assert list(evaluated) == [0, 10, 20, 30, NUM_UPDATES] and summary["best"]["normalised_score"] == max(evaluated.values())
    evaluated[NUM_UPDATES] = summary["normalised_score"]  # of other episodes
    assert found["evaluation/normalised_score"] == {step: pytest.approx(score) for step, score in evaluated.items()}
    assert found["evaluation/normalised_score_with/notes_blanked"] == {NUM_UPDATES: pytest.approx(summary["ablations"]["blanked"])}
    assert set(found["transcripts/text_summary"]) == {0, 10, 20, 30, 40}


def test_interrupted_and_resumed_is_never_stopped(finished, tmp_path):
    """Asked to stop, then killed, then left alone."""
    folder, num_lines = tmp_path / "run", 0
    for number, wanted in ((signal.SIGTERM, 1), (signal.SIGKILL, -signal.SIGKILL)):
        process = start("train", *SMALL, f"--output={folder}")
        interrupt(process, folder, num_lines + random.randrange(8, 16), number)
        code, _, errors = end(process)
        assert code == wanted, errors
        assert not (folder / "summary.json").exists()
        num_lines = len((folder / "metrics.jsonl").read_bytes().splitlines())  # who is asked to stop saves all that it has told
    code, output, errors = end(start("train", *SMALL, f"--output={folder}"))
    assert code == 0 and "going on from update" in output, errors
    for name in ("metrics.jsonl", "transcripts.txt", "evaluations.jsonl"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
    there, here = (shown(path / "tensorboard") for path in (finished, folder))
    del there["time/tokens_per_second"], here["time/tokens_per_second"]
    assert there == here
    for array, wanted in zip(last_state(folder), last_state(finished), strict=True):
        assert array.dtype == wanted.dtype and array.tobytes() == wanted.tobytes()


def test_finished_run_is_left_as_it_is(finished):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    again = start("train", *SMALL, f"--output={finished}")
    other = start("train", *SMALL, "--seed=1", f"--output={finished}")
    code, output, errors = end(again)
    assert code == 0 and "finished run" in output, errors
    code, _, errors = end(other)
    assert code == 2 and "another config or seed (seed is 0 there and 1 here)" in one_sentence(errors)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_evaluate_and_play_read_it_back(finished):
    evaluated, played = start("evaluate", f"--run={finished}", "--num_episodes=32"), start("play", f"--run={finished}", "--episodes=2")
    greedy = start("evaluate", f"--run={finished}", "--num_episodes=2", "--greedy")
    code, output, errors = end(evaluated)
    assert code == 0, errors
    evaluated, summary = json.loads(output.splitlines()[-1]), json.loads((finished / "summary.json").read_text())
    for name in ("preset", "seed", "updates", "score", "normalised_score", "random", "optimal", "ablations"):
        assert evaluated[name] == summary[name], name
    assert evaluated["max_log_prob_gap"] <= 1e-4 and "evaluating: notes shuffled (2 of 3)" in output
    code, output, errors = end(greedy)
    assert code == 0 and json.loads(output.splitlines()[-1])["max_log_prob_gap"] <= 1e-4, errors
    code, output, errors = end(played)
    assert code == 0 and "reflection" in output and "episode 2: return" in output and "\\n" not in output, errors
    assert f"on average held-out episodes return {summary['return']:.2f}" in output


@pytest.mark.parametrize("pattern", ["*", "d/*"])
def test_damaged_checkpoint_is_named_and_nothing_is_lost(finished, tmp_path, pattern):
    """Among other things that do not belong there."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    newest = folder / "checkpoints" / str(NUM_UPDATES)
    for path in (path for path in newest.rglob(pattern) if path.is_file()):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for name in ("abc", "1", ".DS_Store"):
        (folder / "checkpoints" / name).mkdir()
    metrics = (folder / "metrics.jsonl").read_bytes()
    code, _, errors = end(start("train", *SMALL, f"--output={folder}"))
    said = one_sentence(errors)
    assert code == 1 and f"{newest} is damaged" in said and "remove that folder to go on from checkpoint 35" in said
    assert (folder / "metrics.jsonl").read_bytes() == metrics and newest.exists()


DISK_FULL = """
import pathlib, resource, sys
import jax.numpy as jnp
from arl.models import Variables
from arl.training import Checkpoints, TrainState, run
from experiments import main

def body(_):
    weights = jnp.arange(10_000.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    update = lambda state: (state._replace(step=state.step + 1, variables=Variables(weights * state.step)), {"loss": 1.0})
    checkpoints = Checkpoints(pathlib.Path(FOLDER))
    try:
        state = TrainState(Variables(weights), None, None, None, None, None, jnp.int32(0))
        run(update, state, 9, checkpoints=checkpoints, checkpoint_every=2, callbacks=[])
    finally:
        checkpoints.close()

sys.argv = ["train"]
sys.exit(main.run(body))
"""


def test_a_full_disk_is_one_sentence(tmp_path):
    program = DISK_FULL.replace("FOLDER", repr(str(tmp_path / "checkpoints")))
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    code, output, errors = end(process)
    said = one_sentence(errors)
    assert code == 1 and not output and "checkpoint 2 could not be written" in said and "free what it needs" in said


def damaged(finished, tmp_path, name: str, words: bytes) -> pathlib.Path:
    """A copy of a run of which one file holds other words."""
    folder = tmp_path / name.replace(".", "_")
    shutil.copytree(finished, folder)
    if name != "summary.json":
        (folder / "summary.json").unlink()
    (folder / name).write_bytes(words)
    return folder


def test_damaged_files_are_named(finished, tmp_path):
    """At once, and not when all has been computed; none of them is changed."""
    lines = (finished / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    asked = {
        ("config.json", b"{"): 2,
        ("summary.json", b"[]"): 2,
        ("metrics.jsonl", b"".join(lines[:-3])): 1,
        ("metrics.jsonl ", b"".join([*lines[:4], b"garbage}\n", *lines[5:]])): 1,
    }
    folders = {damaged(finished, tmp_path / str(i), name.strip(), words): code for i, ((name, words), code) in enumerate(asked.items())}
    before = [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.json*")) if path.name != "times.jsonl"]
    processes = [start("train", *SMALL, f"--output={folder}") for folder in folders]
    for process, wanted in zip(processes, folders.values(), strict=True):
        code, _, errors = end(process)
        assert code == wanted and str(tmp_path) in one_sentence(errors)
    assert before == [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.json*")) if path.name != "times.jsonl"]


def test_two_trainings_do_not_share_a_folder(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, errors = end(start("train", *SMALL, f"--output={folder}"))
    assert code == 2 and "another training" in one_sentence(errors)


def test_what_cannot_be_leaves_no_folder(tmp_path):
    folder = tmp_path / "run"
    code, _, errors = end(
        start("train", *SMALL, "--config.learner.estimator=grpo", "--config.rollout.restarts=False", f"--output={folder}")
    )
    assert code == 2 and one_sentence(errors) and not folder.exists()


def test_a_trajectory_that_cuts_its_episodes_ends_a_run(tmp_path):
    folder = tmp_path / "run"
    code, _, errors = end(
        start("train", *SMALL, "--config.rollout.restarts=False", "--config.rollout.trajectory_length=9", f"--output={folder}")
    )
    said = one_sentence(errors)
    assert code == 1 and "rollout.trajectory_length=0" in said and not (folder / "metrics.jsonl").read_text(), said


def test_what_is_not_a_number_ends_a_run_at_its_update(tmp_path):
    folder = tmp_path / "run"
    code, _, errors = end(start("train", *SMALL, "--config.learner.learning_rate.start=1e38", f"--output={folder}"))
    said = one_sentence(errors)
    assert code == 1 and "update" in said and ("checkpoint" in said or "nothing had been saved" in said), said
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert all(np.isfinite(value) for value in json.loads(line).values())


def test_bad_flags_are_one_sentence_and_leave_nothing(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "run"
    file.write_text("mine")
    asked = {
        "seed": ("train", "--sed=1", f"--output={folder}"),
        "history": ("train", "--preset=histroy", f"--output={folder}"),
        "num_updates": ("train", "--config.learner.num_updats=3", f"--output={folder}"),
        "--config.learner.num_updates": ("train", "--num_updates=5", f"--output={folder}"),
        "cannot write": ("train", *SMALL, f"--output={file / 'run'}"),
        "no run": ("evaluate", f"--run={tmp_path / 'nowhere'}"),
    }
    processes = {said: start(*arguments) for said, arguments in asked.items()}
    for said, process in processes.items():
        code, _, errors = end(process)
        assert code == 2 and said in one_sentence(errors), errors
    assert not folder.exists() and file.read_text() == "mine"


def test_a_run_that_has_kept_no_best_policy_is_told_from_no_run(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for path in (folder / "best").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, _, errors = end(start("evaluate", f"--run={folder}", "--best"))
    said = one_sentence(errors)
    assert code == 2 and f"the run in {folder} has kept no best policy" in said and "leave --best out" in said


MAZE = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Maze:
    def make(self, tokenizer):
        return {}["walls"]
"""


def test_an_error_in_a_function_of_the_user_is_one_sentence_and_their_frames(tmp_path, monkeypatch):
    (tmp_path / "maze.py").write_text(MAZE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, _, errors = end(start("train", "--config.environment=maze:Maze()", f"--output={tmp_path / 'run'}"))
    first, *rest = errors.splitlines()
    assert code == 1 and first == "error: Maze.make of maze.py fails with KeyError; mend it"
    assert rest[-1] == "KeyError: 'walls'" and [line for line in rest if "File " in line] == [
        f'  File "{tmp_path / "maze.py"}", line 7, in make'
    ]
    assert not (tmp_path / "run").exists()


def test_help_is_help():
    code, output, _ = end(start("train", "--help"))
    assert code == 0 and "--preset" in output and "--output" in output and "--[no]compilation_cache" in output
