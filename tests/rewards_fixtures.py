"""What the tests of reward components share: an interaction that plays a script, episodes at random, and the laws of what only pays."""

import functools
import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.task import Environment
from arl.types import AgentState, Grammar, Interaction, Kind, Reward, Segment, Size, Text, Turn, make_turn
from tests import tiny

WORDS = text.any_text(tiny.TOKENIZER, tiny.SYMBOLS, stop=True)
BUDGET = 4


def scripted(state_hashes, kinds=Kind.ACTION, rewards=(), truncated: bool = False) -> Interaction:
    """An interaction whose states are numbered one after the other, whatever is written; `rewards` follow its segments of the kinds."""
    num_turns = len(state_hashes) - 1
    kinds = np.broadcast_to(kinds, num_turns + 1)
    paid = [Reward(), *rewards, *[Reward()] * (num_turns - len(rewards))]
    paid = Reward(*(np.array(values, np.float32) for values in zip(*paid, strict=True)))

    def ask(step):
        is_over = step == num_turns
        reward = jax.tree.map(lambda values: jnp.asarray(values)[step], paid)
        ends = {"terminated": is_over & (not truncated), "truncated": is_over & truncated}
        budget = jnp.where(ends["truncated"], 0, BUDGET)
        turn = make_turn(text.constant([7]), jnp.asarray(kinds)[step], budget, 1, jnp.ones(1, bool), reward=reward, **ends)
        return AgentState(step), turn

    return Interaction(
        start=lambda key, curriculum: ask(jnp.int32(0)),
        advance=lambda key, curriculum, state, written: ask(state.environment + 1),
        grammar=WORDS,
        size=Size(1, BUDGET, num_turns, num_turns * (1 + BUDGET) + 1, num_turns * (1 + BUDGET) + 1, num_turns),
        update_curriculum=lambda curriculum, outcomes: {**curriculum, "seen": outcomes},
        experts={Kind.ACTION: lambda key, state, attempt: Text(jnp.full(BUDGET, state.environment), state.environment % BUDGET)},
    )


def hashed(state_hashes) -> Environment:
    """An environment of which only the hashes of its states are asked: those of a script."""
    return tiny.make_walk()._replace(state_hash=lambda state: jnp.asarray(np.array(state_hashes, np.uint32))[state])


def play(interaction: Interaction, lengths, curriculum=None) -> tuple[list, list[Turn]]:
    """States and turns of an episode of a script in which segments of these lengths are written."""
    state, turn = interaction.start(jax.random.key(0), curriculum or {})
    states, turns = [state], [turn]
    for index in range(interaction.size.turns):
        written = Segment(Text(jnp.zeros(BUDGET, jnp.int32), lengths[index]), jnp.int32(0), jnp.bool_(True))
        state, turn = interaction.advance(jax.random.key(index), curriculum or {}, state, written)
        states.append(state), turns.append(turn)
    return states, turns


def paid(turns: list[Turn], component: str) -> list[float]:
    """What each segment of an episode earned of a component."""
    return [float(getattr(turn.reward, component)) for turn in turns[1:]]


def check_laws(make, script: Interaction, curriculum):
    """What only pays changes nothing but the reward, for one lane as for many, compiled or not."""
    interaction = make(script)
    assert (
        interaction.grammar is script.grammar
        and interaction.size == script.size
        and interaction.update_curriculum is script.update_curriculum
    )
    lengths = jax.random.randint(jax.random.key(0), (3, script.size.turns), 0, BUDGET + 1)
    eager = play(interaction, lengths[0], curriculum)
    episodes = jax.jit(jax.vmap(functools.partial(play, interaction), (0, None)))(lengths, curriculum)
    one = jax.jit(functools.partial(play, interaction))
    same(eager, one(lengths[0], curriculum))
    for lane, row in enumerate(lengths):
        same(jax.tree.map(lambda x, lane=lane: x[lane], episodes), one(row, curriculum))
    for state, turn, inner_state, inner_turn in zip(*eager, *play(script, lengths[0], curriculum), strict=True):
        same(turn._replace(reward=0), inner_turn._replace(reward=0))
        expert = lambda playing, state: playing.experts[Kind.ACTION](jax.random.key(0), state, jnp.int32(0))
        same(expert(interaction, state), expert(script, inner_state))


def same(found, wanted):
    """Whether two trees are the same to the last bit, types included."""
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert jax.tree.map(lambda x: jnp.asarray(x).dtype, found) == jax.tree.map(lambda x: jnp.asarray(x).dtype, wanted)


class Asked(NamedTuple):
    """A segment as it was written: the turn that asked for it, its tokens, and the turn that followed."""

    asked: Turn
    written: list[int]
    is_legal: bool
    followed: Turn


def any_writing(draw: random.Random, grammar: Grammar, turn: Turn) -> list[int]:
    """What somebody might write: mostly what the grammar allows, sometimes not."""
    written, state, budget = [], int(turn.grammar_state), int(turn.budget)
    if draw.random() < 0.15:
        return [draw.choice(grammar.candidates.tolist()) for _ in range(draw.randint(1, budget))]
    while len(written) < budget and not grammar.must_end[state]:
        token, after = draw.choice(list(tiny.edges(grammar, state).items()))
        if token == grammar.stop_id:
            break
        written.append(token)
        state = after
    return written


def live(interaction: Interaction, curriculum, seeds, write=any_writing) -> list[tuple]:
    """Whole episodes at random: for each seed its first state and its segments."""
    grammar, capacity, episodes = interaction.grammar, interaction.size.written, []

    @jax.jit
    def advance(key, state, turn, said):
        choice, is_legal = text.parse(grammar, turn.grammar_state, said)
        is_legal &= turn.legal[jnp.maximum(choice, 0)]
        return is_legal, interaction.advance(key, curriculum, state, Segment(said, jnp.where(is_legal, choice, -1), is_legal))

    start = jax.jit(interaction.start)
    for seed in seeds:
        draw, segments = random.Random(seed), []
        first, turn = start(jax.random.key(seed), curriculum)
        state, turn = jax.device_get((first, turn))
        while not turn.terminated and not turn.truncated:
            written = write(draw, grammar, turn)
            ids = np.array(written + [0] * (capacity - len(written)), np.int32)
            is_legal, (state, followed) = advance(jax.random.key(len(segments)), state, turn, Text(ids, np.int32(len(written))))
            followed = jax.device_get(followed)
            segments.append(Asked(turn, written, bool(is_legal), followed))
            turn = followed
        episodes.append((first, segments))
    return episodes
