"""Checks of an agent: what its functions return, and the laws of turns in episodes of random, illegal and expert texts."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.runs import check_texts as texts
from arl.runs.check_functions import check_array, check_form, compiled, describe_array, run_twice, trace
from arl.runs.check_laws import Told, broken_laws, exceeded_sizes
from arl.runs.check_rewards import check_rewards
from arl.types import AgentState, ArlError, Curriculum, Interaction, Kind, Reward, Segment, Text, Turn, select

MOST_TURNS = 2000  # of an episode that is played


def check_agent(agent: Interaction, key: jax.Array, num_episodes: int) -> None:
    """Checks an agent: its functions, the laws of its turns, its size, and that each reward is credited once.

    Args:
      agent: the agent in its environment.
      key: random key.
      num_episodes: number of episodes.

    Raises:
      ArlError: if something is broken.
    """
    curricula = curricula_of(agent)
    check_forms(agent, curricula[0])
    told = live(agent, curricula, key, num_episodes)
    for sentence in (*broken_laws(agent, told), *exceeded_sizes(agent, told)):
        raise ArlError(sentence)
    check_rewards(agent, curricula[0], key, num_episodes)


def curricula_of(agent: Interaction) -> list[dict[str, dict[str, jax.Array]]]:
    """Returns curricula with the values 1 and 0 for all schedules that the layers declare; one empty one if there are none.

    Args:
      agent: the agent.

    Raises:
      ArlError: if what is declared is no name of a layer and a field.
    """
    names = [name for layer in agent.layers for name in layer.schedules]
    for name in names:
        if not isinstance(name, str) or name.count(".") != 1:
            raise ArlError(f"a layer declares the schedule {name!r}; name its label and a field, such as 'attempts.keep'")

    def filled(value: float) -> dict[str, dict[str, jax.Array]]:
        curriculum: dict[str, dict[str, jax.Array]] = {}
        for layer, field in (name.split(".") for name in names):
            curriculum.setdefault(layer, {})[field] = jnp.float32(value)
        return curriculum

    return [filled(1.0), filled(0.0)] if names else [{}]


def check_forms(agent: Interaction, curriculum: Curriculum) -> None:
    """Traces the functions of an agent and checks the shapes and types of what they return.

    Args:
      agent: the agent.
      curriculum: a curriculum with all declared schedules.

    Raises:
      ArlError: if one cannot be traced, is not pure, reads what no schedule declares, or returns anything but it should.
    """
    key, segment = jax.random.key(0), segment_like(agent)
    try:
        state, turn = _pair(trace("start", agent.start, key, curriculum), "start")
        _check_turn(agent, turn, "start")
        after, later = _pair(trace("advance", agent.advance, key, curriculum, state, segment), "advance")
    except ArlError:
        if missing := undeclared(agent, curriculum, segment):
            raise ArlError(
                f"curriculum['{missing[0]}']['{missing[1]}'] is read, and no layer declares it; add '{'.'.join(missing)}' to the layer's "
                "schedules"
            ) from None
        raise
    _check_turn(agent, later, "advance")
    first, other = (each.read.ids.shape[0] for each in (turn, later))
    if first != other:
        raise ArlError(
            f"start reads a text of capacity {first} and advance one of {other}; give both the same, as by "
            "text.concatenate(..., capacity=size.read)"
        )
    if isinstance(state, AgentState) and isinstance(after, AgentState) and len(state.layers) != len(after.layers):
        raise ArlError(
            f"start returns the states of {len(state.layers)} layers and advance those of {len(after.layers)}; push the layer's own state "
            "in both, and pop it in advance"
        )
    check_form("advance", after, state, "start")
    for kind, expert in agent.experts.items():
        who = f"the expert of {Kind(kind).name}"
        text.checked(trace(who, expert, key, state, jax.ShapeDtypeStruct((), jnp.int32)), who)


def segment_like(agent: Interaction) -> Segment:
    """Returns shapes and types of a segment of an `agent`, with ids `[size.written]`."""
    said = Text(jax.ShapeDtypeStruct((agent.size.written,), jnp.int32), jax.ShapeDtypeStruct((), jnp.int32))
    return Segment(said, jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.bool_))


class _Recorder(dict):
    """A curriculum that remembers the first value that is asked for and missing."""

    def __init__(self, curriculum: Curriculum):
        super().__init__({name: _Fields(self, name, fields) for name, fields in curriculum.items()})
        self.missing: tuple[str, str] | None = None

    def __missing__(self, name):
        return _Fields(self, name, {})


class _Fields(dict):
    def __init__(self, recorder: _Recorder, name: str, fields: Any):
        super().__init__(fields)
        self.recorder, self.name = recorder, name

    def __missing__(self, field):
        self.recorder.missing = self.recorder.missing or (self.name, field)
        raise KeyError(field)


def undeclared(agent: Interaction, curriculum: Curriculum, segment: Segment) -> tuple[str, str] | None:
    """Returns layer and field of a value of the curriculum that an agent reads although no schedule declares it; None if there is none.

    Args:
      agent: the agent.
      curriculum: a curriculum with all declared schedules.
      segment: shapes and types of a segment.
    """
    recorder = _Recorder(curriculum)

    def run(key, segment):
        state, _ = agent.start(key, recorder)
        return agent.advance(key, recorder, state, segment)

    try:
        jax.eval_shape(run, jax.random.key(0), segment)
    except Exception:  # that it fails is known; what matters is what it asked for
        return recorder.missing
    return None


def _pair(result: Any, name: str) -> tuple[Any, Turn]:
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Turn)):
        raise ArlError(f"{name} returns anything but (state, Turn); return these two")
    return result


def _check_turn(agent: Interaction, turn: Turn, name: str) -> None:
    """Checks the shapes and types of a turn's fields."""
    said = text.checked(turn.read, f"`read` of the turn of {name}")
    if len(said.ids.shape) != 1 or not jnp.issubdtype(said.ids.dtype, jnp.integer):
        raise ArlError(f"the turn of {name} reads ids {describe_array(said.ids)}; make it a text of int32[capacity]")
    if said.ids.shape[0] > agent.size.read:
        raise ArlError(
            f"the turn of {name} reads a text of capacity {said.ids.shape[0]} where size.read is {agent.size.read}; set size.read to the "
            "largest capacity"
        )
    check_array(f"the length of the text of the turn of {name}", said.length, jnp.integer)
    check_array(f"`legal` of the turn of {name}", turn.legal, jnp.bool_, (agent.grammar.num_choices,))
    types = {"kind": jnp.integer, "budget": jnp.integer, "grammar_state": jnp.integer, "attempt": jnp.integer, "discount": jnp.floating}
    for field in ("reset_context", "terminated", "truncated"):
        types[field] = jnp.bool_
    for field, dtype in types.items():
        check_array(f"`{field}` of the turn of {name}", getattr(turn, field), dtype)
    if not isinstance(turn.reward, Reward):
        raise ArlError(f"the reward of the turn of {name} is a {type(turn.reward).__name__}; make it an arl.types.Reward")
    for component, value in turn.reward._asdict().items():
        check_array(f"the {component} reward of the turn of {name}", value, jnp.floating)


def live(agent: Interaction, curricula: list, key: jax.Array, num_episodes: int) -> Told:
    """Plays episodes in each way to write, under each curriculum, twice with the same keys.

    Args:
      agent: the agent.
      curricula: curricula of the same structure.
      key: random key.
      num_episodes: number of episodes of each way to write.

    Returns:
      What happened, on the host.

    Raises:
      ArlError: if something else happens the second time.
    """
    num_lanes = 4 * num_episodes
    lane = np.arange(num_lanes)
    stacked = jax.tree.map(lambda *values: jnp.stack(values)[lane // 8 % len(curricula)], *curricula)
    run = compiled(jax.vmap(functools.partial(_live_lane, agent)))
    arguments = stacked, jax.random.split(key, num_lanes), jnp.asarray(lane % 4), jnp.asarray(lane // 4 % 2 > 0)
    return run_twice("the agent", run, *arguments)


def _live_lane(agent: Interaction, curriculum: Curriculum, key: jax.Array, way: jax.Array, stops: jax.Array) -> Told:
    key_start, key_turns = jax.random.split(key)

    def turn(carry, key):
        state, turn = carry
        key_write, key_advance = jax.random.split(key)
        written = texts.write(agent, key_write, way, stops, state, turn, with_experts=True)
        told = _tell(agent, turn, written)
        following = agent.advance(key_advance, curriculum, state, written.segment)
        return select(turn.terminated | turn.truncated, carry, following), told

    keys = jax.random.split(key_turns, min(agent.size.turns, MOST_TURNS) + 1)
    return jax.lax.scan(turn, agent.start(key_start, curriculum), keys)[1]


def _tell(agent: Interaction, turn: Turn, written: texts.Written) -> Any:
    read, lowest, highest = texts.extent(turn.read)
    return Told(
        *(turn.kind, turn.budget, turn.reset_context, turn.discount, turn.attempt, turn.terminated, turn.truncated),
        reward=jnp.stack([jnp.float32(part) for part in turn.reward]),
        read=read,
        capacity=jnp.int32(turn.read.ids.shape[0]),
        lowest=lowest,
        highest=highest,
        can_write=texts.can_write(agent.grammar, turn),
        is_legal=written.segment.is_legal,
        num_tokens=written.num_tokens,
        num_last=written.num_last,
        verdict=written.verdict,
    )
