"""Configs and flags: what can be said, and how what cannot be is answered."""

import json

import pytest

from arl.envs import bandit, number_guess
from experiments.build import build
from experiments.config import Config, field_names, first_difference, from_dict, override, to_dict
from experiments.presets import PRESETS, get_preset

WRONG = [
    ("history", "learner.learning_rate.start=1e999", "finite"),
    ("history", "learner.learning_rate.start=-1", "learner.learning_rate.start"),
    ("history", "learner.adam_b2=1", "learner.adam_b2"),
    ("history", "learner.max_gradient_norm=0", "learner.max_gradient_norm"),
    ("history", "learner.trace=5", "learner.trace"),
    ("history", "learner.num_lanes=16000000000", "learner.num_lanes"),
    ("history", "agent.illegal_penalty=-1", "agent.illegal_penalty"),
    ("history", "agent.annealed=True", "agent.annealed=False"),
    ("history", "preset=other", "--preset"),
    ("history", "learner.num_updats=3", "num_updates"),
    ("history", "learnr.num_updates=3", "learner"),
    ("history", "learner.num_updates=many", "type int, as in --config.learner.num_updates=400"),
    ("history", "learner.num_updates=None", "type int"),
    ("history", "learner.entropy=0.1", "set one of start, end, until, since, warmup, as in --config.learner.entropy.start=0.03"),
    ("history", "learner.entropy.strat=0.1", "start"),
    ("history", "learner={'num_lanes': 40}", "has fields of its own"),
    ("reflection", "learner.schedules.attempts.keep=0.5", "set one of start, end"),
    ("reflection", "agent.reflection_budget=0", "reflection_budget) >= 1"),
    ("history", "learner.schedules=3", "as in --config.learner.schedules.attempts.keep.start=0.5"),
    ("history", "agent.prices=0.05", "as in --config.agent.prices.think=0.05"),
    ("history", "agent.prices.think=dear", "type float, as in --config.agent.prices.think=0.05"),
    ("history", "agent.forgets=yes", "type bool, as in --config.agent.forgets=false"),
    ("history", "learner.learning_rate.until=late", "type float, as in --config.learner.learning_rate.until=1.0"),
    ("history", "learner.credit=gea", "gae"),
    ("history", "learner.group_size=7", "multiple"),
    ("history", "rollout.widths=3", "tuple[tuple[int, int], ...], as in --config.rollout.widths='((1, 8),)'"),
    ("history", "rollout.widths=((1,),)", "tuple"),
    ("history", "rollout.context_length=5", "context_length >= 20"),
    ("history", "rollout.decoding.top_p=2.0", "top_p"),
    ("history", "environment.name=frozen_lak", "frozen_lake"),
    ("history", "agent.carry=histori", "history"),
    ("history", "model.preset=0.2M", "0.1M"),
    ("history", "checkpoint_every=0", ">= 1"),
    ("history", "evaluation.num_lives=0", ">= 1"),
    ("history", "evaluation.num_lives=1", "evaluation.num_lives is 1; set it >= 2"),
    ("history", "rollout.decoding.temperature=0", "rollout.decoding.temperature > 0"),
    ("history", "learner.credit=grpo", "learner.group_size >= 2"),
    ("frozen_lake", "environment.frozen_lake.map=SF/FH", "take a hole away or mark a goal"),
    ("reflection", "agent.note_symbols=number", "numbers"),
    ("reflection", "learner.schedules.attempts.kep.start=0.5", "attempts.keep"),
    ("frozen_lake", "environment.time_limit=0", "time_limit"),
    ("mastermind", "environment.mastermind.num_pgs=3", "num_pegs"),
    ("mastermind", "environment.mastermind.num_pegs=two", "type int"),
    ("combination_lock", "environment.time_limit=1", "at least 2"),
    ("shifting_controls", "agent.num_attempts=2", "agent.num_attempts=1"),
    ("ledger", "agent.tools=('tabel',)", "table"),
    ("corridor", "agent.tools=('calculator',)", "there is none"),
    ("ledger", "environment.ledger.num_hops=2", "agent.max_calls"),
    ("mastermind", "agent.num_attempts=2", "paid again"),
    ("corridor", "agent.memory_budget=0", "budget"),
    ("corridor", "agent.carry='history'", "carry a window or a reflection"),
    ("number_guess", "agent.bits=1.0", "agent.bits=0"),
    ("number_guess", "agent.prices.thinking=1.0", "think"),
    ("number_guess", "agent.prices.observation=1.0", "no kind of segment"),
    ("number_guess", "agent.explore=-1.0", "agent.explore"),
    ("number_guess", "agent.weighed=('process',)", "learner.schedules.reward.process.start"),
    ("mastermind", "agent.weighed=('proces',)", "proces"),
    ("number_guess", "warm_start=-1", "warm_start"),
    ("number_guess", "environment.time_limit=0", "environment.time_limit >= 1"),
    ("mastermind", "environment.time_limit=-1", "environment.time_limit"),
    ("mastermind", "environment.turn_cost=-0.5", "environment.turn_cost"),
    ("mastermind", "environment.mastermind.num_colors=0", "num_colors"),
    ("bandit", "environment.bandit.num_arms=0", "num_arms"),
    ("combination_lock", "environment.combination_lock.num_digits=0", "num_digits"),
    ("combination_lock_blind", "agent.num_attempts=1", "agent.num_attempts >= 2"),
    ("combination_lock", "agent.num_attempts=1", "agent.num_attempts >= 2"),
    ("corridor", "environment.corridor.num_cues=0", "num_cues"),
    ("corridor", "environment.time_limit=3", "at least 17"),
    ("arithmetic", "environment.arithmetic.digits_per_action=0", "digits_per_action"),
    ("arithmetic", "environment.time_limit=3", "environment.time_limit=0"),
    ("ledger", "environment.ledger.num_entries=0", "num_entries"),
    ("shifting_controls", "environment.shifting_controls.num_actions=9", "num_actions"),
    ("restless_bandit", "environment.restless_bandit.pay_probability=0.5", "pay_probability"),
    ("restless_bandit", "environment.time_limit=5", "at least 20"),
    ("frozen_lake_hidden", "environment.time_limit=5", "environment.time_limit > 5"),
    ("mastermind", "environment.time_limit=1", "environment.time_limit > 1"),
    ("corridor", "environment.name=ledger", "agent.memory_slots=0"),
    ("corridor", "warm_start_learning_rate.start=-0.1", "warm_start_learning_rate"),
    ("corridor", "num_updates=7", "did you mean config.learner.num_updates"),
    ("corridor", "learner.lr=0.1", "learning_rate"),
    ("corridor", "learner.entropy_scales.action=-1.0", "learner.entropy_scales.action"),
    ("corridor", "rollout.overhead=-1", "rollout.overhead"),
    ("history", "agent.turn_discount=2", "agent.turn_discount"),
    ("history", "agent.num_attempts=0", "agent.num_attempts"),
    ("history", "agent.think_budget=-1", "agent.think_budget"),
    ("ledger", "agent.tools=(table,)", "words with commas between them, or (), as in --config.agent.tools=calculator,table"),
    ("ledger", "agent.tools=", "as in --config.agent.tools=calculator,table"),
    ("ledger", "agent.tools=3", "as in --config.agent.tools=calculator,table"),
    ("ledger", "agent.tools={[]: 1}", "as in --config.agent.tools=calculator,table"),
    ("ledger", "agent.tools=('table', 'table')", "its own word"),
    ("ledger", "agent.max_calls=0", "give at least one of each"),
    ("corridor", "agent.memory_slots=-1", "agent.memory_slots"),
    ("corridor", "agent.memory_every=17", "below 17"),
    ("corridor", "agent.prices.note=-1.0", ">= 0"),
    ("frozen_lake", "learner.group_size=2", "restarts"),
    ("minesweeper", "agent.tools=('imagine',)", "take imagine out of agent.tools"),
    ("minesweeper", "agent.think_budget=2", "agent.think_budget=0"),
    ("minesweeper", "agent.reflection_budget=3", "agent.reflection_budget >= 7"),
    ("composed", "agent.memory_budget=2", "agent.memory_budget >= 4"),
    ("frozen_lake_hidden", "environment.frozen_lake.num_random_maps=17", "warm_start=0"),
    ("frozen_lake_hidden", "environment.frozen_lake.is_slippery=True", "warm_start=0"),
    ("mastermind", "learner.schedules.reward.process.start=-1", "set both at least 0"),
    ("reflection", "learner.schedules.attempts.keep.start=1.5", "set both between 0 and 1"),
    ("corridor", "agent.prices.think=1.0", "it writes action, note"),
]


@pytest.mark.parametrize("preset, assignment, says", WRONG)
def test_wrong_assignment_is_answered_in_one_line_that_helps(preset, assignment, says):
    with pytest.raises(ValueError) as caught:
        build(override(get_preset(preset), [assignment]))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_annealed_agent_without_schedule_is_refused():
    with pytest.raises(ValueError, match="learner.schedules.attempts.keep.start"):
        build(override(get_preset("history"), ["agent.carry=reflection", "agent.annealed=true"]))


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="reflection_16"):
        get_preset("reflexion_16")


def test_overrides_reach_every_depth_and_nothing_else():
    assignments = [
        "learner.entropy.start=1",
        "learner.schedules.attempts.keep.until=0.25",
        "rollout.widths=((2, 5),)",
        "agent.annealed=True",
    ]
    before, after = get_preset("reflection"), override(get_preset("reflection"), assignments)
    assert after.learner.entropy.start == 1.0 and isinstance(after.learner.entropy.start, float)
    assert after.learner.schedules["attempts.keep"].until == 0.25
    assert after.learner.schedules["attempts.keep"].start == before.learner.schedules["attempts.keep"].start
    assert after.rollout.widths == ((2, 5),)
    assert after.environment == before.environment and after.model == before.model


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("agent.tools=calculator", ("calculator",)),
        ("agent.tools=calculator, table", ("calculator", "table")),
        ("agent.tools='table'", ("table",)),
        ("agent.tools=('table', 'imagine')", ("table", "imagine")),
        ("agent.tools=()", ()),
        ("agent.carry=history", "history"),
        ("agent.carry='history'", "history"),
        ("environment.frozen_lake.map=SF/FG", "SF/FG"),
        ("model.preset=10", "10"),
        ("agent.forgets=true", True),
        ("learner.learning_rate.start=3e-4", 3e-4),
        ("agent.discount=1", 1.0),
        ("agent.prices={'think': 1}", {"think": 1.0}),
    ],
)
def test_a_value_is_read_as_what_is_wanted_in_its_place(assignment, value):
    found = to_dict(override(get_preset("history"), [assignment]))
    for part in assignment.partition("=")[0].split("."):
        found = found[part]
    assert found == value and type(found) is type(value)


def test_what_a_field_holds_by_name_is_set_one_by_one_or_anew():
    before = get_preset("composed")
    assert before.agent.prices == {"tool": 0.05}
    assert override(before, ["agent.prices.note=1"]).agent.prices == {"tool": 0.05, "note": 1.0}
    assert override(before, ["agent.prices={}", "agent.prices.note=1"]).agent.prices == {"note": 1.0}


def test_fields_are_named_to_their_depths():
    names = field_names(get_preset("history"))
    assert {"warm_start", "learner.num_updates", "rollout.decoding.temperature", "environment.frozen_lake.map"} <= set(names)
    assert "learner" not in names and "rollout.decoding" not in names


def test_the_first_field_that_differs_is_named():
    there = {"seed": 0, "agent": {"tools": [], "window": 4}, "learner": {"schedules": {"attempts.keep": {"start": 1.0}}}}
    here = {"seed": 0, "agent": {"tools": [], "window": 5}, "learner": {"schedules": {}}}
    assert first_difference(there, there) == ""
    assert first_difference(there, here) == "agent.window is 4 there and 5 here"
    assert first_difference({**there, "agent": here["agent"]}, here).startswith("learner.schedules.attempts.keep is {'start': 1.0} there")
    assert first_difference({"old": 1}, {}) == "old is 1 there and None here"


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_json(name):
    config = get_preset(name)
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "frozen_lake_8x8"])
def test_preset_can_be_built_and_has_a_way_to_go(name):
    experiment = build(get_preset(name))
    assert experiment.task.floor < experiment.task.ceiling
    assert experiment.rollout.context_length >= experiment.interaction.size.context


@pytest.mark.parametrize(
    ("preset", "assignments", "floor", "ceiling"),
    [
        ("reflection", ["environment.turn_cost=0.5"], 0.5 - 2.0, 2.375 - 2.0),
        ("number_guess", ["environment.turn_cost=0.5"], None, -1.5 * number_guess.optimal_num_guesses(32, 10)),
        ("bandit", ["environment.time_limit=3"], 1.5, bandit.optimal_return(2, 3)),
        ("bandit", ["environment.time_limit=3", "environment.turn_cost=0.25"], 0.75, bandit.optimal_return(2, 3) - 0.75),
    ],
)
def test_floor_and_ceiling_are_those_of_the_task_as_it_is_played(preset, assignments, floor, ceiling):
    experiment = build(override(get_preset(preset), assignments))
    assert experiment.task.ceiling == pytest.approx(ceiling)
    assert floor is None or experiment.task.floor == pytest.approx(floor)


def test_a_lake_whose_steps_cost_is_refused():
    with pytest.raises(ValueError, match="environment.turn_cost=0"):
        build(override(get_preset("frozen_lake"), ["environment.turn_cost=0.1"]))
