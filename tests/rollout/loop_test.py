"""The loop against a second account of each life, and what must not depend on how lanes were served."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import rollout, text
from arl.rollout import Decoding
from arl.training import loss
from arl.types import Kind
from tests import tiny

NAMES = tuple(tiny.COMPOSITIONS)


def lane_of(stream, lane):
    return jax.tree.map(lambda x: x[lane], stream)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_tells_what_the_interaction_said(name):
    """Tokens, contexts, kinds, rewards and ends are those of the interaction alone; each reward stands in the stream once."""
    lane_keys, task_keys = tiny.keys(6)
    _, stream, _ = tiny.roll(name, lane_keys, task_keys)
    for lane in range(6):
        told, slots = tiny.retell(name, stream, lane, lane_keys[lane], task_keys[lane]), lane_of(stream, lane)
        is_read = slots.token_kind > 0
        assert slots.token[is_read].tolist() == told["token"]
        assert slots.begin[is_read].tolist() == told["begin"]
        assert slots.token_kind[is_read].tolist() == told["kind"]
        np.testing.assert_allclose(tiny.total(slots.reward)[slots.ends_segment], told["reward"], rtol=1e-6)
        assert tiny.total(slots.reward)[~slots.ends_segment].sum() == 0
        assert slots.is_legal[slots.ends_segment].tolist() == told["is_legal"]
        assert slots.attempt[slots.ends_segment].tolist() == told["attempt"]
        assert slots.ends_life.sum() == 1 and bool(slots.is_truncated.any()) == (told["end"] == "truncated")


@pytest.mark.parametrize("name", NAMES)
def test_lives_keep_within_their_bounds(name):
    size = tiny.agent(name).size
    _, stream, _ = tiny.roll(name, *tiny.keys(6))
    assert (stream.token_kind > 0).sum(1).max() <= size.life
    index = np.arange(stream.token.shape[1])
    assert np.where(stream.token_kind > 0, index - stream.begin + 1, 0).max() <= size.context
    assert stream.ends_segment.sum(1).max() <= size.turns


def test_a_truncated_life_ends_where_its_last_observation_was_read():
    _, stream, _ = tiny.roll("limit", *tiny.keys(6))
    closing = stream.is_truncated & stream.ends_life
    assert closing.sum(1).tolist() == [1] * 6
    assert not (closing & stream.is_written).any() and (closing & stream.has_value).sum() == 6
    assert (np.abs(stream.value[closing]) > 0).all(), "its value is recorded"


@pytest.mark.parametrize("name", ["annealed", "thoughts in attempts"])
@pytest.mark.parametrize("options", [{"widths": ()}, {"widths": ((1, 3), (2, 2), (4, 5))}], ids=str)
def test_scheduling_changes_nothing(name, options):
    lane_keys, task_keys = tiny.keys(8)
    _, wanted, _ = tiny.roll(name, lane_keys, task_keys)
    _, stream, _ = tiny.roll(name, lane_keys, task_keys, **options)
    for field, value in stream._asdict().items():
        for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(getattr(wanted, field)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("name", ["think", "reflection"])
def test_a_lane_does_not_depend_on_the_others(name):
    """Neither on which they are, nor on its place among them; a batch is a loop over lanes."""
    lane_keys, task_keys = tiny.keys(6)
    _, wanted, _ = tiny.roll(name, lane_keys, task_keys)
    order = jnp.array([3, 0, 5, 1, 4, 2])
    _, moved, _ = tiny.roll(name, lane_keys[order], task_keys[order])
    for place, lane in enumerate(order.tolist()):
        assert lane_of(moved, place).token.tolist() == lane_of(wanted, lane).token.tolist()
        np.testing.assert_allclose(moved.log_prob[place], wanted.log_prob[lane], atol=1e-5)
    for lane in range(6):
        _, alone, _ = tiny.roll(name, lane_keys[lane : lane + 1], task_keys[lane : lane + 1])
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
    _, stream, _ = tiny.roll("annealed", *tiny.keys(8), decoding=decoding)
    grammar = tiny.agent("annealed").grammar
    score = jax.jit(lambda s: loss.score(tiny.model(), grammar, tiny.params(), s, decoding.temperature))
    log_prob, entropy, value = score(jax.tree.map(jnp.asarray, stream))
    np.testing.assert_allclose(np.where(stream.is_written, log_prob, 0), np.where(stream.is_written, stream.log_prob, 0), atol=1e-4)
    np.testing.assert_allclose(np.where(stream.has_value, value, 0), np.where(stream.has_value, stream.value, 0), atol=1e-4)
    is_kept = text.unpack(jnp.asarray(stream.support), len(grammar.alphabet))
    chosen = np.take_along_axis(np.asarray(is_kept), stream.written[..., None], -1)[..., 0]
    assert chosen[stream.is_written].all(), "what was sampled stands in its support"
    assert (np.asarray(entropy)[stream.is_written] >= -1e-6).all()


def test_after_forgetting_logits_are_those_of_a_fresh_context():
    _, stream, _ = tiny.roll("reflection", *tiny.keys(4))
    features = tiny.model().score(tiny.params(), jnp.asarray(stream.token), jnp.asarray(stream.begin))
    for lane in range(4):
        (begin,) = {int(b) for b in stream.begin[lane][stream.token_kind[lane] > 0] if b} and [
            max(int(b) for b in stream.begin[lane][stream.token_kind[lane] > 0])
        ]
        end = int((stream.token_kind[lane] > 0).sum())
        fresh = jnp.asarray(stream.token[lane, begin:end])[None]
        alone = tiny.model().score(tiny.params(), fresh, jnp.zeros_like(fresh))
        np.testing.assert_allclose(features[lane, begin:end], alone[0], atol=1e-5)


def test_lives_restart_in_their_lane_and_cross_streams():
    """Short streams, one after the other, hold the same lives as one long stream."""
    name, interaction = "think", tiny.agent("think")
    lane_keys, task_keys = tiny.keys(4)
    long = 3 * interaction.size.life
    _, wanted, _ = tiny.roll(name, lane_keys, task_keys, restarts=True, stream_length=long)
    assert wanted.ends_life.sum(1).min() >= 2
    shape = tiny.config(interaction, restarts=True, stream_length=interaction.size.context + 12)
    lanes = rollout.start_lanes(interaction, tiny.SETTING, shape, lane_keys, task_keys)
    roll = jax.jit(lambda lanes: rollout.roll_out(interaction, tiny.model(), shape, tiny.params(), tiny.SETTING, lanes))
    sampled, rewards = [[] for _ in range(4)], np.zeros(4)
    for _ in range(3):
        lanes, stream, _ = roll(lanes)
        stream = jax.tree.map(np.asarray, stream)
        assert not stream.is_written[:, -1].any(), "the last slot is the bootstrap of an unfinished life"
        assert stream.has_value[:, -1].all()
        for lane in range(4):
            sampled[lane] += stream.written[lane][stream.is_written[lane]].tolist()
        rewards += tiny.total(stream.reward).sum(1)
    for lane in range(4):
        whole = wanted.written[lane][wanted.is_written[lane]].tolist()
        shared = min(len(whole), len(sampled[lane]))
        assert shared > 10 and sampled[lane][:shared] == whole[:shared]


def test_what_is_read_again_has_no_loss():
    interaction = tiny.agent("think")
    shape = tiny.config(interaction, restarts=True, stream_length=interaction.size.context + 12)
    lanes = rollout.start_lanes(interaction, tiny.SETTING, shape, *tiny.keys(4))
    for _ in range(2):
        lanes, stream, _ = rollout.roll_out(interaction, tiny.model(), shape, tiny.params(), tiny.SETTING, lanes)
    carried = np.asarray((stream.token_kind == Kind.PROMPT) & (stream.life == 0))
    assert carried.any() and np.asarray(stream.is_written & carried).sum() <= 4, "only its last slot is a decision"


def test_without_a_grammar_illegal_texts_are_events():
    interaction = tiny.agent("act")
    free = interaction._replace(grammar=text.free(interaction.grammar, len(tiny.TOKENIZER)))
    shape = tiny.config(free, decoding=Decoding(constrained=False))
    rollout.check_rollout(free, shape, len(tiny.TOKENIZER))
    lanes = rollout.start_lanes(free, {}, shape, *tiny.keys(8))
    _, stream, _ = jax.jit(lambda p: rollout.roll_out(free, tiny.model(), shape, p, {}, lanes))(tiny.params())
    illegal = np.asarray(stream.ends_segment & ~stream.is_legal)
    assert illegal.any()
    np.testing.assert_allclose(np.asarray(stream.reward.process)[illegal], -0.1, rtol=1e-6)
    assert np.asarray(stream.reward.outcome)[illegal].sum() == 0
    assert np.asarray(stream.ends_life).sum(1).tolist() == [1] * 8, "the life goes on, and ends"
    assert np.asarray(stream.is_truncated).any(), "turns are used up"


def test_the_program_never_asks_the_host():
    interaction = tiny.agent("annealed")
    shape = tiny.config(interaction)
    lanes = rollout.start_lanes(interaction, tiny.SETTING, shape, *tiny.keys(4))
    compiled = jax.jit(lambda p: rollout.roll_out(interaction, tiny.model(), shape, p, tiny.SETTING, lanes)).lower(tiny.params()).compile()
    assert not tiny.talks_to_the_host(compiled.as_text())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"context_length": 10}, "set rollout.context_length >="),
        ({"stream_length": 5}, "set rollout.stream_length >="),
        ({"decoding": Decoding(constrained=False)}, "text.free"),
    ],
)
def test_what_cannot_be_is_refused(change, words):
    interaction = tiny.agent("history")
    with pytest.raises(ValueError, match=words):
        rollout.check_rollout(interaction, dataclasses.replace(tiny.config(interaction), **change), len(tiny.TOKENIZER))
