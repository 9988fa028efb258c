"""What a trained agent is worth: whole lives on held-out seeds, with and without what it tells itself, and what it says in them."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from arl import agents, training
from arl.training import adaptation, evaluation
from arl.types import Interaction, Kind, State, Stream
from experiments.build import Experiment, make_agent
from experiments.config import EvaluationConfig
from experiments.tasks import environment_within

HELD_OUT = 2**31  # folded into a run's key: no life of training has it
BEFORE, AFTER, SETTLED = 5, 8, 4  # steps around a shift that are told of, and from which on after it an agent should have recovered


def judge(experiment: Experiment, params: Any, seed: int, config: EvaluationConfig) -> dict[str, Any]:
    """Returns what `evaluation.summarise` says of an agent, and what else is known of it where its task and its agent have such things.

    `ablations` is name -> fraction of the way, and `ablated_by_attempt` name -> outcome of each attempt, with notes that are not the
    agent's own; `bits` is kind -> what the first, the second, ... segment of that kind tells about what is hidden; `token_shares` is
    kind -> tokens written, by all tokens read; `bits_a_question` what an action of the agent and one of an expert tells;
    `around_shift` see `_around_shift`. Greedy lives tell of no gap between log-probs.

    Args:
      experiment: the run.
      params: of the model.
      seed: of the held-out lives.
      config: how many, and whether greedy.

    Returns:
      Plain numbers.
    """
    task, interaction = experiment.task, experiment.interaction
    live_with = functools.partial(live, experiment, params, seed, config)
    summarise = functools.partial(evaluation.summarise, floor=task.floor, ceiling=task.ceiling, success_at=task.success_at)
    lives, stream = live_with(interaction, _unseen(experiment))
    ablated, kinds = {}, _kinds_of_notes(experiment)
    ways = {"shuffled": "shuffled", "blanked": "blanked"}
    if task.expert_note or task.expert_reflection:
        ways["expert"] = "by an expert"
    for how, kind in itertools.product(ways, kinds):
        name = ways[how] if len(kinds) == 1 else f"{kind.name.lower()} {ways[how]}"
        ablated[name] = summarise(live_with(evaluation.ablated(interaction, stream, kind, how))[0])
    judged = summarise(lives) | {
        "ablations": {name: summary["fraction"] for name, summary in ablated.items()},
        "ablated_by_attempt": {name: summary["outcome_by_attempt"] for name, summary in ablated.items()},
        "bits": {},
        "token_shares": token_shares(stream),
    }
    if config.greedy:  # a greedy choice has log-prob 0 on both sides: no gap is measured
        del judged["max_log_prob_gap"]
    if task.hidden:
        judged["bits"] = {kind.name.lower(): evaluation.bits_about(interaction, stream, kind, lives.unseen) for kind in kinds}
    if task.bits:
        judged["bits_a_question"] = _bits_a_question(experiment, live_with)
    if task.shifts:
        judged |= _around_shift(experiment, live_with, lives.unseen, stream)
    return judged


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
    rollout = experiment.rollout
    if config.greedy:
        rollout = dataclasses.replace(rollout, decoding=dataclasses.replace(rollout.decoding, temperature=0.0))
    key = jax.random.fold_in(jax.random.key(seed), HELD_OUT)
    setting = training.setting_at(experiment.config.learner.schedules, 1.0)
    arguments = (interaction, experiment.model, rollout)
    how_many = (config.num_lives, experiment.config.agent.num_attempts)
    lives = jax.jit(lambda params, key: evaluation.live(*arguments, params, setting, key, *how_many, unseen))
    return jax.device_get(lives(params, key))


def token_shares(stream: Stream) -> dict[str, float]:
    """Returns the tokens written in segments of each kind, by the number of all tokens read; notes are read again wherever they cross."""
    written = np.bincount(np.asarray(stream.kind)[np.asarray(stream.is_written)], minlength=len(Kind))
    num_read = int(np.sum(np.asarray(stream.token_kind) > 0))
    return {kind.name.lower(): float(written[kind] / num_read) for kind in Kind if written[kind]}


def _bits_a_question(experiment: Experiment, live_with: Callable) -> dict[str, float]:
    """Returns the mean bits that an action told, to the agent and to an expert in its place."""
    config = dataclasses.replace(experiment.config.agent, bits=1.0, weighed=())
    asking = make_agent(experiment.tokenizer, experiment.task, config)._replace(grammar=experiment.interaction.grammar)

    def measured(interaction: Interaction) -> float:
        lives, stream = live_with(interaction)
        return float(np.sum(stream.reward.process) / np.sum(lives.actions))

    return {"agent": measured(asking), "expert": measured(agents.replace_by_expert(asking, Kind.ACTION))}


def _around_shift(experiment: Experiment, live_with: Callable, course: adaptation.Course, stream: Stream) -> dict[str, Any]:
    """Returns the curves around a shift, of the agent and of an expert in its place, and how much of an informed one's is recovered.

    `around_shift` has `step`, from the shift on, and by it `reward` and `expert`, what they earn, and `switches`, how often the agent
    answers a question otherwise than last time: its act of noticing. `recovered` is the agent's reward, and `expert_recovered` the
    expert's, from the `SETTLED`-th step after a shift on, as shares of that of one who always knows the rules.
    """
    experts = agents.replace_by_expert(experiment.interaction, Kind.ACTION)
    is_shift, asked = np.asarray(course.is_shift), np.asarray(course.asked)
    rewards, expert = (adaptation.rewards_by_step(x, is_shift.shape[1]) for x in (stream, live_with(experts)[1]))
    curves = {"reward": rewards, "expert": expert, "switches": adaptation.switches(experiment.interaction, stream, asked)}
    settled = adaptation.since_shift(is_shift) >= SETTLED
    informed = experiment.task.shifts.informed
    return {
        "around_shift": {"step": list(range(-BEFORE, AFTER))}
        | {name: adaptation.around_shift(values, is_shift, BEFORE, AFTER) for name, values in curves.items()},
        "recovered": float(rewards[settled].mean() / informed),
        "expert_recovered": float(expert[settled].mean() / informed),
    }


def transcripts(experiment: Experiment, params: Any, seed: int, num_lives: int = 4) -> str:
    """Returns a few held-out lives of an agent as text for people."""
    from experiments.transcript import events, to_text

    config = EvaluationConfig(num_lives=num_lives)
    _, stream = live(experiment, params, seed, config, experiment.interaction)
    lives = [to_text(events(experiment.interaction, experiment.tokenizer, stream, lane)) for lane in range(num_lives)]
    return "\n\n".join(f"life {index}\n{life}" for index, life in enumerate(lives))
