"""Files of tensors in the format "safetensors": eight bytes with the header's length, the header as JSON, and the elements.

The package of that name maps a whole file, whose pages stay in memory while it is read, and takes all tensors at once to write them.
Here, a few rows are mapped at a time and tensors are written one by one, so that a model is never in memory twice.
"""

import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from arl.types import ArlError

_DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(jnp.bfloat16)}
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit


class Stored(NamedTuple):
    """A tensor in a file.

    Attributes:
      file: the file.
      dtype: type of its elements.
      shape: its shape.
      offset: bytes of the file before it.
    """

    file: pathlib.Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Returns rows of the tensor, `[stop - start, ...]`, mapped from the file for as long as the array lives.

        Args:
          start: the first row.
          stop: the row after the last.
        """
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        mapped = np.memmap(self.file, np.uint8, "r", self.offset + start * row, ((stop - start) * row,))
        return mapped.view(self.dtype).reshape(stop - start, *self.shape[1:])


def read_header(file: pathlib.Path) -> dict[str, Stored]:
    """Returns the tensors of a file by name.

    Args:
      file: the file.

    Raises:
      ArlError: if it is truncated or no such file, or has tensors of a type that is not float.
    """
    size = file.stat().st_size
    damaged = ArlError(f"{file.name} is damaged or truncated at {size} bytes; copy it again")
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise damaged
        try:
            header = json.loads(stream.read(length))
            told = {
                name: (one["dtype"], tuple(one["shape"]), *one["data_offsets"]) for name, one in header.items() if name != "__metadata__"
            }
        except (AttributeError, KeyError, TypeError, ValueError):
            raise damaged from None
    tensors = {}
    for name, (kind, shape, start, stop) in told.items():
        if kind not in _DTYPES:
            raise ArlError(f"{name} in {file.name} is of type {kind}; give a checkpoint of {', '.join(_DTYPES)}, which is not quantised")
        if stop - start != math.prod(shape) * _DTYPES[kind].itemsize or 8 + length + stop > size:
            raise damaged
        tensors[name] = Stored(file, _DTYPES[kind], shape, 8 + length + start)
    return tensors


def write_tensors(file: pathlib.Path, shapes: Mapping[str, tuple[int, ...]], dtype: Any, tensor: Callable[[str], np.ndarray]) -> None:
    """Writes a file of tensors, one after another, and waits until it is on the disk.

    Args:
      file: the file.
      shapes: the tensors' shapes by name.
      dtype: type in which they are written.
      tensor: `name -> [...]`, the tensor; asked for when its turn comes.
    """
    dtype, end = np.dtype(dtype), 0
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    kind = next(name for name, known in _DTYPES.items() if known == dtype)
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the elements are aligned
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in shapes:
            stream.write(np.ascontiguousarray(tensor(name), dtype).reshape(-1).view(np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())
