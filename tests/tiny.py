"""Small agents, a small model, and a second account of a life that knows nothing of the rollout."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import agents, envs, models, rollout, text
from arl.types import Environment, Interaction, Kind, Reward, Step, Stream, Text, Written

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


def guess(**options) -> Interaction:
    """One guess an attempt at a number below 4."""
    return agents.act(envs.make_number_guess(TOKENIZER, 4, one_guess=True), **options)


def attempts(inner: Interaction, num_attempts: int = 3, **options) -> Interaction:
    """Attempts with the tokenizer of all tests."""
    return agents.attempts(inner, TOKENIZER, num_attempts=num_attempts, **options)


def think(inner: Interaction, **options) -> Interaction:
    """Thoughts with the tokenizer of all tests."""
    return agents.think(inner, TOKENIZER, **options)


NOTE = agents.reflection(2, symbols=SYMBOLS)
COMPOSITIONS = {
    "act": lambda: agents.act(make_walk()),
    "act forgets": lambda: agents.act(make_walk(), forgets=True),
    "limit": lambda: agents.act(envs.time_limit(make_walk(5), 2)),
    "think": lambda: think(agents.act(make_walk()), budget=3, symbols=list(SYMBOLS)),
    "think fixed": lambda: think(agents.act(make_walk()), budget=2, symbols=list(SYMBOLS), stop=False),
    "nothing": lambda: attempts(agents.act(make_walk(2))),
    "history": lambda: attempts(agents.act(make_walk(2)), carry=agents.history()),
    "window": lambda: attempts(agents.act(make_walk(2)), carry=agents.window(5)),
    "reflection": lambda: attempts(guess(), carry=NOTE),
    "annealed": lambda: attempts(guess(), carry=agents.reflection(2, symbols=SYMBOLS, annealed=True)),
    "free notes": lambda: attempts(guess(), carry=agents.reflection(3, stop=True)),
    "thoughts in attempts": lambda: attempts(think(agents.act(make_walk(2)), budget=2, symbols=list(SYMBOLS)), 2, carry=NOTE),
    "limits in attempts": lambda: attempts(agents.act(envs.time_limit(make_walk(5), 2)), 2, carry=NOTE),
    "attempts in attempts": lambda: attempts(
        attempts(guess(), 2, carry=NOTE), 2, carry=agents.reflection(1, symbols=SYMBOLS), name="outer"
    ),
    "price": lambda: attempts(agents.act(envs.turn_cost(make_walk(2), 0.25)), 2, carry=agents.history()),
}
SETTING = {"attempts": {"keep": jnp.float32(0.5)}}


@functools.cache
def agent(name: str) -> Interaction:
    """The composition of that name."""
    return COMPOSITIONS[name]()


def config(interaction: Interaction, **options) -> rollout.RolloutConfig:
    """Streams in which a life is whole."""
    lengths = {"stream_length": interaction.size.life + 1, "context_length": interaction.size.context}
    return rollout.RolloutConfig(**{"widths": ((1, 4),), **lengths, **options})


@functools.cache
def model(context_length: int | None = None, **options):
    """One layer of width 16."""
    sizes = dict(width=16, num_layers=1, num_heads=2, num_kv_heads=1, feed_forward_width=16)
    return models.make_language_model(models.ModelConfig(vocab_size=len(TOKENIZER), context_length=context_length, **{**sizes, **options}))


@functools.cache
def params() -> Any:
    """Weights of `model`, loud enough that choices are far from uniform."""
    weights = model().init(jax.random.key(3))
    return {**weights, "head": weights["head"] * 8.0, "value_head": weights["value_head"] * 100.0}


def keys(num_lanes: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """Keys of lanes and of their tasks."""
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return fold(jax.random.key(seed), jnp.arange(num_lanes)), fold(jax.random.key(seed + 1000), jnp.arange(num_lanes))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _roll(name: str, options: tuple, lane_keys, task_keys):
    interaction = agent(name)
    shape = config(interaction, **dict(options))
    rollout.check_rollout(interaction, shape, len(TOKENIZER))
    lanes = rollout.start_lanes(interaction, SETTING, shape, lane_keys, task_keys)
    return rollout.roll_out(interaction, model(), shape, params(), SETTING, lanes)


def roll(name: str, lane_keys: jax.Array, task_keys: jax.Array, **options) -> tuple[Any, Stream, Any]:
    """Rolls a composition out; the stream is on the host."""
    agent(name), params()  # built before the program is traced
    lanes, stream, usage = _roll(name, tuple(sorted(options.items())), lane_keys, task_keys)
    return lanes, jax.tree.map(np.asarray, stream), usage


@functools.cache
def _functions(name: str):
    interaction = agent(name)
    return jax.jit(interaction.start), jax.jit(interaction.advance), jax.jit(functools.partial(text.parse, interaction.grammar))


def retell(name: str, stream: Stream, lane: int, lane_key: jax.Array, task_key: jax.Array) -> dict[str, list]:
    """Lives a lane's first life again by the interaction alone, from the tokens sampled, and tells what should stand in the stream.

    Returns:
      For each slot: `token`, `kind`, `begin`; for each segment: `reward`, `is_legal`, `text`, `attempt`; and `end`.
    """
    interaction = agent(name)
    start, advance, parse = _functions(name)
    grammar, told = interaction.grammar, {"token": [], "kind": [], "begin": [], "reward": [], "is_legal": [], "text": [], "attempt": []}
    sampled = [int(grammar.alphabet[letter]) for letter in stream.written[lane][stream.is_written[lane]]]
    begin, unread, num_sampled = 0, [], 0

    def read(tokens, kind):
        for token in tokens:
            told["token"].append(int(token)), told["kind"].append(int(kind)), told["begin"].append(begin)

    def ids(said):
        return np.asarray(said.ids)[: int(said.length)].tolist()

    state, turn = start(task_key, SETTING)
    read(ids(turn.read), Kind.PROMPT)
    while not turn.terminated and not turn.truncated:
        written, automaton = [], int(turn.grammar)
        forced = ids(Text(grammar.forced[automaton], grammar.forced_length[automaton]))
        if forced and not grammar.is_final[grammar.forced_state[automaton]]:
            read(forced, turn.kind)
            written, automaton = written + forced, int(grammar.forced_state[automaton])
        while True:
            read(unread, turn.kind)
            token = sampled[num_sampled]
            num_sampled += 1
            automaton = int(grammar.next_state[automaton, np.searchsorted(grammar.alphabet, token)])
            run = grammar.forced[automaton][: grammar.forced_length[automaton]].tolist()
            automaton = int(grammar.forced_state[automaton])
            unread = [token, *run]
            written += [] if token == grammar.stop_id else unread
            if grammar.is_final[automaton] or len(written) >= int(turn.budget):
                break
        said = np.zeros(interaction.size.written, np.int32)
        said[: len(written)] = written
        said = Text(jnp.asarray(said), jnp.int32(len(written)))
        choice, is_legal = parse(turn.grammar, said)
        told["text"].append(written), told["is_legal"].append(bool(is_legal)), told["attempt"].append(int(turn.attempt))
        kind = turn.kind
        key = jax.random.fold_in(lane_key, 3 * num_sampled + 1)
        state, turn = advance(key, SETTING, state, Written(said, choice, is_legal))
        told["reward"].append(sum(float(part) for part in turn.reward))
        if turn.terminated:
            break
        if turn.forget:
            begin, unread = len(told["token"]), []
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
