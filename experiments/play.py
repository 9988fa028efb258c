"""Watch a trained agent live, segment by segment, with the probability of each token that it chose.

experiments/play.py --run=runs/reflection --seed=3 --pause=0.5
"""

import sys
import time

from absl import flags

from experiments import main

RUN = flags.DEFINE_string("run", "runs/reflection", "Folder of the run.")
SEED = flags.DEFINE_integer("seed", 0, "Of the life.", lower_bound=0, upper_bound=2**31 - 1)
STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the newest if not given.")
LIVES = flags.DEFINE_integer("lives", 1, "How many lives to watch.", lower_bound=1)
PAUSE = flags.DEFINE_float("pause", 0.3, "Seconds between two segments where somebody watches.", lower_bound=0.0)


def play(assignments: list[str]) -> None:
    """Prints lives, one after the other."""
    if assignments:
        raise main.UsageError("play takes its config from the run; leave --config out")
    import rich.console
    import rich.text

    from experiments.config import EvaluationConfig
    from experiments.judge import live
    from experiments.restore import restore
    from experiments.transcript import events

    run = restore(RUN.value, STEP.value)
    console = rich.console.Console(highlight=False)
    interaction = run.experiment.interaction
    _, stream = live(run.experiment, run.params, SEED.value, EvaluationConfig(num_lives=LIVES.value), interaction)
    for lane in range(LIVES.value):
        console.rule(f"life {lane + 1}, {run.experiment.config.preset}, checkpoint {run.step}")
        for event in events(interaction, run.experiment.tokenizer, stream, lane):
            console.print(_line(rich.text.Text, event))
            time.sleep(PAUSE.value if console.is_terminal else 0.0)


def _line(text, event):
    """One event as a coloured line: what was read is dim, what was written is bright where the model was sure."""
    line = text()
    if event.get("forgets"):
        line.append("            --- the context begins anew ---\n", style="magenta")
    line.append(f"{event['kind'].lower():>11} ", style="cyan" if event["who"] == "read" else "bold yellow")
    if event["who"] == "read":
        return line.append(repr(event["text"])[1:-1], style="dim")
    for token, probability in event["tokens"]:
        line.append(repr(token)[1:-1], style="bold")
        line.append("" if probability is None else f"({probability:.2f})", style="green" if (probability or 1.0) > 0.5 else "red")
    if event["reward"]:
        line.append(f"   reward {event['reward']:+.2f}", style="bold green" if event["reward"] > 0 else "bold red")
    return line if event["is_legal"] else line.append("   illegal", style="bold red")


if __name__ == "__main__":
    sys.exit(main.run(play))
