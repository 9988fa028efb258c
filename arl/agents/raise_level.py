"""A curriculum: tasks of easy levels first, and of harder ones once these are solved."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.agents.layer import Layer, extend
from arl.task import Task
from arl.types import AgentState, ArlError, Curriculum, Interaction, Segment


@dataclasses.dataclass(frozen=True)
class RaiseLevel(Layer):
    """Levels of difficulty (`Environment.num_levels`), raised one by one as the agent succeeds.

    An episode is of the highest level so far with probability `focus`, and otherwise of one drawn uniformly up to it. After an update in
    whose episodes the mean normalised score was at least `raise_at`, the highest level rises by 1. A warm start stays at level `first`, and
    whatever has no learned curriculum, such as an evaluation, draws its tasks as without the layer. (A mix of all levels with the hardest
    one: Learning to Execute, Zaremba and Sutskever 2014, arXiv 1410.4615.)

    The learned curriculum is `curriculum[name]["highest"]`, float32 `[]`. The layer's own state is the level of the episode, int32 `[]`.

    Attributes:
      first: highest level at the start.
      focus: probability of the highest level.
      raise_at: normalised score at which the highest level rises.
    """

    first: int = 1
    focus: float = 0.5
    raise_at: float = 0.9

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.focus <= 1:
            raise ArlError(f"RaiseLevel.focus is {self.focus}, which is no probability; set it between 0 and 1")
        if not 0 < self.raise_at <= 1:
            raise ArlError(f"RaiseLevel.raise_at is {self.raise_at}; set it to a normalised score above 0 and at most 1")

    @property
    def learned(self) -> dict[str, np.float32]:
        """The highest level."""
        return {"highest": np.float32(self.first)}

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with the curriculum."""
        most, name = task.environment.num_levels, self.label
        if task.environment.reset_at is None or task.bounds is None:
            raise ArlError("RaiseLevel needs an environment with levels and bounds, such as PointerChase; leave it out here")
        if not 1 <= self.first <= most:
            raise ArlError(f"RaiseLevel.first is {self.first}; set it to 1, ..., {most}, the levels of this environment")
        acts, bounds = inner.layers[0].label, task.bounds(task.limits)

        def at(level: jax.Array, curriculum: Curriculum) -> Curriculum:
            return {**curriculum, acts: {"level": level}} if name in curriculum else curriculum

        def draw(key: jax.Array, curriculum: Curriculum) -> jax.Array:
            highest = jnp.asarray(curriculum.get(name, {}).get("highest", most), jnp.float32).astype(jnp.int32)
            key_focus, key_level = jax.random.split(jax.random.fold_in(key, most))
            level = jax.random.randint(key_level, (), 1, highest + 1)
            return jnp.where(jax.random.uniform(key_focus) < self.focus, highest, level)

        def start(key, curriculum):
            level = draw(key, curriculum)
            inner_state, turn = inner.start(key, at(level, curriculum))
            return inner_state.push(level), turn

        def advance(key, curriculum, state: AgentState, segment: Segment):
            inner_state, level = state.pop()
            inner_state, turn = inner.advance(key, at(level, curriculum), inner_state, segment)
            return inner_state.push(level), turn

        def update_curriculum(curriculum: Curriculum, metrics: Any) -> Curriculum:
            curriculum = inner.update_curriculum(curriculum, metrics) if inner.update_curriculum else curriculum
            score = (metrics["return/outcome"] - bounds.random) / (bounds.optimal - bounds.random)
            highest = jnp.minimum(curriculum[name]["highest"] + (score >= self.raise_at), most)
            return {**curriculum, name: {"highest": highest.astype(jnp.float32)}}

        return extend(inner, self, start=start, advance=advance, update_curriculum=update_curriculum)
