"""The environment that README.md shows works as it stands there."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp

from arl import agents, rollout, text
from arl.task import Bounds, Environment, Step, Task


def test_the_environment_of_the_readme_is_played():
    readme = pathlib.Path(__file__).parents[1].joinpath("README.md").read_text()
    code = next(block for block in readme.split("```python\n")[1:] if "class Echo" in block).partition("```")[0]
    names = {part.__name__: part for part in (dataclasses, jax, text, Bounds, Environment, Step, Task)} | {"jnp": jnp, "text": text}
    exec(code, names)
    task = names["Echo"]().make(text.load_tokenizer())
    agent = agents.make_agent(task, [agents.Act(), agents.Attempts(2)])
    rollout.check_size(agent, jax.random.key(0), num_episodes=4)
    assert task.bounds(agents.limits_of(agent.layers)) == Bounds(0.2, 2.0)
    _, step = task.environment.step(jax.random.key(0), jnp.int32(3), jnp.int32(3))
    assert step.reward == 1.0
