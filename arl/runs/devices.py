"""The devices that share the lanes of a training."""

import os
from typing import Any

import jax
from jax.sharding import Mesh

from arl import training
from arl.types import ArlError


def claim(wanted: int | None = None, blocks: int = 8) -> None:
    """Splits the CPU into `wanted` devices, by default as many as its cores and `blocks` of lanes allow; call it before any computation.

    One program on all cores waits for the slowest core after every operation; one program per core waits once per update.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", wanted or _largest_divisor(blocks, _num_cores()))  # does not affect accelerators


def use_all_cores() -> None:
    """Makes each core of the CPU a device, so that `arl.train` uses all of them; call it before any computation."""
    claim()


def make_mesh(wanted: int | None = None, blocks: int = 8, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Returns a mesh of devices, over which blocks of lanes are divided evenly.

    Args:
      wanted: number of devices; None for as many as there are.
      blocks: number of blocks of lanes.
      fsdp: number of those along the axis "fsdp".
      tensor: number of those along the axis "tensor".

    Raises:
      ArlError: if there are fewer devices, or they or the blocks do not divide evenly.
    """
    found = jax.device_count()
    if wanted and wanted > found:
        raise ArlError(f"there are {found} devices and not {wanted}; set --devices={found} or fewer")
    if (wanted or found) % (fsdp * tensor):
        raise ArlError(f"{wanted or found} devices cannot be shared by {fsdp} x {tensor}; set --devices to a multiple")
    if wanted and blocks % (wanted // tensor):
        raise ArlError(
            f"{blocks} blocks of lanes do not divide among {wanted} devices; set --devices="
            f"{_largest_divisor(blocks, wanted // tensor) * tensor if fsdp == 1 else fsdp * tensor}"
        )
    data = wanted // (fsdp * tensor) if wanted else _largest_divisor(blocks, found // tensor) // fsdp
    return training.make_mesh(max(1, data), fsdp, tensor)


def on_one_device(variables: Any) -> Any:
    """Returns variables of a mesh as arrays of the first device."""
    return jax.device_put(variables, jax.devices()[0])


def _largest_divisor(blocks: int, most: int) -> int:
    return max(number for number in range(1, most + 1) if blocks % number == 0)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
