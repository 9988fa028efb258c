"""Storage of a checkpoint: named arrays in a folder, written and read one after another.

The format is that of Orbax's own handlers (zarr arrays in an OCDBT store), so checkpoints of either can be read by the other. Those
handlers work on all arrays concurrently: on a full disk or a damaged file each array fails in an event loop that is already closed or in a
thread of its own, where the error cannot be caught. Here one exception is raised in the caller.
"""

import dataclasses
import pathlib

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from arl.types import ArlError

Arrays = dict[str, np.ndarray]
"""Arrays by name, each of any shape and type."""


def write(folder: pathlib.Path, arrays: Arrays) -> None:
    """Writes arrays to a folder atomically.

    Args:
      folder: a new folder.
      arrays: arrays, none of them empty.

    Raises:
      ValueError: of the store, if they cannot be written.
    """
    context = ts.Context()  # shared: otherwise each array opens the store and commits to it on its own, which makes thousands of files
    with ts.Transaction(atomic=True) as transaction:
        for name, array in arrays.items():
            spec = {**_spec(folder, name), "metadata": {"compressor": {"id": "zstd"}, "chunks": array.shape}}
            how = {"create": True, "dtype": array.dtype, "shape": array.shape}
            ts.open(spec, context=context, transaction=transaction, **how).result().write(array).result()


def read(folder: pathlib.Path) -> Arrays:
    """Returns the arrays that were written to a folder.

    Raises:
      ArlError: if there are none.
      ValueError: of the store, if they cannot be read.
    """
    context = ts.Context()
    keys = ts.KvStore.open(_store(folder), context=context).result().list().result()
    names = sorted({key.decode().partition("/")[0] for key in keys})
    if not names:
        raise ArlError(f"NOT_FOUND: there are no arrays in {folder}")
    return {name: ts.open(_spec(folder, name), context=context, open=True).result().read().result() for name in names}


def _store(folder: pathlib.Path) -> dict:
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}


def _spec(folder: pathlib.Path, name: str) -> dict:
    return {"driver": "zarr", "kvstore": {**_store(folder), "path": f"{name}/"}}


class ArraysHandler(ocp.CheckpointHandler):
    """An Orbax handler of named arrays."""

    def save(self, directory, args: "ArraysSave") -> None:
        """Writes the arrays of `args` to `directory`."""
        write(pathlib.Path(directory), args.arrays)

    def restore(self, directory, args: "ArraysRestore") -> Arrays:
        """Returns the arrays in `directory`; `args` are not used."""
        del args
        return read(pathlib.Path(directory))


@ocp.args.register_with_handler(ArraysHandler, for_save=True)
@dataclasses.dataclass
class ArraysSave(ocp.args.CheckpointArgs):
    """Arguments to save arrays.

    Attributes:
      arrays: arrays by name.
    """

    arrays: Arrays


@ocp.args.register_with_handler(ArraysHandler, for_restore=True)
@dataclasses.dataclass
class ArraysRestore(ocp.args.CheckpointArgs):
    """Arguments to restore arrays."""
