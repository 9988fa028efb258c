"""Evaluates a trained agent on held-out episodes; the last line of output is JSON.

experiments/evaluate.py --run=runs/reflection --seed=1 --greedy
"""

import dataclasses
import json
import sys
import time

from absl import flags

from experiments import main

RUN = flags.DEFINE_string("run", "runs/reflection", "Folder of the run.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the held-out episodes.", lower_bound=0, upper_bound=2**31 - 1)
STEP = flags.DEFINE_integer("step", None, "Update of the checkpoint; by default the newest.")
BEST = flags.DEFINE_bool("best", False, "Whether it is the best policy, by the evaluations on the way.")
GREEDY = flags.DEFINE_bool("greedy", None, "Whether decoding is greedy; by default as in the run's config.")
NUM_EPISODES = flags.DEFINE_integer("num_episodes", None, "Number of episodes; by default as in the run's config.", lower_bound=2)


def evaluate(assignments: list[str]) -> None:
    """Prints the evaluation as text, and as one line of JSON."""
    if assignments:
        raise main.UsageError("an evaluation takes its config from the run; leave --config out")
    from arl.runs.evaluations import ablation_label, evaluate_agent
    from arl.runs.progress import reporting
    from experiments.restore import restore

    run = restore(RUN.value, STEP.value, BEST.value)
    config = run.experiment.config.evaluation
    if GREEDY.value is not None:
        config = dataclasses.replace(config, greedy=GREEDY.value)
    if NUM_EPISODES.value:
        config = dataclasses.replace(config, num_episodes=NUM_EPISODES.value)
    began = time.perf_counter()
    with reporting("evaluating") as report:
        evaluated = evaluate_agent(run.experiment, run.variables, SEED.value, config, report).summary
    seconds = time.perf_counter() - began
    print(f"{run.experiment.name}, checkpoint {run.step}, {config.num_episodes} episodes, {'greedy' if config.greedy else 'sampled'}")
    if "normalised_score" in evaluated:
        print(f"  normalised score {evaluated['normalised_score']:.3f} ± {evaluated['interval']:.3f} (0 is random, 1 is optimal)")
        print(f"  outcome {evaluated['score']:.3f} (random {evaluated['random']:.3g}, optimal {evaluated['optimal']:.3g})")
    else:
        print(f"  outcome {evaluated['score']:.3f} ± {evaluated['score_interval']:.3f}")
    for name in ("return", "success", "turns", "illegal_fraction"):
        if name in evaluated:
            print(f"  {name} {evaluated[name]:.3f} ± {evaluated[f'{name}_interval']:.3f}")
    for name, score in evaluated["ablations"].items():
        print(f"  {'normalised score' if 'normalised_score' in evaluated else 'outcome'} with {ablation_label(name)} {score:.3f}")
    print(json.dumps({"preset": run.experiment.name, "seed": SEED.value, "updates": run.step, "seconds": round(seconds, 1), **evaluated}))


if __name__ == "__main__":
    sys.exit(main.run(evaluate))
