"""A run as a tree of plain values, and how one is read from flags."""

import ast
import dataclasses
import difflib
import math
import typing
from typing import Any

from arl.rollout import RolloutConfig
from arl.training import LearnerConfig, Schedule
from experiments import tasks
from experiments.fields import example


@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
    """Which task. Options of other environments than `name` are not looked at.

    Attributes:
      name: of the task; the fields below that are called so are its options.
      time_limit: steps after which an episode is truncated; 0 for none.
      turn_cost: charged for every step, in the environment's units.
      number_guess, ...: the options of each environment, see `experiments/tasks.py`.
    """

    name: str = "number_guess"
    time_limit: int = 0
    turn_cost: float = 0.0
    number_guess: tasks.NumberGuess = tasks.NumberGuess()
    frozen_lake: tasks.FrozenLake = tasks.FrozenLake()
    bandit: tasks.Bandit = tasks.Bandit()
    combination_lock: tasks.CombinationLock = tasks.CombinationLock()
    mastermind: tasks.Mastermind = tasks.Mastermind()
    twenty_questions: tasks.TwentyQuestions = tasks.TwentyQuestions()
    corridor: tasks.Corridor = tasks.Corridor()
    minesweeper: tasks.Minesweeper = tasks.Minesweeper()
    arithmetic: tasks.Arithmetic = tasks.Arithmetic()
    ledger: tasks.Ledger = tasks.Ledger()
    shifting_controls: tasks.ShiftingControls = tasks.ShiftingControls()
    restless_bandit: tasks.RestlessBandit = tasks.RestlessBandit()

    def __post_init__(self):
        for name in ("time_limit", "turn_cost"):
            if getattr(self, name) < 0:
                raise ValueError(f"environment.{name} is {getattr(self, name)}; set it >= 0")


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """How the agent lives in it.

    Attributes:
      illegal_penalty: charged for an illegal text.
      forgets: whether each turn's description is all that the model sees.
      turn_discount: weight of what follows an action.
      bits: paid for each bit that an answer tells, where the environment says how many.
      tools: called before an action: "calculator" and "table" where the task offers them, "imagine" where nothing is to be found out.
      max_calls: of tools, before each action.
      think_budget: tokens of a thought before each action; 0 for none.
      think_stop: whether the model ends its own thoughts.
      memory_slots: notes that are kept while the context is cut; 0 for no memory.
      memory_budget: tokens of such a note.
      memory_every: turns from one note to the next.
      num_attempts: attempts at one task in a life, `K`.
      carry: "nothing", "window", "history" or "reflection".
      window: tokens that are carried by "window".
      reflection_budget: tokens of a reflection.
      note_symbols: "numbers" (those of the task) or "any" (the whole tokenizer); of reflections and of memory.
      note_stop: whether the model ends its own reflections and notes.
      annealed: whether forgetting follows the schedules "attempts.keep" (of reflections) and "remember.keep" (of memory).
      discount: weight of the next attempt.
      prices: of a token written, by kind of segment ("think", "reflection", ...), in the environment's units.
      explore: paid for every state that is new in a life, in the environment's units; 0 for nothing.
      weighed: components of the reward ("outcome", "process", "exploration", "efficiency") that follow a schedule "reward.<component>".
    """

    illegal_penalty: float = 0.1
    forgets: bool = False
    turn_discount: float = 1.0
    bits: float = 0.0
    tools: tuple[str, ...] = ()
    max_calls: int = 1
    think_budget: int = 0
    think_stop: bool = True
    memory_slots: int = 0
    memory_budget: int = 1
    memory_every: int = 4
    num_attempts: int = 1
    carry: str = "nothing"
    window: int = 16
    reflection_budget: int = 3
    note_symbols: str = "numbers"
    note_stop: bool = False
    annealed: bool = False
    discount: float = 1.0
    prices: dict[str, float] = dataclasses.field(default_factory=dict)
    explore: float = 0.0
    weighed: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("illegal_penalty", "bits", "explore", "think_budget", "memory_slots"):
            if getattr(self, name) < 0:
                raise ValueError(f"agent.{name} is {getattr(self, name)}; set it >= 0")
        if self.num_attempts < 1:
            raise ValueError(f"agent.num_attempts is {self.num_attempts}; set it >= 1")
        for name in ("discount", "turn_discount"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"agent.{name} is {getattr(self, name)}; set it between 0 and 1")


@dataclasses.dataclass(frozen=True)
class ModelSizeConfig:
    """Which model.

    Attributes:
      preset: of `arl.models`: "0.1M" to "10M".
      dtype: of computation, "float32" or "bfloat16".
      tie_embeddings, separate_value_trunk, remat, scan_layers: see `arl.models.ModelConfig`.
    """

    preset: str = "0.1M"
    dtype: str = "float32"
    tie_embeddings: bool = False
    separate_value_trunk: bool = False
    remat: bool = False
    scan_layers: bool = False


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How an agent is judged.

    Attributes:
      num_lives: lives, all whole.
      greedy: whether the most probable token is always written.
    """

    num_lives: int = 2048
    greedy: bool = False

    def __post_init__(self):
        if self.num_lives < 1:
            raise ValueError(f"evaluation.num_lives is {self.num_lives}; set it >= 1")


@dataclasses.dataclass(frozen=True)
class Config:
    """A run.

    Attributes:
      preset: its name.
      environment, agent, model, rollout, learner, evaluation: see there.
      warm_start: updates of behaviour cloning from the expert, before those of the learner.
      warm_start_learning_rate: over these; Adam's epsilon is its default then, whatever the learner's is.
      checkpoint_every: updates between two checkpoints.
    """

    preset: str = "reflection"
    environment: EnvironmentConfig = EnvironmentConfig()
    agent: AgentConfig = AgentConfig()
    model: ModelSizeConfig = ModelSizeConfig()
    rollout: RolloutConfig = RolloutConfig()
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    evaluation: EvaluationConfig = EvaluationConfig()
    warm_start: int = 0
    warm_start_learning_rate: Schedule = Schedule(1e-3, 0.0, since=0.4)
    checkpoint_every: int = 50

    @property
    def num_updates(self) -> int:
        """Updates of the whole run."""
        return self.warm_start + self.learner.num_updates

    def __post_init__(self):
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every is {self.checkpoint_every}; set it >= 1")
        if self.warm_start < 0:
            raise ValueError(f"warm_start is {self.warm_start}; set it >= 0")
        if min(self.warm_start_learning_rate.start, self.warm_start_learning_rate.end) < 0:
            raise ValueError("warm_start_learning_rate is negative; set its start and end >= 0")
        if self.evaluation.num_lives < 2:  # one life can be watched, but has no spread to judge by
            raise ValueError(f"evaluation.num_lives is {self.evaluation.num_lives}; set it >= 2")


# What they hold is named by whoever sets it.
_OPEN = (["learner", "schedules"], ["learner", "entropy_scales"], ["agent", "prices"])


def nearest(name: str, choices: typing.Iterable[str]) -> str:
    """Returns the valid choice that is most like a wrong one, or all of them where none is, as words for a message."""
    choices = list(choices)
    if close := difflib.get_close_matches(name, choices, n=1, cutoff=0.5):
        return f"did you mean {close[0]}?"
    return f"choose one of {', '.join(choices)}" if choices else "there is none"


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config as nested dicts that JSON can hold."""
    return dataclasses.asdict(config)


def field_names(config: Any) -> list[str]:
    """Returns the dotted names of all fields of a config that have no fields of their own."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        names += [f"{field.name}.{inner}" for inner in field_names(value)] if dataclasses.is_dataclass(value) else [field.name]
    return names


def fields_called(name: str) -> list[str]:
    """Returns the dotted names of the fields of a run's config that end in `name`."""
    return [field for field in field_names(Config()) if f".{field}".endswith(f".{name}")]


def first_difference(there: Any, here: Any, name: str = "") -> str:
    """Returns the dotted name of the first field in which two runs differ, and both of its values; nothing if they are the same.

    Args:
      there: the config of one, as nested dicts.
      here: that of the other.
      name: of what is compared, where that is a part of them.
    """
    if not isinstance(there, dict) or not isinstance(here, dict):
        return "" if there == here else f"{name} is {there!r} there and {here!r} here"
    inner = ((there.get(field), here.get(field), f"{name}.{field}".lstrip(".")) for field in {**here, **there})
    return next(filter(None, (first_difference(*arguments) for arguments in inner)), "")


def from_dict(kind: Any, values: Any, path: str = "") -> Any:
    """Returns `values`, as `to_dict` gave them, as the type `kind`.

    Raises:
      ValueError: for an unknown field, a wrong type or an impossible value.
    """
    if isinstance(values, _Flag):
        values = _read(kind, values)
    if dataclasses.is_dataclass(kind):
        if not isinstance(values, dict):
            raise _has_fields(path[1:], [field.name for field in dataclasses.fields(kind)])
        hints = typing.get_type_hints(kind)
        for name in values:
            if name not in hints:
                raise ValueError(f"there is no field config{path}.{name}; {nearest(name, hints)}")
        return kind(**{name: from_dict(hints[name], value, f"{path}.{name}") for name, value in values.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        if not isinstance(values, dict):
            raise ValueError(f"config{path} is {values!r}; name what it holds{_as_in(path[1:])}")
        return {name: from_dict(arguments[1], value, f"{path}.{name}") for name, value in values.items()}
    if origin is tuple:
        ends = arguments[-1] is Ellipsis
        if not isinstance(values, (list, tuple)) or (not ends and len(values) != len(arguments)):
            wanted = "words with commas between them, or ()" if kind == tuple[str, ...] else f"a value of type {kind}"
            raise ValueError(f"config{path} cannot hold {values!r}; it takes {wanted}{_as_in(path[1:])}")
        inner = [arguments[0]] * len(values) if ends else arguments
        return tuple(from_dict(part, value, path) for part, value in zip(inner, values, strict=True))
    if kind is float and isinstance(values, int) and not isinstance(values, bool):
        return float(values)
    if isinstance(values, float) and not math.isfinite(values):
        raise ValueError(f"config{path} is {values}; set it to a finite number{_as_in(path[1:])}")
    if not isinstance(values, kind) or (kind is int and isinstance(values, bool)):
        raise ValueError(f"config{path} is {values!r}; it takes a value of type {kind.__name__}{_as_in(path[1:])}")
    return values


def _has_fields(name: str, fields: typing.Iterable[str]) -> ValueError:
    return ValueError(f"config.{name} has fields of its own; set one of {', '.join(fields)}{_as_in(name)}")


def _as_in(name: str) -> str:
    return f", as in {example(Config(), name)}"


class _Flag(str):
    """What stands behind the "=" of a flag: text, until it is known what kind of value is wanted there."""


def _read(kind: Any, text: _Flag) -> Any:
    """Returns the value that a flag's text stands for: as in Python, but that strings need no quotes, nor tuples of words parentheses."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        value = {"true": True, "false": False}.get(text.lower(), str(text))
    if kind is str and not isinstance(value, str):
        return str(text)
    if kind == tuple[str, ...] and isinstance(value, str):
        words = [word.strip() for word in value.split(",")]
        return tuple(words) if all(map(str.isidentifier, words)) else value
    return value


def override(config: Config, assignments: list[str]) -> Config:
    """Returns a config with fields replaced, each named as `learner.num_updates=100`; a tuple of words is `agent.tools=calculator,table`.

    Raises:
      ValueError: for an unknown field, a wrong type or an impossible value, with the nearest valid choice.
    """
    values = to_dict(config)
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name == "preset":
            raise ValueError("config.preset is the name of a preset; choose it by --preset")
        *path, last = _path(values, name)
        inner = values
        for part in path:
            inner = inner.setdefault(part, {})
        if isinstance(inner.get(last), dict) and [*path, last] not in _OPEN:
            raise _has_fields(name, inner[last])
        inner[last] = _read(dict, _Flag(text)) if [*path, last] in _OPEN else _Flag(text)
    return from_dict(Config, values)


def _path(values: dict, name: str) -> list[str]:
    """Splits a dotted name; names within `learner.schedules` hold a dot themselves ("learner.schedules.attempts.keep.start")."""
    parts = name.split(".")
    if parts[:2] == ["learner", "schedules"] and ".".join(parts[2:]) in values["learner"]["schedules"]:
        return [*parts[:2], ".".join(parts[2:])]
    if parts[:2] == ["learner", "schedules"] and len(parts) > 3:
        return [*parts[:2], ".".join(parts[2:-1]), parts[-1]]
    inner: Any = values
    for index, part in enumerate(parts):
        if not isinstance(inner, dict) or (part not in inner and parts[:2] not in _OPEN):
            where = ".".join(["config", *parts[:index]])
            known = inner if isinstance(inner, dict) else []
            meant = " or ".join(f"config.{field}" for field in fields_called(part))
            raise ValueError(f"there is no field {where}.{part}; {f'did you mean {meant}?' if meant else nearest(part, known)}")
        inner = inner.get(part)
    return parts
