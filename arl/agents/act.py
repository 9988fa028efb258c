"""The innermost layer: the agent reads an observation and writes an action."""

import dataclasses

import jax
import jax.numpy as jnp

from arl import text
from arl.agents.layer import Layer, experts_of
from arl.task import Environment, Limits, Step, Task, TaskExpert
from arl.types import AgentState, ArlError, Expert, Interaction, Kind, Reward, Segment, Size, State, Text, make_turn, select


@dataclasses.dataclass(frozen=True)
class Act(Layer):
    """Every turn is one ACTION.

    An illegal text uses up a turn: the environment's state does not change, and the same observation is read again. Its reward is the
    environment's `worst_reward` (as `outcome`) minus `illegal_penalty`, so that illegal texts never earn more than the worst legal play.
    Illegal turns count towards the limit at which an attempt is truncated. The layer's own state is the number of turns, int32 `[]`. Where
    `curriculum[name]["level"]` is set, as by `RaiseLevel`, an attempt is of that level.

    Attributes:
      illegal_penalty: penalty (as `process` reward) for an illegal text, in the environment's units.
      discount: discount factor of each action.
      resets_context: whether each turn starts a new context, so that the model sees only the present observation.
      time_limit: actions after which an attempt is truncated; 0 for the environment's own limit alone.
      step_cost: cost of each action, in the environment's units.
      information_bonus: bonus (as `process` reward) for each bit of information that an action yields about the hidden variable; needs
        `Task.information_gain`.
    """

    illegal_penalty: float = 0.1
    discount: float = 1.0
    resets_context: bool = False
    time_limit: int = 0
    step_cost: float = 0.0
    information_bonus: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for field in ("illegal_penalty", "step_cost", "information_bonus"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ArlError(f"Act.{field} is {getattr(self, field)}; set it to a number >= 0")
        if not 0 <= self.discount <= 1:
            raise ArlError(f"Act.discount is {self.discount}, which is no weight of what follows; set it between 0 and 1")
        if self.time_limit < 0:
            raise ArlError(f"Act.time_limit is {self.time_limit}; set it >= 0")

    @property
    def is_innermost(self) -> bool:
        """Always true."""
        return True

    @property
    def writes(self) -> tuple[Kind, ...]:
        """Actions."""
        return (Kind.ACTION,)

    @property
    def one_time_reward(self) -> str:
        """Information: every attempt would be rewarded for the same information."""
        return "information (Act.information_bonus)" if self.information_bonus else ""

    def set_limits(self, limits: Limits) -> Limits:
        """Returns the limits of an attempt."""
        return limits._replace(time_limit=self.time_limit, step_cost=self.step_cost)

    def wrap(self, inner: Interaction | None, task: Task) -> Interaction:
        """Returns the agent that acts; `inner` is None."""
        if inner is not None:
            raise ArlError("Act is the innermost layer; put it first, and once")
        informs = task.information_gain if self.information_bonus else None
        if self.information_bonus and not informs:
            raise ArlError(
                "the information in the answers of this environment is not known; set Act.information_bonus=0, or take Mastermind or "
                "TwentyQuestions"
            )
        environment = task.environment
        max_turns = _max_turns(environment, self.time_limit)
        grammar, budget = environment.grammar, text.longest(environment.grammar)
        worst_reward = environment.worst_reward - self.step_cost

        def ask(state: State, num_turns: jax.Array, **rest):
            left = jnp.where(rest["truncated"], 0, budget)
            said, legal = _describe(environment, state)
            turn = make_turn(said, Kind.ACTION, left, grammar.root, legal, reset_context=self.resets_context, **rest)
            return AgentState(state).push(num_turns), turn

        def start(key, curriculum):
            level = curriculum.get(self.label, {}).get("level")
            state = environment.reset(key) if level is None or not environment.reset_at else environment.reset_at(key, level)
            return ask(state, jnp.int32(0), truncated=jnp.bool_(False))

        def advance(key, curriculum, state: AgentState, segment: Segment):
            del curriculum
            num_turns = state.layers[0] + 1
            stepped, step = _take_step(environment, key, state.environment, jnp.maximum(segment.choice, 0))
            terminated = segment.is_legal & step.terminated
            truncated = ~terminated & ((segment.is_legal & step.truncated) | (num_turns >= max_turns))
            bonus = self.information_bonus * informs(state.environment, stepped) if informs else 0.0
            reward = Reward(
                outcome=jnp.where(segment.is_legal, step.reward - self.step_cost, worst_reward),
                process=jnp.where(segment.is_legal, bonus, -self.illegal_penalty),
            )
            stepped = select(segment.is_legal, stepped, state.environment)
            state, turn = ask(stepped, num_turns, reward=reward, discount=self.discount, terminated=terminated, truncated=truncated)
            if environment.answer_capacity is not None:
                again = text.pad(text.keep_last(turn.read, environment.answer_capacity), turn.read.ids.shape[0])
                turn = turn._replace(read=select(segment.is_legal, turn.read, again))
            return state, turn

        return Interaction(
            start=start,
            advance=advance,
            grammar=grammar,
            size=_size(environment, max_turns, budget, self.resets_context),
            experts=_experts(task),
            layers=(self,),
        )


def _max_turns(environment: Environment, time_limit: int) -> int:
    """Returns the actions of the longest attempt; raises `ArlError` if it has no bound, or if illegal texts would be rewarded."""
    if environment.max_steps is None and not time_limit:
        raise ArlError("this environment has no bound on its steps; set Act.time_limit >= 1")
    if not float("-inf") < environment.worst_reward <= 0:
        raise ArlError(
            f"the environment's worst_reward is {environment.worst_reward}, and illegal texts earn it; set it to the least that a step "
            "can earn, or to 0 if that is more"
        )
    if environment.max_steps is not None and environment.max_steps < 1:
        raise ArlError(f"the environment's max_steps is {environment.max_steps}, and an attempt without an action is none; set it >= 1")
    return min(bound for bound in (environment.max_steps, time_limit) if bound)


def _size(environment: Environment, max_turns: int, budget: int, resets_context: bool) -> Size:
    first = jax.eval_shape(lambda key: _describe(environment, environment.reset(key))[0], jax.random.key(0))
    capacity = first.ids.shape[0]
    answer = capacity if environment.answer_capacity is None else environment.answer_capacity
    if not 0 < answer <= capacity:
        raise ArlError(
            f"the environment's answer_capacity is {answer}; set it between 1 and {capacity}, the capacity of describe, or to None"
        )
    turn_length = capacity + budget
    episode = capacity + max_turns * (budget + answer)
    return Size(
        read=capacity,
        written=budget,
        turns=max_turns,
        episode=episode,
        context=turn_length if resets_context else episode,
        context_turns=1 if resets_context else max_turns,
        context_resets=max_turns if resets_context else 0,
    )


def _experts(task: Task) -> dict[Kind, Expert]:
    """Returns the task's experts as experts of an interaction."""

    def on_environment(expert: TaskExpert) -> Expert:
        return lambda key, state, attempt: expert(key, state.environment, attempt)

    return {kind: on_environment(expert) for kind, expert in experts_of(task).items()}


def _describe(environment: Environment, state: State) -> tuple[Text, jax.Array]:
    """Returns the observation of a state and its legal actions, bool `[A]`; raises `ArlError` if either is malformed."""
    said, legal = text.checked(environment.describe(state), "the environment's describe"), jnp.asarray(environment.legal(state))
    wanted = (environment.grammar.num_choices,)
    if legal.shape != wanted:
        raise ArlError(f"the environment's legal is of shape {legal.shape}; return a bool for each legal string, {wanted}")
    return said, legal


def _take_step(environment: Environment, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
    """Returns the state after an action, int32 `[]`, and its `Step`; raises `ArlError` if either is malformed."""
    result = environment.step(key, state, action)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Step)):
        raise ArlError("the environment's step returns anything but (state, Step); return these two")
    before, after = (_form(part) for part in (state, result[0]))
    if before != after:
        lost, new = min(before - after, default="nothing"), min(after - before, default="nothing")
        raise ArlError(f"the environment's step returns another form of state, {new} in place of {lost}; return what reset returns")
    if any(jnp.shape(part) for part in result[1]):
        raise ArlError("the environment's step returns a reward or an end that is no scalar; return arrays of shape []")
    return result


def _form(state: State) -> set[str]:
    """Returns path, type and shape of each array of a state, such as `state.low int32[]`."""
    leaves = ((jax.tree_util.keystr(path), jnp.asarray(leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(state))
    return {f"state{name} {leaf.dtype}{list(leaf.shape)}" for name, leaf in leaves}
