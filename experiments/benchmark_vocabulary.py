"""Figures of large vocabularies and deep models: the memory of a slot, of a grammar and of scoring, the seconds to trace an update of 30
layers, and the speed of a small vocabulary beside them.
"""

import functools
import json
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from arl import agents, envs, models, rollout, text, training
from arl.training import scoring
from arl.types import Interaction, Trajectory
from experiments import measure

LARGE = 152_000


def vocabulary(quick: bool) -> Iterator[tuple[str, float]]:
    """Yields bytes of a slot, of a grammar and of scoring with 152,000 tokens, trace times, and the tokens per second with 512 tokens.

    The agent writes a free thought before each action. Scoring is that of a trajectory of 2,048 tokens, with its gradient.
    """
    small, large = text.load_tokenizer(), with_more_tokens(text.load_tokenizer(), LARGE)
    interaction = thinker(large)
    trajectory = _trajectory(interaction, 2048)
    leaves = jax.tree.leaves(trajectory)
    yield "bytes_per_slot_152k", sum(x.size * x.dtype.itemsize for x in leaves) / trajectory.token.size
    yield "grammar_constant_bytes_152k", float(sum(np.asarray(table).nbytes for table in interaction.grammar))
    yield "score_peak_bytes_152k", _score_peak(interaction, trajectory)
    yield "trace_seconds_30_layers", _trace_seconds(2 if quick else 30)
    for name, agent, size in (("512", thinker(small), len(small)), ("512_without_thoughts", actor(small), len(small))):
        yield f"tokens_per_second_{name}", _tokens_per_second(agent, size, quick)


def with_more_tokens(tokenizer: Any, num_tokens: int) -> Any:
    """Returns a tokenizer with other entries after its own, `num_tokens` in all."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    entries = description["model"]["vocab"]
    entries |= {f"entry{index}": index for index in range(len(tokenizer), num_tokens)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(description)), eos_token=tokenizer.eos_token)


def thinker(tokenizer: Any) -> Interaction:
    """Returns an agent that guesses a number after a free thought."""
    return agents.make_agent(envs.NumberGuess(8).make(tokenizer), (agents.Act(time_limit=4), agents.Think(8, "any")))


def actor(tokenizer: Any) -> Interaction:
    """Returns an agent that guesses a number."""
    return agents.make_agent(envs.NumberGuess(8).make(tokenizer), (agents.Act(time_limit=4),))


def _policy(vocab_size: int, context_length: int) -> models.Policy:
    return models.make_policy(models.preset("0.1M", vocab_size, context_length=context_length))


def _trajectory(interaction: Interaction, length: int) -> Trajectory:
    """Returns the form of a trajectory of one lane."""
    policy = _policy(LARGE, interaction.size.context)
    config = rollout.RolloutConfig(trajectory_length=length, restarts=True)

    def roll_out(key):
        lanes = rollout.start_lanes(interaction, {}, config, key[None], key[None])
        return rollout.roll_out(interaction, policy, config, policy.init(key), {}, lanes)[1]

    return jax.eval_shape(roll_out, jax.random.key(0))


def _score_peak(interaction: Interaction, trajectory: Trajectory) -> float:
    """Returns the temporary memory of scoring a trajectory and of its gradient, bytes."""
    policy = _policy(LARGE, interaction.size.context)

    def total(variables, trajectory):
        log_prob, entropy, heads = scoring.score(policy, interaction.grammar, variables, trajectory, 1.0)
        return jnp.sum(jnp.where(trajectory.is_sampled, log_prob + entropy + heads["value"], 0.0))

    variables = jax.eval_shape(policy.init, jax.random.key(0))
    return float(jax.jit(jax.grad(total)).lower(variables, trajectory).compile().memory_analysis().temp_size_in_bytes)


def _trace_seconds(num_layers: int) -> float:
    """Returns the seconds until the update of a deep model with three shapes of calls and a cache of three stages is lowered."""
    tokenizer = text.load_tokenizer()
    layers = (agents.Act(time_limit=8), agents.Think(32), agents.Attempts(6, memory=agents.History()))
    interaction = agents.make_agent(envs.NumberGuess(8).make(tokenizer), layers)
    size = {"num_layers": num_layers, "width": 64, "num_heads": 4, "num_kv_heads": 2, "feed_forward_width": 128}
    policy = models.make_policy(models.ModelConfig(len(tokenizer), context_length=interaction.size.context, **size))
    config = training.LearnerConfig(num_lanes=64, microbatch_size=16, num_minibatches=4)
    learner = training.make_learner(interaction, policy, rollout.RolloutConfig(widths=((1, 8), (4, 8))), config)
    like, began = jax.eval_shape(learner.init, jax.random.key(0)), time.perf_counter()
    jax.jit(learner.update).trace(like).lower()
    return time.perf_counter() - began


def _tokens_per_second(interaction: Interaction, vocab_size: int, quick: bool) -> float:
    """Returns the tokens read per second of an update."""
    num_lanes, rounds = (16, 1) if quick else (256, 7)
    policy = _policy(vocab_size, interaction.size.context)
    config = training.LearnerConfig(num_lanes=num_lanes, microbatch_size=num_lanes // 4, num_blocks=1)
    learner = training.make_learner(interaction, policy, rollout.RolloutConfig(), config)
    step = functools.partial(jax.jit(learner.update), jax.jit(learner.init)(jax.random.key(0)))
    tokens = float(step()[1]["tokens"])
    return tokens / measure.alternate({"update": step}, rounds)["update"]
