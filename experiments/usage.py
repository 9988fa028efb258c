"""The part of `--help` about configs: presets, and fields with their defaults, all read from the code."""

import dataclasses
import functools
import inspect
import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from arl.agents import Layer, Memory
from arl.training import Schedule
from experiments.config import Config
from experiments.fields import all_fields, descriptions, example, first_sentence
from experiments.parts import OURS, write
from experiments.presets import PRESETS

LEFT = 46  # columns of names
EXAMPLES = ("learner.num_updates", "environment", "agent", "learner.learning_rate", "rollout.widths", "learner.rules")


def usage() -> str:
    """Returns presets, parts and config fields with their descriptions, as wide as the terminal, but 100 to 140 columns."""
    width = min(max(shutil.get_terminal_size((120, 24)).columns, 100), 140)
    environments = {name: part for name, part in OURS.items() if hasattr(part, "make")}
    layers = {name: part for name, part in OURS.items() if issubclass(part, Layer) and part is not Layer}
    memories = {name: part for name, part in OURS.items() if issubclass(part, Memory) and part is not Memory}
    sections = {
        "Presets, --preset=NAME": _presets(),
        "Environments, --config.environment='NAME(FIELD=VALUE)'; fields, --config.environment.FIELD=VALUE": _parts(environments),
        "Layers, --config.agent='act(), NAME(FIELD=VALUE)'; fields, --config.agent.NAME.FIELD=VALUE": _parts(layers),
        "Memories of attempts": _parts(memories),
        **_fields(Config()),
        "A schedule": {f"NAME.{name}={getattr(Schedule(), name)}": about for name, about in descriptions(Schedule).items()},
    }
    lines = [line for title, items in sections.items() for line in ("", f"{title}:", *_table(items, width))]
    others = "Environments and layers of your own are written as my_package.module:NAME(FIELD=VALUE)."
    return "\n".join([*lines, "", others, "Values are written as in", *(f"  {example(Config(), name)}" for name in EXAMPLES)])


def _parts(parts: dict[str, type]) -> dict[str, str]:
    """Returns the description of each part, and of its fields with their defaults."""
    said = {}
    for name, part in parts.items():
        said[name] = first_sentence(inspect.getdoc(part) or "")
        about = descriptions(part)
        for field in dataclasses.fields(part):
            if not field.kw_only:
                default = "" if field.default is dataclasses.MISSING else f"={_shown(field.default)}"
                said[f"  {name}.{field.name}{default}"] = first_sentence(about[field.name])
    return said


def _shown(value: Any) -> str:
    return write([value]) if dataclasses.is_dataclass(value) else repr(value)


def _presets() -> dict[str, str]:
    """Returns the description of each preset: the first sentence of its docstring, or its difference from an earlier preset."""
    presets: dict[str, str] = {}
    seen: dict[Callable, tuple[str, dict[str, Any]]] = {}
    for name, make in PRESETS.items():
        made = functools.partial(make)
        bound = inspect.signature(made.func).bind(*made.args, **made.keywords)
        bound.apply_defaults()
        first, arguments = seen.setdefault(made.func, (name, bound.arguments))
        changed = ", ".join(f"{key}={value!r}" for key, value in bound.arguments.items() if value != arguments[key])
        presets[name] = f"{first} with {changed}" if changed else first_sentence(made.func.__doc__ or "")
    return presets


def _fields(config: Config) -> dict[str, dict[str, str]]:
    """Returns the config fields with their defaults and descriptions, by title of their section."""
    sections: dict[str, dict[str, str]] = {"Fields, --config.NAME=VALUE, with their values where a preset sets none": {}}
    titles = {"": next(iter(sections))}
    for field in all_fields(config, (Schedule,)):
        if field.name.startswith(("environment", "agent")):
            continue  # listed among the parts
        path = field.name.rpartition(".")[0]
        if path not in titles:
            part: Any = functools.reduce(getattr, path.split("."), config)
            titles[path] = f"{path}: {first_sentence(type(part).__doc__).rstrip('.')}"
        shown, about = f"={field.default}", first_sentence(field.about)
        if isinstance(field.default, Schedule):
            start, *others = (f"{name}={value}" for name, value in dataclasses.asdict(field.default).items())
            shown, about = f".{start}", f"{about} A schedule, with {', '.join(others)}."
        if field.name != "preset":
            sections.setdefault(titles[path], {})[field.name + shown] = about
    return sections


def _table(items: dict[str, str], width: int) -> list[str]:
    """Returns lines with names on the left and descriptions on the right."""
    lines = []
    for name, about in items.items():
        text = textwrap.wrap(about, width - LEFT, break_on_hyphens=False) or [""]
        begin = [f"  {name}"] if len(name) + 4 > LEFT else []
        first = "" if begin else f"  {name}"
        lines += [*begin, *(f"{first if not i else '':<{LEFT}}{line}" for i, line in enumerate(text))]
    return lines
