"""Which lanes a call of the model serves, and at which width. It changes the speed, never the result."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Shape(NamedTuple):
    """The shape of a call of the model.

    Attributes:
      lanes: how many lanes it serves; those with the longest inboxes.
      width: tokens that it reads a lane, at most.
    """

    lanes: int
    width: int


def make_shapes(num_lanes: int, widths: tuple[tuple[int, int], ...]) -> tuple[Shape, ...]:
    """Returns the shapes of calls for a number of lanes.

    Args:
      num_lanes: lanes of the stream, `B`.
      widths: pairs `(divisor, width)`: a `divisor`-th of the lanes is served at `width` tokens each.

    Returns:
      The shapes; among them one of width 1 that serves all lanes.

    Raises:
      ValueError: if a width is impossible.
    """
    for divisor, width in widths:
        if divisor < 1 or width < 1:
            raise ValueError(f"a call that serves 1/{divisor} of the lanes at width {width} is impossible; set both >= 1")
    shapes = [Shape(max(num_lanes // divisor, 1), width) for divisor, width in widths]
    return tuple(dict.fromkeys([Shape(num_lanes, 1), *shapes]))


def choose(shapes: tuple[Shape, ...], unread: jax.Array, overhead: float, axis_name: str | None = None) -> jax.Array:
    """Returns the shape that reads the most tokens for its cost.

    A call costs its computed slots and a fixed `overhead` (dispatch, and the weights' way to the processor).

    Args:
      shapes: to choose from.
      unread: int32 `[B]`, tokens in each inbox.
      overhead: cost of a call before its first slot, in slots.
      axis_name: of a `vmap` over whole rollouts; they choose together, so that the choice stays one for the compiler.

    Returns:
      int32 `[]`, index into `shapes`.
    """
    # Sorted only where a shape takes some of the lanes: loops ask at every call, and an accelerator sorts in many small steps.
    takes_some = any(shape.lanes < unread.shape[0] for shape in shapes)
    longest_first = -jnp.sort(-unread) if takes_some else unread
    gains = [jnp.sum(jnp.minimum(longest_first[: shape.lanes], shape.width)) for shape in shapes]
    gains = jnp.stack(gains).astype(jnp.float32)
    if axis_name is not None:
        gains = jax.lax.psum(gains, axis_name)
    costs = jnp.array([shape.lanes * shape.width + overhead for shape in shapes], jnp.float32)
    return jnp.argmax(gains / costs)
