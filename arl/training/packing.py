"""The training state as named arrays on the host, one for each shard that this process holds, and checks of them.

The name of a shard is that of its leaf, such as "key", and, where it is not the whole leaf, its place in it, as in
"variables.trainable.head[0:32,64:128]". A state may be restored with other shardings, and on another number of devices, than it was saved
with. Frozen variables are not packed, but their fingerprint is.
"""

import math
import re
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from arl.training.fingerprint import Fingerprint, fingerprint
from arl.training.learner import TrainState
from arl.training.store import Arrays
from arl.types import ArlError

_CHECKSUMS = "checksums"
_LEARNED = ("variables", "optimizer_state", "reference")
_SHARD = re.compile(r"(?P<leaf>[^\[]*)(\[(?P<bounds>[\d:,]+)\])?$")

Index = tuple[slice, ...]


def without_frozen(state: TrainState) -> TrainState:
    """Returns a state with the fingerprint of its frozen variables in their place.

    Raises:
      ArlError: if they are not there, as in a `jax.eval_shape`.
    """
    frozen = state.variables.frozen
    if isinstance(frozen, Fingerprint) or not jax.tree.leaves(frozen):
        return state
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(frozen)):
        raise ArlError("a checkpoint holds no frozen variables; give a state that has them, as in like._replace(variables=...)")
    return state._replace(variables=state.variables._replace(frozen=fingerprint(frozen)))


def pack(state: TrainState) -> Arrays:
    """Returns copies of the shards of a state, by name, and their checksums. They stay valid when the state's buffers are donated.

    A shard that several devices hold is packed once, by one process.
    """
    # Empty arrays cannot be stored, and need not be.
    leaves = ((name, _data(leaf)) for name, leaf in _named(state) if leaf.size)
    arrays = {shard: np.array(data) for name, leaf in leaves for shard, data in _shards(name, leaf)}
    return {**arrays, _CHECKSUMS: np.array([_checksum(arrays[name]) for name in sorted(arrays)], np.uint32)}


def unpack(like: TrainState, arrays: Arrays) -> TrainState:
    """Returns the state that was packed.

    Args:
      like: a state of the same shapes, or its `jax.eval_shape`; where its leaves have shardings, the result has them.
      arrays: result of `pack`, of all processes; they are copied.

    Returns:
      The state.
    """

    shards: dict[str, list[tuple[Index | None, np.ndarray]]] = {}
    for shard, array in arrays.items():
        leaf, place = _place(shard)
        shards.setdefault(leaf, []).append((place, array))

    def restored(name: str, leaf: Any) -> Any:
        form, sharding = _data_form(leaf), getattr(leaf, "sharding", None)
        if not leaf.size:
            data = jax.numpy.zeros(form.shape, form.dtype, device=sharding)
        elif sharding is None:
            data = jax.numpy.array(_assemble(form, _places(leaf)[0], shards[name]), copy=True)
        else:
            places = sharding.addressable_devices_indices_map(form.shape).items()
            parts = [jax.device_put(_assemble(form, index, shards[name]), device, may_alias=False) for device, index in places]
            data = jax.make_array_from_single_device_arrays(form.shape, sharding, parts)
        return jax.random.wrap_key_data(data) if _is_key(leaf) else data

    return jax.tree.unflatten(jax.tree.structure(like), [restored(name, leaf) for name, leaf in _named(like)])


def wanted(like: TrainState) -> Callable[[str], bool]:
    """Returns `name -> bool`, whether the shard of that name has a part of what `unpack` gives to the devices of this process."""
    places = {name: _places(leaf) for name, leaf in _named(like) if leaf.size}

    def is_wanted(shard: str) -> bool:
        leaf, place = _place(shard)
        return shard == _CHECKSUMS or place is None or any(_overlap(place, other) for other in places.get(leaf, [place]))

    return is_wanted


def is_intact(names: Iterable[str], arrays: Arrays) -> bool:
    """Returns whether arrays have their checksums; the store notices no flipped bit.

    Args:
      names: names of all arrays that one process packed.
      arrays: some of them.
    """
    names = sorted(set(names) - {_CHECKSUMS})
    checksums = arrays.get(_CHECKSUMS, np.zeros(0))
    if checksums.shape != (len(names),):
        return False
    return all(_checksum(arrays[name]) == checksum for name, checksum in zip(names, checksums) if name in arrays)


def fits(like: TrainState, arrays: Arrays) -> bool:
    """Returns whether arrays are shards of a state of the same leaves, shapes and types as `like`."""
    leaves = {name: _data_form(leaf) for name, leaf in _named(like) if leaf.size}
    found = {shard: _place(shard) for shard in arrays if shard != _CHECKSUMS}
    if {leaf for leaf, _ in found.values()} != set(leaves):
        return False
    return all(_fits_leaf(leaves[leaf], place, arrays[shard]) for shard, (leaf, place) in found.items())


def has_same_base(like: TrainState, arrays: Arrays) -> bool:
    """Returns whether arrays were packed with the frozen variables whose fingerprint `like` has; true if it has none."""
    known = like.variables.frozen
    has_values = isinstance(known, Fingerprint) and not isinstance(known.words, jax.ShapeDtypeStruct)
    return not has_values or np.array_equal(arrays["variables.frozen.words"], known.words)


def is_complete(like: TrainState, names: Iterable[str]) -> bool:
    """Returns whether there are all shards of a state of the form of `like`, by their names."""
    sizes = {name: _data_form(leaf).size for name, leaf in _named(like) if leaf.size}
    found = dict.fromkeys(sizes, 0)
    for shard in set(names) - {_CHECKSUMS}:
        leaf, place = _place(shard)
        if leaf in found:
            found[leaf] += sizes[leaf] if place is None else math.prod(part.stop - part.start for part in place)
    return found == sizes


def not_finite(arrays: Arrays) -> str:
    """Finds an array of the variables, optimizer state or reference that is not finite.

    Lanes and curricula are not checked, because an environment may keep infinite numbers.

    Args:
      arrays: result of `pack`.

    Returns:
      The name of the first leaf, such as "variables/trainable/head"; "" if there is none.
    """
    for shard, array in arrays.items():
        leaf, _ = _place(shard)
        is_learned = leaf.partition(".")[0] in _LEARNED and jax.numpy.issubdtype(array.dtype, np.inexact)
        if is_learned and not np.isfinite(array).all():
            return leaf.replace(".", "/")
    return ""


def is_former(arrays: Arrays) -> bool:
    """Returns whether arrays were packed by an earlier version, which had one checksum, or other names of variables."""
    return (_CHECKSUMS not in arrays and "checksum" in arrays) or any(name.startswith("params.") for name in arrays)


def _shards(name: str, leaf: Any) -> Iterable[tuple[str, Any]]:
    """Yields name and data of each shard of a leaf that this process is the one to store."""
    if not isinstance(leaf, jax.Array):
        yield name, leaf
        return
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            bounds = [f"{part.start}:{part.stop}" for part in _bounds(shard.index, leaf.shape)]
            yield (name if shard.data.shape == leaf.shape else f"{name}[{','.join(bounds)}]"), shard.data


def _place(shard: str) -> tuple[str, Index | None]:
    """Returns the name of a shard's leaf and its place in it, None for the whole leaf."""
    match = _SHARD.match(shard)
    if not match:
        return shard, None
    bounds = match["bounds"] and tuple(slice(*map(int, part.split(":"))) for part in match["bounds"].split(","))
    return match["leaf"], bounds or None


def _assemble(leaf: jax.ShapeDtypeStruct, index: Index, shards: list[tuple[Index | None, np.ndarray]]) -> np.ndarray:
    """Returns a part of a leaf, put together from those of its shards that overlap with it."""
    target = _bounds(index, leaf.shape)
    result = np.empty([part.stop - part.start for part in target], leaf.dtype)
    for place, array in shards:
        if place is None:
            return array[index]
        if (common := _overlap(place, target)) is not None:
            result[_within(common, target)] = array[_within(common, place)]
    return result


def _places(leaf: Any) -> list[Index]:
    """Returns the parts of a leaf that the devices of this process hold."""
    shape, sharding = _data_form(leaf).shape, getattr(leaf, "sharding", None)
    if sharding is None:
        return [_bounds((slice(None),) * len(shape), shape)]
    return [_bounds(index, shape) for index in sharding.addressable_devices_indices_map(shape).values()]


def _bounds(index: Index, shape: tuple[int, ...]) -> Index:
    """Returns an index whose slices have numbers as bounds."""
    return tuple(slice(*part.indices(size)[:2]) for part, size in zip(index, shape))


def _overlap(one: Index, other: Index) -> Index | None:
    """Returns the part of an array that two parts have in common; None if there is none."""
    common = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other))
    return common if all(part.start < part.stop for part in common) else None


def _within(part: Index, whole: Index) -> Index:
    """Returns the place of a part of an array, relative to a larger part."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, whole))


def _fits_leaf(leaf: jax.ShapeDtypeStruct, place: Index | None, array: np.ndarray) -> bool:
    """Returns whether an array is the shard of a leaf at a place."""
    if place is None:
        return (array.shape, array.dtype) == (leaf.shape, leaf.dtype)
    shape = tuple(part.stop - part.start for part in place)
    within = len(place) == len(leaf.shape) and all(part.stop <= size for part, size in zip(place, leaf.shape))
    return within and (array.shape, array.dtype) == (shape, leaf.dtype)


def _checksum(array: np.ndarray) -> int:
    """Returns the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8))


def _named(state: TrainState) -> list[tuple[str, Any]]:
    """Returns the leaves of a state with the names of their places, by which leaves of equal shapes are told apart."""
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in jax.tree.leaves_with_path(state)]


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _data_form(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns shape and type of `_data(leaf)`."""
    return jax.ShapeDtypeStruct((*leaf.shape, 2), np.uint32) if _is_key(leaf) else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
