"""Configs and flags: what can be said, and how what cannot be is answered."""

import json

import pytest

from arl.agents import Act, Attempts, Reflection, UseTools, Window
from arl.envs import FrozenLake, bandit, number_guess
from arl.runs.folder import first_difference
from arl.training import Rule
from arl.types import ArlError
from experiments import parts
from experiments.build import build
from experiments.config import from_dict, override, to_dict
from experiments.fields import as_flags, field_names
from experiments.presets import PRESETS, get_preset

WRONG = [
    ("history", "learner.learning_rate.start=1e999", "finite"),
    ("history", "learner.learning_rate.start=-1", "learner.learning_rate"),
    ("history", "learner.adam_b2=1", "learner.adam_b2"),
    ("history", "learner.max_gradient_norm=0", "learner.max_gradient_norm"),
    ("history", "learner.gae_lambda=5", "learner.gae_lambda"),
    ("history", "learner.num_lanes=16000000000", "learner.num_lanes"),
    ("history", "agent.act.illegal_penalty=-1", "agent.act.illegal_penalty"),
    ("history", "preset=other", "--preset"),
    ("history", "learner.num_updats=3", "num_updates"),
    ("history", "learnr.num_updates=3", "learner"),
    ("history", "learner.num_updates=many", "type int, as in --config.learner.num_updates=400"),
    ("history", "learner.num_updates=None", "type int"),
    ("history", "learner.num_updates.start=3", "has no fields"),
    (
        "history",
        "learner.entropy_weight=0.1",
        "set one of start, end, until, since, warmup, as in --config.learner.entropy_weight.start=0.03",
    ),
    ("history", "learner.entropy_weight.strat=0.1", "start"),
    ("history", "learner={'num_lanes': 40}", "has fields of its own"),
    ("reflection", "learner.schedules.attempts.keep=0.5", "set one of start, end"),
    ("reflection", "agent.attempts.memory.budget=0", "agent.attempts.memory.budget >= 1"),
    ("history", "learner.schedules=3", "as in --config.learner.schedules.attempts.keep.start=0.5"),
    ("history", "learner.rules.action.entropy=dear", "type float, as in --config.learner.rules.action.weight=0.5"),
    ("history", "agent.act.resets_context=yes", "type bool"),
    ("history", "learner.learning_rate.until=late", "type float, as in --config.learner.learning_rate.until=1.0"),
    ("history", "learner.estimator=gea", "gae"),
    ("history", "learner.group_size=7", "multiple"),
    ("history", "rollout.widths=3", "tuple[tuple[int, int], ...], as in --config.rollout.widths='((1, 8),)'"),
    ("history", "rollout.widths=((1,),)", "tuple"),
    ("history", "rollout.context_length=5", "rollout.context_length >= 20"),
    ("history", "rollout.decoding.top_p=2.0", "rollout.decoding.top_p"),
    ("history", "environment=frozen_lak()", "did you mean frozen_lake?"),
    ("history", "environment=frozen_lak", "there is no part frozen_lak; did you mean frozen_lake?"),
    ("frozen_lake", "environment.num_random_maps=a", "as in --config.environment.num_random_maps=0"),
    ("corridor", "agent.remember.budget=a", "as in --config.agent.remember.budget=1"),
    ("history", "learner.rules.plan.weight=0.5", "learner.rules names plan, and this agent writes action alone"),
    ("history", "environment=frozen_lake", "agent.act.time_limit >= 1"),
    ("history", "environment=frozen_lake(), bandit()", "names 2"),
    ("history", "environment=frozen_lake(map=4x4)", "cannot be read"),
    ("history", "environment=frozen_lake(mop='4x4')", "did you mean map?"),
    ("history", "environment=nowhere.envs:Hanoi(3)", "cannot be imported"),
    ("history", "environment=./mine/envs.py:HotCold()", "write mine.envs:HotCold"),
    ("history", "environment=tests.outside.hanoi_pkg.envs:Hanoi()", "agent.act.time_limit >= 1"),
    ("history", "environment=arl.envs:make_bandit(3)", "is no dataclass"),
    ("history", "environment=think(3)", "make(tokenizer)"),
    ("history", "agent=attempts(2)", "put act() first"),
    ("number_guess", "agent=act(time_limit=10), act()", "two layers are called act"),
    ("history", "agent=act(), bandit()", "is no layer"),
    ("history", "agent=", "cannot be read"),
    ("history", "agent=act(), think(many)", "think.budget is 'many'; it takes a value of type int"),
    ("history", "agent=act(), attempts(2, memory=histori)", "write a number"),
    ("os:getcwd", "warm_start=0", "os:getcwd returns a str; let it return an experiments.config.Config"),
    ("history", "agent=act(), think('many')", "think.budget is 'many'; it takes a value of type int"),
    ("history", "agent=act(), attempts()", "attempts needs num_attempts"),
    ("history", "agent=act(), attempts(2, memory='history')", "attempts.memory is 'history'"),
    ("history", "agent=act(), attempts(2, history(), 1.0, 4)", "4 values are given"),
    ("history", "agent.think.budget=3", "there is no field config.agent.think"),
    ("history", "agent.act=3", "has fields of its own"),
    ("history", "model.preset=0.2M", "0.1M"),
    ("history", "checkpoint_every=0", ">= 1"),
    ("history", "evaluation.num_episodes=0", ">= 1"),
    ("history", "evaluation.num_episodes=1", "evaluation.num_episodes is 1; set it >= 2"),
    ("history", "rollout.decoding.temperature=0", "rollout.decoding.temperature > 0"),
    ("history", "learner.estimator=grpo", "learner.group_size >= 2"),
    ("frozen_lake", "environment.map=SF/FH", "take a hole away or mark a goal"),
    ("reflection", "agent.attempts.memory.symbols=number", "'task'"),
    ("reflection", "learner.schedules.attempts.kep.start=0.5", "attempts.keep"),
    ("frozen_lake", "agent.act.time_limit=0", "agent.act.time_limit >= 1"),
    ("mastermind", "environment.num_pgs=3", "num_pegs"),
    ("mastermind", "environment.num_pegs=two", "type int"),
    ("combination_lock", "agent.act.time_limit=1", "at least 2"),
    ("shifting_controls", "agent=act(), attempts(2)", "agent.attempts.num_attempts=1"),
    ("ledger", "agent.use_tools.tools=('tabel',)", "table"),
    ("corridor", "agent=act(), use_tools(('calculator',))", "leave use_tools out"),
    ("ledger", "environment.num_hops=2", "agent.use_tools.max_calls"),
    ("mastermind", "agent=act(time_limit=8, information_bonus=1.0), attempts(2)", "paid for again in every attempt"),
    ("corridor", "agent.remember.budget=0", "agent.remember.budget >= 1"),
    ("corridor", "agent=act(), remember(), attempts(2, memory=history())", "history keeps the whole context"),
    ("number_guess", "agent.act.information_bonus=1.0", "agent.act.information_bonus=0"),
    ("number_guess", "agent=act(time_limit=10), token_cost(thinking=1.0)", "did you mean think?"),
    ("number_guess", "agent=act(time_limit=10), token_cost()", "give a kind of segment a cost"),
    ("number_guess", "agent=act(time_limit=10), novelty_bonus(-1.0)", "agent.novelty_bonus.scale"),
    ("number_guess", "agent=act(time_limit=10), scale_rewards(scheduled=('process',))", "schedules.scale_rewards.process.start"),
    ("mastermind", "agent.scale_rewards.scheduled=('proces',)", "proces"),
    ("number_guess", "warm_start=-1", "warm_start"),
    ("number_guess", "agent.act.time_limit=0", "agent.act.time_limit >= 1"),
    ("mastermind", "agent.act.time_limit=-1", "agent.act.time_limit"),
    ("mastermind", "agent.act.step_cost=-0.5", "agent.act.step_cost"),
    ("mastermind", "environment.num_colors=0", "num_colors"),
    ("bandit", "environment.num_arms=0", "num_arms"),
    ("combination_lock", "environment.num_digits=0", "num_digits"),
    ("combination_lock_without_reflection", "agent=act()", "attempts(2)"),
    ("combination_lock", "agent.attempts.num_attempts=1", "agent.attempts.num_attempts >= 2"),
    ("corridor", "environment.num_cues=0", "num_cues"),
    ("corridor", "agent.act.time_limit=3", "agent.remember.every is 4; set it to at least 1 and below 3"),
    ("arithmetic", "environment.digits_per_action=0", "digits_per_action"),
    ("arithmetic", "agent.act.time_limit=3", "agent.act.time_limit=0"),
    ("ledger", "environment.num_entries=0", "num_entries"),
    ("shifting_controls", "environment.num_actions=9", "num_actions"),
    ("restless_bandit", "environment.pay_probability=0.5", "pay_probability"),
    ("restless_bandit", "agent.act.time_limit=5", "at least 20"),
    ("frozen_lake_hidden", "agent.act.time_limit=5", "agent.act.time_limit > 5"),
    ("mastermind", "agent.act.time_limit=1", "agent.act.time_limit > 1"),
    ("corridor", "environment=ledger()", "leave remember out"),
    ("corridor", "warm_start_learning_rate.start=-0.1", "warm_start_learning_rate"),
    ("corridor", "num_updates=7", "did you mean config.learner.num_updates"),
    ("corridor", "learner.lr=0.1", "learning_rate"),
    ("corridor", "learner.rules.action.entropy=-1.0", "learner.rules.action.entropy"),
    ("corridor", "rollout.overhead=-1", "rollout.overhead"),
    ("history", "agent.act.discount=2", "agent.act.discount"),
    ("history", "agent.attempts.num_attempts=0", "agent.attempts.num_attempts"),
    ("history", "agent=act(), think(-1)", "agent.think.budget >= 1"),
    ("ledger", "agent.use_tools.tools=(table,)", "it takes a value of type tuple"),
    ("ledger", "agent.use_tools.tools=()", "give at least one of each"),
    ("ledger", "agent.use_tools.tools=3", "it takes a value of type tuple"),
    ("ledger", "agent.use_tools.tools={[]: 1}", "it takes a value of type tuple"),
    ("ledger", "agent.use_tools.tools=('table', 'table')", "its own word"),
    ("ledger", "agent.use_tools.max_calls=0", "give at least one of each"),
    ("corridor", "agent.remember.num_notes=-1", "agent.remember.num_notes"),
    ("corridor", "agent.remember.every=17", "below 17"),
    ("corridor", "agent=act(), remember(), token_cost(note=-1.0)", ">= 0"),
    ("frozen_lake", "learner.group_size=2", "restarts"),
    ("minesweeper", "agent=act(), use_tools(('imagine',))", "take imagine out of agent.use_tools.tools"),
    ("minesweeper", "agent.attempts.memory.budget=3", "agent.attempts.memory.budget >= 7"),
    ("composed", "agent.remember.budget=2", "agent.remember.budget >= 4"),
    ("frozen_lake_hidden", "environment.num_random_maps=17", "warm_start=0"),
    ("frozen_lake_hidden", "environment.is_slippery=True", "warm_start=0"),
    ("mastermind", "learner.schedules.scale_rewards.process.start=-1", "set both at least 0"),
    ("reflection", "learner.schedules.attempts.keep.start=1.5", "set both between 0 and 1"),
    ("corridor", "agent=act(), remember(), token_cost(think=1.0)", "charge for action, note"),
]


def answer(preset: str, assignments: list[str]) -> str:
    """What is said to somebody who gives these flags."""
    with pytest.raises(ArlError) as caught:
        build(override(get_preset(preset), assignments))
    return as_flags(str(caught.value))


@pytest.mark.parametrize("preset, assignment, says", WRONG)
def test_wrong_assignment_is_answered_in_one_line_that_helps(preset, assignment, says):
    said = answer(preset, [assignment])
    assert says in said and "\n" not in said


def test_annealed_agent_without_schedule_is_refused():
    said = answer("history", ["agent=act(), attempts(4, memory=reflection(3, annealed=True))"])
    assert "learner.schedules.attempts.keep.start" in said


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="reflection_16"):
        get_preset("reflexion_16")


def test_overrides_reach_every_depth_and_nothing_else():
    assignments = [
        "learner.entropy_weight.start=1",
        "learner.schedules.attempts.keep.until=0.25",
        "rollout.widths=((2, 5),)",
        "agent.attempts.memory.budget=2",
    ]
    before, after = get_preset("reflection"), override(get_preset("reflection"), assignments)
    assert after.learner.entropy_weight.start == 1.0 and isinstance(after.learner.entropy_weight.start, float)
    assert after.learner.schedules["attempts.keep"].until == 0.25
    assert after.learner.schedules["attempts.keep"].start == before.learner.schedules["attempts.keep"].start
    assert after.rollout.widths == ((2, 5),)
    assert after.agent == (Act(), Attempts(4, Reflection(2, annealed=True)))
    assert after.environment == before.environment and after.model == before.model


def test_fields_that_are_possible_only_together_are_set_together():
    both = ["learner.learning_rate.since=0.9", "learner.learning_rate.until=0.95"]
    for assignments in (both, both[::-1]):
        rate = override(get_preset("reflection"), ["learner.learning_rate.until=0.5", *assignments]).learner.learning_rate
        assert (rate.since, rate.until) == (0.9, 0.95)


@pytest.mark.parametrize(
    ("assignment", "find", "value"),
    [
        ("agent=act(), use_tools(('table',))", lambda config: config.agent, (Act(), UseTools(("table",)))),
        ("agent.attempts.memory=window(4)", lambda config: config.agent[1].memory, Window(4)),
        ("agent.attempts.discount=1", lambda config: config.agent[1].discount, 1.0),
        ("agent.act.resets_context=true", lambda config: config.agent[0].resets_context, True),
        ("environment=FrozenLake('SF/FG', is_slippery=False)", lambda config: config.environment, FrozenLake("SF/FG", False)),
        ("environment.num_numbers=5", lambda config: config.environment.num_numbers, 5),
        ("model.preset=10", lambda config: config.model.preset, "10"),
        ("learner.learning_rate.start=3e-4", lambda config: config.learner.learning_rate.start, 3e-4),
        ("learner.rules={'think': {'weight': 2}}", lambda config: config.learner.rules, {"think": Rule(weight=2.0)}),
        ("learner.estimator='rloo'", lambda config: config.learner.estimator, "rloo"),
        ("learner.estimator=rloo", lambda config: config.learner.estimator, "rloo"),
    ],
)
def test_a_value_is_read_as_what_is_wanted_in_its_place(assignment, find, value):
    found = find(override(get_preset("history"), [assignment]))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["table", "'table'", "('table',)", "table,"])
def test_a_tuple_of_words_needs_neither_quotes_nor_brackets(text):
    assert override(get_preset("ledger"), [f"agent.use_tools.tools={text}"]).agent[1].tools == ("table",)
    words = override(get_preset("arithmetic"), ["agent.use_tools.tools=calculator, imagine"]).agent[1].tools
    assert words == ("calculator", "imagine")


def test_what_a_field_holds_by_name_is_set_one_by_one_or_anew():
    before = override(get_preset("composed"), ["learner.rules.tool.entropy=0.5"])
    both = {"tool": Rule(entropy=0.5), "note": Rule(span="kind", gae_lambda=0.5)}
    assert override(before, ["learner.rules.note.span=kind", "learner.rules.note.gae_lambda=0.5"]).learner.rules == both
    assert override(before, ["learner.rules={}", "learner.rules.note.weight=2"]).learner.rules == {"note": Rule(weight=2.0)}


def test_fields_are_named_to_their_depths():
    names = field_names(get_preset("history"))
    wanted = {"warm_start", "learner.num_updates", "rollout.decoding.temperature", "environment.num_numbers", "agent.act.time_limit"}
    assert wanted <= set(names)
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
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "frozen_lake_8x8"])
def test_preset_can_be_built_and_something_can_be_learned(name):
    experiment = build(get_preset(name))
    assert experiment.bounds.random < experiment.bounds.optimal
    assert experiment.rollout.context_length >= experiment.interaction.size.context


@pytest.mark.parametrize(
    ("preset", "assignments", "random", "optimal"),
    [
        ("reflection", ["agent.act.step_cost=0.5"], 0.5 - 2.0, 2.375 - 2.0),
        ("number_guess", ["agent.act.step_cost=0.5"], None, -1.5 * number_guess.optimal_num_guesses(32, 10)),
        ("bandit", ["agent.act.time_limit=3"], 1.5, bandit.optimal_return(2, 3)),
        ("bandit", ["agent.act.time_limit=3", "agent.act.step_cost=0.25"], 0.75, bandit.optimal_return(2, 3) - 0.75),
    ],
)
def test_bounds_are_those_of_the_task_as_it_is_played(preset, assignments, random, optimal):
    experiment = build(override(get_preset(preset), assignments))
    assert experiment.bounds.optimal == pytest.approx(optimal)
    assert random is None or experiment.bounds.random == pytest.approx(random)


def test_a_lake_whose_steps_cost_is_refused():
    assert "agent.act.step_cost=0" in answer("frozen_lake", ["agent.act.step_cost=0.1"])


def test_a_config_of_an_earlier_version_is_refused_in_one_sentence():
    with pytest.raises(ArlError, match="written by an earlier arl"):
        from_dict({"preset": "reflection", "environment": {"name": "number_guess"}, "agent": {"num_attempts": 4}})
    with pytest.raises(ArlError, match="written by an earlier arl"):
        from_dict({"preset": "reflection", "rollout": {"expert": False}, "learner": {"entropy_scales": {}}})


def test_what_is_written_of_a_part_is_read_as_the_same_part():
    layers = (Act(time_limit=3), Attempts(2, Reflection(2, (" A", " B")), name="outer"))
    assert parts.read(parts.write(layers)) == layers
    assert parts.write([Window(4)]) == "window(num_tokens=4)"
