"""Updates on several devices: under `jax.jit` with a mesh, under `jax.shard_map`, and under `jax.pmap`.

Token ids are the same as on one device; log-probs, losses and gradients agree up to rounding. Under `jax.jit` a `Layout` says what is
divided among the devices of a mesh:

    learner = make_learner(..., layout=Layout(make_mesh(data=4, tensor=2)))
    like = jax.eval_shape(learner.init, key)
    state = jax.jit(learner.init, out_shardings=learner.shardings(like))(key)
    update = jit_update(learner, like)

Under the other two lanes are divided and the rest is replicated. The learner is that of one device, and the state is made by the `init` of
a learner for all lanes:

    learner = make_learner(..., layout=Layout(device_axis="data", num_devices=8))
    update = shard_map_update(learner, make_mesh(8), state)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from arl.training.layout import DATA_AXIS, FSDP_AXIS, TENSOR_AXIS
from arl.training.learner import Learner, TrainState
from arl.types import ArlError

Update = Callable[[TrainState], tuple[TrainState, dict[str, Any]]]


def make_mesh(data: int | None = None, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Returns a mesh of `data * fsdp * tensor` devices, whose axes of size 1 are left out, but for "data".

    Args:
      data: devices along "data"; None for as many as there are.
      fsdp: devices along "fsdp".
      tensor: devices along "tensor".

    Raises:
      ArlError: if there are fewer devices.
    """
    found = jax.device_count()
    sizes = {DATA_AXIS: max(1, found // (fsdp * tensor)) if data is None else data, FSDP_AXIS: fsdp, TENSOR_AXIS: tensor}
    wanted = sizes[DATA_AXIS] * fsdp * tensor
    if wanted > found or min(sizes.values()) < 1:
        raise ArlError(f"a mesh of {sizes[DATA_AXIS]} x {fsdp} x {tensor} devices cannot be made of {found}; set data, fsdp and tensor")
    kept = {axis: size for axis, size in sizes.items() if size > 1 or axis == DATA_AXIS}
    return Mesh(np.array(jax.devices()[:wanted]).reshape(tuple(kept.values())), tuple(kept))


def _specs(state: TrainState) -> TrainState:
    """Returns the partition of a state whose lanes alone are divided."""
    everywhere = TrainState(*(jax.tree.map(lambda _: PartitionSpec(), part) for part in state))
    return everywhere._replace(lanes=jax.tree.map(lambda _: PartitionSpec(DATA_AXIS), state.lanes))


def jit_update(learner: Learner, state: TrainState) -> Update:
    """Returns `learner.update` compiled for the mesh of its layout: each device rolls out its own lanes, and the compiler divides the rest.

    Args:
      learner: learner for all lanes, made with a `Layout` that has a mesh.
      state: state of all lanes, or its `jax.eval_shape`.

    Returns:
      The update; it donates the buffers of its argument, those of frozen variables among them.
    """
    places = learner.shardings(state)
    return jax.jit(learner.update, in_shardings=(places,), out_shardings=(places, places.step), donate_argnums=0)


def shard_map_update(learner: Learner, mesh: Mesh, state: TrainState) -> Update:
    """Returns `learner.update` compiled under `jax.shard_map`.

    Args:
      learner: learner for the lanes of one device, made with `Layout(device_axis="data", num_devices=...)`.
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
      learner: learner for the lanes of one device, made with `Layout(device_axis="data", num_devices=...)`.
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
