"""Learning curves."""

import pathlib

import numpy as np


def learning_curve(path: pathlib.Path, returns: list[float], floor: float, ceiling: float, title: str, marks: dict[str, float]) -> None:
    """Draws the return of every update between floor and ceiling.

    Args:
      path: of the PNG.
      returns: a number an update.
      floor: of random actions.
      ceiling: the optimum or a bound.
      title: of the plot.
      marks: names and returns of evaluations, drawn at the right edge.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    values = np.asarray(returns, float)
    window = max(len(values) // 50, 1)
    smooth = np.convolve(np.pad(values, (window // 2, window - 1 - window // 2), mode="edge"), np.ones(window) / window, mode="valid")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.axhline(ceiling, color="tab:green", linestyle="--", label=f"optimum {ceiling:.3g}")
    axes.axhline(floor, color="tab:gray", linestyle="--", label=f"random {floor:.3g}")
    axes.plot(values, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(smooth, color="tab:blue", label="training")
    for (name, value), color in zip(marks.items(), ("tab:orange", "tab:red", "tab:purple", "tab:brown"), strict=False):
        axes.plot([len(values)], [value], marker="o", color=color, clip_on=False, linestyle="none", label=f"{name} {value:.3g}")
    axes.set(title=title, xlabel="update", ylabel="return a life")
    axes.margins(x=0.01)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
