"""`ScaleRewards`, and the account of whole episodes: each component is earned once, whatever is written between two actions."""

import itertools
import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, text
from arl.agents import Act, Attempts, NoveltyBonus, Remember, ScaleRewards, Think, TokenCost, UseTools
from arl.envs import mastermind
from arl.task import Tool
from arl.training.config import Schedule, curriculum_at
from arl.types import ArlError, Kind, Reward
from tests import rewards_fixtures as rewards
from tests import tiny

PAID = [Reward(1.0, 2.0, 3.0, -4.0, 0.5), Reward(), Reward(outcome=-5.0)]
SCRIPT = rewards.scripted([0] * 4, rewards=PAID)


def scaled(curriculum=None, **options):
    _, turns = rewards.play(tiny.wrap(ScaleRewards(**options), SCRIPT), [1, 1, 1], curriculum)
    return [tuple(map(float, turn.reward)) for turn in turns[1:]]


def test_each_component_has_its_scale():
    found = scaled(outcome=2.0, process=0.0, exploration=0.5, efficiency=0.25)
    assert found == [(2.0, 0.0, 1.5, -1.0, 0.5), (0.0,) * 5, (-10.0, 0.0, 0.0, 0.0, 0.0)]


def test_what_is_not_named_is_not_scaled():
    assert scaled(process=2.0) == [(1.0, 4.0, 3.0, -4.0, 0.5), (0.0,) * 5, (-5.0, 0.0, 0.0, 0.0, 0.0)]


def test_scales_follow_their_schedules():
    """Under the layer's name, which the curriculum knows it by."""
    curriculum = curriculum_at({"pay.exploration": Schedule(1.0, 0.0), "pay.efficiency": Schedule(0.0, 1.0)}, 0.75)
    found = scaled(curriculum, process=2.0, scheduled=("exploration", "efficiency"), name="pay")
    assert found == [(1.0, 4.0, 0.75, -3.0, 0.5), (0.0,) * 5, (-5.0, 0.0, 0.0, 0.0, 0.0)]
    assert scaled({"scale_rewards": {"outcome": 0.5}}, scheduled=("outcome",))[0] == (0.5, 2.0, 3.0, -4.0, 0.5)


def test_the_layer_names_the_schedules_that_it_follows():
    assert ScaleRewards(process=2.0).schedules == ()
    assert ScaleRewards(scheduled=("process", "outcome")).schedules == ("scale_rewards.process", "scale_rewards.outcome")
    assert ScaleRewards(scheduled=("process",), name="pay").schedules == ("pay.process",)


def test_a_scale_that_nobody_schedules_is_refused():
    with pytest.raises(ArlError, match=r"nothing sets pay\.process; give LearnerConfig\.schedules\['pay\.process'\]"):
        scaled({"scale_rewards": {"process": 1.0}}, scheduled=("process",), name="pay")


@pytest.mark.parametrize("truncated", [False, True])
def test_nothing_but_the_reward_is_changed(truncated):
    script, curriculum = rewards.scripted([0] * 4, rewards=PAID, truncated=truncated), {"scale_rewards": {"process": jnp.float32(0.3)}}
    rewards.check_laws(lambda inner: tiny.wrap(ScaleRewards(outcome=0.7, scheduled=("process",)), inner), script, curriculum)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(), "leave ScaleRewards out"),
        (dict(outcome=1.0), "leave ScaleRewards out"),
        (dict(scheduled=("novelty",)), "outcome, process, exploration, efficiency, own"),
        (dict(scheduled="process"), r"set it to a tuple, such as \('process',\)"),
        (dict(process=0.5, scheduled=("process",)), "fixed and scheduled"),
        (dict(efficiency=-1.0), r"ScaleRewards\.efficiency is -1\.0, .* number >= 0"),
        (dict(outcome=float("inf")), r"ScaleRewards\.outcome is inf, .* number >= 0"),
        (dict(outcome=float("nan")), r"ScaleRewards\.outcome is nan, .* number >= 0"),
    ],
)
def test_scales_that_cannot_be_are_refused(options, words):
    with pytest.raises(ArlError, match=words):
        ScaleRewards(**options)


def test_a_scale_of_a_component_that_does_not_exist_is_no_field():
    with pytest.raises(TypeError, match="unexpected keyword argument 'success'"):
        ScaleRewards(success=1.0)


# ---------------------------------------------------------------- whole episodes

PEGS, COLORS, LIMIT = 2, 3, 4
CODES = list(itertools.product(range(COLORS), repeat=PEGS))
WORDS = [text.token_ids(tiny.TOKENIZER, "".join((" A", " B", " C")[color] for color in code)) for code in CODES]
GAME = envs.make_mastermind(tiny.TOKENIZER, PEGS, COLORS)
TOOL = Tool(" key", (), lambda key, state, arguments: text.encode(tiny.TOKENIZER, " yes"), 1)
KEY, GO_ON = text.token_ids(tiny.TOKENIZER, " key"), text.token_ids(tiny.TOKENIZER, " action")
PENALTY, TOOL_PENALTY, CALL_COST = 0.125, 0.0625, 0.03125
COSTS = {kind: 2.0**-index for index, kind in enumerate([Kind.THINK, Kind.ACTION, Kind.REFLECTION, Kind.NOTE, Kind.TOOL, Kind.CONTROL])}
SCALES = {"outcome": 0.5, "process": 2.0, "exploration": 4.0, "efficiency": 0.25, "own": 8.0}


class ActForBits(Act):
    """Bits are paid anew in each attempt, which begins with nothing known, as in the account; `Attempts` refuses that of `Act`."""

    one_time_reward = ""


def act(resets_context=False):
    return ActForBits(illegal_penalty=PENALTY, resets_context=resets_context, time_limit=LIMIT, information_bonus=1.0)


def notes(num_notes, every):
    return Remember(num_notes, 2, every, tiny.SYMBOLS)


TOOLS = UseTools((TOOL,), max_calls=2, call_cost=CALL_COST, illegal_penalty=TOOL_PENALTY, ask=" tool")
THINK = Think(2, tiny.SYMBOLS)
TWICE = Attempts(2, tiny.NOTE)
NEW = NoveltyBonus(1.0, num_buckets=2**16)  # so many that these few states do not meet


def cost(*kinds):
    """The costs of what is asked for within."""
    return TokenCost(**{kind.name.lower(): COSTS[kind] for kind in kinds})


ACT, REFLECT = Kind.ACTION, Kind.REFLECTION
COMPOSITIONS = {
    "attempts": (act(), TWICE, cost(ACT, REFLECT), NEW),
    "thoughts and tools in attempts": (act(), TOOLS, THINK, TWICE, NEW, cost(ACT, Kind.TOOL, Kind.THINK, REFLECT)),
    "notes on attempts": (act(resets_context=True), TWICE, notes(2, 3), cost(ACT, REFLECT, Kind.NOTE, Kind.CONTROL), NEW),
    "attempts with notes": (act(), THINK, notes(1, 2), TWICE, NEW, cost(ACT, Kind.THINK, Kind.NOTE, REFLECT)),
    "all": (act(), THINK, TOOLS, TWICE, NEW, notes(1, 5), cost(ACT, Kind.THINK, Kind.TOOL, REFLECT, Kind.NOTE)),
}


class Account:
    """An episode's rewards in plain Python, segment by segment, from the hidden code and what was written alone."""

    def __init__(self, code):
        self.code = code
        self.begin_attempt()
        self.seen, self.repeated = {frozenset(self.possible)}, 0

    def begin_attempt(self):
        self.possible, self.asked = set(CODES), set()

    def answer(self, guess, code):
        black = sum(a == b for a, b in zip(guess, code, strict=True))
        return black, sum(min(guess.count(color), code.count(color)) for color in range(COLORS)) - black

    def advance(self, kind, written):
        """Returns what a segment pays, as a namespace of the components."""
        pay = SimpleNamespace(outcome=0.0, process=0.0, exploration=0.0, efficiency=-COSTS[kind] * len(written), own=0.0)
        if kind == Kind.REFLECTION:
            self.begin_attempt()
        elif kind == Kind.TOOL and written == KEY:
            pay.efficiency -= CALL_COST
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
    agent = tiny.make(GAME, *COMPOSITIONS[name], ScaleRewards(**SCALES), information_gain=mastermind.information_gain)
    repeated, kinds = 0, set()
    for first, episode in rewards.live(agent, {}, range(6), write):
        account = Account(CODES[int(first.environment.code)])
        total, wanted = np.zeros(len(Reward._fields)), np.zeros(len(Reward._fields))
        for segment in episode:
            kind = Kind(int(segment.asked.kind))
            pay = account.advance(kind, segment.written)
            wanted += [getattr(pay, component) * SCALES[component] for component in Reward._fields]
            total += np.array(segment.followed.reward)
            np.testing.assert_allclose(total, wanted, atol=1e-4, err_msg=f"{name}: {kind.name}")
            kinds.add(kind)
        repeated += account.repeated
    assert repeated > 0 and kinds == set(agent.writes) and len(kinds) > 1
