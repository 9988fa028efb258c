"""The checker: it finds each of many planted faults and names it, and finds none in our own environments and layers."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, text
from arl.agents import (
    Act,
    AskForHelp,
    Attempts,
    Confidence,
    History,
    Layer,
    Menu,
    NoveltyBonus,
    Plan,
    RaiseLevel,
    Reflection,
    Remember,
    ScaleRewards,
    Think,
    TokenCost,
    UseTools,
    Window,
    extend,
    make_agent,
)
from arl.runs.checker import check
from arl.task import Bounds, Environment, Step, Task
from arl.types import AgentState, ArlError, Interaction, Kind, Segment, Text, Turn
from tests import tiny
from tests.outside.hanoi_pkg.envs import Hanoi
from tests.outside.hanoi_pkg.vote import Vote

TOKENIZER = tiny.TOKENIZER
EPISODES = 16  # of each kind: enough for small environments, whose every state is reached

# ---------------------------------------------------------------- an environment, and its faults


class SayState(NamedTuple):
    """A hidden number below 4, the steps made, and whether the last one was right; 0 before the first."""

    target: jax.Array
    steps: jax.Array
    answer: jax.Array


@dataclasses.dataclass(frozen=True)
class Say:
    """Three times a number is said; the right one pays 1, another one costs 0.5. `broken` changes one thing of the task."""

    broken: Callable[[Task], Task] = lambda task: task

    def make(self, tokenizer) -> Task:
        say = text.template(tokenizer, "{answer}", answer=text.choice(["Guess:", " wrong:", " correct:"]))

        def step(key, state, action):
            is_right = action == state.target
            state = SayState(state.target, state.steps + 1, jnp.where(is_right, 2, 1).astype(jnp.int32))
            return state, Step(jnp.where(is_right, 1.0, -0.5), state.steps >= 3, jnp.bool_(False))

        environment = Environment(
            reset=lambda key: SayState(jax.random.randint(key, (), 0, 4), jnp.int32(0), jnp.int32(0)),
            step=step,
            describe=lambda state: say(answer=state.answer),
            grammar=text.legal_strings(tokenizer, [f" {i}" for i in range(4)]),
            legal=lambda state: jnp.ones(4, bool),
            max_steps=3,
            expert=lambda key, state: state.target,
            state_hash=lambda state: state.steps.astype(jnp.uint32),
            worst_reward=-0.5,
        )
        bounds = lambda limits: Bounds(-0.375 * limits.num_attempts, 3.0 * limits.num_attempts, None, "bound")
        return self.broken(Task(environment, tokenizer, bounds, hidden=lambda state: state.target))


def with_environment(**changes: Callable[[Environment], Any]) -> Callable[[Task], Task]:
    """A task whose environment has other fields, each made from the environment as it was."""
    return lambda task: task._replace(
        environment=task.environment._replace(**{name: change(task.environment) for name, change in changes.items()})
    )


def with_step(change: Callable[[SayState, Step], tuple[Any, Step]]) -> Callable[[Task], Task]:
    """A task whose step is changed afterwards."""
    return with_environment(step=lambda environment: lambda *arguments: change(*environment.step(*arguments)))


def with_bounds(change: Callable[[Bounds], Bounds]) -> Callable[[Task], Task]:
    return lambda task: task._replace(bounds=lambda limits: change(task.bounds(limits)))


def in_python(environment):
    def step(key, state, action):
        after, result = environment.step(key, state, action)
        if after.steps > 2:
            result = result._replace(reward=result.reward + 1)
        return after, result

    return step


def in_place(environment):
    def step(key, state, action):
        after, result = environment.step(key, state["it"], action)
        state["it"] = after
        return state, result

    return step


def from_the_host(environment):
    """Draws on the host while the program runs."""

    def step(key, state, action):
        draw = jax.pure_callback(lambda: np.float32(random.random()), jax.ShapeDtypeStruct((), jnp.float32), vmap_method="sequential")
        after, result = environment.step(key, state, action)
        return after, result._replace(reward=result.reward + 0.1 * draw)

    return step


longer = lambda said, length: Text(said.ids, jnp.asarray(length, jnp.int32))
ENVIRONMENTS = {
    "state of another type": (
        with_step(lambda state, step: (state._replace(steps=state.steps * 1.0), step)),
        r"the environment's step returns a state whose \.steps is float32\[\] where that of reset is int32\[\]; return the same structure, "
        "shapes and types in both",
    ),
    "state of another shape": (
        with_step(lambda state, step: (state._replace(target=state.target[None]), step)),
        r"step returns a state whose \.target is int32\[1\] where that of reset is int32\[\]",
    ),
    "state of another structure": (with_step(lambda state, step: (tuple(state), step)), "the environment's step returns a state whose"),
    "reward of another type": (
        with_step(lambda state, step: (state, step._replace(reward=jnp.int32(1)))),
        r"the reward of the environment's step is int32\[\]; make it float32\[\]",
    ),
    "reward that is no scalar": (
        with_step(lambda state, step: (state, step._replace(reward=step.reward[None]))),
        r"the reward of the environment's step is float32\[1\]; make it float32\[\]",
    ),
    "reward that is not finite": (
        with_step(lambda state, step: (state, step._replace(reward=jnp.where(state.steps == 2, jnp.nan, step.reward)))),
        "the environment's step pays nan; make every reward a finite number",
    ),
    "end that is no bool": (
        with_step(lambda state, step: (state, step._replace(terminated=state.steps))),
        r"`terminated` of the environment's step is int32\[\]; make it bool\[\]",
    ),
    "truncated that is no scalar": (
        with_step(lambda state, step: (state, step._replace(truncated=jnp.zeros(2, bool)))),
        r"`truncated` of the environment's step is bool\[2\]; make it bool\[\]",
    ),
    "no step": (
        with_environment(step=lambda environment: lambda *arguments: environment.step(*arguments)[0]),
        r"the environment's step returns anything but \(state, Step\); return these two",
    ),
    "nothing is legal": (
        with_environment(legal=lambda environment: lambda state: jnp.arange(4) < 4 - 4 * (state.answer == 2)),
        "the environment's legal is False for all actions before step [23] of an attempt; allow at least one, or end the attempt before",
    ),
    "legal of another shape": (
        with_environment(legal=lambda environment: lambda state: jnp.ones(3, bool)),
        r"what the environment's legal returns is bool\[3\]; make it bool\[4\]",
    ),
    "legal of another type": (
        with_environment(legal=lambda environment: lambda state: jnp.ones(4)),
        r"what the environment's legal returns is float32\[4\]; make it bool\[4\]",
    ),
    "text longer than its capacity": (
        with_environment(describe=lambda environment: lambda state: longer(environment.describe(state), 40 + state.steps)),
        "the environment's describe says a text of length 40, which does not fit into its capacity of 2; give it room",
    ),
    "answer longer than its capacity": (
        with_environment(answer_capacity=lambda environment: 1),
        "the environment's describe says 2 tokens after an action, and its answer_capacity is 1; set it to the most that are said, or to "
        "None",
    ),
    "no capacity for an answer": (
        with_environment(answer_capacity=lambda environment: 3),
        "the environment's answer_capacity is 3; set it between 1 and 2, the capacity of describe, or to None",
    ),
    "text of negative length": (
        with_environment(describe=lambda environment: lambda state: longer(environment.describe(state), 1 - state.steps)),
        "the environment's describe says a text of length -1, which does not fit into its capacity",
    ),
    "no text": (
        with_environment(describe=lambda environment: lambda state: environment.describe(state).ids),
        "the environment's describe returns .*, not a Text",
    ),
    "a string": (
        with_environment(describe=lambda environment: lambda state: "Answer:"),
        "the environment's describe returns a str, which is no array; make a text by arl.text.template or arl.text.constant",
    ),
    "a traced value in a string": (
        with_environment(describe=lambda environment: lambda state: text.encode(TOKENIZER, f"Answer {state.steps}:")),
        "has a traced value in it; make the text by arl.text.template, with a placeholder for the value",
    ),
    "ids outside of the tokenizer": (
        with_environment(describe=lambda environment: lambda state: text.constant([len(TOKENIZER) + 5])),
        f"the environment's describe says token {len(TOKENIZER) + 5}, and its tokenizer has tokens 0 to {len(TOKENIZER) - 1}; make texts "
        "with that tokenizer",
    ),
    "actions outside of the tokenizer": (
        with_environment(grammar=lambda environment: environment.grammar._replace(token=environment.grammar.token + 10**6)),
        f"the environment's grammar has token 10.*, and its tokenizer {len(TOKENIZER)} tokens; make both with one tokenizer",
    ),
    "attempt without end": (
        with_step(lambda state, step: (state, step._replace(terminated=step.terminated & (state.answer == 2)))),
        "an attempt goes on after the environment's max_steps = 3 actions; end it by then, or set max_steps to the most that there can be, "
        "or to None",
    ),
    "no number of steps": (
        with_environment(max_steps=lambda environment: 2.5),
        "the environment's max_steps is 2.5; set it to a whole number",
    ),
    "expert outside of the law": (
        with_environment(legal=lambda environment: lambda state: jnp.arange(4) != state.target),
        "the environment's expert takes an action that is not legal; let it choose among the legal ones",
    ),
    "expert of texts outside of the law": (
        lambda task: task._replace(experts=lambda limits: {Kind.ACTION: lambda key, state, attempt: text.constant([7, 7])}),
        "the task's expert of actions writes a text that is no legal action; let it write one of the legal strings",
    ),
    "reward below the worst": (
        with_environment(worst_reward=lambda environment: -0.25),
        "the environment's step pays -0.5 where its worst_reward is -0.25; set worst_reward to the least that a step can earn",
    ),
    "worst reward above 0": (
        with_environment(worst_reward=lambda environment: 0.5),
        "the environment's worst_reward is 0.5, and illegal texts earn it; set it to the least that a step can earn",
    ),
    "draws while it is traced": (
        with_step(lambda state, step: (state, step._replace(reward=step.reward + random.random()))),
        "the environment's step computes something else when it is traced again; draw random numbers from its key, and keep what "
        "changes in the state",
    ),
    "draws an array while it is traced": (
        with_environment(legal=lambda environment: lambda state: jnp.asarray(np.random.default_rng().random(4) < 2) & _noise()[:4]),
        "the environment's legal computes something else when it is traced again",
    ),
    "draws while it runs": (
        with_environment(step=from_the_host),
        "the environment does something else when it is played again with the same keys; make its functions pure",
    ),
    "changes its arguments": (
        with_environment(
            reset=lambda environment: lambda key: {"it": environment.reset(key)},
            step=in_place,
            describe=lambda environment: lambda state: environment.describe(state["it"]),
        ),
        "the environment's step changes the state that it is given in place; return a new one",
    ),
    "what is hidden is told": (
        with_environment(describe=lambda environment: _tell),
        r"the first text of an attempt tells about (1\.99|2\.0\d) bits of Task\.hidden; take them out of the environment's describe, "
        "or leave Task.hidden out",
    ),
    "random is no worse than optimal": (
        with_bounds(lambda bounds: bounds._replace(optimal=bounds.random)),
        "Bounds.random is -0.375 and Bounds.optimal -0.375; make an optimal agent earn more than a random one",
    ),
    "random is not what it is": (
        with_bounds(lambda bounds: bounds._replace(random=1.5)),
        "Bounds.random is 1.5, and 256 episodes of random legal actions earned -0.[0-9]* on average; set it to the mean outcome of uniform "
        "legal actions",
    ),
    "optimal is exceeded": (
        with_bounds(lambda bounds: bounds._replace(optimal=1.5)),
        "Bounds.optimal is 1.5, and 64 episodes of the expert earned 3 on average; set it to the largest mean outcome, or to a bound of it",
    ),
    "bounds that are not finite": (with_bounds(lambda bounds: bounds._replace(optimal=np.inf)), "make both finite numbers"),
    "hash of another type": (
        with_environment(state_hash=lambda environment: lambda state: state.steps),
        r"the environment's state_hash is int32\[\]; make it uint32\[\]",
    ),
    "decides in Python": (
        with_environment(step=in_python),
        r"the environment's step cannot be compiled, since Python asks for the value of a traced array \(line \d+ of checker_test.py\); "
        "use jnp.where, jax.lax.cond or arl.types.select in place of if, and arrays in place of int, float and bool",
    ),
    "fails": (
        with_environment(reset=lambda environment: lambda key: jnp.zeros(3) + jnp.zeros(4)),
        "the environment's reset fails with TypeError: .*; make it a pure function of arrays that JAX can trace",
    ),
}


def _noise() -> jax.Array:
    return jnp.asarray(np.random.default_rng().random(64) < 0.5)


def _tell(state: SayState) -> Text:
    return Text((50 + state.target)[None], jnp.int32(1))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_is_broken_in_an_environment_is_named(name):
    broken, sentence = ENVIRONMENTS[name]
    with pytest.raises(ArlError, match=sentence) as caught:
        check(Say(broken), num_episodes=EPISODES)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


def test_nothing_is_broken_in_the_environment_itself():
    check(Say())
    check(Say(lambda task: task._replace(bounds=None, hidden=None)).make(TOKENIZER))
    check(Say(with_environment(answer_capacity=lambda environment: 2)), num_episodes=EPISODES)


# ---------------------------------------------------------------- a layer, and its faults


class Heard(NamedTuple):
    """What a change of a layer's turn may depend on: segments heard so far, the last one, and whether the inner episode has ended."""

    number: jax.Array
    segment: Segment
    curriculum: Any


@dataclasses.dataclass(frozen=True)
class Count(Layer):
    """A layer that counts segments. `change` breaks the turns that follow one, `fields` what the layer returns of itself."""

    change: Callable[[Turn, Heard], Turn] = lambda turn, heard: turn
    fields: Callable[[Interaction], dict] = lambda inner: {}
    first: Callable[[Any], Any] = lambda own: own

    def wrap(self, inner, task):
        def start(key, curriculum):
            state, turn = inner.start(key, curriculum)
            return state.push(self.first(jnp.int32(0))), turn

        def advance(key, curriculum, state, segment):
            inner_state, count = state.pop()
            inner_state, turn = inner.advance(key, curriculum, inner_state, segment)
            return inner_state.push(count + 1), self.change(turn, Heard(count + 1, segment, curriculum))

        return extend(inner, self, **{"start": start, "advance": advance, **self.fields(inner)})


def changed(**fields: Callable[[Turn, Heard], Any]) -> Count:
    """A layer that replaces fields of a turn."""
    return Count(lambda turn, heard: turn._replace(**{name: value(turn, heard) for name, value in fields.items()}))


def paid(component: str, value: Callable[[Turn, Heard], Any]) -> Count:
    """A layer that replaces a component of the reward."""
    return changed(reward=lambda turn, heard: turn.reward._replace(**{component: jnp.float32(value(turn, heard))}))


def forgets_to_pad(inner):
    def advance(*arguments):
        state, turn = inner.advance(*arguments)
        return state, turn._replace(read=text.pad(turn.read, turn.read.ids.shape[0] + 2))

    size = inner.size._replace(read=inner.size.read + 2)
    return {"advance": advance, "size": size}


def forgets_to_push(inner):
    return {
        "start": lambda key, curriculum: inner.start(key, curriculum),
        "advance": lambda *arguments: _pushed(*inner.advance(*arguments)),
    }


def _pushed(state: AgentState, turn: Turn):
    return state.push(jnp.int32(0)), turn


def once_more(turn, heard):
    return 2.0 * turn.reward.outcome


def without_the_last(turn, heard):
    return jnp.where(turn.terminated | turn.truncated, 0.0, turn.reward.outcome)


is_over = lambda turn: turn.terminated | turn.truncated
LAYERS = {
    "reward credited twice": (
        paid("outcome", once_more),
        r"in the layer count: rewards of the environment that add up to 1 \(for step 1 of an attempt of 3\) are credited as 2; pass the "
        "reward of each inner turn on once, and pay others as process, exploration or efficiency, or let a layer that only scales rewards "
        "say so by Layer.scales_rewards",
    ),
    "reward of the last step lost": (
        paid("outcome", without_the_last),
        r"in the layer count: rewards of the environment that add up to 1 \(for step 3 of an attempt of 3\) are credited as 0; pass",
    ),
    "nothing is legal": (
        changed(legal=lambda turn, heard: jnp.zeros_like(turn.legal)),
        "in the layer count: a turn that asks for ACTION has a budget of 1 and no legal string in its state of the grammar; set "
        "`grammar_state`",
    ),
    "dead state of the grammar": (changed(grammar_state=lambda turn, heard: jnp.int32(0)), "no legal string in its state of the grammar"),
    "kind that is not declared": (
        changed(kind=lambda turn, heard: jnp.int32(Kind.NOTE)),
        "in the layer count: a turn asks for NOTE, and the layers declare ACTION; add the kind to `writes` of the layer that asks for it",
    ),
    "truncated with a budget": (
        changed(truncated=lambda turn, heard: heard.number == 2, terminated=lambda turn, heard: jnp.bool_(False)),
        "in the layer count: a truncated turn has a budget of 1, and nothing is written in it; set its budget to 0",
    ),
    "no budget": (
        changed(budget=lambda turn, heard: jnp.int32(0)),
        "in the layer count: a turn that asks for ACTION has a budget of 0; set it to at least 1, or end the episode by "
        "truncated or terminated",
    ),
    "two ends": (
        changed(truncated=lambda turn, heard: turn.terminated, budget=lambda turn, heard: jnp.where(turn.terminated, 0, turn.budget)),
        "in the layer count: a turn is both terminated and truncated; set truncated to False where the episode has terminated",
    ),
    "discount": (changed(discount=lambda turn, heard: jnp.float32(1.5)), "the discount of a turn is 1.5; set it between 0 and 1"),
    "reward that is not finite": (
        paid("process", lambda turn, heard: jnp.where(heard.number > 1, jnp.inf, 0.0)),
        "the process reward of a turn is inf; make every reward a finite number",
    ),
    "reward for nothing": (
        paid("outcome", lambda turn, heard: jnp.where(heard.segment.is_legal, turn.reward.outcome, 5.0)),
        "an outcome reward of 5 is paid to texts of which none was a legal action; let illegal texts earn 0 or less",
    ),
    "expert outside of the law": (
        Count(fields=lambda inner: {"experts": {Kind.ACTION: lambda key, state, attempt: text.constant([7])}}),
        "the expert of ACTION writes a text that is not legal in its turn; let it write one of the legal strings",
    ),
    "expert who says too much": (
        Count(fields=lambda inner: {"experts": {Kind.ACTION: lambda key, state, attempt: text.constant([7, 7, 7])}}),
        "the expert of ACTION writes more than its budget of 1 tokens; cut its text, or raise the budget",
    ),
    "state of another type": (
        Count(first=lambda own: own * 1.5 > 1),
        r"in the layer count: advance returns a state whose \.layers\[1\] is int32\[\] where that of start is bool\[\]; return the same",
    ),
    "state that is not pushed": (
        Count(fields=forgets_to_push),
        "in the layer count: start returns the states of 1 layers and advance those of 2; push the layer's own state in both, and pop it "
        "in advance",
    ),
    "texts of two capacities": (
        Count(fields=forgets_to_pad),
        r"start reads a text of capacity \d+ and advance one of \d+; give both the same, as by text.concatenate",
    ),
    "new context without a text": (
        changed(
            reset_context=lambda turn, heard: jnp.bool_(True),
            read=lambda turn, heard: Text(turn.read.ids, jnp.where(is_over(turn), turn.read.length, 0)),
        ),
        "in the layer count: a turn resets the context and reads nothing; give it a text, or set reset_context to False",
    ),
    "text that does not fit": (
        changed(read=lambda turn, heard: Text(turn.read.ids, turn.read.length + 90)),
        r"a turn reads a text of length 9\d, which does not fit into its capacity of 2; give it room, and a length between 0 and that",
    ),
    "ids outside of the tokenizer": (
        changed(read=lambda turn, heard: Text(turn.read.ids - 10**6, turn.read.length)),
        "a turn reads token -9.*, and there are tokens 0 to",
    ),
    "attempt that falls": (
        changed(attempt=lambda turn, heard: jnp.maximum(1 - heard.number, -1)),
        "the index of the attempt falls from 0 to -1; count attempts up",
    ),
    "attempt beyond the limits": (
        changed(attempt=lambda turn, heard: heard.number),
        "the index of the attempt is 1, and an episode has 1 attempts; let set_limits of the layer multiply num_attempts by its own",
    ),
    "schedule that is not declared": (
        paid("process", lambda turn, heard: heard.curriculum["count"]["price"]),
        r"in the layer count: curriculum\['count'\]\['price'\] is read, and no layer declares it; add 'count.price' to the "
        "layer's schedules",
    ),
    "draws while it is traced": (
        paid("process", lambda turn, heard: random.random()),
        "in the layer count: advance computes something else when it is traced again",
    ),
    "turn of another type": (
        changed(budget=lambda turn, heard: turn.budget * 1.0),
        r"in the layer count: `budget` of the turn of advance is float32\[\]; make it int32\[\]",
    ),
    "reward at the start": (
        Count(fields=lambda inner: {"start": lambda key, curriculum: _paid_at_start(*inner.start(key, curriculum))}),
        "start returns a turn with a reward of 1, which no segment earns; pay it later",
    ),
}


def _paid_at_start(state: AgentState, turn: Turn):
    return state.push(jnp.int32(0)), turn._replace(reward=turn.reward._replace(process=jnp.float32(1.0)))


def agent_of(*layers: Layer, config: Any = None) -> Interaction:
    """An agent that acts in `Say`, or in another environment."""
    return make_agent((config or Say()).make(TOKENIZER), layers)


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_broken_in_a_layer_is_named(name):
    layer, sentence = LAYERS[name]
    with pytest.raises(ArlError, match=sentence) as caught:
        check(agent_of(Act(), layer), num_episodes=EPISODES)
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


@pytest.mark.parametrize("layers", [(Count(), Attempts(2, Reflection(2, tiny.SYMBOLS))), (Think(2, tiny.SYMBOLS), Count(name="other"))])
def test_nothing_is_broken_in_the_layer_itself(layers):
    check(agent_of(Act(), *layers), num_episodes=EPISODES)


def test_a_layer_that_scales_rewards_on_purpose_says_so():
    class Double(Count):
        scales_rewards = True

    check(agent_of(Act(), Double(paid("outcome", once_more).change)), num_episodes=EPISODES)
    with pytest.raises(ArlError, match="in the layer count: rewards of the environment that add up to 1 .* are credited as 0"):
        check(agent_of(Act(), Double(paid("outcome", once_more).change), paid("outcome", without_the_last)), num_episodes=EPISODES)


@pytest.mark.parametrize(("broken", "is_inner"), [(once_more, True), (without_the_last, False)])
def test_the_layer_at_fault_is_found_among_others(broken, is_inner):
    layer, attempts = paid("outcome", broken), Attempts(2, Reflection(2, tiny.SYMBOLS))
    layers = (layer, attempts) if is_inner else (attempts, layer)
    with pytest.raises(ArlError, match="^in the layer count: rewards of the environment that add up to [12] "):
        check(agent_of(Act(), *layers), num_episodes=EPISODES)


@pytest.mark.parametrize(
    ("field", "value"),
    [("read", 1), ("turns", 1), ("episode", 7), ("context_turns", 0), ("context_resets", 1)],
)
def test_a_size_that_is_not_declared_is_named(field, value):
    layer = Count(fields=lambda inner: {"size": inner.size._replace(**{field: value})})
    with pytest.raises(ArlError, match=rf"size\.{field} (is|to) "):
        check(agent_of(Act(resets_context=True), Think(3, tiny.SYMBOLS), layer), num_episodes=EPISODES)


# ---------------------------------------------------------------- what is no environment and no agent


@pytest.mark.parametrize("wrong", [None, "number_guess", Say, 3])
def test_what_cannot_be_checked_is_refused(wrong):
    with pytest.raises(
        ArlError, match=r"cannot be checked; give the config of an environment, with make\(tokenizer\) -> Task, a Task, or an"
    ):
        check(wrong)


def test_a_config_is_frozen_and_makes_a_task():
    class Loose:
        def make(self, tokenizer):
            return None

    with pytest.raises(ArlError, match="Loose is no frozen dataclass"):
        check(Loose())
    with pytest.raises(ArlError, match="make of Say returns a NoneType; return an arl.Task"):
        check(Say(lambda task: None))


def test_the_same_key_says_the_same():
    found = []
    for _ in range(2):
        with pytest.raises(ArlError) as caught:
            check(Say(ENVIRONMENTS["random is not what it is"][0]), key=jax.random.key(5), num_episodes=EPISODES)
        found.append(str(caught.value))
    assert found[0] == found[1]


# ---------------------------------------------------------------- ours

# Those that are played by no agent below, whose environment is checked as well.
CONFIGS = [envs.FrozenLake(), envs.RestlessBandit(), envs.ShiftingControls(2, 9, hazard=0.2), envs.TwentyQuestions()]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_nothing_is_broken_in_our_environments(config):
    check(config)


AGENTS = {
    "attempts": (envs.NumberGuess(8), Act(), Attempts(4, Reflection(3))),
    "annealed": (envs.CombinationLock(), Act(), Attempts(3, Reflection(2, stop=True, annealed=True)), NoveltyBonus(0.1)),
    "history": (Hanoi(2), Act(time_limit=6), Attempts(2, History())),
    "vote": (Hanoi(2), Act(time_limit=6, discount=0.9), Vote(3), Attempts(2)),
    "window": (envs.Bandit(2, 4), Act(step_cost=0.1), Attempts(2, Window(8))),
    "nested": (envs.CombinationLock(), Act(), Attempts(2, Reflection(2)), Attempts(2, Reflection(1), name="outer")),
    "remember": (envs.Corridor(), Act(resets_context=True), Remember(1, 1, 2)),
    "notes": (envs.Corridor(4), Act(), Remember(2, 1, 2, annealed=True), NoveltyBonus(0.1), ScaleRewards(scheduled=("exploration",))),
    "notes of attempts": (envs.CombinationLock(), Act(), Attempts(3, Window(8)), Remember(2, 2, 3)),
    "tools": (envs.Arithmetic(1), Act(), UseTools(("calculator", "imagine")), Think(4), TokenCost(think=0.01, tool=0.01)),
    "tools of attempts": (
        envs.Ledger(16, 2),
        Act(),
        UseTools(("table",), max_calls=2),
        Attempts(2, Reflection(2)),
        ScaleRewards(outcome=2.0),
    ),
    "thoughts": (envs.Mastermind(), Act(time_limit=6, information_bonus=0.1, step_cost=0.1), Think(3, stop=False), TokenCost(think=0.1)),
    "thoughts of attempts": (envs.Minesweeper(), Act(), Think(2), Attempts(2, Reflection(3))),
    "plan": (envs.BlindMaze(3, 4, slip=0.2), Act(), Plan(4, first=1, annealed=True), TokenCost(plan=0.01)),
    "plans of attempts": (
        envs.BlindMaze(3, 4, max_moves=5),
        Act(time_limit=4),
        Plan(2, every=2, stop=True),
        Think(1),
        Attempts(2, Window(8)),
    ),
    "menu": (envs.PointerChase(6, 3), Act(), Menu((Think(1, "task", stop=False, after=""),), 4), RaiseLevel(), TokenCost(control=0.1)),
    "menu of attempts": (envs.BlindMaze(3, 4, max_moves=4), Act(), Menu((Think(2), Plan(2), Remember(every=0)), 3), Attempts(2, Window(8))),
    "tools in a menu": (envs.Ledger(16, 2), Act(), Menu((UseTools(("table",), 2), Think(1)), 3), Attempts(2, Reflection(2))),
    "confidence": (envs.Bandit(2, 3), Act(), Confidence((10, 50, 90)), Attempts(2, Reflection(1)), TokenCost(confidence=0.01)),
    "help": (envs.Witnesses(2), Act(), AskForHelp(0.1), Confidence(score="log"), Attempts(2, History()), ScaleRewards(own=0.5)),
    "plans": (envs.FrozenLake(num_random_maps=4, is_hidden=True, is_slippery=False), Act(time_limit=6), Attempts(3, Reflection(6))),
}


def test_all_environments_are_checked():
    checked = {type(config) for config in (*CONFIGS, *(layers[0] for layers in AGENTS.values()))}
    assert {getattr(envs, name) for name in envs.__all__ if hasattr(getattr(envs, name), "make")} <= checked


@pytest.mark.parametrize("name", AGENTS)
def test_nothing_is_broken_in_our_layers(name):
    config, *layers = AGENTS[name]
    check(agent_of(*layers, config=config), num_episodes=32)


def test_an_interaction_without_a_task_is_played_too():
    agent = agent_of(Act(), Count())._replace(task=None)
    check(agent, num_episodes=EPISODES)
    with pytest.raises(ArlError, match="^the discount of a turn is 1.5; set it between 0 and 1"):
        check(agent_of(Act(), LAYERS["discount"][0])._replace(task=None), num_episodes=EPISODES)
