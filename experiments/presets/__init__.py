"""Presets by name, and the rows of the table of capabilities. The results of runs are in `experiments/results/`.

Each file covers one environment or capability. Its `PRESETS` are functions that return a `Config`, by name; its `ROWS` are the presets that
a row compares, the agent with the capability first.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable

from arl.types import ArlError
from experiments.config import Config
from experiments.fields import nearest

_FILES = [importlib.import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
PRESETS: dict[str, Callable[[], Config]] = {name: make for file in _FILES for name, make in getattr(file, "PRESETS", {}).items()}
ROWS: dict[str, tuple[str, ...]] = {row: arms for file in _FILES for row, arms in getattr(file, "ROWS", {}).items()}


def get_preset(name: str) -> Config:
    """Returns a preset by name, or your own by module and function, as in "my_package.presets:small".

    Raises:
      ArlError: if there is no such preset; the message names the nearest one.
    """
    module, _, function = name.partition(":")
    if function:
        try:
            make = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ArlError(f"{name} cannot be imported ({error}); put its folder on PYTHONPATH, and name a function in it") from None
    elif name in PRESETS:
        make = PRESETS[name]
    else:
        raise ArlError(f"there is no preset {name!r}; {nearest(name, PRESETS)}")
    config = make()
    if not isinstance(config, Config):
        raise ArlError(f"{name} returns a {type(config).__name__}; let it return an experiments.config.Config")
    return dataclasses.replace(config, preset=function or name)
