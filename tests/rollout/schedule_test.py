"""Shapes of calls."""

import jax
import jax.numpy as jnp
import numpy as np
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


def test_the_choice_is_the_best_and_always_reads_something():
    """Against a loop over all shapes, for random inboxes."""
    rng, shapes = np.random.default_rng(0), schedule.make_shapes(8, ((1, 4), (2, 16), (8, 64)))
    choose = jax.jit(lambda unread: schedule.choose(shapes, unread, 5.0))
    for _ in range(200):
        unread = rng.integers(0, 80, 8) * (rng.random(8) < rng.random())
        longest = sorted(unread.tolist(), reverse=True)
        rates = [sum(min(n, s.width) for n in longest[: s.lanes]) / (s.lanes * s.width + 5.0) for s in shapes]
        found = int(choose(jnp.asarray(unread)))
        assert rates[found] == pytest.approx(max(rates), rel=1e-6) and (rates[found] > 0) == (max(longest) > 0)


def test_mapped_rollouts_choose_together():
    """The sum of what they read decides, so that the choice stays one."""
    shapes = schedule.make_shapes(8, ((1, 4),))
    alone = [[1] * 8, [4] * 8]
    found = jax.vmap(lambda unread: schedule.choose(shapes, unread, 1.0, "seed"), axis_name="seed")(jnp.array(alone))
    assert found[0] == found[1] == 0 or found[0] == found[1] == 1
    totals = [sum(sum(min(n, s.width) for n in unread) for unread in alone) / (s.lanes * s.width + 1.0) for s in shapes]
    assert int(found[0]) == int(np.argmax(totals))


@pytest.mark.parametrize("width", [(0, 1), (1, 0)])
def test_impossible_widths_are_refused(width):
    with pytest.raises(ValueError, match="set both >= 1"):
        schedule.make_shapes(8, (width,))
