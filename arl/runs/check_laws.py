"""The laws of turns and the bounds of an agent's size, for turns that were recorded."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from arl.runs.check_texts import REFUSED, TOO_LONG
from arl.types import Interaction, Kind, Reward

_SLACK = 1e-5  # of sums of rewards in float32


class Told(NamedTuple):
    """Turns and the segments that answer them, arrays `[B, N]`; a turn that ends its episode is repeated up to the end.

    Attributes:
      kind, budget, reset_context, discount, attempt, terminated, truncated: as in `Turn`.
      reward: float32 `[B, N, 5]`, components of the reward.
      read, capacity: int32, length and capacity of the text of the turn.
      lowest, highest: int32, smallest and largest token id of that text.
      can_write: bool, whether some token can begin the segment.
      is_legal: bool, whether the segment is legal.
      num_tokens, num_last, verdict: as in `arl.runs.check_texts.Written`.
    """

    kind: np.ndarray
    budget: np.ndarray
    reset_context: np.ndarray
    discount: np.ndarray
    attempt: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    reward: np.ndarray
    read: np.ndarray
    capacity: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    can_write: np.ndarray
    is_legal: np.ndarray
    num_tokens: np.ndarray
    num_last: np.ndarray
    verdict: np.ndarray

    @property
    def is_live(self) -> np.ndarray:
        """Whether the turn is answered, bool `[B, N]`."""
        return ~(self.terminated | self.truncated)

    @property
    def is_new(self) -> np.ndarray:
        """Whether the turn is not a repetition of the one before, bool `[B, N]`."""
        return np.concatenate([np.ones_like(self.is_live[:, :1]), self.is_live[:, :-1]], axis=1)


def broken_laws(agent: Interaction, told: Told) -> Iterator[str]:
    """Yields a sentence for each law that some turn breaks.

    Args:
      agent: the agent.
      told: the turns.
    """
    laws = (_starts, _ends, _reads, _reads_ids, _asks, _can_be_answered, _pays, _discounts, _counts_attempts, _does_not_pay_illegal)
    for law in (*laws, _has_experts):
        yield from law(agent, told)


def _first(values: np.ndarray, fault: np.ndarray):
    """Returns the first of the values where `fault` is true."""
    return values[fault][0]


def _starts(agent: Interaction, told: Told) -> Iterator[str]:
    """An episode starts with a turn that is answered, and without a reward, which no segment would get."""
    if (told.terminated | told.truncated)[:, 0].any():
        yield "start returns a turn that ends the episode; ask for a segment first"
    if told.reward[:, 0].any():
        yield f"start returns a turn with a reward of {_first(told.reward, told.reward != 0):g}, which no segment earns; pay it later"


def _ends(agent: Interaction, told: Told) -> Iterator[str]:
    """An episode ends in one way; nothing is written where it is truncated, and something in each turn before."""
    new = told.is_new
    if (told.terminated & told.truncated & new).any():
        yield "a turn is both terminated and truncated; set truncated to False where the episode has terminated"
    if (fault := told.truncated & ~told.terminated & (told.budget != 0) & new).any():
        yield f"a truncated turn has a budget of {_first(told.budget, fault)}, and nothing is written in it; set its budget to 0"
    if (fault := told.is_live & (told.budget <= 0)).any():
        yield (
            f"a turn that asks for {_name(_first(told.kind, fault))} has a budget of {_first(told.budget, fault)}; set it to at least 1, "
            "or end the episode by truncated or terminated"
        )


def _reads(agent: Interaction, told: Told) -> Iterator[str]:
    """A text fits into its capacity, and a new context has one."""
    is_read = told.is_new & ~told.terminated
    if (fault := is_read & ((told.read < 0) | (told.read > told.capacity))).any():
        yield (
            f"a turn reads a text of length {_first(told.read, fault)}, which does not fit into its capacity of "
            f"{_first(told.capacity, fault)}; give it room, and a length between 0 and that"
        )
    if (fault := is_read & told.reset_context & (told.read == 0)).any():
        yield "a turn resets the context and reads nothing; give it a text, or set reset_context to False"


def _reads_ids(agent: Interaction, told: Told) -> Iterator[str]:
    """Texts have ids of the tokenizer, if it is known."""
    num_tokens = len(agent.task.tokenizer) if agent.task else 2**31
    if (fault := told.is_new & ~told.terminated & ((told.lowest < 0) | (told.highest >= num_tokens))).any():
        found = _first(np.where(told.lowest < 0, told.lowest, told.highest), fault)
        yield f"a turn reads token {found}, and there are tokens 0 to {num_tokens - 1}; make texts with the task's tokenizer"


def _asks(agent: Interaction, told: Told) -> Iterator[str]:
    """Segments are of the kinds that the layers declare."""
    writes = np.asarray([int(kind) for kind in agent.writes])
    if agent.layers and (fault := told.is_live & ~np.isin(told.kind, writes)).any():
        declared = ", ".join(kind.name for kind in agent.writes)
        yield (
            f"a turn asks for {_name(_first(told.kind, fault))}, and the layers declare {declared}; add the kind to `writes` of the layer "
            "that asks for it"
        )


def _can_be_answered(agent: Interaction, told: Told) -> Iterator[str]:
    """Something can be written where something is asked for."""
    if (fault := told.is_live & ~told.can_write).any():
        yield (
            f"a turn that asks for {_name(_first(told.kind, fault))} has a budget of {_first(told.budget, fault)} and no legal string in "
            "its state of the grammar; set `grammar_state` to the root of a grammar, and `legal` to True for at least one of its strings"
        )


def _pays(agent: Interaction, told: Told) -> Iterator[str]:
    """Rewards are finite."""
    if (fault := ~np.isfinite(told.reward) & told.is_new[..., None]).any():
        component = Reward._fields[np.argwhere(fault)[0][-1]]
        yield f"the {component} reward of a turn is {_first(told.reward, fault)}; make every reward a finite number"


def _discounts(agent: Interaction, told: Told) -> Iterator[str]:
    """A discount is a weight."""
    if (fault := told.is_new & ~((told.discount >= 0) & (told.discount <= 1))).any():
        yield f"the discount of a turn is {_first(told.discount, fault):g}; set it between 0 and 1"


def _counts_attempts(agent: Interaction, told: Told) -> Iterator[str]:
    """The index of the attempt does not fall, and stays below the number of attempts."""
    falls = np.zeros_like(told.is_live)
    falls[:, 1:] = (told.attempt[:, 1:] < told.attempt[:, :-1]) & told.is_new[:, 1:]
    if falls.any():
        later, earlier = _first(told.attempt, falls), told.attempt[:, :-1][falls[:, 1:]][0]
        yield f"the index of the attempt falls from {earlier} to {later}; count attempts up"
    most = agent.task.limits.num_attempts if agent.task else None
    if most is not None and (fault := told.is_new & ((told.attempt < 0) | (told.attempt >= most))).any():
        yield (
            f"the index of the attempt is {_first(told.attempt, fault)}, and an episode has {most} attempts; let set_limits of the layer "
            "multiply num_attempts by its own"
        )


def _does_not_pay_illegal(agent: Interaction, told: Told) -> Iterator[str]:
    """Whoever has never acted legally has earned nothing: a layer may combine an illegal text with legal ones, or let a CONTROL act."""
    is_legal_act = told.is_live & told.is_legal & np.isin(told.kind, (Kind.ACTION, Kind.CONTROL))
    has_acted = np.cumsum(is_legal_act, axis=1) > 0
    outcome = told.reward[:, 1:, 0]
    if (fault := (outcome > _SLACK) & told.is_new[:, 1:] & ~has_acted[:, :-1]).any():
        yield (
            f"an outcome reward of {_first(outcome, fault):g} is paid to texts of which none was a legal action; let illegal texts earn 0 "
            "or less, such as the environment's worst_reward"
        )


def _has_experts(agent: Interaction, told: Told) -> Iterator[str]:
    """What an expert writes can be written."""
    if (fault := told.is_live & (told.verdict == TOO_LONG)).any():
        kind = _name(_first(told.kind, fault))
        yield (
            f"the expert of {kind} writes more than its budget of {_first(told.budget, fault)} tokens; cut its text, or raise the budget"
        )
    if (fault := told.is_live & (told.verdict == REFUSED)).any():
        kind = _name(_first(told.kind, fault))
        yield f"the expert of {kind} writes a text that is not legal in its turn; let it write one of the legal strings"


def _name(kind: int) -> str:
    return Kind(kind).name if kind in Kind.__members__.values() else f"kind {kind}"


def exceeded_sizes(agent: Interaction, told: Told) -> Iterator[str]:
    """Yields a sentence for each bound of an agent's size that is exceeded.

    Args:
      agent: the agent.
      told: the turns, one more than `size.turns` of each episode.
    """
    for name, most in measure(told).items():
        if most > (declared := getattr(agent.size, name)):
            yield f"an episode reaches {most} where the agent's size.{name} is {declared}; set size.{name} to the most that there can be"


def measure(told: Told) -> dict[str, int]:
    """Returns the largest value of each quantity that `Size` bounds, as `arl.rollout.check_size` counts them in trajectories.

    The tokens written last are not read where the context is reset or the episode terminates; the text of a turn that terminates is not
    read at all.

    Args:
      told: the turns.
    """
    num_lanes, num_turns = told.kind.shape
    episode, context, context_turns, resets, unread = np.zeros((5, num_lanes), int)
    most = dict.fromkeys(("context", "context_turns"), 0)

    def note() -> None:
        most["context"] = max(most["context"], int(context.max()))
        most["context_turns"] = max(most["context_turns"], int(context_turns.max()))

    for turn in range(num_turns):
        is_new, is_live, is_over = told.is_new[:, turn], told.is_live[:, turn], told.terminated[:, turn]
        begins = is_new & ~is_over & told.reset_context[:, turn] & (turn > 0)
        read = np.where(is_new & ~is_over, told.read[:, turn], 0)
        new = np.where(is_new & ~is_over & ~begins, unread, 0) + read
        episode, context = episode + new, np.where(begins, 0, context) + new
        context_turns, resets = np.where(begins, 0, context_turns) + is_live, resets + begins
        written = np.where(is_live, told.num_tokens[:, turn] - told.num_last[:, turn], 0)
        episode, context = episode + written, context + written
        unread = np.where(is_live, told.num_last[:, turn], 0)
        note()
    found = {
        "read": np.where(told.is_new & ~told.terminated, told.read, 0),
        "written": np.where(told.is_live, np.maximum(told.num_tokens, told.budget), 0),
        "turns": told.is_live.sum(axis=1),
        "episode": episode,
        "context_resets": resets,
    }
    return {**{name: int(values.max()) for name, values in found.items()}, **most}
