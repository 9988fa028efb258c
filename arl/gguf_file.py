"""Files in the format GGUF of llama.cpp: what they say of a model and its tokenizer, and where its tensors are.

The format is described in ggml's repository, docs/gguf.md. The package `gguf` makes several NumPy arrays of each string of a vocabulary:
of SmolLM2's, 160 MB in seconds. Here, strings are strings.
"""

import pathlib
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arl.types import ArlError

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT, _STRING, _ARRAY = 6, 8, 9
_VERSIONS = (2, 3)
_MOST_AXES = 4
_ALIGNMENT = 32  # bytes, unless the file says it


class Place(NamedTuple):
    """Where a tensor is in a file.

    Attributes:
      kind: number of the type of its elements, as ggml has it.
      shape: its shape, rows first.
      offset: bytes of the file before it.
    """

    kind: int
    shape: tuple[int, ...]
    offset: int


class Gguf(NamedTuple):
    """What the beginning of a file says.

    Attributes:
      file: the file.
      size: its bytes.
      metadata: values by key, such as "llama.block_count": numbers, strings, and lists of them.
      tensors: places of tensors, by their names in llama.cpp.
    """

    file: pathlib.Path
    size: int
    metadata: dict[str, Any]
    tensors: dict[str, Place]


def find_gguf(path: str | pathlib.Path) -> pathlib.Path | None:
    """Returns the GGUF file that a path means: itself, or the only one of a folder without `config.json`; None if it means none.

    Args:
      path: path to a file or a folder.

    Raises:
      ArlError: if the file does not exist, or the folder has several.
    """
    path = pathlib.Path(path)
    if path.suffix == ".gguf" and not path.is_dir():
        if not path.is_file():
            raise ArlError(f"there is no file {str(path)!r}; give the path to a GGUF file")
        return path
    files = [] if (path / "config.json").exists() else sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise ArlError(f"{str(path)!r} holds {len(files)} GGUF files; give the path to one of them, such as {files[0].name}")
    return files[0] if files else None


def read_gguf(file: pathlib.Path) -> Gguf:
    """Returns what the beginning of a GGUF file says.

    Args:
      file: the file.

    Raises:
      ArlError: if it is no GGUF file, damaged, truncated, or one of several parts.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        take = _taker(stream, size)
        try:
            if take(4) != b"GGUF":
                raise ArlError(f"{file.name} is no GGUF file; copy it again")
            version, num_tensors, num_values = struct.unpack("<IQQ", take(20))
            if version not in _VERSIONS:
                raise ArlError(f"{file.name} is of version {version} of GGUF; convert it to version {_VERSIONS[-1]}, little-endian")
            metadata = {_string(take): _value(take, _number(take, "I")) for _ in range(num_values)}
            if metadata.get("split.count", 1) > 1:
                raise ArlError(f"{file.name} is one of {metadata['split.count']} parts; join them by llama.cpp's gguf-split --merge")
            found = {_string(take): _place(take) for _ in range(num_tensors)}
            alignment = metadata.get("general.alignment", _ALIGNMENT)
            start = -(-stream.tell() // alignment) * alignment
        except (EOFError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            if isinstance(error, ArlError):
                raise
            raise damaged(file, size) from None
    tensors = {name: place._replace(offset=start + place.offset) for name, place in found.items()}
    return Gguf(file, size, metadata, tensors)


def damaged(file: pathlib.Path, size: int) -> ArlError:
    """Returns the error for a file of `size` bytes that is not what its beginning says."""
    return ArlError(f"{file.name} is damaged or truncated at {size} bytes; copy it again")


def _taker(stream: Any, size: int) -> Callable[[int], bytes]:
    """Returns `count -> bytes`, the next ones of a file of `size` bytes; `EOFError` if there are not so many."""
    left = size

    def take(count):
        nonlocal left
        left -= count
        if left < 0:
            raise EOFError
        return stream.read(count)

    return take


def _number(take: Callable[[int], bytes], form: str) -> Any:
    return struct.unpack("<" + form, take(struct.calcsize("<" + form)))[0]


def _string(take: Callable[[int], bytes]) -> str:
    return take(_number(take, "Q")).decode()


def _value(take: Callable[[int], bytes], kind: int) -> Any:
    if kind == _STRING:
        return _string(take)
    if kind == _ARRAY:
        kind, count = _number(take, "I"), _number(take, "Q")
        if kind == _STRING:
            return [_string(take) for _ in range(count)]
        form = np.dtype("<" + _NUMBERS[kind])
        return np.frombuffer(take(count * form.itemsize), form).tolist()
    value = _number(take, _NUMBERS[kind])
    return float(str(np.float32(value))) if kind == _FLOAT else value  # 1e-5, not the double that is nearest to its float


def _place(take: Callable[[int], bytes]) -> Place:
    axes = _number(take, "I")
    if axes > _MOST_AXES:
        raise ValueError(axes)
    shape = tuple(_number(take, "Q") for _ in range(axes))
    kind, offset = _number(take, "I"), _number(take, "Q")
    return Place(kind, shape[::-1], offset)
