"""`attempts`, alone and in random compositions, against its account in plain Python."""

import random

import jax
import jax.numpy as jnp
import pytest

from arl import agents, envs, text
from arl.types import Kind, Written
from tests import agents_fixtures as plain
from tests import tiny


def recipe(carry, num_attempts=3, inner=None, full=False, forgets=False, steps=2, name="level 0", **options):
    inner = inner or ("act", plain.make_riddle(steps, full), {"illegal_penalty": 0.125, "forgets": forgets})
    return "attempts", inner, {"num_attempts": num_attempts, "carry": carry, "discount": 0.5, "name": name, **options}


def note(budget=2, **options):
    return agents.reflection(budget, symbols=tiny.SYMBOLS, **options)


CARRIES = {
    "nothing": agents.nothing(),
    "history": agents.history(),
    "window 1": agents.window(1),
    "window 7": agents.window(7),
    "window of all": agents.window(500),
    "note": note(),
    "note with an end": note(stop=True),
    "note in any text": agents.reflection(3),
    "annealed": note(annealed=True),
    "note and window": agents.Carry(window=5, budget=2, symbols=tiny.SYMBOLS),
    "annealed window": agents.Carry(window=5, annealed=True),
}


@pytest.mark.parametrize("seed", range(6))
def test_random_compositions_are_what_they_say(seed):
    """Each text, budget, kind, reward, discount, attempt and forgetting of whole lives, illegal texts and cut attempts among them."""
    composed = plain.random_recipe(seed)
    plain.live(composed, plain.build(composed), range(4))


INNER_FORGETS = [(name, True) for name in ("window 7", "note", "annealed", "note and window")]


@pytest.mark.parametrize(("name", "forgets"), [*((name, False) for name in CARRIES), *INNER_FORGETS])
def test_each_carry_is_what_it_says(name, forgets):
    composed = recipe(CARRIES[name], forgets=forgets)
    interaction = plain.build(composed)
    for life in plain.live(composed, interaction, range(4)):
        actions = [turn.kind == Kind.ACTION for turn in life]
        assert [turn.attempt for turn, is_action in zip(life, actions, strict=True) if is_action][-1] == 2
        assert sum(not is_action for is_action in actions) == (2 if CARRIES[name].budget else 0)


@pytest.mark.parametrize("seed", range(8))
def test_bounds_of_random_compositions_are_true(seed):
    """Texts as long as they can be, every budget used up, and no attempt that ends early."""
    composed = plain.random_recipe(seed, full=True)
    interaction = plain.build(composed)
    size = interaction.size
    for life in plain.live(composed, interaction, range(2), longest=True):
        tokens, context = plain.extent(life)
        assert tokens <= size.life and context <= size.context and len(life) - 1 <= size.turns
        assert max(len(turn.read) for turn in life) <= size.read and max(turn.budget for turn in life) <= size.written


@pytest.mark.parametrize("inner", [recipe(None, forgets=True)[1], recipe(agents.nothing()), recipe(note(annealed=True))])
def test_a_history_needs_an_inner_context_that_goes_on(inner):
    with pytest.raises(ValueError, match="carry a window or a reflection"):
        plain.build(recipe(agents.history(), inner=inner))


@pytest.mark.parametrize("name", ["nothing", "history", "note"])
def test_the_bound_of_a_life_is_reached_where_it_can_be(name):
    """With `nothing` the last text of an attempt is not read; all the others read and write all that the bound counts."""
    composed = recipe(CARRIES[name], full=True)
    interaction = plain.build(composed)
    (life,) = plain.live(composed, interaction, [0], longest=True)
    unread = 2 * interaction.size.read if name == "nothing" else 0
    assert plain.extent(life)[0] == interaction.size.life - unread


def test_what_is_kept_outlives_every_inner_forgetting():
    """The note stands before whatever the environment says anew, before a question for the next note too."""
    composed = recipe(note(), forgets=True, steps=3)
    for life in plain.live(composed, plain.build(composed), range(4)):
        kept = []
        for turn, before in zip(life[1:], life, strict=False):
            kept = text.token_ids(tiny.TOKENIZER, " note") + (before.written or []) if before.kind == Kind.REFLECTION else kept
            assert turn.terminated or turn.read[: len(kept)] == kept


def test_each_attempt_is_at_the_same_task():
    interaction = tiny.attempts(tiny.guess(), 3, carry=agents.nothing())
    state, turn = interaction.start(jax.random.key(4), {})
    numbers, draw = [int(state.inner[0].number)], random.Random(0)
    for index in range(2):
        said = text.constant(text.token_ids(tiny.TOKENIZER, f" {draw.randrange(4)}"))
        choice, is_legal = text.parse(interaction.grammar, turn.grammar, said)
        state, turn = interaction.advance(jax.random.key(index), {}, state, plain.Written(said, choice, is_legal))
        numbers.append(int(state.inner[0].number))
    assert len(set(numbers)) == 1


def test_the_life_ends_as_its_last_attempt_did():
    cut = recipe(note(), inner=("act", envs.time_limit(plain.make_riddle(5), 2), {"illegal_penalty": 0.125, "forgets": False}))
    lives = plain.live(cut, plain.build(cut), range(12))
    assert {life[-1].truncated for life in lives} == {False, True}
    assert all(not turn.truncated and not turn.terminated for life in lives for turn in life[:-1])


@pytest.mark.parametrize(("keep", "share"), [(0.0, 1.0), (1.0, 0.0), (0.25, 0.75)])
def test_forgetting_follows_its_schedule(keep, share):
    interaction = tiny.attempts(tiny.guess(), 2, carry=agents.reflection(1, symbols=tiny.SYMBOLS, annealed=True))

    def forgets(key):
        setting = {"attempts": {"keep": jnp.float32(keep)}}
        state, turn = interaction.start(key, setting)
        for budget, number in ((1, 2), (1, 3)):
            said = text.pad(text.constant(text.token_ids(tiny.TOKENIZER, f" {number}")), interaction.size.written)
            written = plain.Written(said, jnp.int32(number) * (turn.kind == Kind.ACTION), jnp.bool_(True))
            state, turn = interaction.advance(jax.random.fold_in(key, budget + number), setting, state, written)
        return turn.forget

    found = jax.vmap(forgets)(jax.random.split(jax.random.key(0), 2000))
    assert abs(float(found.mean()) - share) <= 4 * (share * (1 - share) / 2000) ** 0.5


def test_an_expert_has_nothing_to_note_and_anchors_pass_through():
    interaction = tiny.attempts(tiny.guess(), 2, carry=tiny.NOTE)
    state, turn = interaction.start(jax.random.key(0), {})
    assert plain.ids(interaction.expert(jax.random.key(0), state)) == plain.ids(tiny.guess().expert(jax.random.key(0), state.inner))
    said = text.pad(text.constant(text.token_ids(tiny.TOKENIZER, " 1")), interaction.size.written)
    written = plain.Written(said, *text.parse(interaction.grammar, turn.grammar, said._replace(length=jnp.int32(1))))
    state, turn = interaction.advance(jax.random.key(0), {}, state, written)
    assert turn.kind == Kind.REFLECTION and plain.ids(interaction.expert(jax.random.key(0), state)) == []
    assert int(interaction.anchor(state)) == int(tiny.guess().anchor(state.inner))


def with_expert_note(**options):
    """Its expert notes down the hidden number, twice."""
    numbers = text.stack([text.token_ids(tiny.TOKENIZER, symbol * 2) for symbol in tiny.SYMBOLS])
    note = lambda key, state, attempt: text.lookup(numbers, agents.environment_state(state).number)
    return tiny.attempts(tiny.guess(), 3, carry=agents.reflection(symbols=tiny.SYMBOLS, expert_note=note, **options))


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_an_expert_notes_down_what_it_is_given_to_say(budget):
    """After an attempt, from its state, as long as there is room; within an attempt it acts."""
    interaction = with_expert_note(budget=budget, stop=True)
    state, turn = interaction.start(jax.random.key(0), {})
    for _ in range(2):
        assert turn.kind == Kind.ACTION
        guess = interaction.expert(jax.random.key(0), state)
        assert plain.ids(guess) == plain.ids(tiny.guess().expert(jax.random.key(0), state.inner))
        number = int(state.inner[0].number)
        for said, kind in [(guess, Kind.REFLECTION), (None, Kind.ACTION)]:
            said = interaction.expert(jax.random.key(0), state) if said is None else said
            choice, is_legal = text.parse(interaction.grammar, turn.grammar, said)
            state, turn = interaction.advance(jax.random.key(0), {}, state, plain.Written(said, choice, is_legal))
            assert is_legal and turn.kind == kind
        note = text.token_ids(tiny.TOKENIZER, f" {number}" * min(budget, 2))
        assert plain.ids(turn.read) == text.token_ids(tiny.TOKENIZER, " note") + note + text.token_ids(tiny.TOKENIZER, "Guess:")


def test_a_life_is_the_same_whoever_could_note_something():
    turns = [
        interaction.start(jax.random.key(1), {})[1]
        for interaction in (with_expert_note(budget=2), tiny.attempts(tiny.guess(), 3, carry=tiny.NOTE))
    ]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), *turns))


def test_adapt_passes_through():
    inner = tiny.guess()._replace(adapt=lambda setting, outcomes: {**setting, "seen": outcomes})
    assert tiny.think(tiny.attempts(inner, 2), budget=1).adapt({}, 3) == {"seen": 3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(num_attempts=0), "num_attempts >= 1"),
        (dict(num_attempts=1, carry=tiny.NOTE), "num_attempts >= 2"),
        (dict(num_attempts=2, carry=agents.Carry(window=-1)), ">= 0"),
        (dict(num_attempts=2, carry=agents.Carry(budget=-2)), ">= 0"),
        (dict(num_attempts=2, carry=agents.Carry(expert_note=lambda key, state, attempt: text.empty(1))), "set the carry's budget >= 1"),
        (dict(num_attempts=2, carry="history"), r"carry is 'history'; make it with nothing\(\)"),
        (dict(num_attempts=2, carry=agents.reflection(2, symbols=["not one token"])), "must be one token"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        agents.attempts(tiny.guess(), tiny.TOKENIZER, **options)


def test_forgetting_that_nobody_schedules_is_refused():
    interaction = tiny.agent("annealed")
    silence = Written(text.empty(interaction.size.written), jnp.int32(0), jnp.bool_(True))
    state, _ = interaction.start(jax.random.key(0), {})
    with pytest.raises(ValueError, match=r"nothing sets attempts.keep; give LearnerConfig.schedules\['attempts.keep'\]"):
        jax.eval_shape(lambda: interaction.advance(jax.random.key(0), {}, state, silence))


def test_symbols_that_are_one_string_are_refused():
    with pytest.raises(ValueError, match="set it to a tuple of strings"):
        agents.reflection(2, symbols="12")


def test_reflection_without_tokens_is_refused():
    with pytest.raises(ValueError, match="set budget .* >= 1"):
        agents.reflection(0)
