"""Reproduces a row of the table of capabilities: an agent with one, beside the same agent without it.

    experiments/ablations.py --row=memory                     # five seeds of each arm; runs that are finished are not made again
    experiments/ablations.py --row=memory --seeds=0,1 --output=runs/ablations

Each run is one of `experiments/train.py`, in a folder of its own: what is interrupted goes on with the same command. Beside the runs of a
row stand its table (`table.md`) and its learning curves (`curves.png`). Exit codes: 0 done, 2 bad flags, 1 anything else.
"""

import json
import pathlib
import statistics
import subprocess
import sys

from absl import flags

from experiments import main

ROW = flags.DEFINE_string("row", "", "Name of a row, in ROWS.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds of each arm.")
OUTPUT = flags.DEFINE_string("output", "runs/ablations", "Folder of all rows.")

# The first arm of each row is the agent with the capability; all are presets.
ROWS = {
    "reflection": ("combination_lock", "combination_lock_blind"),
    "memory": ("corridor", "corridor_blind"),
    "calculator": ("arithmetic", "arithmetic_blind"),
    "composed": ("composed", "composed_without_tools", "composed_without_memory", "composed_without_reflection"),
    "table": ("ledger", "ledger_blind"),
    "controls": ("shifting_controls", "shifting_controls_memoryless"),
    "restless": ("restless_bandit", "restless_bandit_memoryless"),
    "mastermind": ("mastermind", "mastermind_without_bits"),
    "twenty_questions": ("twenty_questions", "twenty_questions_without_bits"),
}


def ablate(assignments: list[str]) -> int | None:
    """Makes the runs of a row that are not there yet, then its table and its curves."""
    from experiments.config import nearest
    from experiments.plots import arms

    if ROW.value not in ROWS:
        raise main.UsageError(f"there is no row {ROW.value!r}; {nearest(ROW.value, ROWS)}")
    if wrong := [seed for seed in SEEDS.value if not seed.isdigit()]:
        raise main.UsageError(f"{wrong[0]!r} is no seed; set --seeds to whole numbers, such as 0,1,2")
    if len(SEEDS.value) == 0:
        raise main.UsageError("a row without seeds has no runs; set --seeds to whole numbers, such as 0,1,2")
    folder = pathlib.Path(OUTPUT.value) / ROW.value
    runs = {preset: [folder / f"{preset}-{seed}" for seed in SEEDS.value] for preset in ROWS[ROW.value]}
    for preset, outputs in runs.items():
        for seed, output in zip(SEEDS.value, outputs, strict=True):
            if not (output / "summary.json").exists() and (code := _train(preset, seed, output, assignments)):
                return code
    summaries = {preset: [main.read_json(output / "summary.json") for output in outputs] for preset, outputs in runs.items()}
    returns = {preset: [_returns(output) for output in outputs] for preset, outputs in runs.items()}
    (folder / "table.md").write_text(table(summaries))
    first = summaries[ROWS[ROW.value][0]][0]
    arms(folder / "curves.png", returns, first["floor"], first["ceiling"], ROW.value)
    print(table(summaries), f"See {folder / 'curves.png'} and {folder / 'table.md'}.", sep="\n")
    return None


def _train(preset: str, seed: str, output: pathlib.Path, assignments: list[str]) -> int:
    """Makes or resumes a run in a process of its own; returns its exit code."""
    command = [sys.executable, "-m", "experiments.train", f"--preset={preset}", f"--seed={seed}", f"--output={output}"]
    return subprocess.run([*command, *(f"--config.{assignment}" for assignment in assignments)], check=False).returncode


def _returns(output: pathlib.Path) -> list[float]:
    return [json.loads(line)["return"] for line in (output / "metrics.jsonl").read_text().splitlines()]


def table(summaries: dict[str, list[dict]]) -> str:
    """Returns a row as Markdown: an arm a line, over its seeds."""
    lines = ["| agent | seeds | of the way: median (worst) | success | notes shuffled | seconds a run |", "|---|---|---|---|---|---|"]
    for preset, runs in summaries.items():
        fractions = [run["fraction"] for run in runs]
        shuffled = [run["ablations"]["shuffled"] for run in runs if "shuffled" in run["ablations"]]
        lines.append(
            f"| {preset} | {len(runs)} | {statistics.median(fractions):.1%} ({min(fractions):.1%}) "
            f"| {statistics.median(run['success'] for run in runs):.1%} | {f'at most {max(shuffled):.1%}' if shuffled else ''} "
            f"| {statistics.median(run['seconds'] for run in runs):.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main.run(ablate))
