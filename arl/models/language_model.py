"""The interface of language models, and the transformer behind it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl.models import cache as ring
from arl.models.config import ModelConfig
from arl.models.transformer import Transformer
from arl.types import ArlError


class LanguageModel(NamedTuple):
    """A model as pure functions of its parameters; `features` is a pytree of arrays `[B, C, ...]` for `C` tokens per lane.

    Attributes:
      init: `key -> params`.
      empty_cache: `(num_lanes, num_slots) -> cache`, a ring of slots for each lane.
      read: `(params, tokens [B, C], position [B, C], context_start [B, C], is_valid [B, C], cache, lane [B] or None) -> (features, cache)`.
        Row `b` belongs to lane `lane[b]`, or to lane `b` if None. Each token attends to the positions `[context_start, position]` of the
        trajectory of its lane. Tokens that are not valid are not written to the cache.
      score: `(params, tokens [B, T], context_start [B, T]) -> features`, the same for whole trajectories, without a cache.
      logits: `(params, features, candidates [U]) -> float32 [..., U]`, for the tokens in `candidates`.
      value: `(params, features) -> float32 [...]`, in the units of the scaled reward.
      context_length: tokens of the longest context that it can score; None for any.
    """

    init: Callable[[jax.Array], Any]
    empty_cache: Callable[[int, int], Any]
    read: Callable[..., tuple[Any, Any]]
    score: Callable[[Any, jax.Array, jax.Array], Any]
    logits: Callable[[Any, Any, jax.Array], jax.Array]
    value: Callable[[Any, Any], jax.Array]
    context_length: int | None = None


def make_language_model(config: ModelConfig) -> LanguageModel:
    """Returns a transformer.

    Its features are `[B, C, D]` of `config.dtype`; with `separate_value_trunk` a pair of such arrays, for the output head and the value
    head. All tokens of a context must have the same `context_start`, and no context may be longer than `config.context_length`.

    Args:
      config: config of the model.

    Returns:
      The model.
    """
    module = Transformer(config)

    @jax.jit  # the bits are then the same whether or not the caller compiles it
    def init(key):
        tokens = jnp.zeros((1, 1), jnp.int32)
        return module.init(key, tokens, tokens, method="score")["params"]

    def empty_cache(num_lanes, num_slots):
        num_trunks = 2 if config.separate_value_trunk else 1
        caches = tuple(ring.empty_cache(config, num_lanes, num_slots) for _ in range(num_trunks))
        return caches if config.separate_value_trunk else caches[0]

    def read(params, tokens, position, context_start, is_valid, cache, lane=None):
        return module.apply({"params": params}, tokens, position, context_start, is_valid, cache, lane, method="read")

    def score(params, tokens, context_start):
        return module.apply({"params": params}, tokens, context_start, method="score")

    def logits(params, features, candidates):
        table = params["trunk"]["embedding"] if config.tie_embeddings else params["head"]
        hidden = features[0] if config.separate_value_trunk else features
        rows = hidden.reshape(-1, config.width)  # flattened for a faster gradient, see `transformer.product`
        scores = jnp.matmul(rows, _rows(table, candidates).astype(hidden.dtype).T, preferred_element_type=jnp.float32)
        return scores.reshape(*hidden.shape[:-1], -1)

    def value(params, features):
        hidden = features[1] if config.separate_value_trunk else features
        return jnp.matmul(hidden.astype(jnp.float32), params["value_head"])

    return LanguageModel(init, empty_cache, read, score, logits, value, config.context_length)


def _rows(table: jax.Array, candidates: np.ndarray | jax.Array) -> jax.Array:
    """Returns the rows of `table` `[V, D]` at `candidates` `[U]`; without a gather if they are the first rows in order."""
    if isinstance(candidates, np.ndarray):
        if candidates.size and not 0 <= candidates.min() <= candidates.max() < len(table):
            raise ArlError(
                f"candidates are outside a vocabulary of {len(table)} tokens; set ModelConfig.vocab_size to that of the tokenizer"
            )
        if np.array_equal(candidates, np.arange(len(candidates))):
            return table[: len(candidates)]
    return table[candidates]
