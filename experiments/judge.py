"""What a trained agent is worth: whole lives on held-out seeds, with and without its notes, and what it says in them."""

import dataclasses
import functools
import itertools
from typing import Any

import jax

from arl import training
from arl.training import evaluation
from arl.types import Kind
from experiments.build import Experiment
from experiments.config import EvaluationConfig

HELD_OUT = 2**31  # folded into a run's key: no life of training has it


def judge(experiment: Experiment, params: Any, seed: int, config: EvaluationConfig) -> dict[str, Any]:
    """Returns what `evaluation.summarise` says of an agent, `ablations` and `bits`.

    `ablations` are name -> fraction of the way; `bits` are kind -> what the first, the second, ... segment of that kind tells about what is
    hidden, where there is such a thing.

    Args:
      experiment: the run.
      params: of the model.
      seed: of the held-out lives.
      config: how many, and whether greedy.

    Returns:
      Plain numbers.
    """
    live_with = functools.partial(live, experiment, params, seed, config)
    summarise = functools.partial(
        evaluation.summarise, floor=experiment.floor, ceiling=experiment.ceiling, success_at=experiment.success_at
    )
    lives, stream = live_with(experiment.interaction)
    ablations = {}
    kinds = _kinds_of_notes(experiment)
    ways = {"shuffled": "shuffled", "blanked": "blanked"} | ({"expert": "by an expert"} if experiment.has_expert_note else {})
    for how, kind in itertools.product(ways, kinds):
        ablated = evaluation.ablated(experiment.interaction, stream, kind, how)
        name = ways[how] if len(kinds) == 1 else f"{kind.name.lower()} {ways[how]}"
        ablations[name] = summarise(live_with(ablated)[0])["fraction"]
    bits = {}
    if experiment.hidden:
        bits = {kind.name.lower(): evaluation.bits_about(experiment.interaction, stream, kind, lives.hidden) for kind in kinds}
    return {**summarise(lives), "ablations": ablations, "bits": bits}


def _kinds_of_notes(experiment: Experiment) -> list[Kind]:
    """Returns the kinds of segments by which the agent tells itself something."""
    agent = experiment.config.agent
    return [Kind.REFLECTION] * (agent.carry == "reflection") + [Kind.NOTE] * bool(agent.memory_slots)


def live(experiment: Experiment, params: Any, seed: int, config: EvaluationConfig, interaction: Any) -> tuple[Any, Any]:
    """Returns `Lives` and `Stream` of `config.num_lives` held-out lives of an agent in `interaction`, on the host."""
    rollout = experiment.rollout
    if config.greedy:
        rollout = dataclasses.replace(rollout, decoding=dataclasses.replace(rollout.decoding, temperature=0.0))
    key = jax.random.fold_in(jax.random.key(seed), HELD_OUT)
    setting = training.setting_at(experiment.config.learner.schedules, 1.0)
    arguments = (interaction, experiment.model, rollout)
    how_many = (config.num_lives, experiment.config.agent.num_attempts)
    hidden = experiment.hidden if interaction is experiment.interaction else None
    lives = jax.jit(lambda params, key: evaluation.live(*arguments, params, setting, key, *how_many, hidden))
    return jax.device_get(lives(params, key))


def transcripts(experiment: Experiment, params: Any, seed: int, num_lives: int = 4) -> str:
    """Returns a few held-out lives of an agent as text for people."""
    from experiments.transcript import events, to_text

    config = EvaluationConfig(num_lives=num_lives)
    _, stream = live(experiment, params, seed, config, experiment.interaction)
    lives = [to_text(events(experiment.interaction, experiment.tokenizer, stream, lane)) for lane in range(num_lives)]
    return "\n\n".join(f"life {index}\n{life}" for index, life in enumerate(lives))
