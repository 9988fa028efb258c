"""Checks of an environment and its task: what its functions return, what is reached in random and expert play, and its bounds."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.agents import experts_of
from arl.runs.check_functions import check_array, check_form, compiled, run_twice, trace
from arl.runs.check_outcomes import check_bounds, check_hidden
from arl.runs.check_texts import extent
from arl.task import Environment, Step, Task, TaskExpert
from arl.types import ArlError, Grammar, Kind, State, Text

MOST_STEPS = 1000  # of an attempt that is played
_RANDOM, _EXPERT = 16, 4  # times as many episodes as asked for: means need more of them than single faults


class Moment(NamedTuple):
    """One step of each lane, arrays `[B, N]`.

    Attributes:
      is_played: bool, whether the episode has not ended before it.
      length: int32, length of the text that is read before it.
      lowest, highest: int32, smallest and largest token id of that text.
      is_legal: bool, whether some action is legal.
      expert_errs: bool, whether the environment's expert would take an illegal action.
      writer_errs: bool, whether the task's expert, whom the lane follows, writes an illegal action.
      reward: float32, without the cost of the step.
      ends: bool, whether the environment ends the attempt.
      num_steps: int32, steps of the attempt, this one included.
      outcome: float32, what counts towards the outcome of the episode.
    """

    is_played: jax.Array
    length: jax.Array
    lowest: jax.Array
    highest: jax.Array
    is_legal: jax.Array
    expert_errs: jax.Array
    writer_errs: jax.Array
    reward: jax.Array
    ends: jax.Array
    num_steps: jax.Array
    outcome: jax.Array


def check_environment(task: Task, key: jax.Array, num_episodes: int) -> None:
    """Checks a task: its functions, what they say, allow and pay in random and in expert play, what is hidden, and the bounds.

    Args:
      task: the task, with the limits within which it is played.
      key: random key.
      num_episodes: number of episodes; some checks play a few times as many.

    Raises:
      ArlError: if something is broken.
    """
    key_play, key_reset = jax.random.split(key)
    check_constants(task)
    check_functions(task)
    is_expert, moment = play(task, key_play, num_episodes)
    check_moments(task, moment)
    check_hidden(task, key_reset)
    outcome = np.sum(moment.outcome, axis=1, where=moment.is_played)
    if num_steps_of(task) < MOST_STEPS:  # else episodes were not played to their ends
        check_bounds(task, outcome[~is_expert], outcome[is_expert])


def check_constants(task: Task) -> None:
    """Checks the constants of a task and its environment.

    Args:
      task: the task.

    Raises:
      ArlError: if one is of the wrong type, or out of range.
    """
    environment = task.environment
    if not isinstance(environment, Environment):
        raise ArlError(f"Task.environment is a {type(environment).__name__}; make it an arl.task.Environment")
    if not isinstance(environment.grammar, Grammar):
        raise ArlError(f"the environment's grammar is a {type(environment.grammar).__name__}; make it by arl.text.legal_strings")
    max_steps, worst, highest = environment.max_steps, environment.worst_reward, int(environment.grammar.candidates.max())
    if max_steps is not None and (isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer) or max_steps < 1):
        raise ArlError(f"the environment's max_steps is {max_steps!r}; set it to a whole number >= 1, or to None")
    if isinstance(worst, bool) or not isinstance(worst, int | float | np.number) or not -math.inf < worst <= 0:
        raise ArlError(
            f"the environment's worst_reward is {worst!r}, and illegal texts earn it; set it to the least that a step can earn, or to 0 if "
            "that is more"
        )
    if highest >= len(task.tokenizer):
        raise ArlError(
            f"the environment's grammar has token {highest}, and its tokenizer {len(task.tokenizer)} tokens; make both with one tokenizer"
        )


def check_functions(task: Task) -> None:
    """Traces the functions of a task and checks the shapes and types of what they return.

    Args:
      task: the task.

    Raises:
      ArlError: if one cannot be traced, is not pure, or returns anything but its contract says.
    """
    environment, key, action = task.environment, jax.random.key(0), jax.ShapeDtypeStruct((), jnp.int32)
    state = trace("the environment's reset", environment.reset, key)
    result = trace("the environment's step", environment.step, key, state, action)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Step)):
        raise ArlError("the environment's step returns anything but (state, Step); return these two")
    check_form("the environment's step", result[0], state, "reset")
    check_array("the reward of the environment's step", result[1].reward, jnp.floating)
    check_array("`terminated` of the environment's step", result[1].terminated, jnp.bool_)
    check_array("`truncated` of the environment's step", result[1].truncated, jnp.bool_)
    capacities: list[int] = []
    for when, seen in (("reset", state), ("step", result[0])):
        said = text.checked(trace("the environment's describe", environment.describe, seen), "the environment's describe")
        capacity = getattr(said.ids, "shape", None)
        if not capacity or len(capacity) != 1 or not jnp.issubdtype(said.ids.dtype, jnp.integer):
            raise ArlError(f"the environment's describe returns no ids int32 [capacity] after {when}; make the text by arl.text.template")
        check_array("the length of the text of the environment's describe", said.length, jnp.integer)
        capacities.append(capacity[0])
    if len(set(capacities)) > 1:
        raise ArlError(
            f"the environment's describe returns a text of capacity {capacities[0]} after reset and one of {capacities[1]} after step; "
            "make both by one arl.text.template, or give them one capacity by arl.text.pad"
        )
    legal = trace("the environment's legal", environment.legal, state)
    check_array("what the environment's legal returns", legal, jnp.bool_, (environment.grammar.num_choices,))
    if environment.expert:
        check_array(
            "the action of the environment's expert", trace("the environment's expert", environment.expert, key, state), jnp.integer
        )
    if environment.state_hash:
        check_array("the environment's state_hash", trace("the environment's state_hash", environment.state_hash, state), jnp.uint32)
    if task.information_gain:
        check_array("Task.information_gain", trace("Task.information_gain", task.information_gain, state, state), jnp.floating)
    if task.hidden:
        for leaf in jax.tree.leaves(trace("Task.hidden", task.hidden, state)):
            if not jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.dtype != jnp.bool_:
                raise ArlError(f"Task.hidden returns {leaf.dtype}; return integers, which can be counted")


def num_steps_of(task: Task) -> int:
    """Returns the number of steps after which an attempt at a task ends, within its limits.

    Args:
      task: the task.
    """
    return min([bound for bound in (task.environment.max_steps, task.limits.time_limit) if bound], default=MOST_STEPS)


def play(task: Task, key: jax.Array, num_episodes: int) -> tuple[np.ndarray, Moment]:
    """Plays episodes of random legal actions, and of the task's expert, twice with the same keys.

    Args:
      task: the task, with the limits within which it is played.
      key: random key.
      num_episodes: number of episodes; a few times as many are played in each way.

    Returns:
      Whether a lane follows the expert, bool `[B]`, and what happened.

    Raises:
      ArlError: if something else happens the second time.
    """
    expert = experts_of(task).get(Kind.ACTION)
    is_expert = np.repeat([False, True], [_RANDOM * num_episodes, _EXPERT * num_episodes if expert else 0])
    run = compiled(jax.vmap(functools.partial(_play_lane, task, expert)))
    arguments = jax.random.split(key, len(is_expert)), jnp.asarray(is_expert)
    return is_expert, run_twice("the environment", run, *arguments)


def _play_lane(task: Task, expert: TaskExpert | None, key: jax.Array, is_expert: jax.Array) -> Moment:
    """Plays one episode, all of whose attempts start with the same key; returns arrays `[N]`."""
    environment, limits = task.environment, task.limits
    num_steps = min(num_steps_of(task), MOST_STEPS)
    key_reset, key_steps = jax.random.split(key)
    begin = environment.reset(key_reset)

    def step(carry, key):
        state, attempt, count, is_over = carry
        key_action, key_expert, key_step = jax.random.split(key, 3)
        legal, said = environment.legal(state), environment.describe(state)
        action = jax.random.categorical(key_action, jnp.where(legal, 0.0, -jnp.inf))
        writer_errs = expert_errs = jnp.bool_(False)
        if environment.expert:
            expert_errs = ~_is_in(legal, environment.expert(key_expert, state))
        if expert:
            written, is_string = text.parse(environment.grammar, environment.grammar.root, _plain(expert(key_expert, state, attempt)))
            is_right = is_string & _is_in(legal, written)
            action, writer_errs = jnp.where(is_expert & is_right, written, action), is_expert & ~is_right
        after, result = environment.step(key_step, state, action.astype(jnp.int32))
        ends = jnp.asarray(result.terminated) | result.truncated
        attempt_ends = ends | (count + 1 >= num_steps)
        moment = Moment(
            ~is_over, *extent(said), jnp.any(legal), expert_errs, writer_errs, jnp.float32(result.reward), ends, count + 1,
            jnp.float32(result.reward) - limits.step_cost,
        )  # fmt: skip
        is_last = attempt_ends & (attempt + 1 >= limits.num_attempts)
        begins = attempt_ends & ~is_last
        after = _choose(is_over | is_last, state, _choose(begins, begin, after))
        return (after, attempt + begins, jnp.where(begins, 0, count + 1), is_over | is_last), moment

    carry = (begin, jnp.int32(0), jnp.int32(0), jnp.bool_(False))
    return jax.lax.scan(step, carry, jax.random.split(key_steps, num_steps * limits.num_attempts))[1]


def _choose(which: jax.Array, if_true: State, if_false: State) -> State:
    """Returns one of two states, with the types of the first one."""
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), if_true, if_false)


def _is_in(legal: jax.Array, action: jax.Array) -> jax.Array:
    """Returns whether an action, int `[]`, is one of the legal ones, bool `[A]`."""
    return (action >= 0) & (action < legal.shape[0]) & legal[jnp.clip(action, 0, legal.shape[0] - 1)]


def _plain(said: Text) -> Text:
    return Text(jnp.asarray(said.ids, jnp.int32), jnp.asarray(said.length, jnp.int32))


def check_moments(task: Task, moment: Moment) -> None:
    """Checks what happened in episodes.

    Args:
      task: the task.
      moment: what happened, `[B, N]`.

    Raises:
      ArlError: if something was broken.
    """
    environment, vocab_size = task.environment, len(task.tokenizer)
    capacity = jax.eval_shape(lambda key: environment.describe(environment.reset(key)), jax.random.key(0)).ids.shape[0]
    in_play = lambda fault: np.flatnonzero(fault & moment.is_played)
    at = lambda values, fault: values.ravel()[in_play(fault)[0]]

    fault = (moment.length < 0) | (moment.length > capacity)
    if len(in_play(fault)):
        raise ArlError(
            f"the environment's describe says a text of length {at(moment.length, fault)}, which does not fit into its capacity of "
            f"{capacity}; give it room, and a length between 0 and that"
        )
    answer = capacity if environment.answer_capacity is None else environment.answer_capacity
    if len(in_play(fault := (moment.num_steps > 1) & (moment.length > answer))):
        raise ArlError(
            f"the environment's describe says {at(moment.length, fault)} tokens after an action, and its answer_capacity is {answer}; set "
            "it to the most that are said, or to None"
        )
    fault = (moment.lowest < 0) | (moment.highest >= vocab_size)
    if len(in_play(fault)):
        found = at(np.where(moment.lowest < 0, moment.lowest, moment.highest), fault)
        raise ArlError(
            f"the environment's describe says token {found}, and its tokenizer has tokens 0 to {vocab_size - 1}; make texts with that "
            "tokenizer"
        )
    if len(in_play(fault := ~moment.is_legal)):
        raise ArlError(
            f"the environment's legal is False for all actions before step {at(moment.num_steps, fault)} of an attempt; allow at least "
            "one, or end the attempt before"
        )
    if len(in_play(moment.expert_errs)):
        raise ArlError("the environment's expert takes an action that is not legal; let it choose among the legal ones")
    if len(in_play(moment.writer_errs)):
        raise ArlError("the task's expert of actions writes a text that is no legal action; let it write one of the legal strings")
    if len(in_play(fault := ~np.isfinite(moment.reward))):
        raise ArlError(f"the environment's step pays {at(moment.reward, fault)}; make every reward a finite number")
    slack = 1e-5 * max(1.0, abs(environment.worst_reward))  # of rounding
    if len(in_play(fault := moment.reward < environment.worst_reward - slack)):
        raise ArlError(
            f"the environment's step pays {at(moment.reward, fault):g} where its worst_reward is {environment.worst_reward:g}; set "
            "worst_reward to the least that a step can earn"
        )
    if environment.max_steps and len(in_play(~moment.ends & (moment.num_steps >= environment.max_steps))):
        raise ArlError(
            f"an attempt goes on after the environment's max_steps = {environment.max_steps} actions; end it by then, or set max_steps to "
            "the most that there can be, or to None"
        )
