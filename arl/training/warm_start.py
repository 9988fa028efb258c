"""A warm start: behaviour cloning of an expert, before an agent learns from rewards.

    warm = make_warm_start(interaction, policy, rollout_config, config, num_updates=50)
    learner = make_learner(interaction, policy, rollout_config, config, first_step=50)
    update = in_turn(50, jax.jit(warm.update), jax.jit(learner.update))
    state = run(update, learner.init(key), 50 + config.num_updates, ...)

Both parts of a run use the same state, that of `learner`, and count their updates together: the step of a state or checkpoint tells to
which part it belongs.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from arl.models import Policy
from arl.rollout import Decoding, RolloutConfig
from arl.training.config import LearnerConfig, Schedule
from arl.training.credit import Credit, monte_carlo
from arl.training.epoch import make_optimizer
from arl.training.learner import Experience, Learner, TrainState, make_learner
from arl.training.parallel import Update
from arl.types import ArlError, Interaction, Trajectory, select


def make_warm_start(
    interaction: Interaction,
    policy: Policy,
    rollout_config: RolloutConfig,
    config: LearnerConfig,
    *,
    num_updates: int,
    **options: Any,
) -> Learner:
    """Returns a learner that clones an expert: it minimises the cross-entropy of the expert's tokens, in episodes that the expert plays.

    It updates the states of the main learner, the one that follows, but leaves their lanes and learned curricula unchanged. Its lanes are
    new in every update, so only the start of an episode that is longer than a trajectory is cloned. Its last update resets the optimizer,
    and makes the parameters the reference of the KL. Its metrics report the expert's return as `expert/return`,
    `expert/return/outcome` and so on.

    Args:
      interaction: as `make_learner`.
      policy: as `make_learner`.
      rollout_config: rollout config of the main learner; its decoding is replaced by one that drops no candidates.
      config: config of the main learner. Batches, optimizer, aggregation and value loss are the same; the learning rate's schedule runs
        over these updates, and other schedules keep their initial values.
      num_updates: number of updates.
      **options: as `make_learner`; those of the main learner may be given, as `estimator`, `writer` and `first_step` are ignored.

    Returns:
      The learner.

    Raises:
      ArlError: if `num_updates` is below 1, if there is no expert, and as `make_learner`.
    """
    if num_updates < 1:
        raise ArlError(f"num_updates is {num_updates}; set it >= 1, or leave the warm start out")
    if not interaction.has_expert:
        raise ArlError(
            "there is no expert to imitate; give the environment an expert, or leave the warm start out (TrainConfig.warm_start=0)"
        )
    options |= {"estimator": _clone, "first_step": 0, "writer": None}
    imitated = interaction._replace(update_curriculum=None)  # the curriculum must adapt to the agent's outcomes, not the expert's
    cloning = make_learner(imitated, policy, expert_rollout(rollout_config), cloning_config(config, num_updates), **options)
    optimizer = options.get("optimizer") or make_optimizer(config)

    def learn(state: TrainState, experience: Experience):
        state, metrics = cloning.learn(state, experience)
        is_last = state.step == num_updates
        optimizer_state = select(is_last, optimizer.init(state.variables.trainable), state.optimizer_state)
        reference = None if state.reference is None else select(is_last, state.variables.trainable, state.reference)
        metrics = {f"expert/{name}" if name.startswith("return") else name: value for name, value in metrics.items()}
        return state._replace(optimizer_state=optimizer_state, reference=reference), metrics

    return Learner(cloning.init, cloning.collect, learn, cloning.shardings)


def _clone(trajectory: Trajectory, reward: jax.Array, config: LearnerConfig) -> Credit:
    """Returns the value targets of an expert's episodes; nothing is kept, as rewards teach nothing of what the expert leaves open."""
    credit = monte_carlo(trajectory, reward, config)
    return credit._replace(policy_mask=jnp.zeros_like(trajectory.is_sampled))


def expert_rollout(config: RolloutConfig) -> RolloutConfig:
    """Returns the config of a rollout in which the expert writes, with decoding that drops no candidates."""
    decoding = Decoding(temperature=config.decoding.temperature or 1.0, constrained=config.decoding.constrained)
    return dataclasses.replace(config, expert_fraction=1.0, expert_unit="episode", decoding=decoding)


def cloning_config(config: LearnerConfig, num_updates: int) -> LearnerConfig:
    """Returns the config for `num_updates` updates of behaviour cloning before a learner of config `config`."""
    begins = {name: float(schedule(0.0)) for name, schedule in config.schedules.items() if name != "expert.fraction"}
    return dataclasses.replace(
        config,
        num_updates=num_updates,
        group_size=1,
        estimator="monte_carlo",
        rules={},
        value_rule="",
        imitation_weight=1.0,
        entropy_weight=Schedule(),
        kl_weight=0.0,
        schedules={name: Schedule(value, value) for name, value in begins.items()},
    )


def in_turn(num_updates: int, first: Update, then: Update) -> Update:
    """Returns the update of a run in two parts, chosen on the host by the step of the state.

    Args:
      num_updates: number of updates of the first part.
      first: compiled update of the first part.
      then: compiled update of the second part.

    Returns:
      The update.
    """

    def update(state: TrainState):
        return first(state) if state.num_updates < num_updates else then(state)

    return update
