"""Trains an agent and leaves in a folder all that tells how it went.

    experiments/train.py                                     # the default: an agent that learns from its own notes
    experiments/train.py --preset=frozen_lake --seed=1 --output=runs/lake
    experiments/train.py --config.learner.num_updates=1000   # any field of experiments/config.py

A second run in the same folder resumes; a finished one is left as it is. Exit codes: 0 done, 2 bad flags or config, 1 anything else.
"""

import fcntl
import json
import pathlib
import shlex
import sys
import time
from typing import IO

from absl import flags

from experiments import main

PRESET = flags.DEFINE_string("preset", "reflection", "Name of a run in experiments/presets.py.")
SEED = flags.DEFINE_integer("seed", 0, "Of everything that is random.", lower_bound=0, upper_bound=2**31 - 1)
DEVICES = flags.DEFINE_integer("devices", None, "Devices that share the lanes; all if not given. A processor is one a core.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "", "Folder of the run; runs/<preset> if not given.")


def train(assignments: list[str]) -> int | None:
    """Trains, evaluates, and writes config.json, metrics.jsonl, curve.png, transcripts.txt, checkpoints/ and summary.json."""
    from experiments import config as configs
    from experiments import folder
    from experiments.build import build
    from experiments.devices import claim, make_mesh, on_one_device
    from experiments.presets import get_preset

    config = configs.override(get_preset(PRESET.value), assignments)
    claim(DEVICES.value, config.learner.blocks)
    mesh = make_mesh(DEVICES.value, config.learner.blocks)
    experiment = build(config, mesh)
    output = pathlib.Path(OUTPUT.value or f"runs/{config.preset}")
    told = folder.told(config, SEED.value)
    folder.check(output, told)
    summary_path = output / "summary.json"
    if summary_path.exists():
        print(f"{output} holds a finished run; remove it, or name another --output, to train anew.")
        _print_summary(main.read_json(summary_path), output)
        return None

    import jax

    from arl import training
    from experiments.judge import judge, transcripts
    from experiments.progress import Progress, log_transcripts, refuse_cut_lives

    key = jax.random.key(SEED.value)
    learner, like = experiment.learner, jax.eval_shape(experiment.learner.init, key)
    init = jax.jit(learner.init, out_shardings=training.shardings(like, mesh))
    # What cannot be is refused before anything is written.
    traced = [training.jit_update(part, mesh, like).trace(like) for part in (experiment.warm_start, learner) if part]
    lock = _open_folder(output, told)
    print(f"{config.preset}: random {experiment.task.floor:.3g}, optimum {experiment.task.ceiling:.3g}; writing to {output}", flush=True)
    checkpoints = training.Checkpoints(output / "checkpoints")
    try:
        resumed = checkpoints.latest() is not None
        state = checkpoints.restore(like) if resumed else init(key)
        first = int(state.step)
        if resumed:
            print(f"going on from update {first}", flush=True)
        else:
            before = transcripts(experiment, on_one_device(state.params), SEED.value)
            (output / "transcripts.txt").write_text(f"===== before training\n{before}\n")
            log_transcripts(output, before, first)
        with training.stop_on_signals() as should_stop, Progress(experiment, output, first, config.num_updates) as progress:
            compiled = [part.lower().compile() for part in traced]
            state = training.run(
                training.in_turn(config.warm_start, compiled[0], compiled[-1]),
                state,
                config.num_updates,
                checkpoints=checkpoints,
                checkpoint_every=config.checkpoint_every,
                observers=[refuse_cut_lives(experiment.rollout), training.MetricsFile(output / "metrics.jsonl", first), progress],
                should_stop=should_stop,
            )
    finally:
        checkpoints.close()
    if int(state.step) < config.num_updates:
        print(f"stopped after update {int(state.step)}; the same command goes on from there")
        return 1

    print("evaluating on held-out lives", flush=True)
    seconds, began = progress.seconds(), time.perf_counter()
    params = on_one_device(state.params)
    judged = judge(experiment, params, SEED.value, config.evaluation)
    lines = training.read_metrics(output / "metrics.jsonl")
    gaps = [found["max_log_prob_gap"] for found in (judged, *lines) if "max_log_prob_gap" in found]
    summary = {
        "preset": config.preset,
        "seed": SEED.value,
        "updates": int(state.step),
        "warm_start": config.warm_start,
        **_after_warm_start(experiment, lines),
        "seconds": round(seconds, 1),
        "devices": mesh.size,
        "seconds_evaluating": round(time.perf_counter() - began, 1),
        **judged,
        "max_log_prob_gap": max(gaps),
        "command": shlex.join(
            ["experiments/train.py", f"--preset={config.preset}", f"--seed={SEED.value}", *(f"--config.{a}" for a in assignments)]
        ),
    }
    _write_results(experiment, output, params, lines, summary)
    _write_json(summary_path, summary)
    _print_summary(summary, output)
    lock.close()
    return None


def _open_folder(output: pathlib.Path, config: dict) -> IO:
    """Makes the folder of a run; nobody else trains in it while what is returned is open."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not (output / "config.json").exists():
            _write_json(output / "config.json", config)
        return lock
    except BlockingIOError as error:
        raise main.UsageError(f"another training is writing to {output}; wait for it, or name another --output") from error
    except OSError as error:
        raise main.UsageError(f"cannot write to {output} ({error.strerror}); name another --output") from error


def _write_json(path: pathlib.Path, values: dict) -> None:
    """Writes a file that is whole or not there: a run may be killed at any moment."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=2) + "\n")
    part.replace(path)


def _after_warm_start(experiment, lines: list[dict]) -> dict[str, float]:
    """Returns how far of the way an agent came that had imitated its expert, in the first update that followed; nothing if it had not."""
    from arl.training import evaluation

    if not experiment.warm_start:
        return {}
    outcome, task = lines[experiment.config.warm_start]["return/outcome"], experiment.task
    return {"fraction_after_warm_start": evaluation.fraction_of_the_way(outcome, task.floor, task.ceiling)}


def _write_results(experiment, output: pathlib.Path, params, lines: list[dict], summary: dict) -> None:
    """Draws the learning curve and adds what the trained agent says to the transcripts."""
    from experiments.judge import transcripts
    from experiments.plots import learning_curve
    from experiments.progress import log_transcripts

    marks = {"evaluation": summary["score"]}
    way = summary["ceiling"] - summary["floor"]
    marks |= {f"notes {name}": summary["floor"] + way * fraction for name, fraction in summary["ablations"].items()}
    title = f"{summary['preset']}, seed {summary['seed']}: {summary['fraction']:.0%} of the way to the optimum"
    outcomes = [line["return/outcome"] for line in lines[summary["warm_start"] :]]
    learning_curve(output / "curve.png", outcomes, summary["warm_start"], summary["floor"], summary["ceiling"], title, marks)
    path = output / "transcripts.txt"
    before = path.read_text(errors="replace") if path.exists() else ""
    before, after = before.split("===== after training")[0], transcripts(experiment, params, summary["seed"])
    path.write_text(f"{before}===== after training\n{after}\n")
    log_transcripts(output, after, summary["updates"])


def _print_summary(summary: dict, output: pathlib.Path) -> None:
    print(
        f"{summary['preset']}, seed {summary['seed']}: {summary['updates']} updates in {summary['seconds']:.0f} s. "
        f"On held-out lives the agent comes {summary['fraction']:.1%} (± {summary['interval']:.1%}) of the way from random "
        f"({summary['floor']:.3g}) to the optimum ({summary['ceiling']:.3g})."
    )
    for name, fraction in summary["ablations"].items():
        print(f"With its notes {name}, the same agent comes {fraction:.1%} of the way.")
    print(f"See {output / 'curve.png'} and {output / 'transcripts.txt'}.")


if __name__ == "__main__":
    sys.exit(main.run(train))
