"""Layers, and agents made of them: which tuples are agents, what a layer passes on, what an interaction says of itself."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from arl import agents, text
from arl.agents import (
    Act,
    Attempts,
    Layer,
    Nothing,
    NoveltyBonus,
    Reflection,
    Remember,
    ScaleRewards,
    Think,
    TokenCost,
    UseTools,
    extend,
    limits_of,
    note_symbols,
)
from arl.agents.layer import scheduled_value
from arl.task import Limits, Task, Tool
from arl.types import AgentState, ArlError, Interaction, Kind, Segment
from tests import agents_fixtures as plain
from tests import tiny

TOOL = Tool(" key", (), lambda key, state, arguments: text.encode(tiny.TOKENIZER, " yes"), 1)
SAY = lambda key, state, attempt: text.constant([7])


@dataclasses.dataclass(frozen=True)
class CountTurns(Layer):
    """A layer of one's own: its state is the number of segments written, and it says which task it was given."""

    told: list = dataclasses.field(default_factory=list, compare=False)

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        self.told.append(task)

        def start(key, curriculum):
            state, turn = inner.start(key, curriculum)
            return state.push(jnp.int32(0)), turn

        def advance(key, curriculum, state, segment):
            inner_state, count = state.pop()
            inner_state, turn = inner.advance(key, curriculum, inner_state, segment)
            return inner_state.push(count + 1), turn

        return extend(inner, self, start=start, advance=advance)


# ---------------------------------------------------------------- which tuples are agents


@pytest.mark.parametrize("layers", [("act",), (Act,), (Act(), Think), (Act(), None), (Act(), Nothing()), (Act(), (Think(2),))])
def test_what_is_no_layer_is_refused(layers):
    with pytest.raises(ArlError, match=r"is no layer; give layers, such as Act\(\) and Attempts\(4\)"):
        tiny.make(tiny.make_walk(), *layers)


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ((Act(), Think(2), Think(3)), "think"),
        ((Act(), Act()), "act"),
        ((Act(), Think(2), Attempts(2, name="think")), "think"),
        ((Act(), Think(2, name="a"), Attempts(2, name="a")), "a"),
    ],
)
def test_two_layers_of_one_name_are_refused(layers, name):
    with pytest.raises(ArlError, match=f"two layers are called {name}; give one of them another name, as in name='outer'"):
        tiny.make(tiny.make_walk(), *layers)


def test_two_layers_of_a_kind_with_names_of_their_own_are_an_agent():
    interaction = tiny.make(tiny.make_walk(), Act(), Think(2), Think(3, name="outer"))
    assert [layer.label for layer in interaction.layers] == ["act", "think", "outer"]


@pytest.mark.parametrize("layers", [(), (Think(2),), (Attempts(2), Act()), (Think(2), Act(), Attempts(2)), (CountTurns(), Act())])
def test_an_agent_that_does_not_begin_with_act_is_refused(layers):
    with pytest.raises(ArlError, match=r"an agent begins with the layer that acts; put Act\(\) first"):
        tiny.make(tiny.make_walk(), *layers)


@pytest.mark.parametrize("layers", [(Act(), Act(name="again")), (Act(), Think(2), Act(name="again"))])
def test_a_second_act_that_is_not_first_is_refused(layers):
    with pytest.raises(ArlError, match="Act is the innermost layer; put it first, and once"):
        tiny.make(tiny.make_walk(), *layers)


def test_layers_are_wrapped_from_the_inside_out_whatever_sequence_they_are_in():
    """So the order decides: thoughts in attempts are not attempts in thoughts."""
    layers = [Act(), Think(2), CountTurns(), Attempts(2)]
    interaction = agents.make_agent(Task(tiny.make_walk(), tiny.TOKENIZER), layers)
    assert interaction.layers == tuple(layers)
    state, _ = interaction.start(jax.random.key(0), {})
    assert [type(own).__name__ for own in (state.layers[1], state.layers[3])] == ["ThinkState", "AttemptsState"]
    assert len(state.layers) == 4 and int(state.layers[2]) == 0


def test_a_layer_of_ones_own_can_stand_anywhere_but_first():
    interaction = tiny.make(tiny.make_walk(2), Act(), CountTurns(), Think(2), CountTurns(name="all"))
    state, turn = interaction.start(jax.random.key(0), {})
    while not turn.terminated:
        said = text.pad(text.constant(plain.STRINGS[2] if turn.kind == Kind.ACTION else [int(turn.kind)]), interaction.size.written)
        written = Segment(said, jnp.where(turn.kind == Kind.ACTION, 2, 0).astype(jnp.int32), jnp.bool_(True))
        state, turn = interaction.advance(jax.random.key(0), {}, state, written)
    assert [int(state.layers[1]), int(state.layers[3])] == [2, 4], "thoughts are counted outside of them alone"


def test_a_layer_without_a_wrap_is_none_yet():
    with pytest.raises(NotImplementedError):
        tiny.make(tiny.make_walk(), Act(), Layer())


# ---------------------------------------------------------------- names and defaults


@pytest.mark.parametrize(
    ("layer", "label"),
    [
        (Act(), "act"),
        (UseTools((TOOL,)), "use_tools"),
        (TokenCost(think=1.0), "token_cost"),
        (NoveltyBonus(1.0), "novelty_bonus"),
        (ScaleRewards(process=2.0), "scale_rewards"),
        (Attempts(2, name="outer"), "outer"),
        (CountTurns(), "count_turns"),
    ],
)
def test_a_layer_is_called_by_its_class_unless_it_has_a_name(layer, label):
    assert layer.label == label


def test_a_layer_of_ones_own_writes_nothing_follows_no_schedule_and_changes_no_limits():
    layer, limits = CountTurns(), Limits(3, 0.5, 2)
    assert (layer.writes, layer.schedules, layer.budgets, layer.one_time_reward, layer.is_innermost) == ((), (), {}, "", False)
    assert layer.set_limits(limits) == limits


def test_layers_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Think(2).budget = 3


@pytest.mark.parametrize("wrong", ["12", "tasks", ""])
def test_symbols_are_those_of_the_task_any_token_or_given(wrong):
    task = Task(tiny.make_walk(), tiny.TOKENIZER, note_symbols=(" A", " B"))
    assert note_symbols(task, "task") == (" A", " B") and note_symbols(task, "any") is None
    assert note_symbols(task, (" 1", " 2")) == note_symbols(task, [" 1", " 2"]) == (" 1", " 2")
    assert note_symbols(task._replace(note_symbols=None), "task") is None
    with pytest.raises(ArlError, match="set it to 'task', 'any', or a tuple of strings of one token"):
        note_symbols(task, wrong)


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("layers", "limits"),
    [
        ((), Limits(0, 0.0, 1)),
        ((Act(),), Limits(0, 0.0, 1)),
        ((Act(time_limit=5, step_cost=0.25),), Limits(5, 0.25, 1)),
        ((Act(), Attempts(3)), Limits(0, 0.0, 3)),
        ((Act(time_limit=5), Think(2), Attempts(3), ScaleRewards(process=2.0)), Limits(5, 0.0, 3)),
        ((Act(step_cost=1.0), Attempts(3), Attempts(2, name="outer")), Limits(0, 1.0, 6)),
    ],
)
def test_limits_of_an_episode_are_those_of_act_and_of_all_attempts(layers, limits):
    assert limits_of(layers) == limits


def test_every_layer_and_the_experts_of_the_task_are_told_the_limits_of_the_whole_agent():
    """Those of layers outside of them too."""
    layer, told = CountTurns(), []
    environment = tiny.make_walk(5)
    tiny.make(environment, Act(time_limit=2, step_cost=0.5), layer, Attempts(3), experts=lambda limits: told.append(limits) or {})
    assert [task.limits for task in layer.told] == [Limits(2, 0.5, 3)] and set(told) == {Limits(2, 0.5, 3)}
    assert layer.told[0].environment is environment


# ---------------------------------------------------------------- what an interaction writes, and who is an expert of it


@pytest.mark.parametrize(
    ("layers", "kinds"),
    [
        ((Act(),), (Kind.ACTION,)),
        ((Act(), Think(2), Think(2, name="outer")), (Kind.ACTION, Kind.THINK)),
        ((Act(), Attempts(2)), (Kind.ACTION,)),
        ((Act(), Attempts(2, tiny.NOTE)), (Kind.ACTION, Kind.REFLECTION)),
        ((Act(), Remember(1, 1, 1, tiny.SYMBOLS)), (Kind.ACTION, Kind.NOTE)),
        ((Act(), Remember(2, 1, 1, tiny.SYMBOLS)), (Kind.ACTION, Kind.NOTE, Kind.CONTROL)),
        ((Act(), UseTools((TOOL,)), TokenCost(tool=1.0), ScaleRewards(efficiency=0.5)), (Kind.ACTION, Kind.TOOL)),
    ],
)
def test_an_interaction_writes_what_its_layers_ask_for(layers, kinds):
    """Whether or not somebody is an expert of it."""
    interaction = tiny.make(tiny.make_walk(), *layers)
    assert interaction.writes == kinds and not interaction.has_expert


EVERY_KIND = (Act(), Think(2), UseTools((TOOL,)), Attempts(2, tiny.NOTE), Remember(2, 1, 2, tiny.SYMBOLS))


def test_an_interaction_has_an_expert_where_the_environment_has_one():
    """The layers' own experts write the rest; without one who acts they are not enough."""
    interaction = tiny.guess(*EVERY_KIND[1:])
    kinds = {Kind.ACTION, Kind.THINK, Kind.TOOL, Kind.REFLECTION, Kind.NOTE, Kind.CONTROL}
    assert interaction.has_expert and set(interaction.writes) == set(interaction.experts) == kinds
    without = tiny.make(tiny.make_guess()._replace(expert=None), *EVERY_KIND)
    assert not without.has_expert and set(without.experts) == kinds - {Kind.ACTION}
    given = tiny.make(tiny.make_guess()._replace(expert=None), *EVERY_KIND, experts=lambda limits: {Kind.ACTION: SAY})
    assert given.has_expert


def test_has_expert_asks_for_all_kinds_that_are_written():
    act = tiny.make(tiny.make_walk(), Act())
    assert not act.has_expert and act._replace(experts={Kind.ACTION: SAY}).has_expert
    assert not act._replace(experts={Kind.THINK: SAY}).has_expert
    think = tiny.make(tiny.make_walk(), Act(), Think(2))
    assert not think._replace(experts={Kind.ACTION: SAY}).has_expert
    assert think._replace(experts={Kind.ACTION: SAY, Kind.THINK: SAY, Kind.NOTE: SAY}).has_expert
    assert not act._replace(layers=(), experts={}).has_expert, "nobody is an expert of what has no layers and no experts"


@pytest.mark.parametrize("layers", [EVERY_KIND, (*EVERY_KIND, TokenCost(action=1.0), NoveltyBonus(1.0), ScaleRewards(process=2.0))])
def test_an_expert_of_actions_is_the_same_through_all_layers(layers):
    """It sees the environment's state, whatever the layers add to the state of the agent."""
    interaction, environment = tiny.make(tiny.make_guess(), *layers), tiny.make_guess()
    state, _ = interaction.start(jax.random.key(3), {})
    said = interaction.experts[Kind.ACTION](jax.random.key(0), state, jnp.int32(0))
    action = int(environment.expert(jax.random.key(0), state.environment))
    assert plain.ids(said) == text.token_ids(tiny.TOKENIZER, f" {action}")


# ---------------------------------------------------------------- what `extend` passes on


def test_around_passes_on_what_a_layer_does_not_change():
    inner = tiny.guess()._replace(update_curriculum=lambda curriculum, outcomes: {**curriculum, "seen": outcomes})
    outer = extend(inner, CountTurns())
    for field in ("start", "advance", "grammar", "size", "update_curriculum"):
        assert getattr(outer, field) is getattr(inner, field), field
    assert outer.layers == (*inner.layers, CountTurns()) and set(outer.experts) == set(inner.experts)


def test_around_changes_what_it_is_given():
    inner = tiny.guess()
    size = inner.size._replace(read=99)
    outer = extend(inner, CountTurns(), size=size, start=min)
    assert outer.size == size and outer.start is min and outer.advance is inner.advance


def test_around_nothing_is_no_layer_of_the_agent():
    """Such as an intervention."""
    inner = tiny.guess(Think(2))
    assert extend(inner, None).layers == inner.layers and extend(inner, None).writes == inner.writes


def test_around_asks_experts_within_without_the_layers_own_state():
    """Those of the layer itself are asked with it, and go before those within."""
    seen = []

    def expert(who):
        return lambda key, state, attempt: seen.append((who, state, int(attempt))) or text.empty(0)

    inner = tiny.make(tiny.make_walk(), Act())._replace(experts={Kind.ACTION: expert("acts"), Kind.NOTE: expert("notes")})
    outer = extend(inner, CountTurns(), experts={Kind.NOTE: expert("notes outside"), Kind.THINK: expert("thinks")})
    state = AgentState("environment", ("act's", "own"))
    for kind in (Kind.ACTION, Kind.NOTE, Kind.THINK):
        outer.experts[kind](jax.random.key(0), state, 2)
    assert seen == [("acts", AgentState("environment", ("act's",)), 2), ("notes outside", state, 2), ("thinks", state, 2)]
    assert set(inner.experts) == {Kind.ACTION, Kind.NOTE}, "the interaction within stays as it was"


def test_a_state_pops_what_was_pushed_last():
    state = AgentState("environment").push(1).push(2)
    assert state == AgentState("environment", (1, 2))
    assert state.pop() == (AgentState("environment", (1,)), 2) and state.pop()[0].pop() == (AgentState("environment"), 1)


# ---------------------------------------------------------------- what pays once


@dataclasses.dataclass(frozen=True)
class PayOnce(CountTurns):
    """A layer of one's own that pays once an episode."""

    @property
    def one_time_reward(self) -> str:
        return "a medal (PayOnce)"


@pytest.mark.parametrize("memory", [Nothing(), Reflection(1, tiny.SYMBOLS)])
@pytest.mark.parametrize("between", [(), (Think(2),), (CountTurns(name="between"),)])
def test_a_layer_that_pays_once_is_refused_inside_several_attempts(between, memory):
    with pytest.raises(ArlError, match=r"^a medal \(PayOnce\) would be paid for again in every attempt; put that layer around Attempts"):
        tiny.guess(PayOnce(), *between, Attempts(2, memory))
    tiny.guess(*between, Attempts(2, memory), PayOnce())


def test_a_layer_that_pays_once_may_be_inside_one_attempt_and_outside_of_inner_attempts_alone():
    tiny.guess(PayOnce(), Attempts(1))
    with pytest.raises(ArlError, match="set num_attempts=1"):
        tiny.guess(Attempts(2), PayOnce(), Attempts(2, name="outer"))


tool = lambda name: Tool(name, (), lambda key, state, arguments: text.encode(tiny.TOKENIZER, " yes"), 1)
TABLE = text.stack([text.token_ids(tiny.TOKENIZER, symbol * 2) for symbol in tiny.SYMBOLS])
NOTES = {Kind.NOTE: lambda key, state, attempt: text.lookup(TABLE, state.number)}
WALK = tiny.make_walk(5)._replace(expert=lambda key, state: jnp.int32(3) - (state.steps == 3))
AGENTS = {
    "tools": lambda: tiny.guess(UseTools((tool(" key"),)), UseTools((tool(" yes"),), go_on=" so", name="outer")),
    "notes": lambda: tiny.make(WALK, Act(), Remember(2, 1, 1, tiny.SYMBOLS), Remember(3, 1, 2, tiny.SYMBOLS, name="outer")),
    "reflections": lambda: tiny.make(
        tiny.make_guess(), Act(), Attempts(2, Reflection(2, tiny.SYMBOLS)),
        Attempts(2, Reflection(1, tiny.SYMBOLS), name="outer"), experts=lambda limits: NOTES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AGENTS)
def test_of_two_layers_that_write_one_kind_the_one_that_asks_is_answered_by_its_own_expert(name):
    agent = AGENTS[name]()
    state, turn = agent.start(jax.random.key(0), {})
    for _ in range(agent.size.turns):
        kind = Kind(int(turn.kind))
        said = text.pad(text.cut(agent.experts[kind](jax.random.key(0), state, jnp.int32(0)), agent.size.written), agent.size.written)
        choice, is_legal = text.parse(agent.grammar, turn.grammar_state, said)
        assert is_legal and (kind != Kind.REFLECTION or len(plain.ids(said)) == int(turn.budget))
        state, turn = agent.advance(jax.random.key(0), {}, state, Segment(said, choice, is_legal))
        if turn.terminated:
            break
    assert turn.terminated or turn.truncated


def test_what_nothing_schedules_is_named():
    assert scheduled_value({"attempts": {"keep": 0.5}}, "attempts", "keep") == 0.5
    for curriculum in ({}, {"attempts": {}}):
        with pytest.raises(ValueError, match="nothing sets attempts.keep"):
            scheduled_value(curriculum, "attempts", "keep")
