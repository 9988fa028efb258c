"""Against the definitions, summed episode by episode in plain Python, and against numbers worked out by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arl import objectives

T = 48
FLAGS = ("is_sampled", "has_value", "ends_segment", "ends_episode", "is_truncated")
NUMBERS = ("reward", "value", "discount")
gae = jax.jit(objectives.gae, static_argnames="gae_lambda_counts")
segment_gae = jax.jit(objectives.segment_gae)
returns = jax.jit(objectives.returns)
episode_return = jax.jit(objectives.episode_return)


# ---------------------------------------------------------------- trajectories, slot by slot
def read(rng, **fields):
    """A slot that was only read; what it holds has no meaning."""
    return {**dict.fromkeys(FLAGS, False), **{name: rng.normal() * 100 for name in NUMBERS}, **fields}


def draw_episode(rng, end):
    """An episode as a list of slots; `end` is "terminated", "truncated", or "unfinished" (between segments or within one)."""
    slots = []
    num_segments = rng.integers(1, 4)
    for segment in range(num_segments):
        slots += [read(rng, has_value=rng.random() < 0.3) for _ in range(rng.integers(0, 3))]
        num_decisions = rng.integers(1, 4)
        is_last = segment == num_segments - 1
        is_cut_within = end == "unfinished" and is_last and rng.random() < 0.5
        for decision in range(num_decisions):
            ends = decision == num_decisions - 1 and not is_cut_within
            terminates = ends and is_last and end == "terminated"
            pays = ends or rng.random() < 0.2
            slots.append(
                read(
                    rng,
                    is_sampled=True,
                    has_value=True,
                    value=rng.normal(),
                    reward=rng.normal() if pays else 0.0,
                    discount=0.0 if terminates else rng.choice([0.5, 0.9, 1.0]) if ends else 1.0,
                    ends_segment=ends,
                    ends_episode=terminates,
                )
            )
            if not ends and rng.random() < 0.3:
                slots.append(read(rng))  # a forced token
    if end != "terminated":
        slots += [read(rng, has_value=rng.random() < 0.3) for _ in range(rng.integers(0, 3))]
        is_truncated = end == "truncated"
        slots.append(read(rng, has_value=True, value=rng.normal(), ends_episode=is_truncated, is_truncated=is_truncated))
    return slots


def draw_lane(rng):
    """Episodes that fit into a lane; what follows the last is empty."""
    episodes = []
    while True:
        episode = draw_episode(rng, rng.choice(["terminated", "truncated", "unfinished"]))
        if sum(map(len, episodes)) + len(episode) > T:
            return episodes or draw_lane(rng)
        episodes.append(episode)
        # Only the last episode of a lane can be unfinished.
        if not episode[-1]["ends_episode"]:
            return episodes


def as_arrays(lanes):
    """Arrays `[B, T]` from lanes of episodes of slots."""
    empty = dict.fromkeys(FLAGS, False) | dict.fromkeys(NUMBERS, 0.0)
    flat = [sum(episodes, []) for episodes in lanes]
    rows = [slots + [empty] * (T - len(slots)) for slots in flat]
    return {
        name: np.array([[slot[name] for slot in row] for row in rows], bool if name in FLAGS else np.float32) for name in (*FLAGS, *NUMBERS)
    }


def at_decisions(x, arrays):
    return np.asarray(x)[np.asarray(arrays["is_sampled"])]


def decisions(episode):
    """The decisions of an episode and the value of what would follow the last."""
    chain = [slot for slot in episode if slot["is_sampled"]]
    bootstrap = 0.0 if episode[-1]["is_sampled"] else episode[-1]["value"]
    return chain, bootstrap


def spread(lanes, per_episode):
    """Puts the numbers of each episode's decisions back to their slots, 0 elsewhere."""
    out = np.zeros((len(lanes), T))
    for row, episodes in zip(out, lanes, strict=True):
        t = 0
        for episode in episodes:
            numbers = iter(per_episode(episode))
            for slot in episode:
                if slot["is_sampled"]:
                    row[t] = next(numbers)
                t += 1
    return out


# ---------------------------------------------------------------- the definitions
def gae_of_chain(rewards, values, discounts, traces, bootstrap):
    """Equation 16 of the paper as the sum that it is: residuals, weighted by the product of discounts and traces on the way."""
    after = [*values[1:], bootstrap]
    residuals = [r + d * v_next - v for r, d, v_next, v in zip(rewards, discounts, after, values, strict=True)]
    out = []
    for first in range(len(residuals)):
        total, weight = 0.0, 1.0
        for k in range(first, len(residuals)):
            total += weight * residuals[k]
            weight *= discounts[k] * traces[k]
        out.append(total)
    return out


def gae_of_episode(episode, gae_lambda, counts):
    chain, bootstrap = decisions(episode)
    traces = [gae_lambda if counts == "token" or slot["ends_segment"] else 1.0 for slot in chain]
    return gae_of_chain(*([slot[name] for slot in chain] for name in NUMBERS), traces, bootstrap)


def segments_of(chain):
    segments = [[]]
    for slot in chain:
        segments[-1].append(slot)
        if slot["ends_segment"]:
            segments.append([])
    return [segment for segment in segments if segment]


def segment_gae_of_episode(episode, gae_lambda):
    """The paper's estimate with a segment as the action, repeated for the segment's tokens."""
    chain, bootstrap = decisions(episode)
    segments = segments_of(chain)
    rewards = [sum(slot["reward"] for slot in segment) for segment in segments]
    values = [segment[0]["value"] for segment in segments]
    discounts = [segment[-1]["discount"] for segment in segments]
    advantages = gae_of_chain(rewards, values, discounts, [gae_lambda] * len(segments), bootstrap)
    return [a for a, segment in zip(advantages, segments, strict=True) for _ in segment]


def returns_of_episode(episode, is_bootstrapped):
    chain, bootstrap = decisions(episode)
    out = []
    for first in range(len(chain)):
        total, weight = 0.0, 1.0
        for slot in chain[first:]:
            total += weight * slot["reward"]
            weight *= slot["discount"]
        out.append(total + weight * bootstrap * is_bootstrapped)
    return out


lanes_strategy = st.integers(0, 2**32 - 1).map(lambda seed: [draw_lane(np.random.default_rng([seed, i])) for i in range(3)])
trace_strategy = st.sampled_from([0.0, 0.5, 0.95, 1.0])


def for_returns(arrays, is_bootstrapped):
    names = ("reward", "discount", "is_sampled", "ends_episode", "is_truncated") + (("value", "has_value") if is_bootstrapped else ())
    return {name: arrays[name] for name in names}


@given(lanes_strategy, trace_strategy, st.sampled_from(["segment", "token"]))
def test_gae_is_the_papers_sum(lanes, gae_lambda, counts):
    arrays = as_arrays(lanes)
    advantage, target = gae(**arrays, gae_lambda=gae_lambda, gae_lambda_counts=counts)
    expected = spread(lanes, lambda episode: gae_of_episode(episode, gae_lambda, counts))
    np.testing.assert_allclose(advantage, expected, atol=2e-5)
    np.testing.assert_allclose(target, np.where(arrays["is_sampled"], expected + arrays["value"], 0), atol=2e-5)
    assert advantage.dtype == target.dtype == jnp.float32


@given(lanes_strategy, trace_strategy)
def test_segment_gae_is_the_papers_sum_over_segments(lanes, gae_lambda):
    arrays = as_arrays(lanes)
    advantage, target = segment_gae(**arrays, gae_lambda=gae_lambda)
    np.testing.assert_allclose(advantage, spread(lanes, lambda episode: segment_gae_of_episode(episode, gae_lambda)), atol=2e-5)

    def targets(episode):
        first = [segment[0]["value"] for segment in segments_of(decisions(episode)[0]) for _ in segment]
        return [a + v for a, v in zip(segment_gae_of_episode(episode, gae_lambda), first, strict=True)]

    np.testing.assert_allclose(target, spread(lanes, targets), atol=2e-5)


@given(lanes_strategy, st.booleans())
def test_returns_are_discounted_sums(lanes, is_bootstrapped):
    found = returns(**for_returns(as_arrays(lanes), is_bootstrapped))
    np.testing.assert_allclose(found, spread(lanes, lambda episode: returns_of_episode(episode, is_bootstrapped)), atol=2e-5)


@given(lanes_strategy)
def test_episode_return_is_that_of_the_first_episode(lanes):
    arrays = as_arrays(lanes)
    found = episode_return(**{name: arrays[name] for name in ("reward", "discount", "is_sampled", "ends_episode")})
    np.testing.assert_allclose(found, [returns_of_episode(episodes[0], False)[0] for episodes in lanes], atol=2e-5)


@given(lanes_strategy, st.sampled_from(["segment", "token"]))
def test_with_trace_1_an_advantage_is_return_minus_value(lanes, counts):
    arrays = as_arrays(lanes)
    advantage, target = gae(**arrays, gae_lambda=1.0, gae_lambda_counts=counts)
    whole = returns(**for_returns(arrays, True))
    np.testing.assert_allclose(advantage, np.where(arrays["is_sampled"], whole - arrays["value"], 0), atol=2e-5)
    np.testing.assert_allclose(target, whole, atol=2e-5)


@given(lanes_strategy, trace_strategy, st.sampled_from(["segment", "token"]))
def test_exact_values_leave_no_advantage(lanes, gae_lambda, counts):
    arrays = as_arrays(lanes)
    exact = np.where(arrays["is_sampled"], returns(**for_returns(arrays, True)), arrays["value"])
    advantage, _ = gae(**(arrays | {"value": exact}), gae_lambda=gae_lambda, gae_lambda_counts=counts)
    np.testing.assert_allclose(advantage, 0, atol=2e-5)


@given(lanes_strategy, st.randoms(use_true_random=False))
def test_slots_that_are_only_read_change_nothing(lanes, random):
    rng = np.random.default_rng(random.getrandbits(32))
    episodes = lanes[0]
    room = T - sum(map(len, episodes))
    longer = [list(episode) for episode in episodes]
    for _ in range(room):
        episode = longer[random.randrange(len(longer))]
        episode.insert(random.randrange(len(episode)), read(rng))
    before, after = as_arrays([episodes]), as_arrays([longer])
    for estimate in (functools.partial(gae, gae_lambda=0.9), functools.partial(segment_gae, gae_lambda=0.9)):
        for a, b in zip(estimate(**before), estimate(**after), strict=True):
            np.testing.assert_array_equal(at_decisions(a, before), at_decisions(b, after))
    a, b = (returns(**for_returns(arrays, True)) for arrays in (before, after))
    np.testing.assert_array_equal(at_decisions(a, before), at_decisions(b, after))


@given(lanes_strategy)
def test_episodes_of_a_lane_are_as_if_alone(lanes):
    for episodes in lanes[:1]:
        together, alone = as_arrays([episodes]), [as_arrays([[episode]]) for episode in episodes]
        for estimate in (functools.partial(gae, gae_lambda=0.9), functools.partial(segment_gae, gae_lambda=0.9)):
            for found, *expected in zip(estimate(**together), *(estimate(**arrays) for arrays in alone), strict=True):
                pieces = [at_decisions(x, arrays) for x, arrays in zip(expected, alone, strict=True)]
                np.testing.assert_array_equal(at_decisions(found, together), np.concatenate(pieces))


# ---------------------------------------------------------------- by hand
def trajectory(rows, **changes):
    """One lane, a letter a slot: `.` read, `w` written, `S` written and ends its segment, `E` its episode as well; `v` read and has a
    value, `t` the same where an episode is truncated."""
    marks = np.array([list(rows)])
    flags = {
        "is_sampled": np.isin(marks, ["w", "S", "E"]),
        "has_value": np.isin(marks, ["w", "S", "E", "t", "v"]),
        "ends_segment": np.isin(marks, ["S", "E"]),
        "ends_episode": np.isin(marks, ["E", "t"]),
        "is_truncated": marks == "t",
    }
    numbers = {name: jnp.zeros(marks.shape) for name in NUMBERS}
    numbers["discount"] = jnp.where(marks == "E", 0.0, 1.0)
    return {name: jnp.asarray(x) for name, x in (flags | numbers).items()} | {name: jnp.array([x]) for name, x in changes.items()}


def test_gae_by_hand():
    # Rewards 1 and 2 at the two segments' ends, discount 1/2 between them, trace 1/2.
    lane = trajectory(".wS.wE", reward=[0, 0, 1.0, 0, 0, 2.0], value=[9, 1.0, 2.0, 9, 4.0, 3.0], discount=[9, 1, 0.5, 9, 1, 0.0])
    # Residuals: 0 + 2 - 1 = 1; 1 + 4/2 - 2 = 1; 0 + 3 - 4 = -1; 2 - 3 = -1.
    by_token, target = gae(**lane, gae_lambda=0.5, gae_lambda_counts="token")
    np.testing.assert_allclose(by_token, [[0, 1.3125, 0.625, 0, -1.5, -1]])  # -1 - 1/2; 1 - 1.5/4; 1 + 0.625/2
    np.testing.assert_allclose(target, [[0, 2.3125, 2.625, 0, 2.5, 2]])
    by_segment, _ = gae(**lane, gae_lambda=0.5, gae_lambda_counts="segment")
    np.testing.assert_allclose(by_segment, [[0, 1.5, 0.5, 0, -2, -1]])  # -1 - 1; 1 - 2/4; 1 + 0.5
    # One advantage a segment: 2 - 4 = -2, and 1 + 4/2 - 1 - 2/4 = 1.5.
    whole, target = segment_gae(**lane, gae_lambda=0.5)
    np.testing.assert_allclose(whole, [[0, 1.5, 1.5, 0, -2, -2]])
    np.testing.assert_allclose(target, [[0, 2.5, 2.5, 0, 2, 2]])


def test_terminated_and_truncated_differ():
    value, reward = [1.0, 5.0, 7.0], [1.0, 0, 0]
    terminated, _ = gae(**trajectory("E.E", value=value, reward=reward), gae_lambda=1.0)
    truncated, _ = gae(**trajectory("StE", value=value, reward=reward), gae_lambda=1.0)
    unfinished, _ = gae(**trajectory("S.v", value=value, reward=reward), gae_lambda=1.0)
    unvalued, _ = gae(**trajectory("S..", value=value, reward=reward), gae_lambda=1.0)
    assert [float(a[0, 0]) for a in (terminated, truncated, unfinished, unvalued)] == [0, 5, 7, 0]


def test_nothing_crosses_from_the_next_episode_even_if_the_discount_of_the_end_is_1():
    lane = trajectory("E.E", value=[0.0, 0, 3], reward=[1.0, 0, 10], discount=[1.0, 1, 1])
    np.testing.assert_array_equal(gae(**lane, gae_lambda=1.0)[0], [[1, 0, 7]])
    np.testing.assert_array_equal(returns(**for_returns(lane, True)), [[1, 0, 10]])


def test_an_unwritten_end_that_is_not_a_truncation_has_no_bootstrap():
    lane = trajectory("St", value=[1.0, 5.0], reward=[2.0, 0], is_truncated=[False, False])
    np.testing.assert_array_equal(gae(**lane, gae_lambda=1.0)[0], [[1, 0]])


def test_return_to_go_is_not_reset_where_an_observation_is_read():
    lane = trajectory("S..S..wE", reward=[0.0, 0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(returns(**for_returns(lane, False)), [[1, 0, 0, 1, 0, 0, 1, 1]])


def test_rewards_of_all_turns_count():
    lane = trajectory("S.S.E", reward=[1.0, 0, 10, 0, 100])
    expected = [[111, 0, 110, 0, 100]]
    np.testing.assert_array_equal(returns(**for_returns(lane, False)), expected)
    np.testing.assert_array_equal(gae(**lane, gae_lambda=1.0)[0], expected)
    np.testing.assert_array_equal(segment_gae(**lane, gae_lambda=1.0)[0], expected)


def test_credit_does_not_fade_within_a_segment_where_the_trace_counts_segments():
    lane = trajectory("w" * 24 + "E", reward=[0.0] * 24 + [1.0])
    by_segment, by_token = (float(gae(**lane, gae_lambda=0.95, gae_lambda_counts=counts)[0][0, 0]) for counts in ("segment", "token"))
    assert by_segment == 1
    np.testing.assert_allclose(by_token, 0.95**24, rtol=1e-5)


def test_meaningless_numbers_do_not_spread():
    lane = trajectory(
        ".S.E.", reward=[np.nan, 1, np.nan, 1, np.nan], value=[np.nan, 0, np.nan, 0, np.nan], discount=[np.nan, 1, np.nan, 0, np.nan]
    )
    for estimate in (gae, segment_gae):
        np.testing.assert_array_equal(estimate(**lane, gae_lambda=1.0)[0], [[0, 2, 0, 1, 0]])


@pytest.mark.parametrize("rows", ["...", ".tE"])
def test_a_first_episode_without_decisions_has_no_return(rows):
    lane = trajectory(rows, reward=[1.0, 1, 1])
    assert episode_return(**{name: lane[name] for name in ("reward", "discount", "is_sampled", "ends_episode")}) == 0


def test_a_value_that_was_read_on_the_way_is_no_end_even_if_decisions_have_none():
    lane = trajectory("SvE", value=[0.0, 50, 0], reward=[1.0, 0, 10], has_value=[False, True, False])
    np.testing.assert_array_equal(gae(**lane, gae_lambda=1.0)[0], [[11, 0, 10]])


def test_reinforce_by_hand():
    target, is_sampled = jnp.array([[1.0, 50.0, 3.0]]), jnp.array([[True, False, True]])
    np.testing.assert_array_equal(objectives.reinforce(target, is_sampled), [[-1, 0, 1]])
    value = jnp.array([[0.5, 7.0, 1.0]])
    np.testing.assert_array_equal(objectives.reinforce(target, is_sampled, value=value), [[0.5, 0, 2]])


def test_standardize_by_hand_and_without_variance():
    advantage, mask = jnp.array([[2.0, 1e9, 6.0]]), jnp.array([[True, False, True]])
    np.testing.assert_allclose(objectives.standardize(advantage, mask), [[-1, 0, 1]])
    np.testing.assert_array_equal(objectives.standardize(jnp.full((3, 7), 0.1), jnp.ones((3, 7), bool)), np.zeros((3, 7)))


@pytest.mark.parametrize("function", [objectives.standardize, objectives.reinforce])
def test_statistics_go_over_mapped_axes(function):
    rng = np.random.default_rng(0)
    advantage, mask = jnp.array(rng.normal(size=(4, 2, 8)), jnp.float32), jnp.array(rng.random((4, 2, 8)) < 0.5)
    mapped = jax.vmap(functools.partial(function, axis_name="device"), axis_name="device")(advantage, mask)
    whole = function(advantage.reshape(8, 8), mask.reshape(8, 8))
    np.testing.assert_allclose(mapped.reshape(8, 8), whole, atol=1e-6)


def test_what_cannot_be_is_refused():
    lane = trajectory("E")
    with pytest.raises(ValueError, match="gae_lambda_counts"):
        objectives.gae(**lane, gae_lambda=1.0, gae_lambda_counts="turn")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="both value and has_value"):
        objectives.returns(**for_returns(lane, False), value=lane["value"])
