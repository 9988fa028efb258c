"""The gradient is right: summed over every trajectory of a small task, the estimate is the exact gradient of the expected return.

All trajectories are enumerated: every sequence of candidates takes the place of the draws. Each is credited by the code of training, its
advantages are weighed with its probability, and what an epoch of the learner hands to its optimizer is compared with the derivative
of the sum, over trajectories, of probability times return.
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

from arl import envs, rollout, training
from arl.agents import Act, Attempts, History, Reflection, Think, Window
from arl.rollout import loop
from arl.training import credit as credits
from arl.training import learner as learners
from arl.training import loss as losses
from arl.training.loss import Batch
from arl.types import Grammar, Trajectory
from tests import tiny

SYMBOLS = (" 0", " 1")
CURRICULUM = {"attempts": {"keep": jnp.float32(1.0)}}
GUESS, NOTE = envs.make_number_guess(tiny.TOKENIZER, 2, one_guess=True), Reflection(1, SYMBOLS)  # one guess at a number below 2


def guesses(num_steps):
    """Guesses until it is right: an observation lies between them, and episodes differ in length."""
    return tiny.make(envs.make_number_guess(tiny.TOKENIZER, 2), Act(time_limit=num_steps))


AGENTS = {  # and the most candidates that are written in an episode
    "act": (lambda: guesses(2), 2),
    "one guess": (lambda: tiny.make(GUESS, Act()), 1),
    "think": (lambda: tiny.make(GUESS, Act(), Think(2, SYMBOLS)), 3),
    "nothing": (lambda: tiny.make(GUESS, Act(), Attempts(2)), 2),
    "history": (lambda: tiny.make(GUESS, Act(), Attempts(2, History())), 2),
    "window": (lambda: tiny.make(GUESS, Act(), Attempts(2, Window(3))), 2),
    "reflection": (lambda: tiny.make(GUESS, Act(), Attempts(2, NOTE)), 3),
    "annealed": (lambda: tiny.make(GUESS, Act(), Attempts(2, Reflection(1, SYMBOLS, annealed=True))), 3),
    "walk": (lambda: tiny.make(tiny.make_walk(2), Act()), 6),
}
UNBIASED = [
    dict(estimator="monte_carlo"),
    dict(estimator="reinforce"),
    dict(estimator="gae", gae_lambda=1.0),
    dict(estimator="gae", gae_lambda=1.0, gae_lambda_counts="token"),
    dict(estimator="segment_gae", gae_lambda=1.0),
]


class Enumerated(NamedTuple):
    """Every trajectory of an agent.

    Attributes:
      grammar: of the agent.
      trajectory: `[B, T]`, a trajectory in each lane.
      weight: float32 `[B]`, its probability under the tiny model; they add up to 1.
      prior: float32 `[B]`, the probability of its task.
      value: float32 `[B, episodes]`, what each of its episodes brought.
    """

    grammar: Grammar
    trajectory: Trajectory
    weight: jax.Array
    prior: jax.Array
    value: jax.Array


@functools.cache
def enumerate_all(name, num_candidates=None, behaviour=lambda variables: variables, **options):
    """Returns every trajectory of an agent at two tasks, one likelier than the other; of restarting lanes at one task.

    `behaviour` gives the variables that roll out from those of the tiny model.
    """
    make, candidates = AGENTS[name]
    interaction, num_candidates = make(), num_candidates or candidates
    tasks = [0] if options.get("restarts") else [0, 1]
    plans = list(itertools.product(tasks, *[range(len(interaction.grammar.candidates))] * num_candidates))
    task, plans = jnp.array(plans, jnp.uint32)[:, 0], jnp.array(plans, jnp.uint32)[:, 1:]
    if options.get("restarts"):
        interaction = interaction._replace(start=lambda key, curriculum, start=interaction.start: start(jax.random.key(0), curriculum))
    # A lane's key holds the number of its plan, which takes the place of its draws.
    keys = jax.vmap(jax.random.wrap_key_data)(jnp.stack([jnp.zeros_like(task), jnp.arange(len(task), dtype=jnp.uint32)], 1))
    shape = tiny.config(interaction, **options)
    lanes = rollout.start_lanes(interaction, CURRICULUM, shape, keys, jax.vmap(jax.random.key)(task))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.lane_steps, "draw", lambda lane: 1.0 * plans[jax.random.key_data(lane.key)[1], lane.num_sampled])
        patch.setattr(loop.decode, "sample", lambda uniform, log_probs, support: uniform.astype(jnp.int32))
        _, trajectory, _ = jax.jit(lambda params: rollout.roll_out(interaction, tiny.model(), shape, params, CURRICULUM, lanes))(
            behaviour(tiny.params())
        )
    # A plan that names an illegal candidate, or candidates beyond the end of its trajectory, is not a trajectory of its own.
    kept, sampled = (of(interaction.grammar, trajectory) for of in (tiny.kept, tiny.sampled))
    is_legal = jnp.all(jnp.take_along_axis(kept, sampled, -1)[..., 0] | ~trajectory.is_sampled, 1)
    count = jnp.sum(trajectory.is_sampled, 1)
    assert int(jnp.max(jnp.where(is_legal, count, 0))) <= num_candidates
    is_first = ~jnp.any((jnp.arange(num_candidates) >= count[:, None]) & (plans > 0), 1)
    kept = np.flatnonzero(np.asarray(is_legal & is_first))
    trajectory, prior = (
        jax.tree.map(lambda x: x[kept], trajectory),
        jnp.array([0.75, 0.25])[task[kept]] if len(tasks) > 1 else jnp.ones(len(kept)),
    )
    log_prob = jax.jit(lambda params, trajectory: log_probabilities(params, trajectory, interaction.grammar))(
        behaviour(tiny.params()), trajectory
    )
    weight = prior * jnp.exp(jnp.sum(log_prob, 1))
    np.testing.assert_allclose(jnp.sum(weight), 1.0, rtol=1e-5, err_msg="all trajectories are there")
    return Enumerated(interaction.grammar, trajectory, weight, prior, episode_returns(trajectory))


def config(trajectory, **options):
    """A learner that takes all lanes of `trajectory` in one step and divides by their number."""
    sizes = dict(num_lanes=len(trajectory.token), num_minibatches=1, num_epochs=1, microbatch_size=len(trajectory.token), num_blocks=1)
    plain = dict(policy_loss="policy_gradient", aggregation="constant", constant_tokens=1, value_weight=0.0, normalize=False)
    return training.LearnerConfig(**{**sizes, **plain, **options})


def episode_returns(trajectory):
    """What each episode of each lane brought, `[B, episodes]`, slot by slot: rewards, and a value where the episode was cut."""
    trajectory = jax.tree.map(np.asarray, trajectory)
    reward, num_slots = tiny.total(trajectory.reward), trajectory.token.shape[1]
    found = np.zeros((len(reward), int(trajectory.ends_episode.sum(1).max()) + 1), np.float32)
    for lane in range(len(reward)):
        weight, episode, value, is_open = 1.0, 0, 0.0, False
        for slot in range(num_slots):
            is_open |= bool(trajectory.is_sampled[lane, slot])
            value = trajectory.value[lane, slot] if trajectory.has_value[lane, slot] else value
            found[lane, episode] += weight * reward[lane, slot]
            if trajectory.ends_episode[lane, slot]:
                found[lane, episode] += weight * value * trajectory.is_truncated[lane, slot]
                weight, episode, is_open = 1.0, episode + 1, False
            elif trajectory.ends_segment[lane, slot]:
                weight *= trajectory.discount[lane, slot]
        if is_open:
            found[lane, episode] += weight * value
    return jnp.asarray(found[:, : int(trajectory.episode.max()) + 1])  # a lane that has stopped has no further episode


def log_probabilities(params, trajectory, grammar):
    """Log-probability of what was written, by slot."""
    log_prob, _, _ = losses.score(tiny.model(), grammar, params, trajectory, 1.0)
    return jnp.where(trajectory.is_sampled, log_prob, 0.0)


def exact_gradient(found: Enumerated, value=None):
    """Derivative of the sum over trajectories of probability times the value of each episode, by that episode's own choices."""
    value = found.value if value is None else value

    def expected(params):
        log_prob = log_probabilities(params, found.trajectory, found.grammar)
        episodes = [jnp.sum(jnp.where(found.trajectory.episode == episode, log_prob, 0.0), 1) for episode in range(value.shape[1])]
        episodes = jnp.stack(episodes, 1)
        # The other episodes of a trajectory decide when an episode begins and is cut; it is not credited with that.
        others = jax.lax.stop_gradient(jnp.sum(episodes, 1, keepdims=True) - episodes)
        return jnp.sum(found.prior[:, None] * jnp.exp(episodes + others) * value)

    return jax.jit(jax.grad(expected))(tiny.params())


@functools.cache
def exact_gradient_of(name):
    """That of the trajectories of an agent at both tasks."""
    return exact_gradient(enumerate_all(name))


def estimated_gradients(found: Enumerated, choices, *, weight=None, num_devices=1, **options):
    """Minus what an epoch of the learner hands to its optimizer, summed over its steps, for each of several ways of credit.

    Each trajectory's advantages are weighed with `weight`, by default its probability times the number that the sum is divided by.
    """
    trajectory, shape = found.trajectory, config(found.trajectory, **options)
    weight = found.weight * len(found.weight) * shape.constant_tokens if weight is None else weight
    zeros = jax.tree.map(jnp.zeros_like, tiny.params())
    recorder = optax.GradientTransformation(
        lambda params: zeros, lambda gradient, seen, params: (zeros, jax.tree.map(jnp.subtract, seen, gradient))
    )
    part_loss = functools.partial(losses.loss, tiny.model(), found.grammar, shape, 1.0, jnp.float32(0.0))
    blocks, axis = shape.num_blocks // num_devices, "data" if num_devices > 1 else None

    def epoch(batch):
        first, start = jax.lax.axis_index(axis) * blocks if axis else 0, (tiny.params(), zeros)
        (_, seen), _ = learners.take_epoch(recorder, shape, part_loss, batch, blocks, first, axis, start, jax.random.key(0))
        return seen

    @jax.jit
    def credit_all(trajectory):
        configs = [dataclasses.replace(shape, **choice) for choice in choices]
        return [credits.ESTIMATORS[each.estimator].estimate(trajectory, credits.total_reward(trajectory.reward), each) for each in configs]

    if axis:
        mesh = training.make_mesh(num_devices)
        epoch = jax.shard_map(epoch, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec(), check_vma=False)
    epoch, zero = jax.jit(epoch), jnp.zeros_like(trajectory.log_prob)
    for given in credit_all(trajectory):
        yield epoch(
            Batch(
                trajectory,
                given.advantage * weight[:, None],
                given.target,
                given.policy_mask,
                credits.is_decision(trajectory),
                trajectory.log_prob,
                zero,
            )
        )


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
    numbers = [int(guesses(2).start(jax.random.key(task), {})[0].environment.number) for task in (0, 1)]
    assert numbers[0] != numbers[1]


@pytest.mark.parametrize("name", AGENTS)
def test_the_expected_estimate_is_the_gradient_of_the_expected_return(name):
    found, exact = enumerate_all(name), exact_gradient_of(name)
    for options, estimate in zip(UNBIASED, estimated_gradients(found, UNBIASED), strict=True):
        assert_equal(estimate, exact, str(options))


@pytest.mark.parametrize(("name", "trajectory_length", "num_candidates"), [("act", 27, 7), ("think", 16, 7), ("reflection", 24, 7)])
def test_restarting_lanes(name, trajectory_length, num_candidates):
    """Several episodes in a trajectory, the last of them cut: its last value stands for what would have followed."""
    found = enumerate_all(name, num_candidates, restarts=True, trajectory_length=trajectory_length)
    assert found.value.shape[1] > 1 and not np.asarray(found.trajectory.ends_episode[:, -1]).all()
    exact = exact_gradient(found)
    for options, estimate in zip(UNBIASED, estimated_gradients(found, UNBIASED), strict=True):
        assert_equal(estimate, exact, str(options))


CUTS = [
    (dict(microbatch_size=8, num_blocks=8), 1),
    (dict(microbatch_size=16, num_blocks=8), 8),
    (dict(microbatch_size=8, num_blocks=4), 4),
    (dict(policy_loss="ppo"), 1),
    (dict(policy_loss="ppo", ratio="sequence", constant_tokens=3), 1),
]


@pytest.mark.parametrize(("options", "num_devices"), CUTS, ids=str)
def test_microbatches_devices_and_surrogates(options, num_devices):
    """However the lanes are cut, and where the policy is the one that sampled, whichever surrogate: the same gradient."""
    found, exact = enumerate_all("reflection"), exact_gradient_of("reflection")
    padding = -len(found.weight) % 16 + 16  # lanes that do not count
    trajectory = jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[:1], padding, 0)]), found.trajectory)
    padded = found._replace(trajectory=trajectory, weight=jnp.pad(found.weight, (0, padding)))
    [estimate] = estimated_gradients(padded, [dict(estimator="reinforce")], num_devices=num_devices, **options)
    assert_equal(estimate, exact)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_a_mean_over_tokens_is_the_gradient_of_the_return_a_token(aggregation):
    """Thoughts of free length, paid at the end: dividing by the tokens written changes what is climbed (arXiv:2503.20783, section 3.1)."""
    found = enumerate_all("think")
    num_tokens = jnp.sum(credits.is_decision(found.trajectory), 1, keepdims=True)
    assert len(np.unique(num_tokens)) > 1
    alone = dict(num_minibatches=len(found.weight), microbatch_size=1)  # batches of one lane
    choice = [dict(estimator="monte_carlo")]
    [estimate] = estimated_gradients(found, choice, weight=found.weight, aggregation=aggregation, **alone)
    assert_equal(estimate, exact_gradient(found, found.value / num_tokens))
    assert cosine(estimate, exact_gradient_of("think")) < 0.999


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_where_all_episodes_have_as_many_tokens_every_aggregation_is_unbiased(aggregation):
    found = enumerate_all("history")
    weight = found.weight * len(found.weight) * 2  # both divide by the two tokens of an episode
    [estimate] = estimated_gradients(found, [dict(estimator="reinforce")], weight=weight, aggregation=aggregation)
    assert_equal(estimate, exact_gradient_of("history"))


def test_a_short_trace_is_biased_by_the_values():
    """GAE below a trace of 1 trusts a value head that is wrong (arXiv:1506.02438, section 3)."""
    found = enumerate_all("history")
    [estimate] = estimated_gradients(found, [dict(estimator="gae", gae_lambda=0.5)])
    exact = flat(exact_gradient_of("history"))
    assert np.linalg.norm(flat(estimate) - exact) > 1e-2 * np.linalg.norm(exact)


def test_groups():
    """Over all pairs of trajectories: RLOO is exact, Dr. GRPO is `(G - 1) / G` of that (arXiv:2503.20783), GRPO climbs something else.

    With two episodes in a group GRPO's advantage is the sign of their difference, whatever its size: the chance to win less that to lose.
    """
    found = enumerate_all("walk")
    chosen = np.flatnonzero(np.asarray(found.prior) > 0.5)  # both tasks are the same walk
    trajectory, returns = jax.tree.map(lambda x: x[chosen], found.trajectory), found.value[chosen]
    probability = found.weight[chosen] / 0.75
    one = found._replace(trajectory=trajectory, weight=probability, prior=jnp.ones(len(chosen)), value=returns)
    assert len(np.unique(returns)) > 2
    pairs = jnp.array(list(itertools.product(range(len(chosen)), repeat=2)))
    groups = one._replace(trajectory=jax.tree.map(lambda x: x[pairs.reshape(-1)], trajectory))
    weight = jnp.repeat(probability[pairs[:, 0]] * probability[pairs[:, 1]], 2) * len(pairs)
    choices = [dict(estimator="rloo"), dict(estimator="grpo"), dict(estimator="grpo", normalize=True)]
    rloo, dr_grpo, grpo = estimated_gradients(groups, choices, weight=weight, group_size=2)
    exact = exact_gradient(one)
    assert_equal(rloo, exact)
    assert_equal(dr_grpo, jax.tree.map(lambda x: 0.5 * x, exact))
    assert_equal(grpo, exact_gradient(one, (jnp.sign(returns - returns[:, 0]) @ probability)[:, None]))
    assert cosine(grpo, exact) < 0.999
