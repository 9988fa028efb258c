"""Plays episodes of a trained agent, segment by segment, with the probability of each sampled token.

experiments/play.py --run=runs/reflection --seed=3 --pause=0.5
"""

import pathlib
import sys
import time

from absl import flags

from experiments import main

RUN = flags.DEFINE_string("run", "runs/reflection", "Folder of the run.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the episodes.", lower_bound=0, upper_bound=2**31 - 1)
STEP = flags.DEFINE_integer("step", None, "Update of the checkpoint; by default the newest.")
EPISODES = flags.DEFINE_integer("episodes", 1, "Number of episodes.", lower_bound=1)
PAUSE = flags.DEFINE_float("pause", 0.3, "Seconds between two segments, in a terminal.", lower_bound=0.0)

STYLES = {  # by role of a piece of a transcript
    "border": "magenta",
    "label": "cyan",
    "read": "dim",
    "token": "bold",
    "sure": "green",
    "unsure": "red",
    "paid": "bold green",
    "charged": "bold red",
    "illegal": "bold red",
}


def play(assignments: list[str]) -> None:
    """Prints episodes, one after the other."""
    if assignments:
        raise main.UsageError("play takes its config from the run; leave --config out")
    import rich.console
    import rich.text

    from experiments.config import EvaluationConfig
    from experiments.evaluations import play as play_episodes
    from experiments.restore import restore
    from experiments.transcript import events, pieces

    run = restore(RUN.value, STEP.value)
    console = rich.console.Console(highlight=False)
    interaction = run.experiment.interaction
    episodes, trajectory = play_episodes(
        run.experiment, run.variables, SEED.value, EvaluationConfig(num_episodes=EPISODES.value), interaction
    )
    console.print(
        f"{run.experiment.config.preset}, checkpoint {run.step}; episodes as they come with seed {SEED.value}{_mean_return(run.step)}"
    )
    for lane in range(EPISODES.value):
        console.rule(f"episode {lane + 1}: return {episodes.returned[lane]:.2f}")
        for event in events(interaction, run.experiment.tokenizer, trajectory, lane):
            console.print(rich.text.Text.assemble(*((text, STYLES[role]) for role, text in pieces(event))), soft_wrap=True)
            time.sleep(PAUSE.value if console.is_terminal else 0.0)


def _mean_return(step: int) -> str:
    """Returns the mean return of held-out episodes as words, if the run was evaluated at this checkpoint; empty otherwise."""
    path = pathlib.Path(RUN.value) / "summary.json"
    summary = main.read_json(path) if path.exists() else {}
    if summary.get("updates") != step:
        return ""
    return f"\non average held-out episodes return {summary['return']:.2f} ± {summary['return_interval']:.2f}"


if __name__ == "__main__":
    sys.exit(main.run(play))
