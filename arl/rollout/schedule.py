"""Scheduling: which lanes a call of the model serves, and at which width. It changes the speed, never the result."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from arl.types import ArlError


class Shape(NamedTuple):
    """The shape of a call of the model.

    Attributes:
      lanes: number of lanes that it serves, those with the most unread tokens.
      width: most tokens that it reads per lane.
    """

    lanes: int
    width: int


def make_shapes(num_lanes: int, widths: tuple[tuple[int, int], ...]) -> tuple[Shape, ...]:
    """Returns the shapes of calls that may be made for a number of lanes.

    Args:
      num_lanes: lanes of the trajectory, `B`.
      widths: pairs `(divisor, width)`; such a call serves `num_lanes / divisor` lanes at `width` tokens each.

    Returns:
      The shapes, one of which serves all lanes at width 1.

    Raises:
      ArlError: if a divisor or width is below 1.
    """
    for divisor, width in widths:
        if divisor < 1 or width < 1:
            raise ArlError(f"a call that serves 1/{divisor} of the lanes at width {width} is impossible; set both >= 1")
    shapes = [Shape(max(num_lanes // divisor, 1), width) for divisor, width in widths]
    return tuple(dict.fromkeys([Shape(num_lanes, 1), *shapes]))


def choose(shapes: tuple[Shape, ...], unread: jax.Array, overhead: float, axis_name: str | None = None) -> jax.Array:
    """Returns the shape that reads the most tokens for its cost.

    A call costs the tokens computed, padding included, and a fixed `overhead` (dispatch, and loading the weights).

    Args:
      shapes: the shapes to choose from.
      unread: int32 `[B]`, unread tokens of each lane.
      overhead: fixed cost of a call, in computed tokens.
      axis_name: axis of a `vmap` over whole rollouts; they choose together, so that the choice is not batched.

    Returns:
      int32 `[]`, index into `shapes`.
    """
    # Sorted only where a shape serves some of the lanes: this runs at every call, and sorting is slow on an accelerator.
    takes_some = any(shape.lanes < unread.shape[0] for shape in shapes)
    longest_first = -jnp.sort(-unread) if takes_some else unread
    gains = [jnp.sum(jnp.minimum(longest_first[: shape.lanes], shape.width)) for shape in shapes]
    gains = jnp.stack(gains).astype(jnp.float32)
    if axis_name is not None:
        gains = jax.lax.psum(gains, axis_name)
    costs = jnp.array([shape.lanes * shape.width + overhead for shape in shapes], jnp.float32)
    return jnp.argmax(gains / costs)
