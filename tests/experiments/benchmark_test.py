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
from experiments import benchmark_accelerator, make_table, measure
from experiments.benchmark_accelerator import Measured, sweep
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


def test_an_accelerators_figures_are_written_as_they_are_found(tmp_path, monkeypatch):
    """Here the processor stands for one; nothing is read from the compilation cache, whose hits would be taken for compile times."""
    cache, output = tmp_path / "cache", tmp_path / "benchmark.json"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    code, said, errors = end(start("benchmark", "--quick", "--only=accelerator", f"--output={output}"))
    assert code == 0, errors
    figures = json.loads(output.read_text())
    assert all(name in said and name.startswith("accelerator_") for name in figures)
    words = {name for name, value in figures.items() if isinstance(value, str)}
    assert {"accelerator_device", "accelerator_jaxlib", "accelerator_matmul_precision", "accelerator_layers_0.1M"} < words
    assert all(value > 0 and math.isfinite(value) for name, value in figures.items() if name not in words)
    of_side = ("tokens_per_second", "lanes", "fraction_of_peak", "trace_seconds", "compile_seconds")
    wanted = {f"accelerator_{side}_{figure}_0.1M_bfloat16" for side in ("rollout", "learner") for figure in of_side}
    assert wanted | {"accelerator_train_seconds_an_update", "accelerator_matmul_tflops_float32_highest_precision"} < set(figures)
    assert not list(cache.glob("*")) and list(figures)[-1] == "accelerator_learner_compile_seconds_0.1M_bfloat16"


def test_without_an_accelerator_its_section_is_left_out():
    program = "from experiments import benchmark; benchmark.flags.FLAGS(['benchmark']); print(list(benchmark.accelerator(True)))"
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100).stdout
    assert "there is none" in said and said.endswith("[]\n")


def attempts(rates, most, waits=lambda: None):
    """A side of known throughput that holds `most` lanes, and the numbers of lanes that were tried."""
    tried = []

    def attempt(lanes):
        tried.append(lanes)
        waits()
        return Measured(lanes, 1.0, rates(lanes), 0.0, None, None) if lanes <= most else None

    return attempt, tried


@pytest.mark.parametrize(
    ("rates", "most", "tried", "measured"),
    [
        (lambda lanes: min(lanes, 64.0), 1000, [8, 16, 32, 64, 128], [8, 16, 32, 64, 128]),  # until it grows no more
        (lambda lanes: 1.0 * lanes, 50, [8, 16, 32, 64], [8, 16, 32]),  # until memory is full
        (lambda lanes: 1.0 * lanes, 3, [8, 4, 2], [2]),  # the first do not fit: fewer, and then no more
        (lambda lanes: 1.0 * lanes, 0, [8, 4, 2, 1], []),
        (lambda lanes: 1.0 * lanes, 1000, [8, 16, 32, 64, 128, 256], [8, 16, 32, 64, 128, 256]),  # to the most that is tried
    ],
)
def test_lanes_are_doubled_while_that_helps_and_fits(rates, most, tried, measured):
    attempt, lanes = attempts(rates, most)
    found, _ = sweep(attempt, 8, 256, float("inf"))
    assert lanes == tried and [each.lanes for each in found] == measured


def test_lanes_are_not_doubled_where_there_is_no_time_for_it(monkeypatch):
    passed = []
    monkeypatch.setattr(benchmark_accelerator.time, "monotonic", lambda: 10.0 * len(passed))
    attempt, lanes = attempts(lambda lanes: 1.0 * lanes, 1000, waits=lambda: passed.append(None))
    _, cost = sweep(attempt, 8, 256, 36.0)
    assert lanes == [8, 16, 32] and cost == 10.0


def test_the_largest_model_is_that_of_smollm2():
    """135M parameters, and the value head."""
    model = models.make_policy(models.ModelConfig(**benchmark_accelerator.SMOL))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == 134_515_008 + 576


def test_a_table_shows_words_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(make_table, "BENCHMARK", tmp_path / "benchmark.json")
    make_table.BENCHMARK.write_text(
        json.dumps({"accelerator_device": "A thing", "accelerator_rollout_lanes_1M": 1024.0, "matmul_gflops": 1})
    )
    assert make_table.speed_table().splitlines()[2:] == [
        "| `accelerator_device` | A thing |",
        "| `accelerator_rollout_lanes_1M` | 1.02e+03 |",
    ]


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
    """On a trajectory that is read whole: the compiler counts norms, rotations and masked keys besides."""
    num_lanes, num_slots, letters = 4, 64, 12
    config = models.preset("0.1M", 64, context_length=num_slots)
    model, everywhere = models.make_policy(config), jnp.ones((num_lanes, num_slots), bool)
    context_start = jnp.zeros((num_lanes, num_slots), jnp.int32)
    _, trajectory, _ = tiny.roll("act", *tiny.keys(2))
    trajectory = trajectory._replace(token_kind=everywhere.astype(jnp.int32), is_sampled=everywhere, context_start=context_start)

    def scores(params):
        return model.logits(params, model.forward(params, context_start, context_start), jnp.arange(letters))

    counted = jax.jit(scores).lower(model.init(jax.random.key(0))).compile().cost_analysis()["flops"]
    assert 0.6 * counted < measure.forward_operations(config, trajectory, letters) < counted
