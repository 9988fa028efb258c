"""Small agents, a small model, and a second account of an episode that knows nothing of the rollout."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import agents, envs, models, rollout, text
from arl.agents import Act, AskForHelp, Attempts, Confidence, History, Menu, Plan, Reflection, Remember, Think, UseTools, Window
from arl.rollout.sampling import options
from arl.task import Environment, Step, Task
from arl.training import LearnerConfig, Schedule
from arl.types import Grammar, Interaction, Kind, Reward, Segment, Text, Trajectory

TOKENIZER = text.load_tokenizer()
SYMBOLS = tuple(f" {i}" for i in range(4))
WORDS = [" left right", " left down", " up right down left", " up"]  # choices, forced runs, and one that begins another


class WalkState(NamedTuple):
    """Steps taken, and the last action; -1 at first."""

    steps: jax.Array
    last: jax.Array


def make_walk(num_steps: int = 3) -> Environment:
    """Every action pays its index and the step's number; some do not exist at some steps; texts differ in length."""
    say = text.template(TOKENIZER, "{answer}", answer=text.choice(["Move:", " lower\n", " higher paid reward:", " yes:", ":"]))

    def step(key, state, action):
        del key
        state = WalkState(state.steps + 1, jnp.asarray(action, jnp.int32))
        return state, Step(action + 0.5 * state.steps, state.steps >= num_steps, jnp.bool_(False))

    return Environment(
        reset=lambda key: WalkState(jnp.int32(0), jnp.int32(-1)),
        step=step,
        describe=lambda state: say(answer=state.last + 1),
        grammar=text.legal_strings(TOKENIZER, WORDS),
        legal=lambda state: jnp.arange(len(WORDS)) != state.steps,
        max_steps=num_steps,
    )


def make(environment: Environment, *layers: agents.Layer, **known) -> Interaction:
    """An agent with the tokenizer of all tests; `known` are fields of its task."""
    return agents.make_agent(Task(environment, TOKENIZER, **known), layers)


def wrap(layer: agents.Layer, inner: Interaction, environment: Environment | None = None, **known) -> Interaction:
    """A layer around an interaction that is no agent of an environment, or of one that is given."""
    return layer.wrap(inner, Task(environment or make_walk(), TOKENIZER, **known))


def make_guess() -> Environment:
    """One guess an attempt at a number below 4."""
    return envs.make_number_guess(TOKENIZER, 4, one_guess=True)


def guess(*layers: agents.Layer, **options) -> Interaction:
    """An agent that guesses, with other layers around."""
    return make(make_guess(), Act(**options), *layers)


NOTE = Reflection(2, SYMBOLS)
COMPOSITIONS = {
    "act": lambda: make(make_walk(), Act()),
    "act resets": lambda: make(make_walk(), Act(resets_context=True)),
    "limit": lambda: make(make_walk(5), Act(time_limit=2)),
    "think": lambda: make(make_walk(), Act(), Think(3, SYMBOLS)),
    "think fixed": lambda: make(make_walk(), Act(), Think(2, SYMBOLS, stop=False)),
    "nothing": lambda: make(make_walk(2), Act(), Attempts(3)),
    "history": lambda: make(make_walk(2), Act(), Attempts(3, History())),
    "window": lambda: make(make_walk(2), Act(), Attempts(3, Window(5))),
    "reflection": lambda: guess(Attempts(3, NOTE)),
    "annealed": lambda: guess(Attempts(3, Reflection(2, SYMBOLS, annealed=True))),
    "free notes": lambda: guess(Attempts(3, Reflection(3, "any", stop=True))),
    "thoughts in attempts": lambda: make(make_walk(2), Act(), Think(2, SYMBOLS), Attempts(2, NOTE)),
    "limits in attempts": lambda: make(make_walk(5), Act(time_limit=2), Attempts(2, NOTE)),
    "attempts in attempts": lambda: guess(Attempts(2, NOTE), Attempts(2, Reflection(1, SYMBOLS), name="outer")),
    "memory": lambda: make(make_walk(5), Act(), Remember(2, 2, 2, SYMBOLS)),
    "tools": lambda: make(make_walk(2), Act(), UseTools((agents.imagine(TOKENIZER, make_walk(2)),))),
    "menu": lambda: make(
        make_walk(2),
        Act(),
        Menu((Think(1, SYMBOLS, stop=False), UseTools((agents.imagine(TOKENIZER, make_walk(2)),)), Plan(1, symbols=SYMBOLS)), 2),
    ),
    "confidence": lambda: make(make_walk(2), Act(), Confidence((10, 50, 90)), Attempts(2, History())),
    "help": lambda: guess(AskForHelp(0.25), Confidence((10, 90), score="log"), Attempts(2, NOTE)),
    "cost": lambda: make(make_walk(2), Act(step_cost=0.25), Attempts(2, History())),
}
CURRICULUM = {"attempts": {"keep": jnp.float32(0.5)}}


LEARNER = LearnerConfig(
    num_lanes=32,
    num_blocks=8,
    num_minibatches=2,
    microbatch_size=16,
    num_epochs=2,
    adam_epsilon=1e-3,  # else rounding decides the direction of weights whose gradient is nearly 0
    learning_rate=Schedule(1e-2, 1e-2),
)


@functools.cache
def agent(name: str) -> Interaction:
    """The composition of that name."""
    return COMPOSITIONS[name]()


def config(interaction: Interaction, **options) -> rollout.RolloutConfig:
    """Trajectories in which an episode is whole. Calls read one token a lane: a program with wider ones takes twice as long to compile."""
    lengths = {"trajectory_length": interaction.size.episode + 1, "context_length": interaction.size.context}
    return rollout.RolloutConfig(**{"widths": (), **lengths, **options})


@functools.cache
def model(context_length: int | None = None, **options):
    """One layer of width 16."""
    sizes = dict(width=16, num_layers=1, num_heads=2, num_kv_heads=1, feed_forward_width=16)
    return models.make_policy(models.ModelConfig(vocab_size=len(TOKENIZER), context_length=context_length, **{**sizes, **options}))


@functools.cache
def params() -> Any:
    """Weights of `model`, loud enough that choices are far from uniform."""
    weights = model().init(jax.random.key(3)).trainable
    return models.Variables({**weights, "head": weights["head"] * 8.0, "value_head": weights["value_head"] * 100.0})


def edges(grammar: Grammar, state: int) -> dict[int, int]:
    """The tokens that can follow in a state, of its mask and of its edges, and the states after them, in ascending order."""
    masked = dict.fromkeys(text.mask_tokens(grammar, state).tolist(), int(grammar.mask_state[state]))
    rows = zip(grammar.token[state].tolist(), grammar.next_state[state].tolist(), strict=True)
    return dict(sorted((masked | {token: after for token, after in rows if after}).items()))


def kept(grammar: Grammar, trajectory: Trajectory) -> np.ndarray:
    """The candidates from which each token was sampled, bool `[B, T, U]`; none where none was."""
    fields = (trajectory.grammar_state, trajectory.support, trajectory.narrowed)
    return np.asarray(options(grammar, *jax.tree.map(jnp.asarray, fields)))


def sampled(grammar: Grammar, trajectory: Trajectory) -> np.ndarray:
    """The sampled tokens as indices among the candidates, `[B, T, 1]`."""
    return np.clip(np.searchsorted(grammar.candidates, trajectory.sampled), 0, len(grammar.candidates) - 1)[..., None]


def keys(num_lanes: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """Keys of lanes and of their tasks."""
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return fold(jax.random.key(seed), jnp.arange(num_lanes)), fold(jax.random.key(seed + 1000), jnp.arange(num_lanes))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _roll(name: str, shape: rollout.RolloutConfig, lane_keys, task_keys):
    interaction = agent(name)
    rollout.check_rollout(interaction, shape, len(TOKENIZER))
    lanes = rollout.start_lanes(interaction, CURRICULUM, shape, lane_keys, task_keys)
    return rollout.roll_out(interaction, model(), shape, params(), CURRICULUM, lanes)


def roll(name: str, lane_keys: jax.Array, task_keys: jax.Array, **options) -> tuple[Any, Trajectory, Any]:
    """Rolls a composition out; the trajectory is on the host."""
    lanes, trajectory, usage = _roll(name, _shape(name, options), lane_keys, task_keys)
    return lanes, jax.tree.map(np.asarray, trajectory), usage


def program(name: str, lane_keys: jax.Array, task_keys: jax.Array, **options) -> str:
    """The program that `roll` runs, compiled."""
    return _roll.lower(name, _shape(name, options), lane_keys, task_keys).compile().as_text()


def _shape(name: str, options: dict) -> rollout.RolloutConfig:
    params()  # like the agent, built before a program is traced
    return config(agent(name), **options)


@functools.cache
def _functions(name: str):
    interaction = agent(name)
    return jax.jit(interaction.start), jax.jit(interaction.advance), jax.jit(functools.partial(text.parse, interaction.grammar))


def retell(name: str, trajectory: Trajectory, lane: int, lane_key: jax.Array, task_key: jax.Array) -> dict[str, list]:
    """Plays a lane's first episode again by the interaction alone, from the tokens sampled, and tells what should be in the trajectory.

    Returns:
      For each slot: `token`, `kind`, `begin`; for each segment: `reward`, `is_legal`, `text`, `attempt`; and `end`.
    """
    interaction = agent(name)
    start, advance, parse = _functions(name)
    grammar, told = (
        interaction.grammar,
        {"token": [], "kind": [], "context_start": [], "reward": [], "is_legal": [], "text": [], "attempt": []},
    )
    sampled = trajectory.sampled[lane][trajectory.is_sampled[lane]].tolist()
    context_start, unread, num_sampled = 0, [], 0

    def read(tokens, kind):
        for token in tokens:
            told["token"].append(int(token)), told["kind"].append(int(kind)), told["context_start"].append(context_start)

    def ids(said):
        return np.asarray(said.ids)[: int(said.length)].tolist()

    state, turn = start(task_key, CURRICULUM)
    read(ids(turn.read), Kind.PROMPT)
    while not turn.terminated and not turn.truncated:
        written, automaton = [], int(turn.grammar_state)
        forced = ids(Text(grammar.forced[automaton], grammar.forced_length[automaton]))
        if forced and not grammar.must_end[grammar.forced_state[automaton]]:
            read(forced, turn.kind)
            written, automaton = written + forced, int(grammar.forced_state[automaton])
        while True:
            read(unread, turn.kind)
            token = sampled[num_sampled]
            num_sampled += 1
            automaton = edges(grammar, automaton).get(token, 0)
            run = grammar.forced[automaton][: grammar.forced_length[automaton]].tolist()
            automaton = int(grammar.forced_state[automaton])
            unread = [token, *run]
            written += [] if token == grammar.stop_id else unread
            if grammar.must_end[automaton] or len(written) >= int(turn.budget):
                break
        said = np.zeros(interaction.size.written, np.int32)
        said[: len(written)] = written
        said = Text(jnp.asarray(said), jnp.int32(len(written)))
        choice, is_legal = parse(turn.grammar_state, said)
        told["text"].append(written), told["is_legal"].append(bool(is_legal)), told["attempt"].append(int(turn.attempt))
        kind = turn.kind
        key = jax.random.fold_in(lane_key, 3 * num_sampled + 1)
        state, turn = advance(key, CURRICULUM, state, Segment(said, choice, is_legal))
        told["reward"].append(sum(float(part) for part in turn.reward))
        if turn.terminated:
            break
        if turn.reset_context:
            context_start, unread = len(told["token"]), []
        read(unread, kind)
        unread = []
        read(ids(turn.read), Kind.OBSERVATION)
    told["end"] = "truncated" if turn.truncated else "terminated"
    return told


def total(reward: Reward) -> np.ndarray:
    """The components added up."""
    return sum(np.asarray(part) for part in reward)


def talks_to_the_host(program: str) -> list[str]:
    """The instructions of a compiled program that would: Python callbacks, infeeds, outfeeds, sends and receives."""
    targets = [target for target in re.findall(r'custom_call_target="([^"]+)"', program) if "callback" in target.lower()]
    return targets + re.findall(r" (infeed|outfeed|send|recv)\(", program)
