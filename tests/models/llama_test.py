import dataclasses

import jax
import numpy as np
import pytest

from arl.models import ModelConfig, Variables, llama, make_policy

CONFIG = ModelConfig(vocab_size=13, width=16, num_layers=2, num_heads=4, num_kv_heads=2, feed_forward_width=24)
VARIANTS = [dict(), dict(tie_embeddings=True), dict(scan_layers=True), dict(separate_value_trunk=True, num_kv_heads=4)]


def built(changes, seed=0):
    """A configuration, its model, and parameters drawn by NumPy, norms not at 1."""
    config = dataclasses.replace(CONFIG, **changes)
    model, random = make_policy(config), np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0)).trainable
    return config, model, jax.tree.map(lambda x: random.normal(0.5 * (x.ndim == 1), 0.3, x.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("changes", VARIANTS)
def test_export_and_import_give_the_same_parameters(changes):
    config, _, params = built(changes)
    other = built(changes, seed=1)[2]
    back = llama.from_llama(config, other, llama.to_llama(config, params))
    kept = {"value_head", "value_trunk"} & set(params)
    for name in params:
        jax.tree.map(np.testing.assert_array_equal, back[name], (other if name in kept else params)[name])


@pytest.mark.parametrize("changes", VARIANTS)
def test_logits_are_those_of_transformers(changes):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config, model, params = built(changes)
    peer = transformers.LlamaForCausalLM(transformers.LlamaConfig(**llama.llama_config(config, 64))).eval()
    tensors = {name: torch.tensor(value) for name, value in llama.to_llama(config, params).items()}
    missing, unexpected = peer.load_state_dict(tensors, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if config.tie_embeddings else set())
    peer.tie_weights()
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (3, 20))
    with torch.no_grad():
        expected = peer(torch.tensor(tokens)).logits.numpy()
    features = model.forward(Variables(params), tokens, np.zeros_like(tokens))
    np.testing.assert_allclose(model.logits(Variables(params), features, np.arange(config.vocab_size)), expected, atol=1e-4)
    back = llama.from_llama(config, params, {name: value.numpy() for name, value in peer.state_dict().items()})
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_layouts_are_transposed_and_heads_stand_one_after_another():
    config, _, params = built({})
    tensors = llama.to_llama(config, params)
    layer, d = params["trunk"]["layers_1"], config.head_width
    queries = tensors["model.layers.1.self_attn.q_proj.weight"]
    for head in range(4):  # heads 0 and 1 share the first key, heads 2 and 3 the second
        np.testing.assert_array_equal(queries[head * d : (head + 1) * d], layer["qkv"][:, head // 2, head % 2].T)
    np.testing.assert_array_equal(tensors["model.layers.1.self_attn.v_proj.weight"][d:], layer["qkv"][:, 1, 3].T)
    np.testing.assert_array_equal(tensors["model.layers.1.mlp.up_proj.weight"], layer["gate_up"][:, 1].T)
    assert tensors["lm_head.weight"].shape == (13, 16) and all(x.dtype == np.float32 for x in tensors.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), "lack model.norm.weight"),
        (lambda t: t.update({"lm_head.weight": np.zeros((14, 16))}), "lm_head.weight has shape"),
        (lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(16)}), "no place for model.layers.0.self_attn.q_proj.bias"),
        (lambda t: t.update({"model.layers.2.mlp.up_proj.weight": np.zeros((24, 16))}), "no place for model.layers.2"),
    ],
)
def test_weights_of_another_model_are_refused(change, message):
    config, _, params = built({})
    tensors = llama.to_llama(config, params)
    change(tensors)
    with pytest.raises(ValueError, match=message):
        llama.from_llama(config, params, tensors)
