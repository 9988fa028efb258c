"""Progress of training and evaluation: a live line in a terminal, plain lines elsewhere."""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator

from rich import progress as rich_progress

from arl.runs.experiment import Experiment
from arl.training import evaluation


@contextlib.contextmanager
def reporting(task: str) -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the current part of some work: beside a spinner in a terminal, as a line elsewhere.

    Args:
      task: name of the work, such as "evaluating".
    """
    if not sys.stdout.isatty():
        yield lambda part: print(f"{task}: {part}", flush=True)
        return
    columns = (rich_progress.SpinnerColumn(), "{task.description}", rich_progress.TimeElapsedColumn())
    with rich_progress.Progress(*columns, transient=True) as spinner:
        row = spinner.add_task(task, total=None)
        yield lambda part: spinner.update(row, description=f"{task}: {part}")


class Progress:
    """A live line in a terminal (elsewhere about 20 lines per run), and the time taken."""

    def __init__(self, experiment: Experiment, output: pathlib.Path, first: int, num_seeds: int = 1):
        """Starts at update `first` of a run in the folder `output`, whose metrics are means over its seeds."""
        self._whose = f"{num_seeds} seeds: " if num_seeds > 1 else ""
        self._bounds, self._first, self._num_updates = experiment.bounds, first, experiment.config.num_updates
        self._times = output / "times.jsonl"
        self._before, self._compiling = _last_times(self._times)
        self._began = time.perf_counter()
        self._after_compilation: float | None = None
        self._bar = rich_progress.Progress(
            "[progress.description]{task.description}",
            rich_progress.BarColumn(bar_width=10),  # the whole line fits a terminal of 80 columns
            rich_progress.MofNCompleteColumn(),
            "{task.fields[said]}",
            disable=not sys.stdout.isatty(),
        )
        self._row = self._bar.add_task("compiling", total=self._num_updates, completed=first, said="")

    def __enter__(self) -> "Progress":
        self._bar.start()
        if self._bar.disable:
            print("compiling the agent loop into one program", flush=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def spent(self) -> dict[str, float]:
        """Returns the `seconds` of training so far, those before a resume included, and the `compile_seconds` among them."""
        return {"seconds": self._before + time.perf_counter() - self._began, "compile_seconds": self._compiling}

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Counts its time as that of compilation."""
        began = time.perf_counter()
        yield
        self._compiling += time.perf_counter() - began

    def say(self, text: str) -> None:
        """Shows `text` above the live line."""
        print(text, flush=True) if self._bar.disable else self._bar.console.print(text, highlight=False)

    @contextlib.contextmanager
    def aside(self, what: str) -> Iterator[None]:
        """Shows what is done between two updates, and does not count its time.

        Args:
          what: the work, such as "writing transcripts".
        """
        self._bar.update(self._row, description=what)
        if self._bar.disable:
            print(what, flush=True)
        began = time.perf_counter()
        yield
        taken = time.perf_counter() - began
        self._began += taken
        if self._after_compilation is not None:
            self._after_compilation += taken
        self._bar.update(self._row, description="")

    def __call__(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Shows an update; an `arl.training.Observer`."""
        now = time.perf_counter()
        if self._after_compilation is None:
            self._after_compilation = now
            since_start, updates = seconds, 1
        else:
            since_start, updates = now - self._after_compilation, step - self._first
        left = since_start / max(updates, 1) * (self._num_updates - step - 1)
        speed = f"{metrics['tokens'] / seconds:,.0f} tokens/s, {int(left) // 60}:{int(left) % 60:02d} left"
        if "return/outcome" not in metrics:
            told = [f"imitating, {metrics['negative_log_likelihood']:.3f} nats a token"]
        else:
            told = [f"outcome {metrics['return/outcome']:.3f}"]
            if self._bounds:
                told = [f"normalised score {evaluation.normalised_score(metrics['return/outcome'], self._bounds):.2f}", *told]
        told[0] = self._whose + told[0]
        said = ", ".join([*told, speed])
        self._bar.update(self._row, completed=step + 1, description="", said=f"{told[0]}, {speed}")
        if self._bar.disable and (
            step == self._first or (step + 1) % max(self._num_updates // 20, 1) == 0 or step + 1 == self._num_updates
        ):
            print(f"update {step + 1}/{self._num_updates}: {said}", flush=True)
        with self._times.open("a") as file:
            file.write(json.dumps({"update": step, **self.spent()}) + "\n")


def _last_times(path: pathlib.Path) -> tuple[float, float]:
    """Returns what `Progress.spent` was in the last complete line of a file of times; a killed run may leave an incomplete one."""
    for line in reversed(path.read_text(errors="replace").splitlines() if path.exists() else []):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            spent = json.loads(line)
            return float(spent["seconds"]), float(spent.get("compile_seconds", 0.0))
    return 0.0, 0.0
