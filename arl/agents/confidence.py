"""Introspection in words: after an answer, and before it is heard whether it was right, the model says how sure it is of it."""

import dataclasses
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.agents.layer import Layer, extend, without_reward
from arl.agents.size import insert_before_turn
from arl.task import Task
from arl.types import AgentState, ArlError, Interaction, Kind, Segment, Text, Turn, make_turn, select

SCORES = ("quadratic", "log")


class ConfidenceState(NamedTuple):
    """Own state of `Confidence`.

    Attributes:
      kind: int32 `[]`, kind of the segment that is being written.
      held: the inner turn that follows the answer, without its reward, which has been passed on.
      is_right: bool `[]`, whether the last answer was right.
      posterior: float32 `[]`, probability of that by the task's exact posterior; 0.5 if it is not known.
      attempt: int32 `[]`, index of the attempt of the segment that is being written.
    """

    kind: jax.Array
    held: Turn
    is_right: jax.Array
    posterior: jax.Array
    attempt: jax.Array


@dataclasses.dataclass(frozen=True)
class Confidence(Layer):
    """A CONFIDENCE segment after each ACTION, such as " 70%", before the answer of the environment is read.

    The segment is paid a proper score, `Reward.own`: its mean is largest if the agent states the probability with which it is right
    (Gneiting and Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and Estimation"). It pays this segment alone, and the segment is
    paid by nothing else. If the action shared it, to be wrong for sure, at 0%, would be as good as to be right at 100%; if the segment
    shared what follows, a lie might pay. An illegal text is paid what the most wrong confidence is.

    The expert states the task's `posterior`, which remembers this attempt only, or about 50% without one.

    Attributes:
      levels: what can be stated, percents in ascending order.
      score: "quadratic", minus the squared error, between -1 and 0 (Brier 1950); or "log", the log of the probability given to what
        happened, nats, for levels above 0 and below 100.
      right_at: outcome of an action from which it was right, in the environment's units.
      ask: prompt, read before a confidence.
    """

    levels: tuple[int, ...] = (1, *range(10, 100, 10), 99)
    score: str = "quadratic"
    right_at: float = 0.5
    ask: str = " score"

    def __post_init__(self):
        if not isinstance(self.levels, tuple) or len(self.levels) < 2:
            raise ArlError(f"Confidence.levels is {self.levels!r}; set it to a tuple of two percents or more, such as (10, 50, 90)")
        super().__post_init__()
        if any(low >= high for low, high in itertools.pairwise((-1, *self.levels, 101))):
            raise ArlError(f"Confidence.levels is {self.levels}; set it to different percents from 0 to 100 in ascending order")
        if self.score not in SCORES:
            raise ArlError(f"Confidence.score is {self.score!r}; set it to one of {', '.join(SCORES)}")
        if self.score == "log" and (self.levels[0] == 0 or self.levels[-1] == 100):
            raise ArlError("the log score of a level of 0 or 100 is infinite if it is wrong; set Confidence.levels between 1 and 99")
        if not self.ask:
            raise ArlError("Confidence.ask is empty; set it to a word or more")

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Confidences."""
        return (Kind.CONFIDENCE,)

    @property
    def probabilities(self) -> np.ndarray:
        """What each level says, float32 `[levels]`."""
        return np.asarray(self.levels, np.float32) / 100

    def scores(self, is_right: jax.Array) -> jax.Array:
        """Returns what each level is paid, float32 `[levels]`.

        Args:
          is_right: bool `[]`, whether the answer was right.
        """
        given = jnp.where(is_right, self.probabilities, 1 - self.probabilities)
        return -jnp.square(1 - given) if self.score == "quadratic" else jnp.log(given)

    def squared_error(self, score: np.ndarray) -> np.ndarray:
        """Returns the squared errors of the confidences that were paid `score`, float `[...]`: their Brier scores."""
        return -score if self.score == "quadratic" else np.square(1 - np.exp(score))

    def wrap(self, inner: Interaction, task: Task) -> Interaction:
        """Returns `inner` with confidences."""
        if Kind.ACTION not in inner.writes:
            raise ArlError("nothing within Confidence acts, so there is no answer to be sure of; put Act() first")
        if Kind.CONFIDENCE in inner.writes:
            raise ArlError("a confidence in an answer is stated once; leave one Confidence out")
        words = text.legal_strings(task.tokenizer, [f" {level}%" for level in self.levels], prefix=self.ask)
        grammar, asking = text.join(inner.grammar, words), text.encode(task.tokenizer, self.ask)
        length, budget = asking.ids.shape[0], text.longest(words)
        read = max(inner.size.read, length)
        size = insert_before_turn(inner.size, segments=1, tokens=length + budget, read=read, written=budget)
        legal = text.pad_legal(jnp.ones(len(self.levels), bool), grammar.num_choices)

        def fit(turn: Turn) -> Turn:
            return turn._replace(read=text.pad(turn.read, read), legal=text.pad_legal(turn.legal, grammar.num_choices))

        def start(key, curriculum):
            state, turn = inner.start(key, curriculum)
            turn = fit(turn)
            return state.push(ConfidenceState(turn.kind, turn, jnp.bool_(False), jnp.float32(0.5), turn.attempt)), turn

        def after_segment(key, curriculum, inner_state: AgentState, own: ConfidenceState, segment: Segment):
            """Advances the inner interaction, and asks how sure the model is if the segment was an action."""
            if task.posterior:
                action = jnp.maximum(segment.choice, 0)
                posterior = jnp.where(segment.is_legal, task.posterior(inner_state.environment, action), 0.0)
                own = own._replace(posterior=jnp.asarray(posterior, jnp.float32))
            inner_state, turn = inner.advance(key, curriculum, inner_state, segment)
            turn, is_asked = fit(turn), own.kind == Kind.ACTION
            is_right = segment.is_legal & (turn.reward.outcome >= self.right_at)
            asked = make_turn(
                text.pad(asking, read),
                Kind.CONFIDENCE,
                budget,
                grammar.root,
                legal,
                reward=turn.reward,
                discount=turn.discount,
                attempt=own.attempt,
            )
            turn, held = select(is_asked, asked, turn), without_reward(turn)
            return inner_state.push(own._replace(kind=turn.kind, held=held, is_right=is_right, attempt=turn.attempt)), turn

        def after_confidence(inner_state: AgentState, own: ConfidenceState, segment: Segment):
            """Pays the confidence, and reads what was held back."""
            scores = self.scores(own.is_right)
            paid = jnp.where(segment.is_legal, scores[jnp.maximum(segment.choice, 0)], jnp.min(scores))
            turn = own.held._replace(reward=own.held.reward._replace(own=paid))
            return inner_state.push(own._replace(kind=turn.kind, attempt=turn.attempt)), turn

        def advance(key, curriculum, state: AgentState, segment: Segment):
            inner_state, own = state.pop()
            within = segment._replace(text=text.cut(segment.text, inner.size.written))
            followed = after_segment(key, curriculum, inner_state, own, within)
            return select(own.kind == Kind.CONFIDENCE, after_confidence(inner_state, own, segment), followed)

        def expert(key, state: AgentState, attempt: jax.Array) -> Text:
            nearest = jnp.argmin(jnp.abs(self.probabilities - state.pop()[1].posterior))
            return text.say_choice(words, nearest)

        return extend(inner, self, start=start, advance=advance, grammar=grammar, size=size, experts={Kind.CONFIDENCE: expert})
