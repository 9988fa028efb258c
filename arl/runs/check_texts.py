"""Texts with which the checker answers a turn: random legal ones, random ids, and those of the agent's experts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.types import Grammar, Interaction, Segment, State, Text, Turn, select

LEGAL, MIXED, ILLEGAL, EXPERT = range(4)  # ways to write: `MIXED` flips a coin between the first and the third
ACCEPTED, REFUSED, TOO_LONG = range(3)  # what becomes of an expert's text
_GO_ON = 0.9  # probability that free text goes on where it could follow an edge, such as to stop


class Written(NamedTuple):
    """A segment, and how it was written.

    Attributes:
      segment: the segment.
      num_tokens: int32 `[]`, tokens sampled or forced, a stop token included.
      num_last: int32 `[]`, how many of these were written last, with the last sampled one: they are not read before a new context.
      verdict: int32 `[]`, what becomes of the expert's text; `ACCEPTED` where no expert writes.
    """

    segment: Segment
    num_tokens: jax.Array
    num_last: jax.Array
    verdict: jax.Array


def write(agent: Interaction, key: jax.Array, way: jax.Array, stops: jax.Array, state: State, turn: Turn, *, with_experts: bool) -> Written:
    """Writes the segment of a turn, for one lane.

    Args:
      agent: the agent.
      key: random key.
      way: int32 `[]`, `LEGAL`, `MIXED`, `ILLEGAL` or `EXPERT`.
      stops: bool `[]`, whether free text may stop before its budget is used up.
      state: state of the agent.
      turn: the turn.
      with_experts: whether the agent's experts are asked at all.

    Returns:
      The segment.
    """
    key_legal, key_any, key_coin, key_expert = jax.random.split(key, 4)
    legal, num_tokens, num_last = _legal_text(agent.grammar, agent.size.written, key_legal, stops, turn)
    anything = _any_text(agent.size.written, vocab_size_of(agent), key_any, turn)
    is_any = (way == ILLEGAL) | ((way == MIXED) & (jax.random.uniform(key_coin) < 0.5))
    said = select(is_any, anything, legal)
    num_tokens = jnp.where(is_any, said.length, num_tokens)
    num_last = jnp.where(is_any, 1, num_last)
    verdict = jnp.int32(ACCEPTED)
    if with_experts and agent.experts:
        by_expert, judged, has_expert = _expert_text(agent, key_expert, state, turn)
        verdict = jnp.where((way == EXPERT) & has_expert, judged, ACCEPTED)
        is_by_expert = (way == EXPERT) & has_expert & (judged == ACCEPTED)
        said = select(is_by_expert, by_expert, said)
        num_tokens = jnp.where(is_by_expert, said.length, num_tokens)
        num_last = jnp.where(is_by_expert, said.length, num_last)
    return Written(_parse(agent.grammar, turn, said), num_tokens, num_last, verdict)


def vocab_size_of(agent: Interaction) -> int:
    """Returns the number of token ids of an agent: that of its tokenizer, or else as many as its grammar knows.

    Args:
      agent: the agent.
    """
    return len(agent.task.tokenizer) if agent.task else int(agent.grammar.candidates.max()) + 1


def extent(said: Text) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns length, smallest and largest token id of a text, int32 `[]` each; ids of 0 for an empty one.

    Args:
      said: the text.
    """
    is_said = jnp.arange(said.ids.shape[0]) < said.length
    first = said.ids[0] if said.ids.shape[0] else 0
    ids = jnp.where(is_said, said.ids, jnp.where(jnp.any(is_said), first, 0)).astype(jnp.int32)
    lowest, highest = (jnp.min(ids), jnp.max(ids)) if said.ids.shape[0] else (jnp.int32(0), jnp.int32(0))
    return jnp.asarray(said.length, jnp.int32), lowest, highest


def can_write(grammar: Grammar, turn: Turn) -> jax.Array:
    """Returns whether some token can begin the segment of a turn, bool `[]`.

    Args:
      grammar: grammar of the turn.
      turn: the turn.
    """
    return jnp.any(text.legal_edges(grammar, turn.grammar_state, turn.legal)) | text.is_free(grammar, turn.grammar_state)


def _parse(grammar: Grammar, turn: Turn, said: Text) -> Segment:
    end = text.reach(grammar, turn.grammar_state, said)
    is_legal = text.accepts(grammar, end, turn.legal)
    return Segment(said, jnp.where(is_legal, jnp.asarray(grammar.choice)[end], -1), is_legal)


def _legal_text(grammar: Grammar, capacity: int, key: jax.Array, stops: jax.Array, turn: Turn) -> tuple[Text, jax.Array, jax.Array]:
    """Returns a random text, of uniform legal tokens, and `num_tokens` and `num_last` as in `Written`."""
    free_ids, num_free = _free_tokens(grammar)

    def token(carry, key):
        state, is_over, num_tokens, num_last = carry
        key_edge, key_free, key_goes_on = jax.random.split(key, 3)
        edges = text.legal_edges(grammar, state, turn.legal)
        edges = edges & (stops | (jnp.asarray(grammar.token)[state] != grammar.stop_id) | ~_may_go_on(grammar, state))
        edge = jax.random.categorical(key_edge, jnp.where(edges, 0.0, -jnp.inf))
        chosen, row = jnp.asarray(grammar.token)[state, edge], jnp.asarray(grammar.mask_index)[state]
        if grammar.num_tokens:
            index = jax.random.randint(key_free, (), 0, num_free[row])
            takes_free = (row >= 0) & (~jnp.any(edges) | (jax.random.uniform(key_goes_on) < _GO_ON))
            chosen = jnp.where(takes_free, free_ids[jnp.maximum(row, 0), index], chosen)
        is_over |= (num_tokens >= turn.budget) | ~(jnp.any(edges) | (row >= 0))
        is_forced = (jnp.asarray(grammar.forced_length)[state] > 0) & (num_tokens > 0)
        after = text.follow(grammar, state, chosen)
        num_last = jnp.where(is_over, num_last, jnp.where(is_forced, num_last + 1, 1))
        num_tokens = num_tokens + ~is_over
        said = jnp.where(is_over, grammar.stop_id, chosen)
        carry = jnp.where(is_over, state, after), is_over | (said == grammar.stop_id), num_tokens, num_last
        return carry, (said, ~is_over & (said != grammar.stop_id))

    begin = (turn.grammar_state, jnp.bool_(False), jnp.int32(0), jnp.int32(0))
    carry, (ids, is_said) = jax.lax.scan(token, begin, jax.random.split(key, capacity))
    return Text(jnp.where(is_said, ids, 0), jnp.sum(is_said, dtype=jnp.int32)), carry[2], carry[3]


def _may_go_on(grammar: Grammar, state: jax.Array) -> jax.Array:
    """Returns whether a state is one of free text, which leads to itself, bool `[]`."""
    loops = (jnp.asarray(grammar.next_state)[state] == state) & (state > 0)
    return jnp.any(loops) | text.is_free(grammar, state)


def _free_tokens(grammar: Grammar) -> tuple[jax.Array, jax.Array]:
    """Returns the tokens of each mask, int32 `[F, n]`, and their numbers, int32 `[F]`."""
    rows = {int(row): text.mask_tokens(grammar, state) for state, row in enumerate(grammar.mask_index) if row >= 0}
    if not rows:
        return jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32)
    table = np.zeros((len(rows), max(map(len, rows.values()))), np.int32)
    for row, ids in rows.items():
        table[row, : len(ids)] = ids
    return jnp.asarray(table), jnp.asarray([len(rows[row]) for row in range(len(rows))], jnp.int32)


def _any_text(capacity: int, vocab_size: int, key: jax.Array, turn: Turn) -> Text:
    """Returns a text of 1 to `budget` random token ids."""
    key_ids, key_length = jax.random.split(key)
    most = jnp.clip(turn.budget, 1, max(capacity, 1))
    length = 1 + jax.random.randint(key_length, (), 0, most)
    return Text(jax.random.randint(key_ids, (capacity,), 0, vocab_size), jnp.where(turn.budget > 0, length, 0).astype(jnp.int32))


def _expert_text(agent: Interaction, key: jax.Array, state: State, turn: Turn) -> tuple[Text, jax.Array, jax.Array]:
    """Returns what the expert of a turn's kind writes, what becomes of it, int32 `[]`, and whether there is such an expert, bool `[]`."""
    capacity = agent.size.written
    said, length, has_expert = text.empty(capacity), jnp.int32(0), jnp.bool_(False)
    said = Text(said.ids, jnp.int32(0))
    for kind, expert in agent.experts.items():
        written: Any = expert(key, state, jnp.int32(0))  # layers fill in the attempts
        fitted = text.pad(text.cut(written, capacity), capacity)
        fitted = Text(jnp.asarray(fitted.ids, jnp.int32), jnp.asarray(fitted.length, jnp.int32))
        said = select(turn.kind == kind, fitted, said)
        length = jnp.where(turn.kind == kind, jnp.asarray(written.length, jnp.int32), length)
        has_expert |= turn.kind == kind
    is_legal = _parse(agent.grammar, turn, said).is_legal
    verdict = jnp.where(length > turn.budget, TOO_LONG, jnp.where(is_legal, ACCEPTED, REFUSED))
    return said, verdict, has_expert
