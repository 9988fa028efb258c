"""The host's part of training: what it says, and what is left, when numbers stop being finite or a signal comes."""

import math
import os
import signal
import time

import jax
import jax.numpy as jnp
import pytest

from arl.models import Variables
from arl.training import Checkpoints, TrainingError, TrainState, run, stop_on_signals

STATE = TrainState(Variables({"weight": jnp.ones(3)}), (jnp.zeros(3),), None, None, None, jax.random.key(0), jnp.int32(0))


def update_that_breaks(step: int, part: str):
    """Returns an update that makes a metric or a part of the state infinite at a step; the metrics of that update know nothing of it."""

    def update(state: TrainState):
        is_now = int(state.step) == step
        weights = Variables({"weight": jnp.array([1.0, jnp.nan, 1.0])})
        broken = {"variables": weights, "optimizer_state": (jnp.full(3, jnp.inf),)}
        if is_now and part in broken:
            state = state._replace(**{part: broken[part]})
        return state._replace(step=state.step + 1), {"loss": math.inf if is_now and part == "metric" else 0.5}

    return update


def train(tmp_path, step: int, part: str, every: int = 2, num_updates: int = 20, damaged: tuple[int, ...] = ()) -> tuple[str, int | None]:
    """Returns what is said, and the newest checkpoint that is left; some are damaged as soon as they are there."""
    checkpoints = Checkpoints(tmp_path)

    def damage(done, metrics, seconds):
        for saved in (saved for saved in damaged if saved <= done):
            checkpoints.latest()
            (tmp_path / str(saved) / "default" / "manifest.ocdbt").write_bytes(b"")

    options = dict(checkpoints=checkpoints, checkpoint_every=every, callbacks=[damage])
    with pytest.raises(TrainingError) as caught:
        run(update_that_breaks(step, part), STATE, num_updates, **options)
    latest = checkpoints.latest()
    checkpoints.close()
    return str(caught.value), latest


def test_a_metric_that_is_not_finite_ends_a_run(tmp_path):
    said, latest = train(tmp_path, 5, "metric")
    assert said == "update 5 gave loss = inf; checkpoint 4 is whole; try a smaller LearnerConfig.learning_rate" and latest == 4


@pytest.mark.parametrize(("part", "name"), [("variables", "variables/trainable/weight"), ("optimizer_state", "optimizer_state/0")])
def test_what_the_last_step_broke_is_not_saved(tmp_path, part, name):
    said, latest = train(tmp_path, 5, part)
    assert said.startswith(f"update 5 left {name} with values that are not finite, and is not saved; checkpoint 4 is whole") and latest == 4


@pytest.mark.parametrize("part", ["metric", "variables"])
def test_a_checkpoint_is_called_whole_when_it_has_been_looked_at(tmp_path, part):
    assert "checkpoint 2 is whole" in train(tmp_path / "one", 5, part, damaged=(4,))[0]
    assert "no whole checkpoint had been saved" in train(tmp_path / "both", 5, part, damaged=(2, 4))[0]
    assert "no whole checkpoint had been saved" in train(tmp_path / "none", 0, part, every=1)[0]


def test_what_breaks_at_the_end_is_not_saved_either(tmp_path):
    said, latest = train(tmp_path, 6, "variables", every=4, num_updates=7)
    assert "update 6 left variables/trainable/weight" in said and latest == 4


def test_episodes_that_run_past_their_size_are_told_of_once(tmp_path):
    def update(state: TrainState):
        return state._replace(step=state.step + 1), {"return": 1.0, "beyond_size_fraction": 0.25 * (int(state.step) > 0)}

    checkpoints = Checkpoints(tmp_path)
    with pytest.warns(RuntimeWarning, match="in update 1 episodes in 25% of the lanes exceeded the size") as caught:
        run(update, STATE, 4, checkpoints=checkpoints, checkpoint_every=4, callbacks=[])
    checkpoints.close()
    assert len([warning for warning in caught if warning.category is RuntimeWarning]) == 1


def test_what_an_update_gave_is_told_while_the_next_one_runs(tmp_path):
    told = []

    def update(state: TrainState):
        told.append(f"update {int(state.step)}")
        return state._replace(step=state.step + 1), {"loss": 1.0}

    checkpoints = Checkpoints(tmp_path)
    options = dict(checkpoints=checkpoints, checkpoint_every=3, callbacks=[lambda step, metrics, seconds: told.append((step, seconds > 0))])
    run(update, STATE, 5, **options)
    told.append(checkpoints.latest())
    checkpoints.close()
    first = ["update 0", "update 1", (0, True), "update 2", (1, True), (2, True)]  # all is known before a checkpoint is written
    assert told == [*first, "update 3", "update 4", (3, True), (4, True), 5]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_answered_at_once_and_asks_for_a_stop(capfd, number):
    handler, until, said = signal.getsignal(number), time.monotonic() + 10, ""
    with stop_on_signals() as stop_requested:
        assert not stop_requested()
        os.kill(os.getpid(), number)
        while not said and time.monotonic() < until:
            said = capfd.readouterr().out
        assert stop_requested() and said == "stopping: the update is finished and saved; a second Ctrl-C stops without\n"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(1)
    assert signal.getsignal(number) == handler and signal.set_wakeup_fd(-1) == -1
