"""The folder of a run: its config and seed, and whether another run owns it."""

import json
import pathlib

from experiments import main
from experiments.config import Config, first_difference, from_dict, to_dict


def record(config: Config, seed: int | None) -> dict:
    """Returns the content of a run's `config.json`."""
    return {"seed": seed, **json.loads(json.dumps(to_dict(config)))}


def read(path: pathlib.Path) -> tuple[Config, int | None]:
    """Returns the config and the seed in the `config.json` at `path`; the seed is None if there is none."""
    values = main.read_json(path)
    seed = values.pop("seed", None)
    return from_dict(values), seed


def check(output: pathlib.Path, expected: dict) -> None:
    """Checks that a folder does not belong to another run.

    Args:
      output: the folder; it need not exist.
      expected: content of `config.json`, as `record` returns it.

    Raises:
      UsageError: if the folder belongs to another run.
    """
    path = output / "config.json"
    if path.exists():
        there = record(*read(path))  # a field that is newer than the run has its default
        if difference := first_difference(there, expected):
            raise main.UsageError(f"{output} holds a run of another config or seed ({difference}); name another --output, or remove it")
    elif any((output / name).exists() for name in ("metrics.jsonl", "checkpoints", "summary.json")):
        raise main.UsageError(f"{output} holds parts of a run but no config.json; name another --output, or remove it")
