"""Makes the small tokenizer that ships with `arl`, of bytes, the words of our environments, and the numbers below 100.

    python -m arl.text.make_tokenizer [FOLDER]

It is a byte-pair model without merges. Text is split as by GPT-2 (Radford et al. 2019); a piece that is in the vocabulary is one token, and
any other piece is its bytes. So this file lists the whole vocabulary, and any text can be encoded. Token `k` below 11 stands for segments
of kind `k`.
"""

import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from arl.text.tokenizer import SMALL
from arl.types import Kind

END = "<|end|>"
SPECIAL = tuple(f"<|{kind.name.lower()}|>" for kind in Kind if kind <= Kind.CONTROL) + (END,)  # later kinds would move all ids
NUMBERS = tuple(f" {i}" for i in range(100))
LETTERS = tuple(f" {letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
IN_A_LINE = """
    left right up down north south east west higher lower correct wrong yes no true false row column map grid goal hole ice frozen
    slipped start wall door doors key arm arms move pull guess number below above between note think plan try attempt reward score win
    won lose lost paid pays nothing everything turn step steps state action so because then again first last next best one two three a
    the of to in at on by is are was it not and or you your from with if but for this that here there found none hint
"""
AT_ITS_START = "You Your Row Column Map Goal Guess Number Note Try Attempt Think Move Pull Arm At Doors Reward Plan"
WORDS = tuple(f" {word}" for word in IN_A_LINE.split()) + tuple(AT_ITS_START.split())


def make_tokenizer() -> Tokenizer:
    """Returns the tokenizer, whose vocabulary is special tokens, bytes, numbers, letters and words, in this order."""
    in_alphabet = dict(enumerate(byte_letters()))
    entries = [*SPECIAL, *in_alphabet.values()]
    entries += ["".join(in_alphabet[byte] for byte in string.encode()) for string in NUMBERS + LETTERS + WORDS]
    tokenizer = Tokenizer(models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def byte_letters() -> list[str]:
    """Returns the character of each byte in GPT-2's vocabulary: itself if it is visible, otherwise the next one from U+0100."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(256 + hidden.index(byte)) for byte in range(256)]


def write_tokenizer(folder: pathlib.Path) -> None:
    """Writes the files of the tokenizer to a folder, for `load_tokenizer`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": 1_000_000_000,  # no limit of its own
        "pad_token": SPECIAL[Kind.PAD],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text(make_tokenizer().to_str(pretty=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_tokenizer(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else SMALL)
