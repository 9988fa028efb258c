"""Episodes keep to the size that their interaction declares; one that does not is refused, and told by its metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import rollout, text
from arl.agents import Act, Think, extend
from arl.rollout import check
from arl.types import AgentState, Interaction, select
from tests import tiny


def vote(inner: Interaction, num_votes: int = 3) -> Interaction:
    """Asks for each action `num_votes` times and lets the last stand; its size does not tell, which is the fault."""

    def start(key, curriculum):
        state, turn = inner.start(key, curriculum)
        return state.push(jnp.int32(0)), turn

    def advance(key, curriculum, state: AgentState, segment):
        inner_state, num_asked = state.pop()
        asked, turn = inner.advance(key, curriculum, inner_state, segment)
        asks_again = num_asked < num_votes - 1
        _, again = inner.start(key, curriculum)
        again = again._replace(reward=jax.tree.map(jnp.zeros_like, turn.reward))
        return select(asks_again, (inner_state.push(num_asked + 1), again), (asked.push(jnp.int32(0)), turn))

    return extend(inner, None, start=start, advance=advance)._replace(experts={})


@pytest.mark.parametrize("name", tiny.COMPOSITIONS)
def test_what_is_ours_keeps_to_its_size(name):
    _, trajectory, _ = tiny.roll(name, *tiny.keys(6))
    size = tiny.agent(name).size
    assert {field: most for field, most in check.measure(trajectory).items() if most > getattr(size, field)} == {}


def test_a_context_that_begins_anew_every_turn_holds_one_turn_and_its_thought():
    resets = Act(resets_context=True)
    walk, thinking = tiny.make(tiny.make_walk(3), resets), tiny.make(tiny.make_walk(3), resets, Think(5, tiny.SYMBOLS))
    words = len(text.token_ids(tiny.TOKENIZER, " think")) + len(text.token_ids(tiny.TOKENIZER, " so"))
    assert thinking.size.context == walk.size.context + 5 + words
    rollout.check_size(thinking, jax.random.key(0))


def test_every_number_that_a_size_bounds_is_looked_at():
    """Two episodes told by hand: one begins its context anew and reads four tokens at once, the other writes three segments."""
    told = dict(
        token_kind=np.array([[1, 1, 6, 2, 2, 2], [1, 6, 2, 6, 2, 0]]),
        context_start=np.array([[0, 0, 0, 3, 3, 3], [0, 0, 0, 0, 0, 5]]),
        turn=np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 2, 2, 2]]),
        is_sampled=np.array([[0, 1, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0]], bool),
        ends_segment=np.array([[0, 0, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0]], bool),
    )
    assert check.measure(tiny.roll("act", *tiny.keys(6))[1]._replace(**told)) == {
        "read": 3,
        "written": 2,
        "turns": 3,
        "episode": 6,
        "context": 5,
        "context_resets": 1,
    }


def test_a_combinator_that_does_not_declare_its_turns_is_refused():
    with pytest.raises(ValueError, match=r"an episode reaches \d+ where the interaction's size.turns is 3; set size.turns to the most"):
        rollout.check_size(vote(tiny.make(tiny.make_walk(3), Act())), jax.random.key(0))
