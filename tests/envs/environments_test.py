"""What holds for every environment: the contract of `arl.task.Environment`, and texts that are what the tokenizer gives."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, text
from arl.agents import Act
from arl.envs import make_bandit, make_frozen_lake, make_number_guess
from arl.types import Segment
from tests import tiny
from tests.second_tokenizer import second_tokenizer, third_tokenizer

MAKERS = {
    "frozen_lake": make_frozen_lake,
    "frozen_lake_own_map": lambda t: make_frozen_lake(t, ("SFFFFFFFFFFFG", "FHFFFFFFFFHFF"), is_slippery=False, only_moves_that_exist=True),
    "frozen_lake_random_maps": lambda t: make_frozen_lake(t, "8x8", num_random_maps=5),
    "frozen_lake_hidden": lambda t: make_frozen_lake(t, num_random_maps=8, show_map=False),
    "number_guess": make_number_guess,
    "number_guess_large": lambda t: make_number_guess(t, 1100),
    "number_guess_once": lambda t: make_number_guess(t, 8, one_guess=True),
    "bandit": lambda t: make_bandit(t, 3, 5, levels=(0.1, 0.5, 0.9)),
    "bandit_large": lambda t: make_bandit(t, 26, 40),
    "blind_maze": lambda t: envs.make_blind_maze(t, slip=0.2),
    "blind_maze_large": lambda t: envs.make_blind_maze(t, 7, 12, max_moves=30),
    "combination_lock": envs.make_combination_lock,
    "mastermind": lambda t: envs.make_mastermind(t, 2, 4),
    "twenty_questions": envs.make_twenty_questions,
    "corridor": lambda t: envs.make_corridor(t, 6, 4),
    "corridor_plain": lambda t: envs.make_corridor(t, 3, 2, is_distracting=False),
    "minesweeper": envs.make_minesweeper,
    "minesweeper_board": lambda t: envs.make_minesweeper(t, 3, 2, shows_board=True),
    "arithmetic": envs.make_arithmetic,
    "arithmetic_pairs": lambda t: envs.make_arithmetic(t, 3, 2),
    "ledger": lambda t: envs.make_ledger(t, 16, 2),
    "pointer_chase": envs.make_pointer_chase,
    "pointer_chase_told": lambda t: envs.make_pointer_chase(t, 12, 8, is_told=True),
    "shifting_controls": lambda t: envs.make_shifting_controls(t, 4, 9),
    "restless_bandit": envs.make_restless_bandit,
    "witnesses": envs.make_witnesses,
}
NUM_LANES, NUM_STEPS = 16, 12


@pytest.fixture(scope="module", params=MAKERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def environment(name, tokenizer):
    return MAKERS[name](tokenizer)


class Chance(NamedTuple):
    """What is drawn for a lane: drawn once for all environments, since compiling the draws takes longer than running them."""

    reset: jax.Array  # key
    step: jax.Array  # keys [NUM_STEPS]
    action: jax.Array  # uint32 [NUM_STEPS]


@pytest.fixture(scope="session")
def chance():
    key_reset, key_step, key_action = jax.random.split(jax.random.key(7), 3)
    keys = jax.random.split(key_step, (NUM_LANES, NUM_STEPS))
    return Chance(jax.random.split(key_reset, NUM_LANES), keys, jax.random.bits(key_action, (NUM_LANES, NUM_STEPS)))


def walk(environment):
    """Returns a function from a lane's `Chance` to what it says, earns and may do in `NUM_STEPS` uniform legal steps, ends or not."""

    def look(state):
        return (
            environment.describe(state),
            environment.legal(state),
            environment.state_hash(state),
            environment.expert(jax.random.key(0), state),
        )

    def step(state, drawn):
        key, draw = drawn
        legal = environment.legal(state)
        action = jnp.argmax(jnp.cumsum(legal) > draw % jnp.sum(legal, dtype=jnp.uint32))
        state, answer = environment.step(key, state, action)
        return state, (state, action, answer, look(state))

    def run(chance):
        state = environment.reset(chance.reset)
        return state, look(state), jax.lax.scan(step, state, (chance.step, chance.action))[1]

    return run


@pytest.fixture(scope="module")
def lanes(environment, chance):
    return jax.jit(jax.vmap(walk(environment)))(chance)


def test_a_batch_is_its_lanes(environment, chance, lanes):
    one = jax.jit(walk(environment))
    for lane in range(4):
        alone = one(jax.tree.map(lambda x, i=lane: x[i], chance))
        assert jax.tree.all(jax.tree.map(lambda a, b, i=lane: np.array_equal(a, b[i]), alone, lanes))


def test_types_are_those_of_the_contract_and_stay(environment):
    key = jax.random.key(0)
    state = jax.eval_shape(environment.reset, key)
    after, answer = jax.eval_shape(environment.step, key, state, jax.ShapeDtypeStruct((), jnp.int32))
    shape = lambda function, *arguments: jax.tree.map(lambda x: (x.shape, x.dtype), jax.eval_shape(function, *arguments))
    assert shape(lambda x: x, after) == shape(lambda x: x, state)
    assert shape(lambda x: x, answer) == (((), jnp.float32), ((), jnp.bool_), ((), jnp.bool_))
    assert shape(environment.legal, state) == ((environment.grammar.num_choices,), jnp.bool_)
    assert shape(environment.expert, key, state) == ((), jnp.int32)
    assert shape(environment.state_hash, state) == ((), jnp.uint32)
    (_, ids_type), length = shape(environment.describe, state)
    assert ids_type == jnp.int32 and length == ((), jnp.int32)


def test_the_expert_and_some_action_are_legal_and_texts_fit(environment, lanes):
    state, first, (_, _, _, later) = lanes
    for (said, legal, _, expert), axes in ((first, 1), (later, 2)):
        legal, expert = np.asarray(legal), np.asarray(expert)
        assert legal.any(-1).all()
        assert np.take_along_axis(legal, expert[..., None], -1).all()
        assert np.all(np.asarray(said.length) <= said.ids.shape[axes]) and np.all(np.asarray(said.length) > 0)


def test_an_end_is_an_end(environment, lanes):
    _, _, (states, _, answer, _) = lanes
    terminated, truncated, reward = (np.asarray(x) for x in (answer.terminated, answer.truncated, answer.reward))
    assert not np.any(terminated & truncated)
    assert np.all(terminated[:, 1:] >= terminated[:, :-1])
    if environment.max_steps is not None and environment.max_steps <= NUM_STEPS:
        assert (terminated | truncated)[:, environment.max_steps - 1 :].all()
    over = terminated[:, :-1]
    assert not reward[:, 1:][over].any()
    moves = [x for x in jax.tree.leaves(states) if jnp.issubdtype(x.dtype, jnp.floating)]  # what a lane was given stays
    assert all(np.array_equal(x[:, 0], x[:, -1]) for x in moves)


def test_the_same_key_gives_the_same_task(environment):
    one, same, other = (environment.reset(jax.random.key(seed)) for seed in (3, 3, 4))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, same))
    assert jax.tree.structure(one) == jax.tree.structure(other)


TOKENIZERS = pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer, third_tokenizer], ids=["small", "gpt2", "llama3"])


@TOKENIZERS
def test_an_episode_is_what_the_tokenizer_gives_for_its_words(name, lanes, load):
    """Question, actions and answers joined have the ids of their joined string, whatever tokenizer reads them."""
    tokenizer = load()
    environment = MAKERS[name](tokenizer)  # a tokenizer changes the text alone, so that the lanes' states serve both
    start, _, (states, action, answer, _) = lanes
    states = jax.tree.map(lambda first, later: jnp.concatenate([first[:, None], later], 1), start, states)
    said = jax.tree.map(np.asarray, jax.jit(jax.vmap(jax.vmap(environment.describe)))(states))
    written = jax.tree.map(
        np.asarray, jax.vmap(lambda a: text.say_choice(environment.grammar, a))(jnp.arange(environment.grammar.num_choices))
    )
    ids_of = lambda texts, at: texts.ids[at][: texts.length[at] if np.ndim(texts.length) else texts.length]
    over = np.asarray(answer.terminated | answer.truncated)
    for lane in range(len(over)):
        num_steps = int(np.argmax(over[lane])) + 1 if over[lane].any() else NUM_STEPS
        parts = [ids_of(said, (lane, 0))]
        for step in range(num_steps):
            parts += [ids_of(written, int(action[lane, step])), ids_of(said, (lane, step + 1))]
        assert text.check_text(tokenizer, text.constant(np.concatenate(parts))) == []


@TOKENIZERS
def test_every_action_after_the_question_and_before_the_answer_is_what_the_tokenizer_gives(load):
    tokenizer = load()
    for make in (make_frozen_lake, make_number_guess, make_bandit):
        environment = make(tokenizer)
        state = environment.reset(jax.random.key(0))
        question = text.to_string(tokenizer, environment.describe(state))
        for action in range(environment.grammar.num_choices):
            after, _ = environment.step(jax.random.key(1), state, jnp.int32(action))
            joined = text.concatenate(
                environment.describe(state), text.say_choice(environment.grammar, action), environment.describe(after)
            )
            assert text.check_text(tokenizer, joined) == []
            assert text.to_string(tokenizer, joined).startswith(question + " ")


def test_no_step_earns_less_than_the_worst_reward(environment, lanes):
    _, _, (_, _, answer, _) = lanes
    assert environment.worst_reward == pytest.approx(min(0.0, float(answer.reward.min())))


def outcomes_of_texts(interaction, share_illegal, keys):
    """Returns float32 `[B]`, the outcome of whole episodes of random texts, of which a share is illegal and the rest uniform legal ones."""

    def turn(carry, key):
        state, turn, is_over = carry
        key_kind, key_action, key_step = jax.random.split(key, 3)
        action = jax.random.categorical(key_action, jnp.where(turn.legal, 0.0, -jnp.inf))
        is_legal = jax.random.uniform(key_kind) >= share_illegal
        said = text.pad(text.say_choice(interaction.grammar, action), interaction.size.written)
        state, turn = interaction.advance(key_step, {}, state, Segment(said, jnp.where(is_legal, action, -1), is_legal))
        earned = jnp.where(is_over, 0.0, turn.reward.outcome)
        return (state, turn, is_over | turn.terminated | turn.truncated), earned

    def episode(key):
        key_start, key_turns = jax.random.split(key)
        begin = (*interaction.start(key_start, {}), jnp.bool_(False))
        return jnp.sum(jax.lax.scan(turn, begin, jax.random.split(key_turns, interaction.size.turns))[1])

    return jax.vmap(episode)(keys)


def test_illegal_texts_never_beat_legal_ones(environment):
    check_illegal_texts(tiny.make(environment, Act(time_limit=0 if environment.max_steps else 8)))


def test_illegal_texts_cost_a_turn_too(tokenizer):
    check_illegal_texts(tiny.make(make_number_guess(tokenizer, 8), Act(time_limit=4, step_cost=0.1)))


def check_illegal_texts(interaction):
    """Nobody gains by what is not in the language: neither always, in any single episode, nor now and then, on average."""
    keys, play = jax.random.split(jax.random.key(11), 256), jax.jit(functools.partial(outcomes_of_texts, interaction))
    legal, mixed, illegal = (np.asarray(play(share, keys)) for share in (0.0, 0.5, 1.0))
    assert (illegal <= legal.min() + 1e-6).all()
    error = np.sqrt((legal.var() + mixed.var()) / len(legal))
    assert mixed.mean() <= legal.mean() + 3 * error
