"""How the benchmark measures: two sides in turns, medians, and the machine's own matrix products for reference."""

import contextlib
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from arl import training
from arl.models import ModelConfig
from arl.training import Learner
from arl.types import Trajectory


def seconds(side: Callable[[], Any]) -> float:
    """Returns the seconds of one call, until its arrays are computed."""
    began = time.perf_counter()
    jax.block_until_ready(side())
    return time.perf_counter() - began


def alternate(sides: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Returns the median seconds of a call of each side.

    The sides take turns, so that other load on the machine affects all of them alike. The first round, in which programs are compiled and
    memory is allocated, does not count.

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


class Compiled(NamedTuple):
    """A compiled program, and the time to make it.

    Attributes:
      program: the program, with the arguments of its function.
      trace_seconds: time to trace and lower the function.
      compile_seconds: time to compile it.
    """

    program: Any
    trace_seconds: float
    compile_seconds: float

    @property
    def memory(self) -> int:
        """Bytes of its arguments, results and intermediates."""
        of = self.program.memory_analysis()
        return of.argument_size_in_bytes + of.output_size_in_bytes - of.alias_size_in_bytes + of.temp_size_in_bytes


def compile_apart(function: Any, *arguments: Any) -> Compiled:
    """Returns a jitted function compiled for some arguments, or for their shapes."""
    began = time.perf_counter()
    lowered = function.trace(*arguments).lower()
    traced = time.perf_counter()
    return Compiled(lowered.compile(), traced - began, time.perf_counter() - traced)


@contextlib.contextmanager
def no_compilation_cache() -> Iterator[None]:
    """Compiles all programs anew within this context, without the compilation cache."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX reads the option only once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def matmul(size: int, dtype: str = "float32") -> tuple[Callable[[], Any], float]:
    """Returns a product of two matrices `[size, size]` as a side, and its floating-point operations."""
    # Random numbers: a product of equal ones draws less power, and some devices then run it faster.
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    return (lambda: product(matrix, matrix)), 2.0 * size**3


def fastest_matmul(rounds: int, sizes: tuple[int, ...] = (512, 1024, 2048), dtype: str = "float32") -> float:
    """Returns the machine's own peak: operations per second of its fastest size of matrix product, at JAX's present precision."""
    sides = {size: matmul(size, dtype) for size in sizes}
    taken = alternate({str(size): side for size, (side, _) in sides.items()}, rounds)
    return max(operations / taken[str(size)] for size, (_, operations) in sides.items())


def forward_operations(config: ModelConfig, trajectory: Trajectory, num_candidates: int) -> float:
    """Returns the floating-point operations of one forward pass over a trajectory, two per multiply-add of a matrix product.

    Only useful ones count: tokens that were read, keys that a token attends to, and logits where a token was sampled.

    Args:
      config: config of the model.
      trajectory: `[B, T]`.
      num_candidates: `U`, number of logits of each sampled token.
    """
    attention_width = config.num_heads * config.head_width
    weights = config.width * (attention_width + 2 * config.num_kv_heads * config.head_width) + attention_width * config.width
    weights += 3 * config.width * config.feed_forward_width
    is_read = np.asarray(trajectory.token_kind) > 0
    seen = np.where(is_read, np.arange(is_read.shape[1]) - np.asarray(trajectory.context_start) + 1, 0).sum()
    per_layer = float(weights) * is_read.sum() + 2.0 * attention_width * seen
    scores = float(config.width) * num_candidates * np.asarray(trajectory.is_sampled).sum()
    return 2.0 * (config.num_layers * per_layer + scores)


def compile_learner(learner: Learner) -> tuple[Compiled, Compiled]:
    """Returns `init` and `update` of a learner, compiled as `experiments/train.py` does."""
    key = jax.random.key(0)
    like = jax.eval_shape(learner.init, key)
    init = compile_apart(jax.jit(learner.init, out_shardings=learner.shardings(like)), key)
    return init, compile_apart(training.jit_update(learner, like), like)


def run_default_job(cache: str, num_updates: int) -> dict[str, float]:
    """Compiles and runs the default job, alone in its process.

    Args:
      cache: folder of the compilation cache.
      num_updates: number of updates to run.

    Returns:
      Seconds to compile `init` and `update`; peak MiB of the process, and MiB of the program's arguments, results and intermediates.
    """
    from arl.runs import devices
    from experiments.build import build
    from experiments.presets import get_preset

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    devices.claim()
    layout = training.Layout(devices.make_mesh())
    init, update = compile_learner(build(get_preset("reflection"), layout).learner)
    state = init.program(jax.random.key(0))
    for _ in range(num_updates):
        state, metrics = update.program(state)
        jax.block_until_ready(metrics)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of `ru_maxrss`, a MiB
    return {
        "compile_seconds": sum(part.trace_seconds + part.compile_seconds for part in (init, update)),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        "program_memory_mib": update.memory / 2**20,
    }
