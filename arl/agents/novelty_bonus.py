"""Exploration: a bonus for the first visit to a state."""

import dataclasses

import jax
import jax.numpy as jnp

from arl.agents.layer import Layer, extend
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Segment


@dataclasses.dataclass(frozen=True)
class NoveltyBonus(Layer):
    """A bonus for the first visit to a state in an episode, as `exploration` reward of the segment that led there.

    The environment's `state_hash` assigns each state to a bucket. A count-based bonus pays `scale / sqrt(n)` for the n-th visit (MBIE-EB,
    Strehl & Littman 2008); its sum over an episode has no bound, so that moving to and fro between two states would pay for ever. Here only
    the first visit pays, and an episode earns at most `scale * num_buckets` in all its attempts. The first state of an episode pays
    nothing; its last state pays if it is new.

    A state that shares its bucket with an earlier one pays nothing; for the n-th state of an episode the probability of this is below
    `n / num_buckets`.

    Put the layer around `Attempts`; an inner one would pay every attempt for the same states. The last state of an attempt then counts only
    if a reflection follows it; otherwise the next attempt has started by then. `ScaleRewards` can schedule the bonus. The layer's own state
    is bool `[num_buckets]`, whether a bucket has been visited.

    Attributes:
      scale: bonus for a new state, in the environment's units.
      num_buckets: number of buckets; no more states than that can be told apart.
    """

    scale: float
    num_buckets: int = 256

    def __post_init__(self):
        super().__post_init__()
        if self.num_buckets < 2:
            raise ArlError(f"{self.num_buckets} buckets tell no two states apart; set NoveltyBonus.num_buckets >= 2")
        if not 0 < self.scale < float("inf"):
            raise ArlError(f"NoveltyBonus.scale is {self.scale}, which does not pay for what is new; set it > 0, or leave the layer out")

    @property
    def one_time_reward(self) -> str:
        """New states."""
        return "new states (NoveltyBonus)"

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with the bonus."""
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

        return extend(inner, self, start=start, advance=advance)


def _mix(state_hash: jax.Array) -> jax.Array:
    """Returns uint32 `[]` with well mixed bits, so that consecutive hashes fall into unrelated buckets (the finalizer of MurmurHash3)."""
    mixed = jnp.asarray(state_hash, jnp.uint32)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> 16)
