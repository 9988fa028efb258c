"""The KV cache: a ring buffer of the keys and values of each lane's last tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl.models.config import ModelConfig
from arl.types import ArlError


class LayerCache(NamedTuple):
    """Keys and values of one layer; the token at `position` of a lane is in slot `position % W`.

    Attributes:
      keys: `[B, J, d, W]`, rotated. Slots are the last axis, so that a query's product with them is contiguous in memory.
      values: `[B, J, W, d]`.
    """

    keys: jax.Array
    values: jax.Array


def num_slots(context_length: int, width: int) -> int:
    """Returns the number of slots `W` with which no call overwrites tokens that it attends to.

    The last token of a call is `width - 1` slots after the first, whose context may be the longest. The number is rounded up to a multiple
    of 8, the size of a vector register.

    Args:
      context_length: tokens of the longest context.
      width: `C`, tokens per lane of the widest call.

    Returns:
      Slots per lane.

    Raises:
      ArlError: if either is below 1.
    """
    if context_length < 1 or width < 1:
        raise ArlError(f"context_length is {context_length} and width {width}; set both >= 1")
    return -(-(context_length + width - 1) // 8) * 8


def empty_cache(config: ModelConfig, num_lanes: int, slots: int) -> tuple[LayerCache, ...] | LayerCache:
    """Returns an empty cache.

    Args:
      config: config of the model.
      num_lanes: `B`, number of lanes.
      slots: `W`, slots per lane, see `num_slots`.

    Returns:
      A `LayerCache` for each layer; with `scan_layers` one `LayerCache` with a leading axis of layers.

    Raises:
      ArlError: if `num_lanes` or `slots` is below 1.
    """
    if num_lanes < 1 or slots < 1:
        raise ArlError(f"num_lanes is {num_lanes} and slots {slots}; set both >= 1")
    stack = (config.num_layers,) if config.scan_layers else ()
    keys = stack + (num_lanes, config.num_kv_heads, config.head_width, slots)
    values = stack + (num_lanes, config.num_kv_heads, slots, config.head_width)

    def layer():  # separate arrays for each layer: a shared buffer cannot be donated
        return LayerCache(jnp.zeros(keys, config.dtype), jnp.zeros(values, config.dtype))

    return layer() if config.scan_layers else tuple(layer() for _ in range(config.num_layers))


def slots_of(position: jax.Array, is_valid: jax.Array, slots: int) -> jax.Array:
    """Returns the slot of each token at `position` `[B, C]`, int32 `[B, C]`; where not `is_valid`, `slots`, which is out of range."""
    return jnp.where(is_valid, position % slots, slots)


def write(cache: LayerCache, keys: jax.Array, values: jax.Array, lane: jax.Array, slot: jax.Array) -> LayerCache:
    """Returns the cache with the tokens of a call written to it.

    Args:
      cache: cache of one layer, of `B` lanes.
      keys: `[b, C, J, d]`.
      values: `[b, C, J, d]`.
      lane: int32 `[b]`, lane of each row.
      slot: int32 `[b, C]`, slot of each token; one that is out of range is dropped.

    Returns:
      The cache.
    """
    rows = lane[:, None]
    return LayerCache(
        cache.keys.at[rows, :, :, slot].set(keys, mode="drop"),
        cache.values.at[rows, :, slot].set(values, mode="drop"),
    )


def position_in_slot(position: jax.Array, slots: int) -> jax.Array:
    """Returns the newest position up to `position` `[...]` that each of `slots` slots can hold, int32 `[..., W]`."""
    newest = position[..., None]
    held = newest - newest % slots + jnp.arange(slots)  # one remainder per token, not per slot
    return jnp.where(held > newest, held - slots, held)
