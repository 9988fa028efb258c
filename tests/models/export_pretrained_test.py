"""What is exported is read back bit by bit, is opened by `transformers`, and appears whole or not at all."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoConfig

from arl import text
from arl.models import ModelConfig, Variables, export_pretrained, families, load_pretrained, make_policy, read_config
from arl.models.export_pretrained import checkpoint_tensors
from tests.models.make_golden import BFLOAT16, FAMILIES, GOLDEN

SMALL = ModelConfig(vocab_size=512, width=16, num_layers=2, num_heads=4, num_kv_heads=2, feed_forward_width=24)
BESIDE = {"_name_or_path", "dtype", "rope_parameters", "transformers_version"}


def random_weights(config, seed=0):
    """Weights drawn by NumPy, norms not at 1."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(make_policy(config).init, jax.random.key(0)).trainable
    return jax.tree.map(lambda x: random.normal(0.5 * (x.ndim == 1), 0.3, x.shape).astype(np.float32), shapes)


def golden(name):
    """Config, weights and tensors of a golden checkpoint; bfloat16 where it is saved so."""
    config = read_config(GOLDEN / name)
    weights = load_pretrained(GOLDEN / name, dtype="bfloat16" if name in BFLOAT16 else "float32")
    weights["value_head"] = jnp.arange(config.width).astype(weights["trunk"]["norm"].dtype)
    tensors = {key: x for file in sorted((GOLDEN / name).glob("model*.safetensors")) for key, x in load_file(file).items()}
    return config, weights, tensors


@pytest.mark.parametrize("name", FAMILIES)
def test_export_gives_back_the_bits_and_the_config_of_transformers(tmp_path, name):
    config, weights, tensors = golden(name)
    export_pretrained(tmp_path / "out", config, weights, source=GOLDEN / name)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path / "out", dtype=str(weights["value_head"].dtype)), weights)
    assert families.different(config, json.loads((tmp_path / "out" / "config.json").read_text())) == []
    assert read_config(tmp_path / "out").context_length == config.context_length
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert written.keys() == tensors.keys()
    for key, x in tensors.items():
        assert written[key].dtype == x.dtype
        np.testing.assert_array_equal(written[key], x)
    theirs, ours = (AutoConfig.from_pretrained(folder).to_dict() for folder in (GOLDEN / name, tmp_path / "out"))
    assert {key: value for key, value in ours.items() if key in theirs and key not in BESIDE} == {
        key: value for key, value in theirs.items() if key not in BESIDE
    }


@pytest.mark.parametrize("changes", [dict(), dict(scan_layers=True), dict(separate_value_trunk=True, scan_layers=True)])
def test_heads_are_saved_beside_and_layers_may_be_stacked(tmp_path, changes):
    config = ModelConfig(**{**vars(SMALL), **changes})
    weights = random_weights(config)
    export_pretrained(tmp_path / "out", config, weights)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path / "out", config), weights)
    apart = ModelConfig(**{**vars(config), "scan_layers": False})
    jax.tree.map(
        np.testing.assert_array_equal,
        checkpoint_tensors(apart, load_pretrained(tmp_path / "out", apart)),
        checkpoint_tensors(config, weights),
    )
    assert {name.split("/")[0] for name in load_file(tmp_path / "out" / "arl_heads.safetensors")} == {"value_head", "value_trunk"} & set(
        weights
    )


def test_a_head_of_another_shape_is_refused(tmp_path):
    config, weights, _ = golden("llama2")
    export_pretrained(tmp_path / "out", config, {**weights, "reward_head": np.ones(3, np.float32)})
    np.testing.assert_array_equal(load_pretrained(tmp_path / "out")["reward_head"], 1.0)
    other = random_weights(ModelConfig(**{**vars(SMALL), "width": 24}))
    export_pretrained(tmp_path / "other", ModelConfig(**{**vars(SMALL), "width": 24}), other)
    (tmp_path / "other" / "arl_heads.safetensors").rename(tmp_path / "out" / "arl_heads.safetensors")
    with pytest.raises(ValueError, match=r"value_head in arl_heads.safetensors has shape \(24,\), the model \(16,\); delete the file"):
        load_pretrained(tmp_path / "out")


def test_weights_can_be_rounded(tmp_path):
    weights = random_weights(SMALL)
    export_pretrained(tmp_path / "out", SMALL, weights, dtype="bfloat16")
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), weights)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path / "out", dtype="bfloat16"), rounded)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_tokenizer_and_what_ends_a_text_go_with_the_model(tmp_path):
    tokenizer = text.load_tokenizer()
    export_pretrained(tmp_path / "first", SMALL, random_weights(SMALL), tokenizer=tokenizer)
    export_pretrained(tmp_path / "second", SMALL, random_weights(SMALL, 1), source=tmp_path / "first")
    for folder in (tmp_path / "first", tmp_path / "second"):
        assert text.load_tokenizer(folder).encode("up down") == tokenizer.encode("up down")
        for file in ("config.json", "generation_config.json"):
            assert json.loads((folder / file).read_text())["eos_token_id"] == tokenizer.eos_token_id
    assert not np.array_equal(load_pretrained(tmp_path / "first")["head"], load_pretrained(tmp_path / "second")["head"])


def test_what_a_source_says_beside_the_model_is_kept(tmp_path):
    config, weights, _ = golden("llama2")
    short = ModelConfig(**{**vars(config), "context_length": 9})
    export_pretrained(tmp_path / "out", short, weights, source=GOLDEN / "llama2")
    assert read_config(tmp_path / "out").context_length == 128


REFUSED = {
    "no dict": (lambda: dict(weights=Variables({})), "the weights are a Variables; give a dict, such as Variables.trainable"),
    "missing": (
        lambda: dict(weights={name: x for name, x in random_weights(SMALL).items() if name != "head"}),
        "the weights have no head; give all weights of the model",
    ),
    "shape": (
        lambda: dict(weights={**random_weights(SMALL), "head": np.zeros((3, 16))}),
        r"head of shape \(3, 16\), the model \(512, 16\)",
    ),
    "type": (lambda: dict(dtype="int8"), "dtype is 'int8'; set it to one of float32, bfloat16"),
    "no family": (lambda: dict(config=ModelConfig(**{**vars(SMALL), "logit_cap": 5.0})), "no family of checkpoints has this ModelConfig"),
    "tokenizer": (
        lambda: dict(config=ModelConfig(**{**vars(SMALL), "vocab_size": 64}), tokenizer=text.load_tokenizer()),
        "the tokenizer has 512 tokens, the model 64; give the tokenizer of the model",
    ),
    "no source": (lambda: dict(source="nowhere"), "there is no config.json in 'nowhere'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path, name):
    make, message = REFUSED[name]
    options = make()
    config = options.pop("config", SMALL)
    weights = options.pop("weights") if "weights" in options else random_weights(config)
    with pytest.raises(ValueError, match=message) as error:
        export_pretrained(tmp_path / "out", config, weights, **options)
    assert not list(tmp_path.iterdir()) and "\n" not in str(error.value)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    class Broken:
        bos_token_id = eos_token_id = pad_token_id = None

        def __len__(self):
            return 3

        def save_pretrained(self, folder):
            (folder / "half").write_text("")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        export_pretrained(tmp_path / "out", SMALL, random_weights(SMALL), tokenizer=Broken())
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    export_pretrained(tmp_path / "out", SMALL, random_weights(SMALL))
    with pytest.raises(ValueError, match="exists and is not empty; name another folder"):
        export_pretrained(tmp_path / "out", SMALL, random_weights(SMALL))


@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_opens_it_and_gives_the_same_logits(tmp_path, name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config, weights, _ = golden(name)
    export_pretrained(tmp_path / "out", config, weights, dtype="float32")
    peer, told = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    with np.load(GOLDEN / name / "expected.npz") as expected, torch.no_grad():
        logits = peer(torch.tensor(expected["tokens"]), use_cache=False).logits.numpy()
        np.testing.assert_allclose(logits, expected["logits"], atol=1e-5)
