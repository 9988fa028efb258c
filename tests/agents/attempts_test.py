"""`Attempts`, alone and in random compositions, against its account in plain Python."""

import random

import jax
import jax.numpy as jnp
import pytest

from arl import text
from arl.agents import Act, Attempts, History, Nothing, NoveltyBonus, Reflection, Think, Window
from arl.types import ArlError, Kind, Segment
from tests import agents_fixtures as plain
from tests import tiny


def recipe(memory, num_attempts=3, inner=None, full=False, resets_context=False, steps=2, name="level 0", **options):
    inner = inner or ("act", plain.make_riddle(steps, full), {"illegal_penalty": 0.125, "resets_context": resets_context})
    return "attempts", inner, {"num_attempts": num_attempts, "memory": memory, "discount": 0.5, "name": name, **options}


def note(budget=2, **options):
    return Reflection(budget, tiny.SYMBOLS, **options)


MEMORIES = {
    "nothing": Nothing(),
    "history": History(),
    "window 1": Window(1),
    "window 7": Window(7),
    "window of all": Window(500),
    "note": note(),
    "note with an end": note(stop=True),
    "note in any text": Reflection(3, "any"),
    "note after two words": note(ask=" note think"),
    "annealed": note(annealed=True),
}


@pytest.mark.parametrize("seed", range(6))
def test_random_compositions_are_what_they_say(seed):
    """Each text, budget, kind, reward, discount, attempt and reset of whole episodes, illegal texts and truncated attempts among them."""
    composed = plain.random_recipe(seed)
    plain.live(composed, plain.build(composed), range(4))


RESETS_WITHIN = [(name, True) for name in ("window 7", "note", "annealed")]


@pytest.mark.parametrize(("name", "resets_context"), [*((name, False) for name in MEMORIES), *RESETS_WITHIN])
def test_each_memory_is_what_it_says(name, resets_context):
    """Each memory: what is carried over from one attempt to the next."""
    composed = recipe(MEMORIES[name], resets_context=resets_context)
    interaction = plain.build(composed)
    for episode in plain.live(composed, interaction, range(4)):
        actions = [turn.kind == Kind.ACTION for turn in episode]
        assert [turn.attempt for turn, is_action in zip(episode, actions, strict=True) if is_action][-1] == 2
        assert sum(not is_action for is_action in actions) == (2 if isinstance(MEMORIES[name], Reflection) else 0)


@pytest.mark.parametrize("seed", range(8))
def test_bounds_of_random_compositions_are_true(seed):
    """Texts as long as they can be, every budget used up, and no attempt that ends early."""
    composed = plain.random_recipe(seed, full=True)
    interaction = plain.build(composed)
    size = interaction.size
    for episode in plain.live(composed, interaction, range(2), longest=True):
        tokens, context = plain.extent(episode)
        assert tokens <= size.episode and context <= size.context and len(episode) - 1 <= size.turns
        assert max(len(turn.read) for turn in episode) <= size.read and max(turn.budget for turn in episode) <= size.written


@pytest.mark.parametrize("inner", [recipe(None, resets_context=True)[1], recipe(Nothing()), recipe(note(annealed=True))])
def test_a_history_needs_an_inner_context_that_goes_on(inner):
    with pytest.raises(ArlError, match=r"set Attempts\.memory to a Window or a Reflection"):
        plain.build(recipe(History(), inner=inner, name="level 1"))


@pytest.mark.parametrize("name", ["nothing", "history", "note"])
def test_the_bound_of_an_episode_is_reached_where_it_can_be(name):
    """With `Nothing` the last text of an attempt is not read; all the others read and write all that the bound counts."""
    composed = recipe(MEMORIES[name], full=True)
    interaction = plain.build(composed)
    (episode,) = plain.live(composed, interaction, [0], longest=True)
    unread = 2 * interaction.size.read if name == "nothing" else 0
    assert plain.extent(episode)[0] == interaction.size.episode - unread


def test_what_is_kept_is_read_again_wherever_the_context_begins_anew_within():
    """The note stands before whatever the environment says anew, before a question for the next note too."""
    composed = recipe(note(), resets_context=True, steps=3)
    for episode in plain.live(composed, plain.build(composed), range(4)):
        kept = []
        for turn, before in zip(episode[1:], episode, strict=False):
            kept = text.token_ids(tiny.TOKENIZER, " note") + (before.written or []) if before.kind == Kind.REFLECTION else kept
            assert turn.terminated or turn.read[: len(kept)] == kept


def test_each_attempt_is_at_the_same_task():
    interaction = tiny.guess(Attempts(3, Nothing()))
    state, turn = interaction.start(jax.random.key(4), {})
    numbers, draw = [int(state.environment.number)], random.Random(0)
    for index in range(2):
        said = text.constant(text.token_ids(tiny.TOKENIZER, f" {draw.randrange(4)}"))
        choice, is_legal = text.parse(interaction.grammar, turn.grammar_state, said)
        state, turn = interaction.advance(jax.random.key(index), {}, state, Segment(said, choice, is_legal))
        numbers.append(int(state.environment.number))
    assert len(set(numbers)) == 1


def test_the_episode_ends_as_its_last_attempt_did():
    inner = ("act", plain.make_riddle(5), {"illegal_penalty": 0.125, "resets_context": False, "time_limit": 2})
    cut = recipe(note(), inner=inner)
    episodes = plain.live(cut, plain.build(cut), range(12))
    assert {episode[-1].truncated for episode in episodes} == {False, True}
    assert all(not turn.truncated and not turn.terminated for episode in episodes for turn in episode[:-1])


@pytest.mark.parametrize(("keep", "share"), [(0.0, 1.0), (1.0, 0.0), (0.25, 0.75)])
def test_resets_of_the_context_follow_their_schedule(keep, share):
    layer = Attempts(2, Reflection(1, tiny.SYMBOLS, annealed=True))
    interaction = tiny.guess(layer)
    assert layer.schedules == ("attempts.keep",) and Attempts(2, tiny.NOTE).schedules == Attempts(2).schedules == ()

    def resets_context(key):
        curriculum = {"attempts": {"keep": jnp.float32(keep)}}
        state, turn = interaction.start(key, curriculum)
        for budget, number in ((1, 2), (1, 3)):
            said = text.pad(text.constant(text.token_ids(tiny.TOKENIZER, f" {number}")), interaction.size.written)
            written = Segment(said, jnp.int32(number) * (turn.kind == Kind.ACTION), jnp.bool_(True))
            state, turn = interaction.advance(jax.random.fold_in(key, budget + number), curriculum, state, written)
        return turn.reset_context

    found = jax.vmap(resets_context)(jax.random.split(jax.random.key(0), 2000))
    assert abs(float(found.mean()) - share) <= 4 * (share * (1 - share) / 2000) ** 0.5


def expert(interaction, kind, state, attempt=0):
    """What the expert writes, token ids."""
    return plain.ids(interaction.experts[kind](jax.random.key(0), state, jnp.int32(attempt)))


def test_an_expert_has_nothing_to_reflect_on_where_the_task_has_no_expert_of_notes():
    """It acts as the one within does, and the environment's state is that of the attempt, while a reflection is written too."""
    interaction, inner, environment = tiny.guess(Attempts(2, tiny.NOTE)), tiny.guess(), tiny.make_guess()
    state, turn = interaction.start(jax.random.key(0), {})
    assert interaction.has_expert and expert(interaction, Kind.ACTION, state) == expert(inner, Kind.ACTION, state.pop()[0])
    said = text.pad(text.constant(text.token_ids(tiny.TOKENIZER, " 1")), interaction.size.written)
    written = Segment(said, *text.parse(interaction.grammar, turn.grammar_state, said._replace(length=jnp.int32(1))))
    after, _ = environment.step(jax.random.key(0), state.environment, jnp.int32(1))
    state, turn = interaction.advance(jax.random.key(0), {}, state, written)
    assert turn.kind == Kind.REFLECTION and expert(interaction, Kind.REFLECTION, state) == []
    assert int(environment.state_hash(state.environment)) == int(environment.state_hash(after))


def with_expert_note(kind=Kind.REFLECTION, budget=2, **options):
    """Its expert notes down the hidden number, twice."""
    numbers = text.stack([text.token_ids(tiny.TOKENIZER, symbol * 2) for symbol in tiny.SYMBOLS])
    experts = {kind: lambda key, state, attempt: text.lookup(numbers, state.number)}
    memory = Reflection(budget, tiny.SYMBOLS, **options)
    return tiny.make(tiny.make_guess(), Act(), Attempts(3, memory), experts=lambda limits: experts)


@pytest.mark.parametrize("kind", [Kind.REFLECTION, Kind.NOTE])
@pytest.mark.parametrize("budget", [1, 2, 3])
def test_an_expert_notes_down_what_it_is_given_to_say(budget, kind):
    """After an attempt, from its state, as long as there is room; within an attempt it acts. Who writes notes reflects by default."""
    interaction = with_expert_note(kind, budget=budget, stop=True)
    state, turn = interaction.start(jax.random.key(0), {})
    for _ in range(2):
        assert turn.kind == Kind.ACTION
        guess = expert(interaction, Kind.ACTION, state)
        assert guess == expert(tiny.guess(), Kind.ACTION, state.pop()[0])
        number = int(state.environment.number)
        for asked, followed in [(Kind.ACTION, Kind.REFLECTION), (Kind.REFLECTION, Kind.ACTION)]:
            said = text.constant(guess if asked == Kind.ACTION else expert(interaction, asked, state))
            choice, is_legal = text.parse(interaction.grammar, turn.grammar_state, said)
            state, turn = interaction.advance(jax.random.key(0), {}, state, Segment(said, choice, is_legal))
            assert is_legal and turn.kind == followed
        noted = text.token_ids(tiny.TOKENIZER, f" {number}" * min(budget, 2))
        assert plain.ids(turn.read) == text.token_ids(tiny.TOKENIZER, " note") + noted + text.token_ids(tiny.TOKENIZER, "Guess:")


def test_an_episode_is_the_same_whoever_could_note_something():
    turns = [interaction.start(jax.random.key(1), {})[1] for interaction in (with_expert_note(), tiny.guess(Attempts(3, tiny.NOTE)))]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), *turns))


KNOWS = {"nothing": False, "history": True, "window 7": True, "note": True}


@pytest.mark.parametrize("notes", [False, True])
@pytest.mark.parametrize("name", KNOWS)
def test_an_expert_knows_earlier_attempts_unless_nothing_of_them_is_kept(name, notes):
    """Nor does it if nobody would write down what they told; a reflection is told which attempt it is on."""
    environment = tiny.make_guess()
    say = lambda key, state, attempt: text.say_choice(environment.grammar, attempt)
    experts = {Kind.ACTION: say, **({Kind.NOTE: say} if notes else {})}
    interaction = tiny.make(environment, Act(), Attempts(3, MEMORIES[name]), experts=lambda limits: experts)
    knows = KNOWS[name] and (notes or name != "note")
    index = lambda attempt: text.token_ids(tiny.TOKENIZER, f" {attempt}")
    state, turn = interaction.start(jax.random.key(0), {})
    while not turn.terminated:
        attempt, kind = int(turn.attempt), Kind(int(turn.kind))
        wanted = index(attempt if knows else 0) if kind == Kind.ACTION else index(attempt) if notes else []
        assert expert(interaction, kind, state, attempt=0) == wanted
        said = text.pad(text.constant(text.token_ids(tiny.TOKENIZER, " 3")), interaction.size.written)
        state, turn = interaction.advance(jax.random.key(0), {}, state, Segment(said, jnp.int32(3), jnp.bool_(True)))
    assert attempt == 2


def test_adapt_passes_through():
    inner = tiny.guess()._replace(update_curriculum=lambda curriculum, outcomes: {**curriculum, "seen": outcomes})
    assert tiny.wrap(Think(1), tiny.wrap(Attempts(2), inner)).update_curriculum({}, 3) == {"seen": 3}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Attempts(0), r"Attempts\.num_attempts is 0; set it >= 1"),
        (lambda: Attempts(2.0), r"Attempts\.num_attempts is 2\.0; set it to a whole number"),
        (lambda: Attempts(1, tiny.NOTE), r"set Attempts\.num_attempts >= 2, or memory=Nothing\(\)"),
        (lambda: Attempts(2, discount=1.5), r"Attempts\.discount is 1\.5; set it between 0 and 1"),
        (lambda: Attempts(2, "history"), r"Attempts\.memory is 'history'; set it to Nothing\(\)"),
        (lambda: Attempts(2, History), r"Attempts\.memory is .*; set it to Nothing\(\)"),
        (lambda: Window(0), r"set Window\.num_tokens >= 1"),
        (lambda: Window(-1), r"set Window\.num_tokens >= 1"),
        (lambda: Window(1.5), r"Window\.num_tokens is 1\.5; set it to a whole number"),
        (lambda: Reflection(0), r"set Reflection\.budget >= 1"),
        (lambda: Reflection(-2), r"set Reflection\.budget >= 1"),
        (lambda: Reflection(True), r"Reflection\.budget is True; set it to a whole number"),
    ],
)
def test_attempts_that_cannot_be_are_refused(make, words):
    with pytest.raises(ArlError, match=words):
        make()


@pytest.mark.parametrize(
    ("symbols", "words"), [(["not one token"], "must be one token"), ("12", "set it to 'task', 'any', or a tuple of strings of one token")]
)
def test_symbols_of_a_reflection_that_cannot_be_are_refused(symbols, words):
    with pytest.raises(ArlError, match=words):
        tiny.guess(Attempts(2, Reflection(2, symbols)))


def test_resets_that_nobody_schedules_are_refused():
    interaction = tiny.agent("annealed")
    silence = Segment(text.empty(interaction.size.written), jnp.int32(0), jnp.bool_(True))
    state, _ = interaction.start(jax.random.key(0), {})
    with pytest.raises(ArlError, match=r"nothing sets attempts.keep; give LearnerConfig.schedules\['attempts.keep'\]"):
        jax.eval_shape(lambda: interaction.advance(jax.random.key(0), {}, state, silence))


PAID_AGAIN = {
    "new states": lambda num_attempts: tiny.guess(NoveltyBonus(1.0), Think(2), Attempts(num_attempts)),
    "information": lambda num_attempts: tiny.make(
        tiny.make_guess(),
        Act(information_bonus=0.5),
        Think(2),
        Attempts(num_attempts),
        information_gain=lambda before, after: jnp.float32(1),
    ),
}


@pytest.mark.parametrize("paid", PAID_AGAIN)
def test_layers_that_pay_once_are_refused_within_several_attempts(paid):
    """However deep within they lie; one attempt pays for nothing twice."""
    with pytest.raises(ArlError, match=f"^{paid} .* would be paid for again in every attempt; put that layer around Attempts"):
        PAID_AGAIN[paid](2)
    assert PAID_AGAIN[paid](1).size.turns == 2
