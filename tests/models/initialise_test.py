import jax
import numpy as np
import pytest

from arl.models import ModelConfig, Variables, make_policy

CONFIG = dict(vocab_size=300, width=64, num_layers=3, num_heads=4, num_kv_heads=2, feed_forward_width=96)


@pytest.mark.parametrize("tie_embeddings", [False, True])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_deviations_are_those_of_the_docstring(tie_embeddings, scan_layers):
    config = ModelConfig(**CONFIG, tie_embeddings=tie_embeddings, scan_layers=scan_layers)
    params = make_policy(config).init(jax.random.key(0)).trainable
    layers = params["trunk"]["layers"] if scan_layers else params["trunk"]["layers_1"]
    stream = 0.3 / 8 if tie_embeddings else 1.0
    expected = [
        (params["trunk"]["embedding"], stream),
        (layers["qkv"], 1 / 8),
        (layers["gate_up"], 1 / 8),
        (layers["out"], stream / 8 / np.sqrt(6)),
        (layers["down"], stream / np.sqrt(96 * 6)),
    ] + ([] if tie_embeddings else [(params["head"], 0.3 / 8)])
    for weights, deviation in expected:
        error = 5 / np.sqrt(2 * weights.size)  # five standard errors of a deviation
        np.testing.assert_allclose(np.std(weights), deviation, rtol=error)
        assert abs(np.mean(weights)) < 5 * deviation / np.sqrt(weights.size)
    np.testing.assert_allclose(np.std(params["value_head"]), 0.01 / 8, rtol=0.5)


def test_a_tied_model_starts_as_the_same_function_but_for_its_head():
    models = {tie: make_policy(ModelConfig(**CONFIG, tie_embeddings=tie)) for tie in (False, True)}
    tied = models[True].init(jax.random.key(0)).trainable
    stream = 0.3 / 8
    untied = dict(tied, trunk=dict(tied["trunk"], embedding=tied["trunk"]["embedding"] / stream), head=tied["trunk"]["embedding"])
    for i in range(3):
        layer = untied["trunk"][f"layers_{i}"]
        untied["trunk"][f"layers_{i}"] = dict(layer, out=layer["out"] / stream, down=layer["down"] / stream)
    tokens, context_start = np.arange(12)[None], np.zeros((1, 12), np.int32)
    # Not exactly: epsilon is seen by the smaller stream.
    np.testing.assert_allclose(
        models[True].forward(Variables(tied), tokens, context_start),
        models[False].forward(Variables(untied), tokens, context_start),
        atol=2e-2,
    )


def test_layers_differ_and_a_key_gives_the_same_bits():
    model = make_policy(ModelConfig(**CONFIG))
    params, again, other = (model.init(jax.random.key(seed)).trainable for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    assert not np.allclose(params["trunk"]["layers_0"]["qkv"], params["trunk"]["layers_1"]["qkv"])
    assert not np.allclose(params["head"], other["head"])
