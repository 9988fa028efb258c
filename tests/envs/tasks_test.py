"""The tasks of all environments: their bounds under limits, experts, tools, notes and hidden variables; and the limits themselves."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, text
from arl.agents import Act, Attempts, NoveltyBonus, Reflection, Remember, ScaleRewards, Think, TokenCost, UseTools
from arl.envs import bandit, combination_lock, frozen_lake, hidden_lake, lake_maps, mastermind, minesweeper, number_guess
from arl.task import Limits, Task
from arl.types import ArlError, Kind, Segment
from tests import tiny
from tests.second_tokenizer import second_tokenizer, third_tokenizer

CONFIGS = {name: getattr(envs, name) for name in envs.__all__ if hasattr(getattr(envs, name), "make")}
SEARCHES = ("Mastermind", "TwentyQuestions")
SHIFTING = ("ShiftingControls", "RestlessBandit")


def make(config, *layers):
    """An agent in the task of a config."""
    return agents.make_agent(config.make(tiny.TOKENIZER), layers)


def bounds(config, num_attempts=1, **limits):
    return config.make(tiny.TOKENIZER).bounds(Limits(num_attempts=num_attempts, **limits))


def play(interaction, seed=3, expert_key=lambda turn: jax.random.key(0)):
    """An episode of experts: yields each turn with the state and the text that answers it, and at last the turn that ends it with None."""
    experts = {kind: jax.jit(expert) for kind, expert in interaction.experts.items()}
    advance, parse = jax.jit(interaction.advance), jax.jit(functools.partial(text.parse, interaction.grammar))
    state, turn = interaction.start(jax.random.key(seed), {})
    while not (turn.terminated | turn.truncated):
        said = experts[Kind(int(turn.kind))](expert_key(turn), state, jnp.int32(0))
        choice, is_legal = parse(turn.grammar_state, said)
        assert is_legal
        yield turn, state, said
        written = Segment(text.pad(said, interaction.size.written), choice, is_legal)
        state, turn = advance(jax.random.key(1), {}, state, written)
    yield turn, state, None


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("name", CONFIGS)
def test_every_task_has_a_way_to_go_and_symbols_of_one_token(name):
    assert len(CONFIGS) == 15 and dataclasses.is_dataclass(CONFIGS[name]) and CONFIGS[name].__dataclass_params__.frozen
    task = CONFIGS[name]().make(tiny.TOKENIZER)
    layers = (Act(time_limit=12 if name in ("FrozenLake", *SEARCHES) else 0), Attempts(1 if name in SHIFTING else 2))
    found = task.bounds(agents.limits_of(layers))
    assert math.isfinite(found.random) and math.isfinite(found.optimal) and found.random < found.optimal
    assert found.optimal_is == ("filter" if name == "ShiftingControls" else "exact")
    assert task.note_symbols and all(len(text.token_ids(tiny.TOKENIZER, symbol)) == 1 for symbol in task.note_symbols)
    interaction = agents.make_agent(task, layers)
    assert interaction.size.turns and interaction.has_expert and task.environment.state_hash
    assert (task.shifts is not None) == (name in SHIFTING) and (task.information_gain is not None) == (name in SEARCHES)
    assert (task.posterior is not None) == (name in ("NumberGuess", "Witnesses")) and (task.solution is not None) == (name == "Witnesses")
    assert (task.hidden is not None) == (name in ("NumberGuess", "CombinationLock", "Mastermind", "Corridor", "Minesweeper"))


@pytest.mark.parametrize("cost", [0.0, 0.125])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_success_lies_between_the_worst_attempt_and_the_best(name, cost):
    """An attempt, which an outcome of 1 ends, or which costs 1 for every question."""
    config, limit = CONFIGS[name](), 12 if name in ("FrozenLake", *SEARCHES) else 0
    if name in ("BlindMaze", "FrozenLake", "Minesweeper") and cost:
        with pytest.raises(ArlError, match="set Act.step_cost" + (" below" if name == "BlindMaze" else "=0")):
            bounds(config, time_limit=limit, step_cost=cost)
        return
    found = bounds(config, 1 if name in SHIFTING else 2, time_limit=limit, step_cost=cost)
    if name in ("Bandit", *SHIFTING):
        assert found.success_at is None
    elif name in SEARCHES:
        assert -12 * (1 + cost) < found.success_at < -(1 + cost)
    else:
        num_steps = {
            "NumberGuess": 1,
            "CombinationLock": 2,
            "Corridor": 9,
            "Arithmetic": 4,
            "Ledger": 1,
            "PointerChase": 1,
            "Witnesses": 1,
        }.get(name, 0)
        assert -cost * num_steps < found.success_at < 1 - cost * num_steps


@pytest.mark.parametrize(
    ("config", "num_attempts"),
    [
        (envs.NumberGuess(8), 3),
        (envs.CombinationLock(), 3),
        (envs.BlindMaze(), 1),
        (envs.Corridor(num_cues=4), 1),
        (envs.Arithmetic(), 1),
        (envs.Ledger(), 1),
    ],
)
def test_a_success_is_more_than_chance_and_can_be_reached(config, num_attempts):
    found = bounds(config, num_attempts)
    assert found.random < found.success_at < found.optimal


def test_several_attempts_are_compared_with_one_who_remembers_all():
    cost = 1.5
    guesses = bounds(envs.NumberGuess(8, one_guess=False), 3, time_limit=9, step_cost=0.5)
    assert guesses.optimal == pytest.approx(-cost * (number_guess.optimal_num_guesses(8, 9) + 2))
    assert guesses.random == pytest.approx(-cost * 3 * number_guess.random_num_guesses(8, 9))
    assert bounds(envs.Mastermind(), time_limit=8).optimal == -mastermind.optimal_num_guesses(2, 4, 8)
    assert bounds(envs.Bandit(2, 4), 2).optimal == bandit.optimal_return(2, 8)
    lock = bounds(envs.CombinationLock(2, 3), 3, step_cost=0.125)
    assert lock.optimal == pytest.approx(combination_lock.optimal_successes(2, 3, 3) - 6 * 0.125)


def summed(rewards):
    """Their sum as a rollout adds it up, in float32."""
    return functools.reduce(np.add, np.asarray(rewards, np.float32), np.float32(0.0))


@pytest.mark.parametrize("num_attempts", [2, 3])
@pytest.mark.parametrize(
    ("config", "num_steps"),
    [
        (envs.Corridor(), 9),
        (envs.Arithmetic(), 4),
        (envs.CombinationLock(), 2),
        (envs.Ledger(), 1),
        (envs.NumberGuess(), 1),
        (envs.Witnesses(), 1),
    ],
)
def test_a_success_is_told_from_a_failure_whatever_a_step_costs(config, num_steps, num_attempts):
    """The last step is paid 1 or nothing; sums of float32 costs are not what they are on paper."""
    found = bounds(config, num_attempts, step_cost=0.1)
    costs = np.full(num_steps, -0.1)
    paid = np.eye(num_steps)[-1]
    assert summed(costs) < found.success_at - 0.4 and summed(costs + paid) > found.success_at + 0.4


@pytest.mark.parametrize(("size", "num_mines"), [(3, 2), (4, 4), (6, 5)])
def test_only_a_whole_board_is_a_success(size, num_mines):
    """Rewards of the cells do not add up to exactly 1 in float32."""
    num_safe = size**2 - num_mines
    success_at = bounds(envs.Minesweeper(size, num_mines), 3).success_at
    cell = np.float32(1.0) / np.float32(num_safe)
    assert summed([cell] * (num_safe - 1)) < success_at < summed([cell] * num_safe)


def test_a_question_too_many_is_no_success():
    found = bounds(envs.Mastermind(), 2, time_limit=8, step_cost=0.1)
    assert summed([-1.1] * 8) < found.success_at < summed([-1.1] * 7)


def test_what_an_expert_of_the_lock_reaches_is_the_optimum():
    codes = [(i, j) for i in range(3) for j in range(3)]
    for num_attempts in (3, 4):
        reached = np.mean([num_attempts - max(code) for code in codes])
        assert reached == pytest.approx(combination_lock.optimal_successes(2, 3, num_attempts))


@pytest.mark.parametrize("num_random_maps", [0, 3])
def test_the_rows_of_a_lake_are_given_with_strokes_between_them(num_random_maps):
    """Two moves lead to the goal: within three, an agent that knows the way never fails."""
    lake = envs.FrozenLake("SF/FG", is_slippery=False, num_random_maps=num_random_maps)
    found = bounds(lake, time_limit=3)
    assert found.optimal == 1.0 > found.random > 0.0
    assert make(lake, Act(time_limit=3)).size.turns == 3


def test_more_pulls_than_are_solved_are_compared_with_one_who_knows_the_arms():
    found = bounds(envs.Bandit(2, 40), 2)
    assert found.optimal == bandit.informed_return(2, 80) and found.optimal_is == "bound"


@pytest.mark.parametrize(
    ("config", "limits", "words"),
    [
        (envs.FrozenLake(), {}, "set Act.time_limit >= 1"),
        (envs.Corridor(), {"time_limit": 8}, "has 9 actions; set Act.time_limit=0, or at least 9"),
        (envs.Minesweeper(), {"time_limit": 5}, "set Act.step_cost=0 and Act.time_limit=0"),
        (envs.ShiftingControls(), {"num_attempts": 2}, "set Attempts.num_attempts=1"),
        (envs.RestlessBandit(), {"num_attempts": 2}, "set Attempts.num_attempts=1"),
    ],
)
def test_bounds_that_nobody_knows_are_refused(config, limits, words):
    with pytest.raises(ArlError, match=words):
        bounds(config, **limits)


def test_in_one_attempt_at_a_lock_nothing_can_be_learned():
    """The binaries refuse it (`experiments.build`)."""
    found = bounds(envs.CombinationLock())
    assert found.random == found.optimal


# ---------------------------------------------------------------- experts


def expert_episode(interaction):
    """What an expert earns in an episode, and the answers of tools that it read."""
    paid, calls = 0.0, 0
    for index, (turn, _, said) in enumerate(play(interaction)):
        paid += float(sum(turn.reward)) if index else 0.0
        calls += said is not None and " is " in text.to_string(tiny.TOKENIZER, turn.read)
    return paid, calls


@pytest.mark.parametrize(
    ("config", "tools"),
    [(envs.Arithmetic(1), ("calculator",)), (envs.Ledger(12, 2), ("table",)), (envs.Ledger(12, 2), ("table", "imagine"))],
)
def test_an_expert_with_its_tools_is_right(config, tools):
    paid, calls = expert_episode(make(config, Act(), UseTools(tools, 2)))
    assert paid == 1.0 and calls == (2 if isinstance(config, envs.Ledger) else 1)


def test_an_expert_with_a_memory_finds_the_door():
    interaction = make(envs.Corridor(), Act(), Remember(1, 1, 4))
    assert interaction.size.context < 5 * 8 and expert_episode(interaction)[0] == 1.0


def episode_with_notes(config, seed, budget, time_limit=0):
    """What an expert earns in three attempts with reflections, the environment's state before each of them, and the reflections."""
    interaction = make(config, Act(time_limit=time_limit), Attempts(3, Reflection(budget)))
    assert interaction.has_expert
    outcome, before, notes = 0.0, [], []
    keys = lambda turn: jax.random.fold_in(jax.random.key(seed), turn.attempt)
    for index, (turn, state, said) in enumerate(play(interaction, seed, keys)):
        outcome += float(turn.reward.outcome) if index else 0.0
        if said is not None and turn.kind == Kind.REFLECTION:
            before.append(state.environment)
            notes.append(text.to_string(tiny.TOKENIZER, said))
    return outcome, before, notes


def test_an_expert_notes_down_the_code_to_enter_next():
    """And enters it: it tries 0, then 1, then 2 in every place until that is right, as well as can be done."""
    for seed in range(4):
        outcome, before, notes = episode_with_notes(envs.CombinationLock(2, 3), seed, 2)
        for at, note in zip(before, notes, strict=True):
            wanted = [int(x if x == code else (x + 1) % 3) for x, code in zip(at.entered, at.code, strict=True)]
            assert note == "".join(f" {digit}" for digit in wanted)
        assert outcome == 3 - int(before[0].code.max())


def test_an_expert_notes_down_its_way_over_a_hidden_lake():
    """It takes that way next, and so earns what a plan for its map earns."""
    lake = envs.FrozenLake("4x4", is_slippery=False, num_random_maps=8, is_hidden=True)
    task, limits, maps = lake.make(tiny.TOKENIZER), Limits(10, 0.0, 3), envs.random_maps(8)
    plans = hidden_lake.plans(maps, 10, 3)
    for seed in range(3):
        outcome, before, notes = episode_with_notes(lake, seed, 6, time_limit=10)
        which, earned = int(before[0].map_index), 0
        letters = lake_maps.read_map(maps[which])
        for plan in plans[which]:
            tile = 0
            for move in plan:
                tile = lake_maps.neighbours(letters)[tile, move]
            earned += letters.flat[tile] == lake_maps.GOAL
        assert outcome == earned
        assert notes == ["".join(frozen_lake.ACTIONS[move] for move in plan) for plan in plans[which][1:]]
        assert int(task.hidden(before[0])) == which
    found = task.bounds(limits)
    assert found.optimal == hidden_lake.optimal_return(maps, 10, 3) < 3.0 and found.optimal_is == "exact"
    state = jax.eval_shape(task.environment.reset, jax.random.key(0))
    note = jax.eval_shape(task.experts(limits)[Kind.REFLECTION], jax.random.key(0), state, jnp.int32(0))
    assert plans.shape[2] == note.ids.shape[0] == 6


@pytest.mark.parametrize("layers", [(), (Think(1),)])
def test_no_expert_sees_a_hidden_lake(layers):
    """What it does in one attempt earns what can be earned without the map; of maps that are not solved there is no expert."""
    lake = envs.FrozenLake("4x4", is_slippery=False, num_random_maps=8, is_hidden=True)
    interaction = make(lake, Act(time_limit=10), *layers)
    start, advance = jax.jit(interaction.start), jax.jit(interaction.advance)
    experts = {kind: jax.jit(expert) for kind, expert in interaction.experts.items()}
    parse = jax.jit(functools.partial(text.parse, interaction.grammar))
    earned = {}
    for seed in range(40):
        state, turn = start(jax.random.key(seed), {})
        which = int(state.environment.map_index)
        while which not in earned and not (turn.terminated | turn.truncated):
            said = experts[Kind(int(turn.kind))](jax.random.key(seed), state, jnp.int32(0))
            written = Segment(text.pad(said, interaction.size.written), *parse(turn.grammar_state, said))
            state, turn = advance(jax.random.key(seed), {}, state, written)
        earned.setdefault(which, float(turn.reward.outcome))
    optimal = bounds(lake, time_limit=10).optimal
    assert len(earned) == 8 and np.mean(list(earned.values())) == pytest.approx(optimal, abs=1e-5) == 0.5
    many = dataclasses.replace(lake, num_random_maps=17)
    assert not make(many, Act(time_limit=10)).experts and bounds(many, time_limit=10).optimal_is == "bound"


def test_an_expert_notes_down_what_is_safe_and_where_it_blew_up():
    (boards, _), (plans, _) = minesweeper.all_boards(3, 2), minesweeper.plans(3, 2, 3)
    for seed in range(3):
        outcome, before, notes = episode_with_notes(envs.Minesweeper(), seed, 7)
        mines = np.asarray(before[0].mines)
        for at, note in zip(before, notes, strict=True):
            assert {cell for cell in map(int, note.split()) if mines[cell]} <= {int(at.last)}
        which = int(np.argmax((boards == mines).all(1)))
        assert outcome == pytest.approx(sum(_safe_before(plan, mines) / 7 for plan in plans[which]))


def _safe_before(cells, mines):
    """How many cells are opened before a mine is."""
    hits = np.flatnonzero(mines[cells])
    return int(hits[0]) if len(hits) else len(cells)


def test_an_expert_calls_a_tool_once_and_then_reads_its_own_note():
    """The first attempt is dear; in those that follow it pays for nothing but the words that it does not call."""
    calls = {}
    for memory in (Reflection(2), agents.Nothing()):
        layers = (Act(), UseTools(("calculator",)), Remember(1, 2, 2), Attempts(3, memory), TokenCost(tool=0.125))
        paid, calls[type(memory).__name__] = expert_episode(make(envs.Arithmetic(1), *layers))
        assert paid == 3.0 - 0.125 * (6 + 3 * calls[type(memory).__name__])
    assert calls == {"Reflection": 1, "Nothing": 3}


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer, third_tokenizer], ids=["small", "gpt2", "llama3"])
def test_an_expert_notes_down_whole_digits_however_many_tokens_they_are(load):
    task = envs.Arithmetic().make(load())
    at = task.environment.reset(jax.random.key(0))
    note = task.experts(Limits())[Kind.NOTE](jax.random.key(0), at, jnp.int32(0))
    assert text.to_string(load(), note) == "".join(f" {digit}" for digit in f"{at.left * at.right:04}")
    assert text.check_text(load(), note) == [] and note.ids.shape[0] == note.length


def test_an_agent_that_carries_nothing_imitates_one_that_knows_nothing():
    """Every attempt of its expert is as the first."""
    said = [text.to_string(tiny.TOKENIZER, said) for _, _, said in play(make(envs.CombinationLock(), Act(), Attempts(3)), 0) if said]
    assert said == [" 0"] * 6


# ---------------------------------------------------------------- costs and limits


def test_costs_weights_and_information_bonuses_reach_the_reward():
    """A question costs 1 and its tokens 1/8 each; what it tells is paid, by the weight that the schedule gives it."""
    layers = (Act(time_limit=8, information_bonus=1.0), TokenCost(action=0.125), NoveltyBonus(0.25), ScaleRewards(scheduled=("process",)))
    interaction = make(envs.Mastermind(2, 2), *layers)
    curriculum = {"scale_rewards": {"process": jnp.float32(0.5)}}
    state, turn = interaction.start(jax.random.key(0), curriculum)
    said = interaction.experts[Kind.ACTION](jax.random.key(0), state, jnp.int32(0))
    choice, _ = text.parse(interaction.grammar, turn.grammar_state, said)
    written = Segment(text.pad(said, interaction.size.written), choice, jnp.bool_(True))
    before = state.environment
    state, turn = interaction.advance(jax.random.key(1), curriculum, state, written)
    assert float(turn.reward.outcome) == -1.0 and float(turn.reward.efficiency) == -0.125 * int(said.length)
    assert float(turn.reward.exploration) == 0.25 and 0.0 < float(turn.reward.process) <= 1.0
    assert float(turn.reward.process) == pytest.approx(0.5 * float(mastermind.information_gain(before, state.environment)))


def act(interaction, state, action, key):
    """One legal action of an agent that only acts."""
    said = text.pad(text.say_choice(interaction.grammar, action), interaction.size.written)
    return interaction.advance(key, {}, state, Segment(said, jnp.int32(action), jnp.bool_(True)))


def test_a_time_limit_truncates_and_does_not_terminate():
    interaction = tiny.make(envs.make_number_guess(tiny.TOKENIZER, 8), Act(time_limit=3))
    state, _ = interaction.start(jax.random.key(0), {})
    state = state._replace(environment=state.environment._replace(number=jnp.int32(5)))
    ends = []
    for action in (0, 1, 2, 3):
        state, turn = act(interaction, state, action, jax.random.key(1))
        ends.append((bool(turn.terminated), bool(turn.truncated)))
    assert ends == [(False, False), (False, False), (False, True), (False, True)]


def test_a_task_that_ends_with_its_last_step_is_terminated():
    interaction = tiny.make(envs.make_bandit(tiny.TOKENIZER, 2, 3), Act(time_limit=3))
    state, _ = interaction.start(jax.random.key(0), {})
    for _ in range(3):
        state, turn = act(interaction, state, 0, jax.random.key(1))
    assert turn.terminated and not turn.truncated


def play_many(interaction, num_lanes, choose):
    """Outcomes and numbers of turns of many episodes of an agent that only acts, `choose(key, state, turn) -> action`."""

    def episode(key):
        def step(carry, key):
            state, turn, is_over = carry
            key_choice, key_step = jax.random.split(key)
            state, turn = act(interaction, state, choose(key_choice, state, turn), key_step)
            earned = jnp.where(is_over, 0.0, turn.reward.outcome)
            return (state, turn, is_over | turn.terminated | turn.truncated), (earned, ~is_over)

        key_start, key_steps = jax.random.split(key)
        begin = (*interaction.start(key_start, {}), jnp.bool_(False))
        (_, _, is_over), (earned, counted) = jax.lax.scan(step, begin, jax.random.split(key_steps, interaction.size.turns))
        return earned.sum(), counted.sum(), is_over

    return map(np.asarray, jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(5), num_lanes)))


def uniform(key, state, turn):
    return jax.random.categorical(key, jnp.where(turn.legal, 0.0, -jnp.inf))


def test_a_turn_costs(agrees):
    environment = envs.make_number_guess(tiny.TOKENIZER, 32)
    interaction = tiny.make(environment, Act(time_limit=3, step_cost=0.5))
    outcome, num_turns, is_over = play_many(interaction, 4000, lambda key, state, turn: environment.expert(key, state.environment))
    assert is_over.all()
    np.testing.assert_allclose(outcome, -1.5 * num_turns)
    assert agrees(num_turns, number_guess.optimal_num_guesses(32, 3))


def test_the_shorter_of_two_limits_counts():
    lake = envs.make_frozen_lake(tiny.TOKENIZER, "8x8", is_slippery=False)
    for environment, limit in ((lake._replace(max_steps=5), 2), (lake._replace(max_steps=2), 5), (lake, 2)):
        interaction = tiny.make(environment, Act(time_limit=limit))
        assert interaction.size.turns == 2
        _, num_turns, is_over = play_many(interaction, 50, uniform)
        assert set(num_turns) == {2} and is_over.all()


def test_limits_and_costs_leave_the_rest_alone():
    plain = envs.make_frozen_lake(tiny.TOKENIZER, "4x4", only_moves_that_exist=True)
    limited, free = tiny.make(plain, Act(time_limit=4, step_cost=0.1)), tiny.make(plain, Act(time_limit=100))
    (state, turn), (state_free, turn_free) = (interaction.start(jax.random.key(0), {}) for interaction in (limited, free))
    for t in range(4):
        key = jax.random.key(t)
        found, wanted = (x.experts[Kind.ACTION](key, at, jnp.int32(0)) for x, at in ((limited, state), (free, state_free)))
        action = plain.expert(key, state.environment)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, found, wanted))
        assert jax.tree.all(jax.tree.map(jnp.array_equal, found, text.say_choice(plain.grammar, action)))
        (state, turn), (state_free, turn_free) = act(limited, state, action, key), act(free, state_free, action, key)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, state.environment, state_free.environment))
        assert turn.reward.outcome == pytest.approx(float(turn_free.reward.outcome) - 0.1) and turn.terminated == turn_free.terminated
        assert jax.tree.all(jax.tree.map(jnp.array_equal, (turn.read, turn.legal), (turn_free.read, turn_free.legal)))
        assert jax.tree.all(jax.tree.map(jnp.array_equal, turn.read, plain.describe(state.environment)))
        if turn.terminated:
            break


def test_what_an_environment_lacks_stays_missing():
    environment = envs.make_bandit(tiny.TOKENIZER)._replace(expert=None, state_hash=None)
    assert not tiny.make(environment, Act(time_limit=3)).experts
    with pytest.raises(ArlError, match="state_hash"):
        agents.make_agent(Task(environment, tiny.TOKENIZER), (Act(time_limit=3), NoveltyBonus(1.0)))


def test_a_limit_beyond_the_end_of_the_task_bounds_nothing():
    assert tiny.make(envs.make_bandit(tiny.TOKENIZER, num_pulls=5), Act(time_limit=9)).size.turns == 5
    assert tiny.make(envs.make_number_guess(tiny.TOKENIZER, one_guess=True), Act()).size.turns == 1
    lake = envs.make_frozen_lake(tiny.TOKENIZER)
    assert lake.max_steps is None
    with pytest.raises(ArlError, match="set Act.time_limit >= 1"):
        tiny.make(lake, Act())


def test_limits_and_costs_that_cannot_be_are_refused():
    with pytest.raises(ArlError, match="Act.time_limit"):
        Act(time_limit=-1)
    with pytest.raises(ArlError, match="Act.step_cost is -0.1; set it to a number >= 0"):
        Act(step_cost=-0.1)
