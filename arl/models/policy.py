"""The interface of policies, language models as pure functions, and the transformer behind it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl.checks import check_key
from arl.models import cache as ring
from arl.models.config import ModelConfig
from arl.models.transformer import Transformer, soft_cap
from arl.types import ArlError


class Variables(NamedTuple):
    """The weights of a policy, pytrees of arrays.

    Attributes:
      trainable: the weights that are learned. Gradients and optimizer states are of these alone.
      frozen: the weights that never change, such as those of a pretrained model under an adapter; `()` for none. They are arguments of the
        compiled programs, seeds share them, and a checkpoint holds only their fingerprint.
    """

    trainable: Any
    frozen: Any = ()


class Policy(NamedTuple):
    """A language model as pure functions of its variables; `features` is a pytree of arrays `[B, C, ...]` for `C` tokens per lane.

    Attributes:
      init: `(key, pretrained=None) -> Variables`. `pretrained` is a dict of weights, which take the place of random ones.
      empty_cache: `(num_lanes, num_slots) -> cache`, a ring of slots for each lane.
      read: `(variables, tokens [B, C], position [B, C], context_start [B, C], is_valid [B, C], cache, lane [B] or None) -> (features,
        cache)`. Row `b` belongs to lane `lane[b]`, or to lane `b` if None. Each token attends to the positions `[context_start, position]`
        of the trajectory of its lane. Tokens that are not valid are not written to the cache.
      forward: `(variables, tokens [B, T], context_start [B, T]) -> features`, the same for whole trajectories, without a cache.
      logits: `(variables, features, candidates [U]) -> float32 [..., U]`, for the tokens in `candidates`.
      heads: functions `(variables, features) -> float32 [...]` by name. The head "value" is in the units of the scaled reward;
        "confidence", if there is one, is the probability that the present attempt succeeds.
      vocab_size: `V`, number of token ids.
      context_length: tokens of the longest context that it can read; None for any.
      axes: `variables -> variables` with tuples of names in the place of arrays, the logical axes by which they may be divided among
        devices ("vocab", "embed", "heads", "mlp", None); see `arl.training.layout`. None divides nothing.
      reference: `variables -> variables` of the reference policy of the KL, such as those without an adapter. None: a learner keeps
        a copy of the initial trainable variables.
      behaviour: `variables -> variables` with which lanes are rolled out, such as weights rounded to int8; computed once per update. They
        may have any form that the other functions take. None for the same variables.
    """

    init: Callable[..., Variables]
    empty_cache: Callable[[int, int], Any]
    read: Callable[..., tuple[Any, Any]]
    forward: Callable[[Any, jax.Array, jax.Array], Any]
    logits: Callable[[Any, Any, jax.Array], jax.Array]
    heads: Mapping[str, Callable[[Any, Any], jax.Array]]
    vocab_size: int
    context_length: int | None = None
    axes: Callable[[Variables], Any] | None = None
    reference: Callable[[Variables], Any] | None = None
    behaviour: Callable[[Variables], Any] | None = None

    def value(self, variables: Any, features: Any) -> jax.Array:
        """Applies the head "value".

        Args:
          variables: variables of the policy.
          features: features of `[...]` tokens.

        Returns:
          float32 `[...]`, in the units of the scaled reward.
        """
        return self.heads["value"](variables, features)


def make_policy(config: ModelConfig) -> Policy:
    """Returns a transformer, all of whose weights are trainable.

    Its features are `[B, C, D]` of `config.dtype`; with `separate_value_trunk` a pair of such arrays, for the output head and the value
    head. All tokens of a context must have the same `context_start`, and no context may be longer than `config.context_length`.

    Args:
      config: config of the model.

    Returns:
      The policy.

    Raises:
      ArlError: if `config` is no `ModelConfig`.
    """
    if not isinstance(config, ModelConfig):
        raise ArlError(f"the model is {config!r}; give a ModelConfig, such as models.preset('0.1M', vocab_size=len(tokenizer))")
    module = Transformer(config)

    @functools.partial(jax.jit, static_argnums=1)  # jitted so that the bits are the same inside and outside of a caller's jit
    def random_weights(key, replaced=()):
        tokens = jnp.zeros((1, 1), jnp.int32)
        weights = module.init(key, tokens, tokens, method="forward")["params"]
        return {name: value for name, value in weights.items() if name not in replaced}  # what is replaced takes no memory

    def init(key, pretrained=None):
        check_key(key)
        if not pretrained:
            return Variables(random_weights(key))
        _check_form(jax.eval_shape(random_weights, key), pretrained)
        weights = random_weights(key, tuple(sorted(pretrained)))
        return Variables({**weights, **jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), dict(pretrained))})

    def empty_cache(num_lanes, num_slots):
        num_trunks = 2 if config.separate_value_trunk else 1
        caches = tuple(ring.empty_cache(config, num_lanes, num_slots) for _ in range(num_trunks))
        return caches if config.separate_value_trunk else caches[0]

    def read(variables, tokens, position, context_start, is_valid, cache, lane=None):
        return module.apply({"params": variables.trainable}, tokens, position, context_start, is_valid, cache, lane, method="read")

    def forward(variables, tokens, context_start):
        return module.apply({"params": variables.trainable}, tokens, context_start, method="forward")

    def logits(variables, features, candidates):
        weights = variables.trainable
        table = weights["trunk"]["embedding"] if config.tie_embeddings else weights["head"]
        hidden = features[0] if config.separate_value_trunk else features
        rows = hidden.reshape(-1, config.width)  # flattened for a faster gradient, see `transformer.product`
        scores = jnp.matmul(rows, _rows(table, candidates).astype(hidden.dtype).T, preferred_element_type=jnp.float32)
        return soft_cap(scores, config.logit_cap).reshape(*hidden.shape[:-1], -1)

    def value(variables, features):
        hidden = features[1] if config.separate_value_trunk else features
        return jnp.matmul(hidden.astype(jnp.float32), variables.trainable["value_head"])

    def confidence(variables, features):
        hidden = features[0] if config.separate_value_trunk else features
        return jax.nn.sigmoid(jnp.matmul(hidden.astype(jnp.float32), variables.trainable["confidence_head"]))

    heads = {"value": value, **({"confidence": confidence} if config.confidence_head else {})}
    return Policy(init, empty_cache, read, forward, logits, heads, config.vocab_size, config.context_length, axes)


AXES = {
    "embedding": ("vocab", "embed"),
    "head": ("vocab", "embed"),
    "value_head": ("embed",),
    "confidence_head": ("embed",),
    "norm": ("embed",),
    "attention_norm": ("embed",),
    "feed_forward_norm": ("embed",),
    "attention_post_norm": ("embed",),
    "feed_forward_post_norm": ("embed",),
    "qkv": ("embed", "heads", None, None),
    "qkv_bias": ("heads", None, None),
    "out": ("heads", "embed"),
    "gate_up": ("embed", None, "mlp"),
    "down": ("mlp", "embed"),
}
"""Logical axes of the transformer's weights, by name."""


def axes(variables: Variables) -> Variables:
    """Returns the logical axes of a transformer's weights, see `Policy.axes`; those of other names, as of an adapter, have none."""
    return jax.tree_util.tree_map_with_path(lambda path, x: AXES.get(path[-1].key, (None,) * len(x.shape)), variables)


def _check_form(weights: dict, pretrained: Mapping[str, Any]) -> None:
    """Raises `ArlError` if a name or a shape of pretrained weights does not fit those of the model."""
    if not isinstance(pretrained, Mapping):
        raise ArlError(f"the pretrained weights are a {type(pretrained).__name__}; give a dict, such as Variables.trainable")
    wanted, found = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(x) for path, x in jax.tree.leaves_with_path(tree)}
        for tree in (weights, {**weights, **pretrained})
    )
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        name = wrong[0]
        if name not in wanted or name not in found:
            what, do = ("no", "add") if name in wanted else ("an unknown", "remove")
            raise ArlError(f"the pretrained weights have {what} {name}; {do} it")
        raise ArlError(f"the pretrained weights have {name} of shape {found[name]}; give them in the model's shape {wanted[name]}")


def _rows(table: jax.Array, candidates: np.ndarray | jax.Array) -> jax.Array:
    """Returns the rows of `table` `[V, D]` at `candidates` `[U]`; without a gather if they are the first rows in order."""
    if isinstance(candidates, np.ndarray):
        if candidates.size and not 0 <= candidates.min() <= candidates.max() < len(table):
            raise ArlError(
                f"candidates are outside a vocabulary of {len(table)} tokens; set ModelConfig.vocab_size to that of the tokenizer"
            )
        if np.array_equal(candidates, np.arange(len(candidates))):
            return table[: len(candidates)]
    return table[candidates]
