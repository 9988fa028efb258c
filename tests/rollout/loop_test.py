"""The loop against a second account of each episode, and what must not depend on how lanes were served."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import rollout, text
from arl.rollout import Decoding
from arl.training import scoring
from arl.types import Kind
from tests import agents_fixtures as plain
from tests import tiny

NAMES = tuple(tiny.COMPOSITIONS)
WIDE = ((1, 4),)
# Those with the parts of all others; programs without wide calls are compiled in half of the time.
IN_WIDE_CALLS = ("think", "reflection", "annealed", "free notes", "thoughts in attempts", "limits in attempts", "memory", "tools")


def roll(name, lane_keys, task_keys, widths=None, **options):
    """With wide calls where the composition is among `IN_WIDE_CALLS`, so that accounts and bounds hold however a lane is served."""
    widths = (WIDE if name in IN_WIDE_CALLS else ()) if widths is None else widths
    return tiny.roll(name, lane_keys, task_keys, widths=widths, **options)


def lane_of(trajectory, lane):
    return jax.tree.map(lambda x: x[lane], trajectory)


@pytest.mark.parametrize("name", NAMES)
def test_a_trajectory_tells_what_the_interaction_said(name):
    """Tokens, contexts, kinds, rewards and ends are those of the interaction alone; each reward stands in the trajectory once."""
    lane_keys, task_keys = tiny.keys(6)
    _, trajectory, _ = roll(name, lane_keys, task_keys)
    for lane in range(6):
        told, slots = tiny.retell(name, trajectory, lane, lane_keys[lane], task_keys[lane]), lane_of(trajectory, lane)
        is_read = slots.token_kind > 0
        assert slots.token[is_read].tolist() == told["token"]
        assert slots.context_start[is_read].tolist() == told["context_start"]
        assert slots.token_kind[is_read].tolist() == told["kind"]
        np.testing.assert_allclose(tiny.total(slots.reward)[slots.ends_segment], told["reward"], rtol=1e-6)
        assert tiny.total(slots.reward)[~slots.ends_segment].sum() == 0
        assert slots.is_legal[slots.ends_segment].tolist() == told["is_legal"]
        assert slots.attempt[slots.ends_segment].tolist() == told["attempt"]
        assert slots.ends_episode.sum() == 1 and bool(slots.is_truncated.any()) == (told["end"] == "truncated")


def roll_recipe(recipe, num_lanes=4, episodes=1, **options):
    """Rolls a recipe out; returns its interaction, the trajectory on the host, and the keys of lanes and tasks."""
    interaction, keys = plain.build(recipe), tiny.keys(num_lanes)
    lengths = {"trajectory_length": episodes * interaction.size.episode + 1, "restarts": episodes > 1}
    shape = tiny.config(interaction, **{"widths": WIDE, **lengths, **options})
    rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))
    lanes = rollout.start_lanes(interaction, plain.CURRICULUM, shape, *keys)
    model, params = tiny.model(), tiny.params()
    program = jax.jit(lambda lanes: rollout.roll_out(interaction, model, shape, params, plain.CURRICULUM, lanes)[1])
    return interaction, jax.tree.map(np.asarray, program(lanes)), keys


@pytest.mark.parametrize(("seed", "episodes"), [(2, 3), (10, 1), (17, 2)])
def test_trajectories_of_random_compositions_are_those_of_the_plain_account(seed, episodes):
    """Every token, its kind, its context, every reward and end, of each episode of each lane; the account knows no rollout."""
    recipe = plain.random_recipe(seed)
    interaction, trajectory, keys = roll_recipe(recipe, episodes=episodes)
    num_finished = 0
    for lane in range(4):
        slots, earned = lane_of(trajectory, lane), 0.0
        for episode in range(int(slots.ends_episode.sum())):
            told = plain.retell(recipe, trajectory, lane, keys[0][lane], keys[1][lane], episode)
            here = (slots.token_kind > 0) & (slots.episode == episode)
            ends = slots.ends_segment & here
            assert slots.token[here].tolist() == told["token"]
            assert slots.token_kind[here].tolist() == told["kind"]
            assert slots.context_start[here].tolist() == told["context_start"]
            assert tiny.total(slots.reward)[ends].tolist() == told["reward"]
            assert slots.discount[ends].tolist() == told["discount"]
            assert slots.is_legal[ends].tolist() == told["is_legal"] and slots.attempt[ends].tolist() == told["attempt"]
            assert bool(slots.is_truncated[here].any()) == (told["end"] == "truncated")
            earned += sum(told["reward"])
            num_finished += 1
        is_finished = slots.episode < slots.ends_episode.sum()
        assert tiny.total(slots.reward)[is_finished].sum() == earned, "each reward stands in the trajectory once"
    assert num_finished >= 4 * episodes


def test_the_ring_holds_every_live_context_of_a_long_trajectory(name="think"):
    """The cache is far shorter than the trajectory: what it has overwritten is never missed by the learner's account."""
    interaction = tiny.agent(name)
    _, trajectory, _ = roll(name, *tiny.keys(4), restarts=True, trajectory_length=3 * interaction.size.episode)
    shape = tiny.config(interaction, widths=WIDE)
    index, is_read = np.arange(trajectory.token.shape[1]), trajectory.token_kind > 0
    assert (
        np.where(is_read, index - trajectory.context_start + 1, 0).max()
        <= shape.context_length
        < shape.num_slots
        < trajectory.token.shape[1]
    )
    banded = tiny.model(shape.context_length)
    score = jax.jit(lambda s: scoring.score(banded, interaction.grammar, tiny.params(), s, 1.0))
    log_prob, _, heads = score(jax.tree.map(jnp.asarray, trajectory))
    assert np.abs(np.asarray(log_prob) - trajectory.log_prob)[trajectory.is_sampled].max() < 1e-4
    assert np.abs(np.asarray(heads["value"]) - trajectory.value)[trajectory.has_value].max() < 1e-3


def test_the_size_of_the_cache_changes_nothing():
    """A cache with room for far longer contexts than there are, large enough to be used in parts, gives the same trajectory."""
    options = {"restarts": True, "trajectory_length": 220, "widths": ()}
    _, wanted, _ = roll("think", *tiny.keys(4), **options)
    _, trajectory, _ = roll("think", *tiny.keys(4), context_length=200, **options)
    assert (wanted.token_kind > 0).all(), "the trajectory is full"
    assert trajectory.token.tolist() == wanted.token.tolist() and trajectory.context_start.tolist() == wanted.context_start.tolist()
    np.testing.assert_allclose(trajectory.log_prob, wanted.log_prob, atol=1e-5)
    np.testing.assert_allclose(trajectory.value, wanted.value, atol=1e-4)


def test_a_lane_stops_at_its_own_length_and_its_last_value_is_the_bootstrap():
    """Trajectories cut anywhere hold the beginning of the whole one; a lane that had time to finish is not touched."""
    _, whole, _ = roll("think", *tiny.keys(6))
    length = int(np.median((whole.token_kind > 0).sum(1)))
    _, trajectory, _ = roll("think", *tiny.keys(6), trajectory_length=length)
    for lane in range(6):
        num_read = (whole.token_kind[lane] > 0).sum()
        assert (trajectory.token_kind[lane] > 0).sum() == min(num_read, length)
        assert trajectory.token[lane].tolist() == whole.token[lane, :length].tolist()
        assert trajectory.sampled[lane, : length - 1].tolist() == whole.sampled[lane, : length - 1].tolist()
        is_unfinished = not trajectory.ends_episode[lane].any()
        assert is_unfinished == (num_read > length) or num_read == length
        if is_unfinished:
            assert trajectory.has_value[lane, -1] and trajectory.value[lane, -1] != 0 and not trajectory.is_sampled[lane, -1]
    assert 0 < trajectory.ends_episode.any(1).sum() < 6


def test_lanes_go_on_in_the_shortest_trajectories_that_are_allowed():
    """A trajectory one token longer than the longest live context is enough; one that could not go on is refused."""
    interaction = tiny.agent("act")
    shape = tiny.config(interaction, widths=WIDE, restarts=True, trajectory_length=interaction.size.context + 1)
    rollout.check_rollout(interaction, shape, len(tiny.TOKENIZER))
    with pytest.raises(ValueError, match=f"set RolloutConfig.trajectory_length > {interaction.size.context}"):
        rollout.check_rollout(interaction, dataclasses.replace(shape, trajectory_length=interaction.size.context), len(tiny.TOKENIZER))
    lanes = rollout.start_lanes(interaction, {}, shape, *tiny.keys(4))
    model, params = tiny.model(), tiny.params()
    go_on = jax.jit(lambda lanes: rollout.roll_out(interaction, model, shape, params, {}, lanes))
    ended = np.zeros(4)
    for _ in range(12):
        lanes, trajectory, _ = go_on(lanes)
        assert np.asarray(trajectory.is_sampled).any(1).all()
        ended += np.asarray(trajectory.ends_episode).sum(1)
    assert (ended >= 3).all()


def test_a_compiled_program_is_the_program():
    """Against the same functions run one by one."""
    interaction = tiny.guess()
    shape = tiny.config(interaction)
    lanes = rollout.start_lanes(interaction, {}, shape, *tiny.keys(2))
    model, params = tiny.model(), tiny.params()
    wanted = jax.jit(lambda lanes: rollout.roll_out(interaction, model, shape, params, {}, lanes)[1])(lanes)
    with jax.disable_jit():
        found = rollout.roll_out(interaction, model, shape, params, {}, lanes)[1]
    for field, value in found._asdict().items():
        for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(getattr(wanted, field)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("name", NAMES)
def test_episodes_keep_within_their_bounds(name):
    size = tiny.agent(name).size
    _, trajectory, _ = roll(name, *tiny.keys(6))
    assert (trajectory.token_kind > 0).sum(1).max() <= size.episode
    index = np.arange(trajectory.token.shape[1])
    assert np.where(trajectory.token_kind > 0, index - trajectory.context_start + 1, 0).max() <= size.context
    assert trajectory.ends_segment.sum(1).max() <= size.turns


def test_a_truncated_episode_ends_where_its_last_observation_was_read():
    _, trajectory, _ = roll("limit", *tiny.keys(6))
    closing = trajectory.is_truncated & trajectory.ends_episode
    assert closing.sum(1).tolist() == [1] * 6
    assert not (closing & trajectory.is_sampled).any() and (closing & trajectory.has_value).sum() == 6
    assert (np.abs(trajectory.value[closing]) > 0).all(), "its value is recorded"


@pytest.mark.parametrize("name", ["annealed", "thoughts in attempts"])
@pytest.mark.parametrize("options", [{"widths": ()}, {"widths": ((1, 3), (2, 2), (4, 5))}], ids=str)
def test_scheduling_changes_nothing(name, options):
    lane_keys, task_keys = tiny.keys(6)
    _, wanted, _ = roll(name, lane_keys, task_keys)
    _, trajectory, _ = roll(name, lane_keys, task_keys, **options)
    for field, value in trajectory._asdict().items():
        for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(getattr(wanted, field)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("name", ["think", "reflection"])
def test_a_lane_does_not_depend_on_the_others(name):
    """Neither on which they are, nor on its place among them; a batch is a loop over lanes."""
    lane_keys, task_keys = tiny.keys(6)
    _, wanted, _ = roll(name, lane_keys, task_keys)
    order = jnp.array([3, 0, 5, 1, 4, 2])
    _, moved, _ = roll(name, lane_keys[order], task_keys[order])
    for place, lane in enumerate(order.tolist()):
        assert lane_of(moved, place).token.tolist() == lane_of(wanted, lane).token.tolist()
        np.testing.assert_allclose(moved.log_prob[place], wanted.log_prob[lane], atol=1e-5)
    for lane in range(6):
        _, alone, _ = roll(name, lane_keys[lane : lane + 1], task_keys[lane : lane + 1])
        assert alone.token[0].tolist() == wanted.token[lane].tolist()
        np.testing.assert_allclose(alone.log_prob[0], wanted.log_prob[lane], atol=1e-5)


DECODINGS = [
    Decoding(),
    Decoding(top_k=2, temperature=0.7),
    Decoding(top_p=0.6),
    Decoding(min_p=0.2, temperature=1.5),
    Decoding(temperature=0.0),
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_the_learner_recomputes_the_samplers_log_probs(decoding):
    _, trajectory, _ = roll("annealed", *tiny.keys(6), widths=(), decoding=decoding)
    grammar = tiny.agent("annealed").grammar
    score = jax.jit(lambda s: scoring.score(tiny.model(), grammar, tiny.params(), s, decoding.temperature))
    log_prob, entropy, heads = score(jax.tree.map(jnp.asarray, trajectory))
    np.testing.assert_allclose(
        np.where(trajectory.is_sampled, log_prob, 0), np.where(trajectory.is_sampled, trajectory.log_prob, 0), atol=1e-4
    )
    np.testing.assert_allclose(
        np.where(trajectory.has_value, heads["value"], 0), np.where(trajectory.has_value, trajectory.value, 0), atol=1e-4
    )
    chosen = np.take_along_axis(tiny.kept(grammar, trajectory), tiny.sampled(grammar, trajectory), -1)[..., 0]
    assert chosen[trajectory.is_sampled].all(), "what was sampled stands in its support"
    assert (np.asarray(entropy)[trajectory.is_sampled] >= -1e-6).all()


def test_after_forgetting_logits_are_those_of_a_fresh_context():
    _, trajectory, _ = roll("reflection", *tiny.keys(6))
    score = jax.jit(functools.partial(tiny.model().forward, tiny.params()))
    features = score(trajectory.token, trajectory.context_start)
    for lane in range(6):
        (context_start,) = {int(b) for b in trajectory.context_start[lane][trajectory.token_kind[lane] > 0] if b} and [
            max(int(b) for b in trajectory.context_start[lane][trajectory.token_kind[lane] > 0])
        ]
        end = int((trajectory.token_kind[lane] > 0).sum())
        fresh = np.zeros_like(trajectory.token[:1])  # what follows a token changes nothing for it: one length for all lanes
        fresh[0, : end - context_start] = trajectory.token[lane, context_start:end]
        alone = score(fresh, np.zeros_like(fresh))
        np.testing.assert_allclose(features[lane, context_start:end], alone[0, : end - context_start], atol=1e-5)


@functools.cache
def short_trajectories():
    """Three of an agent that thinks, one after the other; its lanes restart."""
    interaction = tiny.agent("think")
    shape = tiny.config(interaction, widths=WIDE, restarts=True, trajectory_length=interaction.size.context + 12)
    lanes, trajectories = rollout.start_lanes(interaction, tiny.CURRICULUM, shape, *tiny.keys(4)), []
    go_on = jax.jit(lambda lanes: rollout.roll_out(interaction, tiny.model(), shape, tiny.params(), tiny.CURRICULUM, lanes))
    for _ in range(3):
        lanes, trajectory, _ = go_on(lanes)
        trajectories.append(jax.tree.map(np.asarray, trajectory))
    return trajectories


def test_episodes_restart_in_their_lane_and_cross_trajectories():
    """Short trajectories, one after the other, hold the same episodes as one long trajectory."""
    name, interaction = "think", tiny.agent("think")
    _, wanted, _ = roll(name, *tiny.keys(4), restarts=True, trajectory_length=3 * interaction.size.episode)
    assert wanted.ends_episode.sum(1).min() >= 2
    sampled, rewards = [[] for _ in range(4)], np.zeros(4)
    for trajectory in short_trajectories():
        assert not trajectory.is_sampled[:, -1].any(), "the last slot is the bootstrap of an unfinished episode"
        assert trajectory.has_value[:, -1].all()
        for lane in range(4):
            sampled[lane] += trajectory.sampled[lane][trajectory.is_sampled[lane]].tolist()
        rewards += tiny.total(trajectory.reward).sum(1)
    for lane in range(4):
        whole = wanted.sampled[lane][wanted.is_sampled[lane]].tolist()
        shared = min(len(whole), len(sampled[lane]))
        assert shared > 10 and sampled[lane][:shared] == whole[:shared]


def test_what_is_read_again_has_no_loss():
    trajectory = short_trajectories()[1]
    carried = (trajectory.token_kind == Kind.PROMPT) & (trajectory.episode == 0)
    assert carried.any() and (trajectory.is_sampled & carried).sum() <= 4, "only its last slot is a decision"


def test_without_a_grammar_illegal_texts_are_events():
    interaction = tiny.agent("act")
    free = interaction._replace(grammar=text.free(interaction.grammar, len(tiny.TOKENIZER)))
    shape = tiny.config(free, decoding=Decoding(constrained=False))
    rollout.check_rollout(free, shape, len(tiny.TOKENIZER))
    lanes = rollout.start_lanes(free, {}, shape, *tiny.keys(8))
    _, trajectory, _ = jax.jit(lambda p: rollout.roll_out(free, tiny.model(), shape, p, {}, lanes))(tiny.params())
    illegal = np.asarray(trajectory.ends_segment & ~trajectory.is_legal)
    assert illegal.any()
    np.testing.assert_allclose(np.asarray(trajectory.reward.process)[illegal], -0.1, rtol=1e-6)
    assert np.asarray(trajectory.reward.outcome)[illegal].sum() == 0
    assert np.asarray(trajectory.ends_episode).sum(1).tolist() == [1] * 8, "the episode goes on, and ends"
    assert np.asarray(trajectory.is_truncated).any(), "turns are used up"


def test_the_program_never_asks_the_host():
    assert not tiny.talks_to_the_host(tiny.program("annealed", *tiny.keys(6), widths=WIDE))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"context_length": 10}, "set RolloutConfig.context_length >="),
        ({"trajectory_length": 5}, "set RolloutConfig.trajectory_length >="),
        ({"decoding": Decoding(constrained=False)}, "text.free"),
    ],
)
def test_what_cannot_be_is_refused(change, words):
    interaction = tiny.agent("history")
    with pytest.raises(ValueError, match=words):
        rollout.check_rollout(interaction, dataclasses.replace(tiny.config(interaction), **change), len(tiny.TOKENIZER))
