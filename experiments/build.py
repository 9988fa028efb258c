"""From a config to the pure functions of a run."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from arl import agents, envs, models, rollout, text, training
from arl.envs import bandit, frozen_lake, number_guess
from arl.rollout import RolloutConfig
from arl.training import Learner
from arl.types import Environment, Interaction, LanguageModel
from experiments.config import AgentConfig, Config, EnvironmentConfig, nearest


class Task(NamedTuple):
    """An environment and what is known of it.

    Attributes:
      environment: the task.
      floor: expected outcome of an episode of random actions.
      ceiling: the best expected outcome, or a bound above it.
      success_at: outcome from which a life counts as a success.
      symbols: strings of one token that stand for its actions; what a note may be made of.
    """

    environment: Environment
    floor: float
    ceiling: float
    success_at: float
    symbols: tuple[str, ...]


class Experiment(NamedTuple):
    """A run as pure functions.

    Attributes:
      config: as given.
      tokenizer: of all texts.
      interaction: what the lanes do.
      model: that writes.
      rollout: how they are rolled out.
      learner: how they are learned from.
      floor, ceiling, success_at: of a life's outcome.
    """

    config: Config
    tokenizer: Any
    interaction: Interaction
    model: LanguageModel
    rollout: RolloutConfig
    learner: Learner
    floor: float
    ceiling: float
    success_at: float


def build(config: Config, mesh: Mesh | None = None) -> Experiment:
    """Returns the run of a config; its update divides the lanes among the devices of `mesh`.

    Raises:
      ValueError: in one sentence that says what to change, for whatever cannot be.
    """
    tokenizer = text.load_tokenizer()
    task = make_task(tokenizer, config.environment, config.agent)
    interaction = make_agent(tokenizer, task, config.agent)
    _check_schedules(config)
    filled = dataclasses.replace(
        config.rollout,
        stream_length=config.rollout.stream_length or interaction.size.life + 1,
        context_length=config.rollout.context_length or interaction.size.context,
    )
    if not filled.decoding.constrained:
        interaction = interaction._replace(grammar=text.free(interaction.grammar, len(tokenizer)))
    rollout.check_rollout(interaction, filled, len(tokenizer))
    size = dataclasses.asdict(config.model)
    model = models.make_language_model(models.preset(size.pop("preset"), len(tokenizer), context_length=filled.context_length, **size))
    learner = training.make_learner(interaction, model, filled, config.learner, vocab_size=len(tokenizer), mesh=mesh)
    return Experiment(config, tokenizer, interaction, model, filled, learner, task.floor, task.ceiling, task.success_at)


def _check_schedules(config: Config) -> None:
    """Refuses a schedule that nothing follows, and an agent that misses its own."""
    known = ["attempts.keep"] if config.agent.carry == "reflection" and config.agent.annealed else []
    for name in config.learner.schedules:
        if name not in known:
            raise ValueError(
                f"nothing in this agent follows the schedule {name}; {nearest(name, known) if known else 'set learner.schedules={}'}"
            )
    for name in known:
        if name not in config.learner.schedules:
            raise ValueError(f"an annealed agent follows {name}; set learner.schedules.{name}.start, or agent.annealed=False")


def make_task(tokenizer: Any, config: EnvironmentConfig, agent: AgentConfig) -> Task:
    """Returns the environment of a config, with the exact floor and ceiling of a life in it."""
    makers = {"number_guess": _number_guess, "frozen_lake": _frozen_lake, "bandit": _bandit}
    if config.name not in makers:
        raise ValueError(f"there is no environment {config.name}; {nearest(config.name, makers)}")
    task = makers[config.name](tokenizer, config, agent.num_attempts)
    environment = task.environment
    if config.time_limit:
        environment = envs.time_limit(environment, config.time_limit)
    if config.turn_cost:
        environment = envs.turn_cost(environment, config.turn_cost)
    return task._replace(environment=environment)


def make_agent(tokenizer: Any, task: Task, config: AgentConfig) -> Interaction:
    """Returns the interaction of a config: act, think, attempts, from the inside out."""
    interaction = agents.act(task.environment, illegal_penalty=config.illegal_penalty, forgets=config.forgets)
    if config.think_budget:
        interaction = agents.think(interaction, tokenizer, budget=config.think_budget, stop=config.think_stop)
    carries = {
        "nothing": agents.nothing,
        "window": lambda: agents.window(config.window),
        "history": agents.history,
        "reflection": lambda: agents.reflection(
            config.note_budget, symbols=_note_symbols(task, config), stop=config.note_stop, annealed=config.annealed
        ),
    }
    if config.carry not in carries:
        raise ValueError(f"there is no carry {config.carry}; {nearest(config.carry, carries)}")
    if config.annealed and config.carry != "reflection":
        raise ValueError(f"only reflections are annealed, and agent.carry is {config.carry}; set agent.annealed=False")
    if config.num_attempts == 1 and config.carry == "nothing":
        return interaction
    return agents.attempts(
        interaction, tokenizer, num_attempts=config.num_attempts, carry=carries[config.carry](), discount=config.discount
    )


def _note_symbols(task: Task, config: AgentConfig) -> tuple[str, ...] | None:
    choices = {"numbers": task.symbols, "any": None}
    if config.note_symbols not in choices:
        raise ValueError(f"notes cannot be written in {config.note_symbols}; {nearest(config.note_symbols, choices)}")
    return choices[config.note_symbols]


def _number_guess(tokenizer: Any, config: EnvironmentConfig, num_attempts: int) -> Task:
    size = config.num_numbers
    environment = envs.make_number_guess(tokenizer, size, one_guess=config.one_guess)
    symbols = tuple(f" {i}" for i in range(size))
    if config.one_guess:
        cost = config.turn_cost * num_attempts
        floor, ceiling = number_guess.random_successes(size, num_attempts), number_guess.optimal_successes(size, num_attempts)
        return Task(environment, floor - cost, ceiling - cost, 1.0 - cost, symbols)
    limit, price = config.time_limit or None, 1.0 + config.turn_cost
    floor, ceiling = -price * number_guess.random_num_guesses(size, limit), -price * number_guess.optimal_num_guesses(size, limit)
    return Task(environment, floor * num_attempts, ceiling * num_attempts, price * (1.0 - (limit or np.inf)), symbols)


def _frozen_lake(tokenizer: Any, config: EnvironmentConfig, num_attempts: int) -> Task:
    horizon = config.time_limit
    if not horizon:
        raise ValueError("a lake without a time limit has no end; set environment.time_limit >= 1")
    if config.turn_cost:
        raise ValueError("the optimum of a lake whose steps cost something is not known; set environment.turn_cost=0")
    options = {"map": config.map, "is_slippery": config.is_slippery}
    environment = envs.make_frozen_lake(tokenizer, num_random_maps=config.num_random_maps, horizon=horizon, **options)
    maps = [config.map]
    if config.num_random_maps:
        maps = envs.random_maps(config.num_random_maps, config.map)
    floor = np.mean([frozen_lake.random_return(m, config.is_slippery, horizon) for m in maps])
    ceiling = np.mean([frozen_lake.optimal_return(m, config.is_slippery, horizon) for m in maps])
    symbols = (" left", " down", " right", " up")
    return Task(environment, float(floor) * num_attempts, float(ceiling) * num_attempts, 1.0, symbols)


def _bandit(tokenizer: Any, config: EnvironmentConfig, num_attempts: int) -> Task:
    size = (config.num_arms, config.num_pulls)
    environment = envs.make_bandit(tokenizer, *size)
    num_pulls = min(config.num_pulls, config.time_limit or config.num_pulls)
    cost = config.turn_cost * num_pulls
    floor, ceiling = bandit.random_return(config.num_arms, num_pulls) - cost, bandit.optimal_return(config.num_arms, num_pulls) - cost
    symbols = tuple(f" {chr(ord('A') + i)}" for i in range(config.num_arms))
    return Task(environment, floor * num_attempts, ceiling * num_attempts, ceiling, symbols)
