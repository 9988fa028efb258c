"""Writes models and tokenizers as GGUF files by the package `gguf`, whose names of keys and tensors are llama.cpp's own."""

import gguf
import numpy as np

from arl.models import ModelConfig

ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}
KINDS = gguf.GGMLQuantizationType


def write_model(file, architecture, config: ModelConfig, tensors, kind=KINDS.F32, more=lambda writer: None):
    """Writes a model.

    Args:
      file: the file.
      architecture: one of `ARCHITECTURES`.
      config: config of the model.
      tensors: float32 arrays by their names in Hugging Face.
      kind: type of the matrices; vectors are float32.
      more: is given the writer, to say more.
    """
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config.num_layers)
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.feed_forward_width)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rotary_base)
    if config.context_length:
        writer.add_context_length(config.context_length)
    if config.head_dim:
        writer.add_key_length(config.head_dim)
    if config.rotary_scaling and config.rotary_scaling.kind != "llama3":
        writer.add_rope_scaling_type(gguf.RopeScalingType(config.rotary_scaling.kind))
        writer.add_rope_scaling_factor(config.rotary_scaling.factor)
    if config.rotary_scaling and config.rotary_scaling.kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(config.rotary_scaling.original_length)
        writer.add_rope_scaling_yarn_beta_fast(config.rotary_scaling.fast_rotations)
        writer.add_rope_scaling_yarn_beta_slow(config.rotary_scaling.slow_rotations)
    more(writer)
    names = gguf.get_tensor_name_map(ARCHITECTURES[architecture], config.num_layers)
    for name, array in tensors.items():
        ours = kind if array.ndim > 1 else KINDS.F32
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias")) or name
        if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            array = permuted(array, config.head_width)
        writer.add_tensor(theirs, gguf.quants.quantize(np.asarray(array, np.float32), ours), raw_dtype=ours)
    _finish(writer)


def permuted(matrix, head_dim):
    """Returns the rows of queries or keys as llama.cpp has them: in each head, row `i + d / 2` after row `i`."""
    order = [half + index for index in range(head_dim // 2) for half in (0, head_dim // 2)]
    return np.concatenate([head[order] for head in np.split(matrix, len(matrix) // head_dim)])


def write_tokenizer(file, tokens, types, merges, split, ids, **more):
    """Writes a file with a tokenizer and no model.

    Args:
      file: the file.
      tokens: strings in the order of their ids.
      types: type of each.
      merges: pairs, joined by a space.
      split: name of the way to split a text.
      ids: ids of special tokens, such as `{"eos": 0}`.
      **more: other values of "tokenizer.", such as `chat_template`; a string or True or False.
    """
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    for name, index in ids.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", index)
    for name, value in more.items():
        if isinstance(value, bool):
            writer.add_bool(f"tokenizer.ggml.{name}", value)
        else:
            writer.add_string(f"tokenizer.{name}", value)
    _finish(writer)


def _finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
