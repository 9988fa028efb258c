"""A majority vote: each action is proposed several times, and what most proposals say is done."""

import dataclasses

import jax.numpy as jnp

from arl import text
from arl.agents import Layer, extend, insert_before_turn, without_reward
from arl.types import Kind, Segment, select


@dataclasses.dataclass(frozen=True)
class Vote(Layer):
    """Each action is proposed `num_votes` times. Own state: the turn that asks, and the votes for each action, illegal ones last."""

    num_votes: int = 3

    def wrap(self, inner, task):
        """Returns `inner` with votes."""
        again, grammar, more = text.encode(task.tokenizer, " again"), inner.grammar, self.num_votes - 1
        read, written = max(inner.size.read, again.ids.shape[0]), inner.size.written
        tokens = more * (again.ids.shape[0] + written)
        size = insert_before_turn(inner.size, segments=more, tokens=tokens, read=read, written=written)

        def ask(state, turn):
            turn = turn._replace(read=text.pad(turn.read, read))
            return state.push((turn, jnp.zeros(grammar.num_choices + 1, jnp.int32))), turn

        def advance(key, curriculum, state, segment):
            inner_state, (turn, votes) = state.pop()
            votes, is_action = votes.at[jnp.where(segment.is_legal, segment.choice, -1)].add(1), turn.kind == Kind.ACTION
            winner = jnp.argmax(votes[:-1]).astype(jnp.int32)
            elected = Segment(text.pad(text.say_choice(grammar, winner), written), winner, votes[winner] > 0)
            goes_on = ask(*inner.advance(key, curriculum, inner_state, select(is_action, elected, segment)))
            asked = without_reward(turn)._replace(read=text.pad(again, read), reset_context=jnp.bool_(False))
            return select(is_action & (votes.sum() <= more), (inner_state.push((turn, votes)), asked), goes_on)

        return extend(inner, self, start=lambda key, curriculum: ask(*inner.start(key, curriculum)), advance=advance, size=size)
