"""What a run says of itself: evaluations, transcripts, the learning curve and the summary."""

import dataclasses
import hashlib
import inspect
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from arl import training
from arl.runs import folder
from arl.runs.check_agent import segment_like
from arl.runs.check_functions import constants, printed
from arl.runs.evaluations import ablation_label, evaluate_agent
from arl.runs.experiment import Experiment
from arl.runs.observers import Observer
from arl.runs.plots import learning_curve
from arl.runs.progress import reporting
from arl.runs.transcript import add_section, typical_episodes
from arl.training import evaluation
from arl.training.fingerprint import fingerprint
from arl.types import ArlError, Interaction

EVALUATIONS = "evaluations.jsonl"


def describe(experiment: Experiment, policy: str, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the content of a run's `config.json` without the seed: what tells it from other runs.

    Args:
      experiment: the training.
      policy: words for the policy, such as the name of its preset.
      options: the caller's estimator, writer and so on, by name, None for those that are not given.
    """
    agent = experiment.interaction
    return {
        "name": experiment.name,
        "agent": [printed(layer) for layer in agent.layers],
        "size": list(agent.size),
        "program": _digest(agent, training.curriculum_at(experiment.config.learner.schedules, 0.0)),
        "policy": policy,
        "pretrained": "" if experiment.pretrained is None else _digest_of_weights(experiment.pretrained),
        "options": {name: _source(value) for name, value in options.items()},
        **json.loads(json.dumps(dataclasses.asdict(experiment.config))),
    }


def _digest(agent: Interaction, curriculum: Any) -> str:
    """Returns a hash of an agent as a program: its grammar, and the operations and constants of `start` and `advance`."""
    digest, key = hashlib.sha256(), jax.eval_shape(jax.random.key, 0)
    state, _ = jax.eval_shape(agent.start, key, curriculum)
    for function, arguments in ((agent.start, (key, curriculum)), (agent.advance, (key, curriculum, state, segment_like(agent)))):
        program = jax.make_jaxpr(function)(*arguments)
        digest.update(printed(program).encode())
        for constant in constants(program):
            digest.update(constant.tobytes())
    for part in (agent.grammar.token, agent.grammar.next_state, agent.grammar.interval, agent.grammar.mask):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def _digest_of_weights(weights: Any) -> str:
    return "".join(f"{word:08x}" for word in np.asarray(fingerprint(jax.tree.map(np.asarray, weights)).words))


def _source(value: Any) -> str:
    """Returns the name of a function, or of the type of something else, with a hash of its source if there is one; "" for None."""
    if value is None or isinstance(value, int | float):
        return "" if value is None else repr(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    try:
        digest = f" {hashlib.sha256(inspect.getsource(named).encode()).hexdigest()[:16]}"
    except (OSError, TypeError):
        digest = ""
    return f"{named.__module__}.{named.__qualname__}{digest}"


def optimum(kind: str) -> str:
    """Returns words for the upper end of the scale; `kind` is `Bounds.optimal_is`."""
    return {"exact": "optimal", "bound": "a bound that nobody exceeds", "filter": "what a Bayes filter earns"}[kind]


def begin(experiment: Experiment, output: pathlib.Path) -> str:
    """Returns the line with which a training in the folder `output` begins."""
    bounds = experiment.bounds
    if bounds is None:
        return f"{experiment.name}: the bounds of this task are not known, so outcomes are told as they are; writing to {output}"
    scale = f"normalised score 0 is random ({bounds.random:.3g}), 1 is {optimum(bounds.optimal_is)} ({bounds.optimal:.3g})"
    return f"{experiment.name}: {scale}; writing to {output}"


def line(summary: dict[str, Any], step: int, seed: int, is_best: bool) -> str:
    """Returns a line about an evaluation on the way.

    Args:
      summary: its summary.
      step: number of updates before it.
      seed: seed of the run.
      is_best: whether its outcome is the best so far.
    """
    score, interval = (summary.get(name, summary[other]) for name, other in (("normalised_score", "score"), ("interval", "score_interval")))
    what = "normalised score" if "normalised_score" in summary else "outcome"
    return f"seed {seed}, after {step} updates: held-out {what} {score:.3f} ± {interval:.3f}{', the best so far' if is_best else ''}"


def words(name: str, summary: dict[str, Any], output: pathlib.Path) -> str:
    """Returns the `summary` of a finished run of that `name` in the folder `output` as sentences."""
    compiling = f" ({summary['compile_seconds']:.0f} s of them compiling)" if "compile_seconds" in summary else ""  # newer than some runs
    done = f"{name}, seed {summary['seed']}: {summary['updates']} updates in {summary['seconds']:.0f} s{compiling}."
    if "normalised_score" in summary:
        scale = f"0 is random, {summary['random']:.3g}; 1 is {optimum(summary.get('optimal_is', 'exact'))}, {summary['optimal']:.3g}"
        score = f"the normalised score is {summary['normalised_score']:.3f} ± {summary['interval']:.3f} ({scale})"
    else:
        score = f"the mean outcome is {summary['score']:.3f} ± {summary['score_interval']:.3f}"
    lines = [f"{done} On held-out episodes {score}."]
    lines += [f"With {ablation_label(name)} it is {value:.3f}." for name, value in summary["ablations"].items()]
    return "\n".join([*lines, f"See {output / 'curve.png'} and {output / 'transcripts.txt'}."])


def read_evaluations(output: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's file of evaluations on the way; none if there is no file yet.

    Args:
      output: folder of the run.

    Raises:
      ArlError: if a line is damaged.
    """
    path, found = output / EVALUATIONS, []
    for number, written in enumerate(path.read_text(errors="replace").splitlines() if path.exists() else [], 1):
        try:
            found.append(json.loads(written))
            float(found[-1]["score"]), int(found[-1]["update"])
        except (ValueError, KeyError, TypeError):
            raise ArlError(f"line {number} of {path} is damaged; restore it, or remove that line") from None
    return found


def add_evaluation(output: pathlib.Path, step: int, summary: dict[str, Any]) -> bool:
    """Adds an evaluation on the way to a run's file of them; those at and beyond its step, of a killed run, are replaced.

    Args:
      output: folder of the run.
      step: number of updates before it.
      summary: its summary.

    Returns:
      Whether its outcome is the best so far.
    """
    earlier = [line for line in read_evaluations(output) if line["update"] < step]
    lines = [*earlier, {"update": step, **summary}]
    folder.write(output / EVALUATIONS, "".join(json.dumps(line) + "\n" for line in lines))
    return all(summary["score"] > line["score"] for line in earlier)


def add_transcripts(output: pathlib.Path, observers: Sequence[Observer], title: str, episodes: str, step: int) -> None:
    """Adds transcripts to the file of a run, and tells its observers.

    Args:
      output: folder of the run.
      observers: observers of the run.
      title: title of the section.
      episodes: the transcripts.
      step: number of updates before them.
    """
    add_section(output / "transcripts.txt", title, episodes)
    for observer in observers:
        observer.transcripts(step, title, episodes)


def finish(
    experiment: Experiment, output: pathlib.Path, seed: int, variables: Any, observers: Sequence[Observer], about: dict[str, Any]
) -> dict[str, Any]:
    """Evaluates a trained agent, draws its learning curve, and adds transcripts of the evaluation.

    Args:
      experiment: the training.
      output: folder of the run.
      seed: seed of the run.
      variables: variables of the policy, on one device.
      observers: observers of the run.
      about: fields of the summary, among them `seconds`, `compile_seconds` and `devices`.

    Returns:
      The summary of the run, which is written to `summary.json`.
    """
    config, began = experiment.config, time.perf_counter()
    with reporting(f"evaluating seed {seed}") as report:
        evaluated = evaluate_agent(experiment, variables, seed, config.evaluation, report)
    lines = training.read_metrics(output / "metrics.jsonl")
    on_the_way = read_evaluations(output)
    best = max(on_the_way, key=lambda line: line["score"], default={})
    own = {"seconds": round(about["seconds"], 1), "compile_seconds": round(about["compile_seconds"], 1), "devices": about["devices"]}
    summary = {
        "name": experiment.name,
        "seed": seed,
        "updates": config.num_updates,
        "warm_start": config.warm_start,
        **_after_warm_start(experiment, lines),
        **own,
        "seconds_evaluating": round(time.perf_counter() - began, 1),
        **evaluated.summary,
        "max_log_prob_gap": max(found["max_log_prob_gap"] for found in (evaluated.summary, *lines)),
        "best": {name: best[name] for name in ("update", "score", "normalised_score") if name in best},
        **{name: value for name, value in about.items() if name not in own},
    }
    with reporting(f"writing of seed {seed}") as report:
        report("transcripts")
        episodes = typical_episodes(experiment.interaction, experiment.tokenizer, evaluated.trajectory)
        add_transcripts(output, observers, "after training", episodes, config.num_updates)
        report("the learning curve")
        for observer in observers:
            observer.evaluation(config.num_updates, summary)
        _draw(output, lines, on_the_way, summary)
    folder.write_json(output / "summary.json", summary)
    return summary


def _after_warm_start(experiment: Experiment, lines: list[dict]) -> dict[str, float]:
    """Returns the normalised score in the first update after the warm start; empty without one."""
    if not experiment.warm_start or experiment.bounds is None:
        return {}
    outcome = lines[experiment.config.warm_start]["return/outcome"]
    return {"normalised_score_after_warm_start": evaluation.normalised_score(outcome, experiment.bounds)}


def _draw(output: pathlib.Path, lines: list[dict], on_the_way: list[dict], summary: dict) -> None:
    """Draws the learning curve, with the evaluations as marks at its end."""
    random, optimal = summary.get("random"), summary.get("optimal")
    title, start, scale = f"outcome {summary['score']:.3g}", 0.0, 1.0
    if random is not None and optimal is not None:
        title, start, scale = f"normalised score {summary['normalised_score']:.2f}", random, optimal - random
    title = f"{summary['name']}, seed {summary['seed']}: {title}"
    marks = {ablation_label(ablation): start + scale * score for ablation, score in summary["ablations"].items()}
    outcomes = [line["return/outcome"] for line in lines[summary["warm_start"] :]]
    evaluations = [(line["update"], line["score"]) for line in on_the_way]
    marks = {"evaluation": summary["score"], **marks}
    learning_curve(output / "curve.png", outcomes, summary["warm_start"], random, optimal, title, marks, evaluations)
