"""Templates: format strings with typed holes, tokenised once, then filled in on the device.

    say = template(tokenizer, "Row {row}. Doors: {doors}.\\n", row=number(0, 7), doors=subset(["left", "right"]))
    say(row=r, doors=d)  # pure, from traced values to `Text`

Every piece is tokenised where it stands, between typical neighbours. Tokenizers put the space before a word into the word's token, so a
hole takes the space before it along, and whatever else of the text beside it the tokenizer joins with one of its values: for some a full
stop and the end of the line are one token. Where that is not enough for some tokenizer and value, `check` says so.
"""

import dataclasses
import difflib
import string as strings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arl.text.holes import Hole, Piece, Place, Values, ids_between
from arl.text.text import concatenate, constant, only_if, to_string
from arl.text.tokenizer import token_ids
from arl.types import Text

MOST_TAKEN = 8  # characters on either side that a hole takes along


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
    pieces = _build(_parse(format, holes), Place(tokenizer, "", "", "", ""))
    return Template(frozenset(_names(holes)), pieces, sum(piece.capacity for piece in pieces))


def when(format: str, /, **holes: Hole) -> Hole:
    """Returns a hole for a part, which may have holes itself, that is shown if a bool `[]` is true; a space before it is its own.

    Nothing of it is taken along by what stands beside it: a line's end belongs to the end of a part, not to its beginning.
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

    return Hole(_example(parts), build, takes_before=False, takes_behind=False, names=_names(holes))


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
    """Tokenises every part between its neighbours; `place` is that of them all. A literal is what the holes beside it leave of it."""
    literals = {i: part for i, part in enumerate(parts) if isinstance(part, str)}
    beside = lambda i: (place.before + _example(parts[:i]), _example(parts[i + 1 :]) + place.after)
    pieces: dict[int, Piece] = {}
    begins = dict.fromkeys(literals, "")  # taken along by the hole before it
    for i, part in enumerate(parts):
        if isinstance(part, tuple):
            before, behind = literals.get(i - 1, ""), literals.get(i + 1, "")
            pieces[i], head, tail = _fit(*part, place.tokenizer, beside(i), (before, behind))
            if head:
                literals[i - 1] = before.removesuffix(head)
            if tail:
                literals[i + 1], begins[i + 1] = behind.removeprefix(tail), tail
    for i, literal in literals.items():
        if literal:
            end = _example(parts[i : i + 1]).removeprefix(begins[i] + literal)
            before, behind = beside(i)
            ids, _ = ids_between(place.tokenizer, before + begins[i], literal, end + behind)
            pieces[i] = _literal(literal, constant(ids))
    return tuple(pieces[i] for i in sorted(pieces))


def _fit(name: str, hole: Hole, tokenizer: Any, beside: tuple[str, str], literals: tuple[str, str]) -> tuple[Piece, str, str]:
    """Builds a hole that takes along what the tokenizer joins with it.

    Args:
      name, hole, tokenizer: as they are.
      beside: what typically stands before and behind the hole.
      literals: how that ends, and begins, of which the hole may take.

    Returns:
      The piece, and what of the literals it has taken.
    """
    most = [min(len(x), MOST_TAKEN) * takes for x, takes in zip(literals, (hole.takes_before, hole.takes_behind), strict=True)]
    num_before, num_behind = int(hole.takes_before and literals[0].endswith(" ")), 0
    while True:
        head, tail = literals[0][len(literals[0]) - num_before :], literals[1][:num_behind]
        piece = hole.build(name, Place(tokenizer, beside[0].removesuffix(head), head, tail, beside[1].removeprefix(tail)))
        if piece.is_joined[0] and num_before < most[0]:
            num_before += 1
        elif piece.is_joined[1] and num_behind < most[1]:
            num_behind += 1
        else:
            return piece, head, tail


def _literal(part: str, text: Text) -> Piece:
    return Piece("", lambda values: text, lambda values: part, text.ids.shape[0])


def _example(parts: Sequence[Part]) -> str:
    return "".join(part if isinstance(part, str) else part[1].example for part in parts)


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
