"""What is said of configs and their fields: nothing is left out, and what is shown can be written."""

import dataclasses
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from arl.agents import Memory
from arl.envs import ShiftingControls
from experiments.config import Config, override
from experiments.fields import all_fields, as_flags, descriptions, example, field_names, first_sentence
from experiments.parts import OURS
from experiments.presets import PRESETS
from experiments.usage import usage

ROOT = pathlib.Path(__file__).parents[2]
FIELDS = list(all_fields(Config()))


def test_every_field_is_told_with_its_default():
    assert [field.name for field in FIELDS] == field_names(Config())
    assert {field.name: field.default for field in FIELDS}["learner.entropy_weight.start"] == 0.03
    assert [field.name for field in FIELDS if len(first_sentence(field.about)) < 5] == []


@pytest.mark.parametrize("field", [field for field in FIELDS if field.name != "preset"], ids=lambda field: field.name)
def test_the_example_of_a_field_can_be_written_and_sets_it(field):
    (flag,) = shlex.split(example(Config(), field.name))
    name, _, _ = flag.partition("=")
    assert name.removeprefix("--config.").startswith(field.name)
    override(Config(), [flag.removeprefix("--config.")])


def test_an_example_of_what_is_no_field_is_one_of_its_fields_or_of_any():
    assert example(Config(), "learner") == "--config.learner.num_updates=400"
    assert example(Config(), "learner.rules.note") == "--config.learner.rules.action.weight=0.5"
    assert example(Config(), "nothing").startswith("--config.")


def test_what_another_docstring_says_is_found_there():
    fields = {field.name: field.about for field in FIELDS}
    assert fields["environment.num_numbers"] == "number of numbers."
    assert fields["model.scan_layers"].startswith("whether layers run under")
    assert descriptions(ShiftingControls)["hazard"].endswith("0 for one shift in the middle third.")
    assert descriptions(Config)["warm_start"].startswith("updates of behaviour cloning")


@pytest.mark.parametrize(("columns", "width"), [("60", 100), ("120", 120), ("300", 140)])
def test_usage_is_as_wide_as_the_terminal_within_bounds(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    lines = usage().splitlines()
    assert width - 15 < max(map(len, lines)) <= width


def test_usage_names_all_presets_and_fields():
    said = usage()
    names = [line.split()[0].partition("=")[0] for line in said.splitlines() if line.startswith("  ") and line.strip()]
    assert set(PRESETS) <= set(names)
    whole = {field.removesuffix(".start") for field in names}
    in_schedules = ("start", "end", "until", "since", "warmup")
    others = {name for name in field_names(Config()) if not name.startswith(("preset", "environment", "agent"))}
    assert {name for name in others if not name.endswith(in_schedules)} <= whole
    assert {f"{name}.{field.name}" for name, part in OURS.items() if part is not Memory for field in dataclasses.fields(part)} - {
        f"{name}.name" for name in OURS
    } <= whole
    assert "corridor with remembers=False" in said and "arithmetic with tools=()" in said and "learner.learning_rate.start=0.001" in said


@pytest.mark.parametrize(("binary", "tells"), [("train", True), ("ablations", True), ("evaluate", False)])
def test_help_begins_with_the_flags_and_needs_no_device(binary, tells):
    environment = os.environ | {"JAX_PLATFORMS": "none", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"experiments.{binary}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("compilation_cache") < (done.stdout.find("Presets, --preset=NAME:") if tells else len(done.stdout))
    assert ("reflection_16" in done.stdout) == ("learner.num_updates=400" in done.stdout) == tells


def test_messages_of_the_library_name_flags_where_there_are_any():
    assert as_flags("LearnerConfig.num_epochs is 0; set it >= 1") == "learner.num_epochs is 0; set it >= 1"
    assert as_flags("set Reflection.budget >= 3, or Config.warm_start=0") == "set agent.attempts.memory.budget >= 3, or config.warm_start=0"
    assert as_flags("set Decoding.top_k, or leave UseTools out") == "set rollout.decoding.top_k, or leave use_tools out"
    assert as_flags("Mastermind.num_pegs is 0. Set it.") == "environment.num_pegs is 0. Set it."
    assert as_flags("give a jax.Array, Credit or Text") == "give a jax.Array, Credit or Text"
