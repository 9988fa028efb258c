"""A decoder-only transformer of the Llama type (Touvron et al. 2023, "LLaMA", section 2.2).

RMSNorm before each branch (Zhang & Sennrich 2019), rotary embeddings (Su et al. 2021), grouped-query attention (Ainslie et al. 2023),
SwiGLU (Shazeer 2020). Where the config says so, biases and norms of queries and keys (Yang et al. 2025, "Qwen3 Technical Report", section
2), norms after the branches, soft caps and layers with a sliding window (Gemma Team 2024, "Gemma 2", section 2), whose rotary base may be
another (Gemma Team 2025, "Gemma 3 Technical Report", section 2). Reading with a cache and scoring whole trajectories differ only in where
attention finds its keys.

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
from arl.models.rotary import rotary, rotate
from arl.types import ArlError

_HIDDEN = -1e30  # added to the attention score of a key that is masked
_ACTIVATIONS = {"silu": jax.nn.silu, "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True)}


class Places(NamedTuple):
    """Positions of the tokens of a call, computed once for all layers of a kind, local or not.

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


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
    """Returns `cap * tanh(x / cap)` for `x` `[...]` (Bello et al. 2017, "Neural Combinatorial Optimization"); `x` if there is no cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def query_blocks(config: ModelConfig, length: int, window: int | None = None) -> list[tuple[int, int, int]]:
    """Returns `(first query, end of queries, first key)` of each block of `length` tokens; the keys end where the queries end.

    Args:
      config: config of the model.
      length: number of tokens.
      window: tokens that a query attends to at most, itself included; None for the whole context.
    """
    starts = range(0, length, config.query_block)
    reach = min([length, *(bound - 1 for bound in (config.context_length, window) if bound is not None)])
    return [(start, min(start + config.query_block, length), max(0, start - reach)) for start in starts]


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array, bias: jax.Array, cap: float | None = None) -> jax.Array:
    """Computes scaled dot-product attention (Vaswani et al. 2017, eq. 1), for queries that are already scaled.

    The query heads of one key/value head are rows of one product.

    Args:
      queries: `[B, J, C * G, d]`.
      keys: `[B, J, d, W]`.
      values: `[B, J, W, d]`.
      bias: float32 `[B, C, W]`.
      cap: soft cap of the scores; None for none.

    Returns:
      `[B, J, C * G, d]`.
    """
    scores = soft_cap(jnp.matmul(queries, keys, preferred_element_type=jnp.float32), cap)
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
        self.attention_norm = _norm_scale(self, "attention_norm", c.width)
        self.feed_forward_norm = _norm_scale(self, "feed_forward_norm", c.width)
        if c.sandwich_norm:
            self.attention_post_norm = _norm_scale(self, "attention_post_norm", c.width)
            self.feed_forward_post_norm = _norm_scale(self, "feed_forward_post_norm", c.width)
        if c.query_key_norm:
            self.query_norm = _norm_scale(self, "query_norm", c.head_width)
            self.key_norm = _norm_scale(self, "key_norm", c.head_width)
        if c.qkv_bias:
            self.qkv_bias = self.param("qkv_bias", nn.initializers.zeros, self.qkv.shape[1:])

    def __call__(self, x: jax.Array, cache: ring.LayerCache | None, places: Places) -> tuple[jax.Array, ring.LayerCache | None]:
        """Returns the residual stream `[B, C, D]` after the layer, and the layer's cache with the tokens of this call."""
        c = self.config
        mixed, cache = self._attention(_normalise(c, x, self.attention_norm), cache, places)
        x = x + (_normalise(c, mixed, self.attention_post_norm) if c.sandwich_norm else mixed)
        fed = self._feed_forward(_normalise(c, x, self.feed_forward_norm))
        return x + (_normalise(c, fed, self.feed_forward_post_norm) if c.sandwich_norm else fed), cache

    def _attention(self, x, cache, places):
        c = self.config
        (rows, width, _), kv_heads, group, d = x.shape, c.num_kv_heads, c.heads_per_kv_head, c.head_width
        qkv = product(x, self.qkv).reshape(rows, width, kv_heads, group + 2, d)
        if c.qkv_bias:
            qkv = qkv + self.qkv_bias.astype(qkv.dtype)
        turned = qkv[:, :, :, : group + 1]
        if c.query_key_norm:
            scale = jnp.concatenate([jnp.broadcast_to(self.query_norm, (group, d)), self.key_norm[None]])
            turned = _normalise(c, turned, scale)
        turned = rotate(turned, places.cos, places.sin)
        query_scale = d**-0.5 if c.query_scale is None else c.query_scale
        queries, keys, values = turned[:, :, :, :group] * query_scale, turned[:, :, :, group], qkv[:, :, :, group + 1]
        queries = queries.swapaxes(1, 2).reshape(rows, kv_heads, width * group, d)
        if cache is None:
            mixed = self._attend_in_blocks(queries, keys.transpose(0, 2, 3, 1), values.swapaxes(1, 2), places.bias)
        else:
            lane = jnp.arange(rows) if places.lane is None else places.lane
            cache = ring.write(cache, keys, values, lane, places.slot)
            seen = cache if places.lane is None else jax.tree.map(lambda a: a[places.lane], cache)
            mixed = attend(queries, seen.keys, seen.values, places.bias[0], c.attention_cap)
        mixed = mixed.reshape(rows, kv_heads, width, group * d).swapaxes(1, 2).reshape(rows, width, -1)
        return product(mixed, self.out), cache

    def _attend_in_blocks(self, queries, keys, values, bias):
        group, mixed, start = self.config.heads_per_kv_head, [], 0
        for block_bias in bias:
            end = start + block_bias.shape[1]
            first = end - block_bias.shape[2]
            rows = slice(start * group, end * group)
            mixed.append(attend(queries[:, :, rows], keys[..., first:end], values[:, :, first:end], block_bias, self.config.attention_cap))
            start = end
        return mixed[0] if len(mixed) == 1 else jnp.concatenate(mixed, 2)

    def _feed_forward(self, x):
        gate, up = jnp.split(product(x, self.gate_up), 2, -1)
        return product(_ACTIVATIONS[self.config.activation](gate) * up, self.down)


def _norm_scale(module: Any, name: str, width: int) -> jax.Array:
    """Declares the weights of a norm of a module with a config; at first, it multiplies by 1."""
    initial = nn.initializers.zeros if module.config.norm_plus_one else nn.initializers.ones
    return module.param(name, initial, (width,))


def _normalise(config: ModelConfig, x: jax.Array, scale: jax.Array) -> jax.Array:
    return rms_norm(x, 1.0 + scale if config.norm_plus_one else scale, config.norm_epsilon)


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
        self.norm = _norm_scale(self, "norm", c.width)

    def __call__(self, tokens: jax.Array, cache: Any, places: dict[bool, Places]) -> tuple[jax.Array, Any]:
        """Returns features `[B, C, D]` for tokens int32 `[B, C]`, and the cache; `places` by whether layers are local."""
        c = self.config
        x = self.embedding[tokens].astype(c.dtype)
        if c.embedding_scale != 1.0:
            x = x * jnp.asarray(c.embedding_scale, x.dtype)
        if c.scan_layers:
            x, cache = self.layers(x, cache, places[bool(c.local_layers)])
        else:
            caches = [None] * c.num_layers if cache is None else cache
            written = []
            for i, (layer, layer_cache) in enumerate(zip(self.layers, caches, strict=True)):
                there = places[i in c.local_layers]
                if self.is_initializing():
                    x, layer_cache = layer(x, layer_cache, there)
                else:
                    x, layer_cache = apply_layer(c, layer.variables, x, layer_cache, there)
                written.append(layer_cache)
            cache = None if cache is None else tuple(written)
        return _normalise(c, x, self.norm), cache


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
        held, slot = ring.position_in_slot(position, slots), ring.slots_of(position, is_valid, slots)

        def places(is_local):
            window = self.config.sliding_window if is_local else None
            oldest = context_start if window is None else jnp.maximum(context_start, position - window + 1)
            bias = jnp.where(held >= oldest[..., None], 0.0, _HIDDEN)
            return Places(*rotary(self.config, position - context_start, is_local), (bias,), lane, slot)

        return self._features(tokens, cache, places)

    def forward(self, tokens, context_start):
        """Scores whole trajectories; arguments and results as `Policy`."""
        index = jnp.arange(tokens.shape[1])

        def places(is_local):
            bias, window = [], self.config.sliding_window if is_local else None
            for start, end, first in query_blocks(self.config, tokens.shape[1], window):
                key, query = index[first:end], index[start:end, None]
                is_seen = (key <= query) & (key >= context_start[:, start:end, None])
                bias.append(jnp.where(is_seen & (key > query - window) if window is not None else is_seen, 0.0, _HIDDEN))
            return Places(*rotary(self.config, index - context_start, is_local), tuple(bias), None, None)

        return self._features(tokens, None, places)[0]

    def _features(self, tokens, cache, places_of):
        kinds = {index in self.config.local_layers for index in range(self.config.num_layers)}
        places = {is_local: places_of(is_local) for is_local in sorted(kinds)}
        if self.value_trunk is None:
            return self.trunk(tokens, cache, places)
        policy_cache, value_cache = (None, None) if cache is None else cache
        policy, policy_cache = self.trunk(tokens, policy_cache, places)
        value, value_cache = self.value_trunk(tokens, value_cache, places)
        return (policy, value), (policy_cache, value_cache)
