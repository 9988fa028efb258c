"""The learner: known optima, invariances, and what it refuses."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arl import rollout, training
from arl.agents import Attempts, History
from arl.training import Layout, LearnerConfig, Schedule, parallel
from tests import tiny

CONFIG = dataclasses.replace(tiny.LEARNER, num_updates=20, schedules={"attempts.keep": Schedule(0.5, 0.0)})


def make(name="annealed", restarts=False, learner=CONFIG, widths=(), **options):
    """A learner of a tiny agent."""
    interaction = tiny.agent(name)
    shape = tiny.config(interaction, restarts=restarts, widths=widths)
    return training.make_learner(interaction, tiny.model(), shape, learner, **options)


@functools.cache
def programs(restarts: bool = False):
    """The first state and the update of the learner that most tests here compare with something: it is compiled once."""
    learner = make("think", restarts=restarts)
    return jax.jit(learner.init), jax.jit(learner.update)


@functools.cache
def reference(restarts: bool):
    """Two updates on one device."""
    init, update = programs(restarts)
    return update(update(init(jax.random.key(0)))[0])


def assert_close(a, b, atol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), atol=atol, rtol=1e-4)


def assert_same(a, b):
    assert_close(a.variables.trainable, b.variables.trainable)
    if a.lanes is not None:
        assert np.asarray(a.lanes.inbox).tolist() == np.asarray(b.lanes.inbox).tolist(), "the same token ids"
        assert_close(a.lanes, b.lanes)


@pytest.mark.parametrize(("way", "restarts"), [("jit", False), ("jit", True), ("shard_map", True), ("pmap", True)])
def test_eight_devices_are_one(way, restarts):
    """One of the ways reads several tokens a call, which the one device does not."""
    wanted, metrics = reference(restarts)
    state, mesh = programs(restarts)[0](jax.random.key(0)), parallel.make_mesh(8)
    if way == "jit":
        update = parallel.jit_update(make("think", restarts=restarts, widths=((1, 4),) if restarts else (), layout=Layout(mesh)), state)
    else:
        learner = make("think", restarts=restarts, layout=Layout(device_axis="data", num_devices=8))
        update = parallel.shard_map_update(learner, mesh, state) if way == "shard_map" else parallel.pmap_update(learner, 8)
    if way == "pmap":
        state = parallel.replicate(state, 8)
    for _ in range(2):
        state, found = update(state)
    if way == "pmap":
        state, found = parallel.unreplicate(state, 8), jax.tree.map(lambda x: x[0], found)
    assert_same(jax.device_get(state), jax.device_get(wanted))
    for name in ("return", "loss", "entropy", "gradient_norm", "episodes", "tokens"):
        np.testing.assert_allclose(found[name], metrics[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_the_same_key_gives_the_same_bits():
    again = make("think")
    state = jax.jit(again.init)(jax.random.key(0))
    update = jax.jit(again.update)
    state, metrics = update(update(state)[0])
    wanted, wanted_metrics = reference(False)
    chex.assert_trees_all_equal((state.variables.trainable, metrics), (wanted.variables.trainable, wanted_metrics))


def test_microbatches_do_not_change_the_update():
    wanted, _ = reference(False)
    learner = make("think", learner=dataclasses.replace(CONFIG, microbatch_size=8))
    update = jax.jit(learner.update)
    state, _ = update(update(programs()[0](jax.random.key(0)))[0])
    assert_close(state.variables.trainable, wanted.variables.trainable)


def test_vmap_over_seeds_is_a_loop_over_seeds():
    (init, update), mapped = programs(), make("think", layout=Layout(seed_axis="seed"))
    keys = jax.random.split(jax.random.key(5), 2)
    states = jax.jit(jax.vmap(mapped.init))(keys)
    states, metrics = jax.jit(jax.vmap(mapped.update, axis_name="seed"))(states)
    for i in range(2):
        state, wanted = update(init(keys[i]))
        assert_close(jax.tree.map(lambda x, i=i: x[i], states.variables.trainable), state.variables.trainable)
        np.testing.assert_allclose(metrics["return"][i], wanted["return"], rtol=1e-5)


def test_the_update_is_one_program_without_the_host():
    init, update = programs()
    program = update.lower(jax.eval_shape(init, jax.random.key(0))).compile().as_text()
    assert not tiny.talks_to_the_host(program)


OPTIONS = [
    dict(estimator="gae"),
    dict(estimator="segment_gae", policy_loss="policy_gradient", normalize=False),
    dict(estimator="reinforce", aggregation="constant", constant_tokens=2),
    dict(estimator="monte_carlo", aggregation="sequence_mean"),
    dict(estimator="grpo", group_size=8),
    dict(estimator="rloo", group_size=8, ratio="sequence", clip_high=0.3),
    dict(estimator="gae", value_clip=0.2, kl_weight=0.01, kl_estimator="k2"),
    dict(estimator="gae", kl_weight=0.01, kl_in_reward=True, kl_estimator="k1"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_objective_learns(options):
    """Two guesses at a number below 4, the first answer kept: from 0.5 successes to 1 and more (the bound is 1)."""
    interaction = tiny.guess(Attempts(2, History()))
    config = LearnerConfig(
        num_updates=60,
        num_lanes=128,
        num_minibatches=2,
        microbatch_size=64,
        learning_rate=Schedule(1e-2, 1e-3),
        entropy_weight=Schedule(0.01),
        **options,
    )
    learner = training.make_learner(interaction, tiny.model(), tiny.config(interaction), config)
    update, state, returns = jax.jit(learner.update, donate_argnums=0), jax.jit(learner.init)(jax.random.key(1)), []
    for _ in range(60):
        state, metrics = update(state)
        returns.append(float(metrics["return"]))
        assert float(metrics["max_log_prob_gap"]) < 1e-4
    assert np.mean(returns[-10:]) > np.mean(returns[:5]) + 0.15


def test_groups_without_variance_weaken_the_policy_where_they_count_and_the_entropy_goes_over_what_counts():
    """One guess an episode, so that all are of one length: where it counts, a group without variance takes its fraction of the gradient."""
    grouped = dict(
        estimator="grpo", group_size=4, num_epochs=1, num_minibatches=1, microbatch_size=32, value_weight=0.0, entropy_weight=Schedule(0.0)
    )
    interaction, found = tiny.guess(), {}
    for choice in ("mask", "keep", "filter"):
        config = dataclasses.replace(CONFIG, **grouped, schedules={}, aggregation="sequence_mean", zero_variance_groups=choice)
        learner = training.make_learner(interaction, tiny.model(), tiny.config(interaction), config)
        found[choice] = jax.jit(learner.update)(jax.jit(learner.init)(jax.random.key(2)))[1]
    share = 1 - float(found["mask"]["groups_without_variance"]) / 8
    assert 0 < share < 1
    np.testing.assert_allclose(found["keep"]["gradient_norm"], share * found["mask"]["gradient_norm"], rtol=1e-4)
    np.testing.assert_allclose(found["filter"]["gradient_norm"], found["mask"]["gradient_norm"], rtol=1e-6)
    assert found["keep"]["entropy"] == found["mask"]["entropy"] != found["filter"]["entropy"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(num_lanes=30), "multiple of"),
        (dict(group_size=5), "multiple of the group size"),
        (dict(microbatch_size=4), "LearnerConfig.num_blocks"),
        (dict(estimator="gea"), "one of gae"),
        (dict(aggregation="mean"), "token_mean"),
        (dict(rules={"acting": training.Rule()}), "no kind of segment"),
        (dict(num_epochs=0), ">= 1"),
    ],
)
def test_impossible_configs_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make(learner=dataclasses.replace(CONFIG, **options))


def test_devices_that_nothing_tells_apart_are_refused():
    with pytest.raises(ValueError, match="set Layout.device_axis"):
        make("think", layout=Layout(num_devices=2))


def test_a_model_for_shorter_contexts_is_refused():
    interaction = tiny.agent("think")
    with pytest.raises(ValueError, match=f"set its context_length >= {interaction.size.context}"):
        training.make_learner(interaction, tiny.model(2), tiny.config(interaction), CONFIG)


def test_groups_with_restarts_are_refused():
    with pytest.raises(ValueError, match="set RolloutConfig.restarts=False"):
        make(restarts=True, learner=dataclasses.replace(CONFIG, estimator="grpo", group_size=8))


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="set LearnerConfig.group_size >= 2"):
        make(learner=dataclasses.replace(CONFIG, estimator="grpo"))


def test_greedy_decoding_is_refused():
    shape = tiny.config(tiny.agent("think"), decoding=rollout.Decoding(temperature=0.0))
    with pytest.raises(ValueError, match="set Decoding.temperature > 0"):
        training.make_learner(tiny.agent("think"), tiny.model(), shape, CONFIG)


def test_adapt_is_called_once_an_update():
    def update_curriculum(curriculum, metrics):
        return {"count": curriculum["count"] + 1, "seen": metrics["episodes"]}

    interaction = tiny.agent("think")._replace(update_curriculum=update_curriculum)
    curriculum = {"count": jnp.int32(0), "seen": jnp.float32(0)}
    arguments = (interaction, tiny.model(), tiny.config(interaction), CONFIG)
    learner = training.make_learner(*arguments, curriculum=curriculum)
    state, update = jax.jit(learner.init)(jax.random.key(0)), jax.jit(learner.update)
    for _ in range(3):
        state, _ = update(state)
    assert int(state.curriculum["count"]) == 3 and float(state.curriculum["seen"]) == 32


def test_somebodys_rewards_stand_between_collecting_and_learning():
    """An update is both; a verifier's rewards take the place of the environment's."""
    (init, update), learner = programs(), make("think")
    state = init(jax.random.key(0))
    experience, learn = jax.jit(learner.collect)(state), jax.jit(learner.learn)
    after, metrics = learn(state, experience)
    whole, wanted = update(state)
    assert_same(after, whole)
    assert_close(metrics, wanted)
    trajectory = experience.trajectory
    reward = trajectory.reward._replace(outcome=3.0 * trajectory.ends_episode, process=jnp.zeros_like(trajectory.log_prob))
    after, verified = learn(state, experience._replace(trajectory=trajectory._replace(reward=reward)))
    assert float(verified["return"]) == pytest.approx(3.0) != pytest.approx(float(metrics["return"]))
    with pytest.raises(AssertionError):
        assert_same(after, whole)


def test_an_optimizer_of_ones_own_takes_the_steps():
    """Its learning rate stands in its own state: 0 at first."""
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=jnp.float32(0.0))
    learner = make("think", optimizer=optimizer)
    state, update = jax.jit(learner.init)(jax.random.key(0)), jax.jit(learner.update)
    after, _ = update(state)
    assert jax.tree.structure(after.optimizer_state) == jax.tree.structure(optimizer.init(state.variables.trainable))
    assert_close(after.variables.trainable, state.variables.trainable, atol=0.0)
    fast = after.optimizer_state._replace(hyperparams={"learning_rate": jnp.float32(1.0)})
    moved, _ = update(state._replace(optimizer_state=fast))
    assert not np.allclose(moved.variables.trainable["head"], state.variables.trainable["head"])


def test_groups_share_their_task():
    shape = tiny.config(tiny.agent("history"))
    keys, tasks = tiny.keys(8)
    lanes = rollout.start_lanes(tiny.agent("reflection"), {}, shape, keys, tasks[jnp.arange(8) // 4])
    numbers = np.asarray(lanes.state.environment.number)
    assert len(set(numbers[:4])) == 1 and len(set(numbers[4:])) == 1
