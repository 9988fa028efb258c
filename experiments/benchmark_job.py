"""The job on which the benchmark measures the rollout and the learner.

The task: two arms, eight pulls, and before each pull a thought of seven tokens. A turn has 24 tokens to read and 8 to write, and every
episode has 8 turns, so that all implementations read and write the same number of tokens.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from arl import agents, envs, models, rollout, text
from arl.models import Policy
from arl.rollout import RolloutConfig
from arl.runs import devices
from arl.training import LearnerConfig
from arl.training import credit as credits
from arl.training import loss as losses
from arl.training.layout import DATA_AXIS
from arl.types import Interaction, Trajectory

NUM_ARMS, NUM_TURNS, THOUGHT = 2, 8, 7
ADVICE = " A 1 or B 1 for 8 steps: A 0: B 1: A 1: B 0: think"  # 22 tokens, as long as a line of advice is
LENGTH = 264  # of a trajectory: the 261 tokens that are read in an episode, and one more, in whole vector registers


class Job(NamedTuple):
    """The task, a model, and how lanes are rolled out.

    Attributes:
      tokenizer: tokenizer of all texts.
      interaction: the agent in its environment.
      config: config of the model.
      policy: the policy.
      variables: variables of the policy.
      rollout: config of the rollout.
      mesh: mesh of the CPU's cores, or of the accelerators.
    """

    tokenizer: Any
    interaction: Interaction
    config: models.ModelConfig
    policy: Policy
    variables: Any
    rollout: RolloutConfig
    mesh: Mesh


def make_job(size: str = "1M", num_turns: int = NUM_TURNS) -> Job:
    """Returns the task and a model of a preset's size."""
    tokenizer = text.load_tokenizer()
    task = envs.Bandit(NUM_ARMS, num_turns).make(tokenizer)
    interaction = agents.make_agent(task, (agents.Act(), agents.Think(THOUGHT, stop=False, before=ADVICE, after="")))
    config = models.preset(size, len(tokenizer), context_length=interaction.size.context)
    policy = models.make_policy(config)
    length = min(LENGTH, interaction.size.episode + 1)  # of fewer turns
    rollout_config = RolloutConfig(trajectory_length=length, context_length=interaction.size.context, widths=((1, 25),))
    return Job(tokenizer, interaction, config, policy, policy.init(jax.random.key(0)), rollout_config, devices.make_mesh())


def roll_out(job: Job, num_lanes: int):
    """Returns our side: a function of a seed that gives the trajectory `[num_lanes, T]` and the usage; each core rolls out its part."""

    def run(variables, keys):
        lanes = rollout.start_lanes(job.interaction, {}, job.rollout, keys, keys)
        _, trajectory, usage = rollout.roll_out(job.interaction, job.policy, job.rollout, variables, {}, lanes)
        return trajectory, jax.lax.psum(usage, DATA_AXIS)

    everywhere, divided = PartitionSpec(), PartitionSpec(DATA_AXIS)
    sharded = jax.shard_map(run, mesh=job.mesh, in_specs=(everywhere, divided), out_specs=(divided, everywhere), check_vma=False)
    program = jax.jit(lambda variables, seed: sharded(variables, jax.random.split(jax.random.key(seed), num_lanes)))
    return functools.partial(program, job.variables)


def make_batch(job: Job, num_lanes: int) -> tuple[losses.Batch, losses.Totals, LearnerConfig]:
    """Returns lanes to learn from, as the learner makes them, and what their losses are divided by."""
    return to_batch(roll_out(job, num_lanes)(0)[0])


def to_batch(trajectory: Trajectory) -> tuple[losses.Batch, losses.Totals, LearnerConfig]:
    """Returns the same of a trajectory `[B, T]`."""
    config = LearnerConfig(num_lanes=trajectory.token.shape[0])
    credit = credits.gae(trajectory, credits.total_reward(trajectory.reward), config)
    batch = losses.Batch(
        trajectory,
        credit.advantage,
        credit.target,
        credit.policy_mask,
        credit.policy_mask,
        trajectory.log_prob,
        jnp.zeros_like(credit.target),
    )
    return batch, losses.count(batch, config), config


def our_step(job: Job, batch: losses.Batch, totals: losses.Totals, config: LearnerConfig, microbatch: int):
    """Returns our side: the gradient of the loss of a batch, added up over microbatches of each core and over cores."""
    part_loss = functools.partial(losses.loss, job.policy, job.interaction.grammar, config, 1.0, config.entropy_weight(0.0))

    def step(variables, batch):
        def add(summed, part):
            gradient = jax.grad(lambda variables: part_loss(totals, variables, part)[0])(variables)
            return jax.tree.map(jnp.add, summed, gradient), None

        parts = jax.tree.map(lambda x: x.reshape(-1, microbatch, *x.shape[1:]), batch)
        return jax.lax.psum(jax.lax.scan(add, jax.tree.map(jnp.zeros_like, variables), parts)[0], DATA_AXIS)

    everywhere, divided = PartitionSpec(), PartitionSpec(DATA_AXIS)
    sharded = jax.shard_map(step, mesh=job.mesh, in_specs=(everywhere, divided), out_specs=everywhere, check_vma=False)
    return functools.partial(jax.jit(sharded), job.variables, batch)
