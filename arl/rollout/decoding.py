"""Decoding: from logits to the distribution that a token is sampled from, and its log-prob under that distribution."""

import dataclasses

import jax
import jax.numpy as jnp

from arl.checks import Checked
from arl.types import ArlError, Grammar

MOST_KEPT = 1024  # tokens that a position of a trajectory can remember beside the grammar's state


@dataclasses.dataclass(frozen=True)
class Decoding(Checked):
    """How a token is chosen.

    Attributes:
      temperature: divides the logits; 0 is greedy.
      top_k: number of the most probable candidates that are kept; 0 keeps all.
      top_p: the most probable candidates are kept until their probabilities add up to it (nucleus sampling, arXiv:1904.09751).
      min_p: candidates less probable than `min_p` times the most probable one are dropped (arXiv:2407.01082).
      constrained: whether only legal candidates are sampled; otherwise all are, and a text may be illegal.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    constrained: bool = True

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.temperature < float("inf"):
            raise ArlError(f"temperature {self.temperature} is negative or no number; set Decoding.temperature >= 0 (0 is greedy)")
        if self.top_k < 0:
            raise ArlError(f"top_k {self.top_k} is negative; set Decoding.top_k >= 0 (0 keeps all)")
        if not 0 < self.top_p <= 1:
            raise ArlError(f"top_p {self.top_p} is no probability; set 0 < Decoding.top_p <= 1")
        if not 0 <= self.min_p < 1:
            raise ArlError(f"min_p {self.min_p} is no probability below 1; set 0 <= Decoding.min_p < 1")

    @property
    def narrows(self) -> bool:
        """Whether it may drop candidates that the grammar allows."""
        return self.temperature == 0 or self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def masked_log_probs(logits: jax.Array, support: jax.Array, temperature: float) -> jax.Array:
    """Returns log-probs renormalised over a support; the sampler and the learner share it.

    Args:
      logits: float32 `[..., U]`.
      support: bool `[..., U]`, at least one candidate.
      temperature: divides the logits; 0 counts as 1 (greedy decoding has a support of one candidate).

    Returns:
      float32 `[..., U]`, nats; a large negative number outside the support.
    """
    scaled = logits.astype(jnp.float32) / (temperature or 1.0)
    return jax.nn.log_softmax(jnp.where(support, scaled, -1e30), axis=-1)


def num_kept(grammar: Grammar, decoding: Decoding) -> int:
    """Returns `K`, the most tokens that decoding keeps in a free state; 0 if it does not narrow, or if no state is free."""
    if not grammar.num_tokens or not decoding.narrows:
        return 0
    if decoding.temperature == 0:
        return 1
    return min(decoding.top_k or grammar.num_tokens, grammar.num_tokens)


def narrow(logits: jax.Array, support: jax.Array, decoding: Decoding) -> jax.Array:
    """Returns the candidates of a support that greedy decoding, top-k, top-p and min-p keep.

    Args:
      logits: float32 `[..., U]`.
      support: bool `[..., U]`.
      decoding: which candidates to keep.

    Returns:
      bool `[..., U]`, at least one candidate where `support` has one.
    """
    num_candidates = logits.shape[-1]
    if decoding.temperature == 0:
        best = jnp.argmax(jnp.where(support, logits, -jnp.inf), axis=-1)
        return best[..., None] == jnp.arange(num_candidates)
    needs_order = 0 < decoding.top_k < num_candidates or decoding.top_p < 1
    if not needs_order and decoding.min_p == 0:
        return support
    log_probs = masked_log_probs(logits, support, decoding.temperature)
    kept = support
    if needs_order:
        order = jnp.argsort(-log_probs, axis=-1, stable=True)
        rank = jnp.argsort(order, axis=-1, stable=True)
        if 0 < decoding.top_k < num_candidates:
            kept &= rank < decoding.top_k
        if decoding.top_p < 1:
            probs = jnp.exp(jnp.take_along_axis(log_probs, order, -1))
            before = jnp.take_along_axis(jnp.cumsum(probs, -1) - probs, rank, -1)
            kept &= before < decoding.top_p
    if decoding.min_p > 0:
        kept &= log_probs >= jnp.max(log_probs, -1, keepdims=True) + jnp.log(decoding.min_p)
    return kept


def sample(uniform: jax.Array, log_probs: jax.Array, support: jax.Array) -> jax.Array:
    """Samples a candidate by inverting the cumulative distribution, from one uniform number per lane.

    Args:
      uniform: float32 `[...]` in [0, 1).
      log_probs: float32 `[..., U]`, nats.
      support: bool `[..., U]`, at least one candidate.

    Returns:
      int32 `[...]`, index of a candidate of the support.
    """
    probs = jnp.where(support, jnp.exp(log_probs), 0.0)
    # A parallel sum may rise by a rounding error where nothing is added; a candidate of probability 0 must not be reached.
    cumulative = jnp.where(probs > 0, jnp.cumsum(probs, axis=-1), 0.0)
    total = jnp.max(cumulative, axis=-1, keepdims=True)
    # Rounding must not push the target to the total, where no candidate lies beyond it.
    target = jnp.minimum(uniform[..., None] * total, jnp.nextafter(total, jnp.zeros_like(total)))
    return jnp.argmax(cumulative > target, axis=-1).astype(jnp.int32)
