"""Checkpoints in GGUF files: the `config.json` that they would have, and their tensors by Hugging Face's names."""

import math
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from arl.gguf_file import Gguf, Place, damaged
from arl.models.config import RotaryScaling
from arl.models.dequantise import KINDS, OTHERS, Kind
from arl.models.rotary import frequency_factors
from arl.types import ArlError

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""What `general.architecture` may be: each is the `model_type` of its `config.json`. A Mistral without windows is a Llama."""

_SIZES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
_MORE = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
}
_ROPE = {
    "rope.scaling.type": "rope_type",
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
# What changes the function of a model and is not there, with the value at which it changes nothing.
_ABSENT = {"expert_count": 0, "attention.scale": 0.0, "rope.scaling.attn_factor": 1.0}
# Names of tensors, without ".weight" and ".bias".
_EMBEDDING, _HEAD, _ROPE_FACTORS = "token_embd", "output", "rope_freqs"
_OUTSIDE = {_EMBEDDING: "model.embed_tokens", "output_norm": "model.norm", _HEAD: "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_PERMUTED = ("attn_q", "attn_k")  # of a Llama: llama.cpp pairs dimension 2i of a head with 2i + 1, Hugging Face i with i + d / 2
# Llama 3.1 and its successors; llama.cpp keeps the factors of the frequencies and not what they come from.
_LLAMA3 = dict(original_length=8192, slow_rotations=1.0, fast_rotations=4.0)


class Quantised(NamedTuple):
    """A tensor in a GGUF file, as `tensor_file.Stored` is one in a safetensors file.

    Attributes:
      file: the file.
      kind: type of its elements.
      shape: its shape.
      offset: bytes of the file before it.
      head_dim: `d`, rows of one head, if those of each head are permuted; else None.
    """

    file: pathlib.Path
    kind: Kind
    shape: tuple[int, ...]
    offset: int
    head_dim: int | None

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements that are computed."""
        return np.dtype(np.float32)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Returns rows of the tensor, `[stop - start, ...]`, computed from the mapped file.

        Args:
          start: the first row; the first of a head if heads are permuted.
          stop: the row after the last; likewise.
        """
        row = math.prod(self.shape[1:]) // self.kind.elements * self.kind.size
        blocks = np.memmap(self.file, np.uint8, "r", self.offset + start * row, (stop - start, row)).reshape(-1, self.kind.size)
        rows = self.kind.floats(blocks).reshape(stop - start, *self.shape[1:])
        if self.head_dim is None:
            return rows
        return rows.reshape(-1, self.head_dim // 2, 2, *self.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def gguf_config(gguf: Gguf) -> dict[str, Any]:
    """Returns the content of the `config.json` of a model, as far as `families.from_json` reads it.

    Args:
      gguf: the file.

    Raises:
      ArlError: if the architecture is unknown, or has something that none of ours has, or a size is missing.
    """
    file, metadata = gguf.file.name, gguf.metadata
    kind = metadata.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise ArlError(f"{file} has architecture {kind!r}; give one of {', '.join(ARCHITECTURES)}")

    def tell(key: str, default: Any = None) -> Any:
        return metadata.get(f"{kind}.{key}", default)

    if missing := [key for key in _SIZES if not isinstance(tell(key), int)]:
        raise ArlError(f"{file} has no {kind}.{missing[0]}; give a whole one")
    if f"{_EMBEDDING}.weight" not in gguf.tensors:
        raise ArlError(f"{file} has no {_EMBEDDING}.weight; give a file with the model's weights")
    told = {theirs: tell(key) for key, theirs in {**_SIZES, **_MORE}.items() if tell(key) is not None}
    width = _head_dim(told)
    longest = told.get("max_position_embeddings", 0)
    refused = {key: tell(key) for key, nothing in _ABSENT.items() if tell(key, nothing) != nothing}
    refused |= {key: tell(key) for key in ("rope.dimension_count", "attention.value_length") if tell(key, width) != width}
    refused |= {key: tell(key) for key in ("attention.sliding_window",) if 0 < tell(key, 0) < longest}
    if refused:
        key, value = next(iter(refused.items()))
        raise ArlError(f"{file} has {kind}.{key}={value}, which arl does not compute; give a checkpoint without it")
    vocab_size = gguf.tensors[f"{_EMBEDDING}.weight"].shape[0]
    if (num_tokens := len(metadata.get("tokenizer.ggml.tokens", ()))) > vocab_size:
        raise ArlError(f"the tokenizer in {file} has {num_tokens} tokens, and the model a vocabulary of {vocab_size}; give another file")
    told |= {"model_type": kind, "vocab_size": vocab_size, "tie_word_embeddings": f"{_HEAD}.weight" not in gguf.tensors}
    rope = {theirs: tell(key) for key, theirs in _ROPE.items() if tell(key) is not None}
    if rope.get("rope_type", "none") != "none":
        told["rope_scaling"] = rope
    if f"{_ROPE_FACTORS}.weight" in gguf.tensors:
        told["rope_scaling"] = _llama3_scaling(gguf, told.get("rope_theta", 1e4), width // 2)
    return told


def gguf_tensors(gguf: Gguf) -> dict[str, Quantised]:
    """Returns the tensors of a model by the names that Hugging Face has for them; others keep their names.

    Args:
      gguf: the file.

    Raises:
      ArlError: if a type is unknown, or the file is damaged or truncated.
    """
    told = gguf_config(gguf)
    found = {}
    for name, place in gguf.tensors.items():
        stem, _, ending = name.rpartition(".")
        layer = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
        index, inner = layer.groups() if layer else ("", "")
        if stem == _ROPE_FACTORS:
            continue
        if inner in _LAYER:
            theirs = f"model.layers.{index}.{_LAYER[inner]}.{ending}"
        else:
            theirs = f"{_OUTSIDE[stem]}.{ending}" if stem in _OUTSIDE else name
        permuted = told["model_type"] == "llama" and inner in _PERMUTED
        found[theirs] = _quantised(gguf, name, place, _head_dim(told) if permuted else None)
    return found


def _head_dim(told: dict[str, Any]) -> int:
    return told.get("head_dim") or told["hidden_size"] // told["num_attention_heads"]


def _quantised(gguf: Gguf, name: str, place: Place, head_dim: int | None = None) -> Quantised:
    if place.kind not in KINDS:
        kind = OTHERS.get(place.kind, f"number {place.kind}")
        read = ", ".join(known.name for known in KINDS.values())
        raise ArlError(f"{name} in {gguf.file.name} is of type {kind}; give a file of {read}")
    kind = KINDS[place.kind]
    size = math.prod(place.shape) // kind.elements * kind.size
    whole = not math.prod(place.shape[1:]) % kind.elements and not (head_dim and place.shape[0] % head_dim)
    if place.offset + size > gguf.size or not whole:
        raise damaged(gguf.file, gguf.size)
    return Quantised(gguf.file, kind, place.shape, place.offset, head_dim)


def _llama3_scaling(gguf: Gguf, base: float, half: int) -> dict[str, Any]:
    """Returns what `config.json` says where the file has what each of the `half` frequencies of a head is divided by."""
    name = f"{_ROPE_FACTORS}.weight"
    stored = _quantised(gguf, name, gguf.tensors[name])
    divided = stored.rows(0, stored.shape[0]).astype(np.float32)
    factor = float(divided.max(initial=1.0))
    expected = 1 / frequency_factors(RotaryScaling("llama3", factor, **_LLAMA3), base, half)
    if divided.shape != expected.shape or not np.allclose(divided, expected, rtol=1e-3):
        raise ArlError(f"{name} in {gguf.file.name} has other factors than Llama 3.1 has; give the model in Hugging Face's format")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "original_max_position_embeddings": _LLAMA3["original_length"],
        "low_freq_factor": _LLAMA3["slow_rotations"],
        "high_freq_factor": _LLAMA3["fast_rotations"],
    }
