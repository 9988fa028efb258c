"""Plays episodes of a trained agent, segment by segment, with the probability of each sampled token; or lets you play in its place.

experiments/play.py --run=runs/reflection --seed=3 --pause=0.5
experiments/play.py --human --preset=frozen_lake --seed=1
experiments/play.py --human --config.environment='bandit(num_arms=3)' --config.agent='act(), attempts(2)'
"""

import pathlib
import sys
import time
from typing import TYPE_CHECKING

from absl import flags

from experiments import main

if TYPE_CHECKING:  # at run time a binary imports this after it has parsed its flags
    from arl.runs.live import Live

RUN = flags.DEFINE_string("run", "runs/reflection", "Folder of the run.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the episodes.", lower_bound=0, upper_bound=2**31 - 1)
STEP = flags.DEFINE_integer("step", None, "Update of the checkpoint; by default the newest.")
BEST = flags.DEFINE_bool("best", False, "Whether it is the best policy, by the evaluations on the way.")
EPISODES = flags.DEFINE_integer("episodes", 1, "Number of episodes.", lower_bound=1)
PAUSE = flags.DEFINE_float("pause", 0.3, "Seconds between two segments, in a terminal.", lower_bound=0.0)
HUMAN = flags.DEFINE_bool("human", False, "Whether you write what the agent would write, in the environment of --preset and --config.")
PRESET = flags.DEFINE_string("preset", None, "Preset for --human; by default reflection, or plain with --config.environment.")

MOST_NUMBERED = 20  # legal texts that are offered by number
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
    if HUMAN.value:
        return play_by_hand(assignments)
    if assignments or PRESET.value:
        raise main.UsageError("play takes its config from the run; leave --config and --preset out, or set --human to play yourself")
    import rich.console
    import rich.text

    from arl.runs.config import EvaluationConfig
    from arl.runs.evaluations import play as play_episodes
    from arl.runs.transcript import events, pieces
    from experiments.restore import restore

    run = restore(RUN.value, STEP.value, BEST.value)
    console = rich.console.Console(highlight=False)
    interaction = run.experiment.interaction
    episodes, trajectory = play_episodes(
        run.experiment, run.variables, SEED.value, EvaluationConfig(num_episodes=EPISODES.value), interaction
    )
    console.print(f"{run.experiment.name}, checkpoint {run.step}; episodes as they come with seed {SEED.value}{_mean_return(run.step)}")
    for lane in range(EPISODES.value):
        console.rule(f"episode {lane + 1}: return {episodes.returned[lane]:.2f}")
        for event in events(interaction, run.experiment.tokenizer, trajectory, lane):
            console.print(rich.text.Text.assemble(*((text, STYLES[role]) for role, text in pieces(event))), soft_wrap=True)
            time.sleep(PAUSE.value if console.is_terminal else 0.0)


def play_by_hand(assignments: list[str]) -> None:
    """Lets a person play an episode: shows what the agent would read, and asks for what it would write."""
    if given := [flag.name for flag in (RUN, STEP, BEST, EPISODES) if flag.present]:
        raise main.UsageError(f"a person plays one episode of a preset, and no run; leave --{given[0]} or --human out")
    from arl import training
    from arl.runs.live import live
    from arl.runs.report import optimum
    from arl.runs.transcript import to_text
    from experiments import config as configs
    from experiments.build import build
    from experiments.presets import get_preset

    preset = PRESET.value or ("plain" if any(each.startswith("environment=") for each in assignments) else "reflection")
    config = configs.override(get_preset(preset), assignments)
    experiment = build(config)
    here = live(experiment.interaction, seed=SEED.value, curriculum=training.curriculum_at(config.learner.schedules, 1.0))
    print(f"{config.preset}: write what the agent would write. ? shows what is legal, q ends.")
    num_shown = 0
    while True:
        print(to_text(list(here.history[num_shown:])))
        num_shown = len(here.history)
        if here.is_over or (answered := _ask(here)) is None:
            break
        here = answered
    print(here.describe() if here.is_over else f"ended early, with a return of {sum(here.rewards):.2f}")
    if bounds := experiment.bounds:
        print(f"outcome {here.rewards.outcome:.2f}; random {bounds.random:.3g}, {optimum(bounds.optimal_is)} {bounds.optimal:.3g}")


def _ask(here: "Live") -> "Live | None":
    """Returns the point after the segment that a person writes; None if the person ends the episode."""
    legal = list(here.legal or {})
    # A number names a legal text only where no legal text is a number itself.
    is_numbered = 0 < len(legal) <= MOST_NUMBERED and not any(text.strip().isdigit() for text in legal)
    by_name = {str(number): text for number, text in enumerate(legal, 1)} if is_numbered else {}
    offer = "   ".join(f"{number}) {text.strip()}" for number, text in by_name.items()) or here.describe().split("\n")[-1]
    print(f"{here.kind.name}, token budget {here.budget}; {offer}")
    by_name |= {text.strip(): text for text in legal}
    while True:
        try:
            said = input("> ").encode(errors="ignore").decode()  # what is no text is left out
        except EOFError:
            said = "q"
        if not sys.stdin.isatty():
            print(said)  # which a terminal shows by itself
        string = by_name.get(said.strip())
        if string is None and said == "q":
            return None
        if string is None and said == "?":
            print(here.describe())
            continue
        if after := _write(here, [said, f" {said}"] if string is None else [string]):
            return after
        wanted = here.hint(said) if here.legal is not None else f"{offer}, of as many tokens as the budget"
        print(f"{said!r} is not legal here; write {wanted}")


def _write(here: "Live", strings: list[str]) -> "Live | None":
    """Returns the point after the first of the strings that is legal and not too long; None if none is."""
    from arl.types import ArlError

    for string in strings:
        try:
            after = here.write(string)
        except ArlError:
            continue
        segment = next(event for event in reversed(after.history) if "author" in event)
        if segment["is_legal"] and segment["text"] == string:
            return after
    return None


def _mean_return(step: int) -> str:
    """Returns the mean return of held-out episodes as words, if the run was evaluated at this checkpoint; empty otherwise."""
    from arl.runs.folder import read_json

    path = pathlib.Path(RUN.value) / "summary.json"
    summary = read_json(path) if path.exists() else {}
    if summary.get("updates") != step or "return_interval" not in summary:
        return ""
    return f"\non average held-out episodes return {summary['return']:.2f} ± {summary['return_interval']:.2f}"


if __name__ == "__main__":
    sys.exit(main.run(play, takes_config=True))
