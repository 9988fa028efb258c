"""Checks of the types of what a caller gives: fields of configs, numbers, random keys."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from arl.types import ArlError

_PLAIN: dict[Any, Any] = {bool: bool | np.bool_, int: int | np.integer, float: int | float | np.integer | np.floating, str: str}
_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", type(None): "None"}
_MANY = {bool: "booleans", int: "whole numbers", float: "numbers", str: "strings"}


def check_whole(**numbers: Any) -> None:
    """Raises `ArlError` if one of the `numbers`, values by name, is not a whole number."""
    for name, value in numbers.items():
        _check(name, value, int)


def check_key(key: Any) -> None:
    """Raises `ArlError` if `key` is no typed random key."""
    if not (isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ArlError(f"the key is {key!r}; give a random key, such as jax.random.key(1)")


class Checked:
    """Base of frozen dataclasses that check their fields; a `__post_init__` of a subclass calls this one before it looks at ranges."""

    def __post_init__(self):
        check_fields(self)


def check_fields(config: Any) -> None:
    """Checks the fields of a dataclass against their types, as far as these are made of numbers, strings, dataclasses, tuples and dicts.

    A field may also have its default, and one of any other type any value.

    Args:
      config: the dataclass.

    Raises:
      ArlError: if a value is of another type.
    """
    try:
        hints = typing.get_type_hints(type(config))
    except NameError:  # of a type that is imported for type checkers alone
        return
    for field in dataclasses.fields(config):
        if (value := getattr(config, field.name)) is not field.default:
            _check(f"{type(config).__name__}.{field.name}", value, hints[field.name])


def _check(name: str, value: Any, kind: Any) -> None:
    """Raises `ArlError` if a value is not of the type `kind`; of a dict it names the entry."""
    if typing.get_origin(kind) is dict and isinstance(value, Mapping):
        for key, entry in value.items():
            _check(f"{name}.{key}", entry, typing.get_args(kind)[1])
    elif not _fits(value, kind):
        raise ArlError(f"{name} is {value!r}; set it to {_words(kind)}")


def _fits(value: Any, kind: Any) -> bool:
    """Returns whether a value is of the type `kind`; a list counts as a tuple, and any value as of a type that is not known here."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is tuple and inner:
        kinds = inner[:1] * len(value) if isinstance(value, tuple | list) and inner[-1] is Ellipsis else inner
        return isinstance(value, tuple | list) and len(kinds) == len(value) and all(map(_fits, value, kinds))
    if origin is dict:
        return isinstance(value, Mapping)
    if kind in _PLAIN:
        return isinstance(value, _PLAIN[kind]) and (kind is bool or not isinstance(value, bool))
    return isinstance(value, kind) if kind is type(None) or dataclasses.is_dataclass(kind) else True


def _words(kind: Any) -> str:
    """Returns words for a value of a type, such as "a tuple of pairs of whole numbers"."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_words, inner))
    if origin is tuple:
        return f"a tuple of {_many(inner[0])}" if inner[-1] is Ellipsis else f"a tuple of {', '.join(map(_words, inner))}"
    if origin is dict:
        return f"a dict of {_many(inner[1])} by name"
    return _WORDS.get(kind) or f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}()"


def _many(kind: Any) -> str:
    if typing.get_origin(kind) is tuple and len(set(typing.get_args(kind))) == 1:
        return f"pairs of {_many(typing.get_args(kind)[0])}"
    return _MANY.get(kind) or getattr(kind, "__name__", str(kind))
