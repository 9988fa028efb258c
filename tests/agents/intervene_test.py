"""Interventions: the words are written all the same, and others are heard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, text
from arl.agents import Act, Attempts
from arl.types import ArlError, Kind, Segment, Text
from tests import agents_fixtures as plain
from tests import tiny

INNER = tiny.guess(Attempts(3, tiny.NOTE))
TEXTS = [" 1", " 3 2", " 0", " 1 1", " 2"]  # guess, note, guess, note, guess


def say(string):
    return text.token_ids(tiny.TOKENIZER, string)


def expert(interaction, state, kind=Kind.ACTION, seed=0):
    """What the expert writes."""
    return interaction.experts[kind](jax.random.key(seed), state, jnp.int32(0))


def notes(*episodes):
    """Other episodes' notes, by attempt, as a table of texts."""
    table = [[say(note) for note in episode] for episode in episodes]
    ids = np.zeros((len(table), len(table[0]), 2), np.int32)
    for episode, row in enumerate(table):
        for attempt, note in enumerate(row):
            ids[episode, attempt, : len(note)] = note
    return Text(jnp.asarray(ids), jnp.asarray([[len(note) for note in row] for row in table]))


def live(interaction, seed=0):
    state, turn = interaction.start(jax.random.key(seed), {})
    turns = [turn]
    for index, string in enumerate(TEXTS):
        said = text.constant(say(string))
        choice, is_legal = text.parse(interaction.grammar, turn.grammar_state, said)
        padded = text.pad(said, interaction.size.written)
        state, turn = interaction.advance(jax.random.key(index), {}, state, Segment(padded, choice, is_legal))
        turns.append(turn)
    return turns


def test_another_episodes_notes_are_heard_attempt_by_attempt():
    turns = live(agents.replace_segments(INNER, Kind.REFLECTION, notes([" 0 3", " 2 1", " 0"])))
    assert plain.ids(turns[2].read) == say(" note 0 3") + say("Guess:")
    assert plain.ids(turns[4].read) == say(" note 2 1") + say("Guess:")


def test_blank_notes_are_heard_as_nothing():
    others = notes([" 0 3", " 2 1", " 0"])
    turns = live(agents.replace_segments(INNER, Kind.REFLECTION, others._replace(length=jnp.zeros_like(others.length))))
    assert plain.ids(turns[2].read) == say(" note") + say("Guess:") == plain.ids(turns[4].read)


@pytest.mark.parametrize("kind", [Kind.THINK, Kind.PLAN])
def test_segments_of_other_kinds_are_left_alone(kind):
    wanted, found = live(INNER), live(agents.replace_segments(INNER, kind, notes([" 0 3", " 2 1", " 0"])))
    for a, b in zip(wanted, found, strict=True):
        assert plain.ids(a.read) == plain.ids(b.read) and float(a.reward.outcome) == float(b.reward.outcome)


def test_an_intervention_changes_nothing_but_what_is_heard():
    """Tasks, rewards of the guesses, budgets, attempts and resets are those of the episode without an intervention."""
    wanted, found = live(INNER), live(agents.replace_segments(INNER, Kind.REFLECTION, notes([" 0 3", " 2 1", " 0"])))
    for a, b in zip(wanted, found, strict=True):
        for name in ("kind", "budget", "reset_context", "attempt", "discount", "terminated", "truncated", "reward"):
            assert jax.tree.all(jax.tree.map(lambda x, y: bool(x == y), getattr(a, name), getattr(b, name))), name


def test_one_other_episode_speaks_throughout_and_every_other_episode_speaks_at_times():
    interaction = agents.replace_segments(INNER, Kind.REFLECTION, notes([" 0 0"] * 3, [" 1 1"] * 3, [" 2 2"] * 3))
    heard = set()
    for seed in range(12):
        turns = live(interaction, seed)
        first, second = plain.ids(turns[2].read), plain.ids(turns[4].read)
        assert first == second
        heard.add(tuple(first))
    assert len(heard) == 3


def test_experts_layers_and_the_environments_state_pass_through():
    """An intervention is no layer of the agent."""
    interaction, environment = agents.replace_segments(INNER, Kind.REFLECTION, notes([" 0 3", " 2 1", " 0"])), tiny.make_guess()
    state, _ = interaction.start(jax.random.key(0), {})
    inner_state, _ = state.pop()
    for kind in (Kind.ACTION, Kind.REFLECTION):
        assert plain.ids(expert(interaction, state, kind)) == plain.ids(expert(INNER, inner_state, kind))
    assert set(interaction.experts) == set(INNER.experts) and interaction.has_expert
    assert interaction.layers == INNER.layers and interaction.writes == INNER.writes
    within, _ = INNER.start(jax.random.key(0), {})
    assert int(environment.state_hash(state.environment)) == int(environment.state_hash(within.environment))


def test_the_experts_segments_are_heard():
    """In place of the guesses: whatever is said, the hidden number is found as fast as it can be."""
    turns = live(agents.replace_by_expert(INNER, Kind.ACTION))
    state, _ = INNER.start(jax.random.key(0), {})
    first = text.pad(expert(INNER, state, seed=1), INNER.size.written)
    said, is_legal = text.parse(INNER.grammar, turns[0].grammar_state, first)
    _, wanted = INNER.advance(jax.random.key(0), {}, state, Segment(first, said, is_legal))
    assert bool(is_legal) and plain.ids(turns[1].read) == plain.ids(wanted.read)


def test_the_experts_notes_are_heard():
    """In the place of each reflection, what the task's expert of notes would have written: the hidden number."""
    table = text.stack([say(symbol) for symbol in tiny.SYMBOLS])
    experts = {Kind.NOTE: lambda key, state, attempt: text.lookup(table, state.number)}
    inner = tiny.make(tiny.make_guess(), Act(), Attempts(3, tiny.NOTE), experts=lambda limits: experts)
    number = int(inner.start(jax.random.key(0), {})[0].environment.number)
    turns = live(agents.replace_by_expert(inner, Kind.REFLECTION))
    assert plain.ids(turns[2].read) == plain.ids(turns[4].read) == say(" note") + say(f" {number}") + say("Guess:")


@pytest.mark.parametrize("inner", [INNER._replace(experts={}), tiny.make(tiny.make_walk(), Act())])
def test_an_agent_without_an_expert_cannot_be_replaced_by_it(inner):
    with pytest.raises(ArlError, match="give the task an expert"):
        agents.replace_by_expert(inner, Kind.ACTION)


def test_a_kind_that_no_expert_writes_cannot_be_replaced_by_one():
    with pytest.raises(ArlError, match="give the task an expert"):
        agents.replace_by_expert(INNER, Kind.THINK)


def test_segments_are_what_was_written_by_lane_and_order():
    """Against a loop over a rolled-out batch."""
    _, trajectory, _ = tiny.roll("reflection", *tiny.keys(5))
    tokens, is_note = trajectory.sampled, trajectory.is_sampled & (trajectory.kind == Kind.REFLECTION)
    found = agents.segments(jnp.asarray(tokens), jnp.asarray(is_note), jnp.asarray(trajectory.ends_segment), 3, 2)
    for lane in range(5):
        for index in range(3):  # the attempt's number is that of its reflection
            wanted = tokens[lane][is_note[lane] & (trajectory.attempt[lane] == index)].tolist()
            assert np.asarray(found.ids)[lane, index, : int(found.length[lane, index])].tolist() == wanted
            assert len(wanted) == (2 if index < 2 else 0)


def test_segments_are_told_apart_within_an_attempt_and_tokens_can_be_left_out():
    tokens = jnp.array([[5, 6, 7, -1, 8, 9]])
    is_kind = jnp.array([[True, True, False, True, True, True]])
    ends = jnp.array([[True, False, True, True, True, False]])
    found = agents.segments(tokens, is_kind, ends, 3, 4)
    assert [row[:n] for row, n in zip(found.ids[0].tolist(), found.length[0].tolist(), strict=True)] == [[5], [6], [8]]


def test_the_experts_action_in_place_of_another_is_what_is_done():
    """Whoever errs throughout is paid as its expert."""
    interaction = tiny.make(envs.make_number_guess(tiny.TOKENIZER, 8), Act(time_limit=4))

    def live_saying(playing, string):
        state, turn = playing.start(jax.random.key(1), {})
        choice, is_legal = text.parse(playing.grammar, turn.grammar_state, text.constant(say(string)))
        written = Segment(text.pad(text.constant(say(string)), playing.size.written), choice, is_legal)
        rewards = []
        while not turn.terminated and len(rewards) < 4:
            state, turn = playing.advance(jax.random.key(len(rewards)), {}, state, written)
            rewards.append(float(turn.reward.outcome))
        return sum(rewards), bool(turn.terminated)

    assert live_saying(interaction, " 0") == (-4.0, False)
    returned, is_over = live_saying(agents.replace_by_expert(interaction, Kind.ACTION), " 0")
    assert is_over and returned >= -4


def test_another_episodes_action_that_may_not_be_done_here_is_illegal():
    walk = tiny.agent("act")  # whose first action may not be the first word
    others = Text(jnp.asarray([[say(tiny.WORDS[0])]]), jnp.asarray([[len(say(tiny.WORDS[0]))]]))
    playing = agents.replace_segments(walk, Kind.ACTION, others)
    state, _ = playing.start(jax.random.key(0), {})
    legal = Segment(text.pad(text.constant(say(tiny.WORDS[1])), playing.size.written), jnp.int32(1), jnp.bool_(True))
    _, turn = playing.advance(jax.random.key(0), {}, state, legal)
    assert float(turn.reward.process) == pytest.approx(-0.1) and float(turn.reward.outcome) == 0.0
