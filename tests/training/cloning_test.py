"""Behaviour cloning: its gradient, what it teaches, and the warm start of a run that can be stopped anywhere."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import envs, rollout, training
from arl.agents import Act, Attempts, Reflection
from arl.training import ESTIMATORS, Checkpoints, LearnerConfig, Schedule, parallel, rules
from arl.training import credit as credits
from arl.training import loss as losses
from arl.training.evaluation import play
from arl.training.loss import Batch
from tests import tiny

CONFIG = dataclasses.replace(
    tiny.LEARNER,
    num_updates=3,
    learning_rate=Schedule(1e-2, 1e-3),
    entropy_weight=Schedule(0.02, 0.0),
    schedules={"attempts.keep": Schedule(0.75, 0.0)},
)
NUM_CLONED = 2


@functools.cache
def bisection():
    """Guesses at a number below 8."""
    return tiny.make(envs.make_number_guess(tiny.TOKENIZER, 8), Act(time_limit=4))


@functools.cache
def rounds():
    """Two rounds of guesses, of different lengths, the old context kept or not; its expert leaves open what is noted between them."""
    reflection = Reflection(1, tiny.SYMBOLS, annealed=True)
    return tiny.make(envs.make_number_guess(tiny.TOKENIZER, 4), Act(time_limit=3), Attempts(2, reflection))


def make_learner(interaction, config=CONFIG, first_step=0, restarts=False, rollout_options=None, **options):
    shape = tiny.config(interaction, restarts=restarts, **(rollout_options or {}))
    arguments = (interaction, tiny.model(), shape, config)
    return training.make_learner(*arguments, first_step=first_step, **options)


def make_warm_start(interaction, config=CONFIG, num_updates=NUM_CLONED, restarts=False, rollout_options=None, **options):
    shape = tiny.config(interaction, restarts=restarts, **(rollout_options or {}))
    arguments = (interaction, tiny.model(), shape, config)
    return training.make_warm_start(*arguments, num_updates=num_updates, **options)


# ---------------------------------------------------------------- the gradient


@functools.cache
def expert_trajectory(restarts=False):
    interaction = rounds()
    shape, writer = tiny.config(interaction, restarts=restarts), rollout.expert_writer(interaction)
    lanes = rollout.start_lanes(interaction, tiny.CURRICULUM, shape, *tiny.keys(8), has_writer=True)
    roll = jax.jit(lambda p: rollout.roll_out(interaction, tiny.model(), shape, p, tiny.CURRICULUM, lanes, writer)[1])
    return roll(tiny.params())


@jax.jit
def gradient(params, trajectory):
    """What the learner's loss gives, its value loss and entropy bonus left out."""
    config = LearnerConfig(imitation_weight=1.0, value_weight=0.0)
    nothing, none = jnp.zeros_like(trajectory.log_prob), jnp.zeros_like(trajectory.is_sampled)
    batch = Batch(trajectory, nothing, nothing, none, none, trajectory.log_prob, nothing)
    totals = losses.count(batch, config)
    loss = lambda params: losses.loss(tiny.model(), rounds().grammar, config, 1.0, jnp.float32(0.0), totals, params, batch)[0]
    return jax.value_and_grad(loss)(params)


@jax.jit
@jax.value_and_grad
def _cross_entropy(params, trajectory, kept, sampled, is_choice, weight):
    features = tiny.model().forward(params, trajectory.token, trajectory.context_start)
    logits = jnp.where(kept, tiny.model().logits(params, features, rounds().grammar.candidates), -jnp.inf)
    picked = jnp.take_along_axis(logits, sampled, -1)[..., 0]
    surprise = jnp.where(is_choice, jax.nn.logsumexp(logits, -1) - jnp.where(is_choice, picked, 0.0), 0.0)
    return jnp.sum(surprise * weight) / jnp.sum(is_choice)


def cross_entropy(params, trajectory, weight=1.0):
    """The mean, over tokens of the expert that have an alternative, of minus log-prob, from bits and logits."""
    grammar, host = rounds().grammar, jax.tree.map(np.asarray, trajectory)
    is_choice = host.is_sampled & host.has_choice & (host.author > 0)
    assert 0 < is_choice.sum() < host.is_sampled.sum(), "some tokens have no alternative"
    weight = jnp.broadcast_to(jnp.float32(weight), is_choice.shape)
    return _cross_entropy(params, trajectory, tiny.kept(grammar, host), tiny.sampled(grammar, host), is_choice, weight)


def assert_equal(found, wanted, rtol=1e-4):
    found, wanted = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (found, wanted))
    assert np.linalg.norm(wanted) > 1e-2
    assert np.linalg.norm(found - wanted) < rtol * np.linalg.norm(wanted)


@functools.cache
def moved_params():
    """Not those that the trajectory was scored with."""
    noise = lambda i, x: x + 0.3 * jnp.std(x) * jax.random.normal(jax.random.fold_in(jax.random.key(9), i), x.shape)
    leaves, treedef = jax.tree.flatten(tiny.params())
    return jax.tree.unflatten(treedef, [noise(i, x) for i, x in enumerate(leaves)])


@pytest.mark.parametrize("restarts", [False, True])
def test_its_loss_is_the_cross_entropy(restarts):
    """And its value the negative log-likelihood, with the parameters that scored the trajectory and with any others."""
    trajectory = expert_trajectory(restarts)
    for params in (tiny.params(), moved_params()):
        value, found = gradient(params, trajectory)
        wanted_value, wanted = cross_entropy(params, trajectory)
        assert_equal(found, wanted)
        np.testing.assert_allclose(value, wanted_value, rtol=1e-4)
    kept = np.asarray(credits.is_decision(trajectory) & (trajectory.author > 0))
    np.testing.assert_allclose(cross_entropy(tiny.params(), trajectory)[0], -np.asarray(trajectory.log_prob)[kept].mean(), rtol=1e-4)


def test_a_mixture_learns_from_rewards_what_it_wrote_and_by_imitation_what_others_wrote():
    """One loss: PPO of its own tokens, cross-entropy of the expert's; each with its own mean."""
    interaction = rounds()
    writer = rollout.expert_writer(interaction, 0.5, "segment")
    shape = tiny.config(interaction)
    lanes = rollout.start_lanes(interaction, tiny.CURRICULUM, shape, *tiny.keys(8), has_writer=True)
    program = jax.jit(lambda p: rollout.roll_out(interaction, tiny.model(), shape, p, tiny.CURRICULUM, lanes, writer)[1])
    trajectory, params = program(tiny.params()), moved_params()
    config = LearnerConfig(imitation_weight=0.3, value_weight=0.0, normalize=True, estimator="monte_carlo")
    reward = credits.total_reward(trajectory.reward)
    credit = rules.assign(trajectory, reward, config, ESTIMATORS["monte_carlo"])
    decides = credits.regularizer_mask(trajectory, credit.policy_mask, config)
    old = trajectory.log_prob
    batch = Batch(trajectory, credit.advantage, credit.target, credit.policy_mask, decides, old, jnp.zeros_like(old))
    totals = losses.count(batch, config)
    given = lambda params: losses.loss(tiny.model(), interaction.grammar, config, 1.0, jnp.float32(0.0), totals, params, batch)
    (value, metrics), gradient = jax.jit(jax.value_and_grad(given, has_aux=True))(params)

    is_choice = trajectory.is_sampled & trajectory.has_choice
    own, other = is_choice & (trajectory.author == 0), is_choice & (trajectory.author == 1)
    assert own.sum() > 20 and other.sum() > 20
    returns = np.asarray(credit.target)[np.asarray(own)]
    advantage = (credit.target - returns.mean()) / returns.std()

    def by_hand(params):
        log_prob, _, _ = losses.score(tiny.model(), interaction.grammar, params, trajectory, 1.0)
        ratio = jnp.exp(jnp.where(own, log_prob - old, 0.0))
        surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
        return -jnp.sum(surrogate * own) / own.sum() - 0.3 * jnp.sum(jnp.where(other, log_prob, 0.0)) / other.sum()

    wanted_value, wanted = jax.jit(jax.value_and_grad(by_hand))(params)
    assert_equal(gradient, wanted)
    np.testing.assert_allclose(value, wanted_value, rtol=1e-4)
    assert 0.2 < metrics["cross_entropy"] < 5.0


def test_a_mixture_trains_and_tells_how_much_of_it_is_imitated():
    config = dataclasses.replace(CONFIG, imitation_weight=0.5, schedules={**CONFIG.schedules, "expert.fraction": Schedule(1.0, 0.0)})
    learner = make_learner(rounds(), config, rollout_options={"expert_fraction": 0.5}, restarts=True)
    update, state, shares = jax.jit(learner.update), jax.jit(learner.init)(jax.random.key(0)), []
    for _ in range(3):
        state, metrics = update(state)
        shares.append(float(metrics["imitated_fraction"]))
        assert metrics["max_log_prob_gap"] < 1e-4 and np.isfinite(metrics["loss"])
    assert shares[0] > shares[1] > shares[2], "an expert still writes what it began before"
    assert state.lanes.writing.author.shape == (CONFIG.num_lanes,)


# ---------------------------------------------------------------- what it teaches


def test_the_model_becomes_its_expert():
    """A number below 8: the bisection takes 2.625 guesses on average; random ones take 3.3 of the four allowed, and often miss."""
    interaction, num_updates = bisection(), 60
    config = LearnerConfig(
        num_updates=1, num_lanes=64, num_blocks=1, num_minibatches=1, microbatch_size=64, num_epochs=2, learning_rate=Schedule(3e-2, 3e-3)
    )
    learner = make_warm_start(interaction, config, num_updates)
    update, state, lines = jax.jit(learner.update, donate_argnums=0), jax.jit(learner.init)(jax.random.key(2)), []

    @jax.jit
    def watch(params):
        return play(interaction, tiny.model(), tiny.config(interaction), params, {}, jax.random.key(7), 256)[0]

    before = watch(state.variables)
    for _ in range(num_updates):
        state, metrics = update(state)
        lines.append({name: float(value) for name, value in metrics.items()})
        assert lines[-1]["max_log_prob_gap"] < 1e-4
    assert 1.8 < lines[0]["negative_log_likelihood"] < 2.4, "log 8 is 2.08"
    assert lines[-1]["negative_log_likelihood"] < 0.2 and lines[-1]["cross_entropy"] < lines[0]["cross_entropy"]
    for line in lines:
        assert -3.1 < line["expert/return"] < -2.1, "the episodes are the expert's from the first update on"
    after = watch(state.variables)
    assert np.asarray(before.outcome).mean() < -3.0 and np.asarray(after.outcome).mean() > -2.8
    assert lines[0]["explained_variance"] < 0.1 and lines[-1]["explained_variance"] > 0.35, "of 0.466: what is known of its returns"


# ---------------------------------------------------------------- a run in two parts


@functools.cache
def run_parts(restarts):
    """Both learners of a run, and its update."""
    config = dataclasses.replace(CONFIG, kl_weight=0.1)
    first = make_warm_start(rounds(), config, restarts=restarts)
    then = make_learner(rounds(), config, first_step=NUM_CLONED, restarts=restarts)
    return first, then, training.in_turn(NUM_CLONED, jax.jit(first.update), jax.jit(then.update))


@functools.cache
def whole_run(restarts):
    """States before each update and after the last one, and what was told of each."""
    _, then, update = run_parts(restarts)
    states, lines = [jax.jit(then.init)(jax.random.key(0))], []
    for _ in range(NUM_CLONED + CONFIG.num_updates):
        state, metrics = update(states[-1])
        states.append(state)
        lines.append({name: float(value) for name, value in metrics.items()})
    return states, lines


def bits(tree):
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize("restarts", [False, True])
def test_the_second_part_begins_with_the_parameters_of_the_first_alone(restarts):
    states, lines = whole_run(restarts)
    first, handed = states[0], states[NUM_CLONED]
    assert bits(handed.variables.trainable) != bits(first.variables.trainable) and bits(handed.reference) == bits(
        handed.variables.trainable
    )
    assert bits(states[1].reference) == bits(first.reference) and bits(states[1].optimizer_state) != bits(first.optimizer_state)
    assert bits(handed.optimizer_state) == bits(first.optimizer_state), "as if nothing had been learned"
    assert bits(handed.lanes) == bits(first.lanes) and bits(handed.key) == bits(first.key)
    assert (first.lanes is None) != restarts
    assert [int(state.step) for state in states] == list(range(NUM_CLONED + CONFIG.num_updates + 1))
    assert [("negative_log_likelihood" in line) for line in lines] == [True] * NUM_CLONED + [False] * CONFIG.num_updates
    assert lines[NUM_CLONED]["kl_from_reference"] < lines[-1]["kl_from_reference"], "measured from where cloning ended"
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[-1])


def test_schedules_begin_with_the_second_part():
    _, lines = whole_run(False)
    weights = [line["entropy_weight"] for line in lines]
    np.testing.assert_allclose(weights, [0.0] * NUM_CLONED + [0.02, 0.02 * 2 / 3, 0.02 / 3], rtol=1e-5)
    cloning = training.cloning_config(dataclasses.replace(CONFIG, schedules={"a.b": Schedule(0.5, 0.1), "c": Schedule(1.0, warmup=0.5)}), 7)
    for progress in (0.0, 0.5, 1.0):
        assert [float(schedule(progress)) for schedule in cloning.schedules.values()] == [0.5, 0.0], "they stand still"


def test_the_second_part_alone_is_a_run_from_those_parameters():
    """From step 0, in a learner that knows of no warm start, except for the keys of its updates: schedules, lanes and optimizer agree."""
    states, lines = whole_run(True)
    config = dataclasses.replace(CONFIG, kl_weight=0.1)
    alone = make_learner(rounds(), config, restarts=True)
    handed = states[NUM_CLONED]
    _, metrics = jax.jit(alone.update)(handed._replace(step=jnp.int32(0)))
    for name in ("return", "entropy_weight", "tokens", "max_log_prob_gap"):
        np.testing.assert_allclose(float(metrics[name]), lines[NUM_CLONED][name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("stopped_at", [1, NUM_CLONED, NUM_CLONED + 1])
def test_a_run_that_is_stopped_anywhere_goes_on_as_if_it_had_not_been(tmp_path, restarts, stopped_at):
    _, then, update = run_parts(restarts)
    wanted, lines = whole_run(restarts)
    total, told = NUM_CLONED + CONFIG.num_updates, []
    observe = lambda step, metrics, seconds: told.append((step, metrics))
    for stops in (True, False):
        checkpoints = Checkpoints(tmp_path)
        like = jax.eval_shape(then.init, jax.random.key(0))
        state = wanted[0] if stops else checkpoints.restore(like)
        options = {"checkpoints": checkpoints, "checkpoint_every": 100, "callbacks": [observe]}
        asked = itertools.count(1)  # after each update
        state = training.run(
            update, state, total, should_stop=lambda stops=stops, asked=asked: stops and next(asked) == stopped_at, **options
        )
        checkpoints.close()
        assert int(state.step) == (stopped_at if stops else total)
    assert bits(state) == bits(wanted[-1])
    assert told == list(enumerate(lines))


def test_eight_devices_are_one():
    (state, wanted, *_), [metrics, *_] = whole_run(True)
    mesh, config = parallel.make_mesh(8), dataclasses.replace(CONFIG, kl_weight=0.1)
    state, found = parallel.jit_update(make_warm_start(rounds(), config, restarts=True, layout=training.Layout(mesh)), state)(
        jax.tree.map(jnp.copy, state)  # which is donated
    )
    for a, b in zip(jax.tree.leaves(state.variables), jax.tree.leaves(wanted.variables), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4)
    for name in ("expert/return", "negative_log_likelihood", "imitated_tokens", "cross_entropy"):
        np.testing.assert_allclose(found[name], metrics[name], rtol=2e-4, err_msg=name)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {"expert_fraction": 1.0}, "nothing is learned of what others write; set LearnerConfig.imitation_weight > 0"),
        (
            {"imitation_weight": 1.0},
            {},
            "there is nothing to imitate; set LearnerConfig.imitation_weight > 0",
        ),
        ({"imitation_weight": 1.0, "group_size": 2}, {"expert_fraction": 0.5, "expert_unit": "segment"}, "a group has one writer"),
        ({"imitation_weight": 1.0}, {"expert_fraction": 1.5}, "set it between 0 and 1"),
        ({"imitation_weight": 1.0}, {"expert_fraction": 0.5, "expert_unit": "turn"}, "set it to 'episode' or 'segment'"),
    ],
)
def test_a_learner_that_cannot_use_an_expert_is_refused(changes, options, words):
    with pytest.raises(ValueError, match=words):
        make_learner(rounds(), dataclasses.replace(CONFIG, **changes), rollout_options=options)


def test_a_writer_that_is_none_or_one_too_many_is_refused():
    writer, config = rollout.expert_writer(rounds()), dataclasses.replace(CONFIG, imitation_weight=1.0)
    make_learner(rounds(), config, writer=writer)
    with pytest.raises(ValueError, match="and the experts write too; give a rollout.Writer, with RolloutConfig.expert_fraction=0"):
        make_learner(rounds(), config, rollout_options={"expert_fraction": 1.0}, writer=writer)
    with pytest.raises(ValueError, match="nothing is learned of what others write; set LearnerConfig.imitation_weight > 0"):
        make_learner(rounds(), CONFIG, writer=writer)
    with pytest.raises(ValueError, match="which is a function; give a rollout.Writer"):
        make_learner(rounds(), config, writer=writer.write)
    with pytest.raises(ValueError, match="Writer.num_lanes is -1; set it >= 0"):
        make_learner(rounds(), config, writer=writer._replace(num_lanes=-1))
    with pytest.raises(ValueError, match="a writer may write what top-k, top-p and min-p drop; set Decoding.top_k=0"):
        make_learner(rounds(), config, writer=writer, rollout_options={"decoding": rollout.Decoding(top_k=2)})
    with pytest.raises(ValueError, match="unit is 'turn'; set it to one of episode, segment"):
        rollout.expert_writer(rounds(), unit="turn")
    with pytest.raises(ValueError, match="there is no expert for ACTION"):
        rollout.expert_writer(rounds()._replace(experts={}))


def test_a_warm_start_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="set it >= 1, or leave the warm start out"):
        make_warm_start(rounds(), num_updates=0)
    with pytest.raises(ValueError, match="give the environment an expert, or leave the warm start out"):
        make_warm_start(tiny.agent("annealed")._replace(experts={}))


def test_a_warm_start_takes_the_options_of_the_learner_that_goes_on():
    """Its own credit and its own first step are not those."""

    def never(trajectory, reward, config):
        raise AssertionError("an expert's tokens are cloned")

    found, wanted = (make_warm_start(rounds(), **options) for options in ({"estimator": never, "first_step": NUM_CLONED}, {}))
    programs = [jax.jit(learner.update).lower(jax.eval_shape(learner.init, jax.random.key(0))).as_text() for learner in (found, wanted)]
    assert programs[0] == programs[1]


def test_rewards_teach_a_warm_start_nothing_of_what_its_expert_leaves_open():
    """The notes of these rounds: the policy writes them, and they are not learned from."""
    learner = make_warm_start(rounds())
    _, metrics = jax.jit(learner.update)(jax.jit(learner.init)(jax.random.key(0)))
    assert metrics["imitated_fraction"] < 0.95 and metrics["policy_loss"] == 0 and metrics["clip_fraction"] == 0


def test_a_warm_start_fits_before_any_learner():
    """Whatever decoding drops, groups and divergences there will be."""
    config = dataclasses.replace(CONFIG, estimator="grpo", group_size=8, kl_weight=0.1, kl_in_reward=True, normalize=True)
    make_warm_start(rounds(), config, rollout_options={"decoding": rollout.Decoding(top_k=1)})
    shape = training.expert_rollout(tiny.config(rounds(), decoding=rollout.Decoding(temperature=0.0, top_p=0.5)))
    assert shape.expert_fraction == 1 and shape.decoding == rollout.Decoding()
