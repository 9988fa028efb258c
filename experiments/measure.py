"""How the benchmark measures: sides that take turns, medians, and the machine's own matrix products as the yardstick."""

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.models import ModelConfig
from arl.types import Stream


def seconds(side: Callable[[], Any]) -> float:
    """Returns how long one call takes, its arrays computed to the end."""
    began = time.perf_counter()
    jax.block_until_ready(side())
    return time.perf_counter() - began


def alternate(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Returns the median seconds of a call of each side.

    The sides take turns, so that whatever else the machine does meets them all alike; a first round, in which programs are compiled and
    memory is claimed, does not count.

    Args:
      sides: what to call, by name.
      rounds: how often each is called.
    """
    taken = {name: [] for name in sides}
    gc.collect()
    for _ in range(rounds + 1):
        for name, side in sides.items():
            taken[name].append(seconds(side))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def matmul(size: int) -> tuple[Callable[[], Any], float]:
    """Returns a float32 product of two matrices `[size, size]` as a side, and its floating-point operations."""
    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    return (lambda: product(matrix, matrix)), 2.0 * size**3


def fastest_matmul(rounds: int, sizes: tuple[int, ...] = (512, 1024, 2048)) -> float:
    """Returns the machine's own peak: operations a second of the size of matrix product that it does best."""
    sides = {size: matmul(size) for size in sizes}
    taken = alternate({str(size): side for size, (side, _) in sides.items()}, rounds)
    return max(operations / taken[str(size)] for size, (_, operations) in sides.items())


def forward_operations(config: ModelConfig, stream: Stream, num_letters: int) -> float:
    """Returns the floating-point operations that a stream needs of the model once, two for each multiply and add of a matrix product.

    Only what is of use is counted: tokens that were read, keys that a token sees, and scores where a token was written.

    Args:
      config: of the model.
      stream: `[B, T]`.
      num_letters: that are scored for each written token, `U`.
    """
    attention_width = config.num_heads * config.head_width
    weights = config.width * (attention_width + 2 * config.num_kv_heads * config.head_width) + attention_width * config.width
    weights += 3 * config.width * config.feed_forward_width
    is_read = np.asarray(stream.token_kind) > 0
    seen = np.where(is_read, np.arange(is_read.shape[1]) - np.asarray(stream.begin) + 1, 0).sum()
    per_layer = float(weights) * is_read.sum() + 2.0 * attention_width * seen
    scores = float(config.width) * num_letters * np.asarray(stream.is_written).sum()
    return 2.0 * (config.num_layers * per_layer + scores)


def run_default_job(cache: str, num_updates: int) -> dict[str, float]:
    """Compiles and runs the default job, alone in its process.

    Args:
      cache: folder of the compilation cache.
      num_updates: to run.

    Returns:
      Seconds to compile `init` and `update`; MiB of the process at most, and of the program's arguments, results and intermediates.
    """
    from arl import training
    from experiments import devices
    from experiments.build import build
    from experiments.presets import get_preset

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    devices.claim()
    mesh, key = devices.make_mesh(), jax.random.key(0)
    learner = build(get_preset("reflection"), mesh).learner
    like = jax.eval_shape(learner.init, key)
    began = time.perf_counter()
    init = jax.jit(learner.init, out_shardings=training.shardings(like, mesh)).lower(key).compile()
    update = training.jit_update(learner, mesh, like).lower(like).compile()
    taken, state = time.perf_counter() - began, init(key)
    for _ in range(num_updates):
        state, metrics = update(state)
        jax.block_until_ready(metrics)
    memory = update.memory_analysis()
    of_program = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of `ru_maxrss`, a MiB
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"compile_seconds": taken, "peak_memory_mib": most, "program_memory_mib": of_program / 2**20}
