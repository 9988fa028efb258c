"""Tasks by name: what each can earn, in attempts, under limits, and what it offers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, text
from arl.envs import bandit, combination_lock, frozen_lake, hidden_lake, mastermind, minesweeper, number_guess
from arl.types import Kind, Written
from experiments import tasks
from experiments.build import build, make_agent, make_task
from experiments.config import AgentConfig, EnvironmentConfig, override
from experiments.presets import get_preset
from tests import tiny
from tests.second_tokenizer import second_tokenizer, third_tokenizer

NAMES = [field.name for field in dataclasses.fields(EnvironmentConfig) if field.name not in ("name", "time_limit", "turn_cost")]


def task(name, num_attempts=1, **options):
    return make_task(tiny.TOKENIZER, EnvironmentConfig(name=name, **options), num_attempts)


@pytest.mark.parametrize("name", NAMES)
def test_every_task_has_a_way_to_go_and_symbols_of_one_token(name):
    limit = 12 if name in ("frozen_lake", "mastermind", "twenty_questions") else 0
    found = task(name, 1 if name in ("shifting_controls", "restless_bandit") else 2, time_limit=limit)
    assert found.floor < found.ceiling
    assert all(len(text.token_ids(tiny.TOKENIZER, symbol)) == 1 for symbol in found.symbols)
    assert found.environment.max_steps and found.environment.expert and found.environment.anchor


def test_several_attempts_are_judged_against_one_who_remembers_all():
    price = 1.5
    guesses = task("number_guess", 3, number_guess=tasks.NumberGuess(8, one_guess=False), time_limit=9, turn_cost=0.5)
    assert guesses.ceiling == pytest.approx(-price * (number_guess.optimal_num_guesses(8, 9) + 2))
    assert guesses.floor == pytest.approx(-price * 3 * number_guess.random_num_guesses(8, 9))
    assert task("mastermind", time_limit=8).ceiling == -mastermind.optimal_num_guesses(2, 4, 8)
    assert task("bandit", 2, bandit=tasks.Bandit(2, 4)).ceiling == bandit.optimal_return(2, 8)
    lock = task("combination_lock", 3, combination_lock=tasks.CombinationLock(2, 3), turn_cost=0.125)
    assert lock.ceiling == pytest.approx(combination_lock.optimal_successes(2, 3, 3) - 6 * 0.125)


def summed(rewards):
    """Their sum as a rollout adds it up, in float32."""
    return functools.reduce(np.add, np.asarray(rewards, np.float32), np.float32(0.0))


@pytest.mark.parametrize("num_attempts", [2, 3])
@pytest.mark.parametrize(
    ("name", "num_steps"), [("corridor", 9), ("arithmetic", 4), ("combination_lock", 2), ("ledger", 1), ("number_guess", 1)]
)
def test_a_success_is_told_from_a_failure_whatever_a_step_costs(name, num_steps, num_attempts):
    """The last step is paid 1 or nothing; sums of float32 costs are not what they are on paper."""
    found = task(name, num_attempts, turn_cost=0.1)
    costs = np.full(num_steps, -0.1)
    paid = np.eye(num_steps)[-1]
    assert summed(costs) < found.success_at - 0.4 and summed(costs + paid) > found.success_at + 0.4


@pytest.mark.parametrize(("size", "num_mines"), [(3, 2), (4, 4), (6, 5)])
def test_only_a_whole_board_is_a_success(size, num_mines):
    """Rewards of the cells do not add up to exactly 1 in float32."""
    num_safe = size**2 - num_mines
    success_at = task("minesweeper", 3, minesweeper=tasks.Minesweeper(size, num_mines)).success_at
    cell = np.float32(1.0) / np.float32(num_safe)
    assert summed([cell] * (num_safe - 1)) < success_at < summed([cell] * num_safe)


def test_a_question_too_many_is_no_success():
    found = task("mastermind", 2, time_limit=8, turn_cost=0.1)
    assert summed([-1.1] * 8) < found.success_at < summed([-1.1] * 7)


@pytest.mark.parametrize(("name", "tools"), [("arithmetic", ("calculator",)), ("ledger", ("table",)), ("ledger", ("table", "imagine"))])
def test_an_expert_with_its_tools_is_right(name, tools):
    config = EnvironmentConfig(name=name, ledger=tasks.Ledger(12, 2), arithmetic=tasks.Arithmetic(1))
    interaction = make_agent(tiny.TOKENIZER, make_task(tiny.TOKENIZER, config, 1), AgentConfig(tools=tools, max_calls=2))
    paid, calls = _expert_life(interaction)
    assert paid == 1.0 and calls == (2 if name == "ledger" else 1)


def _expert_life(interaction):
    """What an expert earns in a life, and the answers of tools that it read."""
    state, turn = interaction.start(jax.random.key(3), {})
    paid, calls = 0.0, 0
    while not (turn.terminated | turn.truncated):
        said = interaction.expert(jax.random.key(0), state)
        choice, is_legal = text.parse(interaction.grammar, turn.grammar, said)
        assert is_legal
        calls += " is " in text.to_string(tiny.TOKENIZER, turn.read)
        written = Written(text.pad(said, interaction.size.written), choice, is_legal)
        state, turn = interaction.advance(jax.random.key(1), {}, state, written)
        paid += float(sum(turn.reward))
    return paid, calls


def test_prices_weights_and_bits_reach_the_reward():
    """A question costs 1 and its tokens 1/8 each; what it tells is paid, by the weight that the schedule gives it."""
    config = override(get_preset("mastermind"), ["agent.prices.action=0.125", "agent.explore=0.25", "environment.mastermind.num_colors=2"])
    interaction = build(config).interaction
    setting = {"reward": {"process": jnp.float32(0.5)}}
    state, turn = interaction.start(jax.random.key(0), setting)
    said = interaction.expert(jax.random.key(0), state)
    choice, _ = text.parse(interaction.grammar, turn.grammar, said)
    written = Written(text.pad(said, interaction.size.written), choice, jnp.bool_(True))
    state, turn = interaction.advance(jax.random.key(1), setting, state, written)
    assert float(turn.reward.outcome) == -1.0 and float(turn.reward.efficiency) == -0.125 * int(said.length)
    assert float(turn.reward.exploration) == 0.25 and 0.0 < float(turn.reward.process) <= 1.0


def test_an_expert_with_a_memory_finds_the_door():
    interaction = make_agent(tiny.TOKENIZER, task("corridor"), AgentConfig(memory_slots=1, memory_every=4))
    assert interaction.size.context < 5 * 8 and _expert_life(interaction)[0] == 1.0


def _life_with_notes(found, seed, num_attempts, reflection_budget):
    """What an expert earns in a life with reflections, the environment's state before each of them, and the reflections."""
    interaction = make_agent(
        tiny.TOKENIZER, found, AgentConfig(num_attempts=num_attempts, carry="reflection", reflection_budget=reflection_budget)
    )
    expert, advance = jax.jit(interaction.expert), jax.jit(interaction.advance)
    state, turn = interaction.start(jax.random.key(seed), {})
    outcome, before, notes = 0.0, [], []
    while not (turn.terminated | turn.truncated):
        said = expert(jax.random.fold_in(jax.random.key(seed), turn.attempt), state)
        choice, is_legal = text.parse(interaction.grammar, turn.grammar, said)
        assert is_legal
        if turn.kind == Kind.REFLECTION:
            before.append(tasks.environment_within(state))
            notes.append(text.to_string(tiny.TOKENIZER, said))
        written = Written(text.pad(said, interaction.size.written), choice, is_legal)
        state, turn = advance(jax.random.key(1), {}, state, written)
        outcome += float(turn.reward.outcome)
    return outcome, before, notes


def test_an_expert_notes_down_the_code_to_enter_next():
    """And enters it: it tries 0, then 1, then 2 in every place until that is right, as well as can be done."""
    lock = task("combination_lock", 3, combination_lock=tasks.CombinationLock(2, 3))
    for seed in range(4):
        outcome, before, notes = _life_with_notes(lock, seed, 3, 2)
        for at, note in zip(before, notes, strict=True):
            wanted = [int(x if x == code else (x + 1) % 3) for x, code in zip(at.entered, at.code, strict=True)]
            assert note == "".join(f" {digit}" for digit in wanted)
        assert outcome == 3 - int(before[0].code.max())


def test_an_expert_notes_down_its_way_over_a_hidden_lake():
    """It takes that way next, and so earns what a plan for its map earns."""
    lake = tasks.FrozenLake("4x4", is_slippery=False, num_random_maps=8, is_hidden=True)
    found, maps = task("frozen_lake", 3, frozen_lake=lake, time_limit=10), envs.random_maps(8)
    plans = hidden_lake.plans(maps, 10, 3)
    for seed in range(3):
        outcome, before, notes = _life_with_notes(found, seed, 3, 6)
        which, earned = int(before[0].map_index), 0
        letters = frozen_lake.read_map(maps[which])
        for plan in plans[which]:
            tile = 0
            for move in plan:
                tile = frozen_lake.neighbours(letters)[tile, move]
            earned += letters.flat[tile] == frozen_lake.GOAL
        assert outcome == earned
        assert notes == ["".join(frozen_lake.ACTIONS[move] for move in plan) for plan in plans[which][1:]]
    assert found.ceiling == hidden_lake.optimal_return(maps, 10, 3) < 3.0
    assert plans.shape[2] == tasks.note_length(found, is_reflection=True) == 6


@pytest.mark.parametrize("options", [{}, {"think_budget": 1}])
def test_no_expert_sees_a_hidden_lake(options):
    """What it does in one attempt earns what can be earned without the map; of maps that are not solved there is no expert."""
    lake = tasks.FrozenLake("4x4", is_slippery=False, num_random_maps=8, is_hidden=True)
    found = task("frozen_lake", frozen_lake=lake, time_limit=10)
    interaction = make_agent(tiny.TOKENIZER, found, AgentConfig(**options))
    expert, advance = jax.jit(interaction.expert), jax.jit(interaction.advance)
    earned = {}
    for seed in range(40):
        state, turn = interaction.start(jax.random.key(seed), {})
        which = int(tasks.environment_within(state).map_index)
        while which not in earned and not (turn.terminated | turn.truncated):
            said = expert(jax.random.key(seed), state)
            choice, is_legal = text.parse(interaction.grammar, turn.grammar, said)
            written = Written(text.pad(said, interaction.size.written), choice, is_legal)
            state, turn = advance(jax.random.key(seed), {}, state, written)
        earned.setdefault(which, float(turn.reward.outcome))
    assert len(earned) == 8 and np.mean(list(earned.values())) == pytest.approx(found.ceiling, abs=1e-5) == 0.5
    many = dataclasses.replace(lake, num_random_maps=17)
    assert task("frozen_lake", frozen_lake=many, time_limit=10).environment.expert is None


def test_an_expert_notes_down_what_is_safe_and_where_it_blew_up():
    found, (boards, _), (plans, _) = task("minesweeper", 3), minesweeper.all_boards(3, 2), minesweeper.plans(3, 2, 3)
    for seed in range(3):
        outcome, before, notes = _life_with_notes(found, seed, 3, 7)
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
    options = dict(tools=("calculator",), memory_slots=1, memory_budget=2, memory_every=2, num_attempts=3, prices={"tool": 0.125})
    calls = {}
    for carry, budget in [("reflection", 2), ("nothing", 0)]:
        config = AgentConfig(carry=carry, reflection_budget=budget or 4, **options)
        found = task("arithmetic", 3, arithmetic=tasks.Arithmetic(1))
        paid, calls[carry] = _expert_life(make_agent(tiny.TOKENIZER, found, config))
        assert paid == 3.0 - 0.125 * (6 + 3 * calls[carry])
    assert calls == {"reflection": 1, "nothing": 3}


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer, third_tokenizer], ids=["small", "gpt2", "llama3"])
def test_an_expert_notes_down_whole_digits_however_many_tokens_they_are(load):
    found = make_task(load(), EnvironmentConfig(name="arithmetic"), 1)
    state, _ = agents.act(found.environment).start(jax.random.key(0), {})
    at, note = tasks.environment_within(state), found.expert_note(jax.random.key(0), state)
    assert text.to_string(load(), note) == "".join(f" {digit}" for digit in f"{at.left * at.right:04}")
    assert text.check_text(load(), note) == [] and tasks.note_length(found, is_reflection=False) == note.length


def test_an_agent_that_carries_nothing_imitates_one_that_knows_nothing():
    """Every attempt of its expert is as the first."""
    agent = make_agent(tiny.TOKENIZER, task("combination_lock", 3), AgentConfig(num_attempts=3))
    state, turn = agent.start(jax.random.key(0), {})
    while not turn.terminated:
        said = agent.expert(jax.random.key(0), state)
        assert text.to_string(tiny.TOKENIZER, said) == " 0"
        choice, is_legal = text.parse(agent.grammar, turn.grammar, said)
        state, turn = agent.advance(jax.random.key(1), {}, state, Written(text.pad(said, agent.size.written), choice, is_legal))


def test_what_an_expert_of_the_lock_reaches_is_the_optimum():
    codes = [(i, j) for i in range(3) for j in range(3)]
    for num_attempts in (3, 4):
        reached = np.mean([num_attempts - max(code) for code in codes])
        assert reached == pytest.approx(combination_lock.optimal_successes(2, 3, num_attempts))


@pytest.mark.parametrize("num_random_maps", [0, 3])
def test_the_rows_of_a_lake_are_given_with_strokes_between_them(num_random_maps):
    """Two moves lead to the goal: within three, an agent that knows the way never fails."""
    lake = tasks.FrozenLake("SF/FG", is_slippery=False, num_random_maps=num_random_maps)
    found = task("frozen_lake", frozen_lake=lake, time_limit=3)
    assert found.ceiling == 1.0 > found.floor > 0.0
    assert found.environment.max_steps == 3


def test_more_pulls_than_are_solved_are_judged_against_one_who_knows_the_arms():
    assert task("bandit", 2, bandit=tasks.Bandit(2, 40)).ceiling == bandit.informed_return(2, 80)


def test_a_task_in_which_nothing_can_be_learned_is_refused():
    with pytest.raises(ValueError, match="agent.num_attempts >= 2"):
        task("combination_lock")
