"""The small tokenizer and where tokenizers come from."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arl import text
from arl.text import make_tokenizer as making
from arl.text import tokenizer as loading
from arl.types import ArlError, Kind
from tests.second_tokenizer import second_tokenizer

SMALL = text.load_tokenizer()


def test_entries():
    assert len(SMALL) == len(SMALL.get_vocab()) == 512
    assert SMALL.eos_token == "<|end|>" and SMALL.pad_token_id == Kind.PAD
    for kind in [kind for kind in Kind if kind <= Kind.CONTROL]:  # kinds of the time when it was made
        assert SMALL.convert_tokens_to_ids(f"<|{kind.name.lower()}|>") == kind


@pytest.mark.parametrize("words", [making.NUMBERS, making.LETTERS, making.WORDS, making.SPECIAL])
def test_words_are_single_tokens(words):
    ids = [text.token_ids(SMALL, word) for word in words]
    assert {len(x) for x in ids} == {1}
    assert len({x[0] for x in ids}) == len(words)
    assert [SMALL.decode(x) for x in ids] == list(words)


def test_words_are_single_tokens_in_a_sentence():
    assert SMALL.tokenize("Row 3, column 17: left or right?\n\nYou win.") == [
        *("Row", "Ġ3", ",", "Ġcolumn", "Ġ17", ":", "Ġleft", "Ġor", "Ġright", "?", "Ċ", "Ċ", "You", "Ġwin", ".")
    ]


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_makes_the_round_trip(string):
    ids = text.token_ids(SMALL, string)
    if "<|" not in string:
        assert text.to_string(SMALL, ids) == string
    assert len(ids) <= len(string.encode())


@given(st.binary(max_size=20))
def test_every_byte_is_a_token(string):
    entries = [SMALL.convert_tokens_to_ids(making.byte_letters()[byte]) for byte in string]
    assert len(set(entries)) == len(set(string)) and all(12 <= entry < 268 for entry in entries)
    assert text.to_string(SMALL, entries) == string.decode(errors="replace")


def test_special_tokens_are_not_split():
    ids = text.token_ids(SMALL, "left<|note|> 3<|end|>")
    assert SMALL.convert_ids_to_tokens(ids)[-3:] == ["<|note|>", "Ġ3", "<|end|>"]
    assert text.to_string(SMALL, ids) == "left<|note|> 3<|end|>"


def test_the_script_makes_the_files_byte_for_byte(tmp_path):
    subprocess.run([sys.executable, "-m", "arl.text.make_tokenizer", str(tmp_path)], check=True)
    shipped = {path.name: path.read_bytes() for path in loading.SMALL.iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == shipped


@pytest.mark.parametrize("string", [5, None, "Say JitTracer(~int32[])"])
def test_what_cannot_be_tokenised_is_refused(string):
    with pytest.raises(ArlError, match="give a string|traced value in it"):
        text.token_ids(SMALL, string)


def test_a_folder_is_loaded(tmp_path):
    second_tokenizer().save_pretrained(tmp_path)
    loaded = text.load_tokenizer(tmp_path)
    string = "Any text at all, 1234."
    assert text.token_ids(loaded, string) == text.token_ids(second_tokenizer(), string)
    assert loaded.eos_token_id == second_tokenizer().eos_token_id
    assert len(text.load_tokenizer("small")) == 512


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="no tokenizer at 'gpt2'"):
        text.load_tokenizer("gpt2")
    with pytest.raises(ValueError, match="no tokenizer can be read"):
        text.load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    with pytest.raises(ValueError, match="slow one"):
        text.load_tokenizer(tmp_path)
    endless = tmp_path / "endless"
    making.write_tokenizer(endless)
    config = json.loads((endless / "tokenizer_config.json").read_text())
    (endless / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "eos_token"}))
    with pytest.raises(ValueError, match="no end token"):
        text.load_tokenizer(endless)
    with pytest.raises(ValueError, match="no end token"):
        text.any_text(_without_end(endless))


def _without_end(folder):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def test_tokens_in_their_place():
    tokenizer = second_tokenizer()
    assert text.token_ids(tokenizer, " 7", after="Guess:") == text.token_ids(tokenizer, " 7")
    with pytest.raises(ValueError, match="end that text elsewhere"):
        text.token_ids(tokenizer, "ing", after="Guess")
    assert text.encode(tokenizer, " 7 8").ids.tolist() == text.token_ids(tokenizer, " 7 8")
