"""Operations on `Text`, for one lane: pure, of static shape, cheap under `vmap`.

Lengths that are known when a program is traced are used then: neighbouring texts of known length are joined by one concatenation. A text
whose place is known only on the device is written by one `dynamic_update_slice`.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from arl.types import ArlError, Text


def known(length: Any) -> Any:
    """Returns a length, or lengths, as NumPy int32, which is known when a program is traced."""
    return np.asarray(length, np.int32)[()]


def constant(ids: Sequence[int]) -> Text:
    """Returns a text of given token ids, whose length is its capacity.

    Args:
      ids: token ids, `[capacity]`.
    """
    return Text(_array(np.asarray(ids, np.int32).reshape(-1)), known(len(ids)))


def empty(capacity: int) -> Text:
    """Returns a text of length 0 with room for `capacity` tokens."""
    return Text(jnp.zeros(capacity, jnp.int32), known(0))


def checked(said: Any, who: str) -> Text:
    """Returns a value after checking that it is a `Text`.

    Args:
      said: the value, which a function returned.
      who: name of the function, for the error message.

    Raises:
      ArlError: if it is not.
    """
    if not isinstance(said, Text):
        raise ArlError(f"{who} returns {type(said).__name__}, not a Text; make one with arl.text.template or arl.text.constant")
    return said


def pad(text: Text, capacity: int) -> Text:
    """Returns a text with a larger capacity, padded with zeros.

    Args:
      text: ids `[c]`, with `c <= capacity`.
      capacity: the new capacity.

    Raises:
      ArlError: if the text has a larger capacity.
    """
    if text.ids.shape[-1] > capacity:
        raise ArlError(f"a text of capacity {text.ids.shape[-1]} cannot be padded to {capacity}; make the capacity larger")
    return Text(jnp.pad(text.ids, (0, capacity - text.ids.shape[-1])), text.length)


def concatenate(*texts: Text, capacity: int | None = None) -> Text:
    """Concatenates texts.

    Args:
      *texts: texts of ids `[c_i]`.
      capacity: capacity of the result, None for the sum of theirs. A result that does not fit loses its end.

    Returns:
      `Text` of ids `[capacity]`, 0 at and beyond its length.
    """
    capacity = sum(text.ids.shape[-1] for text in texts) if capacity is None else capacity
    parts = _merge(texts)
    total = sum(part.ids.shape[-1] for part in parts)
    if not parts:
        return empty(capacity)
    if len(parts) == 1 and _static_length(parts[0]) == total <= capacity:
        return pad(parts[0], capacity)
    # `dynamic_update_slice` must not clamp a part to an earlier place, so there is room for the largest part beyond the capacity.
    room = min(total, capacity + max(part.ids.shape[-1] for part in parts))
    ids, length = jnp.pad(parts[0].ids[:room], (0, max(room - parts[0].ids.shape[-1], 0))), jnp.asarray(parts[0].length, jnp.int32)
    for part in parts[1:]:
        ids = jax.lax.dynamic_update_slice(ids, part.ids, (length,))
        length = jnp.minimum(length + part.length, capacity)
    length = jnp.minimum(length, capacity)
    ids = jnp.pad(ids[:capacity], (0, max(capacity - room, 0)))
    return Text(jnp.where(jnp.arange(capacity) < length, ids, 0), length)


def cut(text: Text, capacity: int) -> Text:
    """Returns the beginning of a text, in a given capacity.

    Args:
      text: ids `[c]`.
      capacity: capacity of the result, and its largest length.
    """
    ids = jnp.pad(text.ids[:capacity], (0, max(capacity - text.ids.shape[-1], 0)))
    return Text(ids, _minimum(text.length, capacity))


def flatten(table: Text) -> Text:
    """Concatenates the texts of a table, for one lane.

    Args:
      table: ids `[N, c]`, lengths `[N]`; it is cheapest if these are NumPy lengths of `c`.

    Returns:
      `Text` of ids `[N * c]`, 0 at and beyond its length.
    """
    num_texts, capacity = table.ids.shape
    if isinstance(table.length, np.ndarray) and (table.length == capacity).all():
        return Text(table.ids.reshape(-1), known(num_texts * capacity))
    length = jnp.asarray(table.length, jnp.int32)
    index = jnp.arange(capacity)
    begin = jnp.cumsum(length) - length
    to = jnp.where(index < length[:, None], begin[:, None] + index, num_texts * capacity)  # beyond the end: dropped
    return Text(jnp.zeros(num_texts * capacity, jnp.int32).at[to].set(table.ids, mode="drop"), jnp.sum(length))


def keep_last(text: Text, num_tokens: int) -> Text:
    """Returns the last tokens of a text.

    Args:
      text: ids `[c]`.
      num_tokens: largest number of tokens to keep.

    Returns:
      `Text` of ids `[min(num_tokens, c)]`, 0 at and beyond its length.
    """
    capacity = min(num_tokens, text.ids.shape[-1])
    start = jnp.maximum(text.length - capacity, 0)
    length = text.length - start
    ids = jax.lax.dynamic_slice(text.ids, (start,), (capacity,))
    return Text(jnp.where(jnp.arange(capacity) < length, ids, 0), length)


def only_if(condition: jax.Array | bool, text: Text) -> Text:
    """Returns a text, with length 0 if the condition, bool `[]`, is false."""
    return Text(text.ids, jnp.where(condition, text.length, 0).astype(jnp.int32))


def stack(texts: Sequence[Sequence[int]]) -> Text:
    """Returns a table of `N` texts, ids `[N, capacity]` and lengths `[N]`, for `lookup`.

    Args:
      texts: token ids of each text; at least one.

    Raises:
      ArlError: if there is no text.
    """
    if not texts:
        raise ArlError("a table of texts needs at least one text")
    table = np.zeros((len(texts), max(map(len, texts))), np.int32)
    for row, ids in zip(table, texts):
        row[: len(ids)] = ids
    return Text(_array(table), known([len(ids) for ids in texts]))


def lookup(table: Text, index: jax.Array | int) -> Text:
    """Returns texts of a table that `stack` made.

    Args:
      table: ids `[N, capacity]`, lengths `[N]`.
      index: int32 `[...]`, in `[0, N)`.

    Returns:
      `Text` of ids `[..., capacity]`, lengths `[...]`, which are known when a program is traced if all texts of the table are equally long.
    """
    ids, lengths = jnp.asarray(table.ids)[index], table.length
    if isinstance(lengths, np.ndarray) and (lengths == lengths[0]).all():
        return Text(ids, known(np.full(ids.shape[:-1], lengths[0])))
    return Text(ids, jnp.asarray(lengths)[index])


def to_string(tokenizer: Any, ids: Text | Sequence[int] | np.ndarray | jax.Array) -> str:
    """Returns the string of token ids, special tokens included, on the host.

    Args:
      tokenizer: a `transformers` fast tokenizer.
      ids: a `Text` of one lane, or token ids `[N]`.
    """
    if isinstance(ids, Text):
        ids = np.asarray(ids.ids)[: int(ids.length)]
    return tokenizer.decode(np.asarray(ids, np.int64).tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _static_length(text: Text) -> int | None:
    """Returns the length of a text if it is known when the program is traced, otherwise None."""
    return None if isinstance(text.length, Tracer) else int(text.length)


def _minimum(length: Any, bound: int) -> Any:
    return jnp.minimum(length, bound) if isinstance(length, Tracer) else np.minimum(length, bound).astype(np.int32)


def _merge(texts: Sequence[Text]) -> list[Text]:
    """Joins neighbours whose lengths are known when the program is traced, and drops those that are empty."""
    merged: list[Text] = []
    for is_static, run in itertools.groupby(texts, lambda text: _static_length(text) is not None):
        if is_static:
            ids = [text.ids[: int(text.length)] for text in run]
            joined = jnp.concatenate(ids)
            merged += [Text(joined, known(joined.shape[0]))] if joined.shape[0] else []
        else:
            merged += run
    return merged


def _array(ids: np.ndarray) -> jax.Array:
    """Returns a concrete array, even when a program is being traced, so that a cached text holds no tracer."""
    with jax.ensure_compile_time_eval():
        return jnp.asarray(ids)
