"""The record of one seed's training: metrics, curves, transcripts, evaluations and the best policy, in its folder."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from arl import training
from arl.runs import folder, report
from arl.runs.board import Board
from arl.runs.experiment import Experiment
from arl.runs.observers import CutEpisodes, Observer
from arl.training import TrainState


class Recorder:
    """Records the training of one seed, and tells its observers."""

    def __init__(
        self,
        experiment: Experiment,
        seed: int,
        output: pathlib.Path,
        record: dict[str, Any],
        evaluator: Callable[[Any, int], tuple[dict[str, Any], str]],
        observers: Callable[[int], Sequence[Observer]],
    ):
        """Takes what it needs; nothing is opened before `begin`.

        Args:
          experiment: the training.
          seed: the seed.
          output: folder of this seed.
          record: content of `config.json`.
          evaluator: see `arl.runs.evaluations.make_evaluator`; the seeds share it.
          observers: `seed -> observers` of the caller.
        """
        self.seed, self.output = seed, output
        self.observers: list[Observer] = []
        self._experiment, self._record, self._evaluator, self._observers_of = experiment, record, evaluator, observers

    def begin(self, step: int) -> None:
        """Opens the files, to write from update `step` on."""
        rollout = self._experiment.rollout
        self.output.mkdir(parents=True, exist_ok=True)
        report.read_evaluations(self.output)  # if they are damaged, this is said before anything is written
        config = {**self._record, "seed": self.seed}
        if not (self.output / "config.json").exists():
            folder.write_json(self.output / "config.json", config)
        self._metrics = training.MetricsFile(self.output / "metrics.jsonl", step)
        self._best = training.Checkpoints(self.output / "best", keep=1)
        board = Board(self._experiment, self.output, training.read_metrics(self.output / "metrics.jsonl"), config)
        self._cut = CutEpisodes(rollout.trajectory_length, rollout.restarts)
        self.observers = [board, *self._observers_of(self.seed)]

    def update(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Records an update, and tells the observers; `step`, `metrics` and `seconds` as `Observer.update`."""
        self._cut.update(step, metrics, seconds)  # first, so that nothing is written of an update that ends the run
        self._metrics(step, metrics, seconds)
        for observer in self.observers:
            observer.update(step, metrics, seconds)

    def evaluate(self, state: TrainState) -> str:
        """Evaluates the policy of a state, writes transcripts, and keeps the state if it is the best so far.

        Args:
          state: state of this seed.

        Returns:
          A line about the evaluation.
        """
        summary, episodes = self._evaluator(state.variables, self.seed)
        step, num_updates = state.num_updates, self._experiment.config.num_updates
        if step < num_updates:  # after the last update they come from the final evaluation
            title = f"after {step} of {num_updates} updates" if step else "before training"
            report.add_transcripts(self.output, self.observers, title, episodes, step)
            for observer in self.observers:
                observer.evaluation(step, summary)
        is_best = report.add_evaluation(self.output, step, summary)
        if is_best:
            self._best.save(state)
        return report.line(summary, step, self.seed, is_best)

    def save(self, state: TrainState) -> None:
        """Saves the last state as a checkpoint in the folder of this seed; does nothing if it is there."""
        checkpoints = training.Checkpoints(self.output / "checkpoints")
        checkpoints.save(state)
        checkpoints.close()

    def close(self) -> None:
        """Closes what has been opened."""
        if self.observers:
            self._best.close()
        for observer in self.observers:
            observer.close()
