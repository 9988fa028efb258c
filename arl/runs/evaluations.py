"""Evaluation of a trained agent on held-out episodes, with its own notes and with others in their place, and transcripts."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from arl import agents, training
from arl.runs.config import EvaluationConfig
from arl.runs.devices import on_one_device
from arl.runs.experiment import Experiment
from arl.runs.transcript import typical_episodes
from arl.task import Course, Shifts
from arl.training import adaptation, calibration, evaluation
from arl.types import AgentState, Interaction, Kind, Trajectory

HELD_OUT = 2**31  # folded into the key of a run, so that no episode of training has the same key; the next one: evaluations on the way
BEFORE, AFTER, SETTLED = 5, 8, 4  # steps before and after a shift in its curves, and steps within which an agent should recover
GAP_EPISODES = 256  # most sampled episodes on which the log-prob gap of a greedy agent is measured
FEW_EPISODES = 512  # most episodes of an evaluation during training


class AgentEvaluation(NamedTuple):
    """The evaluation of an agent.

    Attributes:
      summary: plain numbers, see `evaluate_agent`.
      trajectory: `[N, T]`, on the host, the evaluated episodes.
    """

    summary: dict[str, Any]
    trajectory: Trajectory


def evaluate_agent(
    experiment: Experiment, variables: Any, seed: int, config: EvaluationConfig, report: Callable[[str], None] = lambda part: None
) -> AgentEvaluation:
    """Returns the evaluation of an agent; its summary is that of `evaluation.summarise`, with the fields below.

    `ablations` is name -> normalised score (or outcome, if the bounds are not known), and `ablated_by_attempt` name -> outcome of each
    attempt, both with other notes in place of the agent's; `bits_by_segment` is kind -> information about the hidden variable in the first,
    second, ... segment of that kind; `token_fractions` is kind -> tokens written, as a fraction of all tokens read; `bits_per_action` is
    the information from an action of the agent and of an expert; for `around_shift`, see `_around_shift`; for `confidence` and
    `confidence_head`, of an agent that states one or a model that has one, see `calibration.summarise_forecasts`. In greedy decoding
    sampler and learner both have log-prob 0, so `max_log_prob_gap` is then measured on at most `GAP_EPISODES` sampled episodes.

    Args:
      experiment: the run.
      variables: variables of the policy.
      seed: seed of the held-out episodes.
      config: number of episodes, and whether decoding is greedy.
      report: called with what is played next, such as "notes shuffled (2 of 4)".
    """
    task, interaction = experiment.task, experiment.interaction
    ablations, kinds = _ablations(experiment), _kinds_of_notes(experiment)
    num_parts = 1 + len(ablations) + config.greedy + 2 * bool(task.information_gain) + bool(task.shifts) + _has_posterior(experiment)
    numbers = itertools.count(1)

    def play_as(name: str, interaction: Interaction, record=None, config=config) -> tuple[evaluation.Episodes, Trajectory]:
        report(f"{name} ({next(numbers)} of {num_parts})")
        return play(experiment, variables, seed, config, interaction, record)

    def summarise(episodes: evaluation.Episodes) -> dict[str, Any]:
        return evaluation.summarise(episodes, experiment.bounds)

    episodes, trajectory = play_as("the agent", interaction, _hidden(experiment))
    ablated = {
        name: summarise(play_as(ablation_label(name), evaluation.ablated(interaction, trajectory, kind, how))[0])
        for name, (kind, how) in ablations.items()
    }
    summary = summarise(episodes) | {
        "ablations": {name: summary.get("normalised_score", summary["score"]) for name, summary in ablated.items()},
        "ablated_by_attempt": {name: summary["outcome_by_attempt"] for name, summary in ablated.items()},
        "bits_by_segment": {},
        "token_fractions": token_fractions(trajectory),
    }
    if config.greedy:
        sampled = EvaluationConfig(num_episodes=min(config.num_episodes, GAP_EPISODES))
        summary["max_log_prob_gap"] = float(play_as("sampled episodes", interaction, config=sampled)[0].gap.max())
    if task.hidden:
        informs = lambda kind: evaluation.segment_information(interaction, trajectory, kind, episodes.recorded)
        summary["bits_by_segment"] = {kind.name.lower(): informs(kind) for kind in kinds}
    if task.information_gain:
        summary["bits_per_action"] = _bits_per_action(experiment, play_as)
    if task.shifts:
        summary |= _around_shift(experiment, task.shifts, play_as, episodes.recorded, trajectory)
    summary |= _forecasts(experiment, variables, play_as, trajectory)
    return AgentEvaluation(summary, trajectory)


def _has_posterior(experiment: Experiment) -> bool:
    """Returns whether the agent states confidences that can be compared with an exact posterior."""
    return Kind.CONFIDENCE in experiment.interaction.writes and experiment.task.posterior is not None


def _forecasts(experiment: Experiment, variables: Any, play_as: Callable, trajectory: Trajectory) -> dict[str, dict[str, float]]:
    """Returns the calibration of an agent's confidences, with `posterior_brier` of the exact posterior about the same answers."""
    interaction, found = experiment.interaction, {}
    if Kind.CONFIDENCE in interaction.writes:
        found["confidence"] = calibration.summarise_forecasts(calibration.stated(interaction, trajectory))
    if _has_posterior(experiment):
        layer = calibration.confidence_layer(interaction)
        _, informed = play_as("confidences of the posterior", agents.replace_by_expert(interaction, Kind.CONFIDENCE))
        is_paid = informed.ends_segment & (informed.kind == Kind.CONFIDENCE)
        found["confidence"]["posterior_brier"] = float(np.mean(layer.squared_error(np.asarray(informed.reward.own)[is_paid])))
    if "confidence" in experiment.policy.heads:
        foreseen = jax.jit(functools.partial(calibration.foreseen, experiment.policy, success_at=experiment.config.learner.success_at))
        found["confidence_head"] = calibration.summarise_forecasts(jax.device_get(foreseen(variables, trajectory)))
    return found


def _ablations(experiment: Experiment) -> dict[str, tuple[Kind, str]]:
    """Returns how the agent's notes are replaced: kind of segment and replacement, by name in a summary."""
    experts, kinds = agents.experts_of(experiment.task), _kinds_of_notes(experiment)
    ways = {"shuffled": "shuffled", "blanked": "blanked", "expert": "by an expert"}
    named = lambda how, kind: ways[how] if kinds in ([Kind.NOTE], [Kind.REFLECTION]) else f"{kind.name.lower()} {ways[how]}"
    return {named(how, kind): (kind, how) for how, kind in itertools.product(ways, kinds) if how != "expert" or kind in experts}


def ablation_label(name: str) -> str:
    """Returns the label of an ablation by its `name` in a summary, such as "notes shuffled", or "reflections shuffled" beside notes."""
    kind, _, how = name.partition(" ")
    return f"{kind}s {how}" if kind.upper() in Kind.__members__ else f"notes {name}"


def _kinds_of_notes(experiment: Experiment) -> list[Kind]:
    """Returns the kinds of segments that the agent writes to itself."""
    return [kind for kind in (Kind.REFLECTION, Kind.NOTE, Kind.PLAN) if kind in experiment.interaction.writes]


def _hidden(experiment: Experiment) -> Callable[[AgentState], Any] | None:
    """Returns what the agent cannot see, as a function of an episode's first state: shifts or the hidden variable; None for neither."""
    task = experiment.task
    look = task.shifts.course if task.shifts else task.hidden
    return look and (lambda state: look(state.environment))


def play(
    experiment: Experiment,
    variables: Any,
    seed: int,
    config: EvaluationConfig,
    interaction: Interaction,
    record: Callable[[AgentState], Any] | None = None,
) -> tuple[evaluation.Episodes, Trajectory]:
    """Plays held-out episodes of an agent.

    Args:
      experiment: the run.
      variables: variables of the policy.
      seed: seed of the episodes.
      config: number of episodes, and whether decoding is greedy.
      interaction: the agent in its environment, or another in its place.
      record: as in `evaluation.play`.

    Returns:
      The episodes, and their trajectories `[N, T]`, on the host.
    """
    episodes = jax.jit(lambda variables, key: _played(experiment, variables, key, config, interaction, record))
    return jax.device_get(episodes(variables, _key(seed)))


def make_evaluator(experiment: Experiment) -> Callable[[Any, int], tuple[dict[str, Any], str]]:
    """Returns `(variables, seed) -> (summary, transcripts)`, an evaluation on held-out episodes; it is compiled at the first call.

    There are at most `FEW_EPISODES`, and they are not those of the final evaluation. Schedules are at their end. The summary is that of
    `evaluation.summarise`.

    Args:
      experiment: the run.
    """
    config = dataclasses.replace(experiment.config.evaluation, num_episodes=min(experiment.config.evaluation.num_episodes, FEW_EPISODES))
    played = jax.jit(lambda variables, key: _played(experiment, variables, key, config, experiment.interaction))

    def evaluate(variables: Any, seed: int) -> tuple[dict[str, Any], str]:
        episodes, trajectory = jax.device_get(played(on_one_device(variables), _key(seed, HELD_OUT + 1)))
        return evaluation.summarise(episodes, experiment.bounds), typical_episodes(experiment.interaction, experiment.tokenizer, trajectory)

    return evaluate


def _played(experiment: Experiment, variables: Any, key: jax.Array, config: EvaluationConfig, interaction: Interaction, record=None):
    rollout = experiment.rollout
    if config.greedy:
        rollout = dataclasses.replace(rollout, decoding=dataclasses.replace(rollout.decoding, temperature=0.0))
    curriculum = training.curriculum_at(experiment.config.learner.schedules, 1.0)
    arguments = (interaction, experiment.policy, rollout, variables, curriculum, key)
    return evaluation.play(*arguments, config.num_episodes, experiment.task.limits.num_attempts, record)


def _key(seed: int, episodes: int = HELD_OUT) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), np.uint32(episodes))


def token_fractions(trajectory: Trajectory) -> dict[str, float]:
    """Returns the tokens written in segments of each kind, as a fraction of all tokens read, among them notes that are read again."""
    written = np.bincount(np.asarray(trajectory.kind)[np.asarray(trajectory.is_sampled)], minlength=len(Kind))
    num_read = int(np.sum(np.asarray(trajectory.token_kind) > 0))
    return {kind.name.lower(): float(written[kind] / num_read) for kind in Kind if written[kind]}


def _bits_per_action(experiment: Experiment, play_as: Callable) -> dict[str, float]:
    """Returns the mean information from an action, in bits, of the agent and of an expert in its place."""
    layers = (layer for layer in experiment.interaction.layers if not layer.scales_rewards)
    layers = [dataclasses.replace(layer, information_bonus=1.0) if isinstance(layer, agents.Act) else layer for layer in layers]
    asking = agents.make_agent(experiment.task, layers)._replace(grammar=experiment.interaction.grammar)

    def measured(name: str, interaction: Interaction) -> float:
        episodes, trajectory = play_as(name, interaction)
        return float(np.sum(trajectory.reward.process) / np.sum(episodes.actions))

    experts = agents.replace_by_expert(asking, Kind.ACTION)
    return {"agent": measured("information", asking), "expert": measured("information of an expert", experts)}


def _around_shift(experiment: Experiment, shifts: Shifts, play_as: Callable, course: Course, trajectory: Trajectory) -> dict[str, Any]:
    """Returns the curves around a shift, and how much of the informed reward the agent and an expert in its place recover.

    `around_shift` has curves over `step`, which is 0 at a shift: `reward` and `expert`, the rewards of agent and expert, and `switches`,
    how often the agent's answer to a question differs from its last answer. `recovered` and `expert_recovered` are the rewards of agent
    and expert from `SETTLED` steps after a shift on, as fractions of the reward of an agent that always knows the rules.
    """
    experts = agents.replace_by_expert(experiment.interaction, Kind.ACTION)
    is_shift, asked = np.asarray(course.is_shift), np.asarray(course.asked)
    rewards, expert = (adaptation.rewards_by_step(x, is_shift.shape[1]) for x in (trajectory, play_as("an expert", experts)[1]))
    curves = {"reward": rewards, "expert": expert, "switches": adaptation.switches(experiment.interaction, trajectory, asked)}
    settled = adaptation.since_shift(is_shift) >= SETTLED
    informed = shifts.informed - experiment.task.limits.step_cost
    return {
        "around_shift": {"step": list(range(-BEFORE, AFTER))}
        | {name: adaptation.around_shift(values, is_shift, BEFORE, AFTER) for name, values in curves.items()},
        "recovered": float(rewards[settled].mean() / informed),
        "expert_recovered": float(expert[settled].mean() / informed),
    }
