"""Holes of a template: numbers, choices, lists, grids and other texts, tokenised in their places when the template is built."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl.text.text import concatenate, flatten, lookup, only_if, pad, stack, to_string
from arl.text.tokenizer import token_ids
from arl.types import ArlError, Text

Values = Mapping[str, Any]


class Piece(NamedTuple):
    """A tokenised part of a template.

    Attributes:
      name: name of the part in the messages of `check`.
      say: `values -> Text`, the text of this part on the device.
      string: `values -> str`, the same on the host.
      capacity: tokens of its longest text.
      is_joined: whether the tokenizer joins any of its strings with the text before it, and with the text after it.
    """

    name: str
    say: Callable[[Values], Text]
    string: Callable[[Values], str]
    capacity: int
    is_joined: tuple[bool, bool] = (False, False)


class Table(NamedTuple):
    """Tokens of several strings in one place.

    Attributes:
      text: ids `[N, capacity]`, lengths `[N]`.
      is_joined: as in `Piece`.
    """

    text: Text
    is_joined: tuple[bool, bool]


class Place(NamedTuple):
    """The place of a hole in a template.

    Attributes:
      tokenizer: a fast tokenizer.
      before: example of the text before the hole.
      head: end of the literal before the hole that is tokenised with it.
      tail: beginning of the literal after the hole that is tokenised with it.
      after: example of the text after the hole.
    """

    tokenizer: Any
    before: str
    head: str
    tail: str
    after: str

    def table(self, options: Sequence[str]) -> Table:
        """Returns the tokens of the `N` strings `options` in this place."""
        found = [ids_between(self.tokenizer, self.before, self.head + x + self.tail, self.after) for x in options]
        joined = any(is_joined[0] for _, is_joined in found), any(is_joined[1] for _, is_joined in found)
        return Table(stack([ids for ids, _ in found]), joined)


class Hole(NamedTuple):
    """A typed hole of a template.

    Attributes:
      example: an example of its strings, with which its neighbours are tokenised.
      build: `(name, Place) -> Piece`, tokenises it in its place.
      takes_before: whether it is tokenised with the text that the tokenizer joins to its beginning.
      takes_behind: whether it is tokenised with the text that the tokenizer joins to its end.
      names: names of the values that it takes besides its own.
    """

    example: str
    build: Callable[[str, Place], Piece]
    takes_before: bool = True
    takes_behind: bool = True
    names: tuple[str, ...] = ()


def ids_between(tokenizer: Any, before: str, string: str, after: str) -> tuple[list[int], tuple[bool, bool]]:
    """Returns the token ids of a string between two others, or of the string alone if the tokenizer joins it with one of them.

    Args:
      tokenizer: a fast tokenizer.
      before: text before the string.
      string: the string to tokenise.
      after: text after the string.

    Returns:
      Token ids; and whether a token crosses the beginning of the string, and whether one crosses its end.
    """
    ids = token_ids(tokenizer, before + string + after)
    begin, end = _num_tokens(tokenizer, ids, before), _num_tokens(tokenizer, ids, before + string)
    return token_ids(tokenizer, string) if begin is None or end is None else ids[begin:end], (begin is None, end is None)


def _num_tokens(tokenizer: Any, ids: Sequence[int], beginning: str) -> int | None:
    """Returns how many of the tokens spell `beginning`, a prefix of their text; None if a token crosses its end."""
    guess = len(token_ids(tokenizer, beginning))
    nearest_first = sorted(range(len(ids) + 1), key=lambda count: abs(count - guess))
    return next((count for count in nearest_first if to_string(tokenizer, ids[:count]) == beginning), None)


def number(low: int, high: int) -> Hole:
    """Returns a hole for an integer, whose value is int32 `[]`.

    Args:
      low: smallest number; smaller ones are shown as it.
      high: largest number; larger ones are shown as it.

    Raises:
      ArlError: if there is no such number.
    """
    if low > high:
        raise ArlError(f"there is no number from {low} to {high}; give the smaller one first")
    return _one_of([str(i) for i in range(low, high + 1)], low)


def choice(options: Sequence[str]) -> Hole:
    """Returns a hole for one of several strings, whose value is the index of the string, int32 `[]`, clipped to their number.

    Args:
      options: the strings.

    Raises:
      ArlError: if there is no option.
    """
    if not options:
        raise ArlError("a choice needs at least one option")
    return _one_of(options, 0)


def subset(options: Sequence[str], separator: str = ", ", nothing: str = "nothing") -> Hole:
    """Returns a hole for a list of strings, whose value is bool `[N]`, which of them are in the list.

    Args:
      options: the `N` strings.
      separator: string between two of them.
      nothing: string for an empty list.

    Raises:
      ArlError: if there is no option.
    """
    if not options:
        raise ArlError("a subset needs at least one option")

    def build(name: str, place: Place) -> Piece:
        behind_one = Place(place.tokenizer, place.before + place.head + options[0], "", "", place.after)
        (first, joined), (none, none_joined) = place.table(options), place.table([nothing])
        first, later = _same_capacity(first, behind_one.table([separator + x for x in options]).text)
        capacity = max(len(options) * later.ids.shape[1], none.ids.shape[1])

        def say(values: Values) -> Text:
            is_shown = _of_shape(jnp.asarray(values[name], bool), (len(options),), name)
            is_first = is_shown & (jnp.cumsum(is_shown) == 1)
            ids = jnp.where(is_first[:, None], first.ids, later.ids)
            length = jnp.where(is_shown, jnp.where(is_first, first.length, later.length), 0)
            return concatenate(flatten(Text(ids, length)), only_if(~jnp.any(is_shown), lookup(none, 0)), capacity=capacity)

        def string(values: Values) -> str:
            return place.head + (separator.join(x for x, shown in zip(options, values[name]) if shown) or nothing)

        return Piece(name, say, string, capacity, (joined[0] or none_joined[0], joined[1] or none_joined[1]))

    return Hole(options[0], build, takes_behind=False)


def grid(rows: int, columns: int, symbols: Sequence[str], separator: str = " ") -> Hole:
    """Returns a hole for a grid of symbols, whose value is int32 `[rows, columns]`, indices of the symbols.

    Args:
      rows: number of lines.
      columns: number of cells in a line.
      symbols: the string of each index.
      separator: string between two cells. Without one a tokenizer may join cells, which `check` reports.

    Raises:
      ArlError: if there is no cell or no symbol.
    """
    if rows < 1 or columns < 1 or not symbols:
        raise ArlError(f"a grid of {rows} x {columns} cells and {len(symbols)} symbols is empty; each must be at least 1")
    line = separator.join([symbols[0]] * columns)
    spans = [(0, 1), (1, columns - 1), (columns - 1, columns)] if columns > 1 else [(0, 1)]

    def build(name: str, place: Place) -> Piece:
        @functools.cache
        def table(is_first: bool, begins: bool, ends: bool, is_last: bool) -> Table:
            """Returns the tokens of a cell that is first or last in its line or grid; a newline goes with the cell before it."""
            head = place.head if is_first else "" if begins else separator
            before = "" if is_first else place.head + (line + "\n" if begins else symbols[0])
            tail, after = ("", separator + symbols[0]) if not ends else (place.tail, place.after) if is_last else ("\n", symbols[0])
            return Place(place.tokenizer, place.before + before, head, tail, after).table(symbols)

        parts = [
            (table(not (i or begin), not begin, end == columns, end == columns and i == rows - 1), i, slice(begin, end))
            for i in range(rows)
            for begin, end in spans
            if begin < end
        ]
        capacity = sum((part.stop - part.start) * cell.text.ids.shape[1] for cell, _, part in parts)

        def say(values: Values) -> Text:
            cells = _of_shape(jnp.asarray(values[name]), (rows, columns), name)
            return concatenate(*(flatten(lookup(cell.text, cells[i, part])) for cell, i, part in parts), capacity=capacity)

        def string(values: Values) -> str:
            lines = (separator.join(symbols[int(cell)] for cell in row) for row in np.asarray(values[name]))
            return place.head + "\n".join(lines) + place.tail

        return Piece(name, say, string, capacity, (parts[0][0].is_joined[0], parts[-1][0].is_joined[1]))

    return Hole("\n".join([line] * rows), build)


def nested(capacity: int) -> Hole:
    """Returns a hole for another text, whose value is `Text`, including the space before its first word.

    Args:
      capacity: largest capacity of that text.
    """

    def build(name: str, place: Place) -> Piece:
        return Piece(name, lambda values: pad(values[name], capacity), lambda values: to_string(place.tokenizer, values[name]), capacity)

    return Hole("", build, takes_before=False, takes_behind=False)


def _of_shape(value: jax.Array, shape: tuple[int, ...], name: str) -> jax.Array:
    if value.shape != shape:
        raise ArlError(f"the value of hole {name!r} is of shape {value.shape}; give it the shape {shape}")
    return value


def _one_of(options: Sequence[str], first: int) -> Hole:
    place_of = lambda value: np.clip(value, first, first + len(options) - 1) - first

    def build(name: str, place: Place) -> Piece:
        table, is_joined = place.table(options)
        say = lambda values: lookup(table, jnp.clip(values[name], first, first + len(options) - 1) - first)
        string = lambda values: place.head + options[int(place_of(values[name]))] + place.tail
        return Piece(name, say, string, table.ids.shape[1], is_joined)

    return Hole(options[0], build)


def _same_capacity(*tables: Text) -> tuple[Text, ...]:
    capacity = max(table.ids.shape[1] for table in tables)
    return tuple(Text(jnp.pad(table.ids, ((0, 0), (0, capacity - table.ids.shape[1]))), table.length) for table in tables)
