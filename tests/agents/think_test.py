"""`think`, against its account in plain Python, and what it costs."""

import jax
import pytest

from arl import agents, text
from arl.types import Kind
from tests import agents_fixtures as plain
from tests import tiny


def recipe(inner=None, budget=3, symbols=tiny.SYMBOLS, stop=True, full=False, forgets=False):
    inner = inner or ("act", plain.make_riddle(3, full), {"illegal_penalty": 0.125, "forgets": forgets})
    return "think", inner, {"budget": budget, "symbols": symbols and list(symbols), "stop": stop}


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("symbols", [tiny.SYMBOLS, None], ids=["few symbols", "any text"])
def test_a_thought_stands_before_every_action(symbols, stop):
    composed = recipe(symbols=symbols, stop=stop)
    for life in plain.live(composed, plain.build(composed), range(8)):
        kinds = [turn.kind for turn in life[:-1]]
        assert kinds == [Kind.THINK, Kind.ACTION] * (len(kinds) // 2)
        assert stop or all(len(turn.written) == 3 for turn in life[:-1] if turn.kind == Kind.THINK)


def test_rewards_are_those_of_the_life_without_thoughts():
    """The same actions under the same keys earn the same, each once: what follows a thought is free."""
    composed = recipe()
    for seed, life in enumerate(plain.live(composed, plain.build(composed), range(8))):
        account, earned = plain.plain(composed[1]), 0.0
        assert all(turn.reward == 0 for turn, before in zip(life[1:], life, strict=False) if before.kind == Kind.THINK)
        key, turn = jax.random.key(seed), account.start(jax.random.key(seed))
        for index, said in enumerate(life[:-1]):
            key = jax.random.fold_in(key, index + 1)
            if said.kind == Kind.ACTION:
                turn = account.advance(key, said.written, turn.legal)
                earned += turn.reward
        assert earned == sum(turn.reward for turn in life)


@pytest.mark.parametrize("forgets", [False, True])
def test_bounds_are_true(forgets):
    composed = recipe(full=True, forgets=forgets, stop=False)
    interaction = plain.build(composed)
    for life in plain.live(composed, interaction, range(3), longest=True):
        tokens, context = plain.extent(life)
        assert tokens == interaction.size.life and context <= interaction.size.context
        assert len(life) - 1 == interaction.size.turns and max(len(turn.read) for turn in life) <= interaction.size.read


def test_a_cut_life_is_not_thought_about():
    composed = recipe()
    ends = [life[-1] for life in plain.live(composed, plain.build(composed), range(3), longest=True)]
    assert all(turn.truncated and turn.kind == Kind.ACTION and turn.budget == 0 for turn in ends)
    assert all(turn.read[-1:] != text.token_ids(tiny.TOKENIZER, " think") for turn in ends)


def test_thoughts_about_thoughts():
    composed = recipe(recipe(budget=2, stop=False), budget=1)
    for life in plain.live(composed, plain.build(composed), range(4)):
        kinds = [turn.kind for turn in life[:-1]]
        assert kinds == [Kind.THINK, Kind.THINK, Kind.ACTION] * (len(kinds) // 3)


def test_an_expert_ends_its_thought_at_once():
    interaction = tiny.think(tiny.guess(), budget=2)
    state, turn = interaction.start(jax.random.key(0), {})
    assert turn.kind == Kind.THINK and plain.ids(interaction.expert(jax.random.key(0), state)) == []
    said = plain.Written(text.empty(interaction.size.written), turn.grammar * 0, turn.grammar > 0)
    state, turn = interaction.advance(jax.random.key(0), {}, state, said)
    wanted = tiny.guess().expert(jax.random.key(0), state.inner)
    assert turn.kind == Kind.ACTION and plain.ids(interaction.expert(jax.random.key(0), state)) == plain.ids(wanted)
    assert int(interaction.anchor(state)) == int(tiny.guess().anchor(state.inner))


def test_a_thought_without_tokens_is_refused():
    with pytest.raises(ValueError, match="budget >= 1"):
        agents.think(tiny.guess(), tiny.TOKENIZER, budget=0)
