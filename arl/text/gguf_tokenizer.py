"""Tokenizers from the metadata of GGUF files, where the way to split a text is only a name.

The splits are those of the models' own `tokenizer.json`, and of llama.cpp by the same names (`src/llama-vocab.cpp`).
"""

from typing import Any

from arl.gguf_file import Gguf
from arl.types import ArlError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LATER = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = (_LATER % "{1,3}",)
_LLAMA3_NAMES = ("llama-bpe", "llama-v3", "llama3")
_SPLITS = {  # patterns by name; each is applied to the pieces that those before it leave
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "qwen2": (_LATER % "",),
    **dict.fromkeys(_LLAMA3_NAMES, _LLAMA3),
}
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # types of tokens
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def gguf_tokenizer(gguf: Gguf) -> Any:
    """Returns the fast tokenizer that a GGUF file describes, with its chat template.

    Args:
      gguf: the file.

    Raises:
      ArlError: if the file has none, or one that is not of byte pairs, splits by an unknown name, or has no end token.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast  # imported here because it takes seconds

    def tell(key: str, default: Any = None) -> Any:
        return gguf.metadata.get(f"tokenizer.ggml.{key}", default)

    file = gguf.file.name
    if tell("model") != "gpt2":
        raise ArlError(f"{file} has a tokenizer of type {tell('model')!r}; give one of byte pairs, 'gpt2', or the model's tokenizer.json")
    name = tell("pre", "default")
    if name not in _SPLITS:
        raise ArlError(f"{file} splits texts as {name!r}, and arl as one of {', '.join(_SPLITS)}; give the model's own tokenizer.json")
    tokens, types, merges = tell("tokens", []), tell("token_type", []), [tuple(pair.split(" ")) for pair in tell("merges", [])]
    special = {ours: tell(f"{theirs}_token_id") for ours, theirs in _SPECIAL.items() if tell(f"{theirs}_token_id") is not None}
    known = set(tokens)
    if (
        len(known) != len(tokens)
        or len(types) not in (0, len(tokens))
        or any(len(pair) != 2 or not known >= {*pair, "".join(pair)} for pair in merges)
        or any(index >= len(tokens) for index in special.values())
    ):
        raise ArlError(f"the tokenizer in {file} contradicts itself in its tokens, their types or merges; copy the file again")
    if "eos_token" not in special:
        raise ArlError(f"the tokenizer in {file} has no end token; set tokenizer.ggml.eos_token_id by llama.cpp's gguf_set_metadata.py")

    whole = name in _LLAMA3_NAMES  # then a piece that is an entry is one token, whatever merges say
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges, ignore_merges=whole))
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*(pre_tokenizers.Split(Regex(x), "isolated") for x in _SPLITS[name]), in_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    added = [(AddedToken(tokens[i], normalized=False, special=kind != _USER_DEFINED), kind) for i, kind in enumerate(types)]
    tokenizer.add_special_tokens([token for token, kind in added if kind in (_UNKNOWN, _CONTROL)])
    tokenizer.add_tokens([token for token, kind in added if kind == _USER_DEFINED])
    if "bos_token" in special and tell("add_bos_token", whole):
        first = tokens[special["bos_token"]]
        tokenizer.post_processor = processors.TemplateProcessing(f"{first} $A", special_tokens=[(first, special["bos_token"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        chat_template=gguf.metadata.get("tokenizer.chat_template"),
        **{name: tokens[index] for name, index in special.items()},
    )
