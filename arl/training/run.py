"""The host's part of training: it calls `update`, writes down what came of it, and stops when asked."""

import contextlib
import json
import math
import pathlib
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax

from arl.training.checkpoint import Checkpoints, NotFiniteError
from arl.training.learner import TrainState

Observer = Callable[[int, dict[str, float], float], None]
"""`(step, metrics, seconds)`, called after every update."""


class TrainingError(Exception):
    """Training cannot go on; the message says in one sentence what happened and what is left."""


def run(
    update: Callable[[TrainState], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    num_updates: int,
    *,
    checkpoints: Checkpoints,
    checkpoint_every: int,
    observers: list[Observer],
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Trains until a number of updates has been taken, or something asks it to stop. What it leaves can be resumed bit for bit.

    Args:
      update: of a learner, compiled.
      state: where to begin.
      num_updates: updates in all, those before `state` included.
      checkpoints: where states are saved.
      checkpoint_every: updates between two of them.
      observers: what is told of every update.
      should_stop: asked after every update.

    Returns:
      The last state, which has been saved.

    Raises:
      TrainingError: if a metric, or what has been learned, is not finite; that update is not saved.
      CheckpointError: if a checkpoint could not be written.
    """
    has_warned = False
    for step in range(int(state.step), num_updates):
        began = time.perf_counter()
        state, metrics = update(state)
        numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
        broken = [name for name, value in numbers.items() if not math.isfinite(value)]
        if broken:
            raise _diverged(f"update {step} gave {broken[0]} = {numbers[broken[0]]}", checkpoints, state)
        if numbers.get("beyond_size_share") and not has_warned:
            warnings.warn(_beyond_size(step, numbers["beyond_size_share"]), RuntimeWarning, stacklevel=2)
            has_warned = True
        for observe in observers:
            observe(step, numbers, time.perf_counter() - began)
        stops = should_stop()
        if (step + 1) % checkpoint_every == 0 or step + 1 == num_updates or stops:
            try:
                checkpoints.save(state)
            except NotFiniteError as error:  # by the update's last step: what it measured before was still finite
                raise _diverged(str(error), checkpoints, state) from error
        if stops:
            break
    return state


def _beyond_size(step: int, share: float) -> str:
    return (
        f"in update {step} lives of {share:.0%} of the lanes ran past the size that their interaction declares, and were cut; returns are "
        "wrong until its size says how long a life can be (rollout.check_size finds what is wrong)"
    )


def _diverged(what: str, checkpoints: Checkpoints, like: TrainState) -> TrainingError:
    whole = checkpoints.newest_whole(like)
    rest = "no whole checkpoint had been saved before it" if whole is None else f"checkpoint {whole} is whole"
    return TrainingError(f"{what}; {rest}; try a smaller learner.learning_rate")


class MetricsFile:
    """One line of JSON an update; the same run gives the same bytes."""

    def __init__(self, path: pathlib.Path, step: int):
        """Opens a file for the updates from `step` on; what a run that was killed wrote beyond it is cut off.

        Raises:
          TrainingError: if the lines of the updates before `step` are not all there.
        """
        lines = path.read_bytes().decode(errors="replace").splitlines(keepends=True)[:step] if path.exists() else []
        whole = [index for index, line in enumerate(lines) if _update_of(line) == index]
        if len(whole) < step:
            raise TrainingError(
                f"{path} lacks some of the {step} updates that its checkpoint has; restore that file, or train anew elsewhere"
            )
        part = path.with_suffix(".part")  # renamed when whole: a run may be killed at any moment
        part.write_text("".join(lines))
        part.replace(path)
        self._file = path.open("a")

    def __call__(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Writes the line of an update; an `Observer`."""
        del seconds
        self._file.write(json.dumps({"update": step, **metrics}) + "\n")
        self._file.flush()


def _update_of(line: str) -> int | None:
    """Returns the number of the update that a line is about, None if it is not whole."""
    try:
        return json.loads(line)["update"] if line.endswith("}\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def read_metrics(path: pathlib.Path) -> list[dict[str, float]]:
    """Returns the lines of the file at `path` that are whole."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM or Ctrl-C has come; a second one takes effect at once."""
    received: list[int] = []

    def note(number, frame):
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
