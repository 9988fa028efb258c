"""A backend that computes wrong sums is named, once, and one that does not is not."""

import warnings

import jax
import pytest

from arl import training
from arl.training import backend
from tests import tiny


def make_learner():
    interaction, config = tiny.agent("act"), training.LearnerConfig(num_lanes=8, microbatch_size=2, num_blocks=1)
    return training.make_learner(interaction, tiny.model(), tiny.config(interaction), config)


def test_this_backend_computes_right():
    assert backend.backend_fault() is None


def test_it_can_be_asked_while_a_program_is_traced():
    assert jax.jit(lambda x: x if backend.backend_fault() is None else -x)(1.0) == 1.0


def test_a_learner_warns_of_a_wrong_backend_in_one_sentence(monkeypatch):
    monkeypatch.setattr(backend, "_squared_norms", lambda rows: (rows[:, 0] * 0.99) ** 2)
    with pytest.warns(RuntimeWarning, match="computes wrong sums on this cpu .*; install another version of jax and jaxlib") as found:
        make_learner()
    assert len(found) == 1


def test_a_learner_is_silent_on_a_right_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        make_learner()
