"""The table of capabilities: which agents stand in a row, and what is told of them."""

import statistics

# The first arm of each row is the agent with the capability; all are presets.
ROWS = {
    "reflection": ("combination_lock", "combination_lock_blind"),
    "minesweeper": ("minesweeper", "minesweeper_blind"),
    "hidden_lake": ("frozen_lake_hidden", "frozen_lake_hidden_blind"),
    "memory": ("corridor", "corridor_blind"),
    "calculator": ("arithmetic", "arithmetic_blind"),
    "composed": ("composed", "composed_without_tools", "composed_without_memory", "composed_without_reflection"),
    "table": ("ledger", "ledger_blind"),
    "controls": ("shifting_controls", "shifting_controls_memoryless"),
    "restless": ("restless_bandit", "restless_bandit_memoryless"),
    "mastermind": ("mastermind", "mastermind_from_scratch", "mastermind_without_bits"),
    "twenty_questions": ("twenty_questions", "twenty_questions_without_bits"),
}


def table(summaries: dict[str, list[dict]]) -> str:
    """Returns a row as Markdown: an arm a line, over its seeds."""
    lines = [
        "| agent | warm start | seeds | of the way: median (worst) | by attempt | with notes not its own: at most | also | seconds a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for preset, runs in summaries.items():
        fractions = [run["fraction"] for run in runs]
        ways = [how for how in runs[0]["ablations"] if "expert" not in how]
        ablated = [f"{how} {max(run['ablations'][how] for run in runs):.1%}" for how in ways]
        lines.append(
            f"| `{preset}` | {_warm_start(runs)} | {len(runs)} | {statistics.median(fractions):.1%} ({min(fractions):.1%}) "
            f"| {_by_attempt(runs)} | {', '.join(ablated)} | {_also(runs)} "
            f"| {statistics.median(run['seconds'] for run in runs):.0f} |"
        )
    return "\n".join(lines) + "\n"


def _warm_start(runs: list[dict]) -> str:
    """Returns how many updates were of imitation, and how far of the way the agent came then."""
    if not runs[0]["warm_start"]:
        return ""
    return f"{runs[0]['warm_start']}: {statistics.median(run['fraction_after_warm_start'] for run in runs):.0%}"


def _by_attempt(runs: list[dict]) -> str:
    """Returns the outcome of each attempt of a life, medians over runs; nothing where there is one."""
    outcomes = list(zip(*(run["outcome_by_attempt"] for run in runs), strict=True))
    return ", ".join(f"{statistics.median(outcome):.2f}" for outcome in outcomes) if len(outcomes) > 1 else ""


def _also(runs: list[dict]) -> str:
    """Returns what is told of some tasks and of some agents only, medians over runs."""
    said, median = [], lambda look: statistics.median(look(run) for run in runs)
    if "bits_a_question" in runs[0]:
        said.append(f"{median(lambda run: run['actions']):.2f} questions (optimum {-runs[0]['ceiling']:.2f})")
        bits = [median(lambda run, who=who: run["bits_a_question"][who]) for who in ("agent", "expert")]
        said.append("{:.2f} bits a question (expert {:.2f})".format(*bits))
    if "recovered" in runs[0]:
        shares = [median(lambda run, name=name: run[name]) for name in ("recovered", "expert_recovered")]
        said.append("{:.0%} of the informed reward recovered (Bayes filter {:.0%})".format(*shares))
    if runs[0]["score"] != runs[0]["return"]:
        said.append(f"return {median(lambda run: run['return']):.2f}")
    for kind in ("think", "tool", "note", "reflection"):
        if kind in runs[0]["token_shares"]:
            said.append(f"{kind} {median(lambda run, kind=kind: run['token_shares'][kind]):.0%} of tokens")
    return "; ".join(said)
