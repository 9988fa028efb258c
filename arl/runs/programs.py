"""The compiled programs of a training: of one seed on a mesh of devices, or of several seeds at once."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from arl.runs.experiment import Experiment
from arl.training import Checkpoints, Layout, TrainState, jit_update

SEED_AXIS, DEVICES_OF_SEEDS = "seed", "seeds"  # of the `vmap` over the seeds of a device, and of the mesh


class Programs(NamedTuple):
    """The programs of a training.

    Attributes:
      keys: random keys of the seeds, `[]` or `[num_seeds]`.
      init: `keys -> TrainState`.
      like: `jax.eval_shape` of `init`.
      updates: the jitted updates, in the order in which they are used: the warm start if there is one, and the learner.
    """

    keys: jax.Array
    init: Callable[[jax.Array], TrainState]
    like: TrainState
    updates: list[Any]

    def trace(self) -> list[Any]:
        """Returns the traced updates; whatever cannot be traced fails here."""
        return [update.trace(self.like) for update in self.updates]

    def restore(self, checkpoints: Checkpoints) -> TrainState:
        """Returns the state of the newest checkpoint, with the frozen variables of a new state, which no checkpoint holds."""
        variables = self.like.variables
        if jax.tree.leaves(variables.frozen):
            variables = variables._replace(frozen=self.init(self.keys).variables.frozen)
        return checkpoints.restore(self.like._replace(variables=variables))


def seeds_layout() -> Layout:
    """Returns the layout for several seeds in one program: each device has whole seeds, and none waits for another."""
    return Layout(seed_axis=SEED_AXIS)


def make_programs(experiment: Experiment, seeds: Sequence[int]) -> Programs:
    """Returns the programs of a training.

    Args:
      experiment: the training; for several seeds, with the layout `seeds_layout()`.
      seeds: the seeds.
    """
    parts = [part for part in (experiment.warm_start, experiment.learner) if part]
    learner, weights = experiment.learner, {"pretrained": experiment.pretrained}
    if len(seeds) == 1:
        keys = jax.random.key(seeds[0])
        like = jax.eval_shape(learner.init, keys, **weights)
        init = jax.jit(learner.init, out_shardings=learner.shardings(like))
        updates = [jit_update(part, like) for part in parts]
        return Programs(keys, functools.partial(init, **weights), jax.eval_shape(init, keys, **weights), updates)
    keys = jax.vmap(jax.random.key)(jnp.array(seeds, jnp.uint32))
    num_devices = max(n for n in range(1, jax.device_count() + 1) if len(seeds) % n == 0)
    mesh = Mesh(np.array(jax.devices()[:num_devices]), (DEVICES_OF_SEEDS,))
    init = _of_seeds(functools.partial(learner.init, **weights), mesh, donates=False)  # the weights are constants of this program
    like = jax.eval_shape(init, keys)
    return Programs(keys, init, like, [_of_seeds(part.update, mesh, donates=True) for part in parts])


def _of_seeds(function: Any, mesh: Mesh, donates: bool) -> Any:
    """Returns a function of one seed for a leading axis of seeds, which the devices of a mesh divide."""
    over_seeds = PartitionSpec(DEVICES_OF_SEEDS)
    mapped = jax.vmap(function, axis_name=SEED_AXIS)
    mapped = jax.shard_map(mapped, mesh=mesh, in_specs=over_seeds, out_specs=over_seeds, check_vma=False)
    return jax.jit(mapped, out_shardings=NamedSharding(mesh, over_seeds), donate_argnums=(0,) if donates else ())


def of_seed(state: TrainState, index: int, num_seeds: int) -> TrainState:
    """Returns the state of one seed.

    Args:
      state: state of `num_seeds` seeds; that of one seed has no axis of seeds.
      index: index of the seed.
      num_seeds: number of seeds.
    """
    return state if num_seeds == 1 else jax.tree.map(lambda x: x[index], state)


def num_devices(programs: Programs) -> int:
    """Returns the number of devices that hold the state."""
    return max(len(x.sharding.device_set) for x in jax.tree.leaves(programs.like))
