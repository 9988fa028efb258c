"""Tokenizers that go through a GGUF file encode and decode as before; contradictory and unknown ones are refused in one sentence."""

import json
import pathlib

import pytest
from tokenizers import pre_tokenizers

from arl import text
from tests.gguf_fixtures import write_tokenizer
from tests.second_tokenizer import END, third_tokenizer

CORPUS = [
    (pathlib.Path(__file__).parents[2] / "README.md").read_text(),
    "  Two  spaces,\ttabs\r\n\r\nand lines \n it's DON'T we'll I'LL 3.14159 1,234,567 x2y3",
    "Ça va? Straße 漢字かな交じり 한국어 مرحبا 😀👩‍👩‍👧 e\u0301 \u00a0nbsp\u2028line ½ Ⅷ ١٢٣",
    "<|endoftext|> in a text<|endoftext|>",
    "   ",
    "",
]
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def test_llama_3_is_what_it_was(tmp_path):
    """Of the stand-in for it: what is split, an entry or merged, and in which order."""
    theirs = third_tokenizer()
    tokens = sorted(theirs.get_vocab(), key=theirs.get_vocab().get)
    merges = json.loads(theirs.backend_tokenizer.to_str())["model"]["merges"]
    types = [CONTROL if token == END else NORMAL for token in tokens]
    write_tokenizer(tmp_path / "x.gguf", tokens, types, [" ".join(pair) for pair in merges], "llama-bpe", {"eos": tokens.index(END)})
    ours = text.load_tokenizer(tmp_path / "x.gguf")
    for string in CORPUS:
        ids = theirs.encode(string, add_special_tokens=False)
        assert text.token_ids(ours, string) == ids
        assert ours.decode(ids) == string
    assert ours.get_vocab() == theirs.get_vocab() and ours.eos_token_id == theirs.eos_token_id


def alphabet():
    """The 256 bytes as byte pairs write them."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def bytes_only(file, split="gpt-2", tokens=(), types=(), merges=(), ids=None, **more):
    """Writes and loads a tokenizer of bytes and a few more tokens."""
    all_types = [NORMAL] * 256 + [CONTROL] + list(types)
    write_tokenizer(file, [*alphabet(), "<end>", *tokens], all_types, list(merges), split, {"eos": 256} if ids is None else ids, **more)
    return text.load_tokenizer(file)


def pieces(tokenizer, string):
    return [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(string)]


BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
OWN = {"gpt-2": BYTE_LEVEL, "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL])}


@pytest.mark.parametrize("split", OWN)
def test_texts_are_split_as_the_models_own_tokenizer_does(tmp_path, split):
    ours = bytes_only(tmp_path / "x.gguf", split)
    for string in CORPUS:
        assert pieces(ours, string) == [piece for piece, _ in OWN[split].pre_tokenize_str(string)]


SPLIT = {
    "default": ["It", "'", "s", "Ġ", "123", "4", "Ġtimes", "!?", "ĊĊ", "ĠDON", "'", "T"],
    "gpt-2": ["It", "'s", "Ġ1234", "Ġtimes", "!?", "ĊĊ", "ĠDON", "'", "T"],
    "smollm": ["It", "'s", "Ġ", "1", "2", "3", "4", "Ġtimes", "!?", "ĊĊ", "ĠDON", "'", "T"],
    "qwen2": ["It", "'s", "Ġ", "1", "2", "3", "4", "Ġtimes", "!?ĊĊ", "ĠDON", "'T"],
    "llama-bpe": ["It", "'s", "Ġ", "123", "4", "Ġtimes", "!?ĊĊ", "ĠDON", "'T"],
}


@pytest.mark.parametrize("split", SPLIT)
def test_texts_are_split_as_the_name_says(tmp_path, split):
    assert pieces(bytes_only(tmp_path / "x.gguf", split), "It's 1234 times!?\n\n DON'T") == SPLIT[split]


def test_the_chat_template_is_kept_and_saved(tmp_path):
    template = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}{% endfor %}"
    bytes_only(tmp_path / "x.gguf", chat_template=template).save_pretrained(tmp_path / "saved")
    saved = text.load_tokenizer(tmp_path / "saved")
    assert saved.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "user: Hi"
    assert saved.decode(text.token_ids(saved, "é<end>")) == "é<end>"


def test_tokens_are_of_their_types(tmp_path):
    tokens, types = ["<think>", "<start>", "ab", "<gap>"], [USER_DEFINED, CONTROL, NORMAL, UNUSED]
    ours = bytes_only(tmp_path / "x.gguf", tokens=tokens, types=types, merges=["a b"], ids={"eos": 256, "bos": 258}, add_bos_token=True)
    assert text.token_ids(ours, "ab<think>b<start>") == [259, 257, alphabet().index("b"), 258]
    assert ours.encode("ab") == [258, 259]
    assert ours.decode([258, 259, 257], skip_special_tokens=True) == "ab<think>"
    assert ours.bos_token == "<start>" and ours.pad_token is None
    without = bytes_only(tmp_path / "y.gguf", tokens=tokens, types=types, merges=["a b"], ids={"eos": 256, "bos": 258})
    assert without.encode("ab") == [259]


REFUSED = {
    "split": (dict(split="tekken"), "x.gguf splits texts as 'tekken', and arl as one of default, gpt-2, smollm, qwen2, llama-bpe"),
    "no end": (dict(ids={"bos": 256}), "the tokenizer in x.gguf has no end token; set tokenizer.ggml.eos_token_id"),
    "id": (dict(ids={"eos": 257}), "the tokenizer in x.gguf contradicts itself in its tokens"),
    "types": (dict(types=[NORMAL]), "contradicts itself"),
    "twice": (dict(tokens=["a"], types=[NORMAL]), "contradicts itself"),
    "merge": (dict(merges=["a b"]), "contradicts itself"),
    "word": (dict(merges=["a"]), "contradicts itself"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_tokenizers_are_refused_in_one_sentence(tmp_path, name):
    changes, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as error:
        bytes_only(tmp_path / "x.gguf", **changes)
    assert "\n" not in str(error.value) and not str(error.value).endswith(".")


def test_a_file_without_byte_pairs_is_refused(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="x.gguf has a tokenizer of type 'llama'; give one of byte pairs, 'gpt2'"):
        text.load_tokenizer(tmp_path)
