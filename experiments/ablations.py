"""Reproduces a row of the table of capabilities: an agent with a capability, and the same agent without it.

    experiments/ablations.py --row=memory                     # five seeds per agent; finished runs are not repeated
    experiments/ablations.py --row=memory --seeds=0,1 --output=runs/ablations

Each run is a run of `experiments/train.py` in its own folder; the same command resumes an interrupted row. The folder of a row also has its
table (`table.md`), its learning curves (`curves.png`) and, if the rules shift, the rewards around a shift (`around_shift.png`). Exit codes:
0 done, 2 bad flags, 1 anything else.
"""

import pathlib
import subprocess
import sys

from absl import flags

from experiments import main
from experiments.presets import ROWS
from experiments.tables import table

ROW = flags.DEFINE_string("row", "", "Name of a row of experiments/presets/.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds of each agent.")
OUTPUT = flags.DEFINE_string("output", "runs/ablations", "Folder of all rows.")


def ablate(assignments: list[str]) -> int | None:
    """Trains the missing runs of a row, then writes its table and its curves."""
    from arl.runs.folder import read_json
    from arl.runs.plots import arms, around_shift
    from arl.training import read_metrics
    from experiments.fields import nearest

    if ROW.value not in ROWS:
        raise main.UsageError(f"there is no row {ROW.value!r}; {nearest(ROW.value, ROWS)}")
    main.read_seeds(SEEDS.value)
    folder = pathlib.Path(OUTPUT.value) / ROW.value
    runs = {preset: [folder / f"{preset}-{seed}" for seed in SEEDS.value] for preset in ROWS[ROW.value]}
    _check_folders(runs, assignments)
    for preset, outputs in runs.items():
        for seed, output in zip(SEEDS.value, outputs, strict=True):
            if not (output / "summary.json").exists() and (code := _train(preset, seed, output, assignments)):
                return code
    summaries = {preset: [read_json(output / "summary.json") for output in outputs] for preset, outputs in runs.items()}
    returns = {
        preset: [
            [line["return/outcome"] for line in read_metrics(output / "metrics.jsonl")[summaries[preset][0]["warm_start"] :]]
            for output in outputs
        ]
        for preset, outputs in runs.items()
    }
    (folder / "table.md").write_text(table(summaries))
    first = summaries[ROWS[ROW.value][0]][0]
    arms(folder / "curves.png", returns, first["random"], first["optimal"], ROW.value)
    if "around_shift" in first:
        around_shift(
            folder / "around_shift.png", {preset: [run["around_shift"] for run in runs] for preset, runs in summaries.items()}, ROW.value
        )
    print(table(summaries), f"See {folder / 'curves.png'} and {folder / 'table.md'}.", sep="\n")
    return None


def _check_folders(runs: dict[str, list[pathlib.Path]], assignments: list[str]) -> None:
    """Checks, before any training, that no folder belongs to another run."""
    from experiments import config as configs
    from experiments import folder
    from experiments.presets import get_preset

    for preset, outputs in runs.items():
        config = configs.override(get_preset(preset), assignments)
        for seed, output in zip(SEEDS.value, outputs, strict=True):
            folder.check(output, folder.record(config, int(seed)))


def _train(preset: str, seed: str, output: pathlib.Path, assignments: list[str]) -> int:
    """Trains or resumes a run in its own process, and returns the exit code."""
    command = [sys.executable, "-m", "experiments.train", f"--preset={preset}", f"--seed={seed}", f"--output={output}"]
    return subprocess.run([*command, *(f"--config.{assignment}" for assignment in assignments)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main.run(ablate, takes_config=True))
