"""Lives keep to the size that their interaction declares; one that does not is refused, and told by its metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import agents, rollout, text
from arl.rollout import check
from arl.types import Interaction, select
from tests import tiny


def vote(inner: Interaction, num_votes: int = 3) -> Interaction:
    """Asks for each action `num_votes` times and lets the last stand; its size does not tell, which is the fault."""

    def start(key, setting):
        state, turn = inner.start(key, setting)
        return (state, jnp.int32(0)), turn

    def advance(key, setting, carry, written):
        state, num_asked = carry
        asked, turn = inner.advance(key, setting, state, written)
        asks_again = num_asked < num_votes - 1
        _, again = inner.start(key, setting)
        again = again._replace(reward=jax.tree.map(jnp.zeros_like, turn.reward))
        return select(asks_again, ((state, num_asked + 1), again), ((asked, jnp.int32(0)), turn))

    return inner._replace(start=start, advance=advance, expert=None, anchor=None)


@pytest.mark.parametrize("name", tiny.COMPOSITIONS)
def test_what_is_ours_keeps_to_its_size(name):
    _, stream, _ = tiny.roll(name, *tiny.keys(6))
    size = tiny.agent(name).size
    assert {field: most for field, most in check.measure(stream).items() if most > getattr(size, field)} == {}


def test_a_context_that_begins_anew_every_turn_holds_one_turn_and_its_thought():
    walk = agents.act(tiny.make_walk(3), forgets=True)
    thinking = tiny.think(walk, budget=5, symbols=list(tiny.SYMBOLS))
    words = len(text.token_ids(tiny.TOKENIZER, " think")) + len(text.token_ids(tiny.TOKENIZER, " so"))
    assert thinking.size.context == walk.size.context + 5 + words
    rollout.check_size(thinking, jax.random.key(0))


def test_every_number_that_a_size_bounds_is_looked_at():
    """Two lives told by hand: one begins its context anew and reads four tokens at once, the other writes three segments."""
    told = dict(
        token_kind=np.array([[1, 1, 6, 2, 2, 2], [1, 6, 2, 6, 2, 0]]),
        begin=np.array([[0, 0, 0, 3, 3, 3], [0, 0, 0, 0, 0, 5]]),
        turn=np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 2, 2, 2]]),
        is_written=np.array([[0, 1, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0]], bool),
        ends_segment=np.array([[0, 0, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0]], bool),
    )
    assert check.measure(tiny.roll("act", *tiny.keys(6))[1]._replace(**told)) == {
        "read": 3,
        "written": 2,
        "turns": 3,
        "life": 6,
        "context": 5,
        "forgets": 1,
    }


def test_a_combinator_that_does_not_declare_its_turns_is_refused():
    with pytest.raises(ValueError, match=r"a life reaches \d+ where the interaction's size.turns is 3; set size.turns to the most"):
        rollout.check_size(vote(agents.act(tiny.make_walk(3))), jax.random.key(0))
