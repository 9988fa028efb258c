"""`Plan`, alone and in random compositions, against its account in plain Python; a maze whose map has left the context."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, rollout, text
from arl.agents import Act, Attempts, History, Nothing, Plan, Remember
from arl.envs import BlindMaze
from arl.training import scoring
from arl.types import ArlError, Kind, Segment, Text
from tests import agents_fixtures as plain
from tests import tiny

ASK = plain.PlainPlan.ask


def act(steps=4, full=False, resets_context=False, **options):
    """Discounts and penalties that no other reward equals."""
    return "act", plain.make_riddle(steps, full), {"illegal_penalty": 0.125, "discount": 0.75, "resets_context": resets_context, **options}


def recipe(inner, *, budget=2, symbols=tiny.SYMBOLS, **options):
    return "plan", inner, dict(budget=budget, symbols=symbols, name="level 0", **options)


def live(composed, seeds=range(5), **options):
    return plain.live(composed, plain.build(composed), seeds, **options)


def pairs(episode):
    """Each turn with the one that follows its segment."""
    return zip(episode, episode[1:], strict=False)


# ---------------------------------------------------------------- what it does


@pytest.mark.parametrize(
    "order", ["think plan", "plan think", "attempts plan", "think plan attempts", "remember plan", "plan remember", "plan plan"]
)
def test_random_compositions_are_what_they_say(order):
    """Each text, budget, kind, reward, discount, attempt and reset of whole episodes, illegal texts among them."""
    composed = plain.random_notes(len(order), [order.split()])
    assert any(turn.kind == Kind.PLAN for episode in live(composed, range(3)) for turn in episode)


KINDS = {
    "before the first action": dict(),
    "once, later": dict(first=2),
    "every second turn": dict(first=1, every=2),
    "late, and then often": dict(first=3, every=1),
    "annealed": dict(every=1, annealed=True),
    "with an end": dict(every=2, stop=True, budget=3),
}


@pytest.mark.parametrize(("name", "resets_context"), [*((name, False) for name in KINDS), ("every second turn", True), ("annealed", True)])
def test_plans_are_made_when_they_should_be(name, resets_context):
    composed, lengths = recipe(act(5, resets_context=resets_context), **KINDS[name]), set()
    for episode in live(composed):
        kinds = [turn.kind for turn in episode[:-1]]
        due = list(range(KINDS[name].get("first", 0), kinds.count(Kind.ACTION), KINDS[name].get("every") or 99))
        wanted = [kind for index in range(kinds.count(Kind.ACTION)) for kind in [Kind.PLAN] * (index in due) + [Kind.ACTION]]
        assert kinds == wanted
        lengths |= {len(turn.written) for turn in episode[:-1] if turn.kind == Kind.PLAN}
    assert lengths == ({0, 1, 2, 3} if name == "with an end" else {2}) or (name == "with an end" and len(lengths) > 2)


def test_a_plan_alone_crosses_the_cut_and_the_text_of_its_turn_is_read_on_both_sides():
    seen = 0
    for episode in live(recipe(act(), first=1, every=2, stop=True)):
        for before, turn in pairs(episode):
            if before.kind == Kind.PLAN:
                assert before.read[-1:] == ASK and turn.reset_context and turn.read == ASK + before.written + before.read[:-1]
                assert (turn.kind, turn.reward, turn.discount) == (Kind.ACTION, 0, 1)
                seen += 1
            else:
                assert not turn.reset_context
    assert seen > 3


@pytest.mark.parametrize("inner", ["acts without a past", "attempts without a past"])
def test_a_plan_outlives_a_forgetting_within(inner):
    """Wherever the context begins anew, the last plan stands first, or its name, if there is none yet."""
    within = act(resets_context=True)
    if inner == "attempts without a past":
        within = ("attempts", act(2), {"num_attempts": 3, "memory": Nothing(), "discount": 0.5, "name": "level 1"})
    again = 0
    for episode in live(recipe(within, first=1, every=3, stop=True)):
        plan = []
        for before, turn in pairs(episode):
            plan = before.written if before.kind == Kind.PLAN else plan
            if turn.reset_context and not turn.terminated:
                assert turn.read[: 1 + len(plan)] == ASK + plan
                again += before.kind == Kind.ACTION and plan != []
    assert again > 0


def test_plans_change_neither_what_is_paid_nor_what_is_said():
    """The rewards of the episode without plans, each with the segment that earned it."""
    composed = recipe(act(), every=2)
    for seed, episode in enumerate(live(composed)):
        bare, key = plain.plain(composed[1]), jax.random.key(seed)
        turns = [bare.start(key)]
        for index, said in enumerate(episode[:-1]):
            key = jax.random.fold_in(key, index + 1)
            if said.kind == Kind.ACTION:
                turns.append(bare.advance(jax.random.split(key)[0], said.written, turns[-1].legal))
        paid = [(after.reward, after.discount) for before, after in pairs(episode) if before.kind == Kind.ACTION]
        assert paid == [(turn.reward, turn.discount) for turn in turns[1:]]
        assert sum(reward for reward, _ in paid) == sum(turn.reward for turn in episode)
        said = [turn for turn in episode if turn.kind == Kind.ACTION]
        assert all(a.read[len(a.read) - len(b.read) :] == b.read for a, b in zip(said, turns, strict=True) if not b.terminated)


def test_an_episode_that_has_ended_asks_for_no_plan():
    for inner, end in [(act(2), "terminated"), (act(5, time_limit=2), "truncated")]:
        episodes = live(recipe(inner, every=1), range(8))
        assert all(episode[-2].kind == episode[-1].kind == Kind.ACTION for episode in episodes)
        assert any(getattr(episode[-1], end) for episode in episodes)


def test_a_plan_belongs_to_the_attempt_that_it_begins():
    attempts = ("attempts", act(1), {"num_attempts": 3, "memory": History(), "discount": 0.5, "name": "level 1"})
    (episode, *_) = live(recipe(attempts, every=1), range(2))
    wanted = [(kind, attempt) for attempt in range(3) for kind in (Kind.PLAN, Kind.ACTION)]
    assert [(turn.kind, turn.attempt) for turn in episode[:6]] == wanted


@pytest.mark.parametrize(("keep", "share"), [(0.0, 1.0), (1.0, 0.0), (0.25, 0.75)])
def test_the_cut_follows_its_schedule_and_the_plan_is_read_all_the_same(keep, share):
    interaction = tiny.make(tiny.make_walk(), Act(), Plan(1, first=1, symbols=tiny.SYMBOLS, annealed=True, name="ahead"))
    curriculum = {"ahead": {"keep": jnp.float32(keep)}}

    def cut(key):
        state, turn = interaction.start(key, curriculum)
        for index, said in enumerate([tiny.WORDS[1], tiny.SYMBOLS[2]]):
            said = text.pad(text.encode(tiny.TOKENIZER, said), interaction.size.written)
            written = Segment(said, jnp.int32(1), jnp.bool_(True))
            state, turn = interaction.advance(jax.random.fold_in(key, index), curriculum, state, written)
        return turn.reset_context, turn.read

    found, read = jax.jit(jax.vmap(cut))(jax.random.split(jax.random.key(0), 2000))
    assert abs(float(found.mean()) - share) <= 4 * (share * (1 - share) / 2000) ** 0.5
    wanted = text.token_ids(tiny.TOKENIZER, " plan 2 higher paid reward:")
    assert np.asarray(read.ids)[:, : len(wanted)].tolist() == [wanted] * 2000 and set(np.asarray(read.length)) == {len(wanted)}
    assert interaction.layers[1].schedules == ("ahead.keep",) and Plan().schedules == ()


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("order", ["plan think", "attempts plan", "plan attempts", "plan remember", "plan plan"])
def test_bounds_of_random_compositions_are_true(order):
    """Texts as long as they can be, every budget used up, and no episode that ends early."""
    composed = plain.random_notes(1 + len(order), [order.split()], full=True)
    interaction = plain.build(composed)
    for episode in plain.live(composed, interaction, range(2), longest=True):
        plain.assert_fits(episode, interaction.size)


@pytest.mark.parametrize(("first", "every", "resets_context"), [(0, 0, False), (0, 2, False), (2, 1, False), (0, 2, True), (2, 1, True)])
def test_the_bound_of_an_episode_is_reached(first, every, resets_context):
    """But for what a plan that was never written would hold. A context is at most a plan and its question shorter than its bound."""
    composed = recipe(act(5, full=True, resets_context=resets_context), first=first, every=every)
    interaction = plain.build(composed)
    (episode,) = plain.live(composed, interaction, [0], longest=True)
    missing, has_plan = 0, False
    for before, turn in pairs(episode):
        has_plan |= before.kind == Kind.PLAN
        missing += 2 * (turn.reset_context and not has_plan)
    tokens, context = plain.extent(episode)
    size = interaction.size
    plain.assert_fits(episode, size)
    assert (tokens + missing, len(episode) - 1) == (size.episode, size.turns)
    assert sum(turn.reset_context for turn in episode[1:]) == size.context_resets
    asked = max(len(turn.read) + len(turn.written) for turn in episode if turn.kind == Kind.PLAN)
    assert size.context - context <= (0 if every and first <= every and not resets_context else asked)


def test_the_window_does_not_grow_with_the_episode():
    windows = {plain.build(recipe(act(steps), every=3)).size.context for steps in (8, 20, 200)}
    longest = plain.build(recipe(act(200), every=3, annealed=True)).size
    assert len(windows) == 1 and longest.context == longest.episode > 10 * max(windows)


def test_a_long_first_text_is_planned_from_and_counted_once():
    """Of an environment whose later texts are short; an illegal text is answered by the end of the first."""
    for full in (False, True):
        inner = ("act", plain.make_riddle(4, full, answer_capacity=3), {"illegal_penalty": 0.125, "resets_context": False})
        composed = recipe(inner, first=1)
        interaction = plain.build(composed)
        for episode in plain.live(composed, interaction, range(4), longest=full):
            plain.assert_fits(episode, interaction.size)
    bare, every_text_long = plain.build(inner).size, plain.build(("act", plain.make_riddle(4), inner[2])).size
    assert every_text_long.episode - bare.episode == 4 * (5 - 3)
    assert interaction.size.episode - bare.episode == bare.read + 2 * (1 + 2), "a plan, its question, both again, and the text between"
    assert plain.extent(episode)[0] == interaction.size.episode - (bare.read - 3), "that text is a later one"


# ---------------------------------------------------------------- a maze whose map has left the context

MAZE = BlindMaze(3, 4, max_moves=6)
FAR = 16  # an episode that begins four moves from the goal


def walker(*layers):
    return agents.make_agent(MAZE.make(tiny.TOKENIZER), (Act(), *layers))


def encode(string):
    return text.token_ids(tiny.TOKENIZER, string)


def follow_the_plan(context, kind, legal):
    """Reads nothing but its live context; writes a plan that leads nowhere, and takes the step of the plan that it reads."""
    said = tiny.TOKENIZER.decode(context)
    if kind == Kind.PLAN:
        return encode(" 0" * 4)
    if legal[4]:
        return encode(" start")
    assert "Map" not in said and "goal" not in said
    plan, *walked = re.fullmatch(r" plan((?: \d+)*) (.*)", said).groups()
    cells, at = [int(cell) for cell in plan.split()], [int(cell) for cell in re.findall(r"at (\d+):", walked[0])]
    ahead = cells[len(at) - 1] if len(at) <= len(cells) else at[-1]
    return encode({-1: " left", 3: " down", 1: " right", -3: " up"}.get(ahead - at[-1], " left"))


def test_who_hears_the_experts_plan_walks_blind_and_arrives():
    """Whatever it has written itself."""
    interaction = walker(Plan(4, first=1))
    found = plain.walk(agents.replace_by_expert(interaction, Kind.PLAN), follow_the_plan, range(20))
    assert all(paid == 1.0 and longest <= interaction.size.context for paid, longest, _ in found)


def test_who_hears_another_plan_goes_its_way_and_who_hears_none_nowhere():
    """The plan of the first episode, or a blank one, of which only the name is read; in that episode it is the right one."""
    interaction = walker(Plan(4, first=1))
    state, _ = interaction.start(jax.random.key(FAR), {})
    plan = interaction.experts[Kind.PLAN](jax.random.key(0), state, jnp.int32(0))
    others = Text(jnp.stack([plan.ids, plan.ids])[:, None], jnp.stack([jnp.int32(0), plan.length])[:, None])
    found = plain.walk(agents.replace_segments(interaction, Kind.PLAN, others), follow_the_plan, range(FAR, FAR + 12))
    heard = [re.match(r" plan((?: \d+)*) at", tiny.TOKENIZER.decode(context)).group(1) for _, _, context in found]
    assert set(heard) == {"", tiny.TOKENIZER.decode(plain.ids(plan))} and sum(paid for paid, _, _ in found) < 6
    assert heard[0] and found[0][0] == 1.0


@pytest.mark.parametrize(
    "layers",
    [
        (Plan(2, first=1, every=2),),
        (Plan(9, stop=True),),
        (Plan(3, first=1), Attempts(2)),
    ],
    ids=str,
)
def test_an_expert_walks_as_it_has_planned(layers):
    """And cuts its plan to the budget."""
    interaction, num_plans = walker(*layers), 0
    budget = next(layer.budget for layer in layers if isinstance(layer, Plan))
    assert interaction.has_expert and Kind.PLAN in interaction.writes
    experts = {kind: jax.jit(expert) for kind, expert in interaction.experts.items()}
    advance, parse = jax.jit(interaction.advance), jax.jit(functools.partial(text.parse, interaction.grammar))
    state, turn = interaction.start(jax.random.key(FAR), {})
    planned, walked, paid, num_walked = [], [], 0.0, 0
    while not turn.terminated:
        said = experts[Kind(int(turn.kind))](jax.random.key(0), state, jnp.int32(0))
        if turn.kind == Kind.PLAN:
            planned, walked, num_plans = [int(cell) for cell in tiny.TOKENIZER.decode(plain.ids(said)).split()], [], num_plans + 1
            assert len(planned) == min(budget, MAZE.longest)
        choice, is_legal = parse(turn.grammar_state, said)
        written, is_move = Segment(text.cut(said, interaction.size.written), choice, is_legal), turn.kind == Kind.ACTION and choice < 4
        attempt = int(turn.attempt)
        state, turn = advance(jax.random.key(0), {}, state, written)
        walked += [int(state.environment.cell)] if is_move and turn.attempt == attempt else []
        num_walked += is_move
        assert walked[: len(planned)] == planned[: len(walked)]
        paid += float(turn.reward.outcome)
    assert paid == (2.0 if len(layers) == 2 and isinstance(layers[1], Attempts) else 1.0) and num_plans > 0 and num_walked == 4 * paid


@pytest.mark.parametrize(("stop", "wanted"), [(True, []), (False, [" 0", " 0"])])
def test_an_expert_without_a_plan_writes_the_shortest(stop, wanted):
    interaction = tiny.guess(Plan(2, symbols=tiny.SYMBOLS, stop=stop))
    state, turn = interaction.start(jax.random.key(0), {})
    assert turn.kind == Kind.PLAN and interaction.has_expert
    said = plain.ids(interaction.experts[Kind.PLAN](jax.random.key(0), state, jnp.int32(0)))
    assert said == [token for word in wanted for token in encode(word)]


# ---------------------------------------------------------------- rolled out


def rolled(interaction, shape, curriculum, lane_keys, task_keys):
    rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))
    params = tiny.params()
    lanes = rollout.start_lanes(interaction, curriculum, shape, lane_keys, task_keys)
    roll = jax.jit(lambda lanes: rollout.roll_out(interaction, tiny.model(), shape, params, curriculum, lanes)[1])
    return jax.tree.map(np.asarray, roll(lanes))


def test_trajectories_are_those_of_the_plain_account():
    """And the learner, which reads each context anew, gives the probabilities that the sampler gave."""
    composed = recipe(act(5), first=1, every=2, stop=True)
    interaction, keys = plain.build(composed), tiny.keys(4)
    shape = tiny.config(interaction, trajectory_length=2 * interaction.size.episode + 1, restarts=True)
    trajectory = rolled(interaction, shape, plain.CURRICULUM, *keys)
    assert plain.longest_context(trajectory) <= interaction.size.context < interaction.size.episode
    score = jax.jit(lambda trajectory: scoring.score(tiny.model(), interaction.grammar, tiny.params(), trajectory, 1.0)[0])
    scored = np.asarray(score(jax.tree.map(jnp.asarray, trajectory)))
    np.testing.assert_allclose(scored[trajectory.is_sampled], trajectory.log_prob[trajectory.is_sampled], atol=1e-4)
    assert np.abs(scored[trajectory.is_sampled & (trajectory.kind == Kind.PLAN)]).max() > 0.1
    assert (trajectory.kind[:4] == Kind.PLAN).any(axis=1).all()
    for lane in range(4):
        plain.assert_retold(composed, trajectory, lane, keys)


def test_after_the_plan_the_map_has_left_the_context():
    """Each token after it is sampled from a context that begins with the plan; the plan itself from one that begins with the map."""
    interaction, keys = walker(Plan(4, first=1)), tiny.keys(6)
    trajectory = rolled(interaction, tiny.config(interaction), {}, *keys)
    assert plain.longest_context(trajectory) <= interaction.size.context
    (first,) = encode("Map")
    for lane in range(6):
        slots = jax.tree.map(lambda x, lane=lane: x[lane], trajectory)
        plan = slots.sampled[slots.is_sampled & (slots.kind == Kind.PLAN)].tolist()
        assert len(plan) == 4 and slots.ends_episode.sum() == 1
        cut = int(np.flatnonzero(slots.kind == Kind.PLAN).max()) + 1
        assert slots.token[cut : cut + 5].tolist() == ASK + plan and (slots.token == first).sum() == 1
        moves = np.flatnonzero(slots.is_sampled & (np.arange(len(slots.token)) >= cut))
        assert len(moves) and (slots.context_start[moves] == cut).all()
        before = np.flatnonzero(slots.is_sampled & (np.arange(len(slots.token)) < cut))
        assert (slots.context_start[before] == 0).all() and slots.token[0] == first


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(budget=0), "Plan.budget >= 1"),
        (dict(budget=1.5), r"Plan\.budget is 1\.5; set it to a whole number"),
        (dict(first=-1), "Plan.first is -1; set it to at least 0 and below 3"),
        (dict(first=3), "Plan.first is 3; set it to at least 0 and below 3"),
        (dict(first=True), "Plan.first is True; set it to a whole number"),
        (dict(every=-1), "Plan.every is -1; set it to 0 for a single plan"),
        (dict(every=0.5), r"Plan\.every is 0\.5; set it to a whole number"),
        (dict(ask=""), "Plan.ask is empty"),
        (dict(symbols=("not one token",)), "must be one token"),
        (dict(symbols="all"), "set it to 'task', 'any', or a tuple"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ArlError, match=words) as error:
        tiny.make(tiny.make_walk(), Act(), Plan(**options))
    assert "\n" not in str(error.value)


def test_a_history_over_plans_is_refused():
    with pytest.raises(ArlError, match="set Attempts.memory to a Window or a Reflection"):
        tiny.make(tiny.make_walk(), Act(), Plan(), Attempts(2, History()))


def test_a_plan_and_notes_are_of_two_kinds():
    interaction = tiny.make(tiny.make_walk(), Act(), Plan(2), Remember(1, 3, 2))
    assert interaction.writes == (Kind.ACTION, Kind.PLAN, Kind.NOTE)
    assert interaction.layers[1].budgets == {Kind.PLAN: ("Plan.budget", 2)}
