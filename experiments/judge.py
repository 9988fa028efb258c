"""What a trained agent is worth: whole lives on held-out seeds, with and without what it tells itself, and what it says in them."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from arl import agents, training
from arl.training import adaptation, evaluation
from arl.types import Interaction, Kind, State, Stream
from experiments.build import Experiment, make_agent
from experiments.config import EvaluationConfig
from experiments.tasks import environment_within
from experiments.transcript import typical_lives

HELD_OUT = 2**31  # folded into a run's key: no life of training has it
BEFORE, AFTER, SETTLED = 5, 8, 4  # steps around a shift that are told of, and from which on after it an agent should have recovered
GAP_LIVES = 256  # sampled, by which a greedy agent's gap between log-probs is measured
FEW_LIVES = 64  # of which transcripts during training are chosen


class Judged(NamedTuple):
    """What was found of an agent.

    Attributes:
      summary: plain numbers, see `judge`.
      stream: `[N, T]`, on the host, the lives that were judged.
    """

    summary: dict[str, Any]
    stream: Stream


def judge(
    experiment: Experiment, params: Any, seed: int, config: EvaluationConfig, report: Callable[[str], None] = lambda part: None
) -> Judged:
    """Returns what `evaluation.summarise` says of an agent, and what else is known of it where its task and its agent have such things.

    `ablations` is name -> normalised score, and `ablated_by_attempt` name -> outcome of each attempt, with notes that are not the
    agent's own; `bits` is kind -> what the first, the second, ... segment of that kind tells about what is hidden; `token_shares` is
    kind -> tokens written, by all tokens read; `bits_a_question` what an action of the agent and one of an expert tells;
    `around_shift` see `_around_shift`. A greedy choice has log-prob 0 for sampler and learner alike, so of an agent that is judged
    greedily `max_log_prob_gap` is measured on lives that it samples, `GAP_LIVES` at most.

    Args:
      experiment: the run.
      params: of the model.
      seed: of the held-out lives.
      config: how many, and whether greedy.
      report: told what is lived next, such as "notes shuffled (2 of 4)".
    """
    task, interaction = experiment.task, experiment.interaction
    ablations, kinds = _ablations(experiment), _kinds_of_notes(experiment)
    num_parts = 1 + len(ablations) + config.greedy + 2 * bool(task.bits) + bool(task.shifts)
    numbers = itertools.count(1)

    def live_as(name: str, interaction: Interaction, unseen=None, config=config) -> tuple[evaluation.Lives, Stream]:
        report(f"{name} ({next(numbers)} of {num_parts})")
        return live(experiment, params, seed, config, interaction, unseen)

    def summarise(lives: evaluation.Lives) -> dict[str, Any]:
        return evaluation.summarise(lives, task.floor, task.ceiling, task.success_at)

    lives, stream = live_as("the agent", interaction, _unseen(experiment))
    ablated = {
        name: summarise(live_as(ablation_label(name), evaluation.ablated(interaction, stream, kind, how))[0])
        for name, (kind, how) in ablations.items()
    }
    summary = summarise(lives) | {
        "ablations": {name: summary["fraction"] for name, summary in ablated.items()},
        "ablated_by_attempt": {name: summary["outcome_by_attempt"] for name, summary in ablated.items()},
        "bits": {},
        "token_shares": token_shares(stream),
    }
    if config.greedy:
        sampled = EvaluationConfig(num_lives=min(config.num_lives, GAP_LIVES))
        summary["max_log_prob_gap"] = float(live_as("sampled lives", interaction, config=sampled)[0].gap.max())
    if task.hidden:
        summary["bits"] = {kind.name.lower(): evaluation.bits_about(interaction, stream, kind, lives.unseen) for kind in kinds}
    if task.bits:
        summary["bits_a_question"] = _bits_a_question(experiment, live_as)
    if task.shifts:
        summary |= _around_shift(experiment, live_as, lives.unseen, stream)
    return Judged(summary, stream)


def _ablations(experiment: Experiment) -> dict[str, tuple[Kind, str]]:
    """Returns what is put in the place of the agent's notes: by the name in a summary, kind of segment and how."""
    task, kinds = experiment.task, _kinds_of_notes(experiment)
    ways = {"shuffled": "shuffled", "blanked": "blanked"}
    if task.expert_note or task.expert_reflection:
        ways["expert"] = "by an expert"
    named = lambda how, kind: ways[how] if len(kinds) == 1 else f"{kind.name.lower()} {ways[how]}"
    return {named(how, kind): (kind, how) for how, kind in itertools.product(ways, kinds)}


def ablation_label(name: str) -> str:
    """Returns an ablation's name in a summary as people read it: "notes shuffled", or "reflections shuffled" beside others."""
    kind, _, how = name.partition(" ")
    return f"{kind}s {how}" if kind.upper() in Kind.__members__ else f"notes {name}"


def _kinds_of_notes(experiment: Experiment) -> list[Kind]:
    """Returns the kinds of segments by which the agent tells itself something."""
    agent = experiment.config.agent
    return [Kind.REFLECTION] * (agent.carry == "reflection") + [Kind.NOTE] * bool(agent.memory_slots)


def _unseen(experiment: Experiment) -> Callable[[State], Any] | None:
    """Returns what of a life's first state its agent cannot see: the course of its rules, or what has to be found out."""
    task = experiment.task
    look = task.shifts.course if task.shifts else task.hidden
    return look and (lambda state: look(environment_within(state)))


def live(
    experiment: Experiment,
    params: Any,
    seed: int,
    config: EvaluationConfig,
    interaction: Interaction,
    unseen: Callable[[State], Any] | None = None,
) -> tuple[evaluation.Lives, Stream]:
    """Returns `config.num_lives` held-out lives of an agent in `interaction`, on the host; `unseen` as in `evaluation.live`."""
    lives = jax.jit(lambda params, key: _lived(experiment, params, key, config, interaction, unseen))
    return jax.device_get(lives(params, _key(seed)))


def make_transcripts(experiment: Experiment, seed: int) -> Callable[[Any], str]:
    """Returns `params -> text`: typical ones of a few held-out lives. It is compiled once, at the first call.

    Schedules are at their end, as when the agent is judged.

    Args:
      experiment: the run.
      seed: of the held-out lives.
    """
    config = EvaluationConfig(num_lives=min(experiment.config.evaluation.num_lives, FEW_LIVES))
    stream = jax.jit(lambda params: _lived(experiment, params, _key(seed), config, experiment.interaction)[1])
    return lambda params: typical_lives(experiment.interaction, experiment.tokenizer, jax.device_get(stream(params)))


def _lived(experiment: Experiment, params: Any, key: jax.Array, config: EvaluationConfig, interaction: Interaction, unseen=None):
    rollout = experiment.rollout
    if config.greedy:
        rollout = dataclasses.replace(rollout, decoding=dataclasses.replace(rollout.decoding, temperature=0.0))
    setting = training.setting_at(experiment.config.learner.schedules, 1.0)
    arguments = (interaction, experiment.model, rollout, params, setting, key)
    return evaluation.live(*arguments, config.num_lives, experiment.config.agent.num_attempts, unseen)


def _key(seed: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), HELD_OUT)


def token_shares(stream: Stream) -> dict[str, float]:
    """Returns the tokens written in segments of each kind, by the number of all tokens read; notes are read again wherever they cross."""
    written = np.bincount(np.asarray(stream.kind)[np.asarray(stream.is_written)], minlength=len(Kind))
    num_read = int(np.sum(np.asarray(stream.token_kind) > 0))
    return {kind.name.lower(): float(written[kind] / num_read) for kind in Kind if written[kind]}


def _bits_a_question(experiment: Experiment, live_as: Callable) -> dict[str, float]:
    """Returns the mean bits that an action told, to the agent and to an expert in its place."""
    config = dataclasses.replace(experiment.config.agent, bits=1.0, weighed=())
    asking = make_agent(experiment.tokenizer, experiment.task, config)._replace(grammar=experiment.interaction.grammar)

    def measured(name: str, interaction: Interaction) -> float:
        lives, stream = live_as(name, interaction)
        return float(np.sum(stream.reward.process) / np.sum(lives.actions))

    experts = agents.replace_by_expert(asking, Kind.ACTION)
    return {"agent": measured("bits a question", asking), "expert": measured("bits a question of an expert", experts)}


def _around_shift(experiment: Experiment, live_as: Callable, course: adaptation.Course, stream: Stream) -> dict[str, Any]:
    """Returns the curves around a shift, of the agent and of an expert in its place, and how much of an informed one's is recovered.

    `around_shift` has `step`, from the shift on, and by it `reward` and `expert`, what they earn, and `switches`, how often the agent
    answers a question otherwise than last time: its act of noticing. `recovered` is the agent's reward, and `expert_recovered` the
    expert's, from the `SETTLED`-th step after a shift on, as shares of that of one who always knows the rules.
    """
    experts = agents.replace_by_expert(experiment.interaction, Kind.ACTION)
    is_shift, asked = np.asarray(course.is_shift), np.asarray(course.asked)
    rewards, expert = (adaptation.rewards_by_step(x, is_shift.shape[1]) for x in (stream, live_as("an expert", experts)[1]))
    curves = {"reward": rewards, "expert": expert, "switches": adaptation.switches(experiment.interaction, stream, asked)}
    settled = adaptation.since_shift(is_shift) >= SETTLED
    informed = experiment.task.shifts.informed
    return {
        "around_shift": {"step": list(range(-BEFORE, AFTER))}
        | {name: adaptation.around_shift(values, is_shift, BEFORE, AFTER) for name, values in curves.items()},
        "recovered": float(rewards[settled].mean() / informed),
        "expert_recovered": float(expert[settled].mean() / informed),
    }
