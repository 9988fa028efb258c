"""Presets: updates of each can be traced."""

import functools

import jax
import pytest

from experiments.build import Experiment, build
from experiments.config import override
from experiments.presets import PRESETS, get_preset


@functools.cache
def small(name: str) -> Experiment:
    """A preset with few lanes and one update of a warm start, if it has one."""
    config = get_preset(name)
    assignments = [
        "num_lanes=16",
        "microbatch_size=8",
        "num_minibatches=1",
        "num_epochs=1",
        "num_blocks=8",
        f"group_size={min(2, config.learner.group_size)}",
    ]
    return build(override(config, [*(f"learner.{x}" for x in assignments), f"warm_start={min(1, config.warm_start)}"]))


@pytest.mark.parametrize("name", PRESETS)
def test_updates_can_be_traced(name):
    experiment = small(name)
    state = jax.eval_shape(experiment.learner.init, jax.random.key(0))
    for learner, told in ((experiment.warm_start, "expert/return"), (experiment.learner, "return")):
        if learner is not None:
            after, metrics = jax.eval_shape(learner.update, state)
            assert jax.tree.all(jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), after, state)) and told in metrics
