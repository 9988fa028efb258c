"""Import of checkpoints, Hugging Face's folders and GGUF files: the config of the model, and its weights, array by array."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.gguf_file import find_gguf, read_gguf
from arl.models import families
from arl.models.config import ModelConfig
from arl.models.gguf_import import Quantised, gguf_config, gguf_tensors
from arl.models.policy import make_policy
from arl.models.tensor_file import Stored, read_header
from arl.models.tensor_names import Part, Path, blank, own, shape_there, table
from arl.types import ArlError

CONFIG, TOKENIZER, GENERATION = "config.json", "tokenizer.json", "generation_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HEADS = "arl_heads.safetensors"
"""Weights that the checkpoint's family does not have, such as the value head, by their own paths."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_CHUNK = 16 * 2**20  # bytes of a file that are mapped at a time


def read_config(folder: str | pathlib.Path, **overrides: Any) -> ModelConfig:
    """Returns the config of the model in a folder or a GGUF file.

    Args:
      folder: folder of a checkpoint, or path to a GGUF file.
      **overrides: fields of `ModelConfig` that replace those of the checkpoint, such as a shorter `context_length`, or `dtype`.

    Raises:
      ArlError: if there is no `config.json`, or the model is of no known family.
    """
    file = find_gguf(folder)
    told = gguf_config(read_gguf(file)) if file else read_json(pathlib.Path(folder) / CONFIG)
    return dataclasses.replace(families.from_json(told), **overrides)


def load_pretrained(
    folder: str | pathlib.Path, config: ModelConfig | None = None, *, dtype: str = "float32", sharding: Any = None
) -> dict[str, Any]:
    """Loads the weights of a checkpoint, for `Policy.init(key, pretrained)` and `arl.train(..., pretrained=...)`.

    Each array is read from the memory-mapped file, converted, and put on its devices before the next is begun, so that the host holds no
    more than what stays there and one array. Heads that `export_pretrained` saved are read too; without them, `Policy.init` draws them.
    Quantised tensors of a GGUF file become floats.

    Args:
      folder: folder with `config.json` and `model.safetensors`, or with shards of it and `model.safetensors.index.json`; or a GGUF file,
        or a folder with one.
      config: config of the model, as from `read_config`; None for the checkpoint's own.
      dtype: type of the weights, "float32" or "bfloat16".
      sharding: a `jax.sharding.Sharding` for all arrays, or a tree of them in the form of the weights, such as
        `layout.named(layout.weights(policy, variables)).trainable`; None for the default device.

    Returns:
      The weights, in the form of `Variables.trainable`.

    Raises:
      ArlError: if a file is missing, damaged or of another format, or a tensor is missing, unknown, of an unknown type or of another shape
        than the model's, or the tokenizer has ids beyond the vocabulary.
    """
    folder = pathlib.Path(folder)
    config = config or read_config(folder)
    check_tokenizer(folder, config.vocab_size)
    file, shapes = find_gguf(folder), shapes_of(config)
    stored: dict[str, Stored | Quantised] = {**(gguf_tensors(read_gguf(file)) if file else _find(folder))}
    parts = table(config, shapes)
    _check(parts, shapes, stored, config)
    if (folder / HEADS).exists():
        heads = read_header(folder / HEADS)
        parts |= {name: own(config, name) for name in heads}
        stored |= heads
        _check_heads(heads, parts, shapes)
    by_path: dict[Path, list[tuple[Part, Stored | Quantised]]] = {}
    for name, part in parts.items():
        by_path.setdefault(part.path, []).append((part, stored[name]))
    weights: dict[str, Any] = {}
    for path, pieces in by_path.items():
        array = _empty(shapes[path] if path in shapes else pieces[0][1].shape, jnp.dtype(dtype))
        for part, piece in pieces:
            _fill(part.view(array), piece)
        branch = weights
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = jax.device_put(array, _at(sharding, path), may_alias=True).block_until_ready()
    return weights


def shapes_of(config: ModelConfig) -> dict[Path, tuple[int, ...]]:
    """Returns the shape of each array of a model, by its path."""
    return flat(jax.tree.map(jnp.shape, jax.eval_shape(make_policy(config).init, jax.random.key(0)).trainable))


def flat(weights: Mapping[str, Any], above: Path = ()) -> dict[Path, Any]:
    """Returns the leaves of nested dicts by their paths.

    Args:
      weights: the dicts.
      above: path of them all.
    """
    leaves: dict[Path, Any] = {}
    for name, value in weights.items():
        leaves |= flat(value, (*above, name)) if isinstance(value, Mapping) else {(*above, name): value}
    return leaves


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a JSON file; raises `ArlError` if it is missing or damaged."""
    if not file.is_file():
        raise ArlError(f"there is no {file.name} in {str(file.parent)!r}; give the folder of a Hugging Face checkpoint")
    try:
        told = json.loads(file.read_text())
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ArlError(f"{file.name} in {str(file.parent)!r} is no JSON of an object; copy it again")
    return told


def check_tokenizer(folder: pathlib.Path, vocab_size: int) -> None:
    """Raises `ArlError` if a folder has a `tokenizer.json` with ids that a model with `vocab_size` tokens has not."""
    if not (folder / TOKENIZER).exists():
        return
    told = read_json(folder / TOKENIZER)
    vocab = (told.get("model") or {}).get("vocab") or []  # a dict of ids, or a list in the order of ids
    ids = [*(vocab.values() if isinstance(vocab, dict) else range(len(vocab))), *(one["id"] for one in told.get("added_tokens") or [])]
    if ids and max(ids) >= vocab_size:
        raise ArlError(
            f"the tokenizer in {str(folder)!r} has token {max(ids)}, and the model a vocabulary of {vocab_size}; give the model's own"
        )


def _find(folder: pathlib.Path) -> dict[str, Stored]:
    """Returns the tensors of a checkpoint, of one file or of several."""
    if (folder / INDEX).exists():
        of_file: dict[str, list[str]] = {}
        for name, file in (read_json(folder / INDEX).get("weight_map") or {}).items():
            of_file.setdefault(file, []).append(name)
        stored = {}
        for file, names in of_file.items():
            if not (folder / file).is_file():
                raise ArlError(f"{INDEX} names {file}, which is not in {str(folder)!r}; copy it there")
            found = read_header(folder / file)
            if absent := [name for name in names if name not in found]:
                raise ArlError(f"{INDEX} promises {absent[0]} in {file}, which does not have it; copy both again")
            stored |= found
        return stored
    if (folder / WEIGHTS).is_file():
        return read_header(folder / WEIGHTS)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ArlError(
            f"{pickles[0]} is a pickle, which can run any program when read; convert it to {WEIGHTS} by transformers' save_pretrained"
        )
    raise ArlError(f"there is neither {WEIGHTS} nor {INDEX} in {str(folder)!r}; give the folder of a checkpoint")


def _check(
    parts: dict[str, Part], shapes: dict[Path, tuple[int, ...]], stored: Mapping[str, Stored | Quantised], config: ModelConfig
) -> None:
    for name, part in parts.items():
        if name not in stored:
            raise ArlError(f"the checkpoint has no {name}; give one of {config.num_layers} layers of the model's family")
        wanted = shape_there(name, part, shapes[part.path])
        if stored[name].shape != wanted:
            raise ArlError(f"{name} has shape {stored[name].shape}, the model {wanted}; give the config.json that belongs to the weights")
    for name in stored:
        is_copy = name == "lm_head.weight" and config.tie_embeddings
        if name not in parts and not is_copy and not name.endswith("rotary_emb.inv_freq"):  # which old checkpoints have
            raise ArlError(f"the model has no place for {name}; give the config.json that belongs to the weights")


def _check_heads(heads: Mapping[str, Stored], parts: dict[str, Part], shapes: dict[Path, tuple[int, ...]]) -> None:
    for name, stored in heads.items():
        path, view = parts[name]
        wanted = view(blank(shapes[path])).shape if path in shapes else stored.shape
        if stored.shape != wanted:
            raise ArlError(f"{name} in {HEADS} has shape {stored.shape}, the model {wanted}; delete the file to begin with a new head")


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns an array whose memory begins where JAX's CPU backend can take it over without a copy."""
    size, alignment = math.prod(shape) * dtype.itemsize, 64
    memory = np.empty(size + alignment, np.uint8)
    start = -memory.ctypes.data % alignment
    return memory[start : start + size].view(dtype).reshape(shape)


def _fill(view: np.ndarray, stored: Stored | Quantised) -> None:
    """Writes a tensor to a view of an array, some rows at a time."""
    if not view.ndim:
        view[...] = stored.rows(0, 1)
        return
    rows = stored.shape[0] // view.shape[0]  # of theirs for each of ours
    step = max(1, _CHUNK * view.shape[0] // (math.prod(stored.shape) * stored.dtype.itemsize))
    for start in range(0, view.shape[0], step):
        part = view[start : start + step]
        part[...] = stored.rows(start * rows, (start + len(part)) * rows).reshape(part.shape)


def _at(sharding: Any, path: Path) -> Any:
    for name in path if isinstance(sharding, Mapping) else ():
        if name not in sharding:
            raise ArlError(f"the tree of shardings has none for {'/'.join(path)}; give it the form of the weights")
        sharding = sharding[name]
    return sharding
