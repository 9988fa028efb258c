"""Export to a folder that `transformers` opens, and `load_pretrained` reads back bit by bit."""

import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from arl.models import families
from arl.models.config import DTYPES, ModelConfig
from arl.models.import_pretrained import CONFIG, GENERATION, HEADS, INDEX, WEIGHTS, check_tokenizer, flat, read_json, shapes_of
from arl.models.tensor_file import write_tensors
from arl.models.tensor_names import Part, Path, blank, own, own_names, shape_there, table
from arl.types import ArlError

# Of a source's config.json: older words for what is written in newer ones, and what tells of its weights' files.
_REPLACED = ("rope_theta", "rope_scaling", "rope_local_base_freq", "sliding_window_pattern", "_sliding_window_pattern", "torch_dtype")
_COPIED = ("", ".jinja", ".json", ".md", ".model", ".txt")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def export_pretrained(
    folder: str | pathlib.Path,
    config: ModelConfig,
    weights: Mapping[str, Any],
    *,
    tokenizer: Any = None,
    source: str | pathlib.Path | None = None,
    dtype: str | None = None,
) -> None:
    """Writes a model as a Hugging Face checkpoint: weights, `config.json`, the tokenizer's files and `generation_config.json`.

    What the family of the checkpoint does not have, such as the value head, is saved beside it in `arl_heads.safetensors`. The folder
    appears when it is complete.

    Args:
      folder: the folder, which must not exist or be empty.
      config: config of the model.
      weights: weights of the model, in the form of `Variables.trainable`.
      tokenizer: a fast tokenizer of `transformers`, which is saved with the model; None for that of `source`.
      source: folder of the checkpoint with which training began. Its tokenizer, chat template and generation config are copied, and what
        its `config.json` says beside the model, such as token ids and the longest context.
      dtype: "float32" or "bfloat16"; None for that of the weights.

    Raises:
      ArlError: if the folder is in use, the weights are not those of the config, no family has what the model has, or a tokenizer has more
        tokens than the model.
    """
    folder, source = pathlib.Path(folder), pathlib.Path(source) if source else None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArlError(f"{str(folder)!r} exists and is not empty; name another folder")
    leaves = _checked(config, weights)
    dtype = dtype or str(next(iter(leaves.values())).dtype)
    if dtype not in DTYPES:
        raise ArlError(f"dtype is {dtype!r}; set it to one of {', '.join(DTYPES)}")
    told = _config_json(config, dtype, tokenizer, source)
    partial = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        if source is not None:
            _copy_beside_weights(source, partial)
        if tokenizer is not None:
            tokenizer.save_pretrained(partial)
        if not (partial / GENERATION).exists():
            _write_json(partial / GENERATION, {name: told[name] for name in _IDS if name in told})
        _write_weights(partial, config, leaves, dtype)
        _write_json(partial / CONFIG, told)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def checkpoint_tensors(config: ModelConfig, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the tensors of a model as its checkpoint has them, by name, each `[...]`; without heads that its family does not have.

    Args:
      config: config of the model.
      weights: weights of the model, in the form of `Variables.trainable`.
    """
    leaves = _checked(config, weights)
    parts, shapes = _parts_and_shapes(config, leaves)
    return {name: np.ascontiguousarray(view(np.asarray(leaves[path]))).reshape(shapes[name]) for name, (path, view) in parts.items()}


def _parts_and_shapes(config: ModelConfig, leaves: dict[Path, Any]) -> tuple[dict[str, Part], dict[str, tuple[int, ...]]]:
    parts = table(config, leaves)
    return parts, {name: shape_there(name, part, jnp.shape(leaves[part.path])) for name, part in parts.items()}


def _checked(config: ModelConfig, weights: Mapping[str, Any]) -> dict[Path, Any]:
    """Returns the arrays by their paths; raises `ArlError` if those of the model are not all there in their shapes."""
    if not isinstance(weights, Mapping):
        raise ArlError(f"the weights are a {type(weights).__name__}; give a dict, such as Variables.trainable")
    leaves, shapes = flat(weights), shapes_of(config)
    for path, shape in shapes.items():
        if path not in leaves:
            raise ArlError(f"the weights have no {'/'.join(path)}; give all weights of the model")
        if jnp.shape(leaves[path]) != shape:
            raise ArlError(f"the weights have {'/'.join(path)} of shape {jnp.shape(leaves[path])}, the model {shape}; give its own config")
    return leaves


def _config_json(config: ModelConfig, dtype: str, tokenizer: Any, source: pathlib.Path | None) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if source is not None:
        kept = {name: value for name, value in read_json(source / CONFIG).items() if name not in _REPLACED}
        check_tokenizer(source, config.vocab_size)
    if tokenizer is not None:
        if len(tokenizer) > config.vocab_size:
            raise ArlError(f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}; give the tokenizer of the model")
        kept |= {name: getattr(tokenizer, name) for name in _IDS if getattr(tokenizer, name) is not None}
    longest = kept.get("max_position_embeddings") or config.context_length or 2048  # 2048: as in `transformers`, if nobody tells
    return {**kept, **families.to_json(config, longest), "dtype": dtype}


def _write_weights(folder: pathlib.Path, config: ModelConfig, leaves: dict[Path, Any], dtype: str) -> None:
    parts, shapes = _parts_and_shapes(config, leaves)
    in_table = {part.path for part in parts.values()}
    heads = {name: own(config, name) for path in leaves if path not in in_table for name in own_names(config, path)}
    head_shapes = {name: view(blank(jnp.shape(leaves[path]))).shape for name, (path, view) in heads.items()}
    for file, tensors, there in ((WEIGHTS, parts, shapes), (HEADS, heads, head_shapes)):

        def tensor(name, tensors=tensors):
            path, view = tensors[name]
            return view(np.asarray(leaves[path]))

        if tensors:
            write_tensors(folder / file, there, dtype, tensor)


def _copy_beside_weights(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies the small files of a checkpoint: tokenizer, chat template, generation config, licence."""
    for file in source.iterdir():
        if file.is_file() and file.suffix in _COPIED and file.name not in (CONFIG, INDEX):
            shutil.copy(file, folder / file.name)


def _write_json(file: pathlib.Path, told: dict[str, Any]) -> None:
    file.write_text(json.dumps(told, indent=2) + "\n")
