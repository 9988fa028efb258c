"""What every preset computes, number by number, so that a change of the code can be shown to change none of it.

    python -m tests.golden record golden.json                 # before the change
    python -m tests.golden compare golden.json                # after it; says which presets differ, and in what
    python -m tests.golden compare golden.json composed bandit

Each preset is made smaller in lanes alone. Of its first updates, of the warm start and of rewards, every metric is recorded, and a hash
of the parameters that follow; and a hash of the tokens of a rollout. Bits are those of one machine with one number of cores: record and
compare there.
"""

import hashlib
import json
import os
import pathlib
import sys

# Programs that are compiled in seconds: what they compute is compared with itself alone.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from arl import rollout, training
from experiments.build import Experiment, build
from experiments.config import override
from experiments.presets import PRESETS, get_preset

SMALLER = ("learner.num_lanes=64", "learner.microbatch_size=16", "learner.num_minibatches=2", "learner.num_epochs=1")
NUM_UPDATES = 2
# Former names of metrics.
FORMER = {"cloned_tokens": "imitated_tokens", "lives": "episodes", "whole_lives": "whole_episodes", "written": "sampled"}


def main(command: str, path: str, *names: str) -> int:
    """Records, or compares and returns 1 where something differs."""
    file = pathlib.Path(path)
    recorded = json.loads(file.read_text()) if file.exists() else {}
    different = 0
    for name in names or (recorded if command == "compare" else PRESETS):
        found = observe(name)
        if command == "record":
            recorded[name] = found
            file.write_text(json.dumps(recorded, indent=1) + "\n")
            print(name, flush=True)
            continue
        faults = compare(recorded[name], found)
        different += bool(faults)
        tokens = "" if any(fault.startswith("rollout") for fault in faults) else "; tokens are equal"
        close = f"metrics differ by at most {largest_difference(recorded[name], found):.0e}{tokens}"
        print(f"{name}: {close if faults else 'equal'} {'; '.join(faults[:3])}", flush=True)
    return int(different > 0)


def observe(name: str) -> dict[str, dict[str, float | str]]:
    """Returns what the first updates of a preset compute, by the name of the part and the update."""
    experiment = build(override(get_preset(name), list(SMALLER)))
    parts = {"warm start": experiment.warm_start, "learner": experiment.learner}
    found = {}
    for part, learner in parts.items():
        if learner is None:
            continue
        state = jax.jit(experiment.learner.init)(jax.random.key(0))
        if part == "learner":
            state = state._replace(step=state.step + experiment.config.warm_start)
        update = jax.jit(learner.update)
        for index in range(NUM_UPDATES):
            state, metrics = update(state)
            numbers = {name: float(value).hex() for name, value in metrics.items()}
            found[f"{part} {index}"] = {**numbers, "params": digest(jax.tree.leaves(state.variables.trainable))}
    found["rollout"] = {"tokens": tokens(experiment)}
    jax.clear_caches()
    return found


def tokens(experiment: Experiment) -> str:
    """Returns a hash of all tokens that 16 lanes read with random weights."""
    config, key = experiment.rollout, jax.random.key(1)
    curriculum = training.curriculum_at(experiment.config.learner.schedules, 0.5)

    @jax.jit
    def read(params):
        lanes = rollout.start_lanes(experiment.interaction, curriculum, config, *jax.random.split(key, (2, 16)))
        return rollout.roll_out(experiment.interaction, experiment.policy, config, params, curriculum, lanes)[1].token

    return digest([read(experiment.policy.init(key))])


def digest(arrays: list) -> str:
    """Returns a hash of the bits of some arrays."""
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def compare(before: dict, after: dict) -> list[str]:
    """Returns what differs, in words, among the metrics that both sides have."""
    faults = [f"{part} is not on both sides" for part in before.keys() ^ after.keys()]
    for part in before.keys() & after.keys():
        named = {rename(name): value for name, value in before[part].items()}
        for name in named.keys() & after[part].keys():
            then, now = named[name], after[part][name]
            if then != now:
                faults.append(f"{part}: {name} was {shown(then)} and is {shown(now)}")
    return sorted(faults)


def largest_difference(before: dict, after: dict) -> float:
    """Returns the largest relative difference of a metric; of small ones, relative to 1e-3."""
    largest = 0.0
    for part in before.keys() & after.keys():
        then, now = ({rename(name): float.fromhex(x) for name, x in side[part].items() if "0x" in x} for side in (before, after))
        for name in then.keys() & now.keys():
            largest = max(largest, abs(then[name] - now[name]) / max(abs(then[name]), 1e-3))
    return largest


def rename(name: str) -> str:
    """Returns the present name of a metric."""
    first, *rest = name.split("/")
    return "/".join([FORMER.get(first, first).replace("_share", "_fraction"), *rest])


def shown(value: str | None) -> str:
    """Returns a recorded value as people read it."""
    return repr(float.fromhex(value)) if value and "0x" in value else str(value)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
