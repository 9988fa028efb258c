"""Operations on `Text`, for one lane: pure, of static shape, cheap under `vmap`.

What is known when the program is built (a piece's length) is used then: pieces that follow each other at known places cost one
concatenation of constants. A piece whose place is known only on the device is written there by one `dynamic_update_slice`.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from arl.types import Text


def known(length: Any) -> Any:
    """Returns a length, or lengths, as NumPy int32: what the program that is being built can rely on."""
    return np.asarray(length, np.int32)[()]


def constant(ids: Sequence[int]) -> Text:
    """Returns the text of the given token ids, exactly as long as its capacity.

    Args:
      ids: token ids, `[capacity]`.
    """
    return Text(_array(np.asarray(ids, np.int32).reshape(-1)), known(len(ids)))


def empty(capacity: int) -> Text:
    """Returns a text without tokens that has room for `capacity` of them."""
    return Text(jnp.zeros(capacity, jnp.int32), known(0))


def checked(said: Any, who: str) -> Text:
    """Returns what a function said.

    Args:
      said: what it returned.
      who: the function, for the message.

    Raises:
      ValueError: if it is no `Text`.
    """
    if not isinstance(said, Text):
        raise ValueError(f"{who} returns {type(said).__name__}, not a Text; say it with arl.text.template or arl.text.constant")
    return said


def pad(text: Text, capacity: int) -> Text:
    """Returns the same text with more room, ids beyond its old capacity 0.

    Args:
      text: ids `[c]`, with `c <= capacity`.
      capacity: the new capacity.

    Raises:
      ValueError: if the text has more capacity than that.
    """
    if text.ids.shape[-1] > capacity:
        raise ValueError(f"a text of capacity {text.ids.shape[-1]} cannot be padded to {capacity}; make the capacity larger")
    return Text(jnp.pad(text.ids, (0, capacity - text.ids.shape[-1])), text.length)


def concatenate(*texts: Text, capacity: int | None = None) -> Text:
    """Returns the texts one after the other; ids at and beyond its length are 0.

    Args:
      *texts: the parts, ids `[c_i]`.
      capacity: of the result; None for the sum of the parts'. Less than the sum is allowed where the caller knows that the parts are
        never all full; a text that does not fit all the same loses its end.

    Returns:
      Text of ids `[capacity]`.
    """
    capacity = sum(text.ids.shape[-1] for text in texts) if capacity is None else capacity
    parts = _merge(texts)
    total = sum(part.ids.shape[-1] for part in parts)
    if not parts:
        return empty(capacity)
    if len(parts) == 1 and _static_length(parts[0]) == total <= capacity:
        return pad(parts[0], capacity)
    # No part may be moved back by the clamp of `dynamic_update_slice`: behind the capacity there is room for the largest.
    room = min(total, capacity + max(part.ids.shape[-1] for part in parts))
    ids, length = jnp.pad(parts[0].ids[:room], (0, max(room - parts[0].ids.shape[-1], 0))), jnp.asarray(parts[0].length, jnp.int32)
    for part in parts[1:]:
        ids = jax.lax.dynamic_update_slice(ids, part.ids, (length,))
        length = jnp.minimum(length + part.length, capacity)
    length = jnp.minimum(length, capacity)
    ids = jnp.pad(ids[:capacity], (0, max(capacity - room, 0)))
    return Text(jnp.where(jnp.arange(capacity) < length, ids, 0), length)


def cut(text: Text, capacity: int) -> Text:
    """Returns the beginning of a text: at most `capacity` tokens, in exactly that capacity.

    Args:
      text: ids `[c]`.
      capacity: of the result.
    """
    ids = jnp.pad(text.ids[:capacity], (0, max(capacity - text.ids.shape[-1], 0)))
    return Text(ids, _minimum(text.length, capacity))


def flatten(table: Text) -> Text:
    """Returns the `N` texts of a table one after the other, for one lane; ids at and beyond its length are 0.

    Args:
      table: ids `[N, c]`, lengths `[N]` (NumPy lengths, all `c`, cost nothing).

    Returns:
      Text of ids `[N * c]`.
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
    """Returns the last `num_tokens` tokens of a text, or all of it if it has fewer; ids at and beyond its length are 0.

    Args:
      text: ids `[c]`.
      num_tokens: how many to keep at most.

    Returns:
      Text of ids `[min(num_tokens, c)]`.
    """
    capacity = min(num_tokens, text.ids.shape[-1])
    start = jnp.maximum(text.length - capacity, 0)
    length = text.length - start
    ids = jax.lax.dynamic_slice(text.ids, (start,), (capacity,))
    return Text(jnp.where(jnp.arange(capacity) < length, ids, 0), length)


def only_if(condition: jax.Array | bool, text: Text) -> Text:
    """Returns the text, or nothing (length 0) where the condition, bool `[]`, is false."""
    return Text(text.ids, jnp.where(condition, text.length, 0).astype(jnp.int32))


def stack(texts: Sequence[Sequence[int]]) -> Text:
    """Returns `N` texts as one table, ids `[N, capacity]` and lengths `[N]`, whose rows `lookup` gives back.

    Args:
      texts: token ids of each text; at least one.

    Raises:
      ValueError: if there is no text.
    """
    if not texts:
        raise ValueError("a table of texts needs at least one text")
    table = np.zeros((len(texts), max(map(len, texts))), np.int32)
    for row, ids in zip(table, texts):
        row[: len(ids)] = ids
    return Text(_array(table), known([len(ids) for ids in texts]))


def lookup(table: Text, index: jax.Array | int) -> Text:
    """Returns one text of a table made by `stack`, or more; lengths are static where all of the table are the same.

    Args:
      table: ids `[N, capacity]`, lengths `[N]`.
      index: int32 `[...]`, in `[0, N)`.

    Returns:
      Text of ids `[..., capacity]`, lengths `[...]`.
    """
    ids, lengths = jnp.asarray(table.ids)[index], table.length
    if isinstance(lengths, np.ndarray) and (lengths == lengths[0]).all():
        return Text(ids, known(np.full(ids.shape[:-1], lengths[0])))
    return Text(ids, jnp.asarray(lengths)[index])


def to_string(tokenizer: Any, ids: Text | Sequence[int] | np.ndarray | jax.Array) -> str:
    """Returns token ids as a string for people, special tokens included; on the host.

    Args:
      tokenizer: a `transformers` fast tokenizer.
      ids: a `Text` of one lane, or token ids `[N]`.
    """
    if isinstance(ids, Text):
        ids = np.asarray(ids.ids)[: int(ids.length)]
    return tokenizer.decode(np.asarray(ids, np.int64).tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _static_length(text: Text) -> int | None:
    """The length where it is known when the program is built."""
    return None if isinstance(text.length, Tracer) else int(text.length)


def _minimum(length: Any, bound: int) -> Any:
    return jnp.minimum(length, bound) if isinstance(length, Tracer) else np.minimum(length, bound).astype(np.int32)


def _merge(texts: Sequence[Text]) -> list[Text]:
    """Joins neighbours whose lengths are known when the program is built, and drops those that are known to be empty."""
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
    """An array of its own even where a text is built while a program is traced, which must not keep it."""
    with jax.ensure_compile_time_eval():
        return jnp.asarray(ids)
