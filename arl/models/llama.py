"""Parameters under the names and in the layouts of `LlamaForCausalLM` of Hugging Face's `transformers`, and back.

Such a matrix is `[outputs, inputs]`, the transpose of ours, and what is one product here is several there.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from arl.models.config import ModelConfig
from arl.models.layers import stack_layers, unstack_layers


def llama_config(config: ModelConfig, max_position_embeddings: int) -> dict[str, Any]:
    """Returns the arguments of `transformers.LlamaConfig` for the same model.

    Args:
      config: of the model.
      max_position_embeddings: tokens of the longest sequence that the exported model is meant for; changes no weight.
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
    """Returns the trunk and output head of `params` by their names in `LlamaForCausalLM.state_dict()`, float32.

    The value head, and the trunk that it may have of its own, have no name there and stay behind.
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
    """Returns `params` with the trunk and output head of a `LlamaForCausalLM`.

    Args:
      config: of the model; its sizes must be those of the tensors.
      params: parameters of the model, from which the value head is kept.
      tensors: weights by their names in `LlamaForCausalLM.state_dict()`; of shape `[outputs, inputs]`;
        a tied `lm_head.weight` may be there or not.

    Raises:
      ValueError: if a tensor is missing, unknown or of another shape.
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
    # [D, J, G + 2, d]: the query heads of a group, then its key and its value; head `h` of Llama belongs to group `h // G`.
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
            raise ValueError(f"The weights lack {name}; give those of a LlamaForCausalLM of {config.num_layers} layers.")
        if tuple(tensors[name].shape) != value.shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, the model {value.shape}; give both the same sizes.")
    allowed = {*expected, "lm_head.weight"} if config.tie_embeddings else set(expected)
    if unknown := sorted(set(tensors) - allowed):
        raise ValueError(f"The model has no place for {unknown[0]}; give the weights of a LlamaForCausalLM of its sizes, without biases.")
