"""The table of capabilities, for the agents of one row."""

import statistics


def table(summaries: dict[str, list[dict]]) -> str:
    """Returns a row as a Markdown table, one line per agent, over its seeds."""
    lines = [
        "| agent | warm start | seeds | normalised score: median (worst) | by attempt | with other notes: at most | also | seconds a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for preset, runs in summaries.items():
        scores = [run["normalised_score"] for run in runs]
        ways = [how for how in runs[0]["ablations"] if "expert" not in how]
        ablated = [f"{how} {max(run['ablations'][how] for run in runs):.1%}" for how in ways]
        lines.append(
            f"| `{preset}` | {_warm_start(runs)} | {len(runs)} | {statistics.median(scores):.1%} ({min(scores):.1%}) "
            f"| {_by_attempt(runs)} | {', '.join(ablated)} | {_also(runs)} "
            f"| {statistics.median(run['seconds'] for run in runs):.0f} |"
        )
    return "\n".join(lines) + "\n"


def _warm_start(runs: list[dict]) -> str:
    """Returns the number of updates of the warm start, and the normalised score after them."""
    if not runs[0]["warm_start"]:
        return ""
    return f"{runs[0]['warm_start']}: {statistics.median(run['normalised_score_after_warm_start'] for run in runs):.0%}"


def _by_attempt(runs: list[dict]) -> str:
    """Returns the outcome of each attempt of an episode, medians over runs; empty if there is only one attempt."""
    outcomes = list(zip(*(run["outcome_by_attempt"] for run in runs), strict=True))
    return ", ".join(f"{statistics.median(outcome):.2f}" for outcome in outcomes) if len(outcomes) > 1 else ""


def _also(runs: list[dict]) -> str:
    """Returns the figures that only some tasks or agents have, medians over runs."""
    said, median = [], lambda look: statistics.median(look(run) for run in runs)
    if "bits_per_action" in runs[0]:
        said.append(f"{median(lambda run: run['actions']):.2f} questions (optimum {-runs[0]['optimal']:.2f})")
        bits = [median(lambda run, who=who: run["bits_per_action"][who]) for who in ("agent", "expert")]
        said.append("{:.2f} bits per question (expert {:.2f})".format(*bits))
    if "recovered" in runs[0]:
        fractions = [median(lambda run, name=name: run[name]) for name in ("recovered", "expert_recovered")]
        said.append("{:.0%} of the informed reward recovered (Bayes filter {:.0%})".format(*fractions))
    if runs[0]["score"] != runs[0]["return"]:
        said.append(f"return {median(lambda run: run['return']):.2f}")
    for kind in ("think", "tool", "note", "reflection"):
        if kind in runs[0]["token_fractions"]:
            said.append(f"{kind} {median(lambda run, kind=kind: run['token_fractions'][kind]):.0%} of tokens")
    return "; ".join(said)
