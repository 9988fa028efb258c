"""Checkpoints: everything comes back, bit for bit, or one sentence says why not, and nothing beside it."""

import contextlib
import math
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from arl.models import Variables
from arl.training import CheckpointError, Checkpoints, TrainState, packing, store
from arl.training.checkpoint import NotFiniteError

ROOT = pathlib.Path(__file__).parents[2]


def make_state(step: int) -> TrainState:
    """A state with every sort of leaf: floats, integers, bits, typed keys alone and by lane; and with infinities of its environment."""
    lanes = {
        "key": jax.random.split(jax.random.key(step), 4),
        "is_stopped": jnp.array([True, False, False, True]),
        "empty": jnp.zeros((4, 0), jnp.int32),
        "best": jnp.full(4, -jnp.inf),
    }
    layers = {f"layer{i}": jax.random.normal(jax.random.key(i), (64, 16)) for i in range(20)}
    params = {"weight": jax.random.normal(jax.random.key(1), (64, 3)) * step, "half": jnp.full(5, 0.3, jnp.bfloat16), **layers}
    optimizer_state = (jnp.int32(7 * step), {"moment": jnp.arange(6.0)})
    return TrainState(
        Variables(params), optimizer_state, None, lanes, {"count": jnp.uint32(2**31 + step)}, jax.random.key(step), jnp.int32(step)
    )


def bits(state: TrainState) -> list[bytes]:
    """The bytes of every leaf, and its type."""
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [(str(x.dtype), np.asarray(jax.random.key_data(x) if is_key(x) else x).tobytes()) for x in jax.tree.leaves(state)]


def save(folder, steps, **options) -> None:
    """Saves a state for each step."""
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(make_state(step))
    checkpoints.close()


def test_everything_comes_back_bit_for_bit(tmp_path):
    save(tmp_path, [3, 5])
    checkpoints = Checkpoints(tmp_path)
    like = jax.eval_shape(lambda: make_state(0))
    assert checkpoints.latest() == 5
    assert bits(checkpoints.restore(like)) == bits(make_state(5))
    assert bits(checkpoints.restore(like, 3)) == bits(make_state(3)) != bits(make_state(5))
    checkpoints.close()


def test_buffers_may_be_given_away_while_a_checkpoint_is_written(tmp_path):
    checkpoints, state = Checkpoints(tmp_path), make_state(2)
    checkpoints.save(state)
    write_over = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf if leaf.dtype != jnp.float32 else leaf + 1, x), donate_argnums=0)
    jax.block_until_ready(write_over(state))
    assert state.variables.trainable["layer0"].is_deleted()
    checkpoints.close()
    again = Checkpoints(tmp_path)
    assert bits(again.restore(make_state(0))) == bits(make_state(2))
    again.close()


def test_only_the_newest_are_kept(tmp_path):
    save(tmp_path, range(1, 6), keep=2)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint 3"):
        checkpoints.restore(make_state(0), 3)
    assert checkpoints.latest() == 5
    checkpoints.close()


def test_empty_folder_says_so(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    with pytest.raises(CheckpointError, match="train first"):
        checkpoints.restore(make_state(0))
    checkpoints.close()


def cut(folder: pathlib.Path, pattern: str, share: float = 0.5) -> None:
    """Leaves a fraction of each file in a folder that matches."""
    for path in (path for path in folder.rglob(pattern) if path.is_file()):
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def refusal(folder, step: int | None = None, like=None) -> str:
    """What is said instead of a state."""
    checkpoints = Checkpoints(folder)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.restore(make_state(0) if like is None else like, step)
    checkpoints.close()
    return str(caught.value)


@pytest.mark.parametrize(
    ("steps", "advice"), [([3, 4], "remove that folder to go on from checkpoint 3"), ([4], "there is none before it that is whole")]
)
def test_checkpoint_cut_in_half_is_named_with_what_to_do(tmp_path, steps, advice):
    """The last one left is not to be removed: it may be worth a rescue."""
    save(tmp_path, steps)
    cut(tmp_path / "4", "*")
    said = refusal(tmp_path)
    assert str(tmp_path / "4") in said and advice in said


@pytest.mark.parametrize("pattern", ["default", "default/manifest.ocdbt", "default/d/*"])
def test_missing_files_are_noticed(tmp_path, pattern):
    save(tmp_path, [3, 4])
    for path in (tmp_path / "4").glob(pattern):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "4 is damaged" in refusal(tmp_path)


def write_as_orbax(folder: pathlib.Path, step: int, state: TrainState) -> None:
    """Writes a checkpoint by Orbax's own handler, as this project once did."""
    manager = ocp.CheckpointManager(folder, item_handlers=ocp.StandardCheckpointHandler())
    manager.save(step, args=ocp.args.StandardSave(packing.pack(state)))
    manager.wait_until_finished()
    manager.close()


@pytest.mark.parametrize("share", [0.1, 0.8, 0.99])
@pytest.mark.parametrize("is_orbax", [False, True])
def test_nothing_is_printed_beside_the_sentence(tmp_path, capfd, share, is_orbax):
    """Where many arrays cannot be read at once, Orbax's handlers print a traceback for some of them, now and then."""
    write_as_orbax(tmp_path, 4, make_state(4)) if is_orbax else save(tmp_path, [4])
    cut(tmp_path / "4", "d/*", share)
    for _ in range(10):
        assert "4 is damaged" in refusal(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_damaged_ones_between_are_named_too(tmp_path):
    save(tmp_path, [3, 4, 5])
    cut(tmp_path / "4", "d/*")
    cut(tmp_path / "5", "manifest.ocdbt")
    assert "remove that folder and 4 to go on from checkpoint 3" in refusal(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest_whole(make_state(0)) == 3 == checkpoints.newest_whole(make_state(0), before=4)
    assert checkpoints.newest_whole(make_state(0), before=3) is None
    checkpoints.close()


@pytest.mark.parametrize("name", ["abc", "2", ".DS_Store", "3_backup", "9.orbax-checkpoint-tmp"])
def test_what_does_not_belong_there_is_left_alone(tmp_path, capfd, name):
    save(tmp_path, [3])
    (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() == 3 and bits(checkpoints.restore(make_state(0))) == bits(make_state(3))
    checkpoints.close()
    assert capfd.readouterr() == ("", "") and (tmp_path / name).is_dir() and (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_in_the_place_of_the_newest_is_named(tmp_path):
    save(tmp_path, [3])
    (tmp_path / "9").mkdir()
    said = refusal(tmp_path)
    assert f"{tmp_path / '9'} is damaged" in said and "go on from checkpoint 3" in said


def test_flipped_bit_is_noticed(tmp_path):
    """The store itself hands out whatever its files hold; one bit of one weight is as good as another run."""
    save(tmp_path, [4])
    arrays = store.read(tmp_path / "4" / "default", lambda name: True).arrays
    name = next(name for name, array in arrays.items() if array.dtype == np.float32 and array.ndim == 2)
    arrays[name].view(np.uint32)[0, 0] ^= 1
    shutil.rmtree(tmp_path / "4" / "default")
    store.write(tmp_path / "4" / "default", arrays)
    assert "damaged (its bytes are not those that were written)" in refusal(tmp_path)


def with_leaf(state: TrainState, part: str, value: float) -> TrainState:
    """A state in a part of which one number has become `value`."""
    trainable = state.variables.trainable
    broken = {
        "variables": state._replace(variables=Variables({**trainable, "half": trainable["half"].at[3].set(value)})),
        "optimizer_state": state._replace(optimizer_state=(state.optimizer_state[0], {"moment": jnp.arange(6.0).at[0].set(value)})),
        "reference": state._replace(reference={"weight": jnp.full(3, value)}),
    }
    return broken[part]


@pytest.mark.parametrize(("part", "name"), [("variables", "trainable/half"), ("optimizer_state", "1/moment"), ("reference", "weight")])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_what_is_not_finite_is_not_saved(tmp_path, part, name, value):
    """Infinities of the lanes are the environment's, and are."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(3))
    with pytest.raises(NotFiniteError, match=f"update 4 left {part}/{name} with values that are not finite"):
        checkpoints.save(with_leaf(make_state(5), part, value))
    assert checkpoints.latest() == 3
    checkpoints.close()


@pytest.mark.parametrize(("steps", "advice"), [([3, 4], "remove that folder to go on from checkpoint 3"), ([4], "train anew elsewhere")])
def test_a_checkpoint_that_is_not_finite_is_refused(tmp_path, steps, advice):
    """Such were saved once."""
    for step in steps:
        state = make_state(step)
        write_as_orbax(tmp_path, step, with_leaf(state, "variables", math.nan) if step == 4 else state)
    said = refusal(tmp_path)
    assert "4 holds values that are not finite (variables/trainable/half)" in said and advice in said


def test_checkpoints_of_orbax_itself_are_read(tmp_path):
    write_as_orbax(tmp_path, 4, make_state(4))
    checkpoints = Checkpoints(tmp_path)
    assert bits(checkpoints.restore(make_state(0))) == bits(make_state(4))
    checkpoints.save(make_state(5))
    assert bits(checkpoints.restore(make_state(0))) == bits(make_state(5))
    checkpoints.close()


@contextlib.contextmanager
def no_file_beyond(num_bytes: int):
    """Lets the system refuse to write larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("before", "rest"), [([3], "goes on from checkpoint 3"), ([], "begins anew")])
@pytest.mark.parametrize("when", ["at the next", "at the end"])
def test_a_full_disk_is_told_and_what_is_there_stays_good(tmp_path, capfd, before, rest, when):
    save(tmp_path, before)
    checkpoints, states = Checkpoints(tmp_path), [make_state(step) for step in (5, 7)]
    with no_file_beyond(8192):
        checkpoints.save(states[0])
        with pytest.raises(CheckpointError) as caught:
            checkpoints.save(states[1]) if when == "at the next" else checkpoints.close()
    checkpoints.close()
    assert "\n" not in str(caught.value) and rest in str(caught.value)
    assert f"checkpoint 5 could not be written to {tmp_path} (File too large); free what it needs" in str(caught.value)
    assert capfd.readouterr() == ("", "")
    again = Checkpoints(tmp_path)
    assert again.latest() == (before[-1] if before else None)
    if before:
        assert bits(again.restore(make_state(0))) == bits(make_state(3))
    again.save(make_state(5))  # what was half written is in nobody's way
    assert again.latest() == 5 and bits(again.restore(make_state(0))) == bits(make_state(5))
    again.close()


@pytest.mark.parametrize("change", ["shape", "type", "leaves"])
def test_checkpoint_of_another_config_is_refused(tmp_path, change):
    save(tmp_path, [4])
    state = make_state(0)
    weight = state.variables.trainable["weight"]
    params = {
        "shape": {**state.variables.trainable, "weight": jnp.zeros((64, 4))},
        "type": {**state.variables.trainable, "weight": weight.astype(jnp.bfloat16)},
        "leaves": {"weight": weight},
    }[change]
    assert "from another configuration; use the one that it was trained with" in refusal(
        tmp_path, like=state._replace(variables=Variables(params))
    )


def test_leaves_have_the_names_of_their_places_so_that_equal_shapes_are_not_confused(tmp_path):
    arrays = packing.pack(make_state(1))
    assert {
        "variables.trainable.weight",
        "variables.trainable.layer19",
        "optimizer_state.1.moment",
        "lanes.key",
        "curriculum.count",
        "key",
        "step",
    } <= set(arrays)
    save(tmp_path, [1])
    other = make_state(1)
    renamed = other._replace(
        variables=Variables({name.replace("layer1", "layer_1"): leaf for name, leaf in other.variables.trainable.items()})
    )
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="is from another configuration"):
        checkpoints.restore(renamed)
    checkpoints.close()


@pytest.mark.parametrize("version", ["one checksum", "other names"])
def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_sentence(tmp_path, version):
    arrays = packing.pack(make_state(1))
    if version == "one checksum":
        arrays = {name: array for name, array in arrays.items() if name != "checksums"} | {"checksum": np.uint32(0)}
    else:
        arrays = {name.replace("variables.trainable", "params"): array for name, array in arrays.items()}
    manager = ocp.CheckpointManager(tmp_path, item_handlers=store.ArraysHandler())
    manager.save(1, args=store.ArraysSave(arrays))
    manager.close()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="was written by an earlier arl; go on with that version, or train anew elsewhere"):
        checkpoints.restore(make_state(0))
    checkpoints.close()


# ---------------------------------------------------------------- shards, devices, processes


def sharded(state: TrainState, num_devices: int, columns: int = 1) -> TrainState:
    """Shapes of a state whose lanes are divided among the rows of a mesh, and whose weights among its columns."""
    mesh = jax.make_mesh((num_devices // columns, columns), ("data", "tensor"))
    place = lambda spec: lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))
    whole = TrainState(*(jax.tree.map(place(PartitionSpec()), part) for part in state))
    params = {
        name: place(PartitionSpec(None, "tensor") if name.startswith("layer") else PartitionSpec())(x)
        for name, x in state.variables.trainable.items()
    }
    return whole._replace(lanes=jax.tree.map(place(PartitionSpec("data")), state.lanes), variables=Variables(params))


def on(state: TrainState, like: TrainState) -> TrainState:
    """A state on the devices of `like`."""
    return jax.tree.map(lambda leaf, shape: jax.device_put(leaf, shape.sharding), state, like)


@pytest.mark.parametrize(("saved", "restored"), [((8, 2), (4, 1)), ((4, 4), (8, 2)), ((2, 1), (8, 8)), ((8, 2), None), (None, (8, 2))])
def test_a_state_may_be_restored_on_other_devices_than_it_was_saved_on(tmp_path, saved, restored):
    state = make_state(6)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(on(state, sharded(state, *saved)) if saved else state)
    like = sharded(state, *restored) if restored else jax.eval_shape(lambda: state)
    found = checkpoints.restore(like)
    checkpoints.close()
    assert bits(found) == bits(state)
    if restored:
        assert jax.tree.all(jax.tree.map(lambda leaf, shape: leaf.sharding == shape.sharding, found, like))


def test_each_shard_is_saved_once():
    state = make_state(6)
    packed = packing.pack(on(state, sharded(state, 8, 2)))
    assert packed["lanes.is_stopped[1:2]"].shape == (1,) and packed["lanes.key[3:4,0:2]"].shape == (1, 2)
    assert packed["variables.trainable.layer0[0:64,8:16]"].shape == (64, 8) and packed["variables.trainable.weight"].shape == (64, 3)
    num_bytes = lambda arrays: sum(x.nbytes for name, x in arrays.items() if name != "checksums")
    assert num_bytes(packed) == num_bytes(packing.pack(state))


def test_a_missing_shard_is_noticed(tmp_path):
    state = make_state(4)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(on(state, sharded(state, 8, 2)))
    checkpoints.close()
    folder = tmp_path / "4" / "default"
    arrays = store.read(folder, lambda name: name not in ("lanes.key[3:4,0:2]", "checksums")).arrays
    shutil.rmtree(folder)
    checksums = np.array([packing._checksum(arrays[name]) for name in sorted(arrays)], np.uint32)
    store.write(folder, {**arrays, "checksums": checksums})
    assert "4 is damaged (files of some processes are missing)" in refusal(tmp_path)


def test_several_processes_write_and_read_their_own_shards(tmp_path):
    """Whatever one process finds, all of them say: none trains on alone."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.checkpoint_process"]
    running = [
        subprocess.Popen(
            [*command, str(index), port, str(tmp_path)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in running]
    assert all(process.returncode == 0 and "done" in output for process, output in zip(running, said, strict=True)), "\n".join(said)
