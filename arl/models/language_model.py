"""A transformer as the pure functions of `arl.types.LanguageModel`."""

import jax
import jax.numpy as jnp
import numpy as np

from arl.models import cache as ring
from arl.models.config import ModelConfig
from arl.models.transformer import Transformer
from arl.types import LanguageModel


def make_language_model(config: ModelConfig) -> LanguageModel:
    """Returns the model as pure functions over its parameters; `arl.types.LanguageModel` says what each takes and gives.

    `features` is `[B, C, D]` of `config.dtype`; with `separate_value_trunk` a pair of such arrays, for output head and value head.
    `begin` is the same for all tokens of a context, and no context is longer than `config.context_length`: `make_learner` sees to it.

    Args:
      config: sizes, and how the model is computed.
    """
    module = Transformer(config)

    @jax.jit  # so that the bits are the same whether or not the caller compiles it
    def init(key):
        tokens = jnp.zeros((1, 1), jnp.int32)
        return module.init(key, tokens, tokens, method="score")["params"]

    def empty_cache(num_lanes, num_slots):
        num_trunks = 2 if config.separate_value_trunk else 1
        caches = tuple(ring.empty_cache(config, num_lanes, num_slots) for _ in range(num_trunks))
        return caches if config.separate_value_trunk else caches[0]

    def read(params, tokens, position, begin, is_valid, cache, lane=None):
        return module.apply({"params": params}, tokens, position, begin, is_valid, cache, lane, method="read")

    def score(params, tokens, begin):
        return module.apply({"params": params}, tokens, begin, method="score")

    def logits(params, features, alphabet):
        table = params["trunk"]["embedding"] if config.tie_embeddings else params["head"]
        hidden = features[0] if config.separate_value_trunk else features
        rows = hidden.reshape(-1, config.width)  # flat for the gradient's sake, see `transformer.product`
        scores = jnp.matmul(rows, _rows(table, alphabet).astype(hidden.dtype).T, preferred_element_type=jnp.float32)
        return scores.reshape(*hidden.shape[:-1], -1)

    def value(params, features):
        hidden = features[1] if config.separate_value_trunk else features
        return jnp.matmul(hidden.astype(jnp.float32), params["value_head"])

    return LanguageModel(init, empty_cache, read, score, logits, value, config.context_length)


def _rows(table: jax.Array, alphabet: np.ndarray | jax.Array) -> jax.Array:
    """Returns the rows of `table` `[V, D]` that `alphabet` `[U]` names; the table itself if these are all, in order."""
    if isinstance(alphabet, np.ndarray):
        if alphabet.size and not 0 <= alphabet.min() <= alphabet.max() < len(table):
            raise ValueError(f"The alphabet holds token ids that a vocabulary of {len(table)} has not; use the tokenizer's own vocab_size.")
        if np.array_equal(alphabet, np.arange(len(table))):
            return table
    return table[alphabet]
