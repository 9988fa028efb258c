"""What is told of an agent around a change of the rules, against loops and a player whose every step is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs
from arl.agents import Act
from arl.training import adaptation, evaluation
from arl.types import Kind
from tests import tiny

NUM_STEPS = 12


@functools.cache
def episodes(replaced=True, num_episodes=64, hazard=0.0):
    """Of experts, or of a model without training."""
    task = envs.ShiftingControls(2, NUM_STEPS, hazard).make(tiny.TOKENIZER)
    interaction = agents.make_agent(task, (Act(),))
    played = agents.replace_by_expert(interaction, Kind.ACTION) if replaced else interaction
    arguments = (tiny.config(interaction), tiny.params(), {}, jax.random.key(3), num_episodes)
    record = lambda state: task.shifts.course(state.environment)
    found, trajectory = jax.jit(lambda: evaluation.play(played, tiny.model(), *arguments, record=record))()
    return interaction, jax.tree.map(np.asarray, found.recorded), trajectory


def test_since_shift_counts_down_to_the_first_and_up_from_the_last():
    is_shift = np.array([[0, 0, 1, 0, 1, 0], [0] * 6, [0, 1, 0, 0, 0, 0]], bool)
    wanted = [[-2, -1, 0, 1, 0, 1], list(range(-12, -6)), [-1, 0, 1, 2, 3, 4]]
    assert adaptation.since_shift(is_shift).tolist() == wanted


def test_the_environment_counts_alike():
    _, record, _ = episodes()
    assert record.is_shift.sum(1).tolist() == [1] * 64
    since = adaptation.since_shift(record.is_shift)
    for row, shift in zip(since, record.is_shift, strict=True):
        assert row.tolist() == [step - int(np.argmax(shift)) for step in range(NUM_STEPS)]


def test_an_expert_with_two_words_errs_at_the_start_and_at_each_shift():
    """Two words tell all by one answer: what it earns at each step is known."""
    _, record, trajectory = episodes(hazard=0.1)
    rewards, is_shift = adaptation.rewards_by_step(trajectory, NUM_STEPS), record.is_shift
    assert is_shift.sum() > 30 and 0.2 < rewards[:, 0].mean() < 0.8
    assert (rewards[:, 1:] == ~is_shift[:, 1:]).all()
    assert adaptation.around_shift(rewards[:, 1:], is_shift[:, 1:], 2, 3) == [1.0, 1.0, 0.0, 1.0, 1.0]


def test_switches_are_those_of_a_loop():
    interaction, record, trajectory = episodes(replaced=False, num_episodes=8)
    said = evaluation.written_segments(interaction, trajectory, Kind.ACTION)
    found, wanted = adaptation.switches(interaction, trajectory, record.asked), np.zeros((8, NUM_STEPS), bool)
    for episode in range(8):
        last = {}
        for step, asked in enumerate(record.asked[episode]):
            word = tuple(np.asarray(said.ids[episode, step, : int(said.length[episode, step])]).tolist())
            wanted[episode, step] = last.get(int(asked), word) != word
            last[int(asked)] = word
    assert found.tolist() == wanted.tolist() and 0 < found.mean() < 1


def test_what_lies_nowhere_is_not_a_number():
    curve = adaptation.around_shift(np.ones((1, 4)), np.array([[False, False, True, False]]), 3, 2)
    assert np.isnan(curve[0]) and curve[1:] == [1.0] * 4


def test_episodes_that_are_too_short_are_refused():
    _, _, trajectory = episodes()
    with pytest.raises(ValueError, match="give episodes of at least 13"):
        adaptation.rewards_by_step(jax.tree.map(jnp.asarray, trajectory), NUM_STEPS + 1)
