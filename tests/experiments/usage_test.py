"""What is said of configs and their fields: nothing is left out, and what is shown can be written."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from experiments.config import Config, field_names, override
from experiments.fields import all_fields, example, first_sentence, says
from experiments.presets import PRESETS
from experiments.usage import usage

ROOT = pathlib.Path(__file__).parents[2]
FIELDS = list(all_fields(Config()))


def test_every_field_is_told_with_its_default():
    assert [field.name for field in FIELDS] == field_names(Config())
    assert {field.name: field.default for field in FIELDS}["learner.entropy.start"] == 0.03
    assert [field.name for field in FIELDS if len(first_sentence(field.about)) < 5] == []


@pytest.mark.parametrize("field", [field for field in FIELDS if field.name != "preset"], ids=lambda field: field.name)
def test_the_example_of_a_field_can_be_written_and_sets_it(field):
    (flag,) = shlex.split(example(Config(), field.name))
    name, _, _ = flag.partition("=")
    assert name.removeprefix("--config.").startswith(field.name)
    override(Config(), [flag.removeprefix("--config.")])


def test_an_example_of_what_is_no_field_is_one_of_its_fields_or_of_any():
    assert example(Config(), "learner") == "--config.learner.num_updates=400"
    assert example(Config(), "agent.prices.note") == "--config.agent.prices.think=0.05"
    assert example(Config(), "nothing").startswith("--config.")


def test_what_another_docstring_says_is_found_there():
    fields = {field.name: field.about for field in FIELDS}
    assert fields["environment.mastermind.num_pegs"] == "pegs of a code."
    assert fields["model.scan_layers"].startswith("whether layers are stacked")
    assert fields["environment.shifting_controls.hazard"].endswith("0 for one shift in the middle third.")
    assert says(Config)["warm_start"].startswith("updates of behaviour cloning")


@pytest.mark.parametrize(("columns", "width"), [("60", 100), ("120", 120), ("300", 140)])
def test_usage_is_as_wide_as_the_terminal_within_bounds(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    lines = usage().splitlines()
    assert width - 15 < max(map(len, lines)) <= width


def test_usage_names_all_presets_and_fields():
    said = usage()
    names = [line.split()[0].partition("=")[0] for line in said.splitlines() if line.startswith("  ") and line[2] != " "]
    assert set(PRESETS) <= set(names)
    whole = {field.removesuffix(".start") for field in names}
    in_schedules = ("start", "end", "until", "since", "warmup")
    assert {name for name in field_names(Config()) if name != "preset" and not name.endswith(in_schedules)} <= whole
    assert "corridor with slots=0" in said and "arithmetic with tools=()" in said and "learner.learning_rate.start=0.001" in said


@pytest.mark.parametrize(("binary", "tells"), [("train", True), ("ablations", True), ("evaluate", False)])
def test_help_begins_with_the_flags_and_needs_no_device(binary, tells):
    environment = os.environ | {"JAX_PLATFORMS": "none", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"experiments.{binary}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("compilation_cache") < (done.stdout.find("Presets, --preset=NAME:") if tells else len(done.stdout))
    assert ("reflection_16" in done.stdout) == ("learner.num_updates=400" in done.stdout) == tells
