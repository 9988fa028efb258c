"""Layers, the wrappers that an agent is made of, and how they are composed."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from arl import text
from arl.agents.moves import Move
from arl.checks import Checked, check_fields
from arl.task import Limits, Task, TaskExpert
from arl.types import AgentState, ArlError, Curriculum, Expert, Grammar, Interaction, Kind, Reward, Text, Turn, select


@dataclasses.dataclass(frozen=True)
class Layer(Checked):
    """A wrapper around an interaction, as a frozen config; a subclass overrides `wrap`, and each property whose default does not fit.

    Attributes:
      name: name of the layer in the curriculum and in flags, unique in an agent; by default that of its class in snake case.
    """

    name: str = dataclasses.field(default="", kw_only=True)

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns the agent with this layer around it: `extend(inner, self, ...)`.

        Args:
          inner: the agent without it.
          task: task of the agent.

        Raises:
          ArlError: if `inner` or `task` lacks something that the layer needs.
        """
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The layer's name."""
        return self.name or snake_case(type(self).__name__)

    @property
    def is_innermost(self) -> bool:
        """Whether the layer is the innermost one, whose `wrap` gets None as `inner`."""
        return False

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Kinds of the segments that the layer asks for."""
        return ()

    @property
    def schedules(self) -> tuple[str, ...]:
        """Names of the schedules that the layer follows, such as "attempts.keep" for `curriculum["attempts"]["keep"]`."""
        return ()

    @property
    def learned(self) -> Mapping[str, Any]:
        """Initial values of what the layer learns of its curriculum, `curriculum[name]`: see `Interaction.update_curriculum`."""
        return {}

    @property
    def budgets(self) -> dict[Kind, tuple[str, int]]:
        """Budgets of the notes that the layer asks for: name of the field and tokens, by kind."""
        return {}

    @property
    def one_time_reward(self) -> str:
        """What the layer rewards once, such as "new states", and an outer `Attempts` would make it reward again; empty for nothing."""
        return ""

    @property
    def scales_rewards(self) -> bool:
        """Whether all that the layer does is to scale rewards, on purpose: it is left out where rewards are checked or measured."""
        return False

    def set_limits(self, limits: Limits) -> Limits:
        """Returns the limits of an episode with this layer, from the limits without it."""
        return limits

    def move(self, inner: Interaction, task: Task) -> Move | None:
        """Returns what the layer asks for before an action as a move that `Menu` offers; None if it is none.

        Args:
          inner: the agent without the menu.
          task: task of the agent.
        """
        del inner, task
        return None


def make_agent(task: Task, layers: Sequence[Layer]) -> Interaction:
    """Returns an agent in its environment.

    Args:
      task: task of the agent.
      layers: layers from the inside out; the first is `Act`.

    Raises:
      ArlError: if the layers do not fit each other or the task.
    """
    if not isinstance(task, Task):
        do = "give its task, config.make(arl.load_tokenizer())" if hasattr(task, "make") else "give an arl.Task"
        raise ArlError(f"{type(task).__name__} is no task; {do}")
    if not isinstance(layers, Sequence):
        raise ArlError(f"layers is {layers!r}; give a list of layers, such as [Act(), Attempts(4)]")
    layers = tuple(layers)
    for layer in layers:
        if not isinstance(layer, Layer):
            raise ArlError(f"{layer!r} is no layer; give layers, such as Act() and Attempts(4)")
        check_fields(layer)  # again, for a layer whose own `__post_init__` does not
    labels = [layer.label for layer in layers]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ArlError(f"two layers are called {min(twice)}; give one of them another name, as in name='outer'")
    if not layers or not layers[0].is_innermost:
        raise ArlError("an agent begins with the layer that acts; put Act() first")
    task = task._replace(limits=limits_of(layers))
    interaction: Any = None
    for layer in layers:
        interaction = layer.wrap(interaction, task)
        if not isinstance(interaction, Interaction):
            raise ArlError(
                f"wrap of the layer {layer.label} returns a {type(interaction).__name__}; return agents.extend(inner, self, ...)"
            )
    return interaction._replace(task=task)


def limits_of(layers: Sequence[Layer]) -> Limits:
    """Returns the limits that `layers` set to an episode."""
    limits = Limits()
    for layer in layers:
        limits = layer.set_limits(limits)
    return limits


def extend(
    inner: Interaction,
    layer: Layer | None,
    *,
    experts: Mapping[Kind, Expert] | None = None,
    asks: Callable[[Any], jax.Array] | None = None,
    **changes: Any,
) -> Interaction:
    """Returns `inner` with the changes of a layer.

    Args:
      inner: the inner interaction.
      layer: the layer; None for a change that is not part of the agent, such as an intervention.
      experts: experts of the segments that the layer asks for, by kind.
      asks: `own state -> bool []`, whether this layer asked for the segment, if an inner one asks for the same kind; None if none does.
      **changes: fields of `Interaction` to replace; `start` and `advance` return an `AgentState` with the layer's own state pushed onto it.
    """
    both = {kind: _of_inner(expert) for kind, expert in inner.experts.items()}
    for kind, expert in (experts or {}).items():
        is_shared = kind in both and (kind in inner.writes or not inner.layers)  # a task's expert may be of a kind that nobody writes yet
        both[kind] = choose_expert(asks, expert, both[kind]) if asks and is_shared else expert
    layers = inner.layers if layer is None else (*inner.layers, layer)
    return inner._replace(experts=both, layers=layers, **changes)


def choose_expert(asks: Callable[[Any], jax.Array], outer: Expert, inner: Expert) -> Expert:
    """Returns the expert of a kind of segment that a layer and its inner interaction both ask for.

    Args:
      asks: `own state -> bool []`, whether the layer asked for the segment.
      outer: expert of the layer.
      inner: expert of the inner interaction.
    """

    def write(key: jax.Array, state: AgentState, attempt: jax.Array) -> Text:
        said = outer(key, state, attempt), inner(key, state, attempt)
        capacity = max(each.ids.shape[0] for each in said)
        return select(asks(state.pop()[1]), *(text.pad(each, capacity) for each in said))

    return write


def _of_inner(expert: Expert) -> Expert:
    def write(key: jax.Array, state: AgentState, attempt: jax.Array) -> Text:
        return expert(key, state.pop()[0], attempt)

    return write


def without_reward(turn: Turn) -> Turn:
    """Returns the turn without its reward and discount, which belong to the last segment and have been passed on."""
    return turn._replace(reward=Reward(*map(jnp.zeros_like, turn.reward)), discount=jnp.float32(1.0))


def experts_of(task: Task) -> dict[Kind, TaskExpert]:
    """Returns the experts of a task within its limits, with the defaults of those that it does not give.

    Args:
      task: task with the limits of its agent.
    """
    experts, environment = dict(task.experts(task.limits)), task.environment
    if environment.expert:
        experts.setdefault(Kind.ACTION, lambda key, state, attempt: _say_action(environment.grammar, environment.expert(key, state)))
    if Kind.NOTE in experts:
        experts.setdefault(Kind.REFLECTION, experts[Kind.NOTE])
    return experts


def _say_action(grammar: Grammar, choice: jax.Array) -> Text:
    if isinstance(choice, Text) or not jnp.issubdtype(jnp.result_type(choice), jnp.integer):
        raise ArlError("the environment's expert returns no index of a legal string; return an action, int32 []")
    return text.say_choice(grammar, choice)


def note_symbols(task: Task, symbols: str | tuple[str, ...]) -> tuple[str, ...] | None:
    """Returns the strings of one token that a note may consist of, None for the whole vocabulary.

    Args:
      task: task of the agent.
      symbols: "task" for `Task.note_symbols`, "any" for the whole vocabulary, or a tuple of strings.

    Raises:
      ArlError: for another string.
    """
    if isinstance(symbols, tuple | list):
        return tuple(symbols)
    if symbols not in ("task", "any"):
        raise ArlError(f"symbols is {symbols!r}; set it to 'task', 'any', or a tuple of strings of one token, such as (' 0', ' 1')")
    return task.note_symbols if symbols == "task" else None


def scheduled_value(curriculum: Curriculum, name: str, field: str) -> Any:
    """Returns the present value of a schedule, `curriculum[name][field]`.

    Args:
      curriculum: curriculum of the interaction.
      name: name of a layer.
      field: name of the value.

    Raises:
      ArlError: if the curriculum does not have it.
    """
    try:
        return curriculum[name][field]
    except KeyError:
        raise ArlError(
            f"nothing sets {name}.{field}; give LearnerConfig.schedules['{name}.{field}'] a Schedule, or the curriculum that value"
        ) from None


def snake_case(name: str) -> str:
    """Returns the name of a class in snake case, such as "use_tools" for "UseTools"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
