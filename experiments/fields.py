"""The fields of a config by dotted name: their types, defaults, descriptions and flags."""

import dataclasses
import difflib
import inspect
import pydoc
import re
import shlex
import typing
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from arl import agents, envs
from arl.agents.layer import snake_case

PARTS = {"environment": 'frozen_lake(map="8x8")', "agent": "act(), attempts(4, memory=reflection(budget=3))"}  # in the syntax of flags


PATHS = {
    "Config": "config",
    "TrainConfig": "config",
    "LearnerConfig": "learner",
    "RolloutConfig": "rollout",
    "Decoding": "rollout.decoding",
    "EvaluationConfig": "evaluation",
    "ModelConfig": "model",
    **{name: "environment" for name in vars(envs) if name[0].isupper()},
    **{name: f"agent.{snake_case(name)}" for name in vars(agents) if name[0].isupper()},
    **dict.fromkeys(("Reflection", "Window"), "agent.attempts.memory"),
}


class Field(NamedTuple):
    """A field that has no fields of its own.

    Attributes:
      name: dotted name.
      kind: type.
      default: default value.
      about: description, from the docstring of its class.
    """

    name: str
    kind: Any
    default: Any
    about: str


def nearest(name: str, choices: Iterable[str]) -> str:
    """Returns a hint for a message: the choice most similar to `name`, or all choices if none is similar."""
    choices = list(choices)
    if close := difflib.get_close_matches(name, choices, n=1, cutoff=0.5):
        return f"did you mean {close[0]}?"
    return f"choose one of {', '.join(choices)}" if choices else "there is none"


def field_names(config: Any) -> list[str]:
    """Returns the dotted names of all fields of a config that have no fields of their own."""
    return [field.name for field in all_fields(config)]


def as_flags(message: str) -> str:
    """Returns a message of the library with config fields named as flags: `learner.num_epochs` for `LearnerConfig.num_epochs`."""
    message = message.replace("name another output", "name another --output")
    paths = re.sub(r"\b([A-Z]\w+)\.(?=[a-z])", lambda match: PATHS.get(match[1], match[1]) + ".", message)
    return re.sub(r"\b[A-Z]\w+\b", lambda match: snake_case(match[0]) if match[0] in vars(agents) else match[0], paths)


def all_fields(config: Any, whole: tuple[type, ...] = (), path: str = "") -> Iterator[Field]:
    """Yields the fields of a config and of the configs in it; a config of a class in `whole` is one field."""
    hints, about = typing.get_type_hints(type(config)), descriptions(type(config))
    for field in dataclasses.fields(config):
        name, value = f"{path}{field.name}", getattr(config, field.name)
        if field.kw_only:
            continue  # `Layer.name`
        if isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
            for layer in value:
                yield from all_fields(layer, whole, f"{name}.{layer.label}.")
        elif dataclasses.is_dataclass(value) and not isinstance(value, whole):
            yield from all_fields(value, whole, f"{name}.")
        else:
            yield Field(name, hints[field.name], value, about.get(field.name, ""))


def descriptions(kind: type) -> dict[str, str]:
    """Returns the descriptions of a class's fields, from its docstring or from that of an object which it refers to."""
    own, told = _entries(kind), {}
    for field in dataclasses.fields(kind):
        there = re.match(r"see `(.+?)`", own.get(field.name, ""))
        told[field.name] = _entries(_find(there[1])).get(field.name, "") if there else own.get(field.name, "")
    return told


def first_sentence(about: str) -> str:
    """Returns the first sentence of a text, in one line."""
    return re.split(r"(?<=\.) (?=[A-Z])", " ".join(about.split()), maxsplit=1)[0]


def example(config: Any, name: str, own: Field | None = None) -> str:
    """Returns a flag that sets a field, such as `--config.learner.num_updates=400`.

    Args:
      config: config whose values are shown.
      name: dotted name of a field, of an entry of a dict, or of a config, whose first field is shown.
      own: the field of that name, if the config may not have it, as those of another environment or agent; None if it is not known.

    Returns:
      The flag as it is written in a shell; that of any field if the name is unknown.
    """
    if name in PARTS:
        return f"--config.{name}={shlex.quote(PARTS[name])}"
    known = list(all_fields(config))
    holders = (field for field in known if f"{name}.".startswith(f"{field.name}."))
    within = (field for field in known if field.name.startswith(f"{name}."))
    field = next(holders, None) or next(within, None) or own or known[-1]
    return f"--config.{field.name}{_value(field.kind, field.default, field.about)}"


def _value(kind: Any, default: Any, about: str) -> str:
    """Returns what follows a field's name in a flag, with the example words of its description."""
    words = re.findall(r'"([\w.]+)"', about)
    if typing.get_origin(kind) is dict:
        inner = typing.get_args(kind)[1]
        name = words[0] if words else "NAME"
        if not dataclasses.is_dataclass(inner):
            return f".{name}=0.05"
        number = next(field.name for field in dataclasses.fields(inner) if field.type is float)
        return f".{name}.{number}=0.5"
    if isinstance(default, bool):
        return f"={str(default).lower()}"
    return f"={shlex.quote(str(default))}"


def _entries(documented: Any) -> dict[str, str]:
    """Returns the descriptions of attributes or arguments in a docstring, by name, one line each."""
    doc = inspect.getdoc(documented) or ""
    section = re.search(r"^(?:Attributes|Args):\n((?:  .*\n?)*)", doc, flags=re.MULTILINE)
    found = re.findall(r"^  (\w[\w, ]*): (.*(?:\n {3,}.*)*)", section[1] if section else "", flags=re.MULTILINE)
    return {name: " ".join(about.split()) for names, about in found for name in names.split(", ")}


def _find(name: str) -> Any:
    return pydoc.locate(name) or pydoc.locate(f"arl.{name}")
