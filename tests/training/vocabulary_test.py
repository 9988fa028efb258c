"""Large vocabularies: free thoughts and legal actions mixed, through rollout and update, without an array of slots x vocabulary."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, envs, models, rollout, text, training
from arl.rollout import Decoding
from arl.rollout.config import resolve_lengths
from arl.training import scoring
from arl.types import Kind
from tests import tiny
from tests.second_tokenizer import second_tokenizer

NUM_LANES = 8
SAMPLING = Decoding()
SIZE = len(second_tokenizer()) + 47


@functools.cache
def interaction():
    """Guesses a number of four after a thought of up to three tokens of GPT-2's 50,257."""
    task = envs.NumberGuess(4).make(second_tokenizer())
    return agents.make_agent(task, (agents.Act(time_limit=2), agents.Think(3, "any")))


@functools.cache
def model():
    """It has a few more ids than the tokenizer, as published models do."""
    sizes = dict(width=16, num_layers=1, num_heads=2, num_kv_heads=1, feed_forward_width=16)
    return models.make_policy(models.ModelConfig(vocab_size=SIZE, **sizes))


def make_learner(**options):
    config = training.LearnerConfig(num_lanes=NUM_LANES, num_minibatches=1, microbatch_size=4, num_blocks=1, num_epochs=1)
    return training.make_learner(interaction(), model(), rollout.RolloutConfig(**options), config)


@functools.cache
def rolled_out(decoding: Decoding = SAMPLING):
    shape = rollout.RolloutConfig(decoding=decoding)
    lanes = rollout.start_lanes(interaction(), {}, shape, *tiny.keys(NUM_LANES))
    params = model().init(jax.random.key(1))
    program = jax.jit(lambda params: rollout.roll_out(interaction(), model(), shape, params, {}, lanes)[1])
    return params, jax.tree.map(np.asarray, program(params))


DECODINGS = [SAMPLING, Decoding(top_k=5), Decoding(top_k=20, top_p=0.7), Decoding(top_k=9, min_p=0.5), Decoding(temperature=0.0)]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_sampler_and_learner_agree(decoding):
    params, trajectory = rolled_out(decoding)
    grammar, is_sampled = interaction().grammar, trajectory.is_sampled
    score = jax.jit(lambda t: scoring.score(model(), grammar, params, t, decoding.temperature))
    log_prob, entropy = (np.asarray(x) for x in score(jax.tree.map(jnp.asarray, trajectory))[:2])
    np.testing.assert_allclose(log_prob[is_sampled], trajectory.log_prob[is_sampled], atol=1e-4)
    is_thought = is_sampled & (trajectory.kind == Kind.THINK)
    assert is_thought.sum() > NUM_LANES and (trajectory.sampled[is_sampled] < len(second_tokenizer())).all()
    most = np.log(decoding.top_k or (1 if decoding.temperature == 0 else len(second_tokenizer())))
    assert entropy[is_thought].max() <= most + 1e-5 and entropy[is_sampled & ~is_thought].max() <= np.log(4) + 1e-5
    if decoding == SAMPLING:
        assert len(np.unique(trajectory.sampled[is_thought])) > 10 and entropy[is_thought].min() > 10, "free thoughts are free"


@pytest.fixture
def small_chunks(monkeypatch):
    """Three slots of each of four lanes at a time."""
    monkeypatch.setattr(scoring, "CHUNK_LOGITS", 3 * 4 * SIZE)


def test_scores_are_those_of_the_whole_at_once(small_chunks):
    """Chunks of few slots against a softmax over the vocabulary, values and gradients."""
    params, trajectory = rolled_out()
    trajectory, grammar = jax.tree.map(jnp.asarray, trajectory), interaction().grammar
    twin, kept = model(), jnp.asarray(tiny.kept(grammar, trajectory))

    def at_once(params):
        features = twin.forward(params, trajectory.token, trajectory.context_start)
        logits = jnp.where(kept, twin.logits(params, features, grammar.candidates), -jnp.inf)
        log_probs = jax.nn.log_softmax(jnp.where(trajectory.is_sampled[..., None], logits, 0.0))
        entropy = -jnp.sum(jnp.where(kept, jnp.exp(log_probs) * jnp.where(kept, log_probs, 0.0), 0.0), -1)
        log_prob = jnp.take_along_axis(log_probs, trajectory.sampled[..., None], -1)[..., 0]
        return jnp.sum(jnp.where(trajectory.is_sampled, log_prob + 0.3 * entropy, 0.0))

    def in_chunks(params):
        log_prob, entropy, _ = scoring.score(twin, grammar, params, trajectory, 1.0)
        return jnp.sum(jnp.where(trajectory.is_sampled, log_prob + 0.3 * entropy, 0.0))

    wanted, wanted_gradient = jax.jit(jax.value_and_grad(at_once))(params)
    found, gradient = jax.jit(jax.value_and_grad(in_chunks))(params)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted_gradient), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-4 * (1e-3 + float(jnp.abs(b).max())))


def test_an_update_learns_and_holds_no_array_of_slots_and_vocabulary(small_chunks):
    learner = make_learner()
    compiled = jax.jit(learner.update).lower(jax.eval_shape(learner.init, jax.random.key(0))).compile()
    state, metrics = compiled(jax.jit(learner.init)(jax.random.key(0)))
    assert metrics["max_log_prob_gap"] < 1e-4 and np.isfinite(metrics["loss"]) and metrics["entropy"] > 1
    shapes = {tuple(map(int, found.split(","))) for found in re.findall(r"[fsu]\d+\[([\d,]+)\]", compiled.as_text())}
    largest = max(np.prod(shape) for shape in shapes)
    num_slots = 4 * resolve_lengths(rollout.RolloutConfig(), interaction()).trajectory_length
    assert largest < num_slots * len(second_tokenizer()), "of one microbatch"


def test_a_slot_has_68_bytes_and_a_grammar_grows_with_states_or_vocabulary_but_not_their_product():
    _, trajectory = rolled_out()
    assert sum(x.nbytes for x in jax.tree.leaves(trajectory)) / trajectory.token.size <= 68
    numbers = text.legal_strings(second_tokenizer(), [f" {i}" for i in range(2000)])
    grammar = text.join(numbers, text.any_text(second_tokenizer()))
    num_states, num_edges = grammar.token.shape
    per_state = 4 * (2 * num_edges + grammar.forced.shape[1] + 8)
    assert sum(np.asarray(table).nbytes for table in grammar) < num_states * per_state + len(second_tokenizer()) / 8 + 4 * 2000 + 200


def test_what_a_slot_cannot_remember_is_refused():
    with pytest.raises(ValueError, match=r"set Decoding\.top_k between 1 and 1024"):
        make_learner(decoding=Decoding(top_p=0.9))
