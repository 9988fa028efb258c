"""The gradient is right: summed over every trajectory of a small task, the estimate is the exact gradient of the expected return.

All trajectories are enumerated: every sequence of letters takes the place of the draws. Each stream is credited by the code of training,
its advantages are weighed with the probability of its trajectory, and what an epoch of the learner hands to its optimizer is compared with
the derivative of the sum, over trajectories, of probability times return.
"""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from arl import agents, envs, rollout, text, training
from arl.rollout import loop
from arl.training import credit as credits
from arl.training import learner as learners
from arl.training import loss as losses
from arl.training.loss import Batch
from arl.types import Grammar, Stream
from tests import tiny

SYMBOLS = (" 0", " 1")
SETTING = {"attempts": {"keep": jnp.float32(1.0)}}
NOTE = agents.reflection(1, symbols=SYMBOLS)


def guess():
    """One guess at a number below 2."""
    return agents.act(envs.make_number_guess(tiny.TOKENIZER, 2, one_guess=True))


def guesses(num_steps):
    """Guesses until it is right: an observation lies between them, and lives differ in length."""
    return agents.act(envs.time_limit(envs.make_number_guess(tiny.TOKENIZER, 2), num_steps))


AGENTS = {  # and the most letters that are written in a life
    "act": (lambda: guesses(2), 2),
    "think": (lambda: tiny.think(guess(), budget=2, symbols=list(SYMBOLS)), 3),
    "nothing": (lambda: tiny.attempts(guess(), 2), 2),
    "history": (lambda: tiny.attempts(guess(), 2, carry=agents.history()), 2),
    "window": (lambda: tiny.attempts(guess(), 2, carry=agents.window(3)), 2),
    "reflection": (lambda: tiny.attempts(guess(), 2, carry=NOTE), 3),
    "annealed": (lambda: tiny.attempts(guess(), 2, carry=agents.reflection(1, symbols=SYMBOLS, annealed=True)), 3),
    "walk": (lambda: agents.act(tiny.make_walk(2)), 6),
}
UNBIASED = [
    dict(credit="monte_carlo"),
    dict(credit="reinforce"),
    dict(credit="gae", trace=1.0),
    dict(credit="gae", trace=1.0, trace_counts="token"),
    dict(credit="segment_gae", trace=1.0),
]


class Enumerated(NamedTuple):
    """Every trajectory of an agent.

    Attributes:
      grammar: of the agent.
      stream: `[B, T]`, a trajectory in each lane.
      weight: float32 `[B]`, its probability under the tiny model; they add up to 1.
      prior: float32 `[B]`, the probability of its task.
      value: float32 `[B, lives]`, what each of its lives brought.
    """

    grammar: Grammar
    stream: Stream
    weight: jax.Array
    prior: jax.Array
    value: jax.Array


@functools.cache
def enumerate_all(name, num_letters=None, **options):
    """Returns every trajectory of an agent at two tasks, one likelier than the other; of restarting lanes at one task."""
    make, letters = AGENTS[name]
    interaction, num_letters = make(), num_letters or letters
    tasks = [0] if options.get("restarts") else [0, 1]
    plans = list(itertools.product(tasks, *[range(len(interaction.grammar.alphabet))] * num_letters))
    task, plans = jnp.array(plans, jnp.uint32)[:, 0], jnp.array(plans, jnp.uint32)[:, 1:]
    if options.get("restarts"):
        interaction = interaction._replace(start=lambda key, setting, start=interaction.start: start(jax.random.key(0), setting))
    # A lane's key holds the number of its plan, which takes the place of its draws.
    keys = jax.vmap(jax.random.wrap_key_data)(jnp.stack([jnp.zeros_like(task), jnp.arange(len(task), dtype=jnp.uint32)], 1))
    shape = tiny.config(interaction, widths=(), **options)
    lanes = rollout.start_lanes(interaction, SETTING, shape, keys, jax.vmap(jax.random.key)(task))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.lane_steps, "draw", lambda lane: 1.0 * plans[jax.random.key_data(lane.key)[1], lane.num_sampled])
        patch.setattr(loop.decode, "sample", lambda uniform, log_probs, support: uniform.astype(jnp.int32))
        _, stream, _ = jax.jit(lambda params: rollout.roll_out(interaction, tiny.model(), shape, params, SETTING, lanes))(tiny.params())
    # A plan that names an illegal letter, or letters beyond the end of its stream, is not a trajectory of its own.
    support = text.unpack(stream.support, len(interaction.grammar.alphabet))
    is_legal = jnp.all(jnp.take_along_axis(support, stream.written[..., None], -1)[..., 0] | ~stream.is_written, 1)
    count = jnp.sum(stream.is_written, 1)
    assert int(jnp.max(jnp.where(is_legal, count, 0))) <= num_letters
    is_first = ~jnp.any((jnp.arange(num_letters) >= count[:, None]) & (plans > 0), 1)
    kept = np.flatnonzero(np.asarray(is_legal & is_first))
    stream, prior = jax.tree.map(lambda x: x[kept], stream), jnp.array([0.75, 0.25])[task[kept]] if len(tasks) > 1 else jnp.ones(len(kept))
    weight = prior * jnp.exp(jnp.sum(log_probabilities(tiny.params(), stream, interaction.grammar), 1))
    np.testing.assert_allclose(jnp.sum(weight), 1.0, rtol=1e-5, err_msg="all trajectories are there")
    return Enumerated(interaction.grammar, stream, weight, prior, life_returns(stream))


def config(stream, **options):
    """A learner that takes all lanes of `stream` in one step and divides by their number."""
    sizes = dict(num_lanes=len(stream.token), minibatches=1, epochs=1, microbatch=len(stream.token), blocks=1)
    plain = dict(policy_loss="policy_gradient", aggregation="constant", constant_tokens=1, value_weight=0.0, normalize=False)
    return training.LearnerConfig(**{**sizes, **plain, **options})


def life_returns(stream):
    """What each life of each lane brought, `[B, lives]`, slot by slot: rewards, and a value where the life was cut."""
    stream = jax.tree.map(np.asarray, stream)
    reward, num_slots = tiny.total(stream.reward), stream.token.shape[1]
    found = np.zeros((len(reward), int(stream.ends_life.sum(1).max()) + 1), np.float32)
    for lane in range(len(reward)):
        weight, life, value, is_open = 1.0, 0, 0.0, False
        for slot in range(num_slots):
            is_open |= bool(stream.is_written[lane, slot])
            value = stream.value[lane, slot] if stream.has_value[lane, slot] else value
            found[lane, life] += weight * reward[lane, slot]
            if stream.ends_life[lane, slot]:
                found[lane, life] += weight * value * stream.is_truncated[lane, slot]
                weight, life, is_open = 1.0, life + 1, False
            elif stream.ends_segment[lane, slot]:
                weight *= stream.discount[lane, slot]
        if is_open:
            found[lane, life] += weight * value
    return jnp.asarray(found[:, : int(stream.life.max()) + 1])  # a lane that has stopped has no further life


def log_probabilities(params, stream, grammar):
    """Log-probability of what was written, by slot."""
    log_prob, _, _ = losses.score(tiny.model(), grammar, params, stream, 1.0)
    return jnp.where(stream.is_written, log_prob, 0.0)


def exact_gradient(found: Enumerated, value=None):
    """Derivative of the sum over trajectories of probability times the value of each life, by that life's own choices."""
    value = found.value if value is None else value

    def expected(params):
        log_prob = log_probabilities(params, found.stream, found.grammar)
        lives = [jnp.sum(jnp.where(found.stream.life == life, log_prob, 0.0), 1) for life in range(value.shape[1])]
        lives = jnp.stack(lives, 1)
        # The other lives of a stream decide when a life begins and is cut; it is not credited with that.
        others = jax.lax.stop_gradient(jnp.sum(lives, 1, keepdims=True) - lives)
        return jnp.sum(found.prior[:, None] * jnp.exp(lives + others) * value)

    return jax.jit(jax.grad(expected))(tiny.params())


def estimated_gradients(found: Enumerated, choices, *, weight=None, num_devices=1, **options):
    """Minus what an epoch of the learner hands to its optimizer, summed over its steps, for each of several ways of credit.

    Each trajectory's advantages are weighed with `weight`, by default its probability times the number that the sum is divided by.
    """
    stream, shape = found.stream, config(found.stream, **options)
    weight = found.weight * len(found.weight) * shape.constant_tokens if weight is None else weight
    zeros = jax.tree.map(jnp.zeros_like, tiny.params())
    recorder = optax.GradientTransformation(
        lambda params: zeros, lambda gradient, seen, params: (zeros, jax.tree.map(jnp.subtract, seen, gradient))
    )
    part_loss = functools.partial(losses.loss, tiny.model(), found.grammar, shape, 1.0, jnp.float32(0.0))
    blocks, axis = shape.blocks // num_devices, "data" if num_devices > 1 else None

    def epoch(batch):
        first, start = jax.lax.axis_index(axis) * blocks if axis else 0, (tiny.params(), zeros)
        (_, seen), _ = learners.take_epoch(recorder, shape, part_loss, batch, blocks, first, axis, start, jax.random.key(0))
        return seen

    @jax.jit
    def credit_all(stream):
        configs = [dataclasses.replace(shape, **choice) for choice in choices]
        return [credits.ESTIMATORS[each.credit](stream, credits.total_reward(stream.reward), each) for each in configs]

    if axis:
        mesh = training.make_mesh(num_devices)
        epoch = jax.shard_map(epoch, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec(), check_vma=False)
    epoch, zero = jax.jit(epoch), jnp.zeros_like(stream.log_prob)
    for given in credit_all(stream):
        yield epoch(Batch(stream, given.advantage * weight[:, None], given.target, given.is_kept, credits.is_decision(stream), zero))


def flat(gradient):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)])


def assert_equal(estimate, exact, words=""):
    """To one part in ten thousand of the gradient's length."""
    estimate, exact = flat(estimate), flat(exact)
    assert np.linalg.norm(exact) > 1e-3
    assert np.linalg.norm(estimate - exact) < 1e-4 * np.linalg.norm(exact), words


def cosine(a, b):
    a, b = flat(a), flat(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_tasks_differ():
    """Else the gradient would be that of one task."""
    numbers = [int(guesses(2).start(jax.random.key(task), {})[0][0].inner.number) for task in (0, 1)]
    assert numbers[0] != numbers[1]


@pytest.mark.parametrize("name", AGENTS)
def test_the_expected_estimate_is_the_gradient_of_the_expected_return(name):
    found = enumerate_all(name)
    exact = exact_gradient(found)
    for options, estimate in zip(UNBIASED, estimated_gradients(found, UNBIASED), strict=True):
        assert_equal(estimate, exact, str(options))


@pytest.mark.parametrize(("name", "stream_length", "num_letters"), [("act", 27, 7), ("think", 16, 7), ("reflection", 24, 7)])
def test_restarting_lanes(name, stream_length, num_letters):
    """Several lives in a stream, the last of them cut: its last value stands for what would have followed."""
    found = enumerate_all(name, num_letters, restarts=True, stream_length=stream_length)
    assert found.value.shape[1] > 1 and not np.asarray(found.stream.ends_life[:, -1]).all()
    exact = exact_gradient(found)
    for options, estimate in zip(UNBIASED, estimated_gradients(found, UNBIASED), strict=True):
        assert_equal(estimate, exact, str(options))


CUTS = [
    (dict(microbatch=8, blocks=8), 1),
    (dict(microbatch=16, blocks=8), 8),
    (dict(microbatch=8, blocks=4), 4),
    (dict(policy_loss="ppo"), 1),
    (dict(policy_loss="ppo", ratio="sequence", constant_tokens=3), 1),
]


@pytest.mark.parametrize(("options", "num_devices"), CUTS, ids=str)
def test_microbatches_devices_and_surrogates(options, num_devices):
    """However the lanes are cut, and where the policy is the one that sampled, whichever surrogate: the same gradient."""
    found = enumerate_all("reflection")
    exact = exact_gradient(found)
    padding = -len(found.weight) % 16 + 16  # lanes that do not count
    stream = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[:1], padding, 0)]), found.stream)
    padded = found._replace(stream=stream, weight=jnp.pad(found.weight, (0, padding)))
    [estimate] = estimated_gradients(padded, [dict(credit="reinforce")], num_devices=num_devices, **options)
    assert_equal(estimate, exact)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_a_mean_over_tokens_is_the_gradient_of_the_return_a_token(aggregation):
    """Thoughts of free length, paid at the end: dividing by the tokens written changes what is climbed (arXiv:2503.20783, section 3.1)."""
    found = enumerate_all("think")
    num_tokens = jnp.sum(credits.is_decision(found.stream), 1, keepdims=True)
    assert len(np.unique(num_tokens)) > 1
    alone = dict(minibatches=len(found.weight), microbatch=1)  # batches of one lane
    choice = [dict(credit="monte_carlo")]
    [estimate] = estimated_gradients(found, choice, weight=found.weight, aggregation=aggregation, **alone)
    assert_equal(estimate, exact_gradient(found, found.value / num_tokens))
    assert cosine(estimate, exact_gradient(found)) < 0.999


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_where_all_lives_have_as_many_tokens_every_aggregation_is_unbiased(aggregation):
    found = enumerate_all("history")
    weight = found.weight * len(found.weight) * 2  # both divide by the two tokens of a life
    [estimate] = estimated_gradients(found, [dict(credit="reinforce")], weight=weight, aggregation=aggregation)
    assert_equal(estimate, exact_gradient(found))


def test_a_short_trace_is_biased_by_the_values():
    """GAE below a trace of 1 trusts a value head that is wrong (arXiv:1506.02438, section 3)."""
    found = enumerate_all("history")
    [estimate] = estimated_gradients(found, [dict(credit="gae", trace=0.5)])
    exact = flat(exact_gradient(found))
    assert np.linalg.norm(flat(estimate) - exact) > 1e-2 * np.linalg.norm(exact)


def test_groups():
    """Over all pairs of trajectories: RLOO is exact, Dr. GRPO is `(G - 1) / G` of that (arXiv:2503.20783), GRPO climbs something else.

    With two lives in a group GRPO's advantage is the sign of the difference, whatever its size: the chance to win less the chance to lose.
    """
    found = enumerate_all("walk")
    chosen = np.flatnonzero(np.asarray(found.prior) > 0.5)  # both tasks are the same walk
    stream, returns = jax.tree.map(lambda x: x[chosen], found.stream), found.value[chosen]
    probability = found.weight[chosen] / 0.75
    one = found._replace(stream=stream, weight=probability, prior=jnp.ones(len(chosen)), value=returns)
    assert len(np.unique(returns)) > 2
    pairs = jnp.array(list(itertools.product(range(len(chosen)), repeat=2)))
    groups = one._replace(stream=jax.tree.map(lambda x: x[pairs.reshape(-1)], stream))
    weight = jnp.repeat(probability[pairs[:, 0]] * probability[pairs[:, 1]], 2) * len(pairs)
    choices = [dict(credit="rloo"), dict(credit="grpo"), dict(credit="grpo", normalize=True)]
    rloo, dr_grpo, grpo = estimated_gradients(groups, choices, weight=weight, group_size=2)
    exact = exact_gradient(one)
    assert_equal(rloo, exact)
    assert_equal(dr_grpo, jax.tree.map(lambda x: 0.5 * x, exact))
    assert_equal(grpo, exact_gradient(one, (jnp.sign(returns - returns[:, 0]) @ probability)[:, None]))
    assert cosine(grpo, exact) < 0.999
