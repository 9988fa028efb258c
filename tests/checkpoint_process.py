"""One of two processes that write and read checkpoints together; see `tests/training/checkpoint_test.py`.

python -m tests.checkpoint_process INDEX PORT FOLDER
"""

import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from arl.models import Variables
from arl.training import CheckpointError, Checkpoints, TrainState, store
from arl.training.checkpoint import NotFiniteError


def make(seed: int, number: float = 0.0) -> TrainState:
    """A state divided among the devices of both processes; `number` is added to a weight of the second one's."""
    mesh = jax.make_mesh((4,), ("data",))
    divided, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    shardings = TrainState(Variables({"weight": divided}), None, None, {"key": divided}, {}, whole, whole)

    def state():
        key = jax.random.key(seed)
        weight = jax.random.normal(key, (8, 3)).at[7, 0].add(number)
        return TrainState(Variables({"weight": weight}), None, None, {"key": jax.random.split(key, 4)}, {}, key, jnp.int32(seed))

    return jax.jit(state, out_shardings=shardings)()


def shards(state: TrainState) -> list[np.ndarray]:
    """The data of this process."""
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    leaves = (jax.random.key_data(x) if is_key(x) else x for x in jax.tree.leaves(state))
    return [np.asarray(shard.data) for leaf in leaves for shard in leaf.addressable_shards]


def refusal(error: type[Exception], function, *arguments: Any) -> str:
    """What is said instead of a result."""
    try:
        function(*arguments)
    except error as refused:
        return str(refused)
    raise AssertionError(f"{function} returned")


def main(index: int, port: str, folder: pathlib.Path) -> None:
    """Saves, restores, and meets a weight that is not finite and a damaged file, both of the second process."""
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=index)
    checkpoints = Checkpoints(folder)
    checkpoints.save(make(3))
    checkpoints.save(make(5))
    assert checkpoints.latest() == 5
    for step, found in ((5, checkpoints.restore(make(0))), (3, checkpoints.restore(make(0), 3))):
        jax.tree.map(np.testing.assert_array_equal, shards(found), shards(make(step)))
    own = folder / "5" / "default" / ("process_1" if index else ".")
    names = store.read(own, lambda name: True).names
    weights = {f"variables.trainable.weight[{row}:{row + 2},0:3]" for row in (4 * index, 4 * index + 2)}
    lanes = {f"lanes.key[{lane}:{lane + 1},0:2]" for lane in (2 * index, 2 * index + 1)}
    assert names == weights | lanes | {"checksums"} | (set() if index else {"key", "step"}), names
    assert "variables/trainable/weight" in refusal(NotFiniteError, checkpoints.save, make(6, jnp.nan))
    assert checkpoints.newest_whole(make(0)) == 5
    if index:
        (own / "manifest.ocdbt").unlink()
    said = refusal(CheckpointError, checkpoints.restore, make(0))
    assert "5 is damaged" in said and "go on from checkpoint 3" in said, said
    checkpoints.close()
    print("done")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]))
