"""From a config to the pure functions of a run."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh

from arl import agents, envs, models, rollout, text, training
from arl.rollout import RolloutConfig
from arl.training import Learner, LearnerConfig
from arl.types import Interaction, Kind, LanguageModel, select
from experiments import tasks
from experiments.config import AgentConfig, Config, EnvironmentConfig, nearest
from experiments.tasks import Task


class Experiment(NamedTuple):
    """A run as pure functions.

    Attributes:
      config: as given.
      task: what is lived in, and what is known of it.
      tokenizer: of all texts.
      interaction: what the lanes do.
      model: that writes.
      rollout: how they are rolled out.
      learner: how they are learned from.
      warm_start: the learner of the first `config.warm_start` updates; None if there are none.
    """

    config: Config
    task: Task
    tokenizer: Any
    interaction: Interaction
    model: LanguageModel
    rollout: RolloutConfig
    learner: Learner
    warm_start: Learner | None


def build(config: Config, mesh: Mesh | None = None) -> Experiment:
    """Returns the run of a config; its update divides the lanes among the devices of `mesh`.

    Raises:
      ValueError: in one sentence that says what to change, for whatever cannot be.
    """
    tokenizer = text.load_tokenizer()
    task = make_task(tokenizer, config.environment, config.agent.num_attempts)
    interaction = make_agent(tokenizer, task, config.agent)
    _check_schedules(config)
    if config.warm_start:
        _check_expert(task, config.agent)
    filled = rollout.fit(config.rollout, interaction)
    if not filled.decoding.constrained:
        interaction = interaction._replace(grammar=text.free(interaction.grammar, len(tokenizer)))
    rollout.check_rollout(interaction, filled, len(tokenizer))
    size = dataclasses.asdict(config.model)
    model = models.make_language_model(models.preset(size.pop("preset"), len(tokenizer), context_length=filled.context_length, **size))
    parts, warm_start = (interaction, model, filled), None
    options = {"vocab_size": len(tokenizer), "mesh": mesh}
    learner = training.make_learner(*parts, config.learner, first_step=config.warm_start, **options)
    if config.warm_start:
        warm_start = training.make_warm_start(*parts, warm_start_config(config), num_updates=config.warm_start, **options)
    return Experiment(config, task, tokenizer, interaction, model, filled, learner, warm_start)


def warm_start_config(config: Config) -> LearnerConfig:
    """Returns the config from which the learner of the warm start is made: the run's, with an optimizer of its own."""
    optimizer = {"learning_rate": config.warm_start_learning_rate, "adam_epsilon": LearnerConfig.adam_epsilon}
    return dataclasses.replace(config.learner, **optimizer)


def _check_schedules(config: Config) -> None:
    """Refuses a schedule that nothing follows, and an agent that misses its own."""
    agent = config.agent
    known = ["attempts.keep"] if agent.carry == "reflection" and agent.annealed else []
    known += ["remember.keep"] if agent.memory_slots and agent.annealed else []
    known += [f"reward.{component}" for component in agent.weighed]
    for name in config.learner.schedules:
        if name not in known:
            raise ValueError(
                f"nothing in this agent follows the schedule {name}; {nearest(name, known) if known else 'set learner.schedules={}'}"
            )
    for name in known:
        if name not in config.learner.schedules:
            raise ValueError(f"this agent follows {name}; set learner.schedules.{name}.start, or agent.annealed=False and agent.weighed=()")

    for name, schedule in config.learner.schedules.items():
        low, high = min(schedule.start, schedule.end), max(schedule.start, schedule.end)
        if low < 0 or (name.endswith(".keep") and high > 1):
            words = "between 0 and 1" if name.endswith(".keep") else "at least 0"
            raise ValueError(f"the schedule {name} goes from {schedule.start} to {schedule.end}; set both {words}")


def _check_expert(task: Task, agent: AgentConfig) -> None:
    """Refuses to imitate an expert who cannot do what the agent is to do: remember beside other things, or say so little."""
    if task.expert_again and agent.carry != "nothing" and (agent.tools or agent.think_budget or agent.memory_slots):
        raise ValueError(
            "this task's expert remembers no attempt if it thinks, calls tools or keeps notes as well; set warm_start=0, or "
            "agent.tools=(), agent.think_budget=0 and agent.memory_slots=0"
        )
    budgets = {"reflection_budget": agent.reflection_budget} if agent.carry == "reflection" else {}
    budgets |= {"memory_budget": agent.memory_budget} if agent.memory_slots else {}
    for name, budget in budgets.items():
        if (length := tasks.note_length(task, is_reflection=name == "reflection_budget")) > budget:
            raise ValueError(f"an expert notes down {length} tokens here; set agent.{name} >= {length}, or warm_start=0")


def make_task(tokenizer: Any, config: EnvironmentConfig, num_attempts: int) -> Task:
    """Returns the environment of a config within its limits, and the exact floor and ceiling of a life in it."""
    names = [field.name for field in dataclasses.fields(config) if dataclasses.is_dataclass(getattr(config, field.name))]
    if config.name not in names:
        raise ValueError(f"there is no environment {config.name}; {nearest(config.name, names)}")
    task = getattr(config, config.name).make(tokenizer, tasks.Limits(config.time_limit, config.turn_cost, num_attempts))
    if not task.floor < task.ceiling:
        longer = f"set environment.time_limit > {config.time_limit}" if config.time_limit else "give it more steps"
        more = "set agent.num_attempts >= 2" if num_attempts == 1 and not config.time_limit else longer
        raise ValueError(f"random actions are as good as any in a life of this task; {more}, or set environment.{config.name} harder")
    environment = task.environment
    if config.time_limit:
        environment = envs.time_limit(environment, config.time_limit)
    if config.turn_cost:
        environment = envs.turn_cost(environment, config.turn_cost)
    return task._replace(environment=environment)


def make_agent(tokenizer: Any, task: Task, config: AgentConfig) -> Interaction:
    """Returns the interaction of a config, from the inside out: act, tools, thoughts, memory, attempts, and what is paid for it all."""
    return _paid(_with_attempts(tokenizer, _attempt(tokenizer, task, config), task, config), config)


def _attempt(tokenizer: Any, task: Task, config: AgentConfig, expert_calls: bool = True) -> Interaction:
    """Returns the interaction of one attempt; its expert calls tools or knows what they would say."""
    interaction = agents.act(
        task.environment,
        illegal_penalty=config.illegal_penalty,
        discount=config.turn_discount,
        process=_pay_bits(task, config),
        forgets=config.forgets,
    )
    if config.tools:
        interaction = _with_tools(tokenizer, interaction, task, config, expert_calls)
    if config.think_budget:
        interaction = agents.think(interaction, tokenizer, budget=config.think_budget, stop=config.think_stop)
    if config.memory_slots:
        interaction = _with_memory(tokenizer, interaction, task, config)
    return interaction


def _pay_bits(task: Task, config: AgentConfig) -> agents.Process | None:
    if not config.bits:
        return None
    if task.bits is None:
        raise ValueError(
            "nobody counts what the answers of this environment tell; set agent.bits=0, or take mastermind or twenty_questions"
        )
    if config.num_attempts > 1:  # each attempt begins with nothing known
        raise ValueError("the same bits would be paid again in every attempt; set agent.bits=0 or agent.num_attempts=1")
    return lambda before, after, bits=task.bits: config.bits * bits(before, after)


def _with_tools(tokenizer: Any, inner: Interaction, task: Task, config: AgentConfig, expert_calls: bool) -> Interaction:
    known = [*task.offers, *(["imagine"] if task.can_imagine else [])]
    if "imagine" in config.tools and not task.can_imagine:
        raise ValueError("an imagined step would tell for nothing what has to be found out here; take imagine out of agent.tools")
    if wrong := [name for name in config.tools if name not in known]:
        raise ValueError(f"this task offers no tool {wrong[0]}; {nearest(wrong[0], known)}")
    for name in config.tools:
        if name in task.offers and 1 <= config.max_calls < task.offers[name].num_calls:
            raise ValueError(f"here {name} answers after {task.offers[name].num_calls} calls; set agent.max_calls to as many at least")
    tools = [task.offers[name].tool if name in task.offers else agents.imagine(tokenizer, task.environment) for name in config.tools]
    expert_call = next((task.offers[name].expert_call for name in config.tools if name in task.offers and expert_calls), None)
    options = {"illegal_penalty": config.illegal_penalty, "ask": tasks.ASK, "expert_call": expert_call}
    return agents.use_tools(inner, tokenizer, tools, max_calls=config.max_calls, **options)


def _with_memory(tokenizer: Any, inner: Interaction, task: Task, config: AgentConfig) -> Interaction:
    return agents.remember(
        inner,
        tokenizer,
        num_slots=config.memory_slots,
        budget=config.memory_budget,
        every=config.memory_every,
        symbols=_note_symbols(task, config),
        stop=config.note_stop,
        annealed=config.annealed,
        expert_note=task.expert_note,
    )


def _with_attempts(tokenizer: Any, inner: Interaction, task: Task, config: AgentConfig) -> Interaction:
    note = task.expert_note
    carries = {
        "nothing": agents.nothing,
        "window": lambda: agents.window(config.window),
        "history": agents.history,
        "reflection": lambda: agents.reflection(
            config.reflection_budget,
            symbols=_note_symbols(task, config),
            stop=config.note_stop,
            annealed=config.annealed,
            expert_note=task.expert_reflection or (note and (lambda key, state, attempt: note(key, state))),
        ),
    }
    if config.carry not in carries:
        raise ValueError(f"there is no carry {config.carry}; {nearest(config.carry, carries)}")
    if config.annealed and config.carry != "reflection" and not config.memory_slots:
        raise ValueError(f"only reflections and memory are annealed, and agent.carry is {config.carry}; set agent.annealed=False")
    if config.num_attempts == 1 and config.carry == "nothing":
        return inner
    options = {"carry": carries[config.carry](), "discount": config.discount, "expert": _expert_again(tokenizer, inner, task, config)}
    return agents.attempts(inner, tokenizer, num_attempts=config.num_attempts, **options)


def _expert_again(tokenizer: Any, inner: Interaction, task: Task, config: AgentConfig) -> agents.ExpertAgain | None:
    """Returns what an expert writes in its attempts who knows what is carried to them; None for that of `inner`."""
    if set(config.tools) & set(task.offers) and config.carry == "reflection" and task.expert_note:
        knowing = _attempt(tokenizer, task, config, expert_calls=False)  # its notes say what a tool said
        return lambda key, state, attempt: select(attempt == 0, inner.expert(key, state), knowing.expert(key, state))
    again = None if config.tools or config.think_budget or config.memory_slots else task.expert_again
    if again and config.carry == "nothing":
        return lambda key, state, attempt: again(key, state, jnp.int32(0))  # every attempt is as the first
    return again


def _paid(interaction: Interaction, config: AgentConfig) -> Interaction:
    """Returns the interaction with prices of tokens, pay for what is new, and scheduled weights of all components."""
    kinds = {kind.name.lower(): kind for kind in Kind if kind > Kind.OBSERVATION}
    if wrong := [name for name in config.prices if name not in kinds]:
        raise ValueError(f"agent.prices names {wrong[0]}, which is no kind of segment; {nearest(wrong[0], kinds)}")
    writes = {
        "tool": config.tools,
        "think": config.think_budget,
        "note": config.memory_slots,
        "control": config.memory_slots > 1,
        "reflection": config.carry == "reflection",
    }
    written = ["action", *(name for name, is_written in writes.items() if is_written)]
    if idle := [name for name in config.prices if name not in written]:
        raise ValueError(f"agent.prices charges for {idle[0]}, which this agent never writes; it writes {', '.join(written)}")
    if config.prices:
        interaction = agents.price(interaction, {kinds[name]: price for name, price in config.prices.items()})
    if config.explore:
        interaction = agents.explore(interaction, scale=config.explore)
    if config.weighed:
        interaction = agents.weigh(interaction, scheduled=config.weighed)
    return interaction


def _note_symbols(task: Task, config: AgentConfig) -> tuple[str, ...] | None:
    choices = {"numbers": task.symbols, "any": None}
    if config.note_symbols not in choices:
        raise ValueError(f"notes cannot be written in {config.note_symbols}; {nearest(config.note_symbols, choices)}")
    return choices[config.note_symbols]
