"""Templates: format strings with typed holes, tokenised once on the host and filled in on the device.

    say = template(tokenizer, "Row {row}. Doors: {doors}.\\n", row=number(0, 7), doors=subset(["left", "right"]))
    say(row=r, doors=d)  # pure, from traced values to `Text`

Every piece is tokenised in its place, between examples of its neighbours. A tokenizer may join a value with the text beside it: most put
the space before a word into the word's token, and some join a full stop with the end of the line. A hole is tokenised together with such
text. `check` reports where that is not enough for a tokenizer and value.
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
from arl.types import ArlError, Text

MOST_TAKEN = 8  # characters on either side that are tokenised with a hole


@dataclasses.dataclass(frozen=True)
class Template:
    """A text with holes, to be called with their values; made by `template`.

    Attributes:
      names: names of the values that it takes.
      pieces: its parts, in order.
      capacity: tokens of its longest text.
    """

    names: frozenset[str]
    pieces: tuple[Piece, ...]
    capacity: int

    def __call__(self, /, **values: Any) -> Text:
        """Returns the filled-in text, for one lane.

        Args:
          **values: values of the holes, by name.

        Returns:
          `Text` of ids `[capacity]`.

        Raises:
          ArlError: if a value is missing, or there is no hole for it.
        """
        _check_names(set(values), self.names, "value")
        return _say(self.pieces, values, self.capacity)

    def string(self, /, **values: Any) -> str:
        """Returns the text filled in with `values` as a string, on the host; arguments as `__call__`."""
        _check_names(set(values), self.names, "value")
        return _string(self.pieces, values)


def template(tokenizer: Any, format: str, /, **holes: Hole) -> Template:
    """Returns a text with holes that are filled in on the device.

    Args:
      tokenizer: a fast tokenizer.
      format: the text, with names of holes in braces; a literal brace is doubled.
      **holes: the holes by name: `number`, `choice`, `subset`, `grid`, `nested` or `when`.

    Returns:
      The template.

    Raises:
      ArlError: if `holes` are not those of the format.
    """
    pieces = _build(_parse(format, holes), Place(tokenizer, "", "", "", ""))
    return Template(frozenset(_names(holes)), pieces, sum(piece.capacity for piece in pieces))


def when(format: str, /, **holes: Hole) -> Hole:
    """Returns a hole for an optional part, whose value is bool `[]`, whether it is shown.

    The part includes the space before its first word. It is never tokenised with its neighbours, so the end of a line belongs to the end of
    a part. The values of its own holes are given to the template by name, too; a name that occurs twice has one value.

    Args:
      format: as in `template`.
      **holes: as in `template`.

    Returns:
      The hole.

    Raises:
      ArlError: if `holes` are not those of the format.
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
            raise ArlError(f"hole {name!r} of {format!r} is not a plain name; write {{name}}, and {{{{ for a brace")
    _check_names(set(holes), {name for _, name, _, _ in fields if name is not None}, "hole")
    parts: list[Part] = []
    for text, name, _, _ in fields:
        if text and parts and isinstance(parts[-1], str):  # a doubled brace starts a new field
            parts[-1] += text
        elif text:
            parts.append(text)
        if name is not None:
            parts.append((name, holes[name]))
    return tuple(parts)


def _build(parts: Sequence[Part], place: Place) -> tuple[Piece, ...]:
    """Tokenises the parts at `place`, each between its neighbours; literals lose what is tokenised with the holes beside them."""
    literals = {i: part for i, part in enumerate(parts) if isinstance(part, str)}
    beside = lambda i: (place.before + _example(parts[:i]), _example(parts[i + 1 :]) + place.after)
    pieces: dict[int, Piece] = {}
    begins = dict.fromkeys(literals, "")  # tokenised with the hole before it
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
    """Tokenises a hole together with the text that the tokenizer joins with it.

    Args:
      name: name of the hole.
      hole: the hole.
      tokenizer: a fast tokenizer.
      beside: examples of the text before and after the hole.
      literals: the literals before and after the hole.

    Returns:
      The piece, and the parts of the two literals that are tokenised with it.
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
        raise ArlError(f"there is no {what} for {', '.join(missing)}; give one for each of {', '.join(sorted(wanted))}")
    if unknown := sorted(given - wanted):
        raise ArlError(f"the format has no {', '.join(unknown)}; its holes are {', '.join(sorted(wanted)) or 'none'}")


# ---------------------------------------------------------------- checks


def check(tokenizer: Any, say: Template, values: Values) -> list[str]:
    """Finds where the tokens of a template differ from those of its string.

    Args:
      tokenizer: tokenizer of the template.
      say: the template.
      values: values of its holes, by name.

    Returns:
      A sentence for each difference.
    """
    owners = [piece.name or repr(piece.string(values)) for piece in say.pieces for _ in range(int(piece.say(values).length))]
    sentences = _differences(tokenizer, say(**values), say.string(**values))
    return [f"at {owners[min(index, len(owners) - 1)]}: {sentence}" for index, sentence in sentences]


def check_text(tokenizer: Any, text: Text) -> list[str]:
    """Returns a sentence for each place where the tokens of a text differ from those that the tokenizer gives its string."""
    return [f"at token {index}: {sentence}" for index, sentence in _differences(tokenizer, text, to_string(tokenizer, text))]


def _differences(tokenizer: Any, text: Text, string: str) -> list[tuple[int, str]]:
    ours, theirs = np.asarray(text.ids)[: int(text.length)].tolist(), token_ids(tokenizer, string)
    spell = lambda ids: [to_string(tokenizer, [i]) for i in ids]
    changes = (change for change in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes() if change[0] != "equal")
    return [(i, f"{spell(ours[i:j])} is {spell(theirs[k:m])} to the tokenizer, in {string!r}") for _, i, j, k, m in changes]
