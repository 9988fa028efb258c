"""Metrics against loops over a trajectory, and sums over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.rollout import Usage
from arl.training.metrics import WRITTEN_KINDS, size_metrics, trajectory_metrics
from arl.types import Kind
from tests import tiny


def found_by_loops(trajectory):
    """The same numbers, slot by slot."""
    episodes = whole = unfinished = segments = illegal = written = tokens = 0
    rewards, kinds, surprise = dict.fromkeys(trajectory.reward._fields, 0.0), {}, {}
    for lane in range(len(trajectory.token)):
        is_open, begins_here = False, trajectory.turn[lane, 0] == 0
        for slot in range(trajectory.token.shape[1]):
            at = (lane, slot)
            tokens += trajectory.token_kind[at] > 0
            if trajectory.is_sampled[at]:
                written, is_open, kind = written + 1, True, Kind(trajectory.kind[at]).name.lower()
                kinds[kind] = kinds.get(kind, 0) + 1
                surprise[kind] = surprise.get(kind, 0.0) - trajectory.log_prob[at]
            segments += trajectory.ends_segment[at]
            illegal += trajectory.ends_segment[at] and not trajectory.is_legal[at]
            for name in rewards:
                rewards[name] += getattr(trajectory.reward, name)[at]
            if trajectory.ends_episode[at]:
                episodes, whole, is_open, begins_here = episodes + 1, whole + begins_here, False, True
        unfinished += is_open
    return {
        "episodes": episodes, "whole_episodes": whole, "tokens": tokens,
        "turns": segments / episodes, "sampled": written / episodes, "illegal_fraction": illegal / segments,
        "return": (sum(rewards.values()) - rewards["own"]) / episodes, "unfinished_fraction": unfinished / (episodes + unfinished),
        **{f"return/{name}": value / episodes for name, value in rewards.items()},
        **{f"entropy/{kind}": surprise[kind] / kinds[kind] for kind in kinds},
        **{f"sampled/{kind}": kinds[kind] / tokens for kind in kinds},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("thoughts in attempts", {}),
        ("limits in attempts", {}),
        ("cost", {}),
        ("confidence", {}),
        ("act", {"restarts": True, "trajectory_length": 73}),
    ],
)
def test_metrics_are_those_of_a_loop(name, options):
    _, trajectory, usage = tiny.roll(name, *tiny.keys(6), **options)
    found = jax.jit(trajectory_metrics)(trajectory, usage)
    for key, value in found_by_loops(trajectory).items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6, err_msg=key)
    assert float(found["calls"]) == usage.num_calls
    np.testing.assert_allclose(found["useful_fraction"], (trajectory.token_kind > 0).sum() / float(usage.num_computed), rtol=1e-6)
    assert 0 < found["useful_fraction"] <= 1
    np.testing.assert_allclose(sum(float(found[f"tokens/{kind.name.lower()}"]) for kind in Kind if kind), 1.0, rtol=1e-5)
    others = [kind for kind in WRITTEN_KINDS if kind not in (Kind.ACTION, Kind.THINK, Kind.REFLECTION, Kind.CONFIDENCE)]
    assert all(found[f"entropy/{kind.name.lower()}"] == 0 for kind in others)
    written = trajectory_metrics(trajectory, usage, kinds=tiny.agent(name).writes)
    assert written == {key: found[key] for key in written} and all(found[key] == 0 for key in found.keys() - written), "others cannot occur"


def test_episodes_that_go_on_from_an_earlier_trajectory_are_not_whole():
    lanes, _, _ = tiny.roll("act", *tiny.keys(6), restarts=True, trajectory_length=73)
    assert (np.asarray(lanes.turn) > 0).any(), "some lane goes on in the middle of its episode"
    _, trajectory, usage = tiny.roll("act", *tiny.keys(6), restarts=True, trajectory_length=73)
    later = trajectory._replace(turn=trajectory.turn + np.asarray(lanes.turn)[:, None] * (trajectory.episode == 0))
    found = trajectory_metrics(later, usage)
    assert found["whole_episodes"] == found["episodes"] - np.sum(
        (np.asarray(lanes.turn) > 0) & (trajectory.ends_episode & (trajectory.episode == 0)).any(1)
    )


@pytest.mark.parametrize("name", ["thoughts in attempts", "act resets"])
def test_lanes_that_run_past_the_size_of_their_agent_are_counted(name):
    _, trajectory, _ = tiny.roll(name, *tiny.keys(6))
    size = tiny.agent(name).size
    segments, contexts = (
        trajectory.ends_segment.sum(1),
        (np.arange(trajectory.token.shape[1]) - trajectory.context_start + 1) * trajectory.is_sampled,
    )
    assert size_metrics(trajectory, size)["beyond_size_fraction"] == 0
    fewer = size_metrics(trajectory, size._replace(turns=int(segments.max()) - 1))
    np.testing.assert_allclose(fewer["beyond_size_fraction"], np.mean(segments == segments.max()))
    shorter = size_metrics(trajectory, size._replace(context=int(contexts.max()) - 1))
    np.testing.assert_allclose(shorter["beyond_size_fraction"], np.mean(contexts.max(1) == contexts.max()))


def test_sums_over_devices_are_those_of_the_whole():
    """Two devices with different numbers of episodes: totals are divided, not means averaged."""
    _, trajectory, usage = tiny.roll("thoughts in attempts", *tiny.keys(6))
    trajectory = trajectory._replace(ends_episode=trajectory.ends_episode & (np.arange(6) != 1)[:, None])
    wanted = trajectory_metrics(trajectory, usage)
    halves = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), trajectory)
    share = Usage(*(jnp.stack([x * 0.25, x * 0.75]) for x in usage))
    total = functools.partial(jax.lax.psum, axis_name="data")
    found = jax.vmap(lambda s, u: trajectory_metrics(s, u, total), axis_name="data")(halves, share)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], [value, value], rtol=1e-5, err_msg=name)


def test_a_trajectory_in_which_nothing_happened_gives_numbers():
    _, trajectory, usage = tiny.roll("act", *tiny.keys(2))
    empty = jax.tree.map(np.zeros_like, trajectory)
    found = trajectory_metrics(empty, usage)
    assert all(np.isfinite(value) for value in found.values()) and found["return"] == 0
