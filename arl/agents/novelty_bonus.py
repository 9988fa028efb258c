"""Exploration: what is new pays, once."""

import dataclasses

import jax
import jax.numpy as jnp

from arl.agents.layer import Layer, around
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Segment, check_whole


@dataclasses.dataclass(frozen=True)
class NoveltyBonus(Layer):
    """The first visit of a state in an episode pays, as `exploration` reward of the segment that led there.

    Visits are counted by the environment's `state_hash`, in buckets. A bonus by counts pays `scale / sqrt(n)` at the n-th visit (MBIE-EB,
    Strehl & Littman 2008); over an episode these add up without bound, so that walking to and fro between two states would pay for ever.
    Here only the first visit pays, `n = 1`: an episode earns at most `scale * num_buckets`, in however many attempts. Where an episode
    begins pays nothing; where it ends or is cut does, if it is new: it has been visited.

    What shares a bucket with an earlier state pays nothing: the n-th state of an episode does so with probability below `n / num_buckets`.

    It stands outside of `Attempts`, which refuses it within: there each attempt would be paid for the same states again. From outside, the
    state in which an attempt ended is seen if a reflection on it is asked for; where the next attempt begins at once, it is not.
    `ScaleRewards` lets the pay follow a schedule. The layer's own state is bool `[num_buckets]`, which buckets have been visited.

    Attributes:
      scale: paid for a state that is new, in the environment's units.
      num_buckets: how many states can be told apart, at most.
    """

    scale: float
    num_buckets: int = 256

    def __post_init__(self):
        check_whole(**{"NoveltyBonus.num_buckets": self.num_buckets})
        if self.num_buckets < 2:
            raise ArlError(f"{self.num_buckets} buckets tell no two states apart; set NoveltyBonus.num_buckets >= 2")
        if not 0 < self.scale < float("inf"):
            raise ArlError(f"NoveltyBonus.scale is {self.scale}, which does not pay for what is new; set it > 0, or leave the layer out")

    @property
    def pays_once(self) -> str:
        """New states."""
        return "new states (NoveltyBonus)"

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with pay for what is new."""
        state_hash = task.environment.state_hash
        if state_hash is None:
            raise ArlError(
                "what is new cannot be told without hashes of states; give the environment a state_hash, or leave NoveltyBonus out"
            )
        if any(isinstance(layer, NoveltyBonus) for layer in inner.layers):
            raise ArlError("what is new would be paid for twice; leave one NoveltyBonus out, and set the scale of the other")

        def bucket(state: AgentState) -> jax.Array:
            return _mix(state_hash(state.environment)) % self.num_buckets

        def start(key, curriculum):
            state, turn = inner.start(key, curriculum)
            return state.push(jnp.arange(self.num_buckets) == bucket(state)), turn

        def advance(key, curriculum, state: AgentState, segment: Segment):
            inner_state, is_visited = state.pop()
            inner_state, turn = inner.advance(key, curriculum, inner_state, segment)
            here = bucket(inner_state)
            bonus = jnp.where(is_visited[here], 0.0, self.scale)
            reward = turn.reward._replace(exploration=turn.reward.exploration + bonus)
            return inner_state.push(is_visited.at[here].set(True)), turn._replace(reward=reward)

        return around(inner, self, start=start, advance=advance)


def _mix(state_hash: jax.Array) -> jax.Array:
    """Returns uint32 `[]`, its bits well mixed: hashes in a row do not fall into buckets in a pattern (the finalizer of MurmurHash3)."""
    mixed = jnp.asarray(state_hash, jnp.uint32)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> 16)
