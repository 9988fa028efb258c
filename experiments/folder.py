"""The folder of a run: whose it is."""

import json
import pathlib

from experiments import main
from experiments.config import Config, first_difference, from_dict, to_dict


def told(config: Config, seed: int | None) -> dict:
    """Returns what a folder tells of its run, in `config.json`."""
    return {"seed": seed, **json.loads(json.dumps(to_dict(config)))}


def read(path: pathlib.Path) -> tuple[Config, int | None]:
    """Returns the config and the seed that `told` wrote to the file at `path`; None if it names no seed."""
    values = main.read_json(path)
    seed = values.pop("seed", None)
    return from_dict(values), seed


def check(output: pathlib.Path, expected: dict) -> None:
    """Refuses a folder that belongs to another run.

    Args:
      output: the folder; it need not be there.
      expected: as `told` returns it.

    Raises:
      UsageError: if it holds something else.
    """
    path = output / "config.json"
    if path.exists():
        there = told(*read(path))  # a field that is newer than the run has its default
        if difference := first_difference(there, expected):
            raise main.UsageError(f"{output} holds a run of another config or seed ({difference}); name another --output, or remove it")
    elif any((output / name).exists() for name in ("metrics.jsonl", "checkpoints", "summary.json")):
        raise main.UsageError(f"{output} holds parts of a run but no config.json; name another --output, or remove it")
