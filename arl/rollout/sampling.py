"""What a token is sampled from, and the sample. The sampler and the learner find the options of a token by the same function."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.rollout import decoding as decode
from arl.rollout import lanes as lane_steps
from arl.rollout import writers
from arl.rollout.decoding import Decoding
from arl.rollout.lanes import Lane
from arl.types import Grammar


class Sample(NamedTuple):
    """Sampled tokens of `b` lanes, and what they were sampled from, as in `Trajectory`.

    Attributes:
      token: int32 `[b]`, token ids.
      log_prob: float32 `[b]`, nats.
      has_choice: bool `[b]`, whether more than one token could be sampled.
      support: uint32 `[b, ceil(E / 32)]`, bits of the edges.
      narrowed: int32 `[b, K]`, the tokens that were left in a free state, or None.
    """

    token: jax.Array
    log_prob: jax.Array
    has_choice: jax.Array
    support: jax.Array
    narrowed: jax.Array | None


def choose(grammar: Grammar, decoding: Decoding, lanes: Lane, logits: jax.Array) -> Sample:
    """Samples the next token of each lane.

    Where a lane has the text of a writer, its next token takes the place of the sample.

    Args:
      grammar: grammar of the interaction.
      decoding: how a token is chosen.
      lanes: `[b]`.
      logits: float32 `[b, U]`, of the grammar's candidates.

    Returns:
      The sample.
    """
    state = lanes.grammar_state
    edges = text.legal_edges(grammar, state, lanes.legal) if decoding.constrained else jnp.asarray(grammar.next_state)[state] > 0
    support = decode.narrow(logits, text.support(grammar, state, edges), decoding)
    log_probs = decode.masked_log_probs(logits, support, decoding.temperature)
    column = decode.sample(jax.vmap(lane_steps.draw)(lanes), log_probs, support)
    token, has_choice = jnp.asarray(grammar.candidates)[column], jnp.sum(support, axis=-1) > 1
    if lanes.writing is not None:
        wanted = jax.vmap(functools.partial(writers.next_token, grammar))(lanes.writing.proposed, lanes.written)
        token = jnp.where(lanes.writing.author > 0, wanted, token)
        column = candidate_index(grammar.candidates, token)
    if decoding.narrows:
        edges &= jnp.take_along_axis(jnp.pad(support, ((0, 0), (0, 1))), text.edge_columns(grammar, state), axis=-1)
    return Sample(
        token=token,
        log_prob=jnp.take_along_axis(log_probs, column[:, None], axis=-1)[:, 0],
        has_choice=has_choice,
        support=text.pack(edges),
        narrowed=_keep(grammar, decoding, state, logits, support),
    )


def options(
    grammar: Grammar, state: jax.Array, support: jax.Array, narrowed: jax.Array | None, candidates: np.ndarray | None = None
) -> jax.Array:
    """Returns the candidates that tokens were sampled from.

    Args:
      grammar: grammar of the interaction.
      state: int32 `[...]`, states in which they were sampled.
      support: uint32 `[..., ceil(E / 32)]`, as in `Trajectory`.
      narrowed: int32 `[..., K]`, as in `Trajectory`.
      candidates: as in `text.support`.

    Returns:
      bool `[..., U]`.
    """
    found = text.support(grammar, state, text.unpack(support, grammar.token.shape[1]), candidates)
    if narrowed is None or candidates is not None:
        return found
    size = found.shape[-1]
    ids = jnp.where(narrowed < 0, size, narrowed).reshape(-1, narrowed.shape[-1])
    is_kept = jnp.zeros((ids.shape[0], size), bool).at[jnp.arange(ids.shape[0])[:, None], ids].set(True, mode="drop")
    return jnp.where(text.is_free(grammar, state)[..., None], is_kept.reshape(found.shape), found)


def _keep(grammar: Grammar, decoding: Decoding, state: jax.Array, logits: jax.Array, support: jax.Array) -> jax.Array | None:
    """Returns the tokens of a support `[b, U]` that a trajectory remembers in free states, as `Sample.narrowed`."""
    num_kept = decode.num_kept(grammar, decoding)
    if not num_kept:
        return None
    scores, ids = jax.lax.top_k(jnp.where(support, logits, -jnp.inf), num_kept)
    return jnp.where(text.is_free(grammar, state)[:, None] & (scores > -jnp.inf), ids, -1).astype(jnp.int32)


def candidate_index(candidates: np.ndarray, token: jax.Array) -> jax.Array:
    """Returns the indices of token ids among candidates, int32 `[...]`.

    Args:
      candidates: int32 `[U]`, token ids, ascending.
      token: int32 `[...]`; of one that is no candidate, the index has no meaning.
    """
    if np.array_equal(candidates, np.arange(len(candidates))):
        return jnp.clip(token, 0, len(candidates) - 1)
    return jnp.clip(jnp.searchsorted(jnp.asarray(candidates), token), 0, len(candidates) - 1).astype(jnp.int32)
