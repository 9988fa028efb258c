"""Training in one call: updates, metrics, checkpoints, evaluation on the way and at the end, curves and transcripts, in one folder."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from arl import training
from arl.models import Policy
from arl.runs import devices, folder, programs, report
from arl.runs.checker import check
from arl.runs.config import TrainConfig
from arl.runs.evaluations import make_evaluator
from arl.runs.experiment import Experiment, check_types, make_experiment
from arl.runs.observers import Observer
from arl.runs.progress import Progress, reporting
from arl.runs.recorder import Recorder
from arl.training import Layout, TrainState
from arl.training.config import check_config
from arl.types import ArlError, Interaction

OPTIONS = ("estimator", "optimizer", "curriculum", "importance_cap", "writer")  # arguments of `make_learner` that `train` passes on


def check_custom(agent: Interaction) -> None:
    """Checks an agent by `arl.check`, if its environment or a layer is not of `arl`; raises `ArlError` if something is wrong."""
    parts = [*map(type, agent.layers), *(part for part in agent.task.environment if callable(part))]
    if any(not part.__module__.startswith("arl.") for part in parts):
        with reporting("checking") as report_part:
            report_part("the environment and the layers")
            check(agent)


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained agent and its results; `str(run)` says how good it is and where to look.

    Attributes:
      experiment: the training as pure functions.
      output: folder of the run.
      seed: seed of all random numbers.
      num_updates: number of updates taken.
      variables: variables of the policy after them.
      summary: the evaluation of the trained agent, as in `summary.json`; empty if the run was stopped before its end.
    """

    experiment: Experiment
    output: pathlib.Path
    seed: int
    num_updates: int
    variables: Any
    summary: dict[str, Any]

    def __str__(self) -> str:
        if not self.summary:
            updates = f"{self.num_updates} of {self.experiment.config.num_updates}"
            return f"seed {self.seed} stopped after update {updates}; run it again to go on from there"
        return report.words(self.experiment.name, self.summary, self.output)

    def __repr__(self) -> str:
        return f"Run({self.experiment.name!r}, seed {self.seed}, {self.output}): {self}"


def train(
    agent: Interaction,
    policy: Policy | str = "0.1M",
    config: TrainConfig | None = None,
    *,
    output: str | pathlib.Path,
    seed: int | Sequence[int] = 0,
    name: str = "agent",
    pretrained: Any = None,
    layout: Layout | None = None,
    minutes: float | None = None,
    observers: Sequence[Observer] | Callable[[int], Sequence[Observer]] = (),
    **options: Any,
) -> Any:
    """Trains and evaluates an agent; the same call resumes a run that was stopped, and returns one that is finished.

    It shows progress, and writes to a folder: metrics, checkpoints, transcripts and evaluations on the way, the best policy so far
    (`best/`, by these evaluations), a learning curve, TensorBoard's curves, and the evaluation of the trained agent (`summary.json`). An
    environment or a layer that is not of `arl` is checked first, see `arl.check`.

    Args:
      agent: the agent in its environment, made by `arl.make_agent`.
      policy: the policy, or the name of a preset of `arl.models`, "0.1M" to "10M", for a transformer of that size.
      config: config of the training; None for the defaults.
      output: folder of the run; each of several seeds has a subfolder.
      seed: seed of all random numbers; several are trained in one program, with the results of training alone, up to rounding.
      name: name for titles.
      pretrained: weights to start from, as `Policy.init` takes them, such as `run.variables.trainable`; None for random ones.
      layout: how lanes and weights are divided among devices; None divides lanes among all devices, or seeds if there are several.
      minutes: time limit of the training, without checks before and the evaluation after it, at which it stops with everything saved, after
        one update at least; None for none.
      observers: what else follows the training, such as a `Tracker`; for several seeds a function `seed -> observers`.
      **options: `writer`, `estimator`, `optimizer` and so on, as `arl.training.make_learner` takes them.

    Returns:
      The `Run`; a tuple of them for several seeds.

    Raises:
      ArlError: if the parts do not fit together, or the folder belongs to another run.
      TrainingError: if the training cannot go on, such as after a metric that is not finite.
      CheckpointError: if a checkpoint cannot be written or read.
    """
    seeds, config = _checked_seeds(seed), config or TrainConfig()
    check_types(agent, config)
    _check_options(output, minutes, name, options)
    observers_of = _observers(observers, len(seeds))
    check_config(config.learner)
    if layout is None:
        layout = Layout(devices.make_mesh(None, config.learner.num_blocks)) if len(seeds) == 1 else programs.seeds_layout()
    experiment = make_experiment(agent, policy, config, name=name, layout=layout, pretrained=pretrained, **options)
    if not folder.is_finished(pathlib.Path(output), seeds):
        check_custom(agent)  # which takes a while: what is wrong with the config has been said by then
    record = report.describe(experiment, policy if isinstance(policy, str) else "given", {name: options.get(name) for name in OPTIONS})
    runs = run(experiment, seeds, pathlib.Path(output), record, minutes=minutes, observers=observers_of)
    return runs if isinstance(seed, Sequence) else runs[0]


def _checked_seeds(seed: Any) -> tuple[int, ...]:
    """Returns the seeds as a tuple; raises `ArlError` if one is none."""
    found = []
    for each in seed if isinstance(seed, Sequence) and not isinstance(seed, str) else [seed]:
        if not isinstance(each, int | np.integer) or isinstance(each, bool) or not 0 <= each < 2**31:
            raise ArlError(f"the seed is {each!r}; give a whole number from 0 to {2**31 - 1}, or a list of them")
        found.append(int(each))
    return tuple(found)


def _check_options(output: Any, minutes: Any, name: Any, options: dict[str, Any]) -> None:
    """Raises `ArlError` if an argument of `train` cannot be used."""
    if not isinstance(output, str | pathlib.Path) or not str(output):
        raise ArlError(f"output is {output!r}; give the path of a folder")
    if minutes is not None and not (isinstance(minutes, int | float) and minutes > 0):
        raise ArlError(f"minutes is {minutes!r}; give a number above 0, or None for no limit")
    if not isinstance(name, str):
        raise ArlError(f"name is {name!r}; give a string")
    if unknown := [option for option in options if option not in OPTIONS]:
        raise ArlError(f"train has no argument {unknown[0]!r}; beside those of its signature it takes {', '.join(OPTIONS)}")
    optimizer = options.get("optimizer")
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ArlError(f"the optimizer is {optimizer!r}; give one of optax, such as optax.adam(1e-3)")


def _observers(observers: Any, num_seeds: int) -> Callable[[int], Sequence[Observer]]:
    """Returns `seed -> observers`; raises `ArlError` if something else is given."""
    if callable(observers) and not isinstance(observers, type):
        return lambda seed: _checked_observers(observers(seed))
    given = _checked_observers(observers)
    if given and num_seeds > 1:
        raise ArlError("each seed needs observers of its own; give a function seed -> list of observers")
    return lambda seed: given


def _checked_observers(observers: Any) -> Sequence[Observer]:
    given: list[Any] = list(observers) if isinstance(observers, Sequence) else [observers]
    if wrong := [each for each in given if not isinstance(each, Observer)]:
        raise ArlError(f"{wrong[0]!r} is no observer; give a list of arl.Observer, or a function seed -> list")
    return given


def run(
    experiment: Experiment,
    seeds: Sequence[int],
    output: pathlib.Path,
    record: dict[str, Any],
    *,
    minutes: float | None = None,
    observers: Callable[[int], Sequence[Observer]] = lambda seed: (),
    about: dict[str, Any] | None = None,
) -> tuple[Run, ...]:
    """Trains and evaluates an experiment, as `train`.

    Args:
      experiment: the training, with `programs.seeds_layout()` for several seeds.
      seeds: the seeds.
      output: folder of the run.
      record: content of its `config.json` without seeds, which identifies the run.
      minutes: as `train`.
      observers: as `train`.
      about: fields to add to the summary, such as the command.

    Returns:
      The run of each seed.
    """
    began = time.monotonic()
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ArlError(f"the seeds are {list(seeds)}; give at least one, and each once")
    record = {"seed": seeds[0] if len(seeds) == 1 else list(seeds), **record}
    folder.check(output, record)
    outputs, is_finished = folder.of_seeds(output, seeds), folder.is_finished(output, seeds)
    made = programs.make_programs(experiment, seeds)
    traced = [] if is_finished else made.trace()  # whatever cannot be traced fails before anything is written
    lock = folder.claim(output, record)
    try:
        if is_finished:
            print(f"{output} holds a finished run; remove it, or name another output, to train anew.", flush=True)
            summaries = [folder.read_json(each / "summary.json") for each in outputs]
            if damaged := [each for each, summary in zip(outputs, summaries) if "score" not in summary]:
                raise ArlError(f"{damaged[0] / 'summary.json'} is damaged; restore it, or remove it to evaluate again")
            state = _restore(made, output)
        else:
            evaluator = make_evaluator(experiment)
            recorders = [Recorder(experiment, seed, each, record, evaluator, observers) for seed, each in zip(seeds, outputs, strict=True)]
            job = _Job(experiment, made, traced, output, recorders, _deadline(began, minutes))
            state, summaries = _train(job, {"devices": programs.num_devices(made), **(about or {})})
        alone = [devices.on_one_device(programs.of_seed(state, index, len(seeds)).variables) for index in range(len(seeds))]
        parts = zip(outputs, seeds, alone, summaries, strict=True)
        return tuple(Run(experiment, each, seed, state.num_updates, *rest) for each, seed, *rest in parts)
    finally:
        lock.close()


class _Job(NamedTuple):
    """What a training works with; `traced` are the updates, and there is a recorder for each seed."""

    experiment: Experiment
    made: programs.Programs
    traced: list[Any]
    output: pathlib.Path
    recorders: list[Recorder]
    is_late: Callable[[], bool]

    def of_seed(self, state: TrainState, index: int) -> TrainState:
        """Returns the state of the seed of that index."""
        return programs.of_seed(state, index, len(self.recorders))


def _train(job: _Job, about: dict[str, Any]) -> tuple[TrainState, list[dict[str, Any]]]:
    """Trains until the run is done or stopped, and evaluates if it is done; returns the last state and a summary for each seed."""
    checkpoints = training.Checkpoints(job.output / "checkpoints")
    try:
        state, spent = _learn(job, checkpoints)
        if state.num_updates < job.experiment.config.num_updates:
            return state, [{} for _ in job.recorders]
        summaries = []
        for index, each in enumerate(job.recorders):
            variables = devices.on_one_device(job.of_seed(state, index).variables)
            summaries.append(report.finish(job.experiment, each.output, each.seed, variables, each.observers, about | spent))
            if len(job.recorders) > 1:
                each.save(job.of_seed(state, index))
        return state, summaries
    finally:
        for each in job.recorders:
            each.close()
        checkpoints.close()


def _learn(job: _Job, checkpoints: training.Checkpoints) -> tuple[TrainState, dict[str, float]]:
    """Trains from the first update, or from the newest checkpoint; returns the last state, and `Progress.spent` in all."""
    config, recorders = job.experiment.config, job.recorders
    print(report.begin(job.experiment, job.output), flush=True)
    resumed = checkpoints.latest() is not None
    state = job.made.restore(checkpoints) if resumed else job.made.init(job.made.keys)
    first = state.num_updates
    if resumed:
        print(f"going on from update {first}", flush=True)
    with training.stop_on_signals() as stop_requested, Progress(job.experiment, job.output, first, len(recorders)) as progress:
        for each in recorders:
            each.begin(first)
        with progress.compiling():
            compiled = [part.lower().compile() for part in job.traced]
        stops: list[bool] = []

        def should_stop() -> bool:
            if stop_requested() or job.is_late():
                stops.append(True)
            return bool(stops)

        update = functools.partial(
            training.run,
            training.in_turn(config.warm_start, compiled[0], compiled[-1]),
            checkpoints=checkpoints,
            checkpoint_every=config.checkpoint_every,
            callbacks=[_split(recorders), _mean(progress)],
            should_stop=should_stop,
        )
        for until in config.evaluation_updates:
            state = update(state, until)  # does nothing if the run was resumed after that update
            if stops or stop_requested():
                break
            if state.num_updates == until:
                with progress.aside("evaluating"):
                    found = [each.evaluate(job.of_seed(state, index)) for index, each in enumerate(recorders)]
                for said in found if until < config.num_updates else ():  # after the last update the final evaluation says more
                    progress.say(said)
        return state, progress.spent()


def _split(recorders: list[Recorder]) -> training.Callback:
    """Returns an observer that gives each seed its own metrics."""
    if len(recorders) == 1:
        return recorders[0].update

    def observe(step: int, metrics: dict[str, Any], seconds: float) -> None:
        for index, each in enumerate(recorders):
            each.update(step, {name: float(values[index]) for name, values in metrics.items()}, seconds)

    return observe


def _mean(progress: Progress) -> training.Callback:
    """Returns an observer that shows the means over the seeds."""
    return lambda step, metrics, seconds: progress(step, {name: float(np.mean(x)) for name, x in metrics.items()}, seconds)


def _restore(made: programs.Programs, output: pathlib.Path) -> TrainState:
    checkpoints = training.Checkpoints(output / "checkpoints")
    try:
        return made.restore(checkpoints)
    finally:
        checkpoints.close()


def _deadline(began: float, minutes: float | None) -> Callable[[], bool]:
    """Returns a function, called after each update, that says whether another one would end too late; `began` is a monotonic time."""
    last: list[float] = []

    def is_late() -> bool:
        now = time.monotonic()
        taken = now - last[-1] if last else 0.0
        last[:] = [now]
        return minutes is not None and now + 1.5 * taken > began + 60.0 * minutes

    return is_late
