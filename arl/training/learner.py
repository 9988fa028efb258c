"""The learner: each update rolls out lanes, estimates advantages, and takes steps of the optimizer."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from arl import objectives, rollout
from arl.models import LanguageModel
from arl.rollout import RolloutConfig
from arl.training import check
from arl.training import config as configs
from arl.training import loss as losses
from arl.training.backend import backend_fault
from arl.training.config import LearnerConfig
from arl.training.credit import ESTIMATORS, Estimator, NamedEstimator, counts, is_decision, total_reward
from arl.training.epoch import make_optimizer, take_epoch
from arl.training.loss import Batch
from arl.training.metrics import imitation_metrics, size_metrics, trajectory_metrics
from arl.training.scoring import score
from arl.types import ArlError, Interaction, Trajectory

DATA_AXIS = "data"  # of a mesh: the lanes are divided along it


class TrainState(NamedTuple):
    """All state that an update takes from the one before.

    Attributes:
      params: parameters of the model.
      optimizer_state: state of the optax optimizer.
      reference: parameters of the reference policy; None without a divergence.
      lanes: `Lane` `[B]`, whose episodes continue in the next trajectory; None if every trajectory begins new episodes.
      curriculum: the learned part of the curriculum, see `Interaction.update_curriculum`; its schedules are computed from `step`.
      key: typed random key of the run.
      step: int32 `[]`, number of updates taken.
    """

    params: Any
    optimizer_state: Any
    reference: Any
    lanes: Any
    curriculum: Any
    key: jax.Array
    step: jax.Array


class Experience(NamedTuple):
    """What an update learns from.

    Attributes:
      trajectory: `[B, T]`, what the lanes have read, written and earned.
      lanes: the lanes after it, as in `TrainState`.
      usage: the work of the rollout.
    """

    trajectory: Trajectory
    lanes: Any
    usage: rollout.Usage


class Learner(NamedTuple):
    """A training program as pure functions, which can be jitted, and vmapped over seeds.

    An update collects experience and learns from it. To put something between the two, such as a verifier's rewards or other data, call
    `collect`, change the trajectory, and call `learn`.

    Attributes:
      init: `key -> TrainState`.
      collect: `TrainState -> Experience`.
      learn: `(TrainState, Experience) -> (TrainState, metrics)`, metrics float32 `[]` by name.
    """

    init: Callable[[jax.Array], TrainState]
    collect: Callable[[TrainState], Experience]
    learn: Callable[[TrainState, Experience], tuple[TrainState, dict[str, jax.Array]]]

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Returns the state after one update, and its metrics."""
        return self.learn(state, self.collect(state))


def make_learner(
    interaction: Interaction,
    model: LanguageModel,
    rollout_config: RolloutConfig,
    config: LearnerConfig,
    *,
    vocab_size: int,
    estimate: Estimator | None = None,
    optimizer: optax.GradientTransformation | None = None,
    curriculum: Any = None,
    first_step: int = 0,
    axis_name: str | None = None,
    num_devices: int = 1,
    mesh: Mesh | None = None,
    seed_axis: str | None = None,
) -> Learner:
    """Returns the training program of an agent.

    Args:
      interaction: the agent in its environment.
      model: the model that writes.
      rollout_config: how lanes are rolled out.
      config: how the agent learns from its trajectories.
      vocab_size: `V`, tokens of the model's vocabulary.
      estimate: estimator of advantages; None takes `config.credit`.
      optimizer: optimizer of the parameters; None for that of `make_optimizer(config)`.
      curriculum: initial value of the part that `interaction.update_curriculum` changes; None for none.
      first_step: number of updates before this learner's first one, those of a warm start; its schedules start there.
      axis_name: mapped axis of devices under `jax.shard_map` or `jax.pmap`; each device then has `num_lanes / num_devices` lanes.
      num_devices: number of devices on `axis_name`.
      mesh: mesh whose axis `data` divides the lanes under `jax.jit`; an alternative to `axis_name`.
      seed_axis: axis of a `jax.vmap` over seeds.

    Returns:
      The learner.

    Raises:
      ArlError: if the arguments do not fit together; also by `update`, when it is traced, if `estimate` returns no `Credit` or
        `update_curriculum` returns a curriculum of another form.
    """
    if fault := backend_fault():
        warnings.warn(fault, RuntimeWarning, stacklevel=2)
    check.check_parts(interaction, model, rollout_config, config, curriculum, first_step)
    check.check_estimate(rollout_config, config, estimate)
    if mesh is not None and DATA_AXIS not in mesh.shape:
        raise ArlError(f"none of the mesh's axes ({', '.join(mesh.axis_names)}) is for the lanes; name one of them {DATA_AXIS!r}")
    num_shares = num_devices if mesh is None else mesh.shape[DATA_AXIS]
    check.check_devices(config, num_shares, num_devices, axis_name, mesh)
    rollout.check_rollout(interaction, rollout_config, vocab_size)
    roll_out = functools.partial(rollout.roll_out, interaction, model, rollout_config, axis_name=seed_axis)
    program = _Program(
        interaction,
        model,
        rollout_config,
        config,
        estimator=NamedEstimator(estimate) if estimate else ESTIMATORS[config.credit],
        optimizer=optimizer or make_optimizer(config),
        roll_out=roll_out if mesh is None else on_each_device(roll_out, mesh),
        curriculum=curriculum,
        first_step=first_step,
        axis_name=axis_name,
        num_devices=num_devices,
    )
    return Learner(program.init, program.collect, program.learn)


@dataclasses.dataclass(frozen=True)
class _Program:
    """The functions of a learner, and what they are made from; see `make_learner`."""

    interaction: Interaction
    model: LanguageModel
    rollout_config: RolloutConfig
    config: LearnerConfig
    estimator: NamedEstimator
    optimizer: optax.GradientTransformation
    roll_out: Callable
    curriculum: Any
    first_step: int
    axis_name: str | None
    num_devices: int

    @property
    def keeps_lanes(self) -> bool:
        """Whether episodes go on in the next trajectory."""
        # Lanes of an expert are new in every update, so that the state of a warm start has the form of the learner's that follows.
        return self.rollout_config.restarts and not self.rollout_config.expert

    @property
    def num_blocks(self) -> int:
        """Blocks of lanes of this device."""
        return self.config.blocks // self.num_devices

    def init(self, key: jax.Array) -> TrainState:
        key_model, key_run, key_lanes = jax.random.split(key, 3)
        params = self.model.init(key_model)
        now = self.curriculum_at(self.curriculum, jnp.int32(self.first_step))
        lanes = self.new_lanes(key_lanes, now) if self.keeps_lanes else None
        reference = jax.tree.map(jnp.copy, params) if self.config.kl_weight else None
        return TrainState(params, self.optimizer.init(params), reference, lanes, self.curriculum, key_run, jnp.int32(0))

    def collect(self, state: TrainState) -> Experience:
        key_lanes, _ = self.keys(state)
        now = self.curriculum_at(state.curriculum, state.step)
        lanes = state.lanes if self.keeps_lanes else self.new_lanes(key_lanes, now)
        lanes, trajectory, usage = self.roll_out(state.params, now, lanes)
        return Experience(trajectory, lanes if self.keeps_lanes else state.lanes, usage)

    def learn(self, state: TrainState, experience: Experience) -> tuple[TrainState, dict[str, jax.Array]]:
        trajectory, lanes, usage = experience
        _, key_epochs = self.keys(state)
        batch, metrics = self.make_batch(state, trajectory)
        entropy_weight = self.config.entropy(self.progress(state.step))
        params, optimizer_state, learned = self.take_epochs(state, batch, entropy_weight, key_epochs)

        metrics |= learned | trajectory_metrics(trajectory, usage, self.total)
        metrics |= size_metrics(trajectory, self.interaction.size, self.total)
        if self.rollout_config.expert:
            metrics |= imitation_metrics(trajectory.log_prob, batch.is_kept, self.total)
        metrics["entropy_weight"] = entropy_weight
        adapted = self.interaction.update_curriculum(state.curriculum, metrics) if self.interaction.update_curriculum else state.curriculum
        check.check_adapted(state.curriculum, adapted)
        return TrainState(params, optimizer_state, state.reference, lanes, adapted, state.key, state.step + 1), metrics

    def make_batch(self, state: TrainState, trajectory: Trajectory) -> tuple[Batch, dict[str, jax.Array]]:
        """Returns the batch to learn from: advantages, value targets and log-probs of the reference."""
        config = self.config
        reward, reference = total_reward(trajectory.reward) * config.reward_scale, jnp.zeros_like(trajectory.log_prob)
        if config.kl_weight:
            temperature = self.rollout_config.decoding.temperature
            scored = functools.partial(score, self.model, self.interaction.grammar, state.reference, temperature=temperature)
            reference, _, _ = in_parts(scored, trajectory, config.num_lanes // config.microbatch)
            if config.kl_in_reward:
                divergence = objectives.KL_ESTIMATORS[config.kl_estimator](trajectory.log_prob, reference, is_decision(trajectory))
                reward = objectives.kl_in_reward(reward, divergence, is_decision(trajectory), config.kl_weight)
        credit = self.estimator.estimate(trajectory, reward, config)
        check.check_credit(credit, trajectory.token.shape)
        advantage = credit.advantage
        if config.normalize and not self.estimator.compares_groups:
            advantage = objectives.standardize(advantage, credit.is_kept, self.axis_name)
        batch = Batch(trajectory, advantage, credit.target, credit.is_kept, counts(trajectory, credit.is_kept, config), reference)
        explained = objectives.explained_variance(trajectory.value, credit.target, trajectory.is_sampled, self.axis_name)
        return batch, {"explained_variance": explained, **jax.tree.map(self.total, credit.metrics)}

    def keys(self, state: TrainState) -> jax.Array:
        """Returns the random keys of an update, of its new lanes and of its epochs."""
        return jax.random.split(jax.random.fold_in(state.key, state.step))

    def take_epochs(
        self, state: TrainState, batch: Batch, entropy_weight: jax.Array, key: jax.Array
    ) -> tuple[Any, Any, dict[str, jax.Array]]:
        """Returns params and optimizer state after all epochs, and their metrics."""
        temperature = self.rollout_config.decoding.temperature
        part_loss = functools.partial(losses.loss, self.model, self.interaction.grammar, self.config, temperature, entropy_weight)
        first_block = self.first_of_device(self.num_blocks)
        epoch = functools.partial(take_epoch, self.optimizer, self.config, part_loss, batch, self.num_blocks, first_block, self.axis_name)
        carry, keys = (state.params, state.optimizer_state), jax.random.split(key, self.config.epochs)
        (params, optimizer_state), learned = jax.lax.scan(epoch, carry, keys)
        # Before the first step the policy is the behaviour policy, so any gap between their log-probs is numerical error.
        gap = learned.pop("max_log_prob_gap")[0, 0]
        gap = jax.lax.pmax(gap, self.axis_name) if self.axis_name else gap
        return params, optimizer_state, {**{name: jnp.mean(value) for name, value in learned.items()}, "max_log_prob_gap": gap}

    def new_lanes(self, key: jax.Array, curriculum: Any) -> Any:
        """Returns this device's lanes at the start of new episodes; the lanes of a group share a task."""
        num_lanes = self.config.num_lanes // self.num_devices
        index = self.first_of_device(num_lanes) + jnp.arange(num_lanes)
        key_lane, key_task = jax.random.split(key)
        fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        keys = fold(key_lane, index), fold(key_task, index // self.config.group_size)
        return rollout.start_lanes(self.interaction, curriculum, self.rollout_config, *keys)

    def curriculum_at(self, learned: Any, step: jax.Array) -> dict[str, Any]:
        """Returns the curriculum of an update: what `update_curriculum` has learned, and what schedules say."""
        return {**(learned or {}), **configs.curriculum_at(self.config.schedules, self.progress(step))}

    def progress(self, step: jax.Array) -> jax.Array:
        """Returns the fraction of this learner's updates that have been taken."""
        return (step - self.first_step if self.first_step else step) / self.config.num_updates

    def first_of_device(self, count: int) -> jax.Array | int:
        """Returns the index of this device's first lane (or block) among those of all devices, of which each has `count`."""
        return jax.lax.axis_index(self.axis_name) * count if self.axis_name else 0

    def total(self, value: jax.Array) -> jax.Array:
        """Returns a sum over devices."""
        return jax.lax.psum(value, axis_name=self.axis_name) if self.axis_name else value


def on_each_device(roll_out: Callable, mesh: Mesh) -> Callable:
    """Returns a rollout in which each device of a mesh rolls out its own lanes, without waiting for the others.

    Args:
      roll_out: `(params, curriculum, lanes) -> (lanes, trajectory, usage)`, for the lanes of one device.
      mesh: mesh with an axis `data`, along which lanes and trajectories are divided.

    Returns:
      The same function, for the lanes of all devices.
    """

    def of_device(params, curriculum, lanes):
        lanes, trajectory, usage = roll_out(params, curriculum, lanes)
        return lanes, trajectory, jax.lax.psum(usage, DATA_AXIS)

    everywhere, divided = PartitionSpec(), PartitionSpec(DATA_AXIS)
    places = {"in_specs": (everywhere, everywhere, divided), "out_specs": (divided, divided, everywhere)}
    return jax.shard_map(of_device, mesh=mesh, axis_names={DATA_AXIS}, check_vma=False, **places)


def in_parts(function: Callable, batch: Any, num_parts: int) -> Any:
    """Returns `function(batch)`, computed in `num_parts` parts along the first axis to save memory."""
    # A part takes every `num_parts`-th lane, so that it has lanes of every device.
    parts = jax.tree.map(lambda x: x.reshape(-1, num_parts, *x.shape[1:]).swapaxes(0, 1), batch)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), jax.lax.map(function, parts))
