"""The config of a model: its sizes, and how it is computed."""

import dataclasses
from typing import Any

from arl.checks import Checked
from arl.types import ArlError

DTYPES = ("float32", "bfloat16")
_ACTIVATIONS = ("silu", "gelu_tanh")
_SCALINGS = ("linear", "llama3", "yarn")


@dataclasses.dataclass(frozen=True)
class RotaryScaling(Checked):
    """How rotary angles are scaled for contexts longer than those of pretraining, see `arl.models.rotary`.

    Attributes:
      kind: "linear" divides all frequencies by `factor`; "llama3" and "yarn" only those of few rotations within `original_length` tokens.
      factor: how many times longer contexts become.
      original_length: tokens of the longest context of pretraining; "linear" has none.
      slow_rotations: rotations within `original_length` up to which a frequency is divided by the whole factor.
      fast_rotations: rotations from which on it stays as it is.
      amplitude: cosines and sines are multiplied by it ("yarn").
      truncate: whether "yarn" rounds the ends of its ramp to whole pairs of dimensions.
    """

    kind: str
    factor: float
    original_length: int = 0
    slow_rotations: float = 1.0
    fast_rotations: float = 4.0
    amplitude: float = 1.0
    truncate: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.kind not in _SCALINGS:
            raise ArlError(f"there is no rotary scaling {self.kind!r}; choose one of {', '.join(_SCALINGS)}")
        if not self.factor >= 1.0:
            raise ArlError(f"RotaryScaling.factor is {self.factor}; set it >= 1")
        if self.kind != "linear" and (self.original_length < 1 or not 0 < self.slow_rotations < self.fast_rotations):
            raise ArlError(
                f"rotary scaling {self.kind!r} has original_length {self.original_length} and rotations from {self.slow_rotations} to "
                f"{self.fast_rotations}; set original_length >= 1 and 0 < slow_rotations < fast_rotations"
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig(Checked):
    """Sizes of a decoder-only transformer, what it is made of, and how it is computed.

    The defaults are those of a Llama. Qwen has biases, or norms of queries and keys; Gemma has caps, norms after the branches and local
    layers. `arl.models.read_config` sets the fields from the `config.json` of a checkpoint.

    Attributes:
      vocab_size: `V`, tokens of the vocabulary.
      width: `D`, width of the residual stream.
      num_layers: `L`, number of layers.
      num_heads: `H`, number of query heads.
      num_kv_heads: `J`, number of key/value heads; each serves `H / J` query heads.
      feed_forward_width: `F`, hidden width of the feed-forward branch.
      context_length: tokens of the longest context, which bounds how far `forward` attends; None for no bound.
      tie_embeddings: whether the output head is the embedding.
      head_dim: width of one head; None for `width / num_heads`. See `head_width`.
      qkv_bias: whether queries, keys and values have biases.
      query_key_norm: whether each query and key is normalised before its rotation.
      sandwich_norm: whether each branch is normalised after it too.
      norm_plus_one: whether norms multiply by 1 + their weights.
      activation: of the feed-forward gate, "silu" or "gelu_tanh", the approximation of GELU by tanh.
      embedding_scale: embeddings are multiplied by it before the first layer.
      query_scale: queries are multiplied by it; None for `1 / sqrt(head_width)`.
      attention_cap: attention scores `s` become `cap * tanh(s / cap)`; None for no cap.
      logit_cap: logits likewise.
      sliding_window: tokens that a local layer attends to, the newest included; None without local layers.
      local_layers: indices of the local layers.
      local_rotary_base: base of the rotary angles of local layers, which are then not scaled; None for those of the other layers.
      rotary_scaling: scaling of the rotary angles; None for none.
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
    head_dim: int | None = None
    qkv_bias: bool = False
    query_key_norm: bool = False
    sandwich_norm: bool = False
    norm_plus_one: bool = False
    activation: str = "silu"
    embedding_scale: float = 1.0
    query_scale: float | None = None
    attention_cap: float | None = None
    logit_cap: float | None = None
    sliding_window: int | None = None
    local_layers: tuple[int, ...] = ()
    local_rotary_base: float | None = None
    rotary_scaling: RotaryScaling | None = None
    separate_value_trunk: bool = False
    confidence_head: bool = False
    rotary_base: float = 10_000.0
    norm_epsilon: float = 1e-5
    dtype: str = "float32"
    remat: bool = False
    scan_layers: bool = False
    query_block: int = 64

    def __post_init__(self):
        super().__post_init__()
        for name in ("vocab_size", "width", "num_layers", "num_heads", "num_kv_heads", "feed_forward_width", "query_block"):
            if getattr(self, name) < 1:
                raise ArlError(f"ModelConfig.{name} is {getattr(self, name)}; set it >= 1")
        for name in ("context_length", "head_dim", "sliding_window"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ArlError(f"ModelConfig.{name} is {getattr(self, name)}; set it >= 1, or to None")
        if self.head_dim is not None and self.head_dim % 2:
            raise ArlError(f"ModelConfig.head_dim is {self.head_dim}; set it to an even number")
        if self.head_dim is None and self.width % (2 * self.num_heads):
            raise ArlError(
                f"a width of {self.width} does not divide into {self.num_heads} heads of even width; "
                f"set ModelConfig.width to a multiple of {2 * self.num_heads}, or ModelConfig.head_dim"
            )
        if self.num_heads % self.num_kv_heads:
            raise ArlError(
                f"{self.num_kv_heads} key/value heads do not divide {self.num_heads} query heads; set ModelConfig.num_kv_heads to a divisor"
            )
        if self.dtype not in DTYPES:
            raise ArlError(f"ModelConfig.dtype is {self.dtype!r}; set it to one of {', '.join(DTYPES)}")
        if not self.rotary_base > 1.0 or not self.norm_epsilon > 0.0:
            raise ArlError(
                f"rotary_base is {self.rotary_base} and norm_epsilon {self.norm_epsilon}; "
                "set ModelConfig.rotary_base above 1 and ModelConfig.norm_epsilon above 0"
            )
        if self.activation not in _ACTIVATIONS:
            raise ArlError(f"ModelConfig.activation is {self.activation!r}; set it to one of {', '.join(_ACTIVATIONS)}")
        self._check_caps_and_windows()

    def _check_caps_and_windows(self):
        for name in ("embedding_scale", "query_scale", "attention_cap", "logit_cap"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ArlError(f"ModelConfig.{name} is {value}; set it above 0")
        if bool(self.local_layers) != (self.sliding_window is not None):
            raise ArlError(
                f"sliding_window is {self.sliding_window} and local_layers {self.local_layers}; set both, or neither, of ModelConfig"
            )
        if wrong := [index for index in self.local_layers if not 0 <= index < self.num_layers]:
            raise ArlError(f"ModelConfig.local_layers names layer {wrong[0]} of {self.num_layers}; give indices below that")
        if self.scan_layers and 0 < len(set(self.local_layers)) < self.num_layers:
            raise ArlError("local and other layers cannot run under one scan; set ModelConfig.scan_layers=False")

    @property
    def head_width(self) -> int:
        """`d`, the width of one head."""
        return self.head_dim or self.width // self.num_heads

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
    known = [field.name for field in dataclasses.fields(ModelConfig)]
    if unknown := [field for field in overrides if field not in known]:
        raise ArlError(f"ModelConfig has no field {unknown[0]!r}; set some of {', '.join(known)}")
    return ModelConfig(**{"vocab_size": vocab_size, **_PRESETS[name], **overrides})
