"""`AskForHelp`: what help does, what it costs, and what it is worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, text
from arl.agents import Act, AskForHelp, Attempts, History
from arl.envs import witnesses
from arl.types import ArlError, Kind, Segment, select
from tests import tiny
from tests.agents.confidence_test import live, make

PRICE = 0.125


def sayer(control, action=" A"):
    words = {Kind.CONTROL: control, Kind.ACTION: action}
    return lambda turn, state: text.encode(tiny.TOKENIZER, words[Kind(int(turn.kind))])


def test_alone_all_is_as_without_help():
    for seed in range(4):
        asked, *rest = live(make(AskForHelp(PRICE)), sayer(" no"), seed)
        first, *bare = live(make(), sayer(" no"), seed)
        assert asked[0].kind == Kind.CONTROL and asked[1] == first[1] + " hint"
        released, end = rest
        assert released[0].kind == Kind.ACTION and released[1] == "" and not any(map(float, released[0].reward))
        assert end[0].terminated and list(map(float, end[0].reward)) == list(map(float, bare[0][0].reward))


def test_help_is_right_at_its_price_and_shows_what_it_did():
    """The decision earns it all, and the action is read, in the next attempt."""
    interaction = make(AskForHelp(PRICE), Attempts(2, History()))
    answers = set()
    for seed in range(6):
        first, second, end = live(interaction, sayer(" yes"), seed)
        for turn, _, _ in (second, end):
            assert (float(turn.reward.outcome), float(turn.reward.efficiency)) == (1.0, -PRICE)
        shown = second[1].removesuffix(first[1])
        assert shown in (" A correct\n", " B correct\n") and end[0].terminated
        answers.add(shown)
    assert len(answers) == 2


def test_an_illegal_decision_buys_nothing():
    _, released, _ = live(make(AskForHelp(PRICE, illegal_penalty=0.5)), sayer(" A"))
    assert released[0].kind == Kind.ACTION and float(released[0].reward.process) == -0.5 and float(released[0].reward.efficiency) == 0


def test_without_a_solution_the_expert_helps():
    """In the middle of the numbers, where it looks first."""
    _, end = live(make(AskForHelp(PRICE), config=envs.NumberGuess(5)), sayer(" yes"), 3)
    number = int(make(config=envs.NumberGuess(5)).start(jax.random.key(3), {})[0].environment.number)
    assert float(end[0].reward.outcome) == (number == 2) and float(end[0].reward.efficiency) == -PRICE


@pytest.mark.parametrize("price", [0.05, 0.2])
def test_the_expert_buys_what_is_worth_its_price(price):
    """Its mean return is the best that there is, above that of never and of always asking."""
    interaction = make(AskForHelp(price), config=envs.Witnesses(3))
    advance, start = interaction.advance, interaction.start

    def episode(key):
        state, turn = start(key, {})
        total = jnp.float32(0.0)
        for _ in range(2):
            by_kind = [
                text.pad(interaction.experts[kind](key, state, jnp.int32(0)), interaction.size.written) for kind in interaction.writes
            ]
            is_first = turn.kind == interaction.writes[0]
            said = select(is_first, *by_kind)
            choice, is_legal = text.parse(interaction.grammar, turn.grammar_state, said)
            is_over = turn.terminated
            state, turn = advance(key, {}, state, Segment(said, choice, is_legal))
            total += jnp.where(is_over, 0.0, turn.reward.outcome + turn.reward.efficiency)
        return total

    returns = np.asarray(jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 20_000)))
    optimal = witnesses.optimal_return(3, envs.Witnesses().reliabilities, price)
    assert abs(returns.mean() - optimal) < 4 * returns.std() / np.sqrt(len(returns))
    assert optimal > max(1 - price, witnesses.optimal_return(3, envs.Witnesses().reliabilities))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(price=-1.0), "AskForHelp.price is -1.0"),
        (dict(price=0.1, illegal_penalty=float("inf")), "AskForHelp.illegal_penalty is inf"),
        (dict(price=0.1, ask=""), "AskForHelp.ask is empty"),
        (dict(price=0.1, help=" no"), "are both ' no'; give one of them another word"),
    ],
)
def test_what_cannot_be_bought_is_refused(options, words):
    with pytest.raises(ArlError, match=words):
        AskForHelp(**options)


def test_where_nobody_can_help_nothing_is_sold():
    with pytest.raises(ArlError, match="give the task a solution or an expert"):
        tiny.make(tiny.make_walk(), Act(), AskForHelp(0.1))
