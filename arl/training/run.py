"""The training loop on the host: it calls `update`, writes metrics and checkpoints, and stops when asked."""

import contextlib
import json
import pathlib
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from arl.training.checkpoint import Checkpoints, NotFiniteError
from arl.training.learner import TrainState

Callback = Callable[[int, dict[str, Any], float], None]
"""`(step, metrics, seconds)`, called after every update; metrics are numbers, or arrays `[num_seeds]` for a state of several seeds."""


class TrainingError(Exception):
    """Training cannot go on. The message says in one sentence what happened and from which checkpoint to resume."""


def run(
    update: Callable[[TrainState], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    num_updates: int,
    *,
    checkpoints: Checkpoints,
    checkpoint_every: int,
    callbacks: list[Callback],
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Trains until a number of updates has been taken or it is asked to stop. A run that is resumed gives the same bits.

    Args:
      update: compiled update of a learner.
      state: state to start from.
      num_updates: number of updates in all, those before `state` included.
      checkpoints: checkpoints of the run.
      checkpoint_every: number of updates between two checkpoints.
      callbacks: functions that are called after every update.
      should_stop: called after every update; training stops if it returns True.

    Returns:
      The last state, which has been saved.

    Raises:
      TrainingError: if a metric, the parameters, optimizer state or reference are not finite; that update is not saved.
      CheckpointError: if a checkpoint could not be written.
    """
    report, waiting, began = _Report(callbacks, checkpoints), None, time.perf_counter()
    for step in range(state.num_updates, num_updates):
        state, metrics = update(state)
        if waiting:  # while this update runs, what the last one gave is fetched and told
            began = report(*waiting, began, state)
        waiting, stops = (step, metrics), should_stop()
        if (step + 1) % checkpoint_every == 0 or step + 1 == num_updates or stops:
            began, waiting = report(*waiting, began, state), None
            try:
                checkpoints.save(state)
            except NotFiniteError as error:  # the last step of the update made them so; its metrics, measured before, were finite
                raise _diverged(str(error), checkpoints, state) from error
        if stops:
            break
    return state


class _Report:
    """Tells the callbacks of a run what an update gave, after a look at it."""

    def __init__(self, callbacks: list[Callback], checkpoints: Checkpoints):
        self._callbacks, self._checkpoints, self._has_warned = callbacks, checkpoints, False

    def __call__(self, step: int, metrics: dict[str, Any], began: float, like: TrainState) -> float:
        """Tells of an update that began at a time, and returns the time at which it was known; raises `TrainingError`."""
        numbers = {name: value if np.ndim(value) else float(value) for name, value in jax.device_get(metrics).items()}
        ended = time.perf_counter()
        broken = [name for name, value in numbers.items() if not np.all(np.isfinite(value))]
        if broken:
            raise _diverged(f"update {step} gave {broken[0]} = {numbers[broken[0]]}", self._checkpoints, like)
        beyond = float(np.max(numbers.get("beyond_size_fraction", 0.0)))
        if beyond and not self._has_warned:
            warnings.warn(_beyond_size(step, beyond), RuntimeWarning, stacklevel=3)
            self._has_warned = True
        for call in self._callbacks:
            call(step, numbers, ended - began)
        return ended


def _beyond_size(step: int, fraction: float) -> str:
    return (
        f"in update {step} episodes in {fraction:.0%} of the lanes exceeded the size that their interaction declares, and were cut off, so "
        "returns are wrong; correct its size, which `rollout.check_size` checks"
    )


def _diverged(what: str, checkpoints: Checkpoints, like: TrainState) -> TrainingError:
    whole = checkpoints.newest_whole(like)
    rest = "no whole checkpoint had been saved before it" if whole is None else f"checkpoint {whole} is whole"
    return TrainingError(f"{what}; {rest}; try a smaller LearnerConfig.learning_rate")


class MetricsFile:
    """Writes one line of JSON per update; the same run gives the same bytes."""

    def __init__(self, path: pathlib.Path, step: int):
        """Opens a file for the updates from `step` on, and removes lines that a killed run wrote beyond it.

        Args:
          path: path of the file; created if it does not exist.
          step: number of updates taken.

        Raises:
          TrainingError: if a line of the updates before `step` is missing.
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
        """Writes the line of an update; a `Callback`."""
        del seconds
        self._file.write(json.dumps({"update": step, **metrics}) + "\n")
        self._file.flush()


def _update_of(line: str) -> int | None:
    """Returns the number of a line's update; None if the line is not whole."""
    try:
        return json.loads(line)["update"] if line.endswith("}\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def read_metrics(path: pathlib.Path) -> list[dict[str, float]]:
    """Returns the whole lines of the metrics file at `path`."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if _update_of(line) is not None]


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM or SIGINT has been received; a second one raises KeyboardInterrupt.

    The first one is answered by a line at once, from a thread: the main one may be waiting for a compiled program.
    """
    received: list[int] = []
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def answer():
        while number := reader.recv(1):
            if number[0] in before:
                print("stopping: the update is finished and saved; a second Ctrl-C stops without\n", end="", flush=True)  # one write
                return

    def note(number, frame):
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    woken, thread = signal.set_wakeup_fd(writer.fileno()), threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield lambda: bool(received)
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        writer.close()  # which ends the thread
        thread.join()
        reader.close()
