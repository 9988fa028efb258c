"""The environment that README.md shows works as it stands there."""

import pathlib

import jax
import jax.numpy as jnp

from arl import agents, rollout, text
from arl.task import Bounds

README = pathlib.Path(__file__).parents[1].joinpath("README.md").read_text()


def test_the_first_snippet_trains_and_the_second_is_its_update(tmp_path, capsys):
    blocks = [block.partition("```")[0] for block in README.split("```python\n")[1:]]
    first = next(block for block in blocks if "arl.train(" in block).replace("arl.use_all_cores()\n", "")
    second = next(block for block in blocks if "learner.update" in block)
    smaller = {"num_updates=150, num_lanes=320, microbatch_size=40": "num_updates=2, num_lanes=32, num_blocks=4, microbatch_size=8"}
    for words, fewer in {**smaller, '"runs/first"': repr(str(tmp_path / "run"))}.items():
        assert words in first
        first = first.replace(words, fewer)
    first = first.replace("TrainConfig(", "TrainConfig(evaluation=arl.EvaluationConfig(num_episodes=8), ")
    names = {}
    exec(first, names)
    assert "agent, seed 0: 2 updates in " in capsys.readouterr().out and (tmp_path / "run" / "curve.png").exists()
    exec(second, names)
    assert names["state"].step == 1


def test_the_environment_of_the_readme_is_played():
    code = next(block for block in README.split("```python\n")[1:] if "class Echo" in block).partition("```")[0]
    names = {}
    exec(code, names)
    task = names["Echo"]().make(text.load_tokenizer())
    agent = agents.make_agent(task, [agents.Act(), agents.Attempts(2)])
    rollout.check_size(agent, jax.random.key(0), num_episodes=4)
    assert task.bounds(agents.limits_of(agent.layers)) == Bounds(0.2, 2.0)
    _, step = task.environment.step(jax.random.key(0), jnp.int32(3), jnp.int32(3))
    assert step.reward == 1.0
