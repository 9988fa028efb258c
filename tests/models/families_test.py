"""What the `config.json` of real checkpoints says, and what is refused."""

import dataclasses
import json
import math

import pytest

from arl.models import ModelConfig, RotaryScaling, families
from tests.models.make_golden import FAMILIES, GOLDEN

SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 49152,
}
LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
QWEN = {
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
GEMMA3 = {
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
}
CHECKPOINTS = {
    "SmolLM2": (SMOLLM2, dict(tie_embeddings=True, rotary_base=100000, norm_epsilon=1e-5, head_width=64, local_layers=())),
    "Llama 3.2": (
        {**SMOLLM2, "rope_scaling": LLAMA3, "head_dim": 128},
        dict(head_width=128, rotary_scaling=RotaryScaling("llama3", 32.0, 8192, 1.0, 4.0)),
    ),
    "Qwen2.5": (QWEN, dict(qkv_bias=True, query_key_norm=False, local_layers=(), sliding_window=None, rotary_scaling=None, head_width=64)),
    "Qwen2.5 with YaRN": (
        {**QWEN, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
        dict(rotary_scaling=RotaryScaling("yarn", 4.0, 32768, 1.0, 32.0, 0.1 * math.log(4) + 1)),
    ),
    "Qwen3": ({**QWEN, "model_type": "qwen3", "head_dim": 128}, dict(query_key_norm=True, qkv_bias=False, head_width=128)),
    "Gemma 2": (
        {**GEMMA3, "model_type": "gemma2", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "rope_theta": 10000.0},
        dict(
            attention_cap=50.0,
            logit_cap=30.0,
            local_layers=tuple(range(0, 26, 2)),
            sliding_window=512,
            embedding_scale=math.sqrt(1152),
            query_scale=1 / 16,
            local_rotary_base=None,
            sandwich_norm=True,
            norm_plus_one=True,
            query_key_norm=False,
            tie_embeddings=True,
            activation="gelu_tanh",
        ),
    ),
    "Gemma 3": (
        GEMMA3,
        dict(
            local_layers=tuple(index for index in range(26) if index % 6 != 5),
            local_rotary_base=10000,
            rotary_base=1000000,
            query_key_norm=True,
            attention_cap=None,
            logit_cap=None,
        ),
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_config_is_read_from_what_a_checkpoint_says(name):
    told, expected = CHECKPOINTS[name]
    config = families.from_json(told)
    assert {field: getattr(config, field) for field in expected} == expected
    assert config.context_length == told["max_position_embeddings"] and config.width == told["hidden_size"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_is_written_is_read_back(name):
    told = CHECKPOINTS[name][0]
    config = families.from_json(told)
    written = json.loads(json.dumps(families.to_json(config, 77)))
    assert families.different(config, written) == [] and written["model_type"] == told["model_type"]
    assert families.from_json(written).context_length == 77


@pytest.mark.parametrize("name", FAMILIES)
def test_old_words_and_new_ones_say_the_same(name):
    """`transformers` 5 writes `rope_parameters`, and older versions wrote `rope_theta` and `rope_scaling`."""
    new = json.loads((GOLDEN / name / "config.json").read_text())
    rope = new["rope_parameters"]
    old = {key: value for key, value in new.items() if key != "rope_parameters"}
    if "sliding_attention" in rope:
        old["rope_local_base_freq"], rope = rope["sliding_attention"]["rope_theta"], rope["full_attention"]
    old["rope_theta"] = rope["rope_theta"]
    old["rope_scaling"] = {"type" if key == "rope_type" else key: value for key, value in rope.items() if key != "rope_theta"}
    assert families.from_json(old) == families.from_json(new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "there is no model type 'mamba'; give a checkpoint of one of llama, mistral, qwen2"),
        ({"hidden_act": "relu"}, "there is no activation 'relu'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "there is no rotary scaling 'longrope'; choose one of linear, llama3, yarn"),
        ({"attention_bias": True}, "config.json has attention_bias=True, which arl does not compute"),
        ({"quantization_config": {"bits": 4}}, "config.json has quantization_config="),
        ({"partial_rotary_factor": 0.5}, "config.json has partial_rotary_factor=0.5"),
        ({"hidden_size": None}, "config.json has no hidden_size; add it"),
        ({**QWEN, "use_sliding_window": True, "layer_types": ["chunked_attention"] * 24}, "there is no layer type 'chunked_attention'"),
        (
            {**GEMMA3, "rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}, "full_attention": {}}},
            "the local layers have rotary scaling 'linear'",
        ),
    ],
)
def test_what_is_unknown_is_refused_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=message) as error:
        families.from_json({**SMOLLM2, **change})
    assert "\n" not in str(error.value) and not str(error.value).endswith(".")


def test_a_model_of_no_family_is_not_written():
    config = dataclasses.replace(families.from_json(QWEN), logit_cap=5.0)
    with pytest.raises(
        ValueError, match="no family of checkpoints has this ModelConfig: the nearest, qwen2, differs in logit_cap; change it"
    ):
        families.to_json(config, 64)


def test_the_presets_are_llamas():
    config = ModelConfig(vocab_size=16, width=16, num_layers=1, num_heads=2, num_kv_heads=1, feed_forward_width=24)
    assert families.to_json(config, 64)["architectures"] == ["LlamaForCausalLM"]
