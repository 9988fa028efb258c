"""Families of Hugging Face's checkpoints: what a `config.json` says as a `ModelConfig`, and back."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from arl.models.config import ModelConfig, RotaryScaling
from arl.types import ArlError

_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_LOCAL, _FULL = "sliding_attention", "full_attention"
# Fields of a `ModelConfig` that say how it is computed: no checkpoint tells them.
_COMPUTED = ("context_length", "separate_value_trunk", "dtype", "remat", "scan_layers", "query_block")
# What changes the function of a model and is not there, with the values at which it changes nothing.
_ABSENT = {
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "use_bidirectional_attention": (False, None),
    "partial_rotary_factor": (1.0, None),
    "quantization_config": (None,),
}


class Family(NamedTuple):
    """What the checkpoints of a family have in common.

    Attributes:
      architecture: the class of `transformers` that opens them.
      fields: fields of `ModelConfig` that are those of the family.
      defaults: what a `config.json` means that does not say it.
      is_local: `(config.json, layer index) -> bool`, whether the layer is local where `layer_types` does not say it; None if no layer is.
    """

    architecture: str
    fields: dict[str, Any]
    defaults: dict[str, Any]
    is_local: Callable[[Mapping[str, Any], int], bool] | None = None


_QWEN = {"use_sliding_window": False, "max_window_layers": 28, "sliding_window": 4096}
_GEMMA = {
    "tie_word_embeddings": True,
    "hidden_act": "gelu_pytorch_tanh",
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
FAMILIES = {
    "llama": Family("LlamaForCausalLM", {}, {}),
    "mistral": Family("MistralForCausalLM", {}, {"sliding_window": 4096}, lambda told, index: True),
    "qwen2": Family("Qwen2ForCausalLM", {"qkv_bias": True}, _QWEN, lambda told, index: index >= told["max_window_layers"]),
    "qwen3": Family(
        "Qwen3ForCausalLM", {"query_key_norm": True}, {"head_dim": 128, **_QWEN}, lambda told, index: index >= told["max_window_layers"]
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        {"sandwich_norm": True, "norm_plus_one": True},
        {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, **_GEMMA},
        lambda told, index: index % 2 == 0,
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        {"sandwich_norm": True, "norm_plus_one": True, "query_key_norm": True},
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6, **_GEMMA},
        lambda told, index: (index + 1) % told["sliding_window_pattern"] != 0,
    ),
}
"""The families by the `model_type` of their `config.json`. SmolLM2 is a Llama, Qwen2.5 a Qwen2."""


def from_json(told: Mapping[str, Any]) -> ModelConfig:
    """Returns the config of a model from the content of its `config.json`.

    Args:
      told: the content. Files of all versions of `transformers` are understood, with `rope_theta` or with `rope_parameters`.

    Raises:
      ArlError: if the model is of no known family, or has something that none of them has.
    """
    kind = told.get("model_type")
    if kind not in FAMILIES:
        raise ArlError(f"there is no model type {kind!r}; give a checkpoint of one of {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    told = {"rms_norm_eps": 1e-6, "rope_theta": 1e4, "hidden_act": "silu", "tie_word_embeddings": False, **family.defaults, **told}
    for name, values in _ABSENT.items():
        if told.get(name, values[0]) not in values:
            raise ArlError(f"config.json has {name}={told[name]!r}, which arl does not compute; give a checkpoint without it")
    activation = told.get("hidden_activation") or told["hidden_act"]
    if activation not in _ACTIVATIONS:
        raise ArlError(f"there is no activation {activation!r}; give a checkpoint with one of {', '.join(_ACTIVATIONS)}")
    sizes = {
        "vocab_size": "vocab_size",
        "width": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "feed_forward_width": "intermediate_size",
    }
    if missing := [name for name in sizes.values() if not isinstance(told.get(name), int)]:
        raise ArlError(f"config.json has no {missing[0]}; add it")
    fields = {ours: told[theirs] for ours, theirs in sizes.items()}
    fields |= {
        "num_kv_heads": told.get("num_key_value_heads") or fields["num_heads"],
        "head_dim": told.get("head_dim"),
        "context_length": told.get("max_position_embeddings"),
        "tie_embeddings": told["tie_word_embeddings"],
        "norm_epsilon": told["rms_norm_eps"],
        "activation": _ACTIVATIONS[activation],
        **family.fields,
        **_windows(family, told),
    }
    if "query_pre_attn_scalar" in family.defaults:
        fields |= {"embedding_scale": math.sqrt(fields["width"]), "query_scale": told["query_pre_attn_scalar"] ** -0.5}
        fields["logit_cap"] = told.get("final_logit_softcapping")
    if "attn_logit_softcapping" in family.defaults:
        fields["attention_cap"] = told["attn_logit_softcapping"]
    return ModelConfig(**fields, **_rotary(family, told, bool(fields["local_layers"])))


def to_json(config: ModelConfig, max_length: int) -> dict[str, Any]:
    """Returns the content of a `config.json` of the same model, of the first family that has all that the model has.

    Args:
      config: config of the model.
      max_length: tokens of the longest context for which it is meant; changes no weight.

    Raises:
      ArlError: if no family has all that the model has.
    """
    differences = {}
    for kind in FAMILIES:
        told = _written(kind, config, max_length)
        differences[kind] = different(config, told)
        if not differences[kind]:
            return told
    kind, names = min(differences.items(), key=lambda pair: len(pair[1]))
    raise ArlError(
        f"no family of checkpoints has this ModelConfig: the nearest, {kind}, differs in {', '.join(names)}; change "
        f"{'it' if len(names) == 1 else 'them'}"
    )


def different(config: ModelConfig, told: Mapping[str, Any]) -> list[str]:
    """Returns the fields in which a model differs from that of the content `told` of a `config.json`, except those of how it is computed.

    Args:
      config: config of the model.
      told: the content.
    """
    ours, theirs = (_normal(each) for each in (config, from_json(told)))
    names = [field.name for field in dataclasses.fields(config) if field.name not in _COMPUTED]
    return [name for name in names if getattr(ours, name) != getattr(theirs, name)]


def _normal(config: ModelConfig) -> ModelConfig:
    """Returns the config with the values of fields that are None, as far as others tell them."""
    scale = config.head_width**-0.5 if config.query_scale is None else config.query_scale
    return dataclasses.replace(config, head_dim=config.head_width, query_scale=scale, local_layers=tuple(sorted(set(config.local_layers))))


def _windows(family: Family, told: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `ModelConfig` about local layers."""
    window, num_layers = told.get("sliding_window"), told["num_hidden_layers"]
    if family.is_local is None or window is None or not told.get("use_sliding_window", True):
        return {"local_layers": ()}
    kinds = told.get("layer_types") or [_LOCAL if family.is_local(told, index) else _FULL for index in range(num_layers)]
    if unknown := [kind for kind in kinds if kind not in (_LOCAL, _FULL)]:
        raise ArlError(f"there is no layer type {unknown[0]!r}; give a checkpoint with layer_types of {_LOCAL} and {_FULL}")
    local = tuple(index for index, kind in enumerate(kinds) if kind == _LOCAL)
    return {"local_layers": local, "sliding_window": window if local else None}


def _rotary(family: Family, told: Mapping[str, Any], has_local_layers: bool) -> dict[str, Any]:
    """Returns the fields of `ModelConfig` about rotary angles."""
    rope = told.get("rope_parameters") or told.get("rope_scaling") or {}
    local = rope.get(_LOCAL) or {}
    rope = rope.get(_FULL) or ({} if local else rope)
    fields = {"rotary_base": rope.get("rope_theta", told["rope_theta"]), "rotary_scaling": _scaling(rope, told)}
    if "rope_local_base_freq" in family.defaults and has_local_layers:
        if _kind(local) != "default":
            raise ArlError(f"the local layers have rotary scaling {_kind(local)!r}; give a checkpoint whose other layers alone are scaled")
        fields["local_rotary_base"] = local.get("rope_theta", told["rope_local_base_freq"])
    return fields


def _kind(rope: Mapping[str, Any]) -> str:
    return rope.get("rope_type", rope.get("type", "default"))


def _scaling(rope: Mapping[str, Any], told: Mapping[str, Any]) -> RotaryScaling | None:
    kind = _kind(rope)
    if kind == "default":
        return None
    longest = told.get("max_position_embeddings") or 0
    original = rope.get("original_max_position_embeddings") or longest
    factor = rope.get("factor") or (longest / original if original else 1.0)
    if kind == "llama3":
        return RotaryScaling(kind, factor, original, rope.get("low_freq_factor", 1.0), rope.get("high_freq_factor", 4.0))
    if kind == "yarn":
        scale, scale_all = rope.get("mscale"), rope.get("mscale_all_dim")
        # Peng et al. 2023, eq. 22; with two more numbers as DeepSeek's checkpoints have them.
        grown = lambda weight: 0.1 * weight * math.log(factor) + 1.0
        amplitude = rope.get("attention_factor") or (grown(scale) / grown(scale_all) if scale and scale_all else grown(1.0))
        rotations = rope.get("beta_slow") or 1.0, rope.get("beta_fast") or 32.0
        return RotaryScaling(kind, factor, original, *rotations, amplitude, rope.get("truncate", True))
    return RotaryScaling(kind, factor)  # which refuses unknown kinds


def _written(kind: str, config: ModelConfig, max_length: int) -> dict[str, Any]:
    """Returns the content of a `config.json` of the family `kind` that comes nearest to a model."""
    family, num_layers = FAMILIES[kind], config.num_layers
    activation = next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == config.activation)
    told: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward_width,
        "num_hidden_layers": num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "hidden_act": activation,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tie_embeddings,
        "max_position_embeddings": max_length,
    }
    rope = _rope_written(config)
    if family.is_local is not None:
        told["sliding_window"] = config.sliding_window
        kinds = [_LOCAL if index in config.local_layers else _FULL for index in range(num_layers)]
        if kinds != [_LOCAL] * num_layers or not all(family.is_local({**family.defaults, **told}, index) for index in range(num_layers)):
            told["layer_types"] = kinds  # else nobody needs it, and `transformers` would take a Mistral that has it for a Ministral
    if "use_sliding_window" in family.defaults:
        told["use_sliding_window"] = config.sliding_window is not None
    if "query_pre_attn_scalar" in family.defaults:
        told |= {"hidden_activation": activation, "final_logit_softcapping": config.logit_cap}
        told["query_pre_attn_scalar"] = _whole(_normal(config).query_scale ** -2)
    if "attn_logit_softcapping" in family.defaults:
        told["attn_logit_softcapping"] = config.attention_cap
    if "rope_local_base_freq" in family.defaults:
        base = config.rotary_base if config.local_rotary_base is None else config.local_rotary_base
        rope = {_FULL: rope, _LOCAL: {"rope_type": "default", "rope_theta": base}}
    return {**told, "rope_parameters": rope}


def _rope_written(config: ModelConfig) -> dict[str, Any]:
    scaling = config.rotary_scaling
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rotary_base}
    if scaling is None:
        return rope
    rope |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind != "linear":
        rope["original_max_position_embeddings"] = scaling.original_length
    if scaling.kind == "llama3":
        rope |= {"low_freq_factor": scaling.slow_rotations, "high_freq_factor": scaling.fast_rotations}
    if scaling.kind == "yarn":
        rope |= {"beta_slow": scaling.slow_rotations, "beta_fast": scaling.fast_rotations}
        rope |= {"attention_factor": scaling.amplitude, "truncate": scaling.truncate}
    return rope


def _whole(number: float) -> float | int:
    """Returns a number that rounding has moved off a whole one as that one."""
    return round(number) if abs(number - round(number)) < 1e-6 * number else number
