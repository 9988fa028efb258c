"""Checkpoints: everything comes back, bit for bit, or one sentence says why not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.training import CheckpointError, Checkpoints, TrainState


def make_state(step: int) -> TrainState:
    """A state with every sort of leaf: floats, integers, bits, typed keys alone and by lane."""
    lanes = {
        "key": jax.random.split(jax.random.key(step), 4),
        "is_stopped": jnp.array([True, False, False, True]),
        "empty": jnp.zeros((4, 0), jnp.int32),
    }
    params = {"weight": jax.random.normal(jax.random.key(1), (64, 3)) * step, "half": jnp.full(5, 0.3, jnp.bfloat16)}
    optimizer_state = (jnp.int32(7 * step), {"moment": jnp.arange(6.0)})
    return TrainState(params, optimizer_state, None, lanes, {"count": jnp.uint32(2**31 + step)}, jax.random.key(step), jnp.int32(step))


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
    wanted = bits(state)
    checkpoints.save(state)
    jax.tree.map(lambda x: x.delete(), state)
    checkpoints.close()
    again = Checkpoints(tmp_path)
    assert bits(again.restore(make_state(0))) == wanted
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


@pytest.mark.parametrize(("steps", "advice"), [([3, 4], "remove that folder"), ([4], "there is none before it")])
def test_checkpoint_cut_in_half_is_named_with_what_to_do(tmp_path, steps, advice):
    """The last one left is not to be removed: it may be worth a rescue."""
    save(tmp_path, steps)
    for path in (path for path in (tmp_path / "4").rglob("*") if path.is_file()):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.restore(make_state(0))
    assert str(tmp_path / "4") in str(caught.value) and advice in str(caught.value)
    checkpoints.close()


def test_flipped_bit_is_noticed(tmp_path, monkeypatch):
    """The store itself hands out whatever its files hold; one bit of one weight is as good as another run."""
    save(tmp_path, [4])
    checkpoints = Checkpoints(tmp_path)
    restore = checkpoints._manager.restore

    def flip_one_bit(*args, **options):
        arrays = restore(*args, **options)
        name = next(name for name, array in arrays.items() if array.dtype == jnp.float32)
        bits = arrays[name].view(jnp.uint32)
        return {**arrays, name: bits.at[(0,) * bits.ndim].set(bits[(0,) * bits.ndim] ^ 1).view(jnp.float32)}

    monkeypatch.setattr(checkpoints._manager, "restore", flip_one_bit)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.restore(make_state(0))
    checkpoints.close()


@pytest.mark.parametrize("change", ["shape", "type", "leaves"])
def test_checkpoint_of_another_config_is_refused(tmp_path, change):
    save(tmp_path, [4])
    weight, half = jnp.zeros((64, 3)), jnp.zeros(5, jnp.bfloat16)
    params = {
        "shape": {"weight": jnp.zeros((64, 4)), "half": half},
        "type": {"weight": weight.astype(jnp.bfloat16), "half": half},
        "leaves": {"weight": weight},
    }[change]
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="another configuration"):
        checkpoints.restore(make_state(0)._replace(params=params))
    checkpoints.close()
