"""Conversion between the parameters of unrolled layers and those of `scan_layers`, which are stacked."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

_TRUNKS = ("trunk", "value_trunk")


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `params` of a model with `scan_layers` as those of the same model without it."""

    def unstack(trunk):
        num_layers = len(trunk["layers"]["out"])
        layers = {f"layers_{i}": jax.tree.map(lambda x, i=i: x[i], trunk["layers"]) for i in range(num_layers)}
        return {name: value for name, value in trunk.items() if name != "layers"} | layers

    return {name: unstack(value) if name in _TRUNKS else value for name, value in params.items()}


def stack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `params` of a model without `scan_layers` as those of the same model with it."""

    def stack(trunk):
        names = [f"layers_{i}" for i in range(sum(name.startswith("layers_") for name in trunk))]
        layers = jax.tree.map(lambda *x: jnp.stack(x), *(trunk[name] for name in names))
        return {name: value for name, value in trunk.items() if name not in names} | {"layers": layers}

    return {name: stack(value) if name in _TRUNKS else value for name, value in params.items()}
