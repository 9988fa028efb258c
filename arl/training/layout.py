"""Layouts: how a training program is divided among devices, by the names of a mesh's axes.

- "data" divides the lanes; every device has all weights.
- "fsdp" divides the lanes and the weights (ZeRO, arXiv:1910.02054, stage 3).
- "tensor" divides the weights and the products with them (Megatron-LM, arXiv:1909.08053).

In a rollout every device has its own lanes and all weights, gathered once before the loop. The loop holds no collective, so that no device
waits for another's lanes.
"""

import math
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from arl.models import Policy
from arl.types import ArlError

DATA_AXIS, FSDP_AXIS, TENSOR_AXIS = "data", "fsdp", "tensor"
LANE_AXES = (DATA_AXIS, FSDP_AXIS)
RULES = {"vocab": TENSOR_AXIS, "heads": TENSOR_AXIS, "mlp": TENSOR_AXIS, "embed": FSDP_AXIS}
"""The axis of a mesh that divides each logical axis of the weights, see `Policy.axes`. What does not divide evenly is replicated."""


class Layout(NamedTuple):
    """How a program is divided among devices: by a mesh under `jax.jit`, or by a mapped axis under `jax.shard_map` or `jax.pmap`.

    Attributes:
      mesh: mesh with axes among "data", "fsdp" and "tensor"; None for one device, or under `device_axis`.
      device_axis: mapped axis of devices, for the program of one device; each then has `num_lanes / num_devices` lanes.
      num_devices: number of devices on `device_axis`.
      seed_axis: axis of a `jax.vmap` over seeds.
    """

    mesh: Mesh | None = None
    device_axis: str | None = None
    num_devices: int = 1
    seed_axis: str | None = None

    @property
    def num_shards(self) -> int:
        """Number of parts into which the lanes of the gradient are divided."""
        if self.mesh is None:
            return self.num_devices
        return math.prod(size for axis, size in self.mesh.shape.items() if axis in LANE_AXES)

    @property
    def lanes(self) -> PartitionSpec:
        """Partition of the lanes of a training state, and of trajectories in the loss."""
        return PartitionSpec(tuple(axis for axis in self._mesh.axis_names if axis in LANE_AXES))

    @property
    def divides_weights(self) -> bool:
        """Whether the mesh has an axis that divides weights."""
        return self.mesh is not None and any(axis in self.mesh.shape for axis in (FSDP_AXIS, TENSOR_AXIS))

    def weights(self, policy: Policy, variables: Any) -> Any:
        """Returns the partition of each array of a policy's variables, which may be those of a `jax.eval_shape`."""
        if policy.axes is None:
            return jax.tree.map(lambda _: PartitionSpec(), variables)
        names = policy.axes(variables)
        return jax.tree.map(lambda x, axes: self._of_array(x.shape, axes), variables, names)

    def like_weights(self, weights: Any, partitions: Any, state: Any) -> Any:
        """Returns the partition of each array of an optimizer's state: that of the weight whose name and shape it has, else replicated.

        Args:
          weights: the trainable variables.
          partitions: their partitions.
          state: state of the optimizer.
        """
        known = {}
        paths = jax.tree_util.tree_leaves_with_path(partitions, is_leaf=lambda x: isinstance(x, PartitionSpec))
        for (path, spec), leaf in zip(paths, jax.tree.leaves(weights), strict=True):
            known[path] = (leaf.shape, spec)

        def of_leaf(path, leaf):
            found = (known.get(path[start:]) for start in range(len(path)))
            return next((spec for shape, spec in filter(None, found) if shape == leaf.shape), PartitionSpec())

        return jax.tree_util.tree_map_with_path(of_leaf, state)

    def named(self, partitions: Any) -> Any:
        """Returns partitions as shardings on the mesh."""
        return jax.tree.map(lambda spec: NamedSharding(self._mesh, spec), partitions, is_leaf=lambda x: isinstance(x, PartitionSpec))

    @property
    def _mesh(self) -> Mesh:
        if self.mesh is None:
            raise ArlError("this layout has no mesh; give Layout.mesh")
        return self.mesh

    def _of_array(self, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> PartitionSpec:
        def of_axis(size: int, name: str | None) -> str | None:
            axis = RULES.get(name or "")
            return axis if axis in self._mesh.shape and size % self._mesh.shape[axis] == 0 else None

        # Arrays of layers that are stacked have one more axis, the first.
        return PartitionSpec(*[None] * (len(shape) - len(axes)), *map(of_axis, shape[len(shape) - len(axes) :], axes))
