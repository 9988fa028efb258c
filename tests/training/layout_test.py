"""Layouts: however lanes and weights are divided among eight devices, it is the program of one device."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from arl import training
from arl.models import Variables
from arl.training import Layout, LearnerConfig, parallel
from arl.training.layout import RULES
from tests import tiny

CONFIG = dataclasses.replace(tiny.LEARNER, kl_weight=0.1)
MESHES = {"data": {"data": 8}, "all three": {"data": 2, "fsdp": 2, "tensor": 2}, "tensor": {"data": 4, "tensor": 2}}


def make(layout=Layout()):
    """Restarting lanes, out of step, of a model whose weights divide by two in every way."""
    interaction = tiny.agent("think")
    shape = tiny.config(interaction, restarts=True, widths=(), trajectory_length=interaction.size.episode + 1)
    return training.make_learner(interaction, tiny.model(num_kv_heads=2), shape, CONFIG, layout=layout)


def two_updates(learner, state):
    """The tokens of two rollouts, and the variables and metrics after the updates; the halves of an update share their programs."""
    collect, learn, tokens = jax.jit(learner.collect), jax.jit(learner.learn), []
    for _ in range(2):
        experience = collect(state)
        tokens.append(np.asarray(experience.trajectory.token))
        state, metrics = learn(state, experience)
    return np.stack(tokens), state.variables, metrics


@functools.cache
def one_device():
    learner = make()
    return two_updates(learner, jax.jit(learner.init)(jax.random.key(0)))


@pytest.mark.parametrize("axes", MESHES)
def test_eight_devices_are_one(axes):
    learner = make(Layout(parallel.make_mesh(**MESHES[axes])))
    places = learner.shardings(jax.eval_shape(learner.init, jax.random.key(0)))
    state = jax.jit(learner.init, out_shardings=places)(jax.random.key(0))
    tokens, variables, found = two_updates(learner, state)
    wanted_tokens, wanted, metrics = one_device()
    assert np.array_equal(tokens, wanted_tokens)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5, rtol=1e-4)
    for name in ("loss", "return", "tokens", "entropy", "kl_from_reference"):
        np.testing.assert_allclose(found[name], metrics[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_weights_optimizer_and_reference_are_divided_alike():
    """A device holds a quarter of each large weight, of its moments and of its reference."""
    learner = make(Layout(parallel.make_mesh(data=2, fsdp=2, tensor=2)))
    like = jax.eval_shape(learner.init, jax.random.key(0))
    state = jax.jit(learner.init, out_shardings=learner.shardings(like))(jax.random.key(0))
    trees = [state.variables.trainable, state.optimizer_state[1][0].mu, state.optimizer_state[1][0].nu, state.reference]
    for tree in trees:
        layer = tree["trunk"]["layers_0"]
        for weight in (layer["qkv"], layer["out"], layer["gate_up"], layer["down"], tree["trunk"]["embedding"], tree["head"]):
            assert weight.addressable_shards[0].data.size == weight.size // 4
        assert layer["attention_norm"].addressable_shards[0].data.size == layer["attention_norm"].size // 2
    assert state.step.sharding.is_fully_replicated and state.optimizer_state[1][0].count.sharding.is_fully_replicated


def test_the_loop_of_a_rollout_holds_no_collective():
    """So that no device waits for the lanes of another: the weights are gathered before."""
    learner = make(Layout(parallel.make_mesh(data=2, fsdp=2, tensor=2)))
    like = jax.eval_shape(learner.init, jax.random.key(0))
    program = jax.jit(learner.collect, in_shardings=(learner.shardings(like),)).lower(like).compile().as_text()
    bodies = [body for body in program.split("\n\n") if "while" in body.partition("{")[0]]
    names = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    assert bodies and any(name in program for name in names)
    assert not [name for body in bodies for name in names if f"{name}(" in body]


def test_what_does_not_divide_evenly_is_not_divided():
    layout = Layout(parallel.make_mesh(data=2, fsdp=2, tensor=2))
    policy = tiny.model(num_kv_heads=1, num_layers=2, scan_layers=True)
    partitions = layout.weights(policy, jax.eval_shape(policy.init, jax.random.key(0))).trainable["trunk"]
    assert partitions["layers"]["qkv"] == PartitionSpec(None, "fsdp", None, None, None), "one key/value head, in a stack of layers"
    assert partitions["layers"]["down"] == PartitionSpec(None, "tensor", "fsdp")
    assert partitions["embedding"] == PartitionSpec("tensor" if len(tiny.TOKENIZER) % 2 == 0 else None, "fsdp")
    assert Layout(parallel.make_mesh(8)).weights(policy, jax.eval_shape(policy.init, jax.random.key(0))).trainable["head"] == PartitionSpec(
        None, None
    )


def test_a_policy_that_names_no_axes_is_not_divided():
    layout = Layout(parallel.make_mesh(data=4, tensor=2))
    policy = tiny.model()._replace(axes=None)
    assert layout.weights(policy, Variables({"a": jnp.zeros((4, 4))})).trainable == {"a": PartitionSpec()}


def test_every_weight_has_its_logical_axes():
    for options in (
        {},
        {"separate_value_trunk": True},
        {"confidence_head": True},
        {"scan_layers": True, "num_layers": 2},
        {"tie_embeddings": True},
    ):
        policy = tiny.model(**options)
        variables = jax.eval_shape(policy.init, jax.random.key(0))
        names = jax.tree.leaves(policy.axes(variables).trainable, is_leaf=lambda x: isinstance(x, tuple))
        shapes = [x.shape for x in jax.tree.leaves(variables)]
        for axes, shape in zip(names, shapes, strict=True):
            assert len(shape) - len(axes) in (0, 1) and {*axes} <= {*RULES, None}


@pytest.mark.parametrize("sizes", [dict(data=16), dict(data=4, tensor=4), dict(data=0), dict(tensor=16)])
def test_a_mesh_of_more_devices_than_there_are_is_refused(sizes):
    with pytest.raises(ValueError, match="cannot be made of 8; set data, fsdp and tensor"):
        parallel.make_mesh(**sizes)


def test_lanes_that_do_not_divide_among_all_devices_are_refused():
    config = LearnerConfig(num_lanes=4, num_blocks=4, microbatch_size=4, num_minibatches=1)
    with pytest.raises(ValueError, match="4 lanes do not divide among 8 devices; set LearnerConfig.num_lanes to a multiple"):
        interaction = tiny.agent("think")
        layout = Layout(parallel.make_mesh(data=2, fsdp=2, tensor=2))
        training.make_learner(interaction, tiny.model(), tiny.config(interaction), config, layout=layout)
    with pytest.raises(ValueError, match="has no mesh; give Layout.mesh"):
        learner = make()
        learner.shardings(jax.eval_shape(learner.init, jax.random.key(0)))
