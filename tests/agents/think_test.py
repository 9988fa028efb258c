"""`Think`, against its account in plain Python, and what it costs."""

import jax
import jax.numpy as jnp
import pytest

from arl import text
from arl.agents import Act, Think
from arl.types import ArlError, Kind, Segment
from tests import agents_fixtures as plain
from tests import tiny


def recipe(inner=None, budget=3, symbols=tiny.SYMBOLS, stop=True, full=False, resets_context=False, **options):
    inner = inner or ("act", plain.make_riddle(3, full), {"illegal_penalty": 0.125, "resets_context": resets_context})
    return "think", inner, {"budget": budget, "symbols": symbols, "stop": stop, **options}


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("symbols", [tiny.SYMBOLS, "any"], ids=["few symbols", "any text"])
def test_a_thought_stands_before_every_action(symbols, stop):
    composed = recipe(symbols=symbols, stop=stop)
    for episode in plain.live(composed, plain.build(composed), range(8)):
        kinds = [turn.kind for turn in episode[:-1]]
        assert kinds == [Kind.THINK, Kind.ACTION] * (len(kinds) // 2)
        assert stop or all(len(turn.written) == 3 for turn in episode[:-1] if turn.kind == Kind.THINK)


def test_rewards_are_those_of_the_episode_without_thoughts():
    """The same actions under the same keys earn the same, each once: what follows a thought is free."""
    composed = recipe()
    for seed, episode in enumerate(plain.live(composed, plain.build(composed), range(8))):
        account, earned = plain.plain(composed[1]), 0.0
        assert all(turn.reward == 0 for turn, before in zip(episode[1:], episode, strict=False) if before.kind == Kind.THINK)
        key, turn = jax.random.key(seed), account.start(jax.random.key(seed))
        for index, said in enumerate(episode[:-1]):
            key = jax.random.fold_in(key, index + 1)
            if said.kind == Kind.ACTION:
                turn = account.advance(key, said.written, turn.legal)
                earned += turn.reward
        assert earned == sum(turn.reward for turn in episode)


@pytest.mark.parametrize("resets_context", [False, True])
def test_bounds_of_the_size_are_true(resets_context):
    composed = recipe(full=True, resets_context=resets_context, stop=False)
    interaction = plain.build(composed)
    for episode in plain.live(composed, interaction, range(3), longest=True):
        tokens, context = plain.extent(episode)
        assert tokens == interaction.size.episode and context <= interaction.size.context
        assert len(episode) - 1 == interaction.size.turns and max(len(turn.read) for turn in episode) <= interaction.size.read


def test_a_truncated_episode_is_not_thought_about():
    composed = recipe()
    ends = [episode[-1] for episode in plain.live(composed, plain.build(composed), range(3), longest=True)]
    assert all(turn.truncated and turn.kind == Kind.ACTION and turn.budget == 0 for turn in ends)
    assert all(turn.read[-1:] != text.token_ids(tiny.TOKENIZER, " think") for turn in ends)


def test_two_layers_of_thoughts_think_twice_before_every_action():
    composed = recipe(recipe(budget=2, stop=False), budget=1, name="outer")
    for episode in plain.live(composed, plain.build(composed), range(4)):
        kinds = [turn.kind for turn in episode[:-1]]
        assert kinds == [Kind.THINK, Kind.THINK, Kind.ACTION] * (len(kinds) // 3)


def test_thoughts_may_precede_plans_alone():
    plans = ("plan", ("act", plain.make_riddle(5), {"illegal_penalty": 0.125, "resets_context": False}), {"every": 2, "name": "level 0"})
    plans[2].update(budget=2, symbols=tiny.SYMBOLS)
    composed = recipe(plans, precedes="plan")
    for episode in plain.live(composed, plain.build(composed), range(8)):
        kinds = [turn.kind for turn in episode[:-1]]
        assert kinds[:3] == [Kind.THINK, Kind.PLAN, Kind.ACTION] and len(kinds) == len(episode) - 1
        assert all((kind == Kind.THINK) == (after == Kind.PLAN) for kind, after in zip(kinds, kinds[1:], strict=False))


@pytest.mark.parametrize("precedes", ["plan", "plans"])
def test_thoughts_before_what_nobody_writes_are_refused(precedes):
    with pytest.raises(ArlError, match=f"Think.precedes is '{precedes}', and the layers within write action; set it to one of these"):
        tiny.guess(Think(2, precedes=precedes))


def test_an_expert_ends_its_thought_at_once_and_acts_as_without_thoughts():
    interaction, inner = tiny.guess(Think(2)), tiny.guess()
    state, turn = interaction.start(jax.random.key(0), {})
    assert turn.kind == Kind.THINK and interaction.has_expert
    assert plain.ids(interaction.experts[Kind.THINK](jax.random.key(0), state, jnp.int32(0))) == []
    said = Segment(text.empty(interaction.size.written), turn.grammar_state * 0, turn.grammar_state > 0)
    state, turn = interaction.advance(jax.random.key(0), {}, state, said)
    inner_state, _ = state.pop()
    wanted = inner.experts[Kind.ACTION](jax.random.key(0), inner_state, jnp.int32(0))
    found = interaction.experts[Kind.ACTION](jax.random.key(0), state, jnp.int32(0))
    assert turn.kind == Kind.ACTION and plain.ids(found) == plain.ids(wanted)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("budget", [1, 3])
def test_a_tasks_expert_thinks_as_far_as_the_budget_holds(budget, layers):
    """It is told the attempt, and the environment's state: that no step was taken."""

    def thought(key, state, attempt):
        return text.concatenate(*(text.constant([token]) for token in (7, 8)), text.only_if(state.steps < attempt, text.constant([9])))

    known = {"experts": lambda limits: {Kind.THINK: thought}}
    interaction = tiny.make(tiny.make_walk(), Act(), *[Think(budget, name=f"think{i}") for i in range(layers)], **known)
    state, _ = interaction.start(jax.random.key(0), {})
    told = [plain.ids(interaction.experts[Kind.THINK](jax.random.key(0), state, jnp.int32(attempt))) for attempt in (0, 1)]
    assert told == [[7, 8][:budget], [7, 8, 9][:budget]]


def test_the_environments_state_stands_still_while_a_thought_is_written():
    """So does the hash of its state."""
    interaction, environment = tiny.guess(Think(2)), tiny.make_guess()
    state, turn = interaction.start(jax.random.key(0), {})
    said = Segment(text.empty(interaction.size.written), turn.grammar_state * 0, turn.grammar_state > 0)
    after, _ = interaction.advance(jax.random.key(0), {}, state, said)
    assert int(environment.state_hash(after.environment)) == int(environment.state_hash(environment.reset(jax.random.key(0))))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(a == b), after.environment, state.environment))


def test_symbols_of_the_task_are_those_that_are_worth_noting():
    by_name = tiny.make(tiny.make_walk(), Act(), Think(2, "task"), note_symbols=tiny.SYMBOLS)
    by_hand = tiny.make(tiny.make_walk(), Act(), Think(2, tiny.SYMBOLS))
    whole = tiny.make(tiny.make_walk(), Act(), Think(2, "any"), note_symbols=tiny.SYMBOLS)
    assert by_name.grammar.candidates.tolist() == by_hand.grammar.candidates.tolist()
    assert len(whole.grammar.candidates) > len(by_hand.grammar.candidates)


@pytest.mark.parametrize("symbols", ["12", "everything"])
def test_symbols_that_are_another_string_are_refused(symbols):
    with pytest.raises(ArlError, match="set it to 'task', 'any', or a tuple of strings of one token"):
        tiny.guess(Think(2, symbols))


@pytest.mark.parametrize(("budget", "words"), [(0, r"set Think\.budget >= 1"), (1.5, r"Think\.budget is 1\.5; set it to a whole number")])
def test_a_thought_without_tokens_is_refused(budget, words):
    with pytest.raises(ArlError, match=words):
        Think(budget)
