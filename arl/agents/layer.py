"""An agent as an ordered tuple of layers: what a layer is, and how they are put around each other."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from arl import text
from arl.task import Limits, Task
from arl.types import AgentState, ArlError, Expert, Interaction, Kind, Text, select


@dataclasses.dataclass(frozen=True)
class Layer:
    """A capability of an agent, as a frozen config. A layer of one's own overrides `wrap`, and whatever else is not the default.

    Attributes:
      name: under which the curriculum and flags know the layer; its class's in small letters if not given. No two of an agent are the same.
    """

    name: str = dataclasses.field(default="", kw_only=True)

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns the agent with this layer around it: `around(inner, self, ...)`.

        Args:
          inner: the agent without it.
          task: in which it lives.

        Raises:
          ArlError: for what the layer needs of either and does not find.
        """
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The layer's name."""
        return self.name or snake_case(type(self).__name__)

    @property
    def is_innermost(self) -> bool:
        """Whether it stands within all others, and `wrap` is given None as `inner`."""
        return False

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Kinds of the segments that it asks for."""
        return ()

    @property
    def schedules(self) -> tuple[str, ...]:
        """Names of the schedules that it follows, such as "attempts.keep": what `curriculum["attempts"]["keep"]` has to hold."""
        return ()

    @property
    def budgets(self) -> dict[Kind, tuple[str, int]]:
        """Name of the field, and tokens, of the notes that it asks for, by kind."""
        return {}

    @property
    def pays_once(self) -> str:
        """What it pays for once an episode, such as "new states", and several attempts within would pay for again; empty for nothing."""
        return ""

    def fold(self, limits: Limits) -> Limits:
        """Returns the limits of an episode with this layer, from those without."""
        return limits


def make_agent(task: Task, layers: Sequence[Layer]) -> Interaction:
    """Returns an agent in its task.

    Args:
      task: to live in.
      layers: from the inside out; the first is `Act`.

    Raises:
      ArlError: for layers that do not fit each other or the task.
    """
    layers = tuple(layers)
    for layer in layers:
        if not isinstance(layer, Layer):
            raise ArlError(f"{layer!r} is no layer; give layers, such as Act() and Attempts(4)")
    labels = [layer.label for layer in layers]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ArlError(f"two layers are called {min(twice)}; give one of them another name, as in name='outer'")
    if not layers or not layers[0].is_innermost:
        raise ArlError("an agent begins with the layer that acts; put Act() first")
    task = task._replace(limits=limits_of(layers))
    interaction: Any = None
    for layer in layers:
        interaction = layer.wrap(interaction, task)
    return interaction


def limits_of(layers: Sequence[Layer]) -> Limits:
    """Returns the limits of an episode that some layers make."""
    limits = Limits()
    for layer in layers:
        limits = layer.fold(limits)
    return limits


def around(
    inner: Interaction,
    layer: Layer | None,
    *,
    experts: Mapping[Kind, Expert] | None = None,
    asks: Callable[[Any], jax.Array] | None = None,
    **changes: Any,
) -> Interaction:
    """Returns `inner` with what a layer changes; the rest is passed on.

    Args:
      inner: the interaction within.
      layer: around it; None for what is no part of the agent, such as an intervention.
      experts: of the kinds of segments that the layer asks for.
      asks: `own state -> bool []`, whether this layer asked for the segment, and not one within that asks for the same kind; None where
        none does.
      **changes: fields of `Interaction`. `start` and `advance` return `AgentState`s onto which the layer's own state was pushed.
    """
    both = {kind: _of_inner(expert) for kind, expert in inner.experts.items()}
    for kind, expert in (experts or {}).items():
        both[kind] = either(asks, expert, both[kind]) if asks and kind in both else expert
    layers = inner.layers if layer is None else (*inner.layers, layer)
    return inner._replace(experts=both, layers=layers, **changes)


def either(asks: Callable[[Any], jax.Array], outer: Expert, inner: Expert) -> Expert:
    """Returns the expert of segments that a layer and the interaction within both ask for.

    Args:
      asks: `own state -> bool []`, whether the layer asks.
      outer: the expert of the layer.
      inner: the expert of the interaction within.
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


def note_symbols(task: Task, symbols: str | tuple[str, ...]) -> tuple[str, ...] | None:
    """Returns the strings of one token that a text is made of, None for the whole vocabulary.

    Args:
      task: in which it is written.
      symbols: "task" for those that the task says are worth noting, "any" for the whole vocabulary, or strings.

    Raises:
      ArlError: for another string.
    """
    if isinstance(symbols, str):
        if symbols not in ("task", "any"):
            raise ArlError(f"symbols is {symbols!r}; set it to 'task', 'any', or a tuple of strings of one token, such as (' 0', ' 1')")
        return task.note_symbols if symbols == "task" else None
    return tuple(symbols)


def snake_case(name: str) -> str:
    """Returns the name of a class in small letters, such as "use_tools" of "UseTools"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
