"""Named arrays in a folder, written and read one after another: what a checkpoint is made of.

They lie as Orbax's own handlers lay them (zarr arrays in an OCDBT store), so that its checkpoints can be read too. Those handlers work on
all arrays at once: where a disk is full or a file is damaged, every array tells of its failure an event loop that the first one has closed,
or a thread that dies of it, and nobody can catch these tracebacks. Here one exception is raised, to the caller.
"""

import dataclasses
import pathlib

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

Arrays = dict[str, np.ndarray]
"""Arrays by name, each of any shape and type."""


def write(folder: pathlib.Path, arrays: Arrays) -> None:
    """Writes arrays to a folder; all of them appear there at once, or none does.

    Args:
      folder: that is new.
      arrays: none of them empty.

    Raises:
      ValueError: of the store, if the folder cannot hold them.
    """
    context = ts.Context()  # without it each array would open the store, and commit to it, on its own: thousands of files
    with ts.Transaction(atomic=True) as transaction:
        for name, array in arrays.items():
            spec = {**_spec(folder, name), "metadata": {"compressor": {"id": "zstd"}, "chunks": array.shape}}
            how = {"create": True, "dtype": array.dtype, "shape": array.shape}
            ts.open(spec, context=context, transaction=transaction, **how).result().write(array).result()


def read(folder: pathlib.Path) -> Arrays:
    """Returns the arrays that were written to a folder.

    Raises:
      ValueError: of the store, if there are none, or what is there cannot be read.
    """
    context = ts.Context()
    keys = ts.KvStore.open(_store(folder), context=context).result().list().result()
    names = sorted({key.decode().partition("/")[0] for key in keys})
    if not names:
        raise ValueError(f"NOT_FOUND: there are no arrays in {folder}")
    return {name: ts.open(_spec(folder, name), context=context, open=True).result().read().result() for name in names}


def _store(folder: pathlib.Path) -> dict:
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}


def _spec(folder: pathlib.Path, name: str) -> dict:
    return {"driver": "zarr", "kvstore": {**_store(folder), "path": f"{name}/"}}


class ArraysHandler(ocp.CheckpointHandler):
    """Named arrays as an item of Orbax's checkpoints."""

    def save(self, directory, args: "ArraysSave") -> None:
        """Writes the arrays of `args` to `directory`."""
        write(pathlib.Path(directory), args.arrays)

    def restore(self, directory, args: "ArraysRestore") -> Arrays:
        """Returns the arrays in `directory`; `args` ask for nothing more."""
        del args
        return read(pathlib.Path(directory))


@ocp.args.register_with_handler(ArraysHandler, for_save=True)
@dataclasses.dataclass
class ArraysSave(ocp.args.CheckpointArgs):
    """To save arrays, by name."""

    arrays: Arrays


@ocp.args.register_with_handler(ArraysHandler, for_restore=True)
@dataclasses.dataclass
class ArraysRestore(ocp.args.CheckpointArgs):
    """To restore them."""
