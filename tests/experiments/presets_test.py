"""Presets: updates of each can be traced, and some are taken."""

import functools

import jax
import numpy as np
import pytest

from experiments.build import Experiment, build
from experiments.config import override
from experiments.presets import PRESETS, get_preset

TAKEN = ("combination_lock", "corridor", "ledger")  # notes, slots of memory, and tools after a warm start


@functools.cache
def small(name: str) -> Experiment:
    """A preset with few lanes and one update of a warm start, if it has one."""
    config = get_preset(name)
    assignments = [
        "num_lanes=16",
        "microbatch=8",
        "minibatches=1",
        "epochs=1",
        "blocks=8",
        f"group_size={min(2, config.learner.group_size)}",
    ]
    return build(override(config, [*(f"learner.{x}" for x in assignments), f"warm_start={min(1, config.warm_start)}"]))


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in TAKEN])
def test_updates_can_be_traced(name):
    experiment = small(name)
    state = jax.eval_shape(experiment.learner.init, jax.random.key(0))
    for learner in filter(None, (experiment.warm_start, experiment.learner)):
        after, metrics = jax.eval_shape(learner.update, state)
        assert jax.tree.all(jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), after, state)) and "return" in metrics


@pytest.mark.parametrize("name", TAKEN)
def test_one_update_is_taken(name):
    experiment = small(name)
    state = experiment.learner.init(jax.random.key(0))
    for learner in filter(None, (experiment.warm_start, experiment.learner)):
        state, metrics = jax.jit(learner.update)(state)
        assert all(np.isfinite(value) for value in metrics.values()) and metrics["max_log_prob_gap"] < 1e-4
    assert state.step == experiment.config.warm_start + 1
