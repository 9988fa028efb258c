"""`Menu`: every turn against an account in plain Python, bounds of its size, its expert, and what is refused."""

import functools
import itertools

import jax
import jax.numpy as jnp
import pytest

from arl import agents, envs, text
from arl.agents import Act, Attempts, Menu, Nothing, Plan, Reflection, Remember, Think, TokenCost, UseTools
from arl.task import Tool
from arl.types import ArlError, Kind, Segment
from tests import agents_fixtures as plain
from tests import tiny

ACT, ASK = text.token_ids(tiny.TOKENIZER, " action"), text.token_ids(tiny.TOKENIZER, " next")
THINK = Think(2, tiny.SYMBOLS, before=" think", after=" so")
ONE = Think(1, tiny.SYMBOLS, stop=False, after="")
PLAN = Plan(2, symbols=tiny.SYMBOLS, stop=True)
NOTE = Remember(budget=1, every=0, symbols=tiny.SYMBOLS)
PAIR = text.template(tiny.TOKENIZER, " is {number} right", number=text.number(0, 3))
KEY = Tool(" key", ((" 0", " 1"),), lambda key, state, n: PAIR(number=(state.secret + n[0]) % 4), PAIR.capacity)
CALL = UseTools((KEY,), 2, call_cost=0.25, illegal_penalty=0.5, ask=" hint")


def recipe(*moves, inner=None, budget=3, full=False, resets_context=False, steps=3, ask="", name=""):
    inner = inner or ("act", plain.make_riddle(steps, full), {"illegal_penalty": 0.125, "resets_context": resets_context, "discount": 0.75})
    return "menu", inner, {"moves": moves, "budget": budget, "ask": ask, "name": name}


def live(composed, seeds=range(6), **options):
    return plain.live(composed, plain.build(composed), seeds, **options)


MENUS = {
    "think": (THINK,),
    "one token": (ONE,),
    "tools": (CALL,),
    "plan": (PLAN,),
    "all": (ONE, CALL, PLAN, NOTE),
}


@pytest.mark.parametrize(("resets_context", "ask"), [(False, ""), (True, " next")])
@pytest.mark.parametrize("name", MENUS)
def test_every_turn_is_what_was_chosen(name, ask, resets_context):
    """Each text, budget, kind, reward, discount and reset of whole episodes, with illegal choices and calls among them."""
    seen, counts = set(), set()
    for episode in live(recipe(*MENUS[name], ask=ask, resets_context=resets_context)):
        num_moves, read = 0, []
        for turn, after in itertools.pairwise(episode):
            read = turn.read if turn.reset_context else read + turn.read
            if turn.kind == Kind.ACTION:
                assert read[-1:] == ACT, "an action always follows the same word"
                counts.add(num_moves)
                num_moves = 0
            num_moves += turn.kind not in (Kind.ACTION, Kind.CONTROL)
            assert (turn.kind == Kind.CONTROL) <= (after.kind == Kind.ACTION or after.kind in {k for m in MENUS[name] for k in m.writes})
            seen.add(turn.kind)
            read = read + turn.written
    assert seen == {Kind.CONTROL, Kind.ACTION, *(kind for move in MENUS[name] for kind in move.writes)}
    assert counts == set(range(1 + {"plan": 1, "tools": 2}.get(name, 3)))


@pytest.mark.parametrize("order", ["attempts outside", "attempts within", "thoughts outside", "menu outside", "plan outside"])
def test_a_menu_composes_with_other_layers(order):
    """What it keeps is read again where a layer within resets the context, and its choices follow an outer layer's thoughts."""
    moves, attempts = (ONE, PLAN), {"num_attempts": 2, "memory": Reflection(1, tiny.SYMBOLS), "discount": 0.5, "name": "level 0"}
    act = ("act", plain.make_riddle(2), {"illegal_penalty": 0.125, "resets_context": False})
    composed = {
        "attempts outside": ("attempts", recipe(*moves, budget=2, steps=2), attempts),
        "attempts within": recipe(*moves, budget=2, inner=("attempts", act, {**attempts, "memory": Nothing()})),
        "thoughts outside": ("think", recipe(*moves, budget=1, steps=2), {"budget": 1, "symbols": tiny.SYMBOLS, "stop": True}),
        "menu outside": recipe(ONE, budget=1, inner=recipe(PLAN, budget=2, steps=2), name="outer"),
        "plan outside": ("plan", recipe(*moves, budget=2), {"budget": 1, "every": 2, "symbols": tiny.SYMBOLS, "name": "level 0"}),
    }[order]
    episodes = live(composed, range(5))
    assert {Kind.CONTROL, Kind.PLAN} <= {turn.kind for episode in episodes for turn in episode}


@pytest.mark.parametrize("resets_context", [False, True])
@pytest.mark.parametrize("name", MENUS)
def test_bounds_of_the_size_are_true(name, resets_context, monkeypatch):
    """Every move is made as often as it can be, and every text is as long as it can be."""
    monkeypatch.setattr(plain, "any_writing", write_longest)
    composed = recipe(*MENUS[name], ask=" next", full=True, resets_context=resets_context)
    interaction = plain.build(composed)
    for episode in plain.live(composed, interaction, range(2)):
        plain.assert_fits(episode, interaction.size)
        if name in ("think", "one token") and not resets_context:
            assert plain.extent(episode) == (interaction.size.episode, interaction.size.context)
            assert len(episode) - 1 == interaction.size.turns


def write_longest(draw, turn):
    if turn.kind == Kind.CONTROL:
        return draw.choice([said for said in turn.legal if said != ACT] or [ACT])
    if turn.legal and turn.kind == Kind.TOOL:
        return max(turn.legal, key=len)
    return [draw.choice(turn.symbols or plain.CANDIDATES) for _ in range(turn.budget)]


def test_rewards_are_those_of_the_episode_without_a_menu():
    """The same actions under the same keys earn the same, each once."""
    composed = recipe(ONE, PLAN)
    for seed, episode in enumerate(live(composed)):
        bare, key = plain.plain(composed[1]), jax.random.key(seed)
        turn, earned = bare.start(key), 0.0
        for index, said in enumerate(episode[:-1]):
            key = jax.random.fold_in(key, index + 1)
            if said.kind == Kind.ACTION:
                turn = bare.advance(key, said.written, turn.legal)
                earned += turn.reward
        assert earned == sum(turn.reward for turn in episode)


# ---------------------------------------------------------------- the expert


def expert_episode(interaction, seed):
    """Kinds and strings of what an expert writes, what it earns, and the state after it."""
    experts = {kind: jax.jit(expert) for kind, expert in interaction.experts.items()}
    advance, parse = jax.jit(interaction.advance), jax.jit(functools.partial(text.parse, interaction.grammar))
    state, turn = interaction.start(jax.random.key(seed), {})
    said, paid = [], 0.0
    while not (turn.terminated or turn.truncated):
        writing = experts[Kind(int(turn.kind))](jax.random.key(0), state, jnp.int32(0))
        choice, is_legal = parse(turn.grammar_state, writing)
        assert is_legal and turn.legal[choice]
        said.append((Kind(int(turn.kind)), text.to_string(tiny.TOKENIZER, writing)))
        state, turn = advance(jax.random.key(1), {}, state, Segment(text.cut(writing, interaction.size.written), choice, is_legal))
        paid += float(turn.reward.outcome)
    return said, paid, state


@pytest.mark.parametrize("budget", [1, 2])
def test_an_expert_thinks_while_there_is_something_to_think_and_then_acts(budget):
    """Part by part, as much as a thought holds."""
    task = envs.PointerChase(6, 3).make(tiny.TOKENIZER)
    interaction = agents.make_agent(task, (Act(), Menu((Think(budget, "task", after=""),), 4), TokenCost(think=0.01)))
    lengths = set()
    for seed in range(6):
        said, paid, state = expert_episode(interaction, seed)
        hops = int(state.environment.hops)
        thoughts = [written for kind, written in said if kind == Kind.THINK]
        whole = task.experts(task.limits)[Kind.THINK](jax.random.key(0), state.environment, jnp.int32(0))
        assert paid == 1.0 and "".join(thoughts) == text.to_string(tiny.TOKENIZER, whole) and len(thoughts) == -(-hops // budget)
        assert [written for kind, written in said if kind == Kind.CONTROL] == [" think"] * len(thoughts) + [" action"]
        lengths.add(hops)
    assert len(lengths) > 1


def test_an_expert_calls_as_often_as_it_must_and_plans_once():
    ledger = agents.make_agent(envs.Ledger(12, 2).make(tiny.TOKENIZER), (Act(), Menu((ONE, UseTools(("table",), 3)), 5)))
    said, paid, _ = expert_episode(ledger, 0)
    assert [kind for kind, _ in said] == [Kind.CONTROL, Kind.TOOL] * 2 + [Kind.CONTROL, Kind.ACTION] and paid == 1.0
    maze = agents.make_agent(envs.BlindMaze(3, 3).make(tiny.TOKENIZER), (Act(), Menu((Plan(3),), 2)))
    said, paid, _ = expert_episode(maze, 1)
    kinds = [kind for kind, _ in said]
    assert kinds.count(Kind.PLAN) == 1 and kinds[1] == Kind.PLAN and paid == 1.0
    assert kinds.count(Kind.CONTROL) == kinds.count(Kind.ACTION) + 1


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Menu(()), r"Menu.moves is \(\), which offers nothing; give a tuple of layers"),
        (lambda: Menu((ONE,), 0), "Menu.budget is 0, and no move can be made; set it >= 1"),
        (lambda: Menu((ONE,), 1.5), "Menu.budget is 1.5; set it to a whole number"),
        (lambda: Menu((ONE,), act=""), "Menu.act is empty, and the agent could never act; set it to a word"),
        (lambda: tiny.guess(Menu((Attempts(2),))), "which is no move; give layers such as Think, UseTools, Plan and Remember"),
        (lambda: tiny.guess(Menu(("think",))), r"Menu.moves is \('think',\)"),
        (lambda: tiny.guess(Menu((ONE, THINK))), "Menu.moves has ' think' and ' think' for one kind of move; leave one of them out"),
        (lambda: tiny.guess(Menu((Think(1, before=""),))), "a move of Menu that writes THINK has no word that names it"),
        (lambda: tiny.guess(Menu((Think(1, precedes="plan"),))), "Think.precedes is 'plan', and a menu stands before actions"),
        (lambda: tiny.guess(Menu((Plan(1, every=2),))), "the agent decides when it writes a plan; set Plan.every=0"),
        (lambda: tiny.guess(Menu((Remember(),))), "the agent decides when it writes a note; set Remember.every=0"),
    ],
)
def test_a_menu_that_is_of_no_use_is_refused(make, words):
    with pytest.raises(ArlError, match=words):
        make()
