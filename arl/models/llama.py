"""Conversion of parameters to and from `LlamaForCausalLM` of Hugging Face's `transformers`.

Its matrices are `[outputs, inputs]`, the transpose of ours, and some of our matrices are several of its.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from arl.models.config import ModelConfig
from arl.models.layers import stack_layers, unstack_layers
from arl.types import ArlError


def llama_config(config: ModelConfig, max_position_embeddings: int) -> dict[str, Any]:
    """Returns the arguments of `transformers.LlamaConfig` for the same model.

    Args:
      config: config of the model.
      max_position_embeddings: tokens of the longest sequence of the exported model; changes no weight.

    Returns:
      Arguments by name.
    """
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": max_position_embeddings,
    }


def to_llama(config: ModelConfig, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Exports the trunk and output head; the value head and its trunk have no counterpart.

    Args:
      config: config of the model.
      params: parameters of the model.

    Returns:
      float32 arrays by their names in `LlamaForCausalLM.state_dict()`.
    """
    trunk = (unstack_layers(params) if config.scan_layers else params)["trunk"]
    tensors = {"model.embed_tokens.weight": trunk["embedding"], "model.norm.weight": trunk["norm"]}
    if not config.tie_embeddings:
        tensors["lm_head.weight"] = params["head"]
    for i in range(config.num_layers):
        layer = _layer_to_llama(config, {name: np.asarray(value) for name, value in trunk[f"layers_{i}"].items()})
        tensors |= {f"model.layers.{i}.{name}.weight": value for name, value in layer.items()}
    return {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}


def from_llama(config: ModelConfig, params: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Imports the trunk and output head of a `LlamaForCausalLM`.

    Args:
      config: config of the model, whose sizes must be those of the tensors.
      params: parameters of the model, whose value head is kept.
      tensors: weights by their names in `LlamaForCausalLM.state_dict()`, `[outputs, inputs]`; a tied `lm_head.weight` is optional.

    Returns:
      The parameters.

    Raises:
      ArlError: if a tensor is missing, unknown or of another shape.
    """
    _check(to_llama(config, params), tensors, config)
    trunk = {"embedding": tensors["model.embed_tokens.weight"], "norm": tensors["model.norm.weight"]}
    for i in range(config.num_layers):
        start, end = f"model.layers.{i}.", ".weight"
        layer = {name.removeprefix(start).removesuffix(end): np.asarray(x) for name, x in tensors.items() if name.startswith(start)}
        trunk[f"layers_{i}"] = _layer_from_llama(config, layer)
    read = {"trunk": {name: _as_float32(value) for name, value in trunk.items()}}
    if config.scan_layers:
        read = stack_layers(read)
    if not config.tie_embeddings:
        read["head"] = _as_float32(tensors["lm_head.weight"])
    return {**params, **read}


def _layer_to_llama(config, layer):
    # [D, J, G + 2, d]: the query heads of a group, then its key and its value; query head `h` of Llama is in group `h // G`.
    queries, keys, values = np.split(layer["qkv"], [config.heads_per_kv_head, config.heads_per_kv_head + 1], 2)
    return {
        "self_attn.q_proj": queries.reshape(config.width, -1).T,
        "self_attn.k_proj": keys.reshape(config.width, -1).T,
        "self_attn.v_proj": values.reshape(config.width, -1).T,
        "self_attn.o_proj": layer["out"].T,
        "mlp.gate_proj": layer["gate_up"][:, 0].T,
        "mlp.up_proj": layer["gate_up"][:, 1].T,
        "mlp.down_proj": layer["down"].T,
        "input_layernorm": layer["attention_norm"],
        "post_attention_layernorm": layer["feed_forward_norm"],
    }


def _layer_from_llama(config, layer):
    heads = [layer[f"self_attn.{name}_proj"].T.reshape(config.width, config.num_kv_heads, -1, config.head_width) for name in "qkv"]
    return {
        "qkv": np.concatenate(heads, 2),
        "out": layer["self_attn.o_proj"].T,
        "gate_up": np.stack([layer["mlp.gate_proj"].T, layer["mlp.up_proj"].T], 1),
        "down": layer["mlp.down_proj"].T,
        "attention_norm": layer["input_layernorm"],
        "feed_forward_norm": layer["post_attention_layernorm"],
    }


def _as_float32(value):
    if isinstance(value, dict):
        return {name: _as_float32(inner) for name, inner in value.items()}
    return np.ascontiguousarray(value, np.float32)


def _check(expected, tensors, config):
    for name, value in expected.items():
        if name not in tensors:
            raise ArlError(f"the weights lack {name}; give those of a LlamaForCausalLM of {config.num_layers} layers")
        if tuple(tensors[name].shape) != value.shape:
            raise ArlError(f"{name} has shape {tuple(tensors[name].shape)}, the model {value.shape}; give both the same sizes")
    allowed = {*expected, "lm_head.weight"} if config.tie_embeddings else set(expected)
    if unknown := sorted(set(tensors) - allowed):
        raise ArlError(f"the model has no place for {unknown[0]}; give the weights of a LlamaForCausalLM of its sizes, without biases")
