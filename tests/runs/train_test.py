"""Training in one call: what it leaves, that it goes on where it stopped, several seeds at once, and who is told."""

import dataclasses
import json
import pathlib
import shutil
import sys
import types

import jax
import numpy as np
import pytest

import arl
from arl.agents import Act, Attempts
from arl.runs import programs, report
from arl.runs.experiment import make_experiment
from arl.runs.train import check_custom
from arl.training import read_metrics
from tests import tiny
from tests.training.adapter_test import adapted

CONFIG = arl.TrainConfig(
    rollout=arl.RolloutConfig(widths=()),
    learner=dataclasses.replace(tiny.LEARNER, num_updates=6, num_epochs=1),
    evaluation=arl.EvaluationConfig(num_episodes=16),
    evaluate_every=3,
    checkpoint_every=2,
)
TASK = arl.envs.NumberGuess(num_numbers=3).make(tiny.TOKENIZER)


def agent() -> arl.Interaction:
    return arl.make_agent(TASK, [Act(), Attempts(2)])


def train(output: pathlib.Path, config: arl.TrainConfig = CONFIG, **options):
    return arl.train(agent(), tiny.model(), config, output=output, layout=arl.Layout(arl.training.make_mesh(1)), **options)


def in_one_program(output: pathlib.Path, seeds: tuple[int, ...], **options):
    return arl.train(agent(), tiny.model(), CONFIG, output=output, seed=seeds, **options)


def same(first, second) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> arl.Run:
    return train(tmp_path_factory.mktemp("runs") / "whole", name="guesser")


def test_a_call_trains_and_tells_how_good_the_agent_is(finished):
    assert finished.num_updates == 6 and len(read_metrics(finished.output / "metrics.jsonl")) == 6
    assert [line["update"] for line in read_metrics(finished.output / "evaluations.jsonl")] == [0, 3, 6]
    assert "===== after 3 of 6 updates" in (finished.output / "transcripts.txt").read_text()
    assert (finished.output / "curve.png").stat().st_size > 1000
    assert finished.summary["name"] == "guesser" and "preset" not in finished.summary, "it has none"
    assert 0 < finished.summary["compile_seconds"] < finished.summary["seconds"] and " s of them compiling). On " in str(finished)
    assert json.loads((finished.output / "summary.json").read_text()) == json.loads(json.dumps(finished.summary))
    assert str(finished).startswith("guesser, seed 0: 6 updates in ") and "the normalised score is" in str(finished)
    assert len(repr(finished)) < 500, "no arrays"


def test_the_best_policy_by_the_evaluations_is_kept(finished):
    best = max(read_metrics(finished.output / "evaluations.jsonl"), key=lambda line: line["score"])
    assert finished.summary["best"]["update"] == best["update"]
    assert [path.name for path in (finished.output / "best").iterdir() if path.name.isdigit()] == [str(best["update"])]


def test_the_same_call_returns_a_finished_run(finished, capsys, monkeypatch):
    monkeypatch.setattr("arl.runs.train.check_custom", lambda agent: pytest.fail("checked before it is said"))
    again = train(finished.output, name="guesser")
    assert "holds a finished run" in capsys.readouterr().out
    assert same(again.variables, finished.variables) and again.summary == json.loads(json.dumps(finished.summary))


@pytest.mark.parametrize(
    "change",
    [dict(seed=1), dict(config=dataclasses.replace(CONFIG, checkpoint_every=3)), dict(name="other")],
    ids=["seed", "config", "name"],
)
def test_another_call_is_refused_its_folder(finished, change):
    with pytest.raises(arl.ArlError, match="holds a run of another config or seed"):
        train(finished.output, **{"name": "guesser", **change})


def test_another_agent_is_refused_its_folder(finished):
    other = TASK._replace(
        bounds=None,
        environment=TASK.environment._replace(step=lambda key, state, action: halved(TASK.environment.step(key, state, action))),
    )
    halved = lambda made: (made[0], made[1]._replace(reward=0.5 * made[1].reward))
    with pytest.raises(arl.ArlError, match="holds a run of another config or seed .program is "):  # the same texts, and other rewards
        arl.train(arl.make_agent(other, [Act(), Attempts(2)]), tiny.model(), CONFIG, output=finished.output, name="guesser")
    with pytest.raises(arl.ArlError, match="options"):
        train(finished.output, name="guesser", estimator=arl.training.ESTIMATORS["monte_carlo"].estimate)
    for task, layers in ((TASK, [Act(), Attempts(3)]), (arl.envs.NumberGuess(num_numbers=4).make(tiny.TOKENIZER), [Act(), Attempts(2)])):
        with pytest.raises(arl.ArlError, match="holds a run of another config or seed"):
            arl.train(arl.make_agent(task, layers), tiny.model(), CONFIG, output=finished.output, name="guesser")


def test_a_run_that_is_out_of_time_goes_on_as_if_it_had_not_been_stopped(finished, tmp_path):
    stopped = train(tmp_path, name="guesser", minutes=1e-9)
    assert stopped.num_updates == 1 and stopped.summary == {} and "run it again to go on from there" in str(stopped)
    whole = train(tmp_path, name="guesser", minutes=60.0)
    assert same(whole.variables, finished.variables)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished.output / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("damage", ["garbage", '{"update": 3}', "3"])
def test_a_damaged_evaluation_is_named_and_left(finished, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(finished.output, folder)
    (folder / "summary.json").unlink()
    first, _, last = (folder / "evaluations.jsonl").read_text().splitlines(keepends=True)
    (folder / "evaluations.jsonl").write_text(f"{first}{damage}\n{last}")
    before = {path: path.read_bytes() for path in folder.glob("*.jsonl")}
    with pytest.raises(arl.ArlError, match=r"line 2 of .*evaluations.jsonl is damaged; restore it, or remove that line"):
        train(folder, name="guesser")
    assert {path: path.read_bytes() for path in folder.glob("*.jsonl")} == before


def test_what_tells_runs_apart_is_the_same_in_every_process():
    tools = arl.make_agent(TASK, [Act(), arl.agents.UseTools((arl.agents.imagine(tiny.TOKENIZER, TASK.environment),)), Attempts(2)])
    assert "0x" not in json.dumps(report.describe(make_experiment(tools, tiny.model(), CONFIG), "given", {}))


class TestPretrained:
    """A run that starts from given weights."""

    CONFIG = dataclasses.replace(
        CONFIG, learner=dataclasses.replace(CONFIG.learner, num_updates=2, learning_rate=arl.Schedule()), evaluate_every=2
    )

    def test_it_starts_from_them_and_its_folder_is_theirs(self, tmp_path):
        weights = tiny.params().trainable
        train(tmp_path, self.CONFIG, pretrained=weights, minutes=1e-9)
        for others in (None, {**weights, "head": weights["head"] + 1.0}):
            with pytest.raises(arl.ArlError, match="holds a run of another config or seed .pretrained is "):
                train(tmp_path, self.CONFIG, pretrained=others)
        run = train(tmp_path, self.CONFIG, pretrained=jax.tree.map(np.asarray, weights))
        assert run.num_updates == 2 and same(run.variables.trainable, weights), "the learning rate is 0"

    @pytest.mark.parametrize("seed", [0, (0, 1)])
    def test_frozen_ones_are_there_again_when_it_goes_on_and_when_it_is_finished(self, tmp_path, seed):
        head = {"head": tiny.params().trainable["head"]}

        def call(**options):
            found = arl.train(agent(), adapted(), self.CONFIG, output=tmp_path, seed=seed, pretrained=head, **options)
            return found if isinstance(seed, tuple) else (found,)

        assert call(minutes=1e-9)[0].num_updates == 1
        for _ in range(2):
            assert all(each.num_updates == 2 and same(each.variables.frozen["head"], head["head"]) for each in call())

    def test_those_that_do_not_fit_are_refused_at_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr("arl.runs.train.check_custom", lambda agent: pytest.fail("played"))
        with pytest.raises(arl.ArlError, match="the pretrained weights have an unknown hed; remove it"):
            train(tmp_path / "run", pretrained={"hed": np.zeros(3)})
        with pytest.raises(arl.ArlError, match="the pretrained weights are a Variables; give a dict, such as Variables.trainable"):
            train(tmp_path / "run", pretrained=tiny.params())
        with pytest.raises(arl.ArlError, match=r"pretrained\['head'\] is a str; give a tree of arrays, such as run.variables.trainable"):
            train(tmp_path / "run", pretrained={"head": "abc"})
        with pytest.raises(arl.ArlError, match=r"pretrained\['head'\] has values that are not finite"):
            train(tmp_path / "run", pretrained={"head": np.full(3, np.nan)})
        with pytest.raises(arl.ArlError, match="the pretrained weights are empty; leave `pretrained` out"):
            train(tmp_path / "run", pretrained={})
        assert not (tmp_path / "run").exists()


def test_observers_are_told(tmp_path):
    told = []

    class Watch(arl.Observer):
        def update(self, step, metrics, seconds):
            told.append((step, metrics["return/outcome"] >= 0))

        def evaluation(self, step, summary):
            told.append(("evaluation", step, "score" in summary))

        def transcripts(self, step, title, text):
            told.append((title, "episode" in text))

        def close(self):
            told.append("closed")

    train(
        tmp_path, dataclasses.replace(CONFIG, learner=dataclasses.replace(CONFIG.learner, num_updates=2)), observers=lambda seed: [Watch()]
    )
    assert told == [
        ("before training", True),
        ("evaluation", 0, True),
        (0, True),
        (1, True),
        ("after training", True),
        ("evaluation", 2, True),
        "closed",
    ]


def test_a_tracker_sends_what_it_is_told(monkeypatch):
    sent = []
    package = types.SimpleNamespace(
        init=lambda **options: sent.append(options), log=lambda values, step: sent.append((step, values)), finish=lambda: sent.append("end")
    )
    monkeypatch.setitem(sys.modules, "trackio", package)
    tracker = arl.Tracker("trackio", project="mine")
    tracker.update(3, {"loss": 1.0}, 0.5)
    tracker.evaluation(4, {"score": 2.0, "outcome_by_attempt": [1.0]})
    tracker.close()
    assert sent == [{"project": "mine"}, (3, {"loss": 1.0, "seconds": 0.5}), (4, {"evaluation/score": 2.0}), "end"]
    with pytest.raises(arl.ArlError, match="no_such_tracker is not installed; install it by pip install no_such_tracker"):
        arl.Tracker("no_such_tracker")


def test_a_task_without_bounds_is_trained_and_its_outcome_told(tmp_path):
    task = TASK._replace(bounds=None)
    run = arl.train(
        arl.make_agent(task, [Act(), Attempts(2)]),
        tiny.model(),
        dataclasses.replace(CONFIG, learner=dataclasses.replace(CONFIG.learner, num_updates=1)),
        output=tmp_path,
    )
    assert "the mean outcome is" in str(run) and "normalised_score" not in run.summary and run.summary["score_interval"] > 0


class TestSeveralSeeds:
    """In one program, two of which are on each of two devices."""

    @pytest.fixture(scope="class")
    def runs(self, tmp_path_factory) -> tuple[arl.Run, ...]:
        folder = tmp_path_factory.mktemp("runs") / "seeds"
        assert in_one_program(folder, (0, 1, 2), minutes=1e-9)[2].num_updates == 1
        return in_one_program(folder, (0, 1, 2))

    def test_each_comes_to_what_it_comes_to_alone(self, runs, finished):
        assert [run.seed for run in runs] == [0, 1, 2] and runs[1].output.name == "seed-1"
        for name in ("return/outcome", "entropy", "loss"):
            alone, together = ([line[name] for line in read_metrics(run.output / "metrics.jsonl")] for run in (finished, runs[0]))
            np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
        assert runs[0].summary["score"] == pytest.approx(finished.summary["score"])
        assert not same(runs[0].variables, runs[1].variables)

    def test_each_has_its_summary_its_files_and_a_checkpoint_of_its_own(self, runs):
        for run in runs:
            assert json.loads((run.output / "config.json").read_text())["seed"] == run.seed == run.summary["seed"]
            names = {path.name for path in run.output.iterdir()}
            assert names >= {"metrics.jsonl", "curve.png", "transcripts.txt", "summary.json", "best", "checkpoints", "tensorboard"}

    def test_devices_have_whole_seeds(self, runs):
        made = programs.make_programs(runs[0].experiment, (0, 1, 2))
        assert programs.num_devices(made) == 3

    def test_a_seed_stands_once(self, tmp_path):
        with pytest.raises(arl.ArlError, match=r"the seeds are \[1, 1\]; give at least one, and each once"):
            in_one_program(tmp_path / "run", (1, 1))


def test_what_is_of_others_is_checked_before_it_is_trained(monkeypatch):
    checked = []
    monkeypatch.setattr("arl.runs.train.check", checked.append)
    check_custom(agent())
    assert checked == []
    foreign = tiny.agent("act")
    check_custom(foreign)
    assert checked == [foreign], "its environment is of these tests"


def test_what_a_function_of_seeds_returns_must_observe(tmp_path):
    with pytest.raises(arl.ArlError, match="is no observer; give a list of arl.Observer, or a function seed -> list"):
        train(tmp_path / "run", observers=lambda seed: [print])


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (lambda: (agent()._replace(task=None),), {}, "the agent has no task; make it by arl.make_agent"),
        (lambda: (Act(),), {}, "the agent has no task; make it by arl.make_agent"),
        (lambda: (agent(), "7B"), {}, "there is no model preset '7B'"),
        (lambda: (agent(), small_policy()), {}, "a policy for 300 tokens cannot read those of a tokenizer with 512"),
        (lambda: (agent(), "0.1M", arl.LearnerConfig()), {}, "the config is a LearnerConfig; give an arl.TrainConfig"),
        (lambda: (agent(),), {"seed": 2**40}, "the seed is 1099511627776; give a whole number from 0 to 2147483647"),
        (lambda: (agent(),), {"seed": (0, "a")}, "the seed is 'a'; give a whole number"),
        (lambda: (agent(),), {"minutes": "5"}, "minutes is '5'; give a number above 0, or None"),
        (lambda: (agent(),), {"minutes": 0}, "minutes is 0; give a number above 0, or None"),
        (lambda: (agent(),), {"output": None}, "output is None; give the path of a folder"),
        (lambda: (agent(),), {"observers": [print]}, "is no observer; give a list of arl.Observer"),
        (lambda: (agent(),), {"observers": [arl.Observer()], "seed": (0, 1)}, "each seed needs observers of its own"),
        (lambda: (agent(),), {"estmator": print}, "train has no argument 'estmator'; beside those of its signature it takes estimator, "),
        (lambda: (agent(),), {"estimator": lambda trajectory, reward: None}, "the estimator does not take .trajectory, reward, config."),
        (lambda: (agent(),), {"optimizer": "adam"}, "the optimizer is 'adam'; give one of optax"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_leave_nothing(tmp_path, arguments, options, said):
    with pytest.raises(arl.ArlError, match=said):
        arl.train(*arguments(), **{"output": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        (dict(learner=arl.LearnerConfig(num_lanes=33)), {}, "33 lanes do not divide"),
        ({"learner": {}}, {}, "TrainConfig.learner is {}; set it to a LearnerConfig()"),
        (dict(learner=arl.LearnerConfig(estimator="gea")), {}, "LearnerConfig.estimator is 'gea'"),
        (dict(rollout=arl.RolloutConfig(trajectory_length=3)), {}, "a trajectory of 3 tokens cannot hold one turn"),
        (dict(warm_start=2), {}, "there is no expert to imitate"),
        ({}, {"policy": "7B"}, "there is no model preset '7B'"),
        ({}, {"policy": lambda: small_policy()}, "a policy for 300 tokens"),
        ({}, {"writer": arl.Writer(print)}, "nothing is learned of what others write"),
    ],
)
def test_a_wrong_config_is_told_before_an_agent_is_played(tmp_path, monkeypatch, changes, options, said):
    monkeypatch.setattr("arl.runs.train.check", lambda agent: pytest.fail("played"))
    options = {name: value() if callable(value) else value for name, value in options.items()}
    with pytest.raises(arl.ArlError, match=said):
        arl.train(tiny.agent("act"), config=dataclasses.replace(CONFIG, **changes), output=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (dict(bounds=lambda limits: (0.0, 1.0)), CONFIG, "Task.bounds returns a tuple; return an arl.Bounds"),
        (dict(bounds=lambda limits: arl.Bounds(0.0, float("nan"))), CONFIG, "make both finite numbers"),
        (
            dict(experts=lambda limits: {arl.Kind.REFLECTION: lambda key, state, attempt: {}["note"]}),
            dataclasses.replace(CONFIG, warm_start=1),
            "the expert of REFLECTION fails with KeyError",
        ),
    ],
)
def test_what_is_broken_in_a_task_is_told_too(tmp_path, change, config, said):
    broken = arl.make_agent(TASK._replace(**change), [Act(), Attempts(2, arl.agents.Reflection(2))])
    with pytest.raises(arl.ArlError, match=said):
        arl.train(broken, tiny.model(), config, output=tmp_path / "run")


def small_policy() -> arl.Policy:
    return arl.make_policy(arl.models.preset("0.1M", 300))


def test_an_agent_is_made_of_a_task_and_a_list_of_layers():
    with pytest.raises(arl.ArlError, match="NumberGuess is no task; give its task, config.make"):
        arl.make_agent(arl.envs.NumberGuess(), [Act()])
    with pytest.raises(arl.ArlError, match="layers is Act.*; give a list of layers"):
        arl.make_agent(TASK, Act())

    class Lost(arl.Layer):
        def wrap(self, inner, task):
            return None

    with pytest.raises(arl.ArlError, match="wrap of the layer lost returns a NoneType; return agents.extend"):
        arl.make_agent(TASK, [Act(), Lost()])
