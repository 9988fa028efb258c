"""The benchmark of one accelerator: tokens per second in rollout and learner, compile times, and the job of `make train`.

Figures are yielded as they are measured, and a step that does not fit the time left is skipped.
"""

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from arl import models, training
from arl.training import LearnerConfig
from arl.types import Trajectory
from experiments import benchmark_job, measure
from experiments.benchmark_job import Job
from experiments.build import build
from experiments.presets import get_preset

Figures = Iterator[tuple[str, float | str]]

# The shape of SmolLM2-135M; of its vocabulary the small tokenizer uses the first ids.
SMOL = {
    "width": 576, "num_layers": 30, "num_heads": 9, "num_kv_heads": 3, "feed_forward_width": 1536, "vocab_size": 49_152,
    "tie_embeddings": True, "rotary_base": 100_000.0,
}  # fmt: skip
DEEP = 12  # layers from which on an accelerator's compiler is given one layer and a loop: unrolled, it takes minutes
GAIN = 1.1  # throughput has to grow by this for lanes to be doubled again
KEPT = 2048  # lanes of what was rolled out that the learner learns from; more repeat them


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
      seconds: time after which no step is started.
      dtypes: types of the models' computation; the parameters are float32.
      rollout_lanes: number of lanes that is tried first in the rollout, by model.
      learner_lanes: number of lanes per microbatch that is tried first in the learner, by model.
      most_lanes: largest number of lanes that is tried.
      rounds: number of calls whose median counts.
      matmul_sizes: sizes of matrix products, of which the fastest is the machine's peak.
      preset: preset of the job that is trained.
      num_turns: turns of an episode in the job that is rolled out and learned from.
    """

    seconds: float = 240.0
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    rollout_lanes: tuple[tuple[str, int], ...] = (("1M", 1024), ("10M", 1024), ("135M", 256))
    learner_lanes: tuple[tuple[str, int], ...] = (("1M", 256), ("10M", 128), ("135M", 16))
    most_lanes: int = 2**16
    rounds: int = 3
    matmul_sizes: tuple[int, ...] = (4096, 8192, 16384)
    preset: str = "reflection"
    num_turns: int = benchmark_job.NUM_TURNS


QUICK = Plan(
    seconds=600.0,
    dtypes=("bfloat16",),
    rollout_lanes=(("0.1M", 4),),
    learner_lanes=(("0.1M", 4),),
    most_lanes=4,
    rounds=1,
    matmul_sizes=(64,),
    preset="bandit",
    num_turns=1,
)


class Measured(NamedTuple):
    """One side at a number of lanes.

    Attributes:
      lanes: number of lanes.
      seconds: seconds of a call.
      tokens: tokens read in a call.
      operations: floating-point operations of a call.
      compiled: the program.
      trajectory: first lanes of the rollout, on the host; None for the learner.
    """

    lanes: int
    seconds: float
    tokens: float
    operations: float
    compiled: measure.Compiled
    trajectory: Any

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def accelerator(quick: bool) -> Figures:
    """Yields the figures of the section, by name; at most five minutes on a GPU."""
    plan = QUICK if quick else Plan()
    deadline = time.monotonic() + plan.seconds
    with measure.no_compilation_cache():
        for name, value in _all(plan, deadline):
            yield f"accelerator_{name}", value


def _all(plan: Plan, deadline: float) -> Figures:
    yield from _device()
    peaks = {}
    for dtype in plan.dtypes:
        peaks[dtype] = measure.fastest_matmul(plan.rounds, plan.matmul_sizes, dtype)
        yield f"matmul_tflops_{dtype}", peaks[dtype] / 1e12
    with jax.default_matmul_precision("highest"):
        highest = measure.fastest_matmul(plan.rounds, plan.matmul_sizes)
    yield "matmul_tflops_float32_highest_precision", highest / 1e12
    yield from _default_job(plan)
    costs: dict[str, float] = {}
    todo = [(size, dtype) for dtype in plan.dtypes for size, _ in plan.rollout_lanes]
    for index, (size, dtype) in enumerate(todo):
        yield from _model(plan, size, dtype, peaks[dtype], costs, deadline, num_left=2 * (len(todo) - index))
    yield from _loop_over_layers(plan, costs, deadline)


def _device() -> Figures:
    device = jax.devices()[0]
    yield "device", device.device_kind
    yield "platform", device.platform
    yield "devices", float(jax.device_count())
    memory = (device.memory_stats() or {}).get("bytes_limit")
    if memory:
        yield "memory_gib", memory / 2**30
    yield "jax", jax.__version__
    yield "jaxlib", importlib.metadata.version("jaxlib")
    # Of float32 products: by default TF32 on GPUs since Ampere, bfloat16 on TPUs. Peaks and models are measured at the same.
    yield "matmul_precision", str(jax.config.jax_default_matmul_precision or "default")


def _default_job(plan: Plan) -> Figures:
    """Yields the figures of the job of `make train` on one device."""
    layout = training.Layout(training.make_mesh(1))
    init, update = measure.compile_learner(build(get_preset(plan.preset), layout).learner)
    yield "train_trace_seconds", init.trace_seconds + update.trace_seconds
    yield "train_compile_seconds", init.compile_seconds + update.compile_seconds
    state, taken = init.program(jax.random.key(0)), []
    for _ in range(1 + plan.rounds):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(update.program(state))
        taken.append(time.perf_counter() - began)
    yield "train_seconds_an_update", float(np.median(taken[1:]))
    yield "train_tokens_per_second", float(metrics["tokens"]) / float(np.median(taken[1:]))


def _model(plan: Plan, size: str, dtype: str, peak: float, costs: dict[str, float], deadline: float, num_left: int) -> Figures:
    """Yields the figures of a model at its best numbers of lanes.

    Args:
      plan: what is measured.
      size, dtype: of the model.
      peak: operations a second of the best matrix product in that dtype.
      costs: seconds of the first attempt at each side so far, of each size and of the last one; added to.
      deadline: of `time.monotonic`.
      num_left: sides that are to be measured until then, these two included.
    """
    job = make_job(size, dtype, plan.num_turns)
    yield f"layers_{size}", "in a loop" if job.config.scan_layers else "unrolled"
    trajectory = None  # of the rollout, that the learner learns from
    sides = {
        "rollout": (plan.rollout_lanes, lambda lanes: _roll_out(job, lanes, plan.rounds)),
        "learner": (plan.learner_lanes, lambda lanes: _learn(job, trajectory, lanes, plan.rounds)),
    }
    for side, (lanes, attempt) in sides.items():
        began, where = time.monotonic(), f"{size}_{dtype}"
        # The next size is taken to be twice as dear as the last one.
        if began + costs.get(f"{side}_{size}", 2 * costs.get(side, 0.0)) > deadline:
            yield f"{side}_sweep_{where}", "left out: no time"
            return
        try:
            tried, cost = sweep(attempt, dict(lanes)[size], plan.most_lanes, began + (deadline - began) / num_left)
        except jax.errors.JaxRuntimeError as error:
            yield f"{side}_sweep_{where}", f"failed: {str(error).splitlines()[0]}"
            return
        num_left -= 1
        costs[side] = costs[f"{side}_{size}"] = cost
        yield f"{side}_sweep_{where}", ", ".join(f"{found.lanes}: {found.rate:.3g}" for found in tried) or "does not fit"
        if not tried:
            return
        best = max(tried, key=lambda found: found.rate)
        trajectory = best.trajectory
        yield f"{side}_tokens_per_second_{where}", best.rate
        yield f"{side}_lanes_{where}", float(best.lanes)
        yield f"{side}_fraction_of_peak_{where}", best.operations / best.seconds / peak
        yield f"{side}_trace_seconds_{where}", best.compiled.trace_seconds
        yield f"{side}_compile_seconds_{where}", best.compiled.compile_seconds


def _loop_over_layers(plan: Plan, costs: dict[str, float], deadline: float) -> Figures:
    """Yields the figures of the rollout of a shallow model whose layers are in a loop, if there is time left."""
    size, dtype = "10M", plan.dtypes[0]
    if time.monotonic() + costs.get(f"rollout_{size}", float("inf")) > deadline:
        return
    lanes = dict(plan.rollout_lanes)[size]
    found = _roll_out(make_job(size, dtype, plan.num_turns, in_loop=True), lanes, plan.rounds)
    if found:
        yield f"rollout_tokens_per_second_{size}_{dtype}_in_a_loop_{lanes}_lanes", found.rate
        yield f"rollout_compile_seconds_{size}_{dtype}_in_a_loop_{lanes}_lanes", found.compiled.compile_seconds


def make_job(size: str, dtype: str, num_turns: int, in_loop: bool | None = None) -> Job:
    """Returns the benchmark's job on one device, with a model of a size and a dtype of computation.

    Args:
      size: "135M", or a preset's.
      dtype: of `ModelConfig`.
      num_turns: of an episode.
      in_loop: whether layers are in a loop; None for those of deep models on accelerators.
    """
    job = benchmark_job.make_job("0.1M", num_turns)
    options: dict[str, Any] = {"context_length": job.interaction.size.context, "dtype": dtype}
    if size == "135M":
        config = models.ModelConfig(**SMOL, **options)
    else:
        config = models.preset(size, len(job.tokenizer), **options)
    if in_loop is None:
        in_loop = config.num_layers >= DEEP and jax.default_backend() != "cpu"
    config = dataclasses.replace(config, scan_layers=in_loop)
    policy = models.make_policy(config)
    return job._replace(config=config, policy=policy, variables=policy.init(jax.random.key(0)), mesh=training.make_mesh(1))


def sweep(attempt: Callable[[int], Measured | None], lanes: int, most_lanes: int, deadline: float) -> tuple[list[Measured], float]:
    """Doubles the lanes while throughput grows by a tenth, they fit in memory and there is time left.

    Args:
      attempt: measures a number of lanes; None if they do not fit in memory.
      lanes: number of lanes to start with; fewer are tried if these do not fit.
      most_lanes: largest number of lanes.
      deadline: of `time.monotonic`.

    Returns:
      What was measured, fewest lanes first, and the seconds of the first attempt.
    """
    tried, first_cost = [], 0.0
    while 1 <= lanes <= most_lanes:
        began = time.monotonic()
        found = attempt(lanes)
        cost = time.monotonic() - began
        first_cost = first_cost or cost
        if found is None:
            if tried:
                break
            lanes = most_lanes = lanes // 2
        else:
            tried.append(found)
            if len(tried) > 1 and found.rate < GAIN * tried[-2].rate:
                break
            lanes *= 2
        if time.monotonic() + 1.5 * cost > deadline:  # of twice the lanes: as long to compile, twice as long to run
            break
    return tried, first_cost


def _roll_out(job: Job, lanes: int, rounds: int) -> Measured | None:
    side = benchmark_job.roll_out(job, lanes)
    found = _measure(side.func, (*side.args, 0), rounds)
    if found is None:
        return None
    compiled, seconds, (trajectory, _) = found
    kept = jax.tree.map(lambda x: np.asarray(x if len(x) <= KEPT else x[:KEPT]), trajectory)
    return Measured(lanes, seconds, *_count(job, trajectory), compiled, kept)


def _learn(job: Job, trajectory: Trajectory, lanes: int, rounds: int) -> Measured | None:
    """Measures the gradient of one microbatch, whose lanes are those of the rollout, repeated or truncated."""
    trajectory = jax.tree.map(lambda x: np.resize(x, (lanes, *x.shape[1:])), trajectory)
    batch, totals = jax.jit(lambda trajectory: benchmark_job.to_batch(trajectory)[:2])(trajectory)  # one program, and not one an operation
    side = benchmark_job.our_step(job, batch, totals, LearnerConfig(num_lanes=lanes), microbatch=lanes)
    found = _measure(side.func, side.args, rounds)
    if found is None:
        return None
    tokens, operations = _count(job, trajectory)
    return Measured(lanes, found[1], tokens, 3 * operations, found[0], None)  # forward, and twice as much backward


def _count(job: Job, trajectory: Trajectory) -> tuple[float, float]:
    """Returns the tokens of a trajectory, and the operations of one forward pass over them."""
    operations = measure.forward_operations(job.config, trajectory, len(job.interaction.grammar.candidates))
    return float((np.asarray(trajectory.token_kind) > 0).sum()), operations


def _measure(function: Any, arguments: tuple, rounds: int) -> tuple[measure.Compiled, float, Any] | None:
    """Returns a compiled function, the seconds of a call, and its result; None if it does not fit in memory."""
    try:
        compiled = measure.compile_apart(function, *arguments)
        if compiled.memory > _memory_left(arguments):
            return None
        taken = measure.alternate({"it": lambda: compiled.program(*arguments)}, rounds)["it"]
        return compiled, taken, compiled.program(*arguments)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def _memory_left(arguments: tuple) -> float:
    """Returns the bytes of the device's memory that are free or hold `arguments`; infinite if the device does not report them."""
    stats = jax.devices()[0].memory_stats() or {}
    held = sum(x.nbytes for x in jax.tree.leaves(arguments) if isinstance(x, jax.Array))
    return stats["bytes_limit"] - stats["bytes_in_use"] + held if "bytes_limit" in stats else float("inf")
