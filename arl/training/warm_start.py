"""A warm start: before an agent learns from rewards it imitates its expert, on the same parameters and in the same count of updates.

    warm = make_warm_start(interaction, model, rollout_config, config, num_updates=50, vocab_size=V)
    learner = make_learner(interaction, model, rollout_config, config, vocab_size=V, first_step=50)
    update = in_turn(50, jax.jit(warm.update), jax.jit(learner.update))
    state = run(update, learner.init(key), 50 + config.num_updates, ...)

A state has one form all along: that of `learner`. Its step tells which part of the run it belongs to, and so does that of a checkpoint.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from arl.rollout import Decoding, RolloutConfig
from arl.training.config import LearnerConfig, Schedule
from arl.training.learner import Learner, TrainState, make_learner, make_optimizer
from arl.training.parallel import Update
from arl.types import Interaction, LanguageModel, select


def make_warm_start(
    interaction: Interaction,
    model: LanguageModel,
    rollout_config: RolloutConfig,
    config: LearnerConfig,
    *,
    num_updates: int,
    **options: Any,
) -> Learner:
    """Returns the learner of a run's first updates, behaviour cloning: cross-entropy of what the expert writes, in lives that it lives.

    It takes and gives the states of the learner that goes on: it leaves their lanes, and what `adapt` has learned, as they are. Its own
    lanes are new at every update, so of a life that is longer than a stream only the beginning is imitated. The last of its updates makes
    the optimizer anew, and takes the parameters that it has come to for the reference of a divergence. What the expert earned stands in
    its metrics as `expert/return`, `expert/return/outcome` and so on.

    Args:
      interaction, model: as `make_learner`.
      rollout_config: of the learner that goes on; what decoding would drop is not dropped here.
      config: of the learner that goes on. Its batches, optimizer, aggregation and value loss hold here too; its learning rate is followed
        over these updates, other schedules stand still where they begin.
      num_updates: how many.
      **options: as `make_learner`; those of the learner that goes on may be given, of which `estimate` and `first_step` are not looked at.

    Returns:
      The learner.

    Raises:
      ValueError: if there is no update, or no expert, and as `make_learner`.
    """
    if num_updates < 1:
        raise ValueError(f"a warm start of {num_updates} updates is none; set it >= 1, or leave it out")
    if interaction.expert is None:
        raise ValueError("nobody can be imitated here; give the environment an expert, or leave the warm start out (warm_start=0)")
    options |= {"estimate": None, "first_step": 0}
    imitated = interaction._replace(adapt=None)  # outcomes are the expert's, not the agent's
    cloning = make_learner(imitated, model, expert_rollout(rollout_config), cloning_config(config, num_updates), **options)
    optimizer = make_optimizer(config)

    def update(state: TrainState):
        state, metrics = cloning.update(state)
        is_last = state.step == num_updates
        optimizer_state = select(is_last, optimizer.init(state.params), state.optimizer_state)
        reference = None if state.reference is None else select(is_last, state.params, state.reference)
        metrics = {f"expert/{name}" if name.startswith("return") else name: value for name, value in metrics.items()}
        return state._replace(optimizer_state=optimizer_state, reference=reference), metrics

    return Learner(cloning.init, update)


def expert_rollout(config: RolloutConfig) -> RolloutConfig:
    """Returns a rollout's config under which the expert writes, and nothing is dropped that it may write."""
    decoding = Decoding(temperature=config.decoding.temperature or 1.0, constrained=config.decoding.constrained)
    return dataclasses.replace(config, expert=True, decoding=decoding)


def cloning_config(config: LearnerConfig, num_updates: int) -> LearnerConfig:
    """Returns a learner's config for `num_updates` updates of behaviour cloning before it."""
    begins = {name: float(schedule(0.0)) for name, schedule in config.schedules.items()}
    return dataclasses.replace(
        config,
        num_updates=num_updates,
        group_size=1,
        credit="cloning",
        normalize=False,
        policy_loss="cross_entropy",
        entropy=Schedule(),
        kl_weight=0.0,
        schedules={name: Schedule(value, value) for name, value in begins.items()},
    )


def in_turn(num_updates: int, first: Update, then: Update) -> Update:
    """Returns the update of a run in two parts: by the step of the state that it is given, on the host.

    Args:
      num_updates: how many the first part has.
      first: its update, compiled.
      then: that of all the others, compiled.
    """

    def update(state: TrainState):
        step = int(np.max(jax.device_get(state.step)))  # under `pmap`, or of several seeds, there are several: all the same
        return first(state) if step < num_updates else then(state)

    return update
