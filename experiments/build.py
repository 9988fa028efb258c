"""From the config of a run to its experiment."""

import dataclasses

from arl import agents
from arl.runs.experiment import Experiment, make_experiment, make_task
from arl.training import Layout
from experiments.config import Config


def build(config: Config, layout: Layout = Layout()) -> Experiment:
    """Returns the experiment of a config, divided among devices by a layout.

    Raises:
      ArlError: if the config cannot be run.
    """
    task, size = make_task(config.environment), dataclasses.asdict(config.model)
    agent, names = agents.make_agent(task, config.agent), {"name": config.preset, "layout": layout}
    return make_experiment(agent, size.pop("preset"), config, model=size, **names)
