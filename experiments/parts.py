"""Environments, layers and memories by name (*parts*), those of `arl` and your own, written as in Python.

frozen_lake(map="8x8")    my_package.envs:Hanoi(num_discs=3)    act(), my_package.vote:Vote(3), attempts(4, memory=reflection(budget=3))
"""

import ast
import dataclasses
import importlib
import re
import types
import typing
from collections.abc import Iterable
from typing import Any

from arl import agents, envs
from arl.agents.layer import snake_case
from arl.types import ArlError
from experiments.fields import nearest

OURS = {
    snake_case(name): part
    for package in (envs, agents)
    for name, part in vars(package).items()
    if isinstance(part, type) and dataclasses.is_dataclass(part)
}


def read(words: str) -> tuple[Any, ...]:
    """Returns the parts in a text, which are separated by commas; raises `ArlError` if it cannot be read."""
    if path := re.search(r"([\w./]+)\.py:(\w+)", words):
        module = path[1].strip("./").replace("/", ".")
        raise ArlError(f"{path[0]} names a file; write {module}:{path[2]}, the name of its module, and put its folder on PYTHONPATH")
    dotted = re.sub(r"\b([A-Za-z_][\w.]*):([A-Za-z_]\w*)(?=\()", r"\1.\2", words)
    try:
        tree = typing.cast(ast.Tuple, ast.parse(f"({dotted},)", mode="eval").body)
    except SyntaxError:
        raise ArlError(f"{words!r} cannot be read; write parts as in act(), attempts(2)") from None
    return tuple(make(_find(node.id), {}) if isinstance(node, ast.Name) else _value(node, words) for node in tree.elts)


def _value(node: ast.AST, words: str) -> Any:
    if isinstance(node, ast.Name) and snake_case(node.id) in OURS:
        return make(OURS[snake_case(node.id)], {})
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(each, words) for each in node.elts)
    if not isinstance(node, ast.Call):
        try:
            return ast.literal_eval(typing.cast(ast.expr, node))
        except ValueError:
            raise ArlError(
                f"{ast.unparse(node)} in {words!r} is neither a part nor a value; write a number, True, None, or a string in quotes"
            ) from None
    part = _find(ast.unparse(node.func))
    names = [field.name for field in dataclasses.fields(part) if field.init and not field.kw_only]
    if len(node.args) > len(names):
        raise ArlError(f"{snake_case(part.__name__)} has {len(names)} fields ({', '.join(names)}), and {len(node.args)} values are given")
    given = {**dict(zip(names, node.args, strict=False)), **{str(keyword.arg): keyword.value for keyword in node.keywords}}
    return make(part, {name: _field_value(part, name, argument, words) for name, argument in given.items()})


def _field_value(part: type, name: str, node: ast.AST, words: str) -> Any:
    """Returns the value of a part's field; a word that is neither a part nor a value is answered with the type of the field."""
    kind = typing.get_type_hints(part).get(name, Any)
    if isinstance(node, ast.Name) and kind in (int, float, bool):
        return checked(kind, node.id, f"{snake_case(part.__name__)}.{name}")
    return _value(node, words)


def make(part: type, values: dict[str, Any], name: str = "") -> Any:
    """Returns a part with some of its fields set; raises `ArlError` for an unknown or missing field, or a wrong value.

    Args:
      part: class of the part, or of another config.
      values: values of the fields; those of a config may be a dict.
      name: name of the part in messages; by default that of its class.
    """
    name, hints = name or snake_case(part.__name__), typing.get_type_hints(part)
    fields = {field.name: field for field in dataclasses.fields(part)}
    for field in values:
        if field not in fields:
            raise ArlError(f"{name} has no field {field}; {nearest(field, fields)}")
    for field in fields.values():
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and field.name not in values:
            raise ArlError(f"{name} needs {field.name}; write it as in {name}({field.name}=...)")
    return part(**{field: checked(hints[field], value, f"{name}.{field}") for field, value in values.items()})


def checked(kind: Any, value: Any, name: str) -> Any:
    """Returns a value as type `kind`; raises `ArlError` if it does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return make(typing.cast(type, kind), value, name)
    if origin in (typing.Union, types.UnionType):
        if float in arguments and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        fits = [option for option in arguments if isinstance(value, tuple | list if typing.get_origin(option) is tuple else option)]
        if fits:
            return checked(fits[0], value, name)
    elif origin is dict and isinstance(value, dict):
        return {key: checked(arguments[1], part, f"{name}.{key}") for key, part in value.items()}
    elif origin is tuple and isinstance(value, tuple | list):
        if arguments[-1] is Ellipsis or len(arguments) == len(value):
            inner = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
            return tuple(checked(option, part, name) for option, part in zip(inner, value, strict=True))
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ArlError(f"{name} is {value!r}; it takes a value of type {getattr(kind, '__name__', kind) if not origin else kind}")


def _find(name: str) -> type:
    """Returns the class of a part by its name, in camel or snake case, or by the names of its module and class."""
    module, _, last = name.rpartition(".")
    if not module:
        if snake_case(name) not in OURS:
            hint = nearest(snake_case(name), OURS)
            hint += "" if hint.endswith("?") else "."
            raise ArlError(f"there is no part {name}; {hint} One of your own is written my_package.module:{name}(...)")
        return OURS[snake_case(name)]
    try:
        found = getattr(importlib.import_module(module), last)
    except (ImportError, AttributeError) as error:
        raise ArlError(f"{module}:{last} cannot be imported ({error}); put its folder on PYTHONPATH, and name a class in it") from None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ArlError(f"{module}:{last} is no dataclass; name the config of an environment or of a layer")
    return found


def write(parts: Iterable[Any]) -> str:
    """Returns parts as text for `read`, with all of their fields."""
    return ", ".join(map(_written, parts))


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    kind = type(value)
    name = snake_case(kind.__name__)
    fields = (field.name for field in dataclasses.fields(value) if getattr(value, field.name) != "" or field.name != "name")
    shown = ", ".join(f"{field}={_written(getattr(value, field))}" for field in fields)
    return f"{name if OURS.get(name) is kind else f'{kind.__module__}:{kind.__qualname__}'}({shown})"
