"""Runs by name. What those in the tables of README.md reached stands in `experiments/results/`."""

import dataclasses
import functools

from arl.rollout import RolloutConfig
from arl.training import LearnerConfig, Schedule
from experiments.config import AgentConfig, Config, EnvironmentConfig, EvaluationConfig, nearest
from experiments.tasks import (
    Arithmetic,
    Bandit,
    CombinationLock,
    Corridor,
    FrozenLake,
    Ledger,
    Mastermind,
    Minesweeper,
    NumberGuess,
    TwentyQuestions,
)


def reflection(
    num_numbers: int = 8,
    num_attempts: int = 4,
    symbols: str = "numbers",
    num_updates: int = 600,
    entropy: float = 0.06,
    note: float = 1.0,
    keep: Schedule = Schedule(0.8, 0.0, until=0.5),
) -> Config:
    """One guess an attempt at a hidden number; a note of three tokens is all that crosses to the next attempt.

    Writer and reader must invent a language at once. Forgetting is annealed: at first the old context is mostly kept beside the note, in
    the end never. The entropy bonus is large on actions, so that no guess dies before the notes can tell the numbers apart.
    """
    return Config(
        environment=EnvironmentConfig(number_guess=NumberGuess(num_numbers)),
        agent=AgentConfig(num_attempts=num_attempts, carry="reflection", reflection_budget=3, note_symbols=symbols, annealed=True),
        rollout=RolloutConfig(widths=((1, 6),)),
        learner=LearnerConfig(
            num_updates=num_updates,
            num_lanes=320,
            microbatch=40,
            trace_counts="token",
            entropy=Schedule(entropy, 0.0, until=0.9, since=0.4),
            entropy_scales={"action": 2.5, "reflection": note},
            learning_rate=Schedule(1e-3, 0.0, since=0.4),
            schedules={"attempts.keep": keep},
        ),
    )


def reflection_16() -> Config:
    """The same with 16 numbers and 5 guesses: the search is learned first, while everything is kept, and then the language of the notes."""
    return reflection(16, 5, num_updates=2000, entropy=0.04, note=0.3, keep=Schedule(1.0, 0.0, since=0.15, until=0.7))


def history() -> Config:
    """The task of `reflection` when everything crosses: learned in seconds."""
    return Config(
        environment=EnvironmentConfig(number_guess=NumberGuess(8)),
        agent=AgentConfig(num_attempts=4, carry="history"),
        rollout=RolloutConfig(widths=((1, 5),)),
        learner=LearnerConfig(num_updates=150, num_lanes=320, microbatch=40),
    )


def number_guess() -> Config:
    """Many guesses an episode at a number below 32, each at the price of 1, history kept."""
    return Config(
        environment=EnvironmentConfig(number_guess=NumberGuess(32, one_guess=False), time_limit=10),
        rollout=RolloutConfig(stream_length=36, widths=((1, 3), (4, 3))),
        learner=LearnerConfig(
            num_updates=800,
            num_lanes=320,
            microbatch=40,
            reward_scale=0.1,
            entropy=Schedule(0.03, 0.0, until=0.8),
            learning_rate=Schedule(1e-3, 0.0, since=0.5),
        ),
    )


def frozen_lake(map: str = "4x4", time_limit: int = 64) -> Config:
    """The slippery lake, by PPO; every turn begins the context anew, since the position is all that matters."""
    return Config(
        environment=EnvironmentConfig(name="frozen_lake", frozen_lake=FrozenLake(map), time_limit=time_limit),
        agent=AgentConfig(forgets=True),
        rollout=RolloutConfig(stream_length=96, widths=((1, 3),), restarts=True),
        learner=LearnerConfig(num_updates=300, num_lanes=256, microbatch=64, entropy=Schedule(0.03, 0.0, until=0.9)),
        evaluation=EvaluationConfig(num_lives=8192),
    )


def frozen_lake_group(credit: str, entropy: float, learning_rate: float) -> Config:
    """The slippery lake by a group objective: whole lives from the same start, compared with each other."""
    return Config(
        environment=EnvironmentConfig(name="frozen_lake", time_limit=64),
        agent=AgentConfig(forgets=True),
        rollout=RolloutConfig(stream_length=200, widths=((1, 3), (4, 3), (16, 3))),
        learner=LearnerConfig(
            num_updates=200,
            num_lanes=256,
            group_size=32,
            epochs=1,
            microbatch=64,
            credit=credit,
            value_weight=0.0,
            entropy=Schedule(entropy, 0.0, until=0.9),
            learning_rate=Schedule(learning_rate, 0.0, since=0.5),
        ),
        evaluation=EvaluationConfig(num_lives=8192),
    )


def bandit() -> Config:
    """Two Bernoulli arms, ten pulls, history kept: explore, then exploit."""
    return Config(
        environment=EnvironmentConfig(name="bandit", bandit=Bandit(2, 10)),
        rollout=RolloutConfig(stream_length=36, widths=((1, 3),)),
        learner=LearnerConfig(
            num_updates=300,
            num_lanes=320,
            microbatch=40,
            reward_scale=0.2,
            entropy=Schedule(0.03, 0.0, until=0.9),
            learning_rate=Schedule(1e-3, 0.0, since=0.3),
        ),
        evaluation=EvaluationConfig(num_lives=16384),
    )


def combination_lock(reflects: bool = True) -> Config:
    """A code is entered digit by digit and answered as a whole: what an answer tells must cross to the next attempt as a note."""
    return Config(
        environment=EnvironmentConfig(name="combination_lock", combination_lock=CombinationLock(2, 3)),
        agent=AgentConfig(num_attempts=4, carry="reflection" if reflects else "nothing", reflection_budget=2),
        rollout=whole_lives(),
        learner=refining(100, 160, entropy=0.005),
        warm_start=100,
    )


def minesweeper(reflects: bool = True) -> Config:
    """The same small board three times: which cells are safe, and where it blew up, crosses as a note."""
    return again(EnvironmentConfig(name="minesweeper", minesweeper=Minesweeper(3, 2)), 7, reflects)


def frozen_lake_hidden(reflects: bool = True) -> Config:
    """The same lake three times, one of eight that look alike: the way to take next crosses as a note."""
    lake = FrozenLake("4x4", is_slippery=False, num_random_maps=8, is_hidden=True)
    return again(EnvironmentConfig(name="frozen_lake", frozen_lake=lake, time_limit=10), 6, reflects)


def again(environment: EnvironmentConfig, reflection_budget: int, reflects: bool) -> Config:
    """Three attempts at one task with a reflection after each; or the same attempts, of which nothing crosses.

    Lives without reflections have half as many tokens; of those there are twice as many updates.
    """
    agent = AgentConfig(num_attempts=3, carry="reflection" if reflects else "nothing", reflection_budget=reflection_budget)
    times = 1 if reflects else 2
    learner = refining(80 * times, 160, entropy=0.005)
    return Config(environment=environment, agent=agent, rollout=whole_lives(), learner=learner, warm_start=80 * times)


def corridor(slots: int = 1) -> Config:
    """A cue, then a walk of four times the context: without slots each turn begins the context anew, and the cue is lost."""
    return Config(
        environment=EnvironmentConfig(name="corridor", corridor=Corridor(length=16)),
        agent=AgentConfig(memory_slots=slots, memory_every=4, forgets=slots == 0),
        rollout=whole_lives(),
        learner=refining(60, 160, entropy=0.005),
        warm_start=40,
    )


def arithmetic(*tools: str) -> Config:
    """A product of two numbers, with or without a calculator; the expert shows how it is called, then rewards take over."""
    return Config(
        environment=EnvironmentConfig(name="arithmetic", arithmetic=Arithmetic(2)),
        agent=AgentConfig(tools=tools),
        rollout=whole_lives(),
        learner=refining(80, 160, entropy=0.003),
        warm_start=80,
    )


def composed(tools: tuple[str, ...] = ("calculator",), slots: int = 1, reflects: bool = True) -> Config:
    """Three attempts at one product in a context of two digits: a calculator whose words cost, slots for what it said, and reflections.

    Without a calculator the product is not known, without slots its last digits are lost, without reflections it is asked for anew in
    every attempt. The expert calls in its first attempt, and knows the product in the next from its note.
    """
    return Config(
        environment=EnvironmentConfig(name="arithmetic", arithmetic=Arithmetic(2)),
        agent=AgentConfig(
            tools=tools,
            memory_slots=slots,
            memory_budget=4,
            memory_every=4 if tools else 2,
            forgets=slots == 0,
            num_attempts=3,
            carry="reflection" if reflects else "nothing",
            reflection_budget=4,
            prices={"tool": 0.05} if tools else {},
        ),
        rollout=whole_lives(),
        learner=refining(40, 96, entropy=0.003),
        warm_start=160,
        evaluation=EvaluationConfig(num_lives=512),
    )


def ledger(*tools: str) -> Config:
    """A number out of a table that stands in no text, with or without the tool that looks it up."""
    return Config(
        environment=EnvironmentConfig(name="ledger", ledger=Ledger(64)),
        agent=AgentConfig(tools=tools),
        rollout=whole_lives(),
        learner=refining(100, 320, entropy=0.003),
        warm_start=100,
    )


def mastermind(bits: float = 1.0, warm_start: int = 150) -> Config:
    """A hidden code is bought by guesses, each at the price of 1; bits are paid for on the way, less and less."""
    environment = EnvironmentConfig(name="mastermind", mastermind=Mastermind(2, 4), time_limit=8)
    return asking(environment, bits, warm_start, 100 if warm_start else 600)


def twenty_questions(bits: float = 1.0, warm_start: int = 120) -> Config:
    """An object of a table that is new in every life is found by questions, each at the price of 1; bits are paid for at first."""
    environment = EnvironmentConfig(name="twenty_questions", twenty_questions=TwentyQuestions(4, 3), time_limit=8)
    return asking(environment, bits, warm_start, 80 if warm_start else 1000)


def asking(environment: EnvironmentConfig, bits: float, warm_start: int, num_updates: int) -> Config:
    """What is common to agents that ask; those that begin from nothing keep a larger entropy."""
    make, entropy = (refining, 0.003) if warm_start else (learning, 0.06)
    return Config(
        environment=environment,
        agent=AgentConfig(bits=bits, weighed=("process",)),
        rollout=whole_lives(),
        learner=make(num_updates, 320, entropy=entropy, reward_scale=0.2, schedules={"reward.process": Schedule(1.0, 0.0, until=0.5)}),
        warm_start=warm_start,
    )


def adaptation(name: str, forgets: bool = False) -> Config:
    """Rules that change within a life: what happened is seen, or, for a memoryless agent, is not. The expert is the Bayes filter."""
    return Config(
        environment=EnvironmentConfig(name=name),
        agent=AgentConfig(forgets=forgets),
        rollout=whole_lives(),
        learner=refining(100, 160, entropy=0.01, reward_scale=0.2, trace=0.9),
        warm_start=200,
    )


def whole_lives() -> RolloutConfig:
    """Streams and contexts as long as a life can be."""
    return RolloutConfig(widths=((1, 6),))


def refining(num_updates: int, num_lanes: int, *, entropy: float, **options) -> LearnerConfig:
    """What agents share that have seen an expert: small steps, and advantages and gradients as they are.

    Where most lives succeed both are small and mostly noise; to standardise the ones, or to divide the others by their own size, as Adam
    does with a small epsilon, makes steps of that noise as large as any, and what was cloned is lost.
    """
    options = {"learning_rate": Schedule(3e-4, 0.0, since=0.4), "normalize": False, "adam_epsilon": 1e-3, **options}
    return learning(num_updates, num_lanes, entropy=entropy, **options)


def learning(num_updates: int, num_lanes: int, *, entropy: float, **options) -> LearnerConfig:
    """What the presets of cognition share."""
    options = {"learning_rate": Schedule(1e-3, 0.0, since=0.4), **options}
    return LearnerConfig(
        num_updates=num_updates,
        num_lanes=num_lanes,
        microbatch=min(40, num_lanes // 4),
        entropy=Schedule(entropy, 0.0, until=0.9),
        **options,
    )


PRESETS = {
    "reflection": reflection,
    "reflection_16": reflection_16,
    "reflection_text": functools.partial(reflection, symbols="any", note=0.05, num_updates=800),
    "history": history,
    "number_guess": number_guess,
    "frozen_lake": frozen_lake,
    "frozen_lake_8x8": functools.partial(frozen_lake, "8x8", 200),
    "frozen_lake_grpo": functools.partial(frozen_lake_group, "grpo", 0.06, 1e-3),
    "frozen_lake_rloo": functools.partial(frozen_lake_group, "rloo", 0.027, 1e-3),
    "bandit": bandit,
    "combination_lock": combination_lock,
    "combination_lock_blind": functools.partial(combination_lock, reflects=False),
    "minesweeper": minesweeper,
    "minesweeper_blind": functools.partial(minesweeper, reflects=False),
    "frozen_lake_hidden": frozen_lake_hidden,
    "frozen_lake_hidden_blind": functools.partial(frozen_lake_hidden, reflects=False),
    "corridor": corridor,
    "corridor_blind": functools.partial(corridor, slots=0),
    "arithmetic": functools.partial(arithmetic, "calculator"),
    "arithmetic_blind": arithmetic,
    "composed": composed,
    "composed_without_tools": functools.partial(composed, tools=()),
    "composed_without_memory": functools.partial(composed, slots=0),
    "composed_without_reflection": functools.partial(composed, reflects=False),
    "ledger": functools.partial(ledger, "table"),
    "ledger_blind": ledger,
    "mastermind": mastermind,
    "mastermind_from_scratch": functools.partial(mastermind, warm_start=0),
    "mastermind_without_bits": functools.partial(mastermind, bits=0.0, warm_start=0),
    "twenty_questions": twenty_questions,
    "twenty_questions_without_bits": functools.partial(twenty_questions, bits=0.0),
    "shifting_controls": functools.partial(adaptation, "shifting_controls"),
    "shifting_controls_memoryless": functools.partial(adaptation, "shifting_controls", forgets=True),
    "restless_bandit": functools.partial(adaptation, "restless_bandit"),
    "restless_bandit_memoryless": functools.partial(adaptation, "restless_bandit", forgets=True),
}


def get_preset(name: str) -> Config:
    """Returns a preset by name.

    Raises:
      ValueError: if there is none of that name; it names the nearest.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name}; {nearest(name, PRESETS)}")
    return dataclasses.replace(PRESETS[name](), preset=name)
