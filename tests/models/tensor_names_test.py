import jax
import numpy as np
import pytest

from arl.models import ModelConfig, make_policy
from arl.models.export_pretrained import checkpoint_tensors
from arl.models.import_pretrained import shapes_of
from arl.models.tensor_names import own, own_names, shape_there, table

CONFIG = ModelConfig(vocab_size=13, width=16, num_layers=2, num_heads=4, num_kv_heads=2, feed_forward_width=24, head_dim=6, qkv_bias=True)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_every_element_of_the_family_has_one_place(scan_layers):
    """Parts write to each element of their arrays exactly once; the value head alone is of no part."""
    config = ModelConfig(**{**vars(CONFIG), "scan_layers": scan_layers})
    shapes = shapes_of(config)
    count = {path: np.zeros(shape, int) for path, shape in shapes.items()}
    for name, (path, view) in table(config, shapes).items():
        view(count[path])[...] += 1
        assert np.prod(shape_there(name, table(config, shapes)[name], shapes[path])) == view(count[path]).size
    assert {path for path, times in count.items() if not (times == 1).all()} == {("value_head",)}


def test_matrices_are_transposed_and_heads_stand_one_after_another():
    shapes = jax.eval_shape(make_policy(CONFIG).init, jax.random.key(0)).trainable
    random = np.random.default_rng(0)
    weights = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)
    tensors, layer, d = checkpoint_tensors(CONFIG, weights), weights["trunk"]["layers_1"], CONFIG.head_width
    queries, biases = (tensors[f"model.layers.1.self_attn.q_proj.{kind}"] for kind in ("weight", "bias"))
    for head in range(4):  # heads 0 and 1 share the first key, heads 2 and 3 the second
        np.testing.assert_array_equal(queries[head * d : (head + 1) * d], layer["qkv"][:, head // 2, head % 2].T)
        np.testing.assert_array_equal(biases[head * d : (head + 1) * d], layer["qkv_bias"][head // 2, head % 2])
    np.testing.assert_array_equal(tensors["model.layers.1.self_attn.v_proj.weight"][d:], layer["qkv"][:, 1, 3].T)
    np.testing.assert_array_equal(tensors["model.layers.1.mlp.up_proj.weight"], layer["gate_up"][:, 1].T)
    assert tensors["lm_head.weight"].shape == (13, 16) and tensors["model.layers.0.self_attn.o_proj.weight"].shape == (16, 24)


def test_an_array_of_stacked_layers_is_saved_layer_by_layer():
    config = ModelConfig(**{**vars(CONFIG), "scan_layers": True})
    names = own_names(config, ("value_trunk", "layers", "out"))
    assert names == ["value_trunk/layers_0/out", "value_trunk/layers_1/out"] and own_names(config, ("value_head",)) == ["value_head"]
    path, view = own(config, names[1])
    assert path == ("value_trunk", "layers", "out")
    np.testing.assert_array_equal(view(np.arange(6).reshape(2, 3)), [3, 4, 5])
