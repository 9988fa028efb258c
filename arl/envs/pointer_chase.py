"""Pointer chase: nodes in a circle, each of which points to the next, and a start from which to follow the pointers.

`Map 37 12 25 ... goal:4,7,2 at 5` shows each pointer as one word, 37 for the one from 3 to 7. The answer is the first of the goals that is
met on the way from 5 or, where the hops are told, as in `... steps 3 at 5`, the node after so many hops. One look at the text yields one
hop: whoever writes down each node that is passed, and looks up the next one, needs no more, whatever the number of hops. How many there
are differs from task to task, and where they are not told it shows only on the way.
"""

import dataclasses
import string
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, TaskExpert, whole_attempt_cost
from arl.types import ArlError, Kind, Text, select

MOST_DIGITS = 9  # nodes that are named by a digit, so that a pointer is a number of two digits
MOST_HOPS = 99


class ChaseState(NamedTuple):
    """The pointers, the question, and its answer.

    Attributes:
      next_node: int32 `[nodes]`, the node to which each one points.
      order: int32 `[nodes]`, the nodes in the order in which their pointers are shown.
      start: int32 `[]`, node at which the way begins.
      hops: int32 `[]`, number of pointers to follow.
      goals: int32 `[num_goals]`, the goals in the order in which they are shown; empty where the hops are told.
      answer: int32 `[]`, the answer that was given; -1 before.
    """

    next_node: jax.Array
    order: jax.Array
    start: jax.Array
    hops: jax.Array
    goals: jax.Array
    answer: jax.Array


def make_pointer_chase(tokenizer: Any, num_nodes: int = 9, longest: int = 6, is_told: bool = False, num_goals: int = 3) -> Environment:
    """Returns the chase as an environment of one action, whose action `i` is node `i`, with reward 1 for the right one.

    The circle through all nodes, the start, and the hops from 1 to `longest` are uniform. At level `i` there are `i` hops. One of the goals
    is `hops` away and the others, chosen at random, farther. A goal is the only legal answer; where the hops are told, every node is.

    Args:
      tokenizer: a fast tokenizer.
      num_nodes: number of nodes. Up to 9 are named 1, 2, ..., and a pointer is one token of the small tokenizer; more are named A, B, ....
      longest: most hops.
      is_told: whether the number of hops is told, and no goals are.
      num_goals: number of goals, where the hops are not told.

    Raises:
      ArlError: if a size is out of range.
    """
    num_goals = 0 if is_told else num_goals
    _check(num_nodes, longest, is_told, num_goals)
    nodes, names = jnp.arange(num_nodes), node_names(num_nodes)

    def reset_at(key: jax.Array, level: jax.Array) -> ChaseState:
        key_circle, key_goals, key_places, key_order = jax.random.split(key, 4)
        circle = jax.random.permutation(key_circle, num_nodes).astype(jnp.int32)
        next_node = jnp.zeros(num_nodes, jnp.int32).at[circle].set(jnp.roll(circle, -1))
        # The goal that counts comes first in this ranking, then those farther away, at random, then the rest.
        rank = jnp.where(nodes > level, 1.0 + jax.random.uniform(key_goals, (num_nodes,)), 3.0).at[level % num_nodes].set(0.0)
        goals = jax.random.permutation(key_places, circle[jnp.argsort(rank)[:num_goals]])
        order = jax.random.permutation(key_order, num_nodes).astype(jnp.int32)
        return ChaseState(next_node, order, circle[0], jnp.asarray(level, jnp.int32), goals, jnp.int32(-1))

    def reset(key: jax.Array) -> ChaseState:
        key_level, key_rest = jax.random.split(key)
        return reset_at(key_rest, jax.random.randint(key_level, (), 1, longest + 1))

    def right_answer(state: ChaseState) -> jax.Array:
        return jax.lax.fori_loop(0, state.hops, lambda _, node: state.next_node[node], state.start)

    def step(key: jax.Array, state: ChaseState, action: jax.Array) -> tuple[ChaseState, Step]:
        del key  # the environment is deterministic
        is_right = (state.answer < 0) & (action == right_answer(state))
        answered = state._replace(answer=jnp.asarray(action, jnp.int32))
        return select(state.answer < 0, answered, state), Step(jnp.float32(is_right), jnp.bool_(True), jnp.bool_(False))

    def legal(state: ChaseState) -> jax.Array:
        return jnp.ones(num_nodes, bool) if is_told else jnp.any(nodes == state.goals[:, None], axis=0)

    ask, say_end = (
        _question(tokenizer, names, longest, num_goals),
        text.template(tokenizer, "{end}", end=text.choice([" wrong\n", " correct\n"])),
    )

    def describe(state: ChaseState) -> Text:
        question, end = ask(state), say_end(end=state.answer == right_answer(state))
        return select(state.answer < 0, question, text.pad(end, question.ids.shape[0]))

    return Environment(
        reset=reset,
        step=step,
        describe=describe,
        grammar=text.legal_strings(tokenizer, [f" {name}" for name in names]),
        legal=legal,
        max_steps=1,
        expert=lambda key, state: right_answer(state),
        state_hash=lambda state: (state.start * (num_nodes + 1) + state.answer + 1).astype(jnp.uint32),
        reset_at=reset_at,
        num_levels=longest,
    )


def node_names(num_nodes: int) -> str:
    """Returns the names of the nodes, a character each.

    Args:
      num_nodes: number of nodes.
    """
    return string.digits[1 : num_nodes + 1] if num_nodes <= MOST_DIGITS else string.ascii_uppercase[:num_nodes]


def _question(tokenizer: Any, names: str, longest: int, num_goals: int):
    """Returns `state -> Text`, the pointers and the question.

    Its last token is the start, as that of a thought is the node it has come to. Goals are other tokens than nodes (no space precedes
    them), so that attention tells them apart.
    """
    num_nodes = len(names)
    pointers = text.choice([f" {a}{b.lower()}" for a in names for b in names])
    holes = {f"pointer{i}": pointers for i in range(num_nodes)} | {f"goal{i}": text.choice(list(names)) for i in range(num_goals)}
    words = "Map" + "".join(f"{{pointer{i}}}" for i in range(num_nodes))
    words += " goal:" + ",".join(f"{{goal{i}}}" for i in range(num_goals)) if num_goals else " steps {hops}"
    holes |= {} if num_goals else {"hops": text.number(1, longest)}
    say = text.template(tokenizer, words + " at{start}", start=text.choice([f" {name}" for name in names]), **holes)

    def ask(state: ChaseState) -> Text:
        shown = state.order * num_nodes + state.next_node[state.order]
        values = {f"pointer{i}": shown[i] for i in range(num_nodes)} | {f"goal{i}": state.goals[i] for i in range(num_goals)}
        return say(start=state.start, **values, **({} if num_goals else {"hops": state.hops}))

    return ask


def way(state: ChaseState, length: int) -> jax.Array:
    """Returns the nodes that are met on the way from the start, int32 `[length]`.

    Args:
      state: state of the environment.
      length: number of nodes.
    """
    follow = lambda node, _: (state.next_node[node], state.next_node[node])
    return jax.lax.scan(follow, state.start, length=length)[1]


def _check(num_nodes: int, longest: int, is_told: bool, num_goals: int) -> None:
    """Raises an `ArlError` for a chase that is impossible."""
    most_nodes = len(string.ascii_uppercase)
    if not 3 <= num_nodes <= most_nodes:
        raise ArlError(f"A chase of {num_nodes} nodes has no choice, or no letter for each; set num_nodes to 3, ..., {most_nodes}.")
    if not is_told and num_goals < 2:
        raise ArlError(f"With {num_goals} goals there is nothing to find out; set num_goals to at least 2.")
    most = MOST_HOPS if is_told else num_nodes - num_goals
    if not 1 <= longest <= most:
        beyond = "" if is_told else f", with {num_goals - 1} goals behind the first of {num_nodes} nodes"
        raise ArlError(f"A way of {longest} hops is impossible here{beyond}; set longest to 1, ..., {most}, or other sizes.")


# ---------------------------------------------------------------- baseline, exact
def random_return(num_nodes: int, num_goals: int) -> float:
    """Returns the expected return of random answers.

    Args:
      num_nodes: number of nodes.
      num_goals: number of goals; 0 where the hops are told.
    """
    return 1.0 / (num_goals or num_nodes)


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class PointerChase(Checked):
    """Pointers to follow, from node to node; fields as the arguments of `make_pointer_chase`.

    The expert's thought names the nodes that are met, up to the answer.
    """

    num_nodes: int = 9
    longest: int = 6
    is_told: bool = False
    num_goals: int = 3

    def make(self, tokenizer: Any) -> Task:
        """Returns the task.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_pointer_chase(tokenizer, self.num_nodes, self.longest, self.is_told, self.num_goals)
        symbols = tuple(f" {name}" for name in node_names(self.num_nodes))
        names = text.stack([text.token_ids(tokenizer, symbol) for symbol in symbols])

        def think(key: jax.Array, state: ChaseState, attempt: jax.Array) -> Text:
            nodes = way(state, self.longest)
            return text.concatenate(*(text.only_if(i < state.hops, text.lookup(names, nodes[i])) for i in range(self.longest)))

        experts: dict[Kind, TaskExpert] = {Kind.THINK: think}
        return Task(environment, tokenizer, bounds=self._bounds, experts=lambda limits: experts, note_symbols=symbols)

    def _bounds(self, limits: Limits) -> Bounds:
        cost = whole_attempt_cost(limits, 1)
        chance = random_return(self.num_nodes, 0 if self.is_told else self.num_goals)
        random, optimal = ((best - cost) * limits.num_attempts for best in (chance, 1.0))
        return Bounds(random, optimal, 0.5 - cost)
