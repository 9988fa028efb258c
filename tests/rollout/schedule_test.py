"""Shapes of calls."""

import jax.numpy as jnp
import pytest

from arl.rollout import schedule
from arl.rollout.schedule import Shape


def test_all_lanes_can_always_be_served_one_token():
    assert schedule.make_shapes(8, ((1, 4), (2, 16), (100, 2))) == (Shape(8, 1), Shape(8, 4), Shape(4, 16), Shape(1, 2))
    assert schedule.make_shapes(8, ()) == (Shape(8, 1),)


@pytest.mark.parametrize(
    ("unread", "overhead", "wanted"),
    [
        ([1] * 8, 0.0, Shape(8, 1)),  # in step, one token each
        ([4] * 8, 1.0, Shape(8, 4)),  # in step, a turn's text: one wide call
        ([16, 16, 1, 1, 1, 1, 1, 1], 0.0, Shape(8, 1)),  # 8 useful of 8 slots, against 32 of 64
        ([16, 16, 16, 16, 0, 0, 0, 0], 8.0, Shape(4, 16)),  # the longest inboxes only
    ],
)
def test_the_shape_that_reads_most_for_its_cost_is_chosen(unread, overhead, wanted):
    shapes = schedule.make_shapes(8, ((1, 4), (2, 16)))
    assert shapes[int(schedule.choose(shapes, jnp.array(unread), overhead))] == wanted


@pytest.mark.parametrize("width", [(0, 1), (1, 0)])
def test_impossible_widths_are_refused(width):
    with pytest.raises(ValueError, match="set both >= 1"):
        schedule.make_shapes(8, (width,))
