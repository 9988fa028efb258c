"""`TokenCost`: what is written costs its length times the cost of a token of its kind, once."""

import pytest

from arl.agents import Act, Attempts, Remember, Think, TokenCost
from arl.types import ArlError, Kind, Reward
from tests import rewards_fixtures as rewards
from tests import tiny

KINDS = [Kind.THINK, Kind.ACTION, Kind.NOTE, Kind.THINK, Kind.TOOL, Kind.ACTION]  # the last one is asked for by no turn
COSTS = TokenCost(think=0.25, tool=2.0, action=0.5)
SCRIPT = rewards.scripted([0] * 6, KINDS, [Reward(1.0, efficiency=-8.0), Reward(process=2.0)])
LENGTHS = [3, 1, 4, 0, 2]


def test_each_segment_costs_its_length_times_the_cost_of_a_token_of_its_kind():
    """Beside what is charged for within; a thought that is ended at once is free, and so are kinds without a cost."""
    _, turns = rewards.play(tiny.wrap(COSTS, SCRIPT), LENGTHS)
    assert rewards.paid(turns, "efficiency") == [-8.0 - 0.75, -0.5, 0.0, 0.0, -4.0]
    assert rewards.paid(turns, "outcome") == [1.0, 0.0, 0.0, 0.0, 0.0] and rewards.paid(turns, "process") == [0.0, 2.0, 0.0, 0.0, 0.0]
    assert not any(turns[0].reward)


def test_two_layers_of_costs_add_up():
    _, turns = rewards.play(tiny.wrap(COSTS, tiny.wrap(TokenCost(note=1.0, name="notes"), SCRIPT)), LENGTHS)
    assert rewards.paid(turns, "efficiency") == [-8.0 - 0.75, -0.5, -4.0, 0.0, -4.0]


@pytest.mark.parametrize("truncated", [False, True])
def test_nothing_but_the_reward_is_changed(truncated):
    script = rewards.scripted([0] * 6, KINDS, truncated=truncated)
    rewards.check_laws(lambda inner: tiny.wrap(COSTS, inner), script, {})


COST = {Kind.THINK: 1.0, Kind.ACTION: 16.0}
PLACES = {
    "outside": (Act(), Think(2), TokenCost(think=COST[Kind.THINK], action=COST[Kind.ACTION])),
    "inside": (Act(), TokenCost(action=COST[Kind.ACTION]), Think(2)),
}


@pytest.mark.parametrize("place", PLACES)
def test_it_charges_for_what_is_asked_for_within(place):
    """Outside of `Think` a thought has its cost, inside of it none; the action is charged once, forced tokens included."""
    (_, episode), *_ = rewards.live(tiny.make(tiny.make_walk(), *PLACES[place]), {}, [0])
    assert {Kind(int(segment.asked.kind)) for segment in episode} == {Kind.THINK, Kind.ACTION}
    for segment in episode:
        cost = COST[Kind(int(segment.asked.kind))] if place == "outside" or segment.asked.kind == Kind.ACTION else 0.0
        assert segment.followed.reward.efficiency == -cost * len(segment.written)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind > Kind.OBSERVATION])
def test_every_kind_that_a_model_can_write_can_have_a_cost(kind):
    costs = TokenCost(**{kind.name.lower(): 2.0}).costs
    assert costs == {other: 2.0 * (other == kind) for other in Kind if other > Kind.OBSERVATION}


@pytest.mark.parametrize("kind", ["pad", "prompt", "observation", "thoughts"])
def test_a_cost_of_what_is_read_and_not_written_is_no_field(kind):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{kind}'"):
        TokenCost(**{kind: 1.0})


@pytest.mark.parametrize(
    ("layers", "kind", "written"),
    [
        ((Act(),), "think", "action"),
        ((Act(), Think(2)), "reflection", "action, think"),
        ((Act(), Attempts(2), Think(2)), "reflection", "action, think"),
        ((Act(), Attempts(2, tiny.NOTE)), "note", "action, reflection"),
        ((Act(), Remember(1, 1, 1, tiny.SYMBOLS)), "control", "action, note"),
    ],
)
def test_a_cost_of_what_nothing_within_asks_for_is_refused(layers, kind, written):
    with pytest.raises(ArlError, match=f"charges for {kind}, which nothing within it asks for; charge for {written}$"):
        tiny.make(tiny.make_walk(), *layers, TokenCost(**{kind: 1.0}))


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ({}, r"change nothing; give a kind of segment a cost, as in TokenCost\(think=0\.01\)"),
        ({"think": 0.0}, "change nothing; give a kind of segment a cost"),
        ({"think": -1.0}, r"TokenCost\.think is -1\.0, .* number >= 0"),
        ({"reflection": float("nan")}, r"TokenCost\.reflection is nan, .* number >= 0"),
    ],
)
def test_costs_that_cannot_be_are_refused(costs, words):
    with pytest.raises(ArlError, match=words):
        TokenCost(**costs)
