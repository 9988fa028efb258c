"""What a person sees while an agent trains: a line that moves, and TensorBoard."""

import contextlib
import json
import pathlib
import sys
import time

from rich import progress as rich_progress

from arl.rollout import RolloutConfig
from arl.training import TrainingError, evaluation
from arl.training.run import Observer
from experiments.build import Experiment

TENSORBOARD = "tensorboard"  # folder within that of the run


def log_transcripts(output: pathlib.Path, transcripts: str, step: int) -> None:
    """Adds lives as text to the TensorBoard of the run in folder `output`, at update `step`."""
    import tensorboardX

    with tensorboardX.SummaryWriter(str(output / TENSORBOARD)) as writer:
        indented = "".join(f"    {line}\n" for line in transcripts.splitlines())  # Markdown leaves it as it is
        writer.add_text("transcripts", indented, step)


def _last_seconds(path: pathlib.Path) -> float:
    """Returns the seconds in the last whole line of a file of times; a run may have been killed while it wrote one."""
    for line in reversed(path.read_text(errors="replace").splitlines() if path.exists() else []):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return float(json.loads(line)["seconds"])
    return 0.0


def refuse_cut_lives(rollout: RolloutConfig) -> Observer:
    """Returns an observer that ends a run most of whose lives are cut by their stream, with no other to go on: their return says nothing.

    Whether they are is seen when they are lived: the bound of a life, from which a stream's length is filled in, is seldom reached.

    Args:
      rollout: of the run.
    """

    def observe(step: int, metrics: dict[str, float], seconds: float) -> None:
        del seconds
        if not rollout.restarts and metrics["unfinished_share"] > 0.5:
            raise TrainingError(
                f"a stream of {rollout.stream_length} tokens cuts {metrics['unfinished_share']:.0%} of the lives of update {step}, and no "
                "other goes on with them; set rollout.stream_length=0 for whole lives, or rollout.restarts=True, and name another --output"
            )

    return observe


class Progress:
    """A live line (a line every twentieth part of the run where output is no terminal), TensorBoard scalars, and the time taken."""

    def __init__(self, experiment: Experiment, output: pathlib.Path, first: int, num_updates: int):
        """Begins at update `first` of `num_updates`."""
        import tensorboardX

        self._experiment, self._first, self._num_updates = experiment, first, num_updates
        self._writer = tensorboardX.SummaryWriter(str(output / TENSORBOARD), purge_step=first)
        self._times = output / "times.jsonl"
        self._spent = _last_seconds(self._times)
        self._began = time.perf_counter()
        self._after_compilation: float | None = None
        self._bar = rich_progress.Progress(
            "[progress.description]{task.description}",
            rich_progress.BarColumn(bar_width=10),  # the whole line fits a terminal of 80 columns
            rich_progress.MofNCompleteColumn(),
            "{task.fields[said]}",
            disable=not sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("compiling", total=num_updates, completed=first, said="")

    def __enter__(self) -> "Progress":
        self._bar.start()
        if self._bar.disable:
            print("compiling the agent loop into one program", flush=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
        self._writer.close()

    def seconds(self) -> float:
        """Returns the seconds that training has taken, in all its parts."""
        return self._spent + time.perf_counter() - self._began

    def __call__(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Shows and logs an update; an `Observer`."""
        now = time.perf_counter()
        if self._after_compilation is None:
            self._after_compilation = now
            since_start, updates = seconds, 1
        else:
            since_start, updates = now - self._after_compilation, step - self._first
        left = since_start / max(updates, 1) * (self._num_updates - step - 1)
        said = f"{metrics['tokens'] / seconds:,.0f} tokens/s, {int(left) // 60}:{int(left) % 60:02d} left"
        if "return/outcome" in metrics:
            task = self._experiment.task
            fraction = evaluation.fraction_of_the_way(metrics["return/outcome"], task.floor, task.ceiling)
            said = f"outcome {metrics['return/outcome']:.3f} ({fraction:.0%} of the way), {said}"
            self._writer.add_scalar("fraction", fraction, step)
        else:
            said = f"imitating, {metrics['negative_log_likelihood']:.3f} nats a token, {said}"
        self._bar.update(self._task, completed=step + 1, description="", said=said)
        if self._bar.disable and (
            step == self._first or (step + 1) % max(self._num_updates // 20, 1) == 0 or step + 1 == self._num_updates
        ):
            print(f"update {step + 1}/{self._num_updates}: {said}", flush=True)
        self._writer.add_scalar("time/tokens_per_second", metrics["tokens"] / seconds, step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        with self._times.open("a") as file:
            file.write(json.dumps({"update": step, "seconds": self.seconds()}) + "\n")
