"""A check that the layers of an agent credit each reward of its environment once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from arl.agents import Act, without_reward
from arl.runs import check_texts as texts
from arl.runs.check_functions import compiled
from arl.task import Task
from arl.types import AgentState, ArlError, Curriculum, Interaction, Kind, Reward, Segment, Turn, select

MOST_TURNS = 2000  # of an episode that is played
_PROBE = "the step that pays"  # its place in the curriculum


def check_rewards(agent: Interaction, curriculum: Curriculum, key: jax.Array, num_episodes: int) -> None:
    """Checks that an outcome of 1 in one step of each attempt arrives once, whatever step it is.

    The agent is made again, of layers around an `Act` whose step `k` alone pays, and whose attempts all have as many steps as there can be.
    Layers that only scale rewards (`Layer.scales_rewards`) are left out. How many of these steps an episode had is told by the number of
    turns in the state of `Act`.

    Args:
      agent: the agent; nothing is checked if its innermost layer is no `Act`, or has none around.
      curriculum: a curriculum of the agent.
      key: random key.
      num_episodes: number of episodes.

    Raises:
      ArlError: if a reward is lost, or credited in part or more than once.
    """
    layers = [layer for layer in agent.layers if not layer.scales_rewards]
    if agent.task is None or len(layers) < 2 or not isinstance(layers[0], Act):
        return
    probe = _probe(layers[0], agent.task)
    num_steps = probe.size.turns
    for layer in layers[1:]:
        probe = layer.wrap(probe, agent.task)
    run = compiled(jax.vmap(functools.partial(_live_lane, probe, num_steps, curriculum)))
    steps = np.round(np.linspace(0, num_steps - 1, num_episodes)).astype(np.int32)
    ways = np.where(np.arange(num_episodes) % 4 == 3, texts.MIXED, texts.LEGAL)
    arguments = jax.random.split(key, num_episodes), jnp.asarray(steps), jnp.asarray(ways)
    paid, credited, is_known = (np.asarray(values) for values in run(*arguments))
    wrong = is_known & (np.abs(paid - credited) > 1e-3)
    if wrong.any():
        lane = int(np.argmax(wrong))
        raise ArlError(
            f"rewards of the environment that add up to {paid[lane]:g} (for step {steps[lane] + 1} of an attempt of {num_steps}) are "
            f"credited as {credited[lane]:g}; pass the reward of each inner turn on once, and pay others as process, exploration or "
            "efficiency, or let a layer that only scales rewards say so by Layer.scales_rewards"
        )


def _probe(act: Act, task: Task) -> Interaction:
    """Returns an agent that acts, in attempts of its largest number of steps, of which one pays 1; its own state is the last turn."""
    inner = act.wrap(None, task)
    num_steps = inner.size.turns

    def start(key, curriculum):
        state, turn = inner.start(key, curriculum)
        return state.push(turn), turn

    def advance(key, curriculum, state: AgentState, segment: Segment):
        acted, last = state.pop()
        count = acted.layers[0]
        after, turn = inner.advance(key, curriculum, acted, segment)
        is_early = (turn.terminated | turn.truncated) & (count + 1 < num_steps)
        turn = select(is_early, last, without_reward(turn))
        environment = select(is_early, acted.environment, after.environment)
        paid = jnp.where(count == curriculum[_PROBE]["step"], 1.0, 0.0)
        turn_paid = turn._replace(reward=Reward(paid, *map(jnp.zeros_like, turn.reward[1:])))
        return AgentState(environment, after.layers).push(turn), turn_paid

    return inner._replace(start=start, advance=advance)


def _live_lane(
    agent: Interaction, num_steps: int, curriculum: Curriculum, key: jax.Array, step: jax.Array, way: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Plays an episode; returns what step `step` paid, what was credited, float32 `[]`, and whether the former is known, bool `[]`."""
    key_start, key_turns = jax.random.split(key)
    curriculum = {**curriculum, _PROBE: {"step": step}}

    def turn(carry, key):
        (state, turn), (paid, credited, is_known) = carry
        key_write, key_advance = jax.random.split(key)
        written = texts.write(agent, key_write, way, jnp.bool_(True), state, turn, with_experts=False)
        after, following = agent.advance(key_advance, curriculum, state, written.segment)
        is_paid, is_clear = _paid(num_steps, step, state, turn, after, following)
        ledger = (paid + is_paid, credited + following.reward.outcome, is_known & is_clear)
        is_over = turn.terminated | turn.truncated
        return select(is_over, carry, ((after, following), ledger)), None

    first, ledger = agent.start(key_start, curriculum), (jnp.float32(0.0), jnp.float32(0.0), jnp.bool_(True))
    keys = jax.random.split(key_turns, min(agent.size.turns, MOST_TURNS))
    (_, last), (paid, credited, is_known) = jax.lax.scan(turn, (first, ledger), keys)[0]
    return paid, credited, is_known & (last.terminated | last.truncated)


def _paid(
    num_steps: int, step: jax.Array, before: AgentState, turn: Turn, after: AgentState, following: Turn
) -> tuple[jax.Array, jax.Array]:
    """Returns whether step `step` was made between two turns, and whether that is certain, bool `[]` both.

    Where an attempt ends and the next begins at once, its number of turns falls: then one step was made, if it was the last one.
    """
    count, later, acts = before.layers[0], after.layers[0], turn.kind == Kind.ACTION
    may_act = acts | (turn.kind == Kind.CONTROL)  # a choice may have an action taken, as `AskForHelp` does
    restarts = (later < count) | ((later == count) & (count == 0) & may_act & (following.attempt != turn.attempt))
    ends = restarts & may_act & (count == num_steps - 1)
    is_paid = jnp.where(restarts, ends & (step == count), (count <= step) & (step < later))
    might_restart = (num_steps == 1) & acts & (later == count) & ~restarts  # an attempt of one step looks the same before and after
    return is_paid, ~might_restart & (~restarts | ends | (count >= num_steps))
