"""The folder of a run: its config, its lock, and whether another run owns it."""

import fcntl
import json
import pathlib
from collections.abc import Sequence
from typing import IO, Any

from arl.types import ArlError


def check(output: pathlib.Path, record: dict[str, Any], there: dict[str, Any] | None = None) -> None:
    """Checks that a folder does not belong to another run.

    Args:
      output: the folder; it need not exist.
      record: content of the run's `config.json`. A field that the one in the folder lacks is newer than that run, and may have any value.
      there: content of the one in the folder; None reads it.

    Raises:
      ArlError: if the folder belongs to another run.
    """
    path = output / "config.json"
    if path.exists():
        if difference := first_difference(read_json(path) if there is None else there, json.loads(json.dumps(record))):
            raise ArlError(f"{output} holds a run of another config or seed ({difference}); name another output, or remove it")
    elif any((output / name).exists() for name in ("metrics.jsonl", "checkpoints", "summary.json")):
        raise ArlError(f"{output} holds parts of a run but no config.json; name another output, or remove it")


def of_seeds(output: pathlib.Path, seeds: Sequence[int]) -> list[pathlib.Path]:
    """Returns the folder of each seed in that of a run; one seed has the whole of it.

    Args:
      output: folder of the run.
      seeds: its seeds.
    """
    return [output] if len(seeds) == 1 else [output / f"seed-{seed}" for seed in seeds]


def is_finished(output: pathlib.Path, seeds: Sequence[int]) -> bool:
    """Returns whether a folder holds a run of these seeds that is finished.

    Args:
      output: folder of the run.
      seeds: its seeds.
    """
    return all((each / "summary.json").exists() for each in of_seeds(output, seeds))


def first_difference(there: Any, here: Any, name: str = "") -> str:
    """Returns the dotted name of the first field in which two configs differ, and both values; empty if they are the same.

    Args:
      there: one config, as nested dicts.
      here: the other config; fields that only it has do not count.
      name: dotted name of the part of the configs that is compared.
    """
    if not isinstance(there, dict) or not isinstance(here, dict):
        return "" if there == here else f"{name} is {there!r} there and {here!r} here"
    inner = ((there[field], here.get(field), f"{name}.{field}".lstrip(".")) for field in there)
    return next(filter(None, (first_difference(*arguments) for arguments in inner)), "")


def claim(output: pathlib.Path, record: dict[str, Any]) -> IO:
    """Makes the folder of a run, and locks it against other trainings while the returned file is open.

    Args:
      output: the folder.
      record: content of its `config.json`, which is written if there is none.

    Returns:
      The lock.

    Raises:
      ArlError: if another training writes there, or nothing can be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (output / "config.json").exists():
            write_json(output / "config.json", record)
        return lock
    except BlockingIOError as error:
        raise ArlError(f"another training is writing to {output}; wait for it, or name another output") from error
    except OSError as error:
        raise ArlError(f"cannot write to {output} ({error.strerror}); name another output") from error


def write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
    """Writes `values` to the file at `path`, as `write`."""
    write(path, json.dumps(values, indent=2) + "\n")


def write(path: pathlib.Path, text: str) -> None:
    """Writes `text` to the file at `path` atomically, since a run may be killed at any moment."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the object in the file at `path`.

    Raises:
      ArlError: if the file holds none.
    """
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ArlError(f"{path} is damaged; restore it, or name another folder")
    return values
