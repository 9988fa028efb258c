"""Metrics against loops over a stream, and sums over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.rollout import Usage
from arl.training.metrics import WRITTEN_KINDS, size_metrics, stream_metrics
from arl.types import Kind
from tests import tiny


def found_by_loops(stream):
    """The same numbers, slot by slot."""
    lives = whole = unfinished = segments = illegal = written = tokens = 0
    rewards, kinds, surprise = dict.fromkeys(stream.reward._fields, 0.0), {}, {}
    for lane in range(len(stream.token)):
        is_open, begins_here = False, stream.turn[lane, 0] == 0
        for slot in range(stream.token.shape[1]):
            at = (lane, slot)
            tokens += stream.token_kind[at] > 0
            if stream.is_written[at]:
                written, is_open, kind = written + 1, True, Kind(stream.kind[at]).name.lower()
                kinds[kind] = kinds.get(kind, 0) + 1
                surprise[kind] = surprise.get(kind, 0.0) - stream.log_prob[at]
            segments += stream.ends_segment[at]
            illegal += stream.ends_segment[at] and not stream.is_legal[at]
            for name in rewards:
                rewards[name] += getattr(stream.reward, name)[at]
            if stream.ends_life[at]:
                lives, whole, is_open, begins_here = lives + 1, whole + begins_here, False, True
        unfinished += is_open
    return {
        "lives": lives, "whole_lives": whole, "tokens": tokens,
        "turns": segments / lives, "written": written / lives, "illegal_share": illegal / segments,
        "return": sum(rewards.values()) / lives, "unfinished_share": unfinished / (lives + unfinished),
        **{f"return/{name}": value / lives for name, value in rewards.items()},
        **{f"entropy/{kind}": surprise[kind] / kinds[kind] for kind in kinds},
        **{f"written/{kind}": kinds[kind] / tokens for kind in kinds},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options"),
    [("thoughts in attempts", {}), ("limits in attempts", {}), ("price", {}), ("act", {"restarts": True, "stream_length": 73})],
)
def test_metrics_are_those_of_a_loop(name, options):
    _, stream, usage = tiny.roll(name, *tiny.keys(6), **options)
    found = jax.jit(stream_metrics)(stream, usage)
    for key, value in found_by_loops(stream).items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6, err_msg=key)
    assert float(found["calls"]) == usage.num_calls
    np.testing.assert_allclose(found["useful_share"], (stream.token_kind > 0).sum() / float(usage.num_slots), rtol=1e-6)
    assert 0 < found["useful_share"] <= 1
    np.testing.assert_allclose(sum(float(found[f"tokens/{kind.name.lower()}"]) for kind in Kind if kind), 1.0, rtol=1e-5)
    assert all(found[f"entropy/{kind}"] == 0 for kind in WRITTEN_KINDS if kind not in ("action", "think", "reflection"))


def test_lives_that_go_on_from_an_earlier_stream_are_not_whole():
    lanes, _, _ = tiny.roll("act", *tiny.keys(6), restarts=True, stream_length=73)
    assert (np.asarray(lanes.turn) > 0).any(), "some lane goes on in the middle of its life"
    _, stream, usage = tiny.roll("act", *tiny.keys(6), restarts=True, stream_length=73)
    later = stream._replace(turn=stream.turn + np.asarray(lanes.turn)[:, None] * (stream.life == 0))
    found = stream_metrics(later, usage)
    assert found["whole_lives"] == found["lives"] - np.sum((np.asarray(lanes.turn) > 0) & (stream.ends_life & (stream.life == 0)).any(1))


@pytest.mark.parametrize("name", ["thoughts in attempts", "act forgets"])
def test_lanes_that_run_past_the_size_of_their_agent_are_counted(name):
    _, stream, _ = tiny.roll(name, *tiny.keys(6))
    size = tiny.agent(name).size
    segments, contexts = stream.ends_segment.sum(1), (np.arange(stream.token.shape[1]) - stream.begin + 1) * stream.is_written
    assert size_metrics(stream, size)["beyond_size_share"] == 0
    fewer = size_metrics(stream, size._replace(turns=int(segments.max()) - 1))
    np.testing.assert_allclose(fewer["beyond_size_share"], np.mean(segments == segments.max()))
    shorter = size_metrics(stream, size._replace(context=int(contexts.max()) - 1))
    np.testing.assert_allclose(shorter["beyond_size_share"], np.mean(contexts.max(1) == contexts.max()))


def test_sums_over_devices_are_those_of_the_whole():
    """Two devices with different numbers of lives: totals are divided, not means averaged."""
    _, stream, usage = tiny.roll("thoughts in attempts", *tiny.keys(6))
    stream = stream._replace(ends_life=stream.ends_life & (np.arange(6) != 1)[:, None])
    wanted = stream_metrics(stream, usage)
    halves = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), stream)
    share = Usage(*(jnp.stack([x * 0.25, x * 0.75]) for x in usage))
    total = functools.partial(jax.lax.psum, axis_name="data")
    found = jax.vmap(lambda s, u: stream_metrics(s, u, total), axis_name="data")(halves, share)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], [value, value], rtol=1e-5, err_msg=name)


def test_a_stream_in_which_nothing_happened_gives_numbers():
    _, stream, usage = tiny.roll("act", *tiny.keys(2))
    empty = jax.tree.map(np.zeros_like, stream)
    found = stream_metrics(empty, usage)
    assert all(np.isfinite(value) for value in found.values()) and found["return"] == 0
