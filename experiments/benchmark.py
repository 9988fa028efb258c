"""Measures the speed of the library against its alternatives, all in one run on one machine.

    experiments/benchmark.py --output=benchmark.json                          # everything; some 20 minutes on two cores
    experiments/benchmark.py --output=benchmark.json --only=environments,default_job
    experiments/benchmark.py --output=accelerator.json --only=accelerator     # at most five minutes on a GPU

Both sides of a ratio take turns in one process, and medians are compared. The file holds one flat object, name -> ratio or figure; a ratio
is how many times as fast `arl` is. The sections `rollout`, `learner` and `update` need the extra `parity` and are left out without it;
`accelerator` needs an accelerator.
"""

import concurrent.futures
import functools
import importlib
import importlib.util
import json
import multiprocessing
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import flags

from experiments import main

OUTPUT = flags.DEFINE_string("output", "benchmark.json", "File to write.")
ONLY = flags.DEFINE_list("only", [], "Sections to run; all if not given.")
QUICK = flags.DEFINE_bool("quick", False, "Whether sizes and repetitions are tiny: to see that it runs, not for its figures.")

PARITY = ("torch", "transformers", "trl", "datasets", "accelerate")


def compare_with_torch(function: str, module: str, quick: bool) -> dict[str, float]:
    """Returns the figures of a function that needs the extra `parity`; without it, prints a line and returns none."""
    missing = [name for name in PARITY if importlib.util.find_spec(name) is None]
    if missing:
        print(f"  left out: it needs {', '.join(missing)}; run .venv/bin/python -m pip install -e '.[parity]'", flush=True)
        return {}
    return getattr(importlib.import_module(module), function)(quick)


# ---------------------------------------------------------------- (c) environments without a model


def environments(quick: bool) -> dict[str, float]:
    """Returns steps per second of each environment, with random actions and automatic resets, with and without its text."""
    import jax

    from arl import envs, text
    from experiments import measure

    tokenizer = text.load_tokenizer()
    makers = {
        "frozen_lake": lambda: envs.make_frozen_lake(tokenizer),
        "number_guess": lambda: envs.make_number_guess(tokenizer, 32),
        "bandit": lambda: envs.make_bandit(tokenizer, 2, 10),
    }
    num_lanes, num_steps = (16, 8) if quick else (2048, 256)
    figures = {}
    for name, make in makers.items():
        environment = make()
        sides = {}
        for reads in (False, True):
            program = jax.jit(functools.partial(_play, environment, num_lanes, num_steps, reads))
            sides[f"environment_steps_per_second_{name}{'_with_text' if reads else ''}"] = functools.partial(program, jax.random.key(0))
        taken = measure.alternate(sides, 1 if quick else 7)
        figures |= {name: num_lanes * num_steps / seconds for name, seconds in taken.items()}
    return figures


def _play(environment, num_lanes: int, num_steps: int, reads: bool, key):
    """Plays `num_lanes` episodes with random actions for `num_steps` steps; returns sums, so that nothing is optimised away."""
    import jax
    import jax.numpy as jnp

    from arl.types import select

    def step(state, key):
        key_action, key_step, key_reset = jax.random.split(key, 3)
        action = jax.random.randint(key_action, (), 0, environment.grammar.num_choices)
        state, step = environment.step(key_step, state, action)
        state = select(step.terminated | step.truncated, environment.reset(key_reset), state)
        said = environment.describe(state) if reads else None
        return state, (step.reward, jnp.sum(said.ids) + said.length if reads else 0)

    def all_lanes(states, key):
        states, seen = jax.vmap(step)(states, jax.random.split(key, num_lanes))
        return states, jax.tree.map(jnp.sum, seen)

    key_reset, key_steps = jax.random.split(key)
    states = jax.vmap(environment.reset)(jax.random.split(key_reset, num_lanes))
    return jax.lax.scan(all_lanes, states, jax.random.split(key_steps, num_steps))[1]


# ---------------------------------------------------------------- (d) thoughts of free length


def thinking(quick: bool) -> dict[str, float]:
    """Returns written tokens per second of lanes with thoughts of free length, over those of lanes in lock-step, and useful slots.

    A thought ends after each token with probability 1/9, as from a random model over 8 symbols and a stop token, or after 48 tokens. In
    lock-step all lanes wait for the longest thought of their turn, which among 256 lanes nearly always has 48 tokens. Lock-step is measured
    by the same program with thoughts of that fixed length, of which only the tokens that lanes in lock-step would write count.
    """
    import jax
    import jax.numpy as jnp

    from arl import agents, envs, models, rollout, text
    from arl.types import Kind
    from experiments import measure

    tokenizer = text.load_tokenizer()
    num_lanes, size, budget = (8, "0.1M", 12) if quick else (256, "1M", 48)
    sides, useful, written = {}, {}, {}
    for stop in (True, False):
        task = envs.Bandit(2, 4).make(tokenizer)
        interaction = agents.make_agent(task, (agents.Act(), agents.Think(budget, tuple(f" {i}" for i in range(8)), stop=stop)))
        policy = models.make_policy(models.preset(size, len(tokenizer), context_length=interaction.size.context))
        widths = ((1, 10), (4, 10), (16, 10)) if stop else ((1, 10),)
        config = rollout.RolloutConfig(interaction.size.episode + 1, interaction.size.context, widths)

        def run(variables, seed, interaction=interaction, policy=policy, config=config):
            keys = jax.random.split(jax.random.key(seed), num_lanes)
            lanes = rollout.start_lanes(interaction, {}, config, keys, keys)
            return rollout.roll_out(interaction, policy, config, variables, {}, lanes)[1:]

        name = "free" if stop else "lock_step"
        sides[name] = functools.partial(jax.jit(run), policy.init(jax.random.key(0)))
        trajectory, usage = sides[name](0)
        useful[name] = float(jnp.sum(trajectory.token_kind > 0) / usage.num_computed)
        written[name] = float(jnp.sum(trajectory.is_sampled))
        if stop:
            thought = float(jnp.sum(trajectory.is_sampled & (trajectory.kind == Kind.THINK)))
            waiting = written[name]
    seeds = iter(range(10**6))
    taken = measure.alternate({name: lambda f=f: f(next(seeds)) for name, f in sides.items()}, 1 if quick else 5)
    computed = useful["lock_step"] * waiting / written["lock_step"]
    return {
        "thinking_free_over_lock_step": taken["lock_step"] / taken["free"],
        "thinking_written_tokens_per_second": waiting / taken["free"],
        "thinking_mean_length": thought / (4 * num_lanes),
        "thinking_useful_fraction_of_slots": useful["free"],
        "thinking_useful_fraction_of_slots_lock_step": computed,
    }


# ---------------------------------------------------------------- (e) how much of the machine is used


def utilisation(quick: bool) -> dict[str, float]:
    """Returns the useful operations per second, in rollout and learning, as a fraction of the machine's best matrix product."""
    from experiments import benchmark_job, measure

    num_lanes, rounds = (16, 1) if quick else (256, 5)
    job = benchmark_job.make_job("0.1M" if quick else "1M")
    batch, totals, config = benchmark_job.make_batch(job, num_lanes)
    roll_out = functools.partial(benchmark_job.roll_out(job, num_lanes), 0)
    learn = benchmark_job.our_step(job, batch, totals, config, min(16, num_lanes))
    taken = measure.alternate({"rollout": roll_out, "learning": learn}, rounds)
    peak = measure.fastest_matmul(rounds)
    once = measure.forward_operations(job.config, batch.trajectory, len(job.interaction.grammar.candidates))
    return {
        "utilisation_rollout": once / taken["rollout"] / peak,
        "utilisation_learning": 3 * once / taken["learning"] / peak,  # forward, and twice as much backward
        "matmul_gflops": peak / 1e9,
    }


# ---------------------------------------------------------------- (f), (g) the default job in a process of its own


def default_job(quick: bool) -> dict[str, float]:
    """Returns compile time, without and with the compilation cache, and peak memory of the default run."""
    from experiments import measure

    num_updates = 1 if quick else 5
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (in_new_process(measure.run_default_job, cache, num_updates) for _ in range(2))
    return {
        "compile_seconds": cold["compile_seconds"],
        "compile_seconds_with_cache": warm["compile_seconds"],
        "peak_memory_mib": warm["peak_memory_mib"],
        "peak_memory_mib_while_compiling": cold["peak_memory_mib"],
        "program_memory_mib": warm["program_memory_mib"],
    }


def in_new_process(function, *arguments) -> Any:
    """Returns the result of a function in a new process, where nothing has been compiled and no memory allocated."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# ---------------------------------------------------------------- (i) what capabilities cost


def capabilities(quick: bool) -> dict[str, float]:
    """Returns the time of an update per token read, of agents with a capability, divided by that of an agent without any.

    `idle` layers change next to nothing, such as a cost of almost 0, a scale of almost 1, or attempts with `Nothing`: their cost is that of
    having the layer. All contexts have the same length.
    """
    import jax

    from arl import agents, envs, models, rollout, text, training
    from experiments import measure

    tokenizer = text.load_tokenizer()
    num_lanes, size, rounds = (16, "0.1M", 1) if quick else (256, "0.1M", 5)
    task = envs.NumberGuess(8, one_guess=False).make(tokenizer)
    layers = {
        "act": (),
        "idle_token_cost": (agents.TokenCost(action=1e-6),),
        "idle_scale_rewards": (agents.ScaleRewards(process=0.999),),
        "idle_attempts": (agents.Attempts(2),),
        "memory": (agents.Remember(num_notes=2, budget=2, every=2),),
        "reflection": (agents.Attempts(2, agents.Reflection(3)),),
        "tools": (agents.UseTools((agents.imagine(tokenizer, task.environment),)),),
        "think": (agents.Think(4, "task", stop=False),),
    }
    agent = {name: agents.make_agent(task, (agents.Act(time_limit=6), *around)) for name, around in layers.items()}
    context_length = max(interaction.size.context for interaction in agent.values())
    policy = models.make_policy(models.preset(size, len(tokenizer), context_length=context_length))
    sides, tokens = {}, {}
    for name, interaction in agent.items():
        shape = rollout.RolloutConfig(interaction.size.episode + 1, context_length, ((1, 6),))
        config = training.LearnerConfig(num_lanes=num_lanes, microbatch_size=num_lanes // 4, num_blocks=1)
        learner = training.make_learner(interaction, policy, shape, config)
        sides[name] = functools.partial(jax.jit(learner.update), jax.jit(learner.init)(jax.random.key(0)))
        tokens[name] = float(sides[name]()[1]["tokens"])
    taken = measure.alternate(sides, rounds)
    of_act = taken["act"] / tokens["act"]
    return {f"cost_per_token_{name}": taken[name] / tokens[name] / of_act for name in agent if name != "act"}


# ---------------------------------------------------------------- large vocabularies


def vocabulary(quick: bool) -> Iterator[tuple[str, float]]:
    """Yields the figures of large vocabularies."""
    from experiments import benchmark_vocabulary

    yield from benchmark_vocabulary.vocabulary(quick)


# ---------------------------------------------------------------- what an accelerator does


def accelerator(quick: bool) -> Iterator[tuple[str, float | str]]:
    """Yields the figures of an accelerator as they are measured, or those of the CPU if `--only` names the section."""
    import jax

    from experiments import benchmark_accelerator

    if jax.default_backend() == "cpu" and "accelerator" not in ONLY.value:
        print("  left out: there is none; --only=accelerator measures the processor", flush=True)
        return
    yield from benchmark_accelerator.accelerator(quick)


# ---------------------------------------------------------------- all of them

SECTIONS = {
    "default_job": default_job,  # first: a process counts as its own the memory of the one that started it
    "rollout": functools.partial(compare_with_torch, "compare_rollouts", "experiments.benchmark_torch"),
    "learner": functools.partial(compare_with_torch, "compare_learners", "experiments.benchmark_torch"),
    "environments": environments,
    "thinking": thinking,
    "utilisation": utilisation,
    "capabilities": capabilities,
    "vocabulary": vocabulary,
    "update": functools.partial(compare_with_torch, "compare_updates", "experiments.benchmark_trl"),
    "accelerator": accelerator,
}


def benchmark(assignments: list[str]) -> None:
    """Runs the sections, and writes the file after each figure so that none is lost."""
    from arl.runs import devices
    from experiments.fields import nearest

    if assignments:
        raise main.UsageError("the benchmark measures fixed jobs and takes no --config; remove it")
    for name in ONLY.value:
        if name not in SECTIONS:
            raise main.UsageError(f"there is no section {name}; {nearest(name, SECTIONS)}")
    output = pathlib.Path(OUTPUT.value)
    if output.is_dir():
        raise main.UsageError(f"{output} is a folder; name a file with --output")
    try:
        output.touch()
    except OSError as error:
        raise main.UsageError(f"{output} cannot be written ({error.strerror}); name another --output") from error
    devices.claim()
    figures: dict[str, float | str] = {}
    for name in ONLY.value or SECTIONS:
        print(f"{name}:", flush=True)
        found = SECTIONS[name](QUICK.value)
        for figure, value in found.items() if isinstance(found, dict) else found:
            print(f"  {figure:<72}{value:>14}" if isinstance(value, str) else f"  {figure:<72}{value:>14,.4g}", flush=True)
            figures[figure] = value
            output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main.run(benchmark))
