"""Templates: format strings with typed holes, tokenised once, then filled in on the device.

    say = template(tokenizer, "Row {row}. Doors: {doors}.\\n", row=number(0, 7), doors=subset(["left", "right"]))
    say(row=r, doors=d)  # pure, from traced values to `Text`

Every piece is tokenised where it stands, between typical neighbours. Tokenizers put the space before a word into the word's token, so a
hole takes the space before it along. Where that is not enough for some tokenizer and value, `check` says so.
"""

import dataclasses
import difflib
import itertools
import string as strings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl.text.text import concatenate, constant, flatten, lookup, only_if, pad, stack, to_string
from arl.text.tokenizer import token_ids
from arl.types import Text

Values = Mapping[str, Any]


class Piece(NamedTuple):
    """A part of a template, built.

    Attributes:
      name: what `check` calls it.
      say: from the template's values to this part's text.
      string: the same on the host.
      capacity: tokens of its longest text.
    """

    name: str
    say: Callable[[Values], Text]
    string: Callable[[Values], str]
    capacity: int


class Place(NamedTuple):
    """Where a hole stands while its template is built.

    Attributes:
      tokenizer: a fast tokenizer.
      before: what typically stands before it.
      space: " " if the hole has taken the space before it along, else "".
      after: what typically stands behind it.
    """

    tokenizer: Any
    before: str
    space: str
    after: str

    def table(self, options: Sequence[str]) -> Text:
        """Returns the tokens of each of `options` in this place, ids `[N, capacity]`, lengths `[N]`."""
        return stack([_ids_between(self.tokenizer, self.before, self.space + x, self.after) for x in options])


class Hole(NamedTuple):
    """A typed hole, not yet in its place.

    Attributes:
      example: a typical string, between which and others the neighbours are tokenised.
      build: `(name, Place) -> Piece`.
      takes_space: whether a space before it belongs to it.
      names: of the values that it takes besides its own.
    """

    example: str
    build: Callable[[str, Place], Piece]
    takes_space: bool = True
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Template:
    """A text with holes, called with their values; made by `template`.

    Attributes:
      names: of the values that it takes.
      pieces: its parts, in order.
      capacity: tokens of its longest text.
    """

    names: frozenset[str]
    pieces: tuple[Piece, ...]
    capacity: int

    def __call__(self, /, **values: Any) -> Text:
        """Returns the text, ids `[capacity]`, of values by name; pure, for one lane.

        Raises:
          ValueError: if a value is missing, or there is no hole for it.
        """
        _check_names(set(values), self.names, "value")
        return _say(self.pieces, values, self.capacity)

    def string(self, /, **values: Any) -> str:
        """Returns what the template says of `values` as a string, on the host."""
        _check_names(set(values), self.names, "value")
        return _string(self.pieces, values)


def template(tokenizer: Any, format: str, /, **holes: Hole) -> Template:
    """Returns a text whose holes are filled in on the device.

    Args:
      tokenizer: a fast tokenizer.
      format: the text, with the names of its holes in braces; a brace itself is written twice.
      **holes: what stands in each: `number`, `choice`, `subset`, `grid`, `nested` or `when`.

    Raises:
      ValueError: if the holes given are not those of the format.
    """
    pieces = _build(_parse(format, holes), Place(tokenizer, "", "", ""))
    return Template(frozenset(_names(holes)), pieces, sum(piece.capacity for piece in pieces))


# ---------------------------------------------------------------- holes


def number(low: int, high: int) -> Hole:
    """Returns a hole for an int32 `[]` from `low` to `high`, both included; one outside is shown as the nearest.

    Raises:
      ValueError: if there is no such number.
    """
    if low > high:
        raise ValueError(f"there is no number from {low} to {high}; give the smaller one first")
    return _one_of([str(i) for i in range(low, high + 1)], low)


def choice(options: Sequence[str]) -> Hole:
    """Returns a hole for one of some strings, `options`, by its index, int32 `[]`; an index outside is taken as the nearest.

    Raises:
      ValueError: if there is no option.
    """
    if not options:
        raise ValueError("a choice needs at least one option")
    return _one_of(options, 0)


def subset(options: Sequence[str], separator: str = ", ", nothing: str = "nothing") -> Hole:
    """Returns a hole for a list of the options for which a mask, bool `[len(options)]`, is true.

    Args:
      options: `N` strings.
      separator: between two of them.
      nothing: said where there is none.

    Raises:
      ValueError: if there is no option.
    """
    if not options:
        raise ValueError("a subset needs at least one option")

    def build(name: str, place: Place) -> Piece:
        behind_one = Place(place.tokenizer, place.before + place.space + options[0], "", place.after)
        first, later = _same_capacity(place.table(options), behind_one.table([separator + x for x in options]))
        none = place.table([nothing])
        capacity = max(len(options) * later.ids.shape[1], none.ids.shape[1])

        def say(values: Values) -> Text:
            is_shown = _of_shape(jnp.asarray(values[name], bool), (len(options),), name)
            is_first = is_shown & (jnp.cumsum(is_shown) == 1)
            ids = jnp.where(is_first[:, None], first.ids, later.ids)
            length = jnp.where(is_shown, jnp.where(is_first, first.length, later.length), 0)
            return concatenate(flatten(Text(ids, length)), only_if(~jnp.any(is_shown), lookup(none, 0)), capacity=capacity)

        def string(values: Values) -> str:
            return place.space + (separator.join(x for x, shown in zip(options, values[name]) if shown) or nothing)

        return Piece(name, say, string, capacity)

    return Hole(options[0], build)


def grid(rows: int, columns: int, symbols: Sequence[str], separator: str = " ") -> Hole:
    """Returns a hole for a picture, int32 `[rows, columns]` of indices of symbols, a line for each row.

    Args:
      rows: number of lines.
      columns: number of cells in a line.
      symbols: one for each index.
      separator: between two cells. Without one a tokenizer may put several cells into one token, and `check` will say so.

    Raises:
      ValueError: if there is no cell or no symbol.
    """
    if rows < 1 or columns < 1 or not symbols:
        raise ValueError(f"a grid of {rows} x {columns} cells and {len(symbols)} symbols is empty; each must be at least 1")
    line = separator.join([symbols[0]] * columns)

    def build(name: str, place: Place) -> Piece:
        head, behind = place.before + place.space, separator + symbols[0] if columns > 1 else "\n"
        top = place._replace(after=behind).table(symbols)
        left = Place(place.tokenizer, head + line, "", behind).table(["\n" + x for x in symbols])
        inner = Place(place.tokenizer, head + symbols[0], "", separator + symbols[0]).table([separator + x for x in symbols])
        capacity = top.ids.shape[1] + (rows - 1) * left.ids.shape[1] + rows * (columns - 1) * inner.ids.shape[1]

        def say(values: Values) -> Text:
            cells = _of_shape(jnp.asarray(values[name]), (rows, columns), name)
            lines = ((lookup(left if i else top, cells[i, 0]), flatten(lookup(inner, cells[i, 1:]))) for i in range(rows))
            return concatenate(*itertools.chain(*lines), capacity=capacity)

        def string(values: Values) -> str:
            return place.space + "\n".join(separator.join(symbols[int(cell)] for cell in row) for row in np.asarray(values[name]))

        return Piece(name, say, string, capacity)

    return Hole("\n".join([line] * rows), build)


def nested(capacity: int) -> Hole:
    """Returns a hole for another `Text` of at most that capacity; a space before its first word is its own."""

    def build(name: str, place: Place) -> Piece:
        return Piece(name, lambda values: pad(values[name], capacity), lambda values: to_string(place.tokenizer, values[name]), capacity)

    return Hole("", build, takes_space=False)


def when(format: str, /, **holes: Hole) -> Hole:
    """Returns a hole for a part, which may have holes itself, that is shown if a bool `[]` is true; a space before it is its own.

    The values of the part's holes are given to the template by name, like those of its own; a name that occurs twice is one value.

    Args:
      format: as in `template`.
      **holes: as in `template`.

    Raises:
      ValueError: if the holes given are not those of the format.
    """
    parts = _parse(format, holes)

    def build(name: str, place: Place) -> Piece:
        pieces = _build(parts, place)
        capacity = sum(piece.capacity for piece in pieces)
        say = lambda values: only_if(values[name], _say(pieces, values, capacity))
        return Piece(name, say, lambda values: _string(pieces, values) if values[name] else "", capacity)

    return Hole(_example(parts), build, takes_space=False, names=_names(holes))


def _of_shape(value: jax.Array, shape: tuple[int, ...], name: str) -> jax.Array:
    if value.shape != shape:
        raise ValueError(f"the value of hole {name!r} is of shape {value.shape}; give it the shape {shape}")
    return value


def _one_of(options: Sequence[str], first: int) -> Hole:
    place_of = lambda value: np.clip(value, first, first + len(options) - 1) - first

    def build(name: str, place: Place) -> Piece:
        table = place.table(options)
        say = lambda values: lookup(table, jnp.clip(values[name], first, first + len(options) - 1) - first)
        return Piece(name, say, lambda values: place.space + options[int(place_of(values[name]))], table.ids.shape[1])

    return Hole(options[0], build)


# ---------------------------------------------------------------- building

Part = str | tuple[str, Hole]


def _parse(format: str, holes: Mapping[str, Hole]) -> tuple[Part, ...]:
    """Splits a format into strings and named holes."""
    fields = list(strings.Formatter().parse(format))
    for _, name, specification, conversion in fields:
        if name is not None and (not name.isidentifier() or specification or conversion):
            raise ValueError(f"hole {name!r} of {format!r} is not a plain name; write {{name}}, and {{{{ for a brace")
    _check_names(set(holes), {name for _, name, _, _ in fields if name is not None}, "hole")
    parts: list[Part] = []
    for text, name, _, _ in fields:
        if text and parts and isinstance(parts[-1], str):  # a doubled brace ends a field
            parts[-1] += text
        elif text:
            parts.append(text)
        if name is not None:
            parts.append((name, holes[name]))
    return tuple(parts)


def _build(parts: Sequence[Part], place: Place) -> tuple[Piece, ...]:
    """Tokenises every part between its neighbours; `place` is that of them all."""
    pieces = []
    for i, part in enumerate(parts):
        before, after = place.before + _example(parts[:i]), _example(parts[i + 1 :]) + place.after
        if isinstance(part, tuple):
            space = " " if part[1].takes_space and before.endswith(" ") and i > 0 and isinstance(parts[i - 1], str) else ""
            before = before.removesuffix(space)
            pieces.append(part[1].build(part[0], Place(place.tokenizer, before, space, after)))
            continue
        following = parts[i + 1] if i + 1 < len(parts) else None
        if part.endswith(" ") and isinstance(following, tuple) and following[1].takes_space:
            part, after = part[:-1], " " + after
        if part:
            pieces.append(_literal(part, constant(_ids_between(place.tokenizer, before, part, after))))
    return tuple(pieces)


def _literal(part: str, text: Text) -> Piece:
    return Piece("", lambda values: text, lambda values: part, text.ids.shape[0])


def _example(parts: Sequence[Part]) -> str:
    return "".join(part if isinstance(part, str) else part[1].example for part in parts)


def _ids_between(tokenizer: Any, before: str, string: str, after: str) -> list[int]:
    """Token ids of a string between two others, or alone if the tokenizer does not split at its ends."""
    ids = token_ids(tokenizer, before + string + after)
    begin, end = _num_tokens(tokenizer, ids, before), _num_tokens(tokenizer, ids, before + string)
    return token_ids(tokenizer, string) if begin is None or end is None else ids[begin:end]


def _num_tokens(tokenizer: Any, ids: Sequence[int], beginning: str) -> int | None:
    """How many of the tokens spell the beginning of their text; None if a token reaches across its end."""
    guess = len(token_ids(tokenizer, beginning))
    nearest_first = sorted(range(len(ids) + 1), key=lambda count: abs(count - guess))
    return next((count for count in nearest_first if to_string(tokenizer, ids[:count]) == beginning), None)


def _same_capacity(*tables: Text) -> tuple[Text, ...]:
    capacity = max(table.ids.shape[1] for table in tables)
    return tuple(Text(jnp.pad(table.ids, ((0, 0), (0, capacity - table.ids.shape[1]))), table.length) for table in tables)


def _say(pieces: Sequence[Piece], values: Values, capacity: int) -> Text:
    return concatenate(*(piece.say(values) for piece in pieces), capacity=capacity)


def _string(pieces: Sequence[Piece], values: Values) -> str:
    return "".join(piece.string(values) for piece in pieces)


def _names(holes: Mapping[str, Hole]) -> tuple[str, ...]:
    return (*holes, *(name for hole in holes.values() for name in hole.names))


def _check_names(given: set[str], wanted: set[str] | frozenset[str], what: str) -> None:
    if missing := sorted(wanted - given):
        raise ValueError(f"there is no {what} for {', '.join(missing)}; give one for each of {', '.join(sorted(wanted))}")
    if unknown := sorted(given - wanted):
        raise ValueError(f"the format has no {', '.join(unknown)}; its holes are {', '.join(sorted(wanted)) or 'none'}")


# ---------------------------------------------------------------- where a text is not what the tokenizer says


def check(tokenizer: Any, say: Template, values: Values) -> list[str]:
    """Returns sentences that say where a template's tokens are not those of the joined string; none if they are.

    Args:
      tokenizer: that of the template.
      say: the template.
      values: one set of values, by name.
    """
    owners = [piece.name or repr(piece.string(values)) for piece in say.pieces for _ in range(int(piece.say(values).length))]
    sentences = _differences(tokenizer, say(**values), say.string(**values))
    return [f"at {owners[min(index, len(owners) - 1)]}: {sentence}" for index, sentence in sentences]


def check_text(tokenizer: Any, text: Text) -> list[str]:
    """Returns sentences that say where a text's tokens are not those that the tokenizer gives for what they spell; none if they are."""
    return [f"at token {index}: {sentence}" for index, sentence in _differences(tokenizer, text, to_string(tokenizer, text))]


def _differences(tokenizer: Any, text: Text, string: str) -> list[tuple[int, str]]:
    ours, theirs = np.asarray(text.ids)[: int(text.length)].tolist(), token_ids(tokenizer, string)
    spell = lambda ids: [to_string(tokenizer, [i]) for i in ids]
    changes = (change for change in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes() if change[0] != "equal")
    return [(i, f"{spell(ours[i:j])} is {spell(theirs[k:m])} to the tokenizer, in {string!r}") for _, i, j, k, m in changes]
