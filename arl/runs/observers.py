"""Observers of a training: what is called after each update and evaluation."""

import importlib
from typing import Any

from arl.training import TrainingError
from arl.types import ArlError


class Observer:
    """Follows the training of one seed; a subclass overrides the methods that it needs."""

    def update(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Called after each update.

        Args:
          step: index of the update.
          metrics: metrics of the update, by name.
          seconds: time that it took.
        """

    def evaluation(self, step: int, summary: dict[str, Any]) -> None:
        """Called after each evaluation on held-out episodes.

        Args:
          step: number of updates before it.
          summary: plain numbers, see `arl.training.evaluation.summarise`.
        """

    def transcripts(self, step: int, title: str, text: str) -> None:
        """Called with transcripts of held-out episodes.

        Args:
          step: number of updates before them.
          title: title, such as "after 100 of 400 updates".
          text: the transcripts.
        """

    def close(self) -> None:
        """Called at the end of the training, or when it stops."""


class Tracker(Observer):
    """Sends metrics to Weights & Biases or to trackio, which has the same functions."""

    def __init__(self, package: str = "wandb", **options: Any):
        """Starts a run there.

        Args:
          package: "wandb" or "trackio"; it has to be installed.
          **options: arguments of its `init`, such as `project` and `name`.

        Raises:
          ArlError: if the package is not installed.
        """
        try:
            self._package = importlib.import_module(package)
        except ImportError:
            raise ArlError(f"{package} is not installed; install it by pip install {package}, or leave the Tracker out") from None
        self._package.init(**options)

    def update(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Sends the metrics of an update; `step`, `metrics` and `seconds` as `Observer.update`."""
        self._package.log(metrics | {"seconds": seconds}, step=step)

    def evaluation(self, step: int, summary: dict[str, Any]) -> None:
        """Sends the numbers of an evaluation; `step` and `summary` as `Observer.evaluation`."""
        numbers = {f"evaluation/{name}": value for name, value in summary.items() if isinstance(value, int | float)}
        self._package.log(numbers, step=step)

    def close(self) -> None:
        """Ends the run there."""
        self._package.finish()


class CutEpisodes(Observer):
    """Stops a training in which most episodes are cut off by the end of their trajectory, and not continued in the next.

    The returns of such episodes mean nothing. This can be checked only during the run: few episodes are as long as `Size.episode`.
    """

    def __init__(self, trajectory_length: int, restarts: bool):
        """Takes `RolloutConfig.trajectory_length` and `RolloutConfig.restarts`."""
        self._length, self._restarts = trajectory_length, restarts

    def update(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Checks an update, and raises `TrainingError`; `step`, `metrics` and `seconds` as `Observer.update`."""
        if not self._restarts and metrics["unfinished_fraction"] > 0.5:
            raise TrainingError(
                f"a trajectory of {self._length} tokens cuts {metrics['unfinished_fraction']:.0%} of the episodes of update "
                f"{step}; set RolloutConfig.trajectory_length=0 for whole episodes, or RolloutConfig.restarts=True so that they go on, "
                "and name another output"
            )
