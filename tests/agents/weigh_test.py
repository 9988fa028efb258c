"""`weigh`, and the account of whole lives: each component is earned once, whatever is written between two actions."""

import itertools
import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, text
from arl.agents.calls import Tool
from arl.agents.explore import explore
from arl.agents.price import price
from arl.agents.remember import remember
from arl.agents.use_tools import use_tools
from arl.agents.weigh import weigh
from arl.envs import mastermind
from arl.training.config import Schedule, setting_at
from arl.types import Kind, Reward
from tests import rewards_fixtures as rewards
from tests import tiny

PAID = [Reward(1.0, 2.0, 3.0, -4.0), Reward(), Reward(outcome=-5.0)]
SCRIPT = rewards.scripted([0] * 4, rewards=PAID)


def weighed(setting=None, **options):
    _, turns = rewards.play(weigh(SCRIPT, **options), [1, 1, 1], setting)
    return [tuple(map(float, turn.reward)) for turn in turns[1:]]


def test_each_component_has_its_weight():
    found = weighed(weights={"outcome": 2.0, "process": 0.0, "exploration": 0.5, "efficiency": 0.25})
    assert found == [(2.0, 0.0, 1.5, -1.0), (0.0,) * 4, (-10.0, 0.0, 0.0, 0.0)]


def test_what_is_not_named_keeps_its_weight():
    assert weighed(weights={"process": 2.0}) == [(1.0, 4.0, 3.0, -4.0), (0.0,) * 4, (-5.0, 0.0, 0.0, 0.0)]


def test_weights_follow_their_schedules():
    setting = setting_at({"pay.exploration": Schedule(1.0, 0.0), "pay.efficiency": Schedule(0.0, 1.0)}, 0.75)
    found = weighed(setting, weights={"process": 2.0}, scheduled=("exploration", "efficiency"), name="pay")
    assert found == [(1.0, 4.0, 0.75, -3.0), (0.0,) * 4, (-5.0, 0.0, 0.0, 0.0)]


@pytest.mark.parametrize("truncated", [False, True])
def test_nothing_else_is_changed(truncated):
    script, setting = rewards.scripted([0] * 4, rewards=PAID, truncated=truncated), {"reward": {"process": jnp.float32(0.3)}}
    rewards.check_laws(lambda inner: weigh(inner, {"outcome": 0.7}, scheduled=["process"]), script, setting)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(), "leave weigh"),
        (dict(weights={"success": 1.0}), "outcome, process, exploration, efficiency"),
        (dict(scheduled=("novelty",)), "outcome, process, exploration, efficiency"),
        (dict(scheduled="process"), "a tuple of components"),
        (dict(weights={"process": 1.0}, scheduled=("process",)), "fixed and scheduled"),
        (dict(weights={"efficiency": -1.0}), "number >= 0"),
        (dict(weights={"outcome": float("inf")}), "number >= 0"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        weigh(SCRIPT, **options)


# ---------------------------------------------------------------- whole lives

PEGS, COLORS, LIMIT = 2, 3, 4
CODES = list(itertools.product(range(COLORS), repeat=PEGS))
WORDS = [text.token_ids(tiny.TOKENIZER, "".join((" A", " B", " C")[color] for color in code)) for code in CODES]
GAME = envs.time_limit(envs.make_mastermind(tiny.TOKENIZER, PEGS, COLORS), LIMIT)
TOOL = Tool(" key", (), lambda key, state, arguments: text.encode(tiny.TOKENIZER, " yes"), 1)
KEY, GO_ON = text.token_ids(tiny.TOKENIZER, " key"), text.token_ids(tiny.TOKENIZER, " action")
PENALTY, TOOL_PENALTY, TOOL_PRICE = 0.125, 0.0625, 0.03125
PRICES = {kind: 2.0**-index for index, kind in enumerate([Kind.THINK, Kind.ACTION, Kind.REFLECTION, Kind.NOTE, Kind.TOOL, Kind.CONTROL])}
WEIGHTS = {"outcome": 0.5, "process": 2.0, "exploration": 4.0, "efficiency": 0.25}


def act(forgets=False):
    bits = lambda before, after: mastermind.bits(before.inner, after.inner)
    return agents.act(GAME, process=bits, illegal_penalty=PENALTY, forgets=forgets)


def tools(inner):
    return use_tools(inner, tiny.TOKENIZER, [TOOL], max_calls=2, price=TOOL_PRICE, illegal_penalty=TOOL_PENALTY)


def notes(inner, num_slots, every):
    return remember(inner, tiny.TOKENIZER, num_slots=num_slots, budget=2, every=every, symbols=tiny.SYMBOLS)


def think(inner):
    return tiny.think(inner, budget=2, symbols=list(tiny.SYMBOLS))


def new(inner):
    return explore(inner, scale=1.0, num_buckets=2**16)  # so many that these few states do not meet


def cost(inner):
    return price(inner, PRICES)


def twice(inner):
    return tiny.attempts(inner, 2, carry=tiny.NOTE)


COMPOSITIONS = {
    "attempts": lambda: new(cost(twice(act()))),
    "thoughts and tools in attempts": lambda: cost(new(twice(think(tools(act()))))),
    "notes on attempts": lambda: new(cost(notes(twice(act(forgets=True)), 2, 3))),
    "attempts with notes": lambda: cost(new(twice(notes(think(act()), 1, 2)))),
    "all": lambda: cost(notes(new(twice(tools(think(act())))), 1, 5)),
}


class Account:
    """A life's rewards in plain Python, segment by segment, from the hidden code and what was written alone."""

    def __init__(self, code):
        self.code = code
        self.begin()
        self.seen, self.repeated = {frozenset(self.possible)}, 0

    def begin(self):
        self.possible, self.asked = set(CODES), set()

    def answer(self, guess, code):
        black = sum(a == b for a, b in zip(guess, code, strict=True))
        return black, sum(min(guess.count(color), code.count(color)) for color in range(COLORS)) - black

    def advance(self, kind, written):
        """Returns what a segment pays, as a namespace of the four components."""
        pay = SimpleNamespace(outcome=0.0, process=0.0, exploration=0.0, efficiency=-PRICES[kind] * len(written))
        if kind == Kind.REFLECTION:
            self.begin()
        elif kind == Kind.TOOL and written == KEY:
            pay.efficiency -= TOOL_PRICE
        elif kind == Kind.TOOL and written != GO_ON:
            pay.process -= TOOL_PENALTY
        elif kind == Kind.ACTION:
            self.guess(pay, written)
        return pay

    def guess(self, pay, written):
        if written not in WORDS:
            pay.outcome, pay.process = -1.0, -PENALTY  # as dear as a question that tells nothing
            return
        guess, before = CODES[WORDS.index(written)], len(self.possible)
        self.possible = {code for code in self.possible if self.answer(guess, code) == self.answer(guess, self.code)}
        pay.outcome, pay.process = -1.0, math.log2(before / len(self.possible))
        pay.exploration = float(frozenset(self.possible) not in self.seen)
        self.repeated += guess in self.asked
        assert guess not in self.asked or (pay.process == 0 and pay.exploration == 0)
        self.seen.add(frozenset(self.possible)), self.asked.add(guess)


def write(draw, grammar, turn):
    """Guesses among few codes, so that questions are asked again."""
    if turn.kind == Kind.ACTION and draw.random() < 0.8:
        return draw.choice(WORDS[:4])
    return rewards.any_writing(draw, grammar, turn)


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_each_component_is_earned_once(name):
    """The account knows nothing of turns held back, of contexts or of ends; the same question again pays nothing."""
    agent = weigh(COMPOSITIONS[name](), WEIGHTS)
    repeated, kinds = 0, set()
    for first, life in rewards.live(agent, {}, range(6), write):
        account = Account(hidden_code(first))
        total, wanted = np.zeros(4), np.zeros(4)
        for segment in life:
            kind = Kind(int(segment.asked.kind))
            pay = account.advance(kind, segment.written)
            wanted += [getattr(pay, component) * WEIGHTS[component] for component in Reward._fields]
            total += np.array(segment.followed.reward)
            np.testing.assert_allclose(total, wanted, atol=1e-4, err_msg=f"{name}: {kind.name}")
            kinds.add(kind)
        repeated += account.repeated
    assert repeated > 0 and len(kinds) > 1


def hidden_code(state):
    while hasattr(state, "inner"):
        state = state.inner
    return CODES[int(state[0].inner.code)]
