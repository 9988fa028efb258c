"""What each combinator keeps, asks for and refuses; `tests/rollout/loop_test.py` follows whole lives of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, text
from arl.types import Kind, Written
from tests import tiny


def ids(said):
    return np.asarray(said.ids)[: int(said.length)].tolist()


def written(interaction, turn, string):
    tokens = text.token_ids(tiny.TOKENIZER, string)
    said = text.pad(text.constant(tokens), interaction.size.written)
    choice, is_legal = text.parse(interaction.grammar, turn.grammar, said)
    return Written(said, choice, is_legal)


def live(interaction, strings, setting=None, seed=0):
    """Drives an interaction by hand, without a rollout; returns all turns."""
    state, turn = interaction.start(jax.random.key(seed), setting or {})
    turns = [turn]
    for i, string in enumerate(strings):
        state, turn = interaction.advance(jax.random.key(i), setting or {}, state, written(interaction, turn, string))
        turns.append(turn)
    return turns


def say(string):
    return text.token_ids(tiny.TOKENIZER, string)


def test_a_window_keeps_exactly_the_last_tokens():
    interaction = tiny.attempts(agents.act(tiny.make_walk(1)), 3, carry=agents.window(4))
    turns = live(interaction, [" left down", " left down"])
    transcript = say("Move:") + say(" left down") + say(" higher paid reward:")
    assert bool(turns[1].forget) and ids(turns[1].read) == transcript[-4:] + say("Move:")
    transcript = transcript[-4:] + say("Move:") + say(" left down") + say(" higher paid reward:")
    assert ids(turns[2].read) == transcript[-4:] + say("Move:")


def test_history_reads_the_end_of_an_attempt_before_the_next():
    turns = live(tiny.attempts(agents.act(tiny.make_walk(1)), 2, carry=agents.history()), [" left down"])
    assert not turns[1].forget and ids(turns[1].read) == say(" higher paid reward:") + say("Move:")


def test_a_reflection_is_all_that_crosses():
    turns = live(tiny.attempts(tiny.guess(), 2, carry=tiny.NOTE), [" 1", " 3 2"])
    assert turns[1].kind == Kind.REFLECTION and turns[1].budget == 2 and not turns[1].forget
    assert ids(turns[1].read)[-1:] == say(" note")
    assert bool(turns[2].forget) and ids(turns[2].read) == say(" note 3 2") + say("Guess:")
    assert [int(turn.attempt) for turn in turns] == [0, 0, 1]


@pytest.mark.parametrize(("keep", "forgets"), [(0.0, True), (1.0, False)])
def test_forgetting_is_annealed_by_the_setting(keep, forgets):
    carry = agents.reflection(2, symbols=tiny.SYMBOLS, annealed=True)
    turns = live(tiny.attempts(tiny.guess(), 2, carry=carry), [" 1", " 3 2"], {"attempts": {"keep": jnp.float32(keep)}})
    assert bool(turns[2].forget) == forgets and ids(turns[2].read) == say(" note 3 2") + say("Guess:"), "the note is read either way"


def test_the_outer_keeps_what_it_carries_when_the_inner_forgets():
    inner = tiny.attempts(tiny.guess(), 2, carry=tiny.NOTE)
    outer = tiny.attempts(inner, 2, carry=agents.reflection(1, symbols=tiny.SYMBOLS), name="outer")
    turns = live(outer, [" 1", " 3 2", " 0", " 2", " 1", " 0 0"])
    assert ids(turns[4].read) == say(" note 2") + say("Guess:")
    assert bool(turns[6].forget) and ids(turns[6].read) == say(" note 2") + say(" note 0 0") + say("Guess:")


def test_a_truncated_attempt_is_followed_by_the_next_and_the_last_one_truncates_the_life():
    interaction = tiny.attempts(agents.act(envs.time_limit(tiny.make_walk(5), 1)), 2)
    turns = live(interaction, [" left down", " left down"])
    assert not turns[1].truncated and turns[1].attempt == 1
    assert turns[2].truncated and turns[2].budget == 0 and not turns[2].terminated


def test_thoughts_come_before_actions_and_cost_nothing_twice():
    interaction = tiny.think(agents.act(tiny.make_walk(2)), budget=2, symbols=list(tiny.SYMBOLS), stop=False)
    turns = live(interaction, [" 0 1", " left down", " 2 2", " left right"])
    assert [Kind(int(turn.kind)) for turn in turns[:4]] == [Kind.THINK, Kind.ACTION, Kind.THINK, Kind.ACTION]
    assert [float(turn.reward.outcome) for turn in turns] == [0.0, 0.0, 1.5, 0.0, 1.0]
    assert bool(turns[4].terminated)


def test_an_illegal_text_costs_and_the_environment_stands_still():
    interaction = agents.act(tiny.make_walk(3), illegal_penalty=0.5)
    turns = live(interaction, [" right", " left down"])
    assert float(turns[1].reward.process) == -0.5 and float(turns[1].reward.outcome) == 0.0
    assert ids(turns[1].read) == say("Move:") and float(turns[2].reward.outcome) == 1.5


def test_another_lifes_notes_are_heard():
    interaction = tiny.attempts(tiny.guess(), 2, carry=tiny.NOTE)
    others = text.pad(text.constant(say(" 0 3")), interaction.size.written)
    others = jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x), (1, 2, *jnp.shape(x))), others)
    turns = live(agents.replace_segments(interaction, Kind.REFLECTION, others), [" 1", " 2 2"])
    assert ids(turns[2].read) == say(" note 0 3") + say("Guess:")


def test_segments_are_found_by_lane_and_attempt():
    tokens = jnp.array([[5, 6, 7, 8, 9, 3]])
    is_kind = jnp.array([[False, True, True, False, True, False]])
    found = agents.segments(tokens, is_kind, jnp.array([[0, 0, 0, 1, 1, 1]]), num_attempts=2, capacity=2)
    assert found.length.tolist() == [[2, 1]] and found.ids[0, 0].tolist() == [6, 7] and int(found.ids[0, 1, 0]) == 9


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: agents.act(tiny.make_walk()._replace(max_steps=None)), "time_limit"),
        (lambda: tiny.attempts(tiny.guess(), 0), "num_attempts >= 1"),
        (lambda: tiny.attempts(tiny.guess(), 1, carry=tiny.NOTE), "num_attempts >= 2"),
        (lambda: tiny.attempts(tiny.guess(), 2, carry=agents.window(-1)), ">= 0"),
        (lambda: tiny.think(tiny.guess(), budget=0), "budget >= 1"),
        (lambda: tiny.attempts(tiny.guess(), 2, carry=agents.reflection(2, symbols=["not one token"])), "one token"),
    ],
)
def test_what_cannot_be_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
