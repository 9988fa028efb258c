"""Tokenizers on the host: the small one that ships with `arl`, or any fast tokenizer of `transformers`."""

import os
import pathlib
import re
from typing import Any

from arl.gguf_file import find_gguf, read_gguf
from arl.text.gguf_tokenizer import gguf_tokenizer
from arl.text.text import constant
from arl.types import ArlError, Text

SMALL = pathlib.Path(__file__).parent / "small_tokenizer"  # made by `python -m arl.text.make_tokenizer`


def load_tokenizer(name_or_path: str | pathlib.Path | None = None) -> Any:
    """Loads a fast tokenizer from local files.

    Args:
      name_or_path: folder of a `transformers` tokenizer, or a GGUF file that has one; None or "small" for the one that ships with `arl`,
        which has 512 tokens and encodes any UTF-8 text, with common words and numbers below 100 as single tokens.

    Returns:
      The tokenizer.

    Raises:
      ArlError: if there is no fast tokenizer, or it has no end token.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # else it warns that PyTorch is missing, which a tokenizer does not need
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # imported here because it takes seconds

    if name_or_path is None or str(name_or_path) == "small":
        return PreTrainedTokenizerFast.from_pretrained(SMALL)
    if not isinstance(name_or_path, str | pathlib.Path):
        raise ArlError(f'{name_or_path!r} is no tokenizer; give the folder that holds its tokenizer.json, or "small"')
    folder = pathlib.Path(name_or_path)
    if file := find_gguf(folder):
        return gguf_tokenizer(read_gguf(file))
    if not folder.is_dir():
        raise ArlError(f'there is no tokenizer at {str(name_or_path)!r}; give the folder that holds its tokenizer.json, or "small"')
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library raises many kinds of errors
        raise ArlError(f"no tokenizer can be read from {str(name_or_path)!r}; it needs a valid tokenizer.json") from error
    if not tokenizer.is_fast:
        raise ArlError(f"the tokenizer at {str(name_or_path)!r} is a slow one; convert it to a fast one, with a tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise ArlError(f"the tokenizer at {str(name_or_path)!r} has no end token; set eos_token in its tokenizer_config.json")
    return tokenizer


def check_tokenizer(tokenizer: Any) -> None:
    """Raises `ArlError` if `tokenizer` is none, but its name or None, say."""
    if not (callable(getattr(tokenizer, "encode", None)) and callable(getattr(tokenizer, "decode", None))):
        raise ArlError(f"the tokenizer is {tokenizer!r}; give a fast tokenizer, such as arl.load_tokenizer()")


def token_ids(tokenizer: Any, string: str, after: str = "") -> list[int]:
    """Returns the token ids of a string within a text, without special tokens.

    Args:
      tokenizer: a fast tokenizer.
      string: the string to tokenise.
      after: end of the text before it, which may change its first token.

    Returns:
      Token ids.

    Raises:
      ArlError: if there is no tokenizer, if it puts the end of `after` and the beginning of `string` into one token, or if `string` is no
        string, or has a traced value in it.
    """
    if not isinstance(string, str):
        raise ArlError(f"{string!r} is a {type(string).__name__} and cannot be tokenised; give a string")
    if re.search(r"Tracer[<(]|Traced<", string):  # as an f-string writes it
        raise ArlError(f"{string!r} has a traced value in it; make the text by arl.text.template, with a placeholder for the value")
    check_tokenizer(tokenizer)
    encode = lambda s: tokenizer.encode(s, add_special_tokens=False)
    if not after:
        return encode(string)
    before, whole = encode(after), encode(after + string)
    if whole[: len(before)] != before:
        raise ArlError(f"the tokenizer joins {string!r} with the end of the text before it, {after!r}; end that text elsewhere")
    return whole[len(before) :]


def encode(tokenizer: Any, string: str, after: str = "") -> Text:
    """Returns a string as a constant `Text`; arguments as `token_ids`."""
    return constant(token_ids(tokenizer, string, after))
