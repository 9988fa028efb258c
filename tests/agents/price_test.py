"""`price`: what is written costs its length times the price of its kind, once."""

import pytest

from arl.agents.price import price
from arl.types import Kind, Reward
from tests import rewards_fixtures as rewards
from tests import tiny

KINDS = [Kind.THINK, Kind.ACTION, Kind.NOTE, Kind.THINK, Kind.TOOL, Kind.ACTION]  # the last one is asked for by no turn
PRICES = {Kind.THINK: 0.25, Kind.TOOL: 2.0, Kind.ACTION: 0.5}
SCRIPT = rewards.scripted([0] * 6, KINDS, [Reward(1.0, efficiency=-8.0), Reward(process=2.0)])
LENGTHS = [3, 1, 4, 0, 2]


def test_each_segment_costs_its_length_times_the_price_of_its_kind():
    """Beside what is charged for within; a thought that is ended at once is free, and so are kinds without a price."""
    _, turns = rewards.play(price(SCRIPT, PRICES), LENGTHS)
    assert rewards.paid(turns, "efficiency") == [-8.0 - 0.75, -0.5, 0.0, 0.0, -4.0]
    assert rewards.paid(turns, "outcome") == [1.0, 0.0, 0.0, 0.0, 0.0] and rewards.paid(turns, "process") == [0.0, 2.0, 0.0, 0.0, 0.0]
    assert not any(turns[0].reward)


def test_two_prices_add_up():
    _, turns = rewards.play(price(price(SCRIPT, {Kind.NOTE: 1.0}), PRICES), LENGTHS)
    assert rewards.paid(turns, "efficiency") == [-8.0 - 0.75, -0.5, -4.0, 0.0, -4.0]


@pytest.mark.parametrize("truncated", [False, True])
def test_nothing_else_is_changed(truncated):
    script = rewards.scripted([0] * 6, KINDS, truncated=truncated)
    rewards.check_laws(lambda inner: price(inner, PRICES), script, {})


def test_it_charges_for_what_is_asked_for_within():
    """Outside of `think` a thought has its price, inside of it none; the action is charged once, forced tokens included."""
    act = tiny.agent("act")
    prices = {Kind.THINK: 1.0, Kind.ACTION: 16.0}
    agents = {"outside": price(tiny.think(act, budget=2), prices), "inside": tiny.think(price(act, prices), budget=2)}
    for place, agent in agents.items():
        (_, life), *_ = rewards.live(agent, {}, [0])
        for segment in life:
            cost = prices[Kind(int(segment.asked.kind))] if place == "outside" or segment.asked.kind == Kind.ACTION else 0.0
            assert segment.followed.reward.efficiency == -cost * len(segment.written)


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ({}, "leave price"),
        ({Kind.THINK: 0.0}, "leave price"),
        ({Kind.THINK: -1.0}, "number >= 0"),
        ({Kind.THINK: float("nan")}, "number >= 0"),
        ({Kind.OBSERVATION: 1.0}, "OBSERVATION is read, not written"),
        ({"think": 1.0}, "Kind.THINK"),
    ],
)
def test_what_cannot_be_is_refused(prices, words):
    with pytest.raises(ValueError, match=words):
        price(SCRIPT, prices)
