"""What the shared vocabulary refuses, wherever it is used."""

import numpy as np
import pytest

from arl import agents, envs, rollout
from arl.training import LearnerConfig
from arl.training.config import check_config
from arl.types import check_whole, follow
from tests import tiny


def agent():
    return agents.act(tiny.make_walk())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("num_attempts", lambda: tiny.attempts(agent(), 2.5)),
        ("budget", lambda: agents.reflection(2.5)),
        ("num_tokens", lambda: agents.window(True)),
        ("budget", lambda: tiny.think(agent(), budget="2")),
        ("max_calls", lambda: agents.use_tools(agent(), tiny.TOKENIZER, [agents.calculator(tiny.TOKENIZER)], max_calls=1.5)),
        ("every", lambda: agents.remember(agent(), tiny.TOKENIZER, num_slots=1, budget=1, every=1.5)),
        ("num_steps", lambda: envs.time_limit(tiny.make_walk(), 2.0)),
        ("stream_length", lambda: rollout.check_rollout(agent(), rollout.RolloutConfig(stream_length=50.0), len(tiny.TOKENIZER))),
        ("learner.num_lanes", lambda: check_config(LearnerConfig(num_updates=1, num_lanes=32.0))),
    ],
)
def test_sizes_are_whole_numbers(name, make):
    with pytest.raises(ValueError, match=f"^{name} is .*; set it to a whole number$"):
        make()


def test_a_whole_number_of_any_library_is_one():
    check_whole(a=3, b=np.int64(3))


def test_what_nothing_schedules_is_named():
    assert follow({"attempts": {"keep": 0.5}}, "attempts", "keep") == 0.5
    for setting in ({}, {"attempts": {}}):
        with pytest.raises(ValueError, match="nothing sets attempts.keep"):
            follow(setting, "attempts", "keep")
