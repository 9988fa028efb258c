"""The `config.json` of a run, and whether another run owns its folder."""

import json
import pathlib

from arl.runs import folder
from arl.types import ArlError
from experiments.config import Config, from_dict, to_dict


def record(config: Config, seed: int | list[int] | None) -> dict:
    """Returns the content of a run's `config.json`."""
    return {"seed": seed, **json.loads(json.dumps(to_dict(config)))}


def read(path: pathlib.Path) -> tuple[Config, int | list[int] | None]:
    """Returns the config and the seed in the `config.json` at `path`; the seed is None if there is none."""
    values = folder.read_json(path)
    if "preset" not in values:
        raise ArlError(f"{path} is of a run of arl.train, which only the same call opens; call it again, or name another folder")
    seed = values.pop("seed", None)
    try:
        return from_dict(values), seed
    except (AttributeError, KeyError, TypeError) as error:
        raise ArlError(f"{path} is damaged ({error}); restore it, or name another folder") from error


def check(output: pathlib.Path, expected: dict) -> None:
    """Checks that a folder does not belong to another run; a field that is newer than the run has its default.

    Args:
      output: the folder; it need not exist.
      expected: content of `config.json`, as `record` returns it.

    Raises:
      ArlError: if the folder belongs to another run.
    """
    path = output / "config.json"
    folder.check(output, expected, there=record(*read(path)) if path.exists() else None)
