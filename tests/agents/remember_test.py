"""`Remember`, alone and in random compositions, against its account in plain Python; the corridor, and what its notes are worth there."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, rollout, text
from arl.agents import Act, Attempts, History, Remember, Think
from arl.envs import Corridor, make_corridor
from arl.models import Policy
from arl.types import ArlError, Kind, Segment, Text
from tests import agents_fixtures as plain
from tests import tiny

ASK, DIGITS = plain.PlainRemember.ask, plain.DIGITS


def recipe(inner=None, *, steps=3, full=False, resets_context=False, num_notes=1, budget=2, every=1, symbols=tiny.SYMBOLS, **options):
    inner = inner or ("act", plain.make_riddle(steps, full), {"illegal_penalty": 0.125, "discount": 0.75, "resets_context": resets_context})
    return "remember", inner, dict(num_notes=num_notes, budget=budget, every=every, symbols=symbols, name="level 0", **options)


def random_recipe(seed, full=False):
    """One or two layers over `Act`, `Remember` among them, in every order."""
    orders = [["remember"], ["think", "remember"], ["remember", "think"], ["attempts", "remember"], ["remember", "attempts"]]
    return plain.random_notes(seed, [*orders, ["remember", "remember"], ["think", "attempts", "remember"]], full)


# ---------------------------------------------------------------- what it does


@pytest.mark.parametrize("seed", range(5))
def test_random_compositions_are_what_they_say(seed):
    """Each text, budget, kind, reward, discount, attempt and reset of whole episodes, illegal texts and places among them."""
    composed = random_recipe(seed)
    plain.live(composed, plain.build(composed), range(4))


KINDS = {
    "one note": dict(),
    "notes": dict(num_notes=3),
    "every second turn": dict(every=2, num_notes=2),
    "annealed": dict(annealed=True, num_notes=2),
    "with an end": dict(stop=True, budget=3),
    "any text": dict(symbols="any"),
    "a single one": dict(every=0, first=1),
    "late at first": dict(every=1, first=2, num_notes=2),
}


@pytest.mark.parametrize("resets_context", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_each_memory_is_what_it_says(name, resets_context):
    composed = recipe(resets_context=resets_context, steps=4, **KINDS[name])
    episodes = plain.live(composed, plain.build(composed), range(6))
    num_notes, every = KINDS[name].get("num_notes", 1), KINDS[name].get("every", 1)
    first = KINDS[name].get("first") or every
    for episode in episodes:
        kinds = [turn.kind for turn in episode[:-1]]
        num_actions = kinds.count(Kind.ACTION)
        assert kinds.count(Kind.NOTE) == len(range(first, num_actions, every or num_actions))
        assert kinds.count(Kind.CONTROL) == (kinds.count(Kind.NOTE) if num_notes > 1 else 0)
    assert any(turn.kind == Kind.NOTE for episode in episodes for turn in episode)


def follow(episode, num_notes):
    """Yields each turn that follows a segment, that segment's turn, and the notes, None where nothing was written."""
    notes, place = [None] * num_notes, 0
    for before, turn in zip(episode, episode[1:], strict=False):
        if before.kind == Kind.CONTROL:
            place = DIGITS.index(before.written) if before.written in before.legal else 0
        if before.kind == Kind.NOTE:
            notes[place] = before.written
        yield before, turn, notes


def test_notes_alone_cross_the_cut_and_stand_in_their_order():
    composed = recipe(steps=4, num_notes=3, stop=True)
    for episode in plain.live(composed, plain.build(composed), range(8)):
        for before, turn, notes in follow(episode, 3):
            if before.kind == Kind.NOTE:
                page = sum([ASK + DIGITS[i] + (notes[i] or []) for i in range(3)], [])
                assert turn.reset_context and turn.read[: len(page)] == page and turn.reward == 0 and turn.discount == 1
            else:
                assert not turn.reset_context


def test_what_was_held_back_is_read_after_the_cut_and_paid_before():
    """The rewards of the episode without notes, each with the segment that earned it; what was said is said once, in the same order."""
    composed = recipe(steps=4, every=2, num_notes=2)
    for seed, episode in enumerate(plain.live(composed, plain.build(composed), range(8))):
        bare, key, turns = plain.plain(composed[1]), jax.random.key(seed), []
        turns.append(bare.start(key))
        for index, said in enumerate(episode[:-1]):
            key = jax.random.fold_in(key, index + 1)
            if said.kind == Kind.ACTION:
                turns.append(bare.advance(jax.random.split(key)[0], said.written, turns[-1].legal))
        paid = [after.reward for before, after in zip(episode, episode[1:], strict=False) if before.kind == Kind.ACTION]
        assert paid == [turn.reward for turn in turns[1:]] and sum(paid) == sum(turn.reward for turn in episode)
        weights = [turn.discount for turn in turns[1:]]
        assert np.prod([turn.discount for turn in episode]) == np.prod(weights) < 1
        said = [turn for turn in episode if turn.kind == Kind.ACTION]
        assert all(a.read[len(a.read) - len(b.read) :] == b.read for a, b in zip(said, turns, strict=True) if not b.terminated)


def test_an_episode_that_has_ended_asks_for_no_note():
    for environment, limit, end in [(plain.make_riddle(2), 0, "terminated"), (plain.make_riddle(5), 2, "truncated")]:
        inner = ("act", environment, {"time_limit": limit, "illegal_penalty": 0.125, "resets_context": False})
        composed = recipe(inner, every=1)
        episodes = plain.live(composed, plain.build(composed), range(8))
        assert all(episode[-1].kind == Kind.ACTION for episode in episodes) and any(getattr(episode[-1], end) for episode in episodes)


def test_notes_outlive_a_forgetting_within():
    """Wherever the context begins anew in an episode, cut or not, the page stands first."""
    composed = recipe(steps=4, every=2, resets_context=True)
    seen = 0
    for episode in plain.live(composed, plain.build(composed), range(8)):
        for before, turn, (note,) in follow(episode, 1):
            if turn.reset_context and not turn.terminated:
                page = ASK + (note or [])
                assert turn.read[: len(page)] == page
                seen += before.kind == Kind.ACTION and note is not None
    assert seen > 0


@pytest.mark.parametrize(("keep", "share"), [(0.0, 1.0), (1.0, 0.0), (0.25, 0.75)])
def test_the_cut_follows_its_schedule_and_notes_are_read_all_the_same(keep, share):
    interaction = tiny.make(tiny.make_walk(), Act(), Remember(1, 1, 1, tiny.SYMBOLS, annealed=True, name="memory"))
    curriculum = {"memory": {"keep": jnp.float32(keep)}}

    def cut(key):
        state, turn = interaction.start(key, curriculum)
        for index, said in enumerate([tiny.WORDS[1], tiny.SYMBOLS[2]]):
            said = text.pad(text.encode(tiny.TOKENIZER, said), interaction.size.written)
            state, turn = interaction.advance(
                jax.random.fold_in(key, index), curriculum, state, Segment(said, jnp.int32(1), jnp.bool_(True))
            )
        return turn.reset_context, turn.read

    found, read = jax.jit(jax.vmap(cut))(jax.random.split(jax.random.key(0), 2000))
    assert abs(float(found.mean()) - share) <= 4 * (share * (1 - share) / 2000) ** 0.5
    wanted = text.token_ids(tiny.TOKENIZER, " note 2 higher paid reward:")
    assert np.asarray(read.ids)[:, : len(wanted)].tolist() == [wanted] * 2000 and set(np.asarray(read.length)) == {len(wanted)}


def test_notes_belong_to_the_attempt_that_they_sum_up():
    inner = ("act", plain.make_riddle(1), {"illegal_penalty": 0.125, "resets_context": False})
    composed = recipe(("attempts", inner, {"num_attempts": 3, "memory": History(), "discount": 0.5, "name": "level 1"}))
    (episode, *_) = plain.live(composed, plain.build(composed), range(3))
    assert [(turn.kind, turn.attempt) for turn in episode[:5]] == [
        (Kind.ACTION, 0), (Kind.NOTE, 0), (Kind.ACTION, 1), (Kind.NOTE, 1), (Kind.ACTION, 2),
    ]  # fmt: skip


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("seed", range(4))
def test_bounds_of_random_compositions_are_true(seed):
    """Texts as long as they can be, every budget used up, and no episode that ends early."""
    composed = random_recipe(seed, full=True)
    interaction = plain.build(composed)
    for episode in plain.live(composed, interaction, range(2), longest=True):
        plain.assert_fits(episode, interaction.size)


@pytest.mark.parametrize("num_notes", [1, 2])
@pytest.mark.parametrize("resets_context", [False, True])
def test_the_bound_of_an_episode_is_reached(resets_context, num_notes):
    """Texts and notes as long as can be, no early end; what notes that were never written would hold is all that is missing."""
    composed = recipe(full=True, steps=4, every=2, resets_context=resets_context, num_notes=num_notes)
    interaction = plain.build(composed)
    for episode in plain.live(composed, interaction, range(2), longest=True):
        tokens, context = plain.extent(episode)
        missing = sum(2 * notes.count(None) for _, turn, notes in follow(episode, num_notes) if turn.reset_context)
        assert tokens + missing == interaction.size.episode
        assert (
            len(episode) - 1 == interaction.size.turns
            and sum(turn.reset_context for turn in episode[1:]) == interaction.size.context_resets
        )
        if num_notes == 1 and not resets_context:
            assert context == interaction.size.context


def test_the_window_does_not_grow_with_the_episode():
    windows = {plain.build(recipe(steps=steps, every=3)).size.context for steps in (8, 20, 200)}
    longest = plain.build(recipe(steps=200, every=3, annealed=True)).size
    assert len(windows) == 1 and longest.context == longest.episode > 10 * max(windows)


# ---------------------------------------------------------------- the corridor: the cue has left the context

DOORS = [" left", " right"]
LENGTH, EVERY = 24, 4


def corridor(num_notes=1, length=LENGTH):
    return agents.make_agent(Corridor(length).make(tiny.TOKENIZER), (Act(), Remember(num_notes, 1, EVERY)))


def copy_the_first_word(context, kind, legal):
    """Reads nothing but its live context, of which the second token is the cue, or the note."""
    if kind == Kind.CONTROL:
        return DIGITS[0]
    is_walking = kind == Kind.ACTION and legal[2]
    return text.token_ids(tiny.TOKENIZER, " on") if is_walking else [context[1]]


def test_a_copied_cue_is_found_again_although_it_has_left_the_context():
    interaction = corridor()
    assert tiny.make(make_corridor(tiny.TOKENIZER, LENGTH), Act()).size.episode >= 4 * interaction.size.context
    goal = text.token_ids(tiny.TOKENIZER, "Goal")
    for paid, longest, at_last in plain.walk(interaction, copy_the_first_word, range(20)):
        assert paid == 1.0 and longest <= interaction.size.context and goal[0] not in at_last


def test_of_many_notes_the_first_is_read_first():
    interaction = corridor(num_notes=2, length=9)

    def write(context, kind, legal):
        asks = context[0] in ASK  # then the name of note 0 and what it says follow
        return copy_the_first_word([0, context[2 if asks else 1]], kind, legal)

    assert all(paid == 1.0 for paid, _, _ in plain.walk(interaction, write, range(10)))


def test_an_expert_remembers():
    for num_notes in (1, 3):
        interaction = corridor(num_notes, length=13)
        assert interaction.has_expert and set(interaction.writes) == {Kind.ACTION, Kind.NOTE, *([Kind.CONTROL] if num_notes > 1 else [])}
        experts = {kind: jax.jit(expert) for kind, expert in interaction.experts.items()}
        parse = jax.jit(functools.partial(text.parse, interaction.grammar))
        state, turn = interaction.start(jax.random.key(3), {})
        advance, paid, chosen = jax.jit(interaction.advance), 0.0, []
        while not turn.terminated:
            said = experts[Kind(int(turn.kind))](jax.random.key(0), state, jnp.int32(0))
            if turn.kind == Kind.NOTE:
                assert plain.ids(said) == text.token_ids(tiny.TOKENIZER, DOORS[int(state.environment.cue)])
            choice, is_legal = parse(turn.grammar_state, said)
            assert is_legal and turn.legal[choice]
            chosen += [int(choice)] if turn.kind == Kind.CONTROL else []
            said = text.pad(said, interaction.size.written)
            state, turn = advance(jax.random.key(0), {}, state, Segment(said, choice, is_legal))
            paid += float(turn.reward.outcome)
        assert paid == 1.0 and chosen == ([] if num_notes == 1 else [0, 1, 2])


@pytest.mark.parametrize(("stop", "wanted"), [(True, []), (False, [" 0", " 0"])])
def test_an_expert_without_a_note_writes_the_shortest(stop, wanted):
    interaction, inner = tiny.guess(Attempts(2), Remember(1, 2, 1, tiny.SYMBOLS, stop=stop)), tiny.guess()
    state, turn = interaction.start(jax.random.key(0), {})

    def write(kind):
        return plain.ids(interaction.experts[kind](jax.random.key(0), state, jnp.int32(0)))

    bare = inner.start(jax.random.key(0), {})[0]
    assert jax.tree.all(jax.tree.map(jnp.array_equal, state.environment, bare.environment))
    assert write(Kind.ACTION) == plain.ids(inner.experts[Kind.ACTION](jax.random.key(0), bare, jnp.int32(0)))
    said = text.pad(text.encode(tiny.TOKENIZER, " 1"), interaction.size.written)
    state, turn = interaction.advance(jax.random.key(0), {}, state, Segment(said, jnp.int32(1), jnp.bool_(True)))
    assert turn.kind == Kind.NOTE
    assert write(Kind.NOTE) == [t for x in wanted for t in text.token_ids(tiny.TOKENIZER, x)]


def test_adapt_passes_through():
    inner = tiny.make(tiny.make_walk(), Act())._replace(update_curriculum=lambda curriculum, outcomes: {**curriculum, "seen": outcomes})
    memory = tiny.wrap(Remember(2, 1, 1), inner)
    assert memory.update_curriculum({}, 3) == {"seen": 3} and not memory.has_expert and Kind.ACTION not in memory.experts


# ---------------------------------------------------------------- interventions


def other_notes(notes, lengths):
    return Text(jnp.asarray(notes, jnp.int32)[:, None, None], jnp.asarray(lengths, jnp.int32)[:, None])


@pytest.mark.parametrize("num_notes", [1, 2])
def test_notes_of_other_episodes_are_believed(num_notes):
    """Who hears always the same other note chooses its door, whatever the cue was; the note is written all the same, in its own place."""
    right = text.token_ids(tiny.TOKENIZER, " right")
    interaction = agents.replace_segments(corridor(num_notes, length=9), Kind.NOTE, other_notes(right, [1]))

    def write(context, kind, legal):
        place = 1 if num_notes == 1 or context[0] not in ASK else 2
        return copy_the_first_word([0, context[place]], kind, legal)

    found = plain.walk(interaction, write, range(12))
    cues = [int(interaction.start(jax.random.key(seed), {})[0].environment.cue) for seed in range(12)]
    assert [paid for paid, _, _ in found] == [float(cue == 1) for cue in cues] and set(cues) == {0, 1}


def test_blank_notes_leave_only_the_names_of_notes():
    blank = other_notes([0], [0])
    for num_notes in (1, 2):
        composed = recipe(steps=4, num_notes=num_notes, budget=1)
        interaction = agents.replace_segments(plain.build(composed), Kind.NOTE, blank)
        state, turn = interaction.start(jax.random.key(0), plain.CURRICULUM)
        page = ASK if num_notes == 1 else ASK + DIGITS[0] + ASK + DIGITS[1]
        texts = [plain.STRINGS[0], *([DIGITS[1]] if num_notes > 1 else []), DIGITS[2]]
        for index, said in enumerate(texts):
            said = text.pad(text.constant(said), interaction.size.written)
            written = Segment(said, jnp.int32(-1 if index == 0 else 1), jnp.bool_(index > 0))
            state, turn = interaction.advance(jax.random.key(1), plain.CURRICULUM, state, written)
        assert turn.reset_context and plain.ids(turn.read) == page + text.token_ids(tiny.TOKENIZER, "Move:")


# ---------------------------------------------------------------- rolled out


ROLLED = {
    "remember notes": lambda: tiny.make(tiny.make_walk(6), Act(), Remember(3, 3, 1, "any", stop=True)),
    "attempts at thinking with memory": lambda: tiny.make(
        tiny.make_walk(4), Act(), Think(1), Remember(1, 2, 2, tiny.SYMBOLS), Attempts(2, tiny.NOTE)
    ),
}


@pytest.mark.parametrize("name", ROLLED)
def test_trajectories_tell_what_the_interaction_said(name, monkeypatch):
    monkeypatch.setitem(tiny.COMPOSITIONS, name, ROLLED[name])
    lane_keys, task_keys = tiny.keys(4)
    _, trajectory, _ = tiny.roll(name, lane_keys, task_keys)
    size = tiny.agent(name).size
    assert plain.longest_context(trajectory) <= size.context < size.episode
    for lane in range(4):
        told = tiny.retell(name, trajectory, lane, lane_keys[lane], task_keys[lane])
        slots = jax.tree.map(lambda x, lane=lane: x[lane], trajectory)
        is_read = slots.token_kind > 0
        assert slots.token[is_read].tolist() == told["token"] and slots.context_start[is_read].tolist() == told["context_start"]
        assert slots.token_kind[is_read].tolist() == told["kind"] and slots.is_legal[slots.ends_segment].tolist() == told["is_legal"]
        np.testing.assert_allclose(tiny.total(slots.reward)[slots.ends_segment], told["reward"], rtol=1e-6)
        assert (slots.kind[slots.is_sampled] == Kind.NOTE).any() and slots.attempt[slots.ends_segment].tolist() == told["attempt"]


@pytest.mark.parametrize("num_notes", [1, 2])
def test_trajectories_are_those_of_the_plain_account(num_notes):
    composed = recipe(steps=5, every=2, num_notes=num_notes, stop=True)
    interaction, keys, params = plain.build(composed), tiny.keys(4), tiny.params()
    shape = tiny.config(interaction, trajectory_length=2 * interaction.size.episode + 1, restarts=True)
    rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))
    lanes = rollout.start_lanes(interaction, plain.CURRICULUM, shape, *keys)
    roll = jax.jit(lambda lanes: rollout.roll_out(interaction, tiny.model(), shape, params, plain.CURRICULUM, lanes)[1])
    trajectory = jax.tree.map(np.asarray, roll(lanes))
    assert plain.longest_context(trajectory) <= interaction.size.context
    for lane in range(4):
        plain.assert_retold(composed, trajectory, lane, keys)


class Ring(NamedTuple):
    """The last tokens of each lane, int32 `[B, W]`."""

    token: jax.Array


def copying_model() -> Policy:
    """Writes the second token of its live context wherever it may, as `copy_the_first_word`; it remembers no more than the ring holds."""

    def read(params: Any, tokens, position, context_start, is_valid, cache, lane):
        rows = jnp.arange(tokens.shape[0]) if lane is None else lane
        slots = cache.token.shape[1]
        token = cache.token.at[rows[:, None], jnp.where(is_valid, position % slots, slots)].set(tokens, mode="drop")
        return jnp.take_along_axis(token[rows], (context_start + 1) % slots, 1)[..., None], Ring(token)

    return Policy(
        init=lambda key, pretrained=None: {},
        empty_cache=lambda num_lanes, num_slots: Ring(jnp.zeros((num_lanes, num_slots), jnp.int32)),
        read=read,
        forward=lambda params, tokens, context_start: tokens[..., None],
        logits=lambda params, features, candidates: 40.0 * (features == jnp.asarray(candidates)),
        heads={"value": lambda params, features: jnp.zeros(features.shape[:-1])},
        vocab_size=len(tiny.TOKENIZER),
    )


@pytest.mark.parametrize("notes", ["own", "of another"])
def test_a_model_that_copies_walks_the_corridor_in_a_cache_shorter_than_it(notes):
    """End to end; who hears another episode's note goes where that one should have gone."""
    interaction, (lane_keys, task_keys) = corridor(), tiny.keys(8)
    cues = np.asarray(jax.jit(jax.vmap(lambda key: interaction.start(key, {})[0].environment.cue))(task_keys))
    assert set(cues) == {0, 1}
    if notes == "of another":
        interaction = agents.replace_segments(interaction, Kind.NOTE, other_notes(text.token_ids(tiny.TOKENIZER, DOORS[1]), [1]))
    shape, model = tiny.config(interaction), copying_model()
    assert 3 * shape.num_slots < interaction.size.episode
    rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))
    lanes = rollout.start_lanes(interaction, {}, shape, lane_keys, task_keys)
    trajectory = jax.tree.map(np.asarray, jax.jit(lambda lanes: rollout.roll_out(interaction, model, shape, {}, {}, lanes)[1])(lanes))
    assert trajectory.ends_episode.sum() == 8 and plain.longest_context(trajectory) <= interaction.size.context
    assert trajectory.reward.outcome.sum(1).tolist() == ([1.0] * 8 if notes == "own" else (cues == 1).tolist())


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(num_notes=0), "Remember.num_notes >= 1"),
        (dict(budget=0), "Remember.budget >= 1"),
        (dict(every=0), "set it to at least 1 and below 3"),
        (dict(every=3), "Remember.every is 3; set it to at least 1 and below 3"),
        (dict(first=3), "Remember.first is 3; set it to at least 1 and below 3"),
        (dict(first=1, every=-1), "Remember.every is -1; set it to 0 for a single note"),
        (dict(ask=""), "Remember.ask is empty"),
        (dict(symbols=("not one token",)), "must be one token"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ArlError, match=words):
        tiny.make(tiny.make_walk(), Act(), Remember(**{**dict(num_notes=1, budget=1, every=1), **options}))


def test_a_history_over_a_memory_is_refused():
    with pytest.raises(ArlError, match="set Attempts.memory to a Window or a Reflection"):
        tiny.make(*plain.parts(recipe()), Attempts(2, History()))


def test_a_context_shorter_than_the_window_is_refused():
    interaction = corridor()
    shape = tiny.config(interaction, context_length=interaction.size.context - 1)
    with pytest.raises(ArlError, match=f"context_length >= {interaction.size.context}"):
        rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))
