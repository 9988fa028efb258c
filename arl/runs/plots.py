"""Learning curves."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

COLORS = ("tab:blue", "tab:orange", "tab:red", "tab:purple", "tab:brown")


def learning_curve(
    path: pathlib.Path,
    outcomes: list[float],
    first: int,
    random: float | None,
    optimal: float | None,
    title: str,
    marks: dict[str, float],
    evaluations: Sequence[tuple[int, float]] = (),
) -> None:
    """Draws the mean outcome of the episodes of each update, with the random and the optimal outcome.

    Args:
      path: path of the PNG.
      outcomes: mean outcome of each update.
      first: first update after the warm start.
      random: outcome of random actions; None if it is not known.
      optimal: optimal outcome, or a bound; None if it is not known.
      title: title of the plot.
      marks: names and outcomes of evaluations, drawn at the right edge.
      evaluations: updates and outcomes of the evaluations on the way.
    """
    values = np.asarray(outcomes, float)
    figure, axes = _between(random, optimal, title)
    updates = first + np.arange(len(values))
    axes.plot(updates, values, color=COLORS[0], alpha=0.25, linewidth=0.8)
    axes.plot(updates, _smooth(values), color=COLORS[0], label="training")
    if first:
        axes.axvspan(0, first, color="tab:gray", alpha=0.1, label="imitating")
    if evaluations:
        axes.plot(*zip(*evaluations), color=COLORS[1], marker=".", linewidth=0.8, label="evaluations on the way")
    for (name, value), color in zip(marks.items(), itertools.cycle(COLORS[1:])):
        place, style = [first + len(values)], {"marker": "o", "clip_on": False, "linestyle": "none"}
        axes.plot(place, [value], color=color, label=f"{name} {value:.3g}", **style)
    _save(figure, axes, path)


def arms(path: pathlib.Path, returns: dict[str, list[list[float]]], random: float, optimal: float, title: str) -> None:
    """Draws the learning curves of several agents, one colour each: every seed, and their mean.

    Args:
      path: path of the PNG.
      returns: by agent and seed, mean outcome of each update after the warm start; equally many for all seeds of an agent.
      random: outcome of random actions.
      optimal: optimal outcome, or a bound.
      title: title of the plot.
    """
    figure, axes = _between(random, optimal, title)
    for (name, seeds), color in zip(returns.items(), itertools.cycle(COLORS)):
        curves = [_smooth(np.asarray(seed, float)) for seed in seeds]
        for curve in curves:
            axes.plot(curve, color=color, alpha=0.3, linewidth=0.8)
        axes.plot(np.mean(curves, axis=0), color=color, label=name)
    _save(figure, axes, path)


def around_shift(path: pathlib.Path, curves: dict[str, list[dict]], title: str) -> None:
    """Draws the rewards of several agents around a shift of the rules, one colour each, and those of the Bayes filter.

    Args:
      path: path of the PNG.
      curves: by agent and seed, `step`, `reward` and `expert`, as in a summary; the Bayes filter is the first agent's `expert`.
      title: title of the plot.
    """
    figure, axes = _axes(title, "steps since the rules changed", "reward a step")
    mean = lambda seeds, name: np.nanmean(np.asarray([seed[name] for seed in seeds], float), axis=0)
    first = next(iter(curves.values()))
    axes.plot(first[0]["step"], mean(first, "expert"), color="tab:green", linestyle="--", zorder=3, label="Bayes filter")
    for (name, seeds), color in zip(curves.items(), itertools.cycle(COLORS)):
        axes.plot(seeds[0]["step"], mean(seeds, "reward"), color=color, marker="o", markersize=3, label=name)
    axes.axvline(0, color="tab:gray", linewidth=0.8)
    axes.set_ylim(bottom=0)
    _save(figure, axes, path)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Returns the mean over a window of a fiftieth of the values."""
    window = max(len(values) // 50, 1)
    return np.convolve(np.pad(values, (window // 2, window - 1 - window // 2), mode="edge"), np.ones(window) / window, mode="valid")


def _between(random: float | None, optimal: float | None, title: str) -> tuple[Any, Any]:
    """Returns a figure and its axes, with lines for the random and the optimal outcome."""
    figure, axes = _axes(title, "update", "mean outcome of an episode")
    for value, name, color in ((optimal, "optimal", "tab:green"), (random, "random", "tab:gray")):
        if value is not None:
            axes.axhline(value, color=color, linestyle="--", label=f"{name} {value:.3g}")
    return figure, axes


def _axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _save(figure: Any, axes: Any, path: pathlib.Path) -> None:
    import matplotlib.pyplot as plt

    axes.margins(x=0.01)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
