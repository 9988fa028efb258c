"""Writes the tables and plots of docs/ from experiments/results/*.json: the summaries of runs, and a benchmark.

experiments/make_table.py --collect=runs/reflection,runs/bandit   # copies summaries there first
experiments/make_table.py                                         # writes tables and plots
"""

import collections
import json
import pathlib
import statistics
import sys

from absl import flags

from experiments import main
from experiments.presets import PRESETS, ROWS
from experiments.tables import table

COLLECT = flags.DEFINE_list("collect", [], "Folders of finished runs whose summaries are copied to experiments/results/ first.")

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
BENCHMARK = RESULTS / "benchmark.json"


def make_table(assignments: list[str]) -> None:
    """Copies summaries, rewrites the tables in docs/, and draws the rewards of rows around a shift of the rules."""
    from arl.runs.plots import around_shift

    if assignments:
        raise main.UsageError("a table has no config; leave --config out")
    for folder in COLLECT.value:
        path = pathlib.Path(folder) / "summary.json"
        if not path.is_file():
            raise main.UsageError(f"{folder} holds no finished run; name folders that hold a summary.json")
        summary = _read(path)
        (RESULTS / f"{summary['preset']}-{summary['seed']}.json").write_text(json.dumps(summary, indent=2) + "\n")
    tables = {"results": ("results", results_table), "cognition": ("results", cognition_table), "speed": ("speed", speed_table)}
    for name, (page, make) in tables.items():
        path = ROOT / "docs" / f"{page}.md"
        path.write_text(_replace(path.read_text(), name, make()))
    for row, arms in _rows().items():
        curves = {preset: [run["around_shift"] for run in runs] for preset, runs in arms.items() if "around_shift" in runs[0]}
        if curves:
            around_shift(RESULTS / f"around_shift_{row}.png", curves, row)


def _replace(words: str, name: str, table: str) -> str:
    """Returns a page with the text between two marks replaced."""
    begin, end = f"<!-- {name}: begin (experiments/make_table.py) -->", f"<!-- {name}: end -->"
    before, _, rest = words.partition(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"


def speed_table() -> str:
    """Returns the ratios and fractions of a benchmark as Markdown."""
    figures = json.loads(BENCHMARK.read_text())
    words = ("_over_", "utilisation", "compile", "fraction", "steps_per_second", "cost_per_token", "accelerator_")
    shown = {
        name: value if isinstance(value, str) else f"{value:.3g}" for name, value in figures.items() if any(word in name for word in words)
    }
    return "\n".join(["| figure | |", "|---|---|", *(f"| `{name}` | {value} |" for name, value in shown.items())])


def results_table() -> str:
    """Returns the table of the presets that are in no row of capabilities as Markdown, one line per preset, over its seeds."""
    shown = {preset for arms in ROWS.values() for preset in arms}
    rows = [
        "| command | seeds | seconds a run | normalised score: median (range) | notes shuffled | largest log-prob gap |",
        "|---|---|---|---|---|---|",
    ]
    for preset, summaries in _by_preset().items():
        if preset in shown:
            continue
        scores = [summary["normalised_score"] for summary in summaries]
        shuffled = [summary["ablations"]["shuffled"] for summary in summaries if "shuffled" in summary["ablations"]]
        seeds = ", ".join(str(seed) for seed in sorted(summary["seed"] for summary in summaries))
        rows.append(
            f"| `experiments/train.py --preset={preset}` | {seeds} | {statistics.median(s['seconds'] for s in summaries):.0f} "
            f"| {statistics.median(scores):.1%} ({min(scores):.1%} to {max(scores):.1%}) "
            f"| {f'at most {max(shuffled):.1%}' if shuffled else ''} | {max(s['max_log_prob_gap'] for s in summaries):.0e} |"
        )
    return "\n".join(rows)


def cognition_table() -> str:
    """Returns the table of capabilities as Markdown: the agents with results, row by row."""
    lines = []
    for row, arms in _rows().items():
        head, rule, *told = table(arms).splitlines()
        lines += [] if lines else [f"| row {head}", f"|---{rule}"]
        lines += [f"| {row} {line}" for line in told]
    return "\n".join(lines)


def _rows() -> dict[str, dict[str, list[dict]]]:
    """Returns the summaries of each agent with results, by row and preset."""
    by_preset = _by_preset()
    arms = {row: {preset: by_preset[preset] for preset in presets if preset in by_preset} for row, presets in ROWS.items()}
    return {row: found for row, found in arms.items() if found}


def _read(path: pathlib.Path) -> dict:
    """Returns the summary in a file.

    Raises:
      ArlError: if the file holds none.
    """
    from arl.runs.folder import read_json

    summary = read_json(path)
    if summary.get("preset") not in PRESETS or "normalised_score" not in summary:
        raise main.UsageError(f"{path} is no summary of a run; remove it, or make the run again")
    return summary


def _by_preset() -> dict[str, list[dict]]:
    found = collections.defaultdict(list)
    for path in sorted(RESULTS.glob("*-*.json")):
        summary = _read(path)
        found[summary["preset"]].append(summary)
    return found


if __name__ == "__main__":
    sys.exit(main.run(make_table))
