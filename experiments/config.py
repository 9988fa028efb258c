"""The config of a run, and how it is read from flags."""

import ast
import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterable
from typing import Any

from arl.agents import Act, Layer
from arl.envs import NumberGuess
from arl.runs.config import TrainConfig
from arl.types import ArlError
from experiments import parts
from experiments.fields import Field, all_fields, example, field_names, nearest


@dataclasses.dataclass(frozen=True)
class ModelSizeConfig:
    """The language model.

    Attributes:
      preset: name of a preset of `arl.models`, "0.1M" to "10M".
      dtype: type of computation, "float32" or "bfloat16".
      tie_embeddings, separate_value_trunk, confidence_head, remat, scan_layers: see `arl.models.ModelConfig`.
    """

    preset: str = "0.1M"
    dtype: str = "float32"
    tie_embeddings: bool = False
    separate_value_trunk: bool = False
    confidence_head: bool = False
    remat: bool = False
    scan_layers: bool = False


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """The config of a run: a `TrainConfig`, an environment, an agent and a model.

    Attributes:
      preset: name of the preset.
      environment: environment of `arl.envs`, or another config with `make(tokenizer) -> Task`.
      agent: layers of `arl.agents` or others, from the inside out.
      model: see its class.
      warm_start, warm_start_learning_rate, checkpoint_every, evaluate_every: see `arl.runs.config.TrainConfig`.
    """

    preset: str = "reflection"
    environment: Any = NumberGuess()
    agent: tuple[Layer, ...] = (Act(),)
    model: ModelSizeConfig = ModelSizeConfig()

    def __post_init__(self):
        if not isinstance(self.agent, tuple | list):
            raise ArlError(f"Config.agent is {self.agent!r}; give a tuple of layers, as in act(), attempts(2)")
        if wrong := [layer for layer in self.agent if not isinstance(layer, Layer)]:
            raise ArlError(f"Config.agent holds {wrong[0]!r}, which is no layer; give layers, as in act(), attempts(2)")
        if not hasattr(self.environment, "make"):
            raise ArlError(f"Config.environment is {self.environment!r}; give a config with make(tokenizer), such as NumberGuess()")
        super().__post_init__()


# ---------------------------------------------------------------- to and from JSON
def to_dict(config: Config) -> dict[str, Any]:
    """Returns a config as nested dicts for JSON; environment and agent are text, in the syntax of flags."""
    plain = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    plain |= {"environment": parts.write([config.environment]), "agent": parts.write(config.agent)}
    return {name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value for name, value in plain.items()}


def from_dict(values: dict[str, Any]) -> Config:
    """Returns the config of the nested dicts of `to_dict`; a missing field has its default.

    Raises:
      ArlError: for an unknown field, a wrong type or an invalid value.
    """
    if isinstance(values.get("environment"), dict) or "expert" in values.get("rollout", {}):
        raise ArlError("this config was written by an earlier arl, which named some of its fields otherwise; make the run again")
    read = {name: _read(name, name, values[name]) for name in ("environment", "agent") if name in values}
    return parts.make(Config, {**values, **read}, "config")


# ---------------------------------------------------------------- from flags
Assignments = list[tuple[list[str], str]]
"""Pairs of what is left of a field's dotted name, and the text after its "="."""


def override(config: Config, assignments: list[str]) -> Config:
    """Returns a config with fields replaced, as in `learner.num_updates=100` or, for a layer, `agent.think.budget=8`.

    Raises:
      ArlError: for an unknown field, a wrong type or an invalid value; the message names the nearest valid choice.
    """
    split = [(name.split("."), text) for name, _, text in (assignment.partition("=") for assignment in assignments)]
    if any(path == ["preset"] for path, _ in split):
        raise ArlError("config.preset is the name of a preset; choose it by --preset")
    if any(path == ["agent"] for path, _ in split):
        config = _without_schedules_and_rules(_replaced(Config, config, [(path, text) for path, text in split if path == ["agent"]], ""))
        split = [(path, text) for path, text in split if path != ["agent"]]
    return _replaced(Config, config, split, "")


def _without_schedules_and_rules(config: Config) -> Config:
    """Returns a config without schedules that its agent does not follow and rules of what it does not write."""
    known = {name for layer in config.agent for name in layer.schedules}
    schedules = {name: schedule for name, schedule in config.learner.schedules.items() if name in known}
    written = {kind.name.lower() for layer in config.agent for kind in layer.writes}
    rules = {name: rule for name, rule in config.learner.rules.items() if name in written}
    value_rule = config.learner.value_rule if config.learner.value_rule in rules else ""
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, schedules=schedules, rules=rules, value_rule=value_rule))


def _replaced(kind: Any, value: Any, assignments: Assignments, name: str) -> Any:
    """Returns a value with inner fields replaced all at once, so that only the final value must be valid."""
    for index, (path, text) in enumerate(assignments):
        if not path:  # replaces the value, and what was set in it before
            value = _read(kind, name, text, value)
            return _replaced(kind, value, assignments[index + 1 :], name)
    if not assignments:
        return value
    inner: dict[str, Assignments] = {}
    for path, text in assignments:
        inner.setdefault(path[0], []).append((path[1:], text))
    if dataclasses.is_dataclass(value):
        hints = typing.get_type_hints(type(value))
        if unknown := [field for field in inner if field not in hints]:
            raise _unknown(name, unknown[0], hints)
        changes = {field: _replaced(hints[field], getattr(value, field), some, f"{name}.{field}") for field, some in inner.items()}
        return dataclasses.replace(value, **changes)
    if name == ".agent":
        labels = [layer.label for layer in value]
        if unknown := [label for label in inner if label not in labels]:
            raise _unknown(name, unknown[0], labels)
        return tuple(_replaced(type(layer), layer, inner.get(layer.label, []), f"{name}.{layer.label}") for layer in value)
    if isinstance(value, dict):
        return _replaced_in_dict(typing.get_args(kind)[1], value, assignments, name)
    raise ArlError(f"config{name} has no fields; set it as in {example(Config(), name[1:])}")


def _replaced_in_dict(kind: Any, values: dict[str, Any], assignments: Assignments, name: str) -> dict[str, Any]:
    """The same for a dict, whose keys are free and may contain dots ("learner.schedules.attempts.keep.start")."""
    inner: dict[str, Assignments] = {}
    for path, text in assignments:
        cut = len(path) - (dataclasses.is_dataclass(kind) and ".".join(path) not in values and len(path) > 1)
        inner.setdefault(".".join(path[:cut]), []).append((path[cut:], text))
    default = kind() if dataclasses.is_dataclass(kind) else None
    return values | {key: _replaced(kind, values.get(key, default), some, f"{name}.{key}") for key, some in inner.items()}


def _read(kind: Any, name: str, text: str, before: Any = None) -> Any:
    """Returns the value of a flag's text: a Python literal, but strings need no quotes, and tuples of words no brackets."""
    name = name.lstrip(".")
    own = next(all_fields(before, path=f"{name}."), None) if dataclasses.is_dataclass(before) else Field(name, kind, before, "")
    shown = example(Config(), name, own)
    if name == "agent":
        return parts.read(text)
    if name == "environment" or (dataclasses.is_dataclass(kind) and text.endswith(")")):
        read = parts.read(text)
        if len(read) != 1:
            raise ArlError(f"config.{name} takes one part, and {text!r} names {len(read)}; write it as in {shown}")
        return parts.checked(kind, read[0], f"config.{name}") if name != "environment" else read[0]
    if dataclasses.is_dataclass(kind):
        fields = [field.name for field in dataclasses.fields(kind)]
        raise ArlError(f"config.{name} has fields of its own; set one of {', '.join(fields)}, as in {shown}")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        value = {"true": True, "false": False}.get(text.lower(), text)
    options = {kind, *typing.get_args(kind)} if typing.get_origin(kind) in (typing.Union, types.UnionType) else {kind}
    if isinstance(value, str) and any(typing.get_origin(option) is tuple for option in options) and (str not in options or "," in value):
        words = re.split(r", *", value.removesuffix(","))
        value = tuple(words) if all(map(str.isidentifier, words)) else value
    elif str in options and not isinstance(value, str | tuple):
        value = text
    if isinstance(value, float) and not math.isfinite(value):
        raise ArlError(f"config.{name} is {value}; set it to a finite number, as in {shown}")
    try:
        return parts.checked(kind, value, f"config.{name}")
    except ArlError as error:
        raise ArlError(f"{error}, as in {shown}") from None


def _unknown(where: str, field: str, known: Iterable[str]) -> ArlError:
    meant = " or ".join(f"config.{name}" for name in fields_called(field))
    return ArlError(f"there is no field config{where}.{field}; {f'did you mean {meant}?' if meant else nearest(field, known)}")


def fields_called(name: str) -> list[str]:
    """Returns the dotted names of the config fields that end in `name`."""
    return [field for field in field_names(Config()) if f".{field}".endswith(f".{name}")]
