"""The benchmark: a flat file, sentences for bad flags, and a yardstick that counts what it says."""

import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import models
from experiments import measure
from tests import tiny
from tests.experiments.train_test import ROOT, end, one_sentence, start


def test_a_section_leaves_a_flat_object_of_figures(tmp_path):
    output = tmp_path / "benchmark.json"
    code, said, errors = end(start("benchmark", "--quick", "--only=environments", f"--output={output}"))
    assert code == 0, errors
    figures = json.loads(output.read_text())
    names = [
        f"environment_steps_per_second_{name}{text}" for name in ("frozen_lake", "number_guess", "bandit") for text in ("", "_with_text")
    ]
    assert list(figures) == names and all(name in said for name in names)
    assert all(isinstance(value, float) and math.isfinite(value) and value > 0 for value in figures.values())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--only=enviroments"], "did you mean environments?"),
        (["--output=/nowhere/at/all.json"], "name another --output"),
        (["--config.learner.num_lanes=8"], "takes no --config"),
    ],
)
def test_bad_flags_are_answered_by_a_sentence(flags, words):
    code, _, errors = end(start("benchmark", "--quick", *flags))
    assert code == 2 and words in one_sentence(errors)


def test_without_the_extra_it_is_said_how_to_install_it():
    program = "from experiments import benchmark; benchmark.PARITY = ('no_such_module',); print(benchmark.compare_with_torch('', '', True))"
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100).stdout
    assert "run .venv/bin/python -m pip install -e '.[parity]'" in said and said.endswith("{}\n")


def test_sides_take_turns_and_the_first_round_does_not_count(monkeypatch):
    order, clock = [], iter(np.cumsum([0, 100, 0, 100, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: float(next(clock)))
    taken = measure.alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert taken == {"a": 3.0, "b": 4.0}


def test_operations_of_use_are_most_of_those_that_the_compiler_counts():
    """On a stream that is read whole: the compiler counts norms, rotations and masked keys besides."""
    num_lanes, num_slots, letters = 4, 64, 12
    config = models.preset("0.1M", 64, context_length=num_slots)
    model, everywhere = models.make_language_model(config), jnp.ones((num_lanes, num_slots), bool)
    begin = jnp.zeros((num_lanes, num_slots), jnp.int32)
    _, stream, _ = tiny.roll("act", *tiny.keys(2))
    stream = stream._replace(token_kind=everywhere.astype(jnp.int32), is_written=everywhere, begin=begin)

    def scores(params):
        return model.logits(params, model.score(params, begin, begin), jnp.arange(letters))

    counted = jax.jit(scores).lower(model.init(jax.random.key(0))).compile().cost_analysis()["flops"]
    assert 0.6 * counted < measure.forward_operations(config, stream, letters) < counted
