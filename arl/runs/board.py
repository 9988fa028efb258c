"""The TensorBoard of a run: grouped curves, the final evaluation, the config and transcripts."""

import json
import pathlib
import time
from typing import Any

import numpy as np

from arl.runs.config import TrainConfig
from arl.runs.evaluations import ablation_label
from arl.runs.experiment import Experiment
from arl.runs.observers import Observer
from arl.training import evaluation
from arl.training.warm_start import cloning_config

FOLDER = "tensorboard"  # in the folder of the run

# Tag and description by metric; kinds of segments and components of the reward are appended, as in `return/outcome`. Other metrics keep
# their names.
TAGS = {
    "return": ("return/total", "Sum of all rewards of an episode, mean over episodes."),
    "return/": ("return/", "Sum of this component of the reward over an episode, mean over episodes."),
    "expert/return": ("imitation/expert_return/total", "Sum of all rewards of an episode of the expert, mean over episodes."),
    "expert/return/": (
        "imitation/expert_return/",
        "Sum of this component of the reward over an episode of the expert, mean over episodes.",
    ),
    "negative_log_likelihood": ("imitation/negative_log_likelihood", "Nats for each token of the expert."),
    "imitated_tokens": ("imitation/imitated_tokens", "Tokens of the expert that were learned from in an update."),
    "imitated_fraction": ("imitation/imitated_fraction", "Fraction of the sampled tokens, those of the expert."),
    "cross_entropy": ("imitation/cross_entropy", "Nats for each token of the expert, mean over the steps of the optimizer."),
    "loss": ("losses/total", "The weighted sum that is minimised."),
    "policy_loss": ("losses/policy", ""),
    "value_loss": ("losses/value", "Before its weight."),
    "entropy": ("entropy/all", "Of the distributions that tokens were chosen from, nats a token."),
    "entropy/": ("entropy/", "Minus the log-probability of the tokens written in segments of this kind, nats a token."),
    "episodes": ("counts/episodes", "Episodes that ended in an update."),
    "whole_episodes": ("counts/whole_episodes", "Those of them that began in the same trajectory."),
    "tokens": ("counts/tokens_read", "Tokens that the model read in an update."),
    "calls": ("counts/model_calls", "Calls of the model in an update."),
    "turns": ("episodes/turns", "Segments written in an episode, mean over episodes."),
    "sampled": ("episodes/tokens_sampled", "Tokens written in an episode, mean over episodes."),
    "illegal_fraction": ("episodes/illegal_fraction", "Fraction of the segments that were illegal."),
    "unfinished_fraction": ("episodes/unfinished_fraction", "Fraction of the episodes that their trajectory cut."),
    "tokens/": ("tokens/read_fraction/", "Fraction of this kind in the tokens read."),
    "sampled/": ("tokens/sampled_fraction/", "Tokens written in segments of this kind, by all tokens read."),
    "useful_fraction": ("tokens/useful_fraction", "Fraction of the token slots computed in which a token was read."),
    "gradient_norm": ("diagnostics/gradient_norm", "Before it is clipped."),
    "clip_fraction": ("diagnostics/clip_fraction", "Fraction of the tokens whose ratio was clipped."),
    "kl_from_behaviour": ("diagnostics/kl_from_behaviour", "From the policy that sampled, nats a token."),
    "kl_from_reference": ("diagnostics/kl_from_reference", "From the reference policy, nats a token."),
    "max_log_prob_gap": ("diagnostics/max_log_prob_gap", "Largest difference between sampler's and learner's log-probabilities, nats."),
    "explained_variance": ("diagnostics/explained_variance", "Fraction of the variance of the value's targets that it explains."),
    "groups_without_variance": ("diagnostics/groups_without_variance", "Groups in which all episodes had the same return."),
}
NORMALISED = "0 is random, 1 is optimal."


def tag_of(metric: str) -> tuple[str, str]:
    """Returns the tag and the description of a metric of training."""
    for end in (len(metric), metric.rfind("/") + 1):
        if tag := TAGS.get(metric[:end]):
            return tag[0] + metric[end:], tag[1]
    return metric if "/" in metric else f"other/{metric}", ""


def scheduled(config: TrainConfig) -> dict[str, np.ndarray]:
    """Returns the values of a run's schedules at the start of each update.

    Args:
      config: config of the run.

    Returns:
      float `[num_updates]` by name: `learning_rate`, `entropy_weight`, and the schedules of the agent.
    """
    parts = [config.learner]
    if config.warm_start:
        parts = [cloning_config(config.warm_start_learner, config.warm_start), config.learner]

    def curve(schedule_of):
        return np.concatenate([np.asarray(schedule_of(part)(np.arange(part.num_updates) / part.num_updates)) for part in parts])

    return {
        "learning_rate": curve(lambda part: part.learning_rate),
        "entropy_weight": curve(lambda part: part.entropy_weight),
        **{name: curve(lambda part, name=name: part.schedules[name]) for name in config.learner.schedules},
    }


def evaluation_scalars(summary: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Returns value and description by tag of a summary from `arl.runs.evaluations.evaluate_agent`."""
    kept = ("return", "success", "turns", "actions", "illegal_fraction", "recovered", "expert_recovered")
    found = {
        "outcome": (summary["score"], "What the task itself pays in an episode, mean over episodes."),
        **{name: (summary[name], "") for name in kept if name in summary},
        "max_log_prob_gap": (summary["max_log_prob_gap"], TAGS["max_log_prob_gap"][1]),
        **{f"bits_per_action/{who}": (bits, "") for who, bits in summary.get("bits_per_action", {}).items()},
    }
    if "normalised_score" in summary:
        found["normalised_score"] = (summary["normalised_score"], NORMALISED)
    for name, score in summary.get("ablations", {}).items():
        found[f"normalised_score_with/{ablation_label(name)}".replace(" ", "_")] = (score, NORMALISED)
    series = {f"bits/{kind}": bits for kind, bits in summary.get("bits_by_segment", {}).items()}
    if len(summary["outcome_by_attempt"]) > 1:
        series["outcome_by_attempt"] = summary["outcome_by_attempt"]
    found |= {f"{name}/{index}": (value, "") for name, values in series.items() for index, value in enumerate(values, 1)}
    return {f"evaluation/{tag}": value for tag, value in found.items()}


class Board(Observer):
    """The TensorBoard of a run.

    A curve that has been constant since the first update is not shown, since many metrics stay constant in a given run; once it changes, it
    is shown from its start. All is on disk before the next update.
    """

    def __init__(self, experiment: Experiment, output: pathlib.Path, earlier: list[dict[str, float]], config: dict[str, Any]):
        """Starts or resumes.

        Args:
          experiment: the run.
          output: folder of the run.
          earlier: metrics of the updates before, if the run is resumed.
          config: content of `config.json`.
        """
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        (output / FOLDER).mkdir(parents=True, exist_ok=True)
        # A file is named by the second of its creation; the suffix keeps two of the same second apart.
        self._writer = EventsWriter(str(output / FOLDER / "events"), filename_suffix=f".{len(earlier)}")
        self._write(len(earlier), session_log=SessionLog(status=SessionLog.START))  # TensorBoard drops later steps
        self._bounds, self._schedules = experiment.bounds, scheduled(experiment.config)
        self._still: dict[str, list[tuple[int, float, float]]] = {}  # by tag: step, value and time of each point of a constant curve
        self._moved: set[str] = set()
        for step, metrics in enumerate(earlier):
            for tag, (value, _) in self._scalars(step, metrics).items():
                self._newly_moved(tag, step, value)
        if not earlier:
            self.text("config", json.dumps(config, indent=2), 0)

    def update(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """Shows an update; `step`, `metrics` and `seconds` as `Observer.update`."""
        now = {"time/tokens_per_second": (metrics["tokens"] / seconds, "")}
        for tag, (value, description) in self._scalars(step, metrics).items():
            if tag in self._moved:
                now[tag] = (value, "")  # its first point has the description
            for earlier, its_value, its_time in self._newly_moved(tag, step, value):
                self._show(earlier, {tag: (its_value, description)}, its_time)
        self._show(step, now)

    def evaluation(self, step: int, summary: dict[str, Any]) -> None:
        """Shows an evaluation; `step` and `summary` as `Observer.evaluation`."""
        self._show(step, evaluation_scalars(summary))

    def transcripts(self, step: int, title: str, text: str) -> None:
        """Shows transcripts; `step`, `title` and `text` as `Observer.transcripts`."""
        self.text("transcripts", f"{title}\n\n{text}", step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Shows `text` verbatim under `tag` at update `step`."""
        from tensorboardX import summary

        indented = "".join(f"    {line}\n" for line in text.splitlines())  # a code block in Markdown
        self._write(step, summary=summary.text(tag, indented))

    def _scalars(self, step: int, metrics: dict[str, float]) -> dict[str, tuple[float, str]]:
        """Returns value and description by tag of the metrics, score and schedules of an update."""
        names = metrics.keys() - {"update", "entropy_weight"}  # the latter is among the schedules
        found = {tag: (metrics[name], description) for name in sorted(names) for tag, description in [tag_of(name)]}
        if "return/outcome" in metrics and self._bounds:
            score = evaluation.normalised_score(metrics["return/outcome"], self._bounds)
            found["return/normalised_score"] = (score, NORMALISED)
        said = "What the schedule says at the beginning of an update."
        return found | {f"schedules/{name}": (float(values[step]), said) for name, values in self._schedules.items()}

    def _newly_moved(self, tag: str, step: int, value: float) -> list[tuple[int, float, float]]:
        """Returns step, value and time of all points of a curve that changes for the first time; of any other curve, none."""
        if tag in self._moved:
            return []
        still = self._still.setdefault(tag, [])
        still.append((step, value, time.time()))
        if value == still[0][1]:
            return []
        self._moved.add(tag)
        return self._still.pop(tag)

    def _show(self, step: int, scalars: dict[str, tuple[float, str]], at: float | None = None) -> None:
        from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata  # pyright: ignore[reportAttributeAccessIssue]

        scalar = SummaryMetadata.PluginData(plugin_name="scalars")
        values = [
            Summary.Value(
                tag=tag,
                simple_value=value,
                metadata=SummaryMetadata(summary_description=description, plugin_data=scalar) if description else None,
            )
            for tag, (value, description) in scalars.items()
        ]
        self._write(step, at, summary=Summary(value=values))

    def _write(self, step: int, at: float | None = None, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        self._writer.write_event(Event(wall_time=at or time.time(), step=step, **what))
        self._writer.flush()
