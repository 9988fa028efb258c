"""Parts that stand in nobody's list: an environment and a layer of a package of its own, run from the command line like ours."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from arl import agents, rollout, text
from arl.types import Kind, Segment
from tests.outside.hanoi_pkg.envs import Hanoi
from tests.outside.hanoi_pkg.vote import Vote

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
TOKENIZER = text.load_tokenizer()
AGENT = "act(time_limit=6), hanoi_pkg.vote:Vote(3), attempts(2)"
SMALL = [
    "learner.num_lanes=16",
    "learner.num_minibatches=1",
    "learner.microbatch_size=8",
    "learner.num_updates=2",
    "evaluation.num_episodes=8",
]
SMALL += ["rollout.widths=()"]  # the programs of wider calls take longer to compile


def run(binary: str, *arguments: str) -> str:
    """What a binary prints, started where the package can be imported."""
    command = [sys.executable, "-m", f"experiments.{binary}", *arguments]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_trained_resumed_evaluated_and_watched_by_the_names_of_modules(tmp_path):
    parts = ["--config.environment=hanoi_pkg.envs:Hanoi(num_discs=2)", f"--config.agent={AGENT}", f"--output={tmp_path}"]
    assert "score 0 is random" in run("train", *parts, *(f"--config.{assignment}" for assignment in [*SMALL, "warm_start=1"]))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["optimal"] == 2 * -3 and -12 <= summary["random"] < -6 and summary["updates"] == 3
    assert json.loads((tmp_path / "config.json").read_text())["environment"] == "hanoi_pkg.envs:Hanoi(num_discs=2)"
    assert all((tmp_path / name).exists() for name in ("curve.png", "transcripts.txt", "metrics.jsonl", "tensorboard", "checkpoints"))
    evaluated = json.loads(run("evaluate", f"--run={tmp_path}").splitlines()[-1])
    assert evaluated["normalised_score"] == summary["normalised_score"]
    assert " A A:" in run("play", f"--run={tmp_path}", "--pause=0").replace("(", " (")
    assert "holds a finished run" in run("train", *parts, *(f"--config.{assignment}" for assignment in [*SMALL, "warm_start=1"]))


@pytest.mark.parametrize(("num_discs", "least"), [(1, 1), (2, 3), (3, 7)])
def test_the_oracle_takes_the_shortest_way(num_discs, least):
    task = Hanoi(num_discs).make(TOKENIZER)
    bounds = task.bounds(agents.limits_of([agents.Act(time_limit=20)]))
    assert bounds.optimal == -least and -20 <= bounds.random < bounds.optimal and bounds.success_at == -19.5
    dear = task.bounds(agents.limits_of([agents.Act(time_limit=20, step_cost=0.5), agents.Attempts(2)]))
    assert dear == (3.0 * bounds.random, -3.0 * least, 1.5 * bounds.success_at, "exact")
    state, key, num_moves, is_over = task.environment.reset(jax.random.key(0)), jax.random.key(0), 0, False
    while not is_over:
        action = task.environment.expert(key, state)
        assert task.environment.legal(state)[action]
        state, step = task.environment.step(key, state, action)
        num_moves, is_over = num_moves + 1, bool(step.terminated)
    assert num_moves == least


def test_the_majority_acts_and_the_size_is_kept():
    task = Hanoi(2).make(TOKENIZER)
    interaction = agents.make_agent(task, [agents.Act(time_limit=5), Vote(3)])
    rollout.check_size(interaction, jax.random.key(0), num_episodes=16)
    state, turn = interaction.start(jax.random.key(0), {})
    for choice in (0, 1, 1):  # the smallest disc to B, to C, to C
        assert int(turn.kind) == Kind.ACTION and int(state.environment) == 0
        said = text.pad(text.say_choice(interaction.grammar, jnp.int32(choice)), interaction.size.written)
        state, turn = interaction.advance(jax.random.key(1), {}, state, Segment(said, jnp.int32(choice), jnp.bool_(True)))
    assert int(state.environment) == 6 and float(turn.reward.outcome) == -1.0
