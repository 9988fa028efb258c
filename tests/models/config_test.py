import dataclasses

import pytest

from arl.models import PRESET_NAMES, ModelConfig, RotaryScaling, preset

SIZES = dict(vocab_size=16, width=16, num_layers=1, num_heads=2, num_kv_heads=1, feed_forward_width=24)


def count(config):
    """Parameters by hand: embedding, head, value head, last norm, and the layers."""
    attention = config.width * config.head_width * (2 * config.num_heads + 2 * config.num_kv_heads)
    layer = attention + 3 * config.width * config.feed_forward_width + 2 * config.width
    tables = 1 if config.tie_embeddings else 2
    return config.num_layers * layer + tables * config.vocab_size * config.width + 2 * config.width


@pytest.mark.parametrize(
    ("name", "low", "high"), [("0.1M", 0.09, 0.17), ("0.3M", 0.25, 0.45), ("1M", 0.8, 1.2), ("3M", 2.6, 3.6), ("10M", 9, 11)]
)
def test_presets_have_the_parameters_that_their_names_say(name, low, high):
    assert low < count(preset(name, vocab_size=512)) / 1e6 < high


def test_every_preset_is_tested_above():
    assert PRESET_NAMES == ("0.1M", "0.3M", "1M", "3M", "10M")


def test_overrides_replace_fields_of_a_preset():
    assert preset("1M", 512, num_layers=2) == dataclasses.replace(preset("1M", 512), num_layers=2)


def test_an_unknown_preset_is_answered_with_the_names_that_exist():
    with pytest.raises(ValueError, match="0.1M, 0.3M, 1M, 3M, 10M"):
        preset("2M", 512)


def test_a_head_may_have_any_even_width():
    assert ModelConfig(**{**SIZES, "width": 18}, head_dim=10).head_width == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(kind="ntk", factor=2.0), "choose one of linear, llama3, yarn"),
        (dict(kind="linear", factor=0.5), "factor is 0.5; set it >= 1"),
        (dict(kind="yarn", factor=2.0), "set original_length >= 1"),
        (dict(kind="llama3", factor=2.0, original_length=8, slow_rotations=4.0), "0 < slow_rotations < fast_rotations"),
    ],
)
def test_impossible_scalings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RotaryScaling(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(vocab_size=0), "vocab_size"),
        (dict(num_layers=0), "num_layers"),
        (dict(context_length=0), "context_length"),
        (dict(width=18), "multiple of 4"),
        (dict(num_heads=4, num_kv_heads=3), "divisor"),
        (dict(dtype="float16"), "float32, bfloat16"),
        (dict(rotary_base=1.0), "rotary_base"),
        (dict(norm_epsilon=0.0), "norm_epsilon"),
        (dict(query_block=0), "query_block"),
        (dict(head_dim=7), "head_dim is 7; set it to an even number"),
        (dict(activation="relu"), "silu, gelu_tanh"),
        (dict(logit_cap=0.0), "logit_cap is 0.0; set it above 0"),
        (dict(sliding_window=4), "set both, or neither"),
        (dict(sliding_window=4, local_layers=(1,)), "layer 1 of 1"),
        (dict(num_layers=2, sliding_window=4, local_layers=(1,), scan_layers=True), "scan_layers=False"),
    ],
)
def test_impossible_sizes_are_refused_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=message) as error:
        ModelConfig(**{**SIZES, **change})
    assert "\n" not in str(error.value) and not str(error.value).endswith(".")
