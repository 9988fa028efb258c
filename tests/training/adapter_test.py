"""A policy with frozen weights: a low-rank adapter learns, and its base stays as it is, costs nothing twice, and is not mistaken."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import rollout, training
from arl.models import Policy, Variables
from arl.training import CheckpointError, Checkpoints, scoring
from arl.training.fingerprint import fingerprint
from tests import tiny

RANK = 2
CONFIG = training.LearnerConfig(num_lanes=8, num_blocks=8, microbatch_size=8, num_minibatches=1, num_epochs=2, kl_weight=0.1)


def merged(variables: Variables) -> Variables:
    """The weights of the tiny model with its adapter."""
    return Variables({**variables.frozen, "head": variables.frozen["head"] + variables.trainable["left"] @ variables.trainable["right"]})


def adapted() -> Policy:
    """The tiny model with a low-rank adapter of its output head."""
    base = tiny.model()

    def init(key, pretrained=None):
        frozen = base.init(key, pretrained).trainable
        rows, columns = frozen["head"].shape
        left = jax.random.normal(key, (rows, RANK))
        return Variables({"left": left, "right": jnp.zeros((RANK, columns))}, frozen)

    def on_merged(function):
        return lambda variables, *rest: function(merged(variables), *rest)

    return base._replace(
        init=init,
        read=on_merged(base.read),
        forward=on_merged(base.forward),
        logits=on_merged(base.logits),
        heads={"value": on_merged(base.value)},
        reference=lambda variables: variables._replace(trainable=jax.tree.map(jnp.zeros_like, variables.trainable)),
    )


@functools.cache
def learner(**options):
    interaction = tiny.agent("reflection")
    return training.make_learner(interaction, adapted(), tiny.config(interaction), dataclasses.replace(CONFIG, **options))


@functools.cache
def update():
    return jax.jit(learner().update)


@functools.cache
def start(seed: int = 0) -> training.TrainState:
    return jax.jit(learner().init)(jax.random.key(0), {"head": tiny.params().trainable["head"] + seed})


@functools.cache
def trained() -> tuple[training.TrainState, list[dict[str, Any]]]:
    """The state after three updates, and their metrics."""
    state, told = start(), []
    for _ in range(3):
        state, metrics = update()(state)
        told.append(metrics)
    return state, told


def test_the_adapter_learns_and_the_base_keeps_its_bits():
    state, _ = trained()
    jax.tree.map(np.testing.assert_array_equal, state.variables.frozen, start().variables.frozen)
    assert all(np.abs(np.asarray(x)).max() > 0 for x in jax.tree.leaves(state.variables.trainable))
    np.testing.assert_array_equal(start().variables.frozen["head"], tiny.params().trainable["head"])


def test_the_optimizer_has_the_size_of_the_adapter():
    sizes = {x.shape for x in jax.tree.leaves(start().optimizer_state) if x.ndim}
    assert sizes == {x.shape for x in jax.tree.leaves(start().variables.trainable)}


def test_the_reference_is_the_base_and_is_kept_nowhere():
    state, metrics = trained()
    assert state.reference is None
    interaction = tiny.agent("reflection")
    _, trajectory, _ = rollout.roll_out(
        interaction, tiny.model(), tiny.config(interaction), Variables(state.variables.frozen), {}, _lanes(interaction)
    )
    on_base = scoring.score(tiny.model(), interaction.grammar, Variables(state.variables.frozen), trajectory, 1.0)[0]
    told = scoring.score(adapted(), interaction.grammar, adapted().reference(state.variables), trajectory, 1.0)[0]
    np.testing.assert_array_equal(told, on_base)
    assert metrics[0]["kl_from_reference"] < metrics[2]["kl_from_reference"]


def _lanes(interaction):
    return rollout.start_lanes(interaction, {}, tiny.config(interaction), *tiny.keys(4))


def test_frozen_weights_are_arguments_of_the_program_and_no_constants():
    program = jax.make_jaxpr(learner().update)(start())
    assert max([x.size for x in program.consts if hasattr(x, "size")], default=0) < min(
        x.size for x in jax.tree.leaves(start().variables.frozen) if x.ndim > 1
    )


def test_seeds_share_the_frozen_weights():
    """A program for two seeds holds them once, and gives what two programs give."""
    states = [start()._replace(key=jax.random.key(seed)) for seed in (0, 1)]
    axes = training.TrainState(Variables(0, None), *[0] * 6)
    shared = jax.tree.map(lambda *x: jnp.stack(x), *(state._replace(variables=Variables(state.variables.trainable)) for state in states))
    shared = shared._replace(variables=shared.variables._replace(frozen=start().variables.frozen))
    interaction = tiny.agent("reflection")
    together = training.make_learner(interaction, adapted(), tiny.config(interaction), CONFIG, layout=training.Layout(seed_axis="seed"))
    after, _ = jax.jit(jax.vmap(together.update, (axes,), (axes, 0), axis_name="seed"))(shared)
    assert jax.tree.map(jnp.shape, after.variables.frozen) == jax.tree.map(jnp.shape, start().variables.frozen)
    for index, state in enumerate(states):
        alone, _ = update()(state)
        for a, b in zip(jax.tree.leaves(after.variables.trainable), jax.tree.leaves(alone.variables.trainable), strict=True):
            np.testing.assert_allclose(a[index], b, atol=1e-5)


def test_a_checkpoint_holds_the_adapter_and_refuses_another_base(tmp_path):
    state, _ = trained()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state)
    checkpoints.latest()
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < sum(x.nbytes for x in jax.tree.leaves(state.variables.frozen))
    restored = checkpoints.restore(start())
    jax.tree.map(np.testing.assert_array_equal, restored.variables, state.variables)
    with pytest.raises(CheckpointError, match="is of an agent with other frozen weights; give the pretrained weights that it was trained"):
        checkpoints.restore(start(1))
    with pytest.raises(ValueError, match="holds no frozen variables; give a state that has them"):
        checkpoints.restore(jax.eval_shape(start))
    with pytest.raises(CheckpointError, match="from another configuration"):
        checkpoints.restore(state._replace(variables=Variables(state.variables.trainable)))
    checkpoints.close()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8, jnp.int32, bool])
def test_a_fingerprint_tells_of_every_element_its_place_and_its_name(dtype):
    x = (jnp.arange(24) % 5).reshape(4, 6).astype(dtype)
    of = lambda tree: tuple(np.asarray(fingerprint(tree).words).tolist())
    others = [x.at[2, 3].set((1 - x[2, 3].astype(jnp.float32)).astype(dtype)), x[::-1], x.reshape(6, 4), jnp.zeros_like(x)]
    found = [of({"a": x}), of({"b": x}), of({"a": x, "b": jnp.zeros(0)}), *(of({"a": other}) for other in others)]
    assert len(set(found)) == len(found) and of({"a": jnp.array(x)}) == found[0]
    mesh = jax.sharding.NamedSharding(training.make_mesh(2), jax.sharding.PartitionSpec(None, "data"))
    assert of({"a": jax.device_put(x, mesh)}) == found[0]


def test_pretrained_weights_of_another_form_are_refused():
    with pytest.raises(ValueError, match=r"have head of shape \(3, 2\); give them in the model\'s shape"):
        tiny.model().init(jax.random.key(0), {"head": jnp.zeros((3, 2))})
    with pytest.raises(ValueError, match="have an unknown hed; remove it"):
        tiny.model().init(jax.random.key(0), {"hed": jnp.zeros((3, 2))})
