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
from arl.checks import check_key
from arl.models import Policy, Variables
from arl.rollout import RolloutConfig, Writer
from arl.training import check, rules
from arl.training import config as configs
from arl.training import loss as losses
from arl.training.backend import backend_fault
from arl.training.config import LearnerConfig
from arl.training.credit import ESTIMATORS, Estimator, NamedEstimator, is_decision, is_own_decision, regularizer_mask, total_reward
from arl.training.epoch import make_optimizer, take_epoch
from arl.training.layout import Layout
from arl.training.loss import Batch
from arl.training.metrics import WRITTEN_KINDS, imitation_metrics, size_metrics, trajectory_metrics
from arl.training.scoring import score
from arl.types import Interaction, Trajectory


class TrainState(NamedTuple):
    """All state that an update takes from the one before.

    Attributes:
      variables: `Variables` of the policy.
      optimizer_state: state of the optax optimizer, of the trainable variables.
      reference: trainable variables of the reference policy; None without a KL, or where the policy knows its reference.
      lanes: `Lane` `[B]`, whose episodes continue in the next trajectory; None if every trajectory begins new episodes.
      curriculum: the learned part of the curriculum, see `Interaction.update_curriculum`; its schedules are computed from `step`.
      key: typed random key of the run.
      step: int32 `[]`, number of updates taken.
    """

    variables: Variables
    optimizer_state: Any
    reference: Any
    lanes: Any
    curriculum: Any
    key: jax.Array
    step: jax.Array

    @property
    def num_updates(self) -> int:
        """The step as a number on the host; under `jax.pmap` and for several seeds there are several, all equal."""
        return int(jax.device_get(self.step).max())


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
      init: `(key, pretrained=None) -> TrainState`; `pretrained` as in `Policy.init`.
      collect: `TrainState -> Experience`.
      learn: `(TrainState, Experience) -> (TrainState, metrics)`, metrics float32 `[]` by name.
      shardings: `TrainState -> TrainState` of shardings on the mesh of its layout, from a state or its `jax.eval_shape`: for
        `jax.device_put`, or the `out_shardings` of a jitted `init`.
    """

    init: Callable[..., TrainState]
    collect: Callable[[TrainState], Experience]
    learn: Callable[[TrainState, Experience], tuple[TrainState, dict[str, jax.Array]]]
    shardings: Callable[[TrainState], TrainState]

    def update(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Returns the state after one update, and its metrics."""
        return self.learn(state, self.collect(state))


def make_learner(
    interaction: Interaction,
    policy: Policy,
    rollout_config: RolloutConfig,
    config: LearnerConfig,
    *,
    estimator: Estimator | None = None,
    optimizer: optax.GradientTransformation | None = None,
    curriculum: Any = None,
    first_step: int = 0,
    importance_cap: float = 2.0,
    writer: Writer | None = None,
    layout: Layout = Layout(),
) -> Learner:
    """Returns the training program of an agent.

    Args:
      interaction: the agent in its environment.
      policy: the policy that writes.
      rollout_config: how lanes are rolled out.
      config: how the agent learns from its trajectories.
      estimator: of advantages, a function; None takes `config.estimator`. Its advantages are standardised if `config.normalize` is set.
      optimizer: optimizer of the trainable variables; None for that of `make_optimizer(config)`.
      curriculum: initial value of the part that `interaction.update_curriculum` changes; None for what the layers begin with.
      first_step: number of updates before this learner's first one, those of a warm start; its schedules start there.
      importance_cap: largest importance weight of a token where `policy.behaviour` rolls out with other variables; see
        `objectives.truncated_weight`.
      writer: writes segments in the policy's place; None for the experts, if `rollout_config.expert_fraction` is above 0.
      layout: how the program is divided among devices.

    Returns:
      The learner.

    Raises:
      ArlError: if the arguments do not fit together; also by `update`, when it is traced, if `estimator` returns no `Credit` or
        `update_curriculum` returns a curriculum of another form.
    """
    if fault := backend_fault():
        warnings.warn(fault, RuntimeWarning, stacklevel=2)
    check.check_parts(interaction, policy, rollout_config, config, curriculum, first_step)
    check.check_estimator(rollout_config, config, estimator)
    check.check_writer(rollout_config, config, writer)
    check.check_layout(config, layout)
    check.check_importance_cap(importance_cap)
    rollout.check_rollout(interaction, rollout_config, policy.vocab_size)
    if rollout_config.expert_fraction:
        writer = rollout.expert_writer(interaction, rollout_config.expert_fraction, rollout_config.expert_unit)
    roll_out = functools.partial(rollout.roll_out, interaction, policy, rollout_config, writer=writer, axis_name=layout.seed_axis)
    program = _Program(
        interaction,
        policy,
        rollout_config,
        rules.with_own_rules(config, interaction.writes),
        estimator=NamedEstimator(estimator) if estimator else ESTIMATORS[config.estimator],
        optimizer=optimizer or make_optimizer(config),
        roll_out=roll_out if layout.mesh is None else on_each_device(roll_out, layout.mesh),
        curriculum=curriculum or configs.first_curriculum(interaction.layers),
        first_step=first_step,
        importance_cap=importance_cap,
        has_writer=writer is not None,
        layout=layout,
    )
    return Learner(program.init, program.collect, program.learn, program.shardings)


@dataclasses.dataclass(frozen=True)
class _Program:
    """The functions of a learner, and what they are made from; see `make_learner`."""

    interaction: Interaction
    policy: Policy
    rollout_config: RolloutConfig
    config: LearnerConfig
    estimator: NamedEstimator
    optimizer: optax.GradientTransformation
    roll_out: Callable
    curriculum: Any
    first_step: int
    importance_cap: float
    has_writer: bool
    layout: Layout

    @property
    def axis_name(self) -> str | None:
        """Mapped axis of devices, if there is one."""
        return self.layout.device_axis

    @property
    def keeps_lanes(self) -> bool:
        """Whether episodes go on in the next trajectory."""
        # A warm start begins new episodes, and passes `state.lanes` through to the learner that follows.
        is_warm_start = self.rollout_config.expert_fraction == 1 and "expert.fraction" not in self.config.schedules
        return self.rollout_config.restarts and not is_warm_start

    @property
    def num_blocks(self) -> int:
        """Blocks of lanes of this device."""
        return self.config.num_blocks // self.layout.num_devices

    def init(self, key: jax.Array, pretrained: Any = None) -> TrainState:
        check_key(key)
        key_policy, key_run, key_lanes = jax.random.split(key, 3)
        variables = self.policy.init(key_policy, pretrained)
        now = self.curriculum_at(self.curriculum, jnp.int32(self.first_step))
        lanes = self.new_lanes(key_lanes, now) if self.keeps_lanes else None
        keeps_reference = self.config.kl_weight and self.policy.reference is None
        reference = jax.tree.map(jnp.copy, variables.trainable) if keeps_reference else None
        optimizer_state = self.optimizer.init(variables.trainable)
        return TrainState(variables, optimizer_state, reference, lanes, self.curriculum, key_run, jnp.int32(0))

    def collect(self, state: TrainState) -> Experience:
        key_lanes, _ = self.keys(state)
        now = self.curriculum_at(state.curriculum, state.step)
        lanes = state.lanes if self.keeps_lanes else self.new_lanes(key_lanes, now)
        behaviour = self.policy.behaviour or (lambda variables: variables)
        lanes, trajectory, usage = self.roll_out(behaviour(state.variables), now, lanes)
        return Experience(trajectory, lanes if self.keeps_lanes else state.lanes, usage)

    def learn(self, state: TrainState, experience: Experience) -> tuple[TrainState, dict[str, jax.Array]]:
        trajectory, lanes, usage = experience
        if self.layout.divides_weights:  # rollouts divide lanes over all axes, the loss does not over "tensor"
            trajectory = jax.lax.with_sharding_constraint(trajectory, self.layout.named(self.layout.lanes))
        _, key_epochs = self.keys(state)
        batch, metrics = self.make_batch(state, trajectory)
        entropy_weight = self.config.entropy_weight(self.progress(state.step))
        variables, optimizer_state, learned = self.take_epochs(state, batch, entropy_weight, key_epochs)

        metrics |= learned | trajectory_metrics(trajectory, usage, self.total, self.interaction.writes or WRITTEN_KINDS)
        metrics |= size_metrics(trajectory, self.interaction.size, self.total)
        if self.has_writer:
            metrics |= imitation_metrics(trajectory, self.total)
        metrics["entropy_weight"] = entropy_weight
        adapted = self.interaction.update_curriculum(state.curriculum, metrics) if self.interaction.update_curriculum else state.curriculum
        check.check_adapted(state.curriculum, adapted)
        return TrainState(variables, optimizer_state, state.reference, lanes, adapted, state.key, state.step + 1), metrics

    def shardings(self, state: TrainState) -> TrainState:
        layout, everywhere = self.layout, lambda tree: jax.tree.map(lambda _: PartitionSpec(), tree)
        variables = layout.weights(self.policy, state.variables)
        of_weights = functools.partial(layout.like_weights, state.variables.trainable, variables.trainable)
        partitions = TrainState(
            variables=variables,
            optimizer_state=of_weights(state.optimizer_state),
            reference=of_weights(state.reference),
            lanes=jax.tree.map(lambda _: layout.lanes, state.lanes),
            curriculum=everywhere(state.curriculum),
            key=PartitionSpec(),
            step=PartitionSpec(),
        )
        return layout.named(partitions)

    def make_batch(self, state: TrainState, trajectory: Trajectory) -> tuple[Batch, dict[str, jax.Array]]:
        """Returns the batch to learn from: advantages, value targets and log-probs of the reference."""
        config, old = self.config, trajectory.log_prob
        reward, reference = total_reward(trajectory.reward) * config.reward_scale, jnp.zeros_like(old)
        if self.policy.behaviour:
            old = self.log_probs(state.variables, trajectory)
        if config.kl_weight:
            reference = self.log_probs(self.reference_of(state), trajectory)
            if config.kl_in_reward:
                own = is_own_decision(trajectory)
                divergence = objectives.KL_ESTIMATORS[config.kl_estimator](old, reference, own)
                reward = objectives.kl_in_reward(reward, divergence, own, config.kl_weight)
        credit = rules.assign(trajectory, reward, config, self.estimator, self.axis_name)
        advantage = credit.advantage
        if self.policy.behaviour:
            advantage *= objectives.truncated_weight(old, trajectory.log_prob, is_decision(trajectory), cap=self.importance_cap)
        regularized = regularizer_mask(trajectory, credit.policy_mask, config)
        batch = Batch(trajectory, advantage, credit.target, credit.policy_mask, regularized, old, reference)
        explained = objectives.explained_variance(trajectory.value, credit.target, trajectory.is_sampled, self.axis_name)
        return batch, {"explained_variance": explained, **jax.tree.map(self.total, credit.metrics)}

    def log_probs(self, variables: Any, trajectory: Trajectory) -> jax.Array:
        """Returns the log-probs of the sampled tokens under other variables, float32 `[B, T]`, nats."""
        temperature = self.rollout_config.decoding.temperature
        scored = functools.partial(score, self.policy, self.interaction.grammar, variables, temperature=temperature)
        return in_parts(scored, trajectory, self.config.num_lanes // self.config.microbatch_size)[0]

    def reference_of(self, state: TrainState) -> Any:
        """Returns the variables of the reference policy."""
        return self.policy.reference(state.variables) if self.policy.reference else state.variables._replace(trainable=state.reference)

    def keys(self, state: TrainState) -> jax.Array:
        """Returns the two random keys of an update: of its new lanes, and of its epochs."""
        return jax.random.split(jax.random.fold_in(state.key, state.step))

    def take_epochs(
        self, state: TrainState, batch: Batch, entropy_weight: jax.Array, key: jax.Array
    ) -> tuple[Variables, Any, dict[str, jax.Array]]:
        """Returns variables and optimizer state after all epochs, and their metrics."""
        temperature = self.rollout_config.decoding.temperature
        loss = functools.partial(losses.loss, self.policy, self.interaction.grammar, self.config, temperature, entropy_weight)
        part_loss = lambda totals, trainable, part: loss(totals, state.variables._replace(trainable=trainable), part)
        first_block = self.first_of_device(self.num_blocks)
        epoch = functools.partial(take_epoch, self.optimizer, self.config, part_loss, batch, self.num_blocks, first_block, self.axis_name)
        carry, keys = (state.variables.trainable, state.optimizer_state), jax.random.split(key, self.config.num_epochs)
        (trainable, optimizer_state), learned = jax.lax.scan(epoch, carry, keys)
        # Before the first step any gap is numerical error, unless other variables rolled out (`Policy.behaviour`).
        gap = learned.pop("max_log_prob_gap")[0, 0]
        gap = jax.lax.pmax(gap, self.axis_name) if self.axis_name else gap
        learned = {name: jnp.mean(value) for name, value in learned.items()}
        return state.variables._replace(trainable=trainable), optimizer_state, {**learned, "max_log_prob_gap": gap}

    def new_lanes(self, key: jax.Array, curriculum: Any) -> Any:
        """Returns this device's lanes at the start of new episodes; the lanes of a group share a task."""
        num_lanes = self.config.num_lanes // self.layout.num_devices
        index = self.first_of_device(num_lanes) + jnp.arange(num_lanes)
        key_lane, key_task = jax.random.split(key)
        fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        keys = fold(key_lane, index), fold(key_task, index // self.config.group_size)
        return rollout.start_lanes(self.interaction, curriculum, self.rollout_config, *keys, has_writer=self.has_writer)

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
      roll_out: `(variables, curriculum, lanes) -> (lanes, trajectory, usage)`, for the lanes of one device.
      mesh: mesh, among all devices of which lanes and trajectories are divided.

    Returns:
      The same function, for the lanes of all devices.
    """

    def of_device(variables, curriculum, lanes):
        lanes, trajectory, usage = roll_out(variables, curriculum, lanes)
        return lanes, trajectory, jax.lax.psum(usage, mesh.axis_names)

    everywhere, divided = PartitionSpec(), PartitionSpec(tuple(mesh.axis_names))
    in_specs, out_specs = (everywhere, everywhere, divided), (divided, divided, everywhere)
    return jax.shard_map(of_device, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def in_parts(function: Callable, batch: Any, num_parts: int) -> Any:
    """Returns `function(batch)`, computed in `num_parts` parts along the first axis to save memory."""
    # A part takes every `num_parts`-th lane, so that it has lanes of every device.
    parts = jax.tree.map(lambda x: x.reshape(-1, num_parts, *x.shape[1:]).swapaxes(0, 1), batch)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), jax.lax.map(function, parts))
