"""What users of other systems report, one test each, named after the report. Each fails if the defect were here."""

import jax
import jax.numpy as jnp
import numpy as np

from arl import agents, envs, objectives, rollout, text, training
from arl.rollout import Decoding
from arl.training import credit, loss
from arl.types import Kind
from tests import tiny

NAME = "thoughts in attempts"  # several turns, thoughts, notes and forgetting


def stream_of(name=NAME, num_lanes=6, **options):
    keys = tiny.keys(num_lanes)
    return tiny.roll(name, *keys, **options)[1]


def test_rllm_272_trl_5242_no_retokenisation_drift():
    """What was sampled is what is read next, id by id, and what is scored; no string lies between."""
    stream, alphabet = stream_of(), tiny.agent(NAME).grammar.alphabet
    lane, slot = np.nonzero(stream.is_written & ~stream.ends_segment)
    assert len(slot) and (stream.token[lane, slot + 1] == alphabet[stream.written[lane, slot]]).all()


def test_trl_5144_masks_and_log_probs_fit_the_tokens():
    stream = stream_of()
    assert (stream.log_prob[~stream.is_written] == 0).all() and (stream.kind[~stream.is_written] == Kind.PAD).all()
    assert (stream.kind[stream.is_written] >= Kind.THINK).all()
    assert (stream.token_kind[stream.is_written] > 0).all(), "a decision stands at a slot that was read"


def test_verl_2953_6780_sampler_and_trainer_agree():
    stream, grammar = stream_of(), tiny.agent(NAME).grammar
    log_prob, _, _ = loss.score(tiny.model(), grammar, tiny.params(), jax.tree.map(jnp.asarray, stream), 1.0)
    assert np.abs(np.asarray(log_prob) - stream.log_prob)[stream.is_written].max() < 1e-4


def test_verl_6280_log_probs_do_not_depend_on_the_microbatch():
    stream, grammar = jax.tree.map(jnp.asarray, stream_of()), tiny.agent(NAME).grammar
    whole = loss.score(tiny.model(), grammar, tiny.params(), stream, 1.0)[0]
    for lane in range(6):
        alone = loss.score(tiny.model(), grammar, tiny.params(), jax.tree.map(lambda x, lane=lane: x[lane : lane + 1], stream), 1.0)[0]
        np.testing.assert_allclose(alone[0], whole[lane], atol=1e-5)


def test_vllm_42259_log_probs_are_those_of_the_renormalised_nucleus():
    stream, grammar = stream_of(decoding=Decoding(top_p=0.5)), tiny.agent(NAME).grammar
    features = tiny.model().score(tiny.params(), jnp.asarray(stream.token), jnp.asarray(stream.begin))
    logits = np.asarray(tiny.model().logits(tiny.params(), features, grammar.alphabet), np.float64)
    kept = np.asarray(text.unpack(jnp.asarray(stream.support), len(grammar.alphabet)))
    weights = np.where(kept, np.exp(logits - logits.max(-1, keepdims=True)), 0.0)
    wanted = np.log(np.take_along_axis(weights / weights.sum(-1, keepdims=True), stream.written[..., None], -1)[..., 0])
    np.testing.assert_allclose(stream.log_prob[stream.is_written], wanted[stream.is_written], atol=1e-4)
    assert (kept.sum(-1)[stream.is_written] < np.asarray(kept.shape[-1])).all()


def test_verl_6392_what_the_environment_says_has_no_loss():
    """The tokens that were read, and those that the grammar forced, move no decision: the gradient does not see their log-probs."""
    stream = jax.tree.map(jnp.asarray, stream_of("act"))
    decides = credit.is_decision(stream)
    given = credit.monte_carlo(stream, credit.total_reward(stream.reward), training.LearnerConfig())
    assert not np.asarray(given.is_kept & ~stream.is_written).any()
    assert np.asarray(given.advantage)[~np.asarray(stream.is_written)].sum() == 0
    own = np.asarray(stream.token_kind == Kind.ACTION).sum()
    assert own > np.asarray(decides).sum() > 0, "forced tokens belong to what was written, without a loss"


def test_verl_6376_return_to_go_passes_over_observations():
    stream = stream_of("act")
    reward = tiny.total(stream.reward)
    found = np.asarray(credit.monte_carlo(jax.tree.map(jnp.asarray, stream), jnp.asarray(reward), training.LearnerConfig()).advantage)
    for lane in range(6):
        first = int(np.argmax(stream.is_written[lane]))
        np.testing.assert_allclose(found[lane, first], reward[lane].sum(), rtol=1e-5)


def test_skyrl_201_the_reward_of_every_turn_counts():
    stream = stream_of("act")
    reward = tiny.total(stream.reward)
    assert (np.count_nonzero(reward, axis=1) >= 2).all()
    life_return = objectives.life_return(
        jnp.asarray(reward),
        jnp.asarray(stream.discount),
        is_written=jnp.asarray(stream.is_written),
        ends_life=jnp.asarray(stream.ends_life),
    )
    np.testing.assert_allclose(life_return, reward.sum(1), rtol=1e-5)


def test_agent_lightning_489_groups_do_not_mix_tasks():
    config = training.LearnerConfig(
        num_lanes=16, group_size=4, blocks=1, minibatches=1, microbatch=16, num_updates=1, epochs=1, credit="rloo"
    )
    interaction, tasks = tiny.agent("reflection"), []

    def watch(stream, reward, config):
        tasks.append(reward)
        return credit.rloo(stream, reward, config)

    learner = training.make_learner(
        interaction, tiny.model(), tiny.config(interaction), config, vocab_size=len(tiny.TOKENIZER), estimate=watch
    )
    learner.update(learner.init(jax.random.key(0)))
    assert tasks[0].shape[0] == 16
    keys, task_keys = tiny.keys(16)
    lanes = rollout.start_lanes(interaction, {}, tiny.config(interaction), keys, task_keys[jnp.arange(16) // 4])
    number = np.asarray(lanes.state.inner[0].number).reshape(4, 4)
    assert (number == number[:, :1]).all() and len(set(number[:, 0])) > 1
    reward = jnp.asarray(np.random.default_rng(0).normal(size=16))
    alone = objectives.rloo(reward[:4], 4).advantage
    np.testing.assert_allclose(objectives.rloo(reward, 4).advantage[:4], alone, rtol=1e-6)


def test_rllm_575_later_turns_are_not_cut_silently():
    """A stream that is too short leaves lives unfinished, and says so; a context that is too short is refused."""
    name, interaction = "act", tiny.agent("act")
    stream = stream_of(name, stream_length=interaction.size.read + interaction.size.written + 2)
    usage = rollout.Usage(jnp.float32(1.0), jnp.int32(1))
    metrics = training.metrics.stream_metrics(jax.tree.map(jnp.asarray, stream), usage)
    assert float(metrics["unfinished_share"]) == 1.0
    assert float(training.metrics.stream_metrics(jax.tree.map(jnp.asarray, stream_of(name)), usage)["unfinished_share"]) == 0.0


def test_tinker_cookbook_506_truncation_is_not_failure():
    """The value of the last observation stands for what would have followed a truncated life."""
    stream = jax.tree.map(jnp.asarray, stream_of("limit"))
    reward = credit.total_reward(stream.reward)
    found = np.asarray(credit.monte_carlo(stream, reward, training.LearnerConfig()).advantage)
    closing = np.asarray(jnp.sum(jnp.where(stream.is_truncated, stream.value, 0.0), 1))
    for lane in range(6):
        first = int(np.argmax(np.asarray(stream.is_written[lane])))
        np.testing.assert_allclose(found[lane, first], float(reward[lane].sum()) + closing[lane], rtol=1e-4)


def test_gymnax_109_terminated_is_not_truncated():
    ended, cut = stream_of("act"), stream_of("limit")
    assert ended.ends_life.any(1).all() and not ended.is_truncated.any()
    assert cut.is_truncated.any(1).all() and (cut.is_truncated <= cut.ends_life).all()
    last = np.argmax(ended.ends_life, axis=1)
    assert (ended.discount[np.arange(6), last] == 0).all() and ended.is_written[np.arange(6), last].all()


def test_verl_2445_no_lane_waits_for_a_straggler():
    """Lanes of different lengths all finish, each with its own number of tokens."""
    stream = stream_of("think", num_lanes=8)
    assert stream.ends_life.any(1).all() and len(set((stream.token_kind > 0).sum(1).tolist())) > 1


def test_ragen_52_what_the_grammar_does_not_know_cannot_be_written():
    """Whatever the weights, a run cannot collapse to a token outside the grammar: every segment is legal, or is counted as illegal."""
    loud = {**tiny.params(), "head": tiny.params()["head"] * 1e4}
    interaction = agents.act(envs.make_number_guess(tiny.TOKENIZER, 4, one_guess=True))
    shape = tiny.config(interaction)
    lanes = rollout.start_lanes(interaction, {}, shape, *tiny.keys(8))
    _, stream, _ = rollout.roll_out(interaction, tiny.model(), shape, loud, {}, lanes)
    assert np.asarray(stream.is_legal)[np.asarray(stream.ends_segment)].all() and np.asarray(stream.ends_segment).any()
