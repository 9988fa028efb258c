"""Checkpoints of the training state, written while training continues."""

import concurrent.futures
import os
import pathlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from arl.training import packing
from arl.training.learner import TrainState
from arl.training.store import Arrays, ArraysHandler, ArraysRestore, ArraysSave

_FOREIGN = "is from another configuration"
_OTHER_BASE = "is of an agent with other frozen weights"
_FORMER = "was written by an earlier arl"
_LONGEST = 400  # bytes of a text that processes exchange


class CheckpointError(Exception):
    """A checkpoint cannot be written or read. The message says in one sentence what to do."""


class NotFiniteError(CheckpointError):
    """The variables, optimizer state or reference are not finite. They are not saved."""


class _Begun(NamedTuple):
    """A checkpoint that is being written."""

    step: int
    like: TrainState
    written: concurrent.futures.Future


class Checkpoints:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: pathlib.Path, keep: int = 3):
        """Opens a folder of checkpoints.

        Args:
          folder: the folder; created if it does not exist.
          keep: number of the newest checkpoints that are kept.

        Raises:
          CheckpointError: if there is a file of that name.
        """
        self.folder = pathlib.Path(folder).absolute()
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder} is no folder, and checkpoints need one; remove it, or name another")
        # Written in a thread of ours, which keeps an exception until it is asked for; the threads of Orbax print it.
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=ArraysHandler())
        self._writer = concurrent.futures.ThreadPoolExecutor(1)
        self._begun: _Begun | None = None

    def save(self, state: TrainState) -> None:
        """Begins to write a state in the background. A checkpoint that exists is not written again.

        Args:
          state: state of training; its step names the checkpoint.

        Raises:
          NotFiniteError: if its variables, optimizer state or reference are not finite; it is not written.
          CheckpointError: if the previous checkpoint could not be written.
        """
        self._finish()
        step = state.num_updates
        if step in self._manager.all_steps():
            return
        state = packing.without_frozen(state)
        like = jax.eval_shape(lambda: state)
        arrays = packing.pack(state)
        if broken := _first_of_all(packing.not_finite(arrays)):
            raise NotFiniteError(f"update {step - 1} left {broken} with values that are not finite, and is not saved")
        self._begun = _Begun(step, like, self._writer.submit(self._manager.save, step, args=ArraysSave(arrays)))
        if jax.process_count() > 1:  # the processes wait for one another by collectives, which must not meet those of training
            self._finish()

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None. Waits for one that is being written.

        Raises:
          CheckpointError: if the one that was being written could not be.
        """
        self._finish()
        return self._manager.latest_step()

    def newest_whole(self, like: TrainState, before: int | None = None) -> int | None:
        """Returns the step of the newest checkpoint from which training can resume, or None. It reads them until one is whole.

        Args:
          like: as `restore`.
          before: a step, to consider older checkpoints only; None for all.
        """
        like = packing.without_frozen(like)
        if self._begun:
            concurrent.futures.wait([self._begun.written])
        steps = sorted((step for step in self._manager.all_steps() if before is None or step < before), reverse=True)
        return next((step for step in steps if not self._read(like, step)[1]), None)

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """Restores a state.

        Args:
          like: a state of the same shapes, or its `jax.eval_shape`; where its leaves have shardings, the result has them. Its frozen
            variables must be there: they are those of the result.
          step: step of the checkpoint; None for the newest.

        Returns:
          The state.

        Raises:
          CheckpointError: if there is none, or it is damaged, not finite, from another configuration, or of other frozen weights.
        """
        newest = self.latest()
        step = newest if step is None else step
        if step is None or step not in self._manager.all_steps():
            raise CheckpointError(
                f"there is no checkpoint {'' if step is None else f'{step} '}in {self.folder}; train first, or name another step"
            )
        stored = packing.without_frozen(like)
        arrays, fault = self._read(stored, step)
        if fault:
            raise CheckpointError(f"checkpoint {self.folder / str(step)} {fault}; {self._advice(stored, step, fault)}")
        state = packing.unpack(stored, arrays)
        return state._replace(variables=state.variables._replace(frozen=like.variables.frozen))

    def close(self) -> None:
        """Waits for the checkpoint that is being written, and closes the folder.

        Raises:
          CheckpointError: if the checkpoint could not be written.
        """
        try:
            self._finish()
        finally:
            self._writer.shutdown()
            self._manager.close()

    def _finish(self) -> None:
        """Waits for the checkpoint that is being written, if there is one, and raises its error."""
        begun, self._begun = self._begun, None
        if begun is None or (error := begun.written.exception()) is None:
            return
        whole = self.newest_whole(begun.like)
        rest = "begins anew: nothing whole had been saved before" if whole is None else f"goes on from checkpoint {whole}"
        raise CheckpointError(
            f"checkpoint {begun.step} could not be written to {self.folder} ({_reason(error) or type(error).__name__}); free what it "
            f"needs and start the run again, which {rest}"
        ) from error

    def _read(self, like: TrainState, step: int) -> tuple[Arrays, str]:
        """Returns the arrays of a checkpoint, and what is wrong with it; "" if training can resume from it."""
        arrays, fault = self._read_own(like, step)
        return arrays, _first_of_all(fault)

    def _read_own(self, like: TrainState, step: int) -> tuple[Arrays, str]:
        """As `_read`, of the arrays that this process needs."""
        try:
            stores: Any = self._manager.restore(step, args=ArraysRestore(packing.wanted(like)))
        except Exception as error:
            return {}, f"is damaged ({_reason(error) or 'files are missing, cut short or changed'})"
        if any(packing.is_former(each.arrays) for each in stores):
            return {}, _FORMER
        if not all(packing.is_intact(*each) for each in stores):
            return {}, "is damaged (its bytes are not those that were written)"
        arrays = {name: array for each in stores for name, array in each.arrays.items()}
        if not packing.fits(like, arrays):
            return {}, _FOREIGN
        if not packing.has_same_base(like, arrays):
            return {}, _OTHER_BASE
        if not packing.is_complete(like, frozenset().union(*(each.names for each in stores))):
            return {}, "is damaged (files of some processes are missing)"
        broken = packing.not_finite(arrays)
        return arrays, f"holds values that are not finite ({broken})" if broken else ""

    def _advice(self, like: TrainState, step: int, fault: str) -> str:
        """Returns what to do about a checkpoint from which training cannot resume."""
        if fault == _FOREIGN:
            return "use the one that it was trained with"
        if fault == _OTHER_BASE:
            return "give the pretrained weights that it was trained with"
        if fault == _FORMER:
            return "go on with that version, or train anew elsewhere"
        whole = self.newest_whole(like, before=step)
        if whole is None:
            return "there is none before it that is whole, train anew elsewhere"
        between = [f" and {other}" for other in sorted(self._manager.all_steps()) if whole < other < step]
        return f"remove that folder{''.join(between)} to go on from checkpoint {whole}"


def _first_of_all(text: str) -> str:
    """Returns the text of the first process whose text is not empty; "" if all are. All processes must call it."""
    if jax.process_count() == 1:
        return text
    padded = np.zeros(_LONGEST, np.uint8)
    encoded = np.frombuffer(text.encode()[:_LONGEST], np.uint8)
    padded[: encoded.size] = encoded
    texts = multihost_utils.process_allgather(padded)
    return next((said for row in texts if (said := bytes(row).rstrip(b"\0").decode(errors="ignore"))), "")


def _reason(error: BaseException) -> str:
    """Returns the operating system's description of an error, "" if it has none; the store passes on its error number."""
    told = re.search(r"(?:os_error_code='|OS error )(\d+)", str(error))
    code = error.errno if isinstance(error, OSError) else told and int(told[1])
    return os.strerror(code) if code else ""
