"""Trains and evaluates an agent, and writes metrics, curves, transcripts and checkpoints to a folder.

    experiments/train.py                                     # the default preset: an agent with reflections
    experiments/train.py --preset=frozen_lake --seed=1 --output=runs/lake
    experiments/train.py --config.learner.num_updates=1000   # any field of experiments/config.py

The same command resumes a stopped run; a finished run is not continued. Exit codes: 0 done, 2 bad flags or config, 1 anything else.
"""

import fcntl
import functools
import json
import pathlib
import shlex
import sys
import time
from typing import IO, TYPE_CHECKING

from absl import flags

from experiments import main

if TYPE_CHECKING:  # at run time a binary imports these after it has parsed its flags
    from arl.training import TrainState
    from experiments.board import Board
    from experiments.build import Experiment

PRESET = flags.DEFINE_string(
    "preset",
    None,
    "Name of a preset, or my_package.module:function; by default reflection, or plain with --config.environment.",
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of all random numbers.", lower_bound=0, upper_bound=2**31 - 1)
DEVICES = flags.DEFINE_integer("devices", None, "Devices that share the lanes; by default all. A CPU has one per core.", lower_bound=1)
FSDP = flags.DEFINE_integer("fsdp", 1, "Devices of these that share the weights as well, as in ZeRO.", lower_bound=1)
TENSOR = flags.DEFINE_integer("tensor", 1, "Devices of these that share each product with the weights.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "", "Folder of the run; runs/<preset> if not given.")


def train(assignments: list[str]) -> int | None:
    """Trains, evaluates, and writes config.json, metrics.jsonl, curve.png, transcripts.txt, checkpoints/ and summary.json."""
    from arl.training import Layout
    from experiments import config as configs
    from experiments import folder
    from experiments.build import build
    from experiments.devices import claim, make_mesh, on_one_device
    from experiments.presets import get_preset

    is_own = any(assignment.startswith("environment=") for assignment in assignments)
    preset = PRESET.value or ("plain" if is_own else "reflection")
    config = configs.override(get_preset(preset), assignments)
    claim(DEVICES.value, config.learner.blocks)
    layout = Layout(make_mesh(DEVICES.value, config.learner.blocks, FSDP.value, TENSOR.value))
    experiment = build(config, layout)
    output = pathlib.Path(OUTPUT.value or f"runs/{config.preset}")
    record = folder.record(config, SEED.value)
    folder.check(output, record)
    summary_path = output / "summary.json"
    if summary_path.exists():
        print(f"{output} holds a finished run; remove it, or name another --output, to train anew.")
        _print_summary(main.read_json(summary_path), output)
        return None

    state, seconds, board, lock = _learn(experiment, output, record)
    if int(state.step) < config.num_updates:
        print(f"stopped after update {int(state.step)}; the same command goes on from there")
        return 1
    command = ["experiments/train.py", f"--preset={preset}", f"--seed={SEED.value}", *(f"--config.{a}" for a in assignments)]
    about = {"seconds": round(seconds, 1), "devices": layout.mesh.size, "command": shlex.join(command)}
    summary = _evaluate(experiment, output, on_one_device(state.variables), board, about)
    _write_json(summary_path, summary)
    _print_summary(summary, output)
    lock.close()
    return None


def _learn(experiment: "Experiment", output: pathlib.Path, record: dict) -> tuple["TrainState", float, "Board", IO]:
    """Trains from the first update, or from the newest checkpoint, until the run is done or stopped.

    Returns:
      The last state, the seconds of training in all, the TensorBoard, and the lock of the folder.
    """
    import jax

    from arl import training
    from experiments.board import Board
    from experiments.progress import Progress, refuse_cut_episodes

    config, key = experiment.config, jax.random.key(SEED.value)
    learner, like = experiment.learner, jax.eval_shape(experiment.learner.init, key)
    init = jax.jit(learner.init, out_shardings=learner.shardings(like))
    # Whatever cannot be traced fails before anything is written.
    traced = [training.jit_update(part, like).trace(like) for part in (experiment.warm_start, learner) if part]
    lock = _open_folder(output, record)
    bounds = experiment.bounds
    print(
        f"{config.preset}: score 0 is random ({bounds.random:.3g}), 1 is {optimum(bounds.optimal_is)} ({bounds.optimal:.3g}); "
        f"writing to {output}",
        flush=True,
    )
    checkpoints = training.Checkpoints(output / "checkpoints")
    try:
        resumed = checkpoints.latest() is not None
        state = checkpoints.restore(jax.eval_shape(init, key)) if resumed else init(key)
        first = int(state.step)
        if resumed:
            print(f"going on from update {first}", flush=True)
        with training.stop_on_signals() as should_stop, Progress(experiment, output, first) as progress:
            metrics = training.MetricsFile(output / "metrics.jsonl", first)
            board = Board(experiment, output, training.read_metrics(output / "metrics.jsonl"))
            compiled = [part.lower().compile() for part in traced]
            update = functools.partial(
                training.run,
                training.in_turn(config.warm_start, compiled[0], compiled[-1]),
                checkpoints=checkpoints,
                checkpoint_every=config.checkpoint_every,
                observers=[refuse_cut_episodes(experiment.rollout), metrics, board, progress],
                should_stop=should_stop,
            )
            state = _update_and_show(experiment, update, state, output, board, progress, should_stop)
        return state, progress.seconds(), board, lock
    finally:
        checkpoints.close()


def _update_and_show(experiment, update, state, output: pathlib.Path, board, progress, should_stop) -> "TrainState":
    """Runs the updates, adds transcripts before the first one and after each quarter, and returns the last state."""
    from experiments.devices import on_one_device
    from experiments.evaluations import make_transcripts

    num_updates, transcripts = experiment.config.num_updates, make_transcripts(experiment, SEED.value)
    for until in sorted({quarter * num_updates // 4 for quarter in range(5)}):
        state = update(state, until)  # does nothing if the run was resumed after that update
        if should_stop():
            break
        if int(state.step) == until < num_updates:
            with progress.aside("writing transcripts"):
                title = f"after {until} of {num_updates} updates" if until else "before training"
                _add_transcripts(output, board, title, transcripts(on_one_device(state.variables)), until)
    return state


def _open_folder(output: pathlib.Path, config: dict) -> IO:
    """Makes the folder of a run, and locks it against other trainings while the returned file is open."""
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
    """Writes a file atomically, since a run may be killed at any moment."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=2) + "\n")
    part.replace(path)


def _evaluate(experiment: "Experiment", output: pathlib.Path, variables, board: "Board", about: dict) -> dict:
    """Evaluates a trained agent, draws its learning curve and adds transcripts of the evaluation.

    Returns:
      The summary of the run, `about` included.
    """
    from arl import training
    from experiments.evaluations import evaluate_agent
    from experiments.progress import reporting
    from experiments.transcript import typical_episodes

    config, began = experiment.config, time.perf_counter()
    with reporting("evaluating") as report:
        evaluated = evaluate_agent(experiment, variables, SEED.value, config.evaluation, report)
    lines = training.read_metrics(output / "metrics.jsonl")
    summary = {
        "preset": config.preset,
        "seed": SEED.value,
        "updates": config.num_updates,
        "warm_start": config.warm_start,
        **_after_warm_start(experiment, lines),
        "seconds": about["seconds"],
        "devices": about["devices"],
        "seconds_evaluating": round(time.perf_counter() - began, 1),
        **evaluated.summary,
        "max_log_prob_gap": max(found["max_log_prob_gap"] for found in (evaluated.summary, *lines)),
        "command": about["command"],
    }
    with reporting("writing") as report:
        report("transcripts")
        episodes = typical_episodes(experiment.interaction, experiment.tokenizer, evaluated.trajectory)
        _add_transcripts(output, board, "after training", episodes, config.num_updates)
        report("the learning curve")
        board.evaluation(summary, config.num_updates)
        _draw(output, lines, summary)
    return summary


def _add_transcripts(output: pathlib.Path, board: "Board", title: str, episodes: str, step: int) -> None:
    from experiments.transcript import add_section

    add_section(output / "transcripts.txt", title, episodes)
    board.text("transcripts", f"{title}\n\n{episodes}", step)


def _after_warm_start(experiment: "Experiment", lines: list[dict]) -> dict[str, float]:
    """Returns the normalised score in the first update after the warm start; empty without one."""
    from arl.training import evaluation

    if not experiment.warm_start:
        return {}
    outcome = lines[experiment.config.warm_start]["return/outcome"]
    return {"normalised_score_after_warm_start": evaluation.normalised_score(outcome, experiment.bounds)}


def optimum(kind: str) -> str:
    """Returns words for the upper end of the scale, by `Bounds.optimal_is`."""
    return {"exact": "optimal", "bound": "a bound that nobody exceeds", "filter": "what a Bayes filter earns"}[kind]


def _draw(output: pathlib.Path, lines: list[dict], summary: dict) -> None:
    """Draws the learning curve."""
    from experiments.evaluations import ablation_label
    from experiments.plots import learning_curve

    scale = summary["optimal"] - summary["random"]
    marks = {ablation_label(name): summary["random"] + scale * score for name, score in summary["ablations"].items()}
    title = f"{summary['preset']}, seed {summary['seed']}: normalised score {summary['normalised_score']:.2f}"
    outcomes = [line["return/outcome"] for line in lines[summary["warm_start"] :]]
    limits = (summary["random"], summary["optimal"])
    learning_curve(output / "curve.png", outcomes, summary["warm_start"], *limits, title, {"evaluation": summary["score"], **marks})


def _print_summary(summary: dict, output: pathlib.Path) -> None:
    from experiments.evaluations import ablation_label

    print(
        f"{summary['preset']}, seed {summary['seed']}: {summary['updates']} updates in {summary['seconds']:.0f} s. On held-out episodes "
        f"the normalised score is {summary['normalised_score']:.3f} ± {summary['interval']:.3f} "
        f"(0 is random, {summary['random']:.3g}; 1 is {optimum(summary.get('optimal_is', 'exact'))}, {summary['optimal']:.3g})."
    )
    for name, score in summary["ablations"].items():
        print(f"With {ablation_label(name)} it is {score:.3f}.")
    print(f"See {output / 'curve.png'} and {output / 'transcripts.txt'}.")


if __name__ == "__main__":
    sys.exit(main.run(train, takes_config=True))
