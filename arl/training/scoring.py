"""Scores of the tokens of trajectories: log-probs, entropies and values under given parameters.

Where a grammar has free states and the vocabulary is large, its logits are computed in chunks of slots under `jax.checkpoint`, so that no
array of slots x vocabulary exists. The slots of each lane are sorted first: those in free states, those in other states, which need the
logits of a few tokens alone, and those without a sampled token, which need none.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arl import objectives, text
from arl.models import Policy
from arl.rollout import masked_log_probs
from arl.rollout.sampling import candidate_index, options
from arl.types import Grammar, Trajectory

CHUNK_LOGITS = 2**22  # logits of a chunk, which has a slot of each lane at least
_FREE, _STRING, _NONE = 0, 1, 2  # kinds of slots


class Slots(NamedTuple):
    """Slots to score, `[...]`, with fields as in `Trajectory`.

    Attributes:
      features: features of the policy.
      sampled: int32.
      state: int32.
      support: uint32 `[..., ceil(E / 32)]`.
      narrowed: int32 `[..., K]`, or None.
    """

    features: Any
    sampled: jax.Array
    state: jax.Array
    support: jax.Array
    narrowed: jax.Array | None


def score(
    policy: Policy, grammar: Grammar, variables: Any, trajectory: Trajectory, temperature: float
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Scores the sampled tokens of a trajectory with new parameters, over the supports that they were sampled from.

    Args:
      policy: the policy that wrote them.
      grammar: grammar of the interaction.
      variables: variables to score with.
      trajectory: `[B, T]`.
      temperature: temperature of the decoding.

    Returns:
      Log-prob of the sampled token, nats; entropy of its distribution, nats; and the policy's heads by name, such as "value", in the units
      of the scaled reward; float32 `[B, T]` each. Log-prob and entropy have no meaning where no token was sampled.
    """
    features = policy.forward(variables, trajectory.token, trajectory.context_start)
    slots = Slots(features, trajectory.sampled, trajectory.grammar_state, trajectory.support, trajectory.narrowed)
    score_slots = functools.partial(_score_slots, policy, grammar, temperature)
    if grammar.num_tokens * trajectory.token.size > CHUNK_LOGITS:
        log_prob, entropy = _score_in_chunks(score_slots, grammar, variables, slots, trajectory.is_sampled)
    else:
        log_prob, entropy = score_slots(None, variables, slots)
    return log_prob, entropy, {name: head(variables, features) for name, head in policy.heads.items()}


def _score_slots(policy, grammar: Grammar, temperature: float, candidates, variables, slots: Slots) -> tuple[jax.Array, jax.Array]:
    """Returns log-prob and entropy of slots; `candidates` as in `text.support`."""
    support = options(grammar, slots.state, slots.support, slots.narrowed, candidates)
    candidates = grammar.candidates if candidates is None else candidates
    log_probs = masked_log_probs(policy.logits(variables, slots.features, candidates), support, temperature)
    log_prob = jnp.take_along_axis(log_probs, candidate_index(candidates, slots.sampled)[..., None], -1)[..., 0]
    return log_prob, objectives.categorical_entropy(log_probs, support)


def _score_in_chunks(score_slots, grammar: Grammar, variables, slots: Slots, is_sampled: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `_score_slots`, for slots `[B, T]`: each lane's are sorted by kind, then a few columns are scored at a time."""
    num_lanes, length = is_sampled.shape
    width = max(1, min(length, CHUNK_LOGITS // (grammar.num_tokens * num_lanes)))
    kind = jnp.where(is_sampled, jnp.where(text.is_free(grammar, slots.state), _FREE, _STRING), _NONE)
    order = jnp.argsort(kind, axis=1, stable=True)
    columns = _in_columns(order, width, 0)
    kinds = _in_columns(jnp.take_along_axis(kind, order, axis=1), width, _NONE)
    nothing = lambda variables, slots: (jnp.zeros((num_lanes, width)), jnp.zeros((num_lanes, width)))
    of_kind = [
        functools.partial(score_slots, None),
        functools.partial(score_slots, grammar.edge_tokens) if len(grammar.edge_tokens) else nothing,
        nothing,
    ]

    @jax.checkpoint  # around the whole step: residuals of a branch would be kept for each chunk, parameters among them
    def score_chunk(_, chunk):
        column, kind = chunk
        part = jax.tree.map(lambda x: jnp.take_along_axis(x, column.reshape(*column.shape, *[1] * (x.ndim - 2)), axis=1), slots)
        return None, jax.lax.switch(jnp.min(kind), of_kind, variables, part)

    _, scores = jax.lax.scan(score_chunk, None, (columns, kinds))
    place = jnp.argsort(order, axis=1)
    log_prob, entropy = (jnp.take_along_axis(x.swapaxes(0, 1).reshape(num_lanes, -1), place, axis=1) for x in scores)
    return log_prob, entropy


def _in_columns(x: jax.Array, width: int, fill: int) -> jax.Array:
    """Returns `[B, T]` as chunks of columns, `[ceil(T / width), B, width]`, the last one filled up."""
    num_lanes, length = x.shape
    num_chunks = -(-length // width)
    padded = jnp.pad(x, ((0, 0), (0, num_chunks * width - length)), constant_values=fill)
    return padded.reshape(num_lanes, num_chunks, width).swapaxes(0, 1)
