"""The ring cache: the keys and values of each lane's last tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl.models.config import ModelConfig


class LayerCache(NamedTuple):
    """Keys and values of one layer; the token at `position` of a lane lies in slot `position % W`.

    Attributes:
      keys: `[B, J, d, W]`, rotated; slots last, so that a query's product with them runs along memory.
      values: `[B, J, W, d]`.
    """

    keys: jax.Array
    values: jax.Array


def num_slots(context_length: int, width: int) -> int:
    """Returns how many slots a lane needs, `W`, so that a call never overwrites what its own tokens see.

    The last token of a call lies `width - 1` slots after the first, whose context may still be the longest. Rounded up to a multiple of 8,
    the numbers of a vector register.

    Args:
      context_length: tokens of the longest live context.
      width: `C`, tokens a lane of the widest call.

    Raises:
      ValueError: if either is below 1.
    """
    if context_length < 1 or width < 1:
        raise ValueError(f"A ring for contexts of {context_length} tokens and calls of {width} is empty; set both to 1 or more.")
    return -(-(context_length + width - 1) // 8) * 8


def empty_cache(config: ModelConfig, num_lanes: int, slots: int) -> tuple[LayerCache, ...] | LayerCache:
    """Returns a cache in which no token has been written.

    Args:
      config: of the model.
      num_lanes: `B`.
      slots: `W`, see `num_slots`.

    Returns:
      A `LayerCache` a layer; with `scan_layers` one `LayerCache` whose arrays begin with an axis of layers.

    Raises:
      ValueError: if there is no lane or no slot.
    """
    if num_lanes < 1 or slots < 1:
        raise ValueError(f"A cache of {num_lanes} lanes and {slots} slots is empty; set both to 1 or more.")
    stack = (config.num_layers,) if config.scan_layers else ()
    keys = stack + (num_lanes, config.num_kv_heads, config.head_width, slots)
    values = stack + (num_lanes, config.num_kv_heads, slots, config.head_width)

    def layer():  # arrays of its own for each layer: what shares a buffer cannot be donated
        return LayerCache(jnp.zeros(keys, config.dtype), jnp.zeros(values, config.dtype))

    return layer() if config.scan_layers else tuple(layer() for _ in range(config.num_layers))


def slots_of(position: jax.Array, is_valid: jax.Array, slots: int) -> jax.Array:
    """Returns the slot to which each token at `position` `[B, C]` is written; `slots`, which does not exist, where not `is_valid`."""
    return jnp.where(is_valid, position % slots, slots)


def write(cache: LayerCache, keys: jax.Array, values: jax.Array, lane: jax.Array, slot: jax.Array) -> LayerCache:
    """Returns the cache with the tokens of a call in it.

    Args:
      cache: of one layer, `B` lanes.
      keys: `[b, C, J, d]`.
      values: `[b, C, J, d]`.
      lane: int32 `[b]`, the lane of each row.
      slot: int32 `[b, C]`; what lies beyond the last slot is dropped.
    """
    rows = lane[:, None]
    return LayerCache(
        cache.keys.at[rows, :, :, slot].set(keys, mode="drop"),
        cache.values.at[rows, :, slot].set(values, mode="drop"),
    )


def position_in_slot(position: jax.Array, slots: int) -> jax.Array:
    """Returns the newest position, not after `position` `[...]`, that each of `slots` slots can hold: int32 `[..., W]`."""
    newest = position[..., None]
    held = newest - newest % slots + jnp.arange(slots)  # one remainder a token, not one a slot
    return jnp.where(held > newest, held - slots, held)
