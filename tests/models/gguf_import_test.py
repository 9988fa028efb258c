"""Models that the package `gguf` writes are read as they are read from Hugging Face's format; others are refused in one sentence."""

import dataclasses
import functools
import math

import gguf
import jax
import numpy as np
import pytest

from arl.models import ModelConfig, RotaryScaling, load_pretrained, read_config
from arl.models.export_pretrained import checkpoint_tensors
from arl.models.gguf_import import ARCHITECTURES
from arl.models.import_pretrained import shapes_of
from tests.gguf_fixtures import KINDS, permuted, write_model
from tests.models.make_golden import GOLDEN

SMALL = ModelConfig(
    vocab_size=40, width=64, num_layers=2, num_heads=4, num_kv_heads=2, feed_forward_width=96, context_length=32, rotary_base=500.0
)
READ = {"llama2": "llama", "smollm2": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
QUANTISED = (KINDS.F16, KINDS.BF16, KINDS.Q4_0, KINDS.Q4_1, KINDS.Q5_0, KINDS.Q5_1, KINDS.Q8_0)


def golden(name):
    """The config and weights of a golden checkpoint, without the windows that llama.cpp does not keep."""
    config = dataclasses.replace(read_config(GOLDEN / name), sliding_window=None, local_layers=())
    return config, load_pretrained(GOLDEN / name, config)


shapes = functools.cache(shapes_of)


def tensors_of(config, weights):
    """Tensors of a model by their names in Hugging Face, where weights have no value head."""
    return checkpoint_tensors(config, {"value_head": np.zeros(shapes(config)["value_head",]), **weights})


@functools.cache
def random_tensors(config):
    random, weights = np.random.default_rng(0), {}
    for path, shape in shapes(config).items():
        branch = weights
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = random.normal(size=shape).astype(np.float32)
    return tensors_of(config, weights)


@pytest.mark.parametrize("name", READ)
def test_a_model_is_that_of_its_hugging_face_folder(tmp_path, name):
    """The same config and the same bits, so the same logits: the golden checkpoint's are tested."""
    config, weights = golden(name)
    write_model(tmp_path / "x.gguf", READ[name], config, tensors_of(config, weights))
    assert read_config(tmp_path) == config
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path / "x.gguf"), weights)


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_matrices_become_the_floats_they_stand_for(tmp_path, kind):
    tensors = random_tensors(SMALL)
    write_model(tmp_path / "x.gguf", "llama", SMALL, tensors, kind)
    loaded = tensors_of(SMALL, load_pretrained(tmp_path / "x.gguf"))
    assert loaded.keys() == tensors.keys()
    for name, x in tensors.items():
        expected = gguf.quants.dequantize(gguf.quants.quantize(x, kind), kind) if x.ndim > 1 else x
        np.testing.assert_array_equal(loaded[name], expected)
        assert x.ndim == 1 or 0 < np.abs(expected - x).max() < 0.5


def test_rows_of_queries_and_keys_are_as_hugging_face_has_them(tmp_path):
    """llama.cpp rotates neighbours: row 2i of a head in its file is row i, row 2i + 1 is row i + d / 2."""
    matrix = np.arange(12.0).reshape(12, 1)
    assert permuted(matrix, 6).ravel().tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    for architecture in ("llama", "qwen2"):
        config = dataclasses.replace(SMALL, qkv_bias=architecture == "qwen2")
        these = random_tensors(config)
        write_model(tmp_path / f"{architecture}.gguf", architecture, config, these)
        loaded = tensors_of(config, load_pretrained(tmp_path / f"{architecture}.gguf"))
        jax.tree.map(np.testing.assert_array_equal, loaded, these)


def test_layers_are_stacked_where_they_run_under_a_scan(tmp_path):
    write_model(tmp_path / "x.gguf", "llama", SMALL, random_tensors(SMALL), KINDS.Q4_1)
    config = read_config(tmp_path, scan_layers=True)
    stacked, apart = load_pretrained(tmp_path, config), load_pretrained(tmp_path)
    np.testing.assert_array_equal(stacked["trunk"]["layers"]["qkv"][1], apart["trunk"]["layers_1"]["qkv"])


def test_scaled_frequencies(tmp_path):
    linear = dataclasses.replace(SMALL, rotary_scaling=RotaryScaling("linear", 4.0))
    write_model(tmp_path / "linear.gguf", "llama", linear, random_tensors(SMALL))
    assert read_config(tmp_path / "linear.gguf") == linear


def llama3_factors(factor, base, head_dim, original=8192):
    """What llama.cpp's converter writes for Llama 3.1: by the length of a wave."""
    factors = []
    for index in range(head_dim // 2):
        wave = 2 * math.pi * base ** (2 * index / head_dim)
        smooth = (original / wave - 1.0) / (4.0 - 1.0)
        factors.append(1.0 if wave < original / 4 else factor if wave > original else 1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def test_llama_3_is_known_by_the_factors_of_its_frequencies(tmp_path):
    config = dataclasses.replace(SMALL, head_dim=64, rotary_base=500_000.0)
    scaling = RotaryScaling("llama3", 32.0, 8192, 1.0, 4.0)
    factors = llama3_factors(32.0, 500_000.0, 64)
    assert len(set(factors)) > 4
    more = lambda writer: writer.add_tensor("rope_freqs.weight", factors)
    write_model(tmp_path / "x.gguf", "llama", config, random_tensors(config), more=more)
    assert read_config(tmp_path) == dataclasses.replace(config, rotary_scaling=scaling)
    assert load_pretrained(tmp_path).keys() == {"trunk", "head"}
    other = lambda writer: writer.add_tensor("rope_freqs.weight", llama3_factors(32.0, 500_000.0, 64, 4096))
    write_model(tmp_path / "x.gguf", "llama", config, {}, more=other)
    with pytest.raises(ValueError, match="x.gguf has no token_embd.weight"):
        read_config(tmp_path)
    write_model(tmp_path / "x.gguf", "llama", config, random_tensors(config), more=other)
    with pytest.raises(ValueError, match="rope_freqs.weight in x.gguf has other factors than Llama 3.1 has"):
        read_config(tmp_path)


def add(key, value):
    return lambda writer: (writer.add_uint32 if isinstance(value, int) else writer.add_float32)(key, value)


def without(writer):
    writer.kv_data[0].pop("llama.block_count")


REFUSED = {
    "experts": (add("llama.expert_count", 8), "x.gguf has llama.expert_count=8, which arl does not compute"),
    "part of a head": (add("llama.rope.dimension_count", 8), "x.gguf has llama.rope.dimension_count=8, which arl does not compute"),
    "window": (add("llama.attention.sliding_window", 8), "x.gguf has llama.attention.sliding_window=8, which arl does not compute"),
    "no size": (without, "x.gguf has no llama.block_count; give a whole one"),
    "no place": (
        lambda writer: writer.add_tensor("blk.0.attn_sinks.weight", np.zeros(3, np.float32)),
        "the model has no place for blk.0.attn_sinks.weight",
    ),
    "no float": (
        lambda writer: writer.add_tensor("blk.0.x.weight", np.zeros((1, 84), np.uint8), raw_dtype=KINDS.Q2_K),
        "blk.0.x.weight in x.gguf is of type Q2_K; give a file of F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16",
    ),
    "tokens": (
        lambda writer: writer.add_token_list(["a"] * 41),
        "the tokenizer in x.gguf has 41 tokens, and the model a vocabulary of 40; give another file",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_models_are_refused_in_one_sentence(tmp_path, name):
    more, message = REFUSED[name]
    write_model(tmp_path / "x.gguf", "llama", SMALL, random_tensors(SMALL), more=more)
    with pytest.raises(ValueError, match=message) as error:
        load_pretrained(tmp_path)
    assert "\n" not in str(error.value) and not str(error.value).endswith(".")


def test_unknown_architectures_are_refused(tmp_path):
    gguf_writer = gguf.GGUFWriter(tmp_path / "x.gguf", "mamba")
    gguf_writer.write_header_to_file()
    gguf_writer.write_kv_data_to_file()
    gguf_writer.close()
    with pytest.raises(ValueError, match=f"x.gguf has architecture 'mamba'; give one of {', '.join(ARCHITECTURES)}"):
        read_config(tmp_path)


def test_truncated_tensors_are_refused(tmp_path):
    file = tmp_path / "x.gguf"
    write_model(file, "llama", SMALL, random_tensors(SMALL), KINDS.Q8_0)
    whole = file.read_bytes()
    for size in (len(whole) - 100, len(whole) // 2):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"x.gguf is damaged or truncated at {size} bytes; copy it again"):
            load_pretrained(file)


def test_a_missing_tensor_and_another_config_are_refused(tmp_path):
    tensors = random_tensors(SMALL)
    write_model(tmp_path / "x.gguf", "llama", SMALL, {name: x for name, x in tensors.items() if name != "model.norm.weight"})
    with pytest.raises(ValueError, match="the checkpoint has no model.norm.weight"):
        load_pretrained(tmp_path)
    write_model(tmp_path / "x.gguf", "llama", SMALL, tensors)
    with pytest.raises(ValueError, match=r"has shape \(64, 64\), the model \(128, 64\)"):
        load_pretrained(tmp_path, dataclasses.replace(SMALL, head_dim=32))
