"""Golden checkpoints of each family give the logits and the text that `transformers` gives; damaged ones are refused."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from arl.models import load_pretrained, make_policy, num_slots, read_config
from arl.models.layers import stack_layers
from tests.models.make_golden import CONTINUED, FAMILIES, GOLDEN, LENGTH, PROMPT, SHARDED, VOCAB

SHARD = "model-00001-of-"


@functools.cache
def built(name):
    """The policy and variables of a golden checkpoint, and what is expected of it."""
    policy = make_policy(read_config(GOLDEN / name, query_block=16))
    variables = policy.init(jax.random.key(0), load_pretrained(GOLDEN / name))
    with np.load(GOLDEN / name / "expected.npz") as expected:
        return policy, variables, dict(expected)


@functools.cache
def reader(name):
    """`(cache, tokens [B], position) -> (logits [B, V], cache)`, compiled, and an empty cache of two lanes."""
    policy, variables, _ = built(name)

    @jax.jit
    def read(cache, tokens, position):
        place = jnp.full((2, 1), position, jnp.int32)
        features, cache = policy.read(variables, tokens[:, None], place, jnp.zeros_like(place), jnp.ones((2, 1), bool), cache)
        return policy.logits(variables, features[:, 0], np.arange(VOCAB)), cache

    return read, policy.empty_cache(2, num_slots(PROMPT + CONTINUED, 1))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_of_whole_texts_are_those_of_transformers(name):
    policy, variables, expected = built(name)
    features = policy.forward(variables, expected["tokens"], np.zeros_like(expected["tokens"]))
    np.testing.assert_allclose(policy.logits(variables, features, np.arange(VOCAB)), expected["logits"], atol=1e-4)
    assert np.abs(expected["logits"]).max() > 1


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_token_by_token_are_those_of_transformers(name):
    read, cache = reader(name)
    expected = built(name)[2]
    for position in range(LENGTH):
        logits, cache = read(cache, expected["tokens"][:, position], position)
        np.testing.assert_allclose(logits, expected["logits"][:, position], atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_greedy_continuation_is_that_of_transformers(name):
    read, cache = reader(name)
    expected = built(name)[2]
    prompt, written = expected["tokens"][0, :PROMPT].tolist(), []
    for position in range(PROMPT + CONTINUED - 1):
        token = prompt[position] if position < PROMPT else written[-1]
        logits, cache = read(cache, np.array([token, token], np.int32), position)
        if position >= PROMPT - 1:
            written.append(int(np.argmax(logits[0])))
    assert written == expected["continuation"].tolist()


def test_stacked_layers_are_those_of_the_checkpoint():
    config = read_config(GOLDEN / "mistral", scan_layers=True)
    stacked, apart = load_pretrained(GOLDEN / "mistral", config), load_pretrained(GOLDEN / "mistral")
    jax.tree.map(np.testing.assert_array_equal, stacked, stack_layers(apart))


def test_weights_come_in_the_type_and_on_the_devices_asked_for():
    config = read_config(GOLDEN / "llama2")
    exact = load_pretrained(GOLDEN / "llama2", config)
    rounded = load_pretrained(GOLDEN / "llama2", config, dtype="bfloat16")
    jax.tree.map(np.testing.assert_array_equal, rounded, jax.tree.map(lambda x: x.astype(jnp.bfloat16), exact))
    mesh = jax.make_mesh((2,), ("fsdp",), devices=jax.devices()[:2])
    everywhere, halves = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in ((), ("fsdp",)))
    tree = jax.tree.map(lambda x: halves if x.ndim > 1 else everywhere, exact)
    for sharding, wanted in ((everywhere, jax.tree.map(lambda x: everywhere, exact)), (tree, tree)):
        divided = load_pretrained(GOLDEN / "llama2", config, sharding=sharding)
        jax.tree.map(np.testing.assert_array_equal, divided, exact)
        assert jax.tree.map(lambda x: x.sharding, divided) == wanted
    with pytest.raises(ValueError, match="the tree of shardings has none for trunk/embedding; give it the form of the weights"):
        load_pretrained(GOLDEN / "llama2", config, sharding={"trunk": {}})


def test_overrides_replace_what_the_checkpoint_says():
    assert read_config(GOLDEN / "llama2").context_length == 128
    assert read_config(GOLDEN / "llama2", context_length=9, dtype="bfloat16").context_length == 9


@pytest.fixture
def folder(tmp_path):
    """A copy of a checkpoint to damage."""
    return shutil.copytree(GOLDEN / "llama2", tmp_path / "llama2")


def change_config(**changes):
    def change(folder):
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def change_tensors(edit):
    def change(folder):
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")

    return change


def truncate(size):
    def change(folder):
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:size])

    return change


def only(name):
    def change(folder):
        (folder / "model.safetensors").unlink()
        if name:
            (folder / name).write_bytes(b"x")

    return change


DAMAGED = {
    "no folder": (shutil.rmtree, "there is no config.json in "),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json in .* is no JSON of an object; copy it again"),
    "architecture": (change_config(model_type="mamba"), "there is no model type 'mamba'"),
    "missing": (change_tensors(lambda t: t.pop("model.norm.weight")), "the checkpoint has no model.norm.weight"),
    "layers": (change_config(num_hidden_layers=3), "the checkpoint has no model.layers.2.input_layernorm.weight; give one of 3 layers"),
    "shape": (
        change_tensors(lambda t: t.update({"lm_head.weight": np.zeros((47, 16), np.float32)})),
        r"lm_head.weight has shape \(47, 16\), the model \(48, 16\)",
    ),
    "unknown": (
        change_tensors(lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(16, np.float32)})),
        "the model has no place for model.layers.0.self_attn.q_proj.bias",
    ),
    "quantised": (
        change_tensors(lambda t: t.update({"lm_head.weight": np.zeros((48, 16), np.int8)})),
        "lm_head.weight in model.safetensors is of type I8; give a checkpoint of F32, F16, BF16",
    ),
    "truncated": (truncate(-5), "model.safetensors is damaged or truncated at [0-9]+ bytes; copy it again"),
    "truncated header": (truncate(40), "model.safetensors is damaged or truncated at 40 bytes"),
    "empty": (truncate(0), "model.safetensors is damaged or truncated at 0 bytes"),
    "pickle": (only("pytorch_model.bin"), "pytorch_model.bin is a pickle, which can run any program when read; convert it"),
    "no weights": (only(None), "there is neither model.safetensors nor model.safetensors.index.json"),
    "tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 3}}, "added_tokens": [{"id": 48}]}'),
        "has token 48, and the model a vocabulary of 48; give the model's own",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_checkpoints_are_refused_in_one_sentence(folder, name):
    damage, message = DAMAGED[name]
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        load_pretrained(folder)
    assert "\n" not in str(error.value) and not str(error.value).endswith(".")


def test_shards_that_are_missing_or_empty_are_refused(tmp_path):
    folder = shutil.copytree(GOLDEN / SHARDED[0], tmp_path / "sharded")
    shard = next(folder.glob(f"{SHARD}*"))
    tensors = load_file(shard)
    lost = tensors.popitem()[0]
    save_file(tensors, shard)
    with pytest.raises(ValueError, match=f"promises {lost} in {shard.name}, which does not have it; copy both again"):
        load_pretrained(folder)
    shard.unlink()
    with pytest.raises(ValueError, match=f"model.safetensors.index.json names {shard.name}, which is not in .*; copy it there"):
        load_pretrained(folder)


def test_a_copy_of_a_tied_embedding_and_old_buffers_are_ignored(tmp_path):
    folder = shutil.copytree(GOLDEN / "qwen3", tmp_path / "tied")
    tensors = load_file(folder / "model.safetensors")
    more = {"lm_head.weight": tensors["model.embed_tokens.weight"], "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}
    save_file({**tensors, **more}, folder / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(folder), load_pretrained(GOLDEN / "qwen3"))


def test_tensors_of_float16_are_read(folder):
    exact = load_pretrained(folder)
    change_tensors(lambda t: t.update({name: x.astype(np.float16) for name, x in t.items()}))(folder)
    rounded = jax.tree.map(lambda x: x.astype(jnp.float16).astype(jnp.float32), exact)
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(folder), rounded)


def test_the_value_head_is_drawn_by_the_key():
    policy, variables, _ = built("llama2")
    assert "value_head" not in load_pretrained(GOLDEN / "llama2")
    np.testing.assert_array_equal(variables.trainable["value_head"], policy.init(jax.random.key(0)).trainable["value_head"])
