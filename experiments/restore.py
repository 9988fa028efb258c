"""Restores a finished or running run from its folder."""

import pathlib
from typing import Any, NamedTuple

import jax

from arl import training
from experiments import folder as folder_of_run
from experiments import main
from experiments.build import Experiment, build


class Run(NamedTuple):
    """A run at a checkpoint.

    Attributes:
      experiment: the run as pure functions.
      seed: seed of the training.
      step: number of updates before the checkpoint.
      variables: variables of the policy.
    """

    experiment: Experiment
    seed: int
    step: int
    variables: Any


def restore(folder: str, step: int | None = None, best: bool = False) -> Run:
    """Returns the run in a folder, at checkpoint `step`, at its newest one, or at the `best` one by the evaluations on the way.

    Raises:
      UsageError: if there is no run.
      CheckpointError: if there is no such checkpoint, or it is damaged.
    """
    path = pathlib.Path(folder) / "config.json"
    if not folder or not path.is_file():
        raise main.UsageError(f"there is no run in {folder or 'a folder without a name'}; name the --output of a training with --run")
    config, seed = folder_of_run.read(path)
    if isinstance(seed, list) and seed:
        raise main.UsageError(
            f"{folder} holds the runs of several seeds; name one of their folders, such as {path.parent / f'seed-{seed[0]}'}"
        )
    if not isinstance(seed, int):
        raise main.UsageError(f"{path} names no seed; restore it, or name another folder")
    experiment = build(config)
    which = path.parent / ("best" if best else "checkpoints")
    if best and not any(saved.name.isdigit() for saved in which.glob("*")):
        raise main.UsageError(f"the run in {folder} has kept no best policy in {which}; leave --best out for its newest checkpoint")
    if not which.is_dir():
        raise main.UsageError(f"there is no checkpoint in {which} yet; train first")
    checkpoints = training.Checkpoints(which)
    try:
        state = checkpoints.restore(jax.eval_shape(experiment.learner.init, jax.random.key(seed)), step)
    finally:
        checkpoints.close()
    return Run(experiment, seed, state.num_updates, state.variables)
