"""The config of a model: its sizes, and how it is computed."""

import dataclasses
from typing import Any

from arl.types import ArlError

_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of a decoder-only transformer of the Llama type, and how it is computed.

    Attributes:
      vocab_size: `V`, tokens of the vocabulary.
      width: `D`, width of the residual stream.
      num_layers: `L`, number of layers.
      num_heads: `H`, number of query heads.
      num_kv_heads: `J`, number of key/value heads; each serves `H / J` query heads.
      feed_forward_width: `F`, hidden width of the feed-forward branch.
      context_length: tokens of the longest context, which bounds how far `forward` attends; None for no bound.
      tie_embeddings: whether the output head is the embedding.
      separate_value_trunk: whether the value head has a trunk of its own; features are then a pair.
      confidence_head: whether there is a head "confidence", the probability of success that the model foresees.
      rotary_base: base of the rotary angles.
      norm_epsilon: epsilon of RMSNorm, added to the mean square.
      dtype: type of computation and cache, "float32" or "bfloat16"; parameters, logits and values are float32.
      remat: whether activations of layers are recomputed for the gradient.
      scan_layers: whether layers run under `jax.lax.scan`: compile time does not grow with depth, but CPUs are slower.
      query_block: queries per block in `forward`; each block attends to a static slice of the keys.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    feed_forward_width: int
    context_length: int | None = None
    tie_embeddings: bool = False
    separate_value_trunk: bool = False
    confidence_head: bool = False
    rotary_base: float = 10_000.0
    norm_epsilon: float = 1e-5
    dtype: str = "float32"
    remat: bool = False
    scan_layers: bool = False
    query_block: int = 64

    def __post_init__(self):
        for name in ("vocab_size", "width", "num_layers", "num_heads", "num_kv_heads", "feed_forward_width", "query_block"):
            if getattr(self, name) < 1:
                raise ArlError(f"ModelConfig.{name} is {getattr(self, name)}; set it >= 1")
        if self.context_length is not None and self.context_length < 1:
            raise ArlError(f"ModelConfig.context_length is {self.context_length}; set it >= 1, or to None for no bound")
        if self.width % (2 * self.num_heads):
            raise ArlError(
                f"a width of {self.width} does not divide into {self.num_heads} heads of even width; "
                f"set ModelConfig.width to a multiple of {2 * self.num_heads}"
            )
        if self.num_heads % self.num_kv_heads:
            raise ArlError(
                f"{self.num_kv_heads} key/value heads do not divide {self.num_heads} query heads; set ModelConfig.num_kv_heads to a divisor"
            )
        if self.dtype not in _DTYPES:
            raise ArlError(f"ModelConfig.dtype is {self.dtype!r}; set it to one of {', '.join(_DTYPES)}")
        if self.rotary_base <= 1.0 or self.norm_epsilon <= 0.0:
            raise ArlError(
                f"rotary_base is {self.rotary_base} and norm_epsilon {self.norm_epsilon}; "
                "set ModelConfig.rotary_base above 1 and ModelConfig.norm_epsilon above 0"
            )

    @property
    def head_width(self) -> int:
        """`d`, the width of one head."""
        return self.width // self.num_heads

    @property
    def heads_per_kv_head(self) -> int:
        """`G`, query heads that share one head of keys and values."""
        return self.num_heads // self.num_kv_heads


# Few key/value heads: the cache is most of what a small model reads for each token.
_PRESETS = {
    "0.1M": dict(width=64, num_layers=2, num_heads=2, num_kv_heads=1, feed_forward_width=192),
    "0.3M": dict(width=96, num_layers=3, num_heads=3, num_kv_heads=1, feed_forward_width=256),
    "1M": dict(width=128, num_layers=4, num_heads=4, num_kv_heads=1, feed_forward_width=384),
    "3M": dict(width=192, num_layers=7, num_heads=6, num_kv_heads=2, feed_forward_width=576),
    "10M": dict(width=384, num_layers=6, num_heads=6, num_kv_heads=2, feed_forward_width=1024),
}

PRESET_NAMES = tuple(_PRESETS)


def preset(name: str, vocab_size: int, **overrides: Any) -> ModelConfig:
    """Returns a model's config by its number of parameters.

    Args:
      name: one of `PRESET_NAMES`.
      vocab_size: `V`, tokens of the vocabulary.
      **overrides: fields of `ModelConfig` that replace those of the preset.

    Returns:
      The config.

    Raises:
      ArlError: if there is no such preset, or the sizes do not fit together.
    """
    if name not in _PRESETS:
        raise ArlError(f"there is no model preset {name!r}; choose one of {', '.join(PRESET_NAMES)}")
    return ModelConfig(**{"vocab_size": vocab_size, **_PRESETS[name], **overrides})
