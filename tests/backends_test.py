"""What must hold of the program on every backend, those that are not here included: it lowers to them, it resumes, its tests exist."""

import functools
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from arl import training
from tests import tiny

ROOT = pathlib.Path(__file__).parents[1]
FAST = ROOT / "tests" / "fast.txt"
PACKAGES = ("text", "envs", "agents", "models", "rollout", "objectives", "training")


@functools.cache
def learner(dtype: str) -> training.Learner:
    """Of lanes that reflect and go on from update to update, with layers in a loop."""
    interaction = tiny.agent("reflection")
    shape = tiny.config(interaction, widths=((1, 4),), restarts=True)
    model = tiny.model(interaction.size.context, dtype=dtype, scan_layers=True, num_layers=2)
    config = training.LearnerConfig(num_updates=4, num_lanes=16, num_minibatches=1, microbatch_size=8)
    return training.make_learner(interaction, model, shape, config)


@functools.cache
def traced(dtype: str):
    """An update."""
    return jax.jit(learner(dtype).update).trace(jax.eval_shape(learner(dtype).init, jax.random.key(0)))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_update_lowers_without_what_an_accelerator_lacks(dtype, platform):
    """No call of a library of one backend, no double precision, and nothing that asks the host."""
    program = traced(dtype).lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.while" in program and ("bf16" in program) == (dtype == "bfloat16")
    assert not re.findall(r"custom_call @\w+|xf64>|tensor<f64>|infeed|outfeed|stablehlo\.(?:send|recv)", program)


def test_a_run_that_is_resumed_goes_on_bit_for_bit(tmp_path):
    update, state = traced("float32").lower().compile(), jax.jit(learner("float32").init)(jax.random.key(0))
    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save(state := update(state)[0])
    checkpoints.close()
    wanted, wanted_metrics = update(state)
    resumed = training.Checkpoints(tmp_path)
    found, metrics = update(resumed.restore(jax.eval_shape(learner("float32").init, jax.random.key(0))))
    resumed.close()
    for a, b in zip(jax.tree.leaves((found, metrics)), jax.tree.leaves((wanted, wanted_metrics)), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert int(found.step) == 2 and float(metrics["max_log_prob_gap"]) < 1e-4


def test_the_quick_tests_exist_in_every_room():
    """pytest refuses a name that it does not find."""
    assert set(PACKAGES) <= {line.split("/")[1] for line in FAST.read_text().splitlines()}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", f"@{FAST.relative_to(ROOT)}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
