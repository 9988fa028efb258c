"""What the shared vocabulary refuses, wherever it is used."""

import numpy as np
import pytest

from arl import envs, rollout
from arl.agents import Act, Attempts, Reflection, Remember, Think, UseTools, Window
from arl.checks import check_whole
from arl.training import LearnerConfig
from arl.training.config import check_config
from tests import tiny


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("Attempts.num_attempts", lambda: Attempts(2.5)),
        ("Reflection.budget", lambda: Reflection(2.5)),
        ("Window.num_tokens", lambda: Window(True)),
        ("Think.budget", lambda: Think(budget="2")),
        ("UseTools.max_calls", lambda: UseTools((envs.calculator(tiny.TOKENIZER),), max_calls=1.5)),
        ("Remember.every", lambda: Remember(num_notes=1, budget=1, every=1.5)),
        ("Act.time_limit", lambda: Act(time_limit=2.0)),
        ("RolloutConfig.trajectory_length", lambda: rollout.RolloutConfig(trajectory_length=50.0)),
        ("LearnerConfig.num_lanes", lambda: check_config(LearnerConfig(num_updates=1, num_lanes=32.0))),
    ],
)
def test_sizes_are_whole_numbers(name, make):
    with pytest.raises(ValueError, match=f"^{name} is .*; set it to a whole number$"):
        make()


def test_a_whole_number_of_any_library_is_one():
    check_whole(a=3, b=np.int64(3))


def test_an_agent_and_its_environment_are_shown_in_short():
    shown = repr(tiny.agent("thoughts in attempts"))
    assert shown.startswith("Interaction(act, think, attempts in Environment(tests.tiny, 4 actions, max_steps=2), Size(read=")
    assert shown.endswith(f"grammar of {len(tiny.agent('thoughts in attempts').grammar.choice)} states)") and len(shown) < 300
    assert "max_steps=None" in repr(tiny.make_walk()._replace(max_steps=None))
