"""The learner: one call rolls out lanes, credits what they wrote, and takes the optimizer's steps."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from arl import objectives, rollout
from arl.rollout import RolloutConfig
from arl.training import check
from arl.training import config as configs
from arl.training import loss as losses
from arl.training.backend import backend_fault
from arl.training.config import LearnerConfig
from arl.training.credit import ESTIMATORS, GROUPED, Estimator, counts, is_decision, total_reward
from arl.training.loss import Batch
from arl.training.metrics import imitation_metrics, size_metrics, stream_metrics
from arl.types import Interaction, LanguageModel, Stream

DATA_AXIS = "data"  # of a mesh: the lanes are divided along it


class TrainState(NamedTuple):
    """All that crosses from one update to the next.

    Attributes:
      params: of the model.
      optimizer_state: of optax.
      reference: params of the policy that a divergence is measured from; None where none is.
      lanes: `[B]`, lives that go on in the next stream; None where every stream begins new ones.
      setting: what the interaction's `adapt` has learned; schedules are computed from `step`.
      key: typed key of the run.
      step: int32 `[]`, updates taken.
    """

    params: Any
    optimizer_state: Any
    reference: Any
    lanes: Any
    setting: Any
    key: jax.Array
    step: jax.Array


class Learner(NamedTuple):
    """A training program as two pure functions.

    Attributes:
      init: `key -> TrainState`.
      update: `TrainState -> (TrainState, metrics)`; metrics are float32 `[]`. It can be jitted and vmapped over seeds.
    """

    init: Callable[[jax.Array], TrainState]
    update: Callable[[TrainState], tuple[TrainState, dict[str, jax.Array]]]


def make_learner(
    interaction: Interaction,
    model: LanguageModel,
    rollout_config: RolloutConfig,
    config: LearnerConfig,
    *,
    vocab_size: int,
    estimate: Estimator | None = None,
    setting: Any = None,
    first_step: int = 0,
    axis_name: str | None = None,
    num_devices: int = 1,
    mesh: Mesh | None = None,
    seed_axis: str | None = None,
) -> Learner:
    """Returns the training program of an agent.

    Args:
      interaction: what the lanes do.
      model: that writes.
      rollout_config: how lanes are rolled out.
      config: how they are learned from.
      vocab_size: of the model, `V`.
      estimate: how rewards become advantages; None takes `config.credit` by name.
      setting: initial value of what `interaction.adapt` changes.
      first_step: updates that others take before this learner's first one, a warm start; its schedules begin there.
      axis_name: of the devices under `jax.shard_map` or `jax.pmap`; each then holds `num_lanes / num_devices` lanes.
      num_devices: how many there are on that axis; the two belong together.
      mesh: whose axis `data` divides the lanes under `jax.jit`; instead of `axis_name`.
      seed_axis: of a `jax.vmap` over seeds.

    Returns:
      The learner.

    Raises:
      ValueError: for lanes that do not divide, a context that is too short, greedy decoding, and the like; and by `update`, when it is
        traced, for an `estimate` that returns no `Credit` or an `adapt` that returns a setting of another form.
    """
    if fault := backend_fault():
        warnings.warn(fault, RuntimeWarning, stacklevel=2)
    check.check_parts(interaction, model, rollout_config, config, setting, first_step)
    check.check_estimate(rollout_config, config, estimate)
    if mesh is not None and DATA_AXIS not in mesh.shape:
        raise ValueError(f"none of the mesh's axes ({', '.join(mesh.axis_names)}) is for the lanes; name one of them {DATA_AXIS!r}")
    num_shares = num_devices if mesh is None else mesh.shape[DATA_AXIS]
    check.check_devices(config, num_shares, num_devices, axis_name, mesh)
    rollout.check_rollout(interaction, rollout_config, vocab_size)
    estimate = estimate or ESTIMATORS[config.credit]
    optimizer = make_optimizer(config)
    num_lanes, num_blocks = config.num_lanes // num_devices, config.blocks // num_devices
    temperature = rollout_config.decoding.temperature
    # An expert's lanes are new at every update, so that a state has one form, whoever writes.
    keeps_lanes = rollout_config.restarts and not rollout_config.expert
    roll_out = functools.partial(rollout.roll_out, interaction, model, rollout_config, axis_name=seed_axis)
    if mesh is not None:
        roll_out = on_each_device(roll_out, mesh)
    scored = functools.partial(losses.score, model, interaction.grammar, temperature=temperature)
    total = functools.partial(jax.lax.psum, axis_name=axis_name) if axis_name else lambda x: x

    def first(count: int) -> jax.Array | int:
        """Index of this device's first lane (or block) among all."""
        return jax.lax.axis_index(axis_name) * count if axis_name else 0

    def new_lanes(key, setting):
        index = first(num_lanes) + jnp.arange(num_lanes)
        key_lane, key_task = jax.random.split(key)
        fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        return rollout.start_lanes(interaction, setting, rollout_config, fold(key_lane, index), fold(key_task, index // config.group_size))

    def progress(step):
        return (step - first_step if first_step else step) / config.num_updates

    def setting_of(state_setting, step):
        scheduled = configs.setting_at(config.schedules, progress(step))
        return {**(state_setting or {}), **scheduled}

    def init(key):
        key_model, key_run, key_lanes = jax.random.split(key, 3)
        params = model.init(key_model)
        lanes = new_lanes(key_lanes, setting_of(setting, jnp.int32(first_step))) if keeps_lanes else None
        reference = jax.tree.map(jnp.copy, params) if config.kl_weight else None
        return TrainState(params, optimizer.init(params), reference, lanes, setting, key_run, jnp.int32(0))

    def update(state: TrainState):
        key_lanes, key_epochs = jax.random.split(jax.random.fold_in(state.key, state.step))
        now = setting_of(state.setting, state.step)
        lanes = state.lanes if keeps_lanes else new_lanes(key_lanes, now)
        lanes, stream, usage = roll_out(state.params, now, lanes)
        batch, metrics = make_batch(state, stream)
        entropy_weight = config.entropy(progress(state.step))
        part_loss = functools.partial(losses.loss, model, interaction.grammar, config, temperature, entropy_weight)
        learn = functools.partial(take_epoch, optimizer, config, part_loss, batch, num_blocks, first(num_blocks), axis_name)
        keys = jax.random.split(key_epochs, config.epochs)
        (params, optimizer_state), learned = jax.lax.scan(learn, (state.params, state.optimizer_state), keys)

        # Before the first step the policy is the one that sampled: whatever gap there is then is an error of computation.
        gap = learned.pop("max_log_prob_gap")[0, 0]
        metrics |= {name: jnp.mean(value) for name, value in learned.items()}
        metrics["max_log_prob_gap"] = jax.lax.pmax(gap, axis_name) if axis_name else gap
        metrics |= stream_metrics(stream, usage, total) | size_metrics(stream, interaction.size, total)
        if rollout_config.expert:
            metrics |= imitation_metrics(stream.log_prob, batch.is_kept, total)
        metrics["entropy_weight"] = entropy_weight
        adapted = interaction.adapt(state.setting, metrics) if interaction.adapt else state.setting
        check.check_adapted(state.setting, adapted)
        lanes = lanes if keeps_lanes else state.lanes
        return TrainState(params, optimizer_state, state.reference, lanes, adapted, state.key, state.step + 1), metrics

    def make_batch(state: TrainState, stream: Stream) -> tuple[Batch, dict[str, jax.Array]]:
        reward, reference = total_reward(stream.reward) * config.reward_scale, jnp.zeros_like(stream.log_prob)
        if config.kl_weight:
            reference, _, _ = in_parts(lambda part: scored(state.reference, part), stream, config.num_lanes // config.microbatch)
            if config.kl_in_reward:
                divergence = objectives.KL_ESTIMATORS[config.kl_estimator](stream.log_prob, reference, is_decision(stream))
                reward = objectives.kl_in_reward(reward, divergence, is_decision(stream), config.kl_weight)
        credit = estimate(stream, reward, config)
        check.check_credit(credit, stream.token.shape)
        advantage = credit.advantage
        if config.normalize and config.credit not in GROUPED:
            advantage = objectives.standardize(advantage, credit.is_kept, axis_name)
        batch = Batch(stream, advantage, credit.target, credit.is_kept, counts(stream, credit.is_kept, config), reference)
        explained = objectives.explained_variance(stream.value, credit.target, stream.is_written, axis_name)
        return batch, {"explained_variance": explained, **jax.tree.map(total, credit.metrics)}

    return Learner(init, update)


def on_each_device(roll_out: Callable, mesh: Mesh) -> Callable:
    """Returns a rollout in which each device of a mesh rolls out its own lanes: it waits for no other, and chooses its own widths.

    Args:
      roll_out: `(params, setting, lanes) -> (lanes, stream, usage)`.
      mesh: with an axis `data`, along which lanes and streams are divided.

    Returns:
      The same function of all lanes.
    """

    def of_device(params, setting, lanes):
        lanes, stream, usage = roll_out(params, setting, lanes)
        return lanes, stream, jax.lax.psum(usage, DATA_AXIS)

    everywhere, divided = PartitionSpec(), PartitionSpec(DATA_AXIS)
    places = {"in_specs": (everywhere, everywhere, divided), "out_specs": (divided, divided, everywhere)}
    return jax.shard_map(of_device, mesh=mesh, axis_names={DATA_AXIS}, check_vma=False, **places)


def make_optimizer(config: LearnerConfig) -> optax.GradientTransformation:
    """Returns AdamW with clipped gradients, its learning rate scheduled over the run's steps."""
    num_steps = config.num_updates * config.epochs * config.minibatches
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adamw(
            lambda count: config.learning_rate(count / num_steps),
            b1=config.adam_b1,
            b2=config.adam_b2,
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
        ),
    )


def take_epoch(optimizer, config: LearnerConfig, part_loss, batch: Batch, num_blocks, first_block, axis_name, carry, key):
    """One pass over a batch: a step of the optimizer for each minibatch.

    Args:
      optimizer: of optax.
      config: of the learner.
      part_loss: `(totals, params, part) -> (loss, metrics)`.
      batch: this device's lanes.
      num_blocks, first_block: blocks of lanes on this device, and the index of the first among all.
      axis_name: of the devices, if they are mapped over.
      carry: params and optimizer state.
      key: of the shuffle.

    Returns:
      The carry, and metrics `[minibatches]`.
    """
    lanes_a_device = batch.advantage.shape[0]
    size = lanes_a_device // num_blocks
    permute = jax.vmap(lambda block: jax.random.permutation(jax.random.fold_in(key, block), size))
    order = permute(first_block + jnp.arange(num_blocks))
    num_parts = config.num_lanes // (config.minibatches * config.microbatch)

    def cut(x):
        """`[lanes, ...]` to `[minibatches, parts, lanes of a part, ...]`; each part takes the same number of lanes from each block."""
        blocks = jax.vmap(lambda block, index: block[index])(x.reshape(num_blocks, size, *x.shape[1:]), order)
        blocks = blocks.reshape(num_blocks, config.minibatches, num_parts, -1, *x.shape[1:])
        return jnp.moveaxis(blocks, 0, 2).reshape(config.minibatches, num_parts, -1, *x.shape[1:])

    total = functools.partial(jax.lax.psum, axis_name=axis_name) if axis_name else lambda x: x

    def minibatch(carry, parts):
        params, optimizer_state = carry
        counts = jax.vmap(lambda part: losses.count(part, config))(parts)
        totals = jax.tree.map(lambda count: total(jnp.sum(count)), counts)
        gradient = jax.value_and_grad(functools.partial(part_loss, totals), has_aux=True)

        def add(summed, part):
            (_, metrics), gradients = gradient(params, part)
            return jax.tree.map(jnp.add, summed, gradients), metrics

        gradients, metrics = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), parts)
        gap = jnp.max(metrics.pop("max_log_prob_gap"))
        gradients, metrics = total(gradients), total({name: jnp.sum(value) for name, value in metrics.items()})
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        metrics |= {"max_log_prob_gap": gap, "gradient_norm": optax.global_norm(gradients)}
        return (optax.apply_updates(params, updates), optimizer_state), metrics

    return jax.lax.scan(minibatch, carry, jax.tree.map(cut, batch))


def in_parts(function: Callable, batch: Any, num_parts: int) -> Any:
    """Returns `function(batch)`, computed in `num_parts` parts along the first axis, so that each fits the processor's cache."""
    # Every `num_parts`-th lane, not a run of lanes: where lanes are divided among devices, each has its share of every part.
    parts = jax.tree.map(lambda x: x.reshape(-1, num_parts, *x.shape[1:]).swapaxes(0, 1), batch)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), jax.lax.map(function, parts))
