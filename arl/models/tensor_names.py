"""Where each tensor of a Hugging Face checkpoint is in the weights of the transformer: one table, for import and export alike.

Their matrices are `[outputs, inputs]`, the transpose of ours, and some of ours are several of theirs. A `Part` is a view of one of our
arrays whose elements are in their order; they have its leading axes merged into one. To import is to write to the view, to export is to
read it.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from arl.models.config import ModelConfig

Path = tuple[str, ...]


class Part(NamedTuple):
    """A tensor's place in the weights.

    Attributes:
      path: names that lead to an array of the weights.
      view: `array -> view` of the elements that the tensor has.
    """

    path: Path
    view: Callable[[Any], Any]


def _all(x, group):
    del group
    return x


# In views, `x` is our array and `g` the number `G` of query heads that share a key; the axes are those of `transformer.Layer`.
_LAYER = {
    "input_layernorm.weight": ("attention_norm", _all),
    "self_attn.q_proj.weight": ("qkv", lambda x, g: x[:, :, :g].transpose(1, 2, 3, 0)),  # [D, J, G + 2, d] -> [J, G, d, D]
    "self_attn.k_proj.weight": ("qkv", lambda x, g: x[:, :, g].transpose(1, 2, 0)),
    "self_attn.v_proj.weight": ("qkv", lambda x, g: x[:, :, g + 1].transpose(1, 2, 0)),
    "self_attn.q_proj.bias": ("qkv_bias", lambda x, g: x[:, :g]),  # [J, G + 2, d] -> [J, G, d]
    "self_attn.k_proj.bias": ("qkv_bias", lambda x, g: x[:, g]),
    "self_attn.v_proj.bias": ("qkv_bias", lambda x, g: x[:, g + 1]),
    "self_attn.q_norm.weight": ("query_norm", _all),
    "self_attn.k_norm.weight": ("key_norm", _all),
    "self_attn.o_proj.weight": ("out", lambda x, g: x.T),
    "post_attention_layernorm.weight": ("feed_forward_norm", _all),
    "mlp.gate_proj.weight": ("gate_up", lambda x, g: x[:, 0].T),  # [D, 2, F] -> [F, D]
    "mlp.up_proj.weight": ("gate_up", lambda x, g: x[:, 1].T),
    "mlp.down_proj.weight": ("down", lambda x, g: x.T),
}
_SANDWICH = {  # with norms after the branches, one name means something else
    "post_attention_layernorm.weight": ("attention_post_norm", _all),
    "pre_feedforward_layernorm.weight": ("feed_forward_norm", _all),
    "post_feedforward_layernorm.weight": ("feed_forward_post_norm", _all),
}
_OUTSIDE = {
    "model.embed_tokens.weight": ("trunk", "embedding"),
    "model.norm.weight": ("trunk", "norm"),
    "lm_head.weight": ("head",),
}


def table(config: ModelConfig, paths: Iterable[Path]) -> dict[str, Part]:
    """Returns the part of each tensor of a checkpoint, by its name there.

    Args:
      config: config of the model.
      paths: the paths of the model's arrays; tensors of others, such as biases, are left out.
    """
    layer = {**_LAYER, **_SANDWICH} if config.sandwich_norm else _LAYER
    parts = {name: Part(path, lambda x: x) for name, path in _OUTSIDE.items()}
    for index in range(config.num_layers):
        for name, (ours, view) in layer.items():
            part = Part(("trunk", f"layers_{index}", ours), lambda x, view=view: view(x, config.heads_per_kv_head))
            parts[f"model.layers.{index}.{name}"] = stacked(part) if config.scan_layers else part
    known = set(paths)
    return {name: part for name, part in parts.items() if part.path in known}


def own(config: ModelConfig, name: str) -> Part:
    """Returns the part of a tensor that is saved under the path of our array, with layers that are not stacked.

    Args:
      config: config of the model.
      name: the path, its names joined by "/".
    """
    part = Part(tuple(name.split("/")), lambda x: x)
    return stacked(part) if config.scan_layers else part


def own_names(config: ModelConfig, path: Path) -> list[str]:
    """Returns the names under which an array is saved by its own path: one, or one for each of the layers that it stacks.

    Args:
      config: config of the model.
      path: names that lead to the array.
    """
    layers = range(config.num_layers if config.scan_layers and "layers" in path else 1)
    return ["/".join(f"layers_{index}" if name == "layers" else name for name in path) for index in layers]


def stacked(part: Part) -> Part:
    """Returns the part of a model with `scan_layers` from that of a model without; `part` as it is if it is of no layer."""
    for place, name in enumerate(part.path):
        if found := re.fullmatch(r"layers_(\d+)", name):
            path = (*part.path[:place], "layers", *part.path[place + 1 :])
            return Part(path, lambda x: part.view(x[int(found[1])]))
    return part


def shape_there(name: str, part: Part, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a tensor in a checkpoint.

    Args:
      name: its name there.
      part: its part.
      shape: shape of our array.
    """
    view = part.view(blank(shape)).shape
    if name.endswith(".bias"):
        return (math.prod(view),)
    return view if len(view) < 2 else (math.prod(view[:-1]), view[-1])


def blank(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array `[...]` of a shape that takes no memory, to ask for the shapes of its views."""
    return np.broadcast_to(np.uint8(0), shape)
