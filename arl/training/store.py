"""Storage of a checkpoint: named arrays in a folder, written and read one after another. Each process writes a store of its own.

The format is that of Orbax's own handlers (zarr arrays in an OCDBT store), so checkpoints of either can be read by the other. Those
handlers work on all arrays concurrently: on a full disk or a damaged file each array fails in an event loop that is already closed or in a
thread of its own, where the error cannot be caught. Here one exception is raised in the caller.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from arl.types import ArlError

Arrays = dict[str, np.ndarray]
"""Arrays by name, each of any shape and type."""
_OTHERS = "process_*"  # the stores of the other processes, in the folder of the first one's


class Stored(NamedTuple):
    """What a process wrote.

    Attributes:
      names: names of its arrays.
      arrays: those of them that were read.
    """

    names: frozenset[str]
    arrays: Arrays


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


def read(folder: pathlib.Path, is_wanted: Callable[[str], bool]) -> Stored:
    """Reads arrays that were written to a folder.

    Args:
      folder: the folder.
      is_wanted: `name -> bool`, which of the arrays are read.

    Returns:
      What the process that wrote them has stored.

    Raises:
      ArlError: if there are none.
      ValueError: of the store, if they cannot be read.
    """
    context = ts.Context()
    keys = ts.KvStore.open(_store(folder), context=context).result().list().result()
    names = sorted({key.decode().partition("/")[0] for key in keys})
    if not names:
        raise ArlError(f"NOT_FOUND: there are no arrays in {folder}")
    opened = lambda name: ts.open(_spec(folder, name), context=context, open=True).result()
    return Stored(frozenset(names), {name: opened(name).read().result() for name in names if is_wanted(name)})


def _store(folder: pathlib.Path) -> dict:
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}


def _spec(folder: pathlib.Path, name: str) -> dict:
    return {"driver": "zarr", "kvstore": {**_store(folder), "path": f"{name}/"}}


class ArraysHandler(ocp.CheckpointHandler):
    """An Orbax handler of the named arrays of each process."""

    def save(self, directory, args: "ArraysSave") -> None:
        """Writes the arrays of `args` to this process's store in `directory`."""
        index = jax.process_index()
        write(pathlib.Path(directory) / _OTHERS.replace("*", str(index)) if index else pathlib.Path(directory), args.arrays)

    def restore(self, directory, args: "ArraysRestore") -> list[Stored]:
        """Returns what each process wrote to `directory`, of the arrays that `args` wants."""
        first = pathlib.Path(directory)
        return [read(folder, args.is_wanted) for folder in (first, *sorted(first.glob(_OTHERS)))]


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
    """Arguments to restore arrays.

    Attributes:
      is_wanted: `name -> bool`, which of them are read.
    """

    is_wanted: Callable[[str], bool]
