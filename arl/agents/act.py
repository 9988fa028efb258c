"""From an environment to an interaction: the agent reads what the environment says and writes an action."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from arl import text
from arl.types import Environment, Interaction, Kind, Reward, Size, State, Step, Text, Written, make_turn, select

Process = Callable[[State, State], jax.Array]
"""`(state before, state after) -> float32 []`: what an action is worth on the way, such as the bits that its answer gave."""


def act(
    environment: Environment, *, illegal_penalty: float = 0.1, discount: float = 1.0, process: Process | None = None, forgets: bool = False
) -> Interaction:
    """Returns the interaction in which every turn is one ACTION.

    An illegal text is a wasted step: it earns the environment's `worst_reward` (as `outcome`, so that no legal action earns less) and costs
    `illegal_penalty`; the environment stands still and says again what it said. An episode whose turns are used up, illegal ones
    included, is truncated. So a text that is always illegal earns no more than the worst legal play.

    Args:
      environment: the task.
      illegal_penalty: charged (as `process` reward) for an illegal text, in the environment's units.
      discount: weight of all that follows an action, seen from before it.
      process: paid (as `process` reward) for a legal action, by the environment's states before and after it; None for nothing.
      forgets: whether the context begins anew at every turn, for a task whose every description says all that matters.

    Returns:
      The interaction; its state is `(environment's state, int32 [] number of turns)`.

    Raises:
      ValueError: if nothing bounds the episode, illegal texts would pay, or what follows would weigh more than what is now.
    """
    if not 0 <= illegal_penalty < float("inf"):
        raise ValueError(f"an illegal_penalty of {illegal_penalty} charges nothing for an illegal text; set it to a number >= 0")
    if not 0 <= discount <= 1:
        raise ValueError(f"a discount of {discount} is no weight of what follows; set it between 0 and 1")
    if environment.max_steps is None:
        raise ValueError(
            "this environment has no bound on its steps; wrap it in time_limit(environment, num_steps) "
            "(in configs environment.time_limit >= 1)"
        )
    if not float("-inf") < environment.worst_reward <= 0:
        raise ValueError(
            f"the environment's worst_reward is {environment.worst_reward}, and illegal texts earn it; set it to the least that a step "
            "can earn, or to 0 if that is more"
        )
    if environment.max_steps < 1:
        raise ValueError(f"the environment's max_steps is {environment.max_steps}, and an episode without an action is none; set it >= 1")
    grammar, max_turns = environment.grammar, environment.max_steps
    budget = text.longest(grammar)
    first = jax.eval_shape(lambda key: _describe(environment, environment.reset(key))[0], jax.random.key(0))
    capacity = first.ids.shape[0]
    turn_length = capacity + budget
    life = max_turns * turn_length + capacity

    def ask(state, num_turns, **rest):
        left = jnp.where(rest["truncated"], 0, budget)
        said, legal = _describe(environment, state)
        return (state, num_turns), make_turn(said, Kind.ACTION, left, grammar.root, legal, forget=forgets, **rest)

    def start(key, setting):
        del setting
        return ask(environment.reset(key), jnp.int32(0), truncated=jnp.bool_(False))

    def advance(key, setting, carry, written: Written):
        del setting
        state, num_turns = carry
        stepped, step = _take_step(environment, key, state, jnp.maximum(written.choice, 0))
        num_turns += 1
        terminated = written.is_legal & step.terminated
        truncated = ~terminated & ((written.is_legal & step.truncated) | (num_turns >= max_turns))
        on_the_way = process(state, stepped) if process else 0.0
        reward = Reward(
            outcome=jnp.where(written.is_legal, step.reward, environment.worst_reward),
            process=jnp.where(written.is_legal, on_the_way, -illegal_penalty),
        )
        stepped = select(written.is_legal, stepped, state)
        return ask(stepped, num_turns, reward=reward, discount=discount, terminated=terminated, truncated=truncated)

    def expert(key, carry):
        state, _ = carry
        choice = environment.expert(key, state)
        if isinstance(choice, Text) or not jnp.issubdtype(jnp.result_type(choice), jnp.integer):
            raise ValueError("the environment's expert returns no index of a legal string; return an action, int32 []")
        return text.say_choice(grammar, choice)

    return Interaction(
        start=start,
        advance=advance,
        grammar=grammar,
        size=Size(
            read=capacity,
            written=budget,
            turns=max_turns,
            life=life,
            context=turn_length if forgets else life,
            context_turns=1 if forgets else max_turns,
            forgets=max_turns if forgets else 0,
        ),
        expert=expert if environment.expert else None,
        anchor=(lambda carry: environment.anchor(carry[0])) if environment.anchor else None,
    )


def _describe(environment: Environment, state: State) -> tuple[Text, jax.Array]:
    """Returns what an environment says of a state, and which actions exist in it, bool `[A]`; raises `ValueError` if it is not these."""
    said, legal = text.checked(environment.describe(state), "the environment's describe"), jnp.asarray(environment.legal(state))
    wanted = (environment.grammar.num_choices,)
    if legal.shape != wanted:
        raise ValueError(f"the environment's legal is of shape {legal.shape}; return a bool for each legal string, {wanted}")
    return said, legal


def _take_step(environment: Environment, key: jax.Array, state: State, action: jax.Array) -> tuple[State, Step]:
    """Returns what follows an action, int32 `[]`; raises `ValueError` if that is not a state like the one before, and a `Step`."""
    result = environment.step(key, state, action)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Step)):
        raise ValueError("the environment's step returns something else than (state, Step); return these two")
    before, after = (_form(part) for part in (state, result[0]))
    if before != after:
        lost, new = min(before - after, default="nothing"), min(after - before, default="nothing")
        raise ValueError(f"the environment's step returns another form of state, {new} in place of {lost}; return what reset returns")
    if any(jnp.shape(part) for part in result[1]):
        raise ValueError("the environment's step returns a reward or an end that is no scalar; return arrays of shape []")
    return result


def _form(state: State) -> set[str]:
    """Returns what a state is made of: `.low int32[]`, say."""
    leaves = ((jax.tree_util.keystr(path), jnp.asarray(leaf)) for path, leaf in jax.tree_util.tree_leaves_with_path(state))
    return {f"state{name} {leaf.dtype}{list(leaf.shape)}" for name, leaf in leaves}
