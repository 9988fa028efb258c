"""Updates on several devices: under `jax.jit` with a mesh, under `jax.shard_map`, and under `jax.pmap`.

Lanes are divided among the devices; everything else is replicated. Token ids are the same as on one device; log-probs, losses and gradients
agree up to rounding. The state is made by the `init` of a learner for all lanes:

    learner = make_learner(..., mesh=mesh)                                      # or axis_name="data", num_devices=8 for the other two
    like = jax.eval_shape(learner.init, key)
    state = jax.jit(learner.init, out_shardings=shardings(like, mesh))(key)
    update = jit_update(learner, mesh, like)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from arl.training.learner import DATA_AXIS, Learner, TrainState

Update = Callable[[TrainState], tuple[TrainState, dict[str, Any]]]


def make_mesh(num_devices: int | None = None) -> Mesh:
    """Returns a mesh with one axis, `data`, of `num_devices` devices; None takes all."""
    devices = jax.devices()[:num_devices]
    return Mesh(devices, (DATA_AXIS,))


def _specs(state: TrainState) -> TrainState:
    """Returns the partition of a state: lanes are divided along their first axis, the rest is replicated."""
    everywhere = TrainState(*(jax.tree.map(lambda _: PartitionSpec(), part) for part in state))
    return everywhere._replace(lanes=jax.tree.map(lambda _: PartitionSpec(DATA_AXIS), state.lanes))


def shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """Returns the shardings of a state on a mesh, for `jax.device_put` or the `out_shardings` of a jitted `init`.

    Args:
      state: state of all lanes, or its `jax.eval_shape`.
      mesh: mesh with an axis `data`.

    Returns:
      A `NamedSharding` for each array: lanes are divided, the rest is replicated.
    """
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), _specs(state), is_leaf=lambda x: isinstance(x, PartitionSpec))


def jit_update(learner: Learner, mesh: Mesh, state: TrainState) -> Update:
    """Returns `learner.update` compiled for a mesh: each device rolls out its own lanes, and the compiler partitions the rest.

    Args:
      learner: learner for all lanes, made with `mesh`.
      mesh: mesh with an axis `data`.
      state: state of all lanes, or its `jax.eval_shape`.

    Returns:
      The update; it donates the buffers of its argument.
    """
    places, everywhere = shardings(state, mesh), NamedSharding(mesh, PartitionSpec())
    return jax.jit(learner.update, in_shardings=(places,), out_shardings=(places, everywhere), donate_argnums=0)


def shard_map_update(learner: Learner, mesh: Mesh, state: TrainState) -> Update:
    """Returns `learner.update` compiled under `jax.shard_map`.

    Args:
      learner: learner for the lanes of one device, made with `axis_name="data"` and the mesh's `num_devices`.
      mesh: mesh with an axis `data`.
      state: state of all lanes, or its `jax.eval_shape`.

    Returns:
      The update; it donates the buffers of its argument.
    """
    specs = _specs(state)
    mapped = jax.shard_map(learner.update, mesh=mesh, in_specs=(specs,), out_specs=(specs, PartitionSpec()), check_vma=False)
    return jax.jit(mapped, donate_argnums=0)


def pmap_update(learner: Learner, num_devices: int) -> Update:
    """Returns `learner.update` compiled under `jax.pmap`, for states from `replicate`.

    Args:
      learner: learner for the lanes of one device, made with `axis_name="data"` and `num_devices`.
      num_devices: number of devices.

    Returns:
      The update of states and metrics with a leading axis of devices; it donates the buffers of its argument.
    """
    return jax.pmap(learner.update, axis_name=DATA_AXIS, devices=jax.devices()[:num_devices], donate_argnums=0)


def replicate(state: TrainState, num_devices: int) -> TrainState:
    """Returns a state with a leading axis of `num_devices`, for `pmap_update`: lanes are divided along it, the rest is repeated."""

    def repeat(x):
        return jnp.broadcast_to(x[None], (num_devices, *x.shape))

    divided = jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), state.lanes)
    return TrainState(*(jax.tree.map(repeat, part) for part in state))._replace(lanes=divided)


def unreplicate(state: TrainState, num_devices: int) -> TrainState:
    """Returns a state without the leading axis of `num_devices`: the first device's, with the lanes of all devices."""
    joined = jax.tree.map(lambda x: x.reshape(num_devices * x.shape[1], *x.shape[2:]), state.lanes)
    return TrainState(*(jax.tree.map(lambda x: x[0], part) for part in state))._replace(lanes=joined)
