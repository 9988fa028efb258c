"""Trains and evaluates an agent, and writes metrics, curves, transcripts and checkpoints to a folder.

    experiments/train.py                                     # the default preset: an agent with reflections
    experiments/train.py --preset=frozen_lake --seed=1 --output=runs/lake
    experiments/train.py --seeds=0,1,2 --minutes=20          # several seeds in one program, for at most 20 minutes
    experiments/train.py --config.learner.num_updates=1000   # any field of experiments/config.py

The same command resumes a stopped run; a finished run is not continued. Exit codes: 0 done, or stopped by --minutes; 2 bad flags or config;
1 anything else.
"""

import pathlib
import shlex
import sys

from absl import flags

from experiments import main

PRESET = flags.DEFINE_string(
    "preset",
    None,
    "Name of a preset, or my_package.module:function; by default reflection, or plain with --config.environment.",
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of all random numbers.", lower_bound=0, upper_bound=2**31 - 1)
SEEDS = flags.DEFINE_list(
    "seeds", None, "Several seeds, which are trained in one program, each with a folder of its own in that of the run."
)
MINUTES = flags.DEFINE_float("minutes", None, "Stops within so many minutes, with everything saved.", lower_bound=0.0)
DEVICES = flags.DEFINE_integer("devices", None, "Devices that share the lanes; by default all. A CPU has one per core.", lower_bound=1)
FSDP = flags.DEFINE_integer("fsdp", 1, "Devices of these that share the weights as well, as in ZeRO.", lower_bound=1)
TENSOR = flags.DEFINE_integer("tensor", 1, "Devices of these that share each product with the weights.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "", "Folder of the run; runs/<preset> if not given.")


def train(assignments: list[str]) -> int | None:
    """Trains, evaluates, and writes config.json, metrics.jsonl, curve.png, transcripts.txt, checkpoints/ and summary.json."""
    seeds = _seeds()
    from arl.runs import devices, programs
    from arl.runs import folder as runs_folder
    from arl.runs.train import check_custom, run
    from arl.training import Layout
    from experiments import config as configs
    from experiments import folder
    from experiments.build import build
    from experiments.presets import get_preset

    is_own = any(assignment.startswith("environment=") for assignment in assignments)
    preset = ("plain" if is_own else "reflection") if PRESET.value is None else PRESET.value
    config = configs.override(get_preset(preset), assignments)
    if len(seeds) > 1:
        devices.claim(DEVICES.value, len(seeds))
        layout = programs.seeds_layout()
    else:
        devices.claim(DEVICES.value, config.learner.num_blocks)
        layout = Layout(devices.make_mesh(DEVICES.value, config.learner.num_blocks, FSDP.value, TENSOR.value))
    experiment = build(config, layout)
    output = pathlib.Path(OUTPUT.value or f"runs/{config.preset}")
    folder.check(output, folder.record(config, seeds[0] if len(seeds) == 1 else seeds))
    if not runs_folder.is_finished(output, seeds):
        check_custom(experiment.interaction)
    record = {name: value for name, value in folder.record(config, None).items() if name != "seed"}
    about = {"preset": config.preset, "command": _command(preset, assignments)}
    found = run(experiment, seeds, output, record, minutes=MINUTES.value, about=about)
    for each in found:
        print(each)
    is_stopped = not all(each.summary for each in found)
    return 1 if is_stopped and MINUTES.value is None else None


def _seeds() -> list[int]:
    """Returns the seeds of the flags."""
    if SEEDS.value is None:
        return [SEED.value]
    if SEED.present:
        raise main.UsageError("--seed and --seeds are both given; leave one out")
    seeds = main.read_seeds(SEEDS.value)
    if len(seeds) > 1 and (FSDP.value > 1 or TENSOR.value > 1):
        raise main.UsageError("devices divide several seeds, and not their weights; leave out --fsdp and --tensor, or train one seed")
    if len(seeds) > 1 and DEVICES.value and len(seeds) % DEVICES.value:
        raise main.UsageError(
            f"{len(seeds)} seeds do not divide among {DEVICES.value} devices; set --devices to a divisor, or leave it out"
        )
    return seeds


def _command(preset: str, assignments: list[str]) -> str:
    """Returns the command of this run, without its output."""
    which = f"--seeds={','.join(SEEDS.value)}" if SEEDS.value else f"--seed={SEED.value}"
    shared = [f"--{flag.name}={flag.value}" for flag in (DEVICES, FSDP, TENSOR) if flag.value not in (None, 1)]
    return shlex.join(["experiments/train.py", f"--preset={preset}", which, *shared, *(f"--config.{each}" for each in assignments)])


if __name__ == "__main__":
    sys.exit(main.run(train, takes_config=True))
