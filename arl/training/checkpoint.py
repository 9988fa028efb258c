"""Checkpoints of everything that crosses from one update to the next, written while training goes on."""

import pathlib
import zlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from arl.training.learner import TrainState

_CHECKSUM = "checksum"


class CheckpointError(Exception):
    """A checkpoint cannot be read; the message says in one sentence what to do."""


class Checkpoints:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: pathlib.Path, keep: int = 3):
        """Opens a folder of checkpoints, of which the newest `keep` are kept."""
        self.folder = pathlib.Path(folder).absolute()
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder} is no folder, and checkpoints need one; remove it, or name another")
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler())

    def save(self, state: TrainState) -> None:
        """Begins to write a state; training need not wait. What is already there is left as it is.

        Args:
          state: of training; its step names the checkpoint.
        """
        step = int(state.step)
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(_to_arrays(state)))

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """Returns a state as it was saved.

        Args:
          like: a state of the same shapes, or its `jax.eval_shape`.
          step: which one; None for the newest.

        Returns:
          The state.

        Raises:
          CheckpointError: if there is none, or it is damaged or belongs to another configuration.
        """
        step = self.latest() if step is None else step
        if step is None or step not in self._manager.all_steps():
            raise CheckpointError(
                f"there is no checkpoint {'' if step is None else f'{step} '}in {self.folder}; train first, or name another step"
            )
        leaves, treedef = jax.tree.flatten(like)
        wanted = jax.eval_shape(lambda: {_name(i): _data(_zeros(leaf)) for i, leaf in enumerate(leaves) if leaf.size})
        wanted[_CHECKSUM] = jax.ShapeDtypeStruct((), np.uint32)
        try:
            # The store hands out another shape, or casts to another type, without a word: ask what it holds first.
            written = self._manager.item_metadata(step)
            found = {name: (written[name].shape, written[name].dtype) for name in written}
            is_ours = found == {name: (leaf.shape, leaf.dtype) for name, leaf in wanted.items()}
            saved = self._manager.restore(step, args=ocp.args.StandardRestore(wanted)) if is_ours else {}
            if is_ours and _checksum(saved) != saved[_CHECKSUM]:
                raise ValueError("its bytes are not those that were written")
            # Copies: what the store handed out may be its own memory, and the first update gives its buffers away.
            arrays = [
                jax.numpy.array(saved[_name(i)], copy=True) if leaf.size else _zeros(leaf) for i, leaf in enumerate(leaves) if is_ours
            ]
        except Exception as error:
            has_older = any(other < step for other in self._manager.all_steps())
            advice = "remove that folder to go on from the one before it" if has_older else "there is none before it, train anew elsewhere"
            raise CheckpointError(f"checkpoint {self.folder / str(step)} is damaged ({type(error).__name__}); {advice}") from error
        if not is_ours:
            raise CheckpointError(
                f"checkpoint {self.folder / str(step)} is from another configuration; use the one that it was trained with"
            )
        restored = [jax.random.wrap_key_data(x) if _is_key(leaf) and leaf.size else x for leaf, x in zip(leaves, arrays, strict=True)]
        return jax.tree.unflatten(treedef, restored)

    def close(self) -> None:
        """Waits until all that was begun is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _to_arrays(state: TrainState) -> dict[str, Any]:
    # On the host before the next update begins, which may write over the buffers. Arrays of no size cannot be stored, and need not be.
    arrays = {_name(i): np.asarray(_data(leaf)) for i, leaf in enumerate(jax.tree.leaves(state)) if leaf.size}
    return {**arrays, _CHECKSUM: _checksum(arrays)}


def _checksum(arrays: dict[str, Any]) -> np.uint32:
    """Returns the CRC-32 of all arrays: the store itself does not notice a flipped bit."""
    checksum = 0
    for name in sorted(arrays.keys() - {_CHECKSUM}):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).view(np.uint8), checksum)
    return np.uint32(checksum)


def _name(index: int) -> str:
    return f"leaf{index:05d}"


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _zeros(leaf: Any) -> Any:
    return (
        jax.random.wrap_key_data(jax.numpy.zeros((*leaf.shape, 2), jax.numpy.uint32))
        if _is_key(leaf)
        else jax.numpy.zeros(leaf.shape, leaf.dtype)
    )
