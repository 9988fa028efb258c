"""A decoder-only transformer of the Llama type (Touvron et al. 2023, "LLaMA", section 2.2).

RMSNorm before each branch (Zhang & Sennrich 2019), rotary embeddings (Su et al. 2021), grouped-query attention (Ainslie et al. 2023),
SwiGLU (Shazeer 2020). Reading with a cache and scoring whole trajectories differ only in where attention finds its keys.

Axes: `B` rows, `C` tokens of a row, `W` keys, `D` width, `J` key/value heads of `G` query heads each, `d` head width,
`F` feed-forward width.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from arl.models import cache as ring
from arl.models import initialise
from arl.models.config import ModelConfig
from arl.types import ArlError

_HIDDEN = -1e30  # added to the attention score of a key that is masked


class Places(NamedTuple):
    """Positions of the tokens of a call, computed once for all layers.

    Attributes:
      cos: `[B, C, 1, 1, d]`, cosines of the rotary angles, both halves.
      sin: `[B, C, 1, 1, d]`, sines of the rotary angles, the first half negated.
      bias: float32 `[B, c, w]` for each block of queries, 0 where a key is visible; one block when reading.
      lane: int32 `[B]`, lane of each row in the cache; None when scoring, or if row `b` is lane `b`.
      slot: int32 `[B, C]`, slot of each token in the cache; None when scoring.
    """

    cos: jax.Array
    sin: jax.Array
    bias: tuple[jax.Array, ...]
    lane: jax.Array | None
    slot: jax.Array | None


def rotary(config: ModelConfig, angle_index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns cosine and signed sine of the rotary angles (Su et al. 2021, eq. 34), `[B, C, 1, 1, d]` each.

    Args:
      config: config of the model.
      angle_index: int32 `[B, C]`, tokens since the start of the context.
    """
    half = config.head_width // 2
    frequency = config.rotary_base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = angle_index[..., None, None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    both = jnp.concatenate([cos, cos], -1), jnp.concatenate([-sin, sin], -1)
    return both[0].astype(config.dtype), both[1].astype(config.dtype)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Returns `x` `[..., d]` rotated by the angles of `cos` and `sin`; dimension `i` is paired with dimension `i + d / 2`."""
    return x * cos + jnp.roll(x, x.shape[-1] // 2, -1) * sin


def rms_norm(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    """Returns `x` `[..., D]` divided by its root mean square with `epsilon`, times `scale` (Zhang & Sennrich 2019, eq. 4)."""
    wide = x.astype(jnp.float32)
    return (wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), -1, keepdims=True) + epsilon) * scale).astype(x.dtype)


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns `x` `[B, C, n]` times `kernel` `[n, ...]`, whose other axes are flattened, in the dtype of `x`.

    Rows are flattened too: with two axes of rows the kernel's gradient takes up to six times as long on XLA's CPU backend.
    """
    flat = x.reshape(-1, x.shape[-1]) @ kernel.reshape(x.shape[-1], -1).astype(x.dtype)
    return flat.reshape(*x.shape[:-1], -1)


def query_blocks(config: ModelConfig, length: int) -> list[tuple[int, int, int]]:
    """Returns `(first query, end of queries, first key)` of each block of `length` tokens; the keys end where the queries end."""
    starts = range(0, length, config.query_block)
    reach = length if config.context_length is None else config.context_length - 1
    return [(start, min(start + config.query_block, length), max(0, start - reach)) for start in starts]


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array, bias: jax.Array) -> jax.Array:
    """Computes scaled dot-product attention (Vaswani et al. 2017, eq. 1), for queries that are already scaled.

    The query heads of one key/value head are rows of one product.

    Args:
      queries: `[B, J, C * G, d]`.
      keys: `[B, J, d, W]`.
      values: `[B, J, W, d]`.
      bias: float32 `[B, C, W]`.

    Returns:
      `[B, J, C * G, d]`.
    """
    scores = jnp.matmul(queries, keys, preferred_element_type=jnp.float32)
    rows, (lanes, width, slots) = scores.shape, bias.shape
    scores = scores.reshape(lanes, rows[1], width, -1, slots) + bias[:, None, :, None]
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
    total = jnp.sum(weights, -1).reshape(*rows[:-1], 1)
    mixed = jnp.matmul(weights.reshape(rows).astype(values.dtype), values, preferred_element_type=jnp.float32)
    return (mixed / total).astype(values.dtype)


class Layer(nn.Module):
    """Attention and feed-forward branches, each added to the residual stream."""

    config: ModelConfig

    def setup(self):
        c = self.config
        normal = nn.initializers.normal
        inner, attention_width = initialise.inner_deviation(c), c.num_heads * c.head_width
        # One product for queries, keys and values, and one for gate and up; heads of a group are adjacent, so that `J` can be sharded.
        self.qkv = self.param("qkv", normal(inner), (c.width, c.num_kv_heads, c.heads_per_kv_head + 2, c.head_width))
        self.out = self.param("out", normal(initialise.branch_deviation(c, attention_width)), (attention_width, c.width))
        self.gate_up = self.param("gate_up", normal(inner), (c.width, 2, c.feed_forward_width))
        self.down = self.param("down", normal(initialise.branch_deviation(c, c.feed_forward_width)), (c.feed_forward_width, c.width))
        self.attention_norm = self.param("attention_norm", nn.initializers.ones, (c.width,))
        self.feed_forward_norm = self.param("feed_forward_norm", nn.initializers.ones, (c.width,))

    def __call__(self, x: jax.Array, cache: ring.LayerCache | None, places: Places) -> tuple[jax.Array, ring.LayerCache | None]:
        """Returns the residual stream `[B, C, D]` after the layer, and the layer's cache with the tokens of this call."""
        mixed, cache = self._attention(rms_norm(x, self.attention_norm, self.config.norm_epsilon), cache, places)
        x = x + mixed
        return x + self._feed_forward(rms_norm(x, self.feed_forward_norm, self.config.norm_epsilon)), cache

    def _attention(self, x, cache, places):
        c = self.config
        (rows, width, _), kv_heads, group, d = x.shape, c.num_kv_heads, c.heads_per_kv_head, c.head_width
        qkv = product(x, self.qkv).reshape(rows, width, kv_heads, group + 2, d)
        turned = rotate(qkv[:, :, :, : group + 1], places.cos, places.sin)
        queries, keys, values = turned[:, :, :, :group] * d**-0.5, turned[:, :, :, group], qkv[:, :, :, group + 1]
        queries = queries.swapaxes(1, 2).reshape(rows, kv_heads, width * group, d)
        if cache is None:
            mixed = self._attend_in_blocks(queries, keys.transpose(0, 2, 3, 1), values.swapaxes(1, 2), places.bias)
        else:
            lane = jnp.arange(rows) if places.lane is None else places.lane
            cache = ring.write(cache, keys, values, lane, places.slot)
            seen = cache if places.lane is None else jax.tree.map(lambda a: a[places.lane], cache)
            mixed = attend(queries, seen.keys, seen.values, places.bias[0])
        mixed = mixed.reshape(rows, kv_heads, width, group * d).swapaxes(1, 2).reshape(rows, width, -1)
        return product(mixed, self.out), cache

    def _attend_in_blocks(self, queries, keys, values, bias):
        group = self.config.heads_per_kv_head
        blocks = query_blocks(self.config, values.shape[2])
        mixed = [
            attend(queries[:, :, start * group : end * group], keys[..., first:end], values[:, :, first:end], block_bias)
            for (start, end, first), block_bias in zip(blocks, bias, strict=True)
        ]
        return mixed[0] if len(mixed) == 1 else jnp.concatenate(mixed, 2)

    def _feed_forward(self, x):
        gate, up = jnp.split(product(x, self.gate_up), 2, -1)
        return product(jax.nn.silu(gate) * up, self.down)


@functools.partial(jax.jit, static_argnums=0)  # traced once for all layers, and all calls of the same shapes
def apply_layer(
    config: ModelConfig, variables: Any, x: jax.Array, cache: ring.LayerCache | None, places: Places
) -> tuple[jax.Array, ring.LayerCache | None]:
    """Applies a layer; it is recomputed for its gradient if the config says so.

    Args:
      config: config of the model.
      variables: Flax variables of the layer.
      x: `[B, C, D]`, the residual stream.
      cache: cache of the layer, or None.
      places: positions of the tokens.

    Returns:
      The residual stream after the layer, and the cache.
    """
    return _layer_type(config)(config, parent=None).apply(variables, x, cache, places)


def _layer_type(config: ModelConfig) -> Any:
    return nn.remat(Layer, prevent_cse=not config.scan_layers) if config.remat else Layer


class Trunk(nn.Module):
    """Embedding, layers and final norm."""

    config: ModelConfig

    def setup(self):
        c = self.config
        self.embedding = self.param("embedding", nn.initializers.normal(initialise.embedding_deviation(c)), (c.vocab_size, c.width))
        layer = _layer_type(c)
        if c.scan_layers:
            self.layers: Any = nn.scan(
                layer, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=(0, nn.broadcast), length=c.num_layers
            )(c)
        else:
            self.layers = [layer(c) for _ in range(c.num_layers)]
        self.norm = self.param("norm", nn.initializers.ones, (c.width,))

    def __call__(self, tokens: jax.Array, cache: Any, places: Places) -> tuple[jax.Array, Any]:
        """Returns the normalised residual stream `[B, C, D]` for tokens int32 `[B, C]`, and the cache."""
        x = self.embedding[tokens].astype(self.config.dtype)
        if self.config.scan_layers:
            x, cache = self.layers(x, cache, places)
        else:
            caches = [None] * self.config.num_layers if cache is None else cache
            written = []
            for layer, layer_cache in zip(self.layers, caches, strict=True):
                if self.is_initializing():
                    x, layer_cache = layer(x, layer_cache, places)
                else:
                    x, layer_cache = apply_layer(self.config, layer.variables, x, layer_cache, places)
                written.append(layer_cache)
            cache = None if cache is None else tuple(written)
        return rms_norm(x, self.norm, self.config.norm_epsilon), cache


class Transformer(nn.Module):
    """A trunk, and a second one if the value head has its own. It holds the heads' weights, which `policy.py` applies."""

    config: ModelConfig

    def setup(self):
        c = self.config
        self.trunk = Trunk(c)
        self.value_trunk = Trunk(c) if c.separate_value_trunk else None
        if not c.tie_embeddings:
            self.head = self.param("head", nn.initializers.normal(initialise.head_deviation(c)), (c.vocab_size, c.width))
        self.value_head = self.param("value_head", nn.initializers.normal(initialise.value_deviation(c)), (c.width,))
        if c.confidence_head:
            self.confidence_head = self.param("confidence_head", nn.initializers.normal(initialise.value_deviation(c)), (c.width,))

    def read(self, tokens, position, context_start, is_valid, cache, lane):
        """Reads tokens with a cache; arguments and results as `Policy`."""
        slots = jax.tree.leaves(cache)[0].shape[-1]
        if tokens.shape[1] > slots:
            raise ArlError(f"a call of {tokens.shape[1]} tokens per lane does not fit a cache of {slots} slots; see `num_slots`")
        held = ring.position_in_slot(position, slots)
        bias = jnp.where(held >= context_start[..., None], 0.0, _HIDDEN)
        places = Places(*rotary(self.config, position - context_start), (bias,), lane, ring.slots_of(position, is_valid, slots))
        return self._features(tokens, cache, places)

    def forward(self, tokens, context_start):
        """Scores whole trajectories; arguments and results as `Policy`."""
        index = jnp.arange(tokens.shape[1])
        bias = []
        for start, end, first in query_blocks(self.config, tokens.shape[1]):
            key, query = index[first:end], index[start:end, None]
            bias.append(jnp.where((key <= query) & (key >= context_start[:, start:end, None]), 0.0, _HIDDEN))
        return self._features(tokens, None, Places(*rotary(self.config, index - context_start), tuple(bias), None, None))[0]

    def _features(self, tokens, cache, places):
        if self.value_trunk is None:
            return self.trunk(tokens, cache, places)
        policy_cache, value_cache = (None, None) if cache is None else cache
        policy, policy_cache = self.trunk(tokens, policy_cache, places)
        value, value_cache = self.value_trunk(tokens, value_cache, places)
        return (policy, value), (policy_cache, value_cache)
