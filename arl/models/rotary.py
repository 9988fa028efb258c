"""Rotary position embeddings (Su et al. 2021, "RoFormer"), and their scaling for contexts longer than those of pretraining."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from arl.models.config import ModelConfig, RotaryScaling


def rotary(config: ModelConfig, angle_index: jax.Array, is_local: bool = False) -> tuple[jax.Array, jax.Array]:
    """Returns cosine and signed sine of the rotary angles (Su et al. 2021, eq. 34), `[B, C, 1, 1, d]` each.

    Args:
      config: config of the model.
      angle_index: int32 `[B, C]`, tokens since the start of the context.
      is_local: whether they are those of the local layers.
    """
    half = config.head_width // 2
    base, scaling = config.rotary_base, config.rotary_scaling
    if is_local and config.local_rotary_base is not None:
        base, scaling = config.local_rotary_base, None
    frequency = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if scaling is not None:
        frequency = frequency * frequency_factors(scaling, base, half)
    angle = angle_index[..., None, None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    both = jnp.concatenate([cos, cos], -1), jnp.concatenate([-sin, sin], -1)
    if scaling is not None and scaling.amplitude != 1.0:
        both = both[0] * scaling.amplitude, both[1] * scaling.amplitude
    return both[0].astype(config.dtype), both[1].astype(config.dtype)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Returns `x` `[..., d]` rotated by the angles of `cos` and `sin`; dimension `i` is paired with dimension `i + d / 2`."""
    return x * cos + jnp.roll(x, x.shape[-1] // 2, -1) * sin


def frequency_factors(scaling: RotaryScaling, base: float, half: int) -> np.ndarray:
    """Returns what each of the `d / 2` frequencies is multiplied by, float32 `[d / 2]`.

    Frequencies that turn often within the original context are kept, those that turn seldom are divided by the factor, and those between
    are interpolated: "llama3" in the number of rotations, "yarn" in the index of the pair of dimensions (Peng et al. 2023, "YaRN", section
    3.2). "linear" divides all (Chen et al. 2023, "Extending Context Window of Large Language Models via Positional Interpolation").

    Args:
      scaling: the scaling.
      base: base of the angles.
      half: pairs of dimensions of a head.
    """
    index = np.arange(half)
    if scaling.kind == "linear":
        kept = np.zeros(half)
    elif scaling.kind == "llama3":
        rotations = scaling.original_length * base ** (-index / half) / (2 * math.pi)
        kept = np.clip((rotations - scaling.slow_rotations) / (scaling.fast_rotations - scaling.slow_rotations), 0.0, 1.0)
    else:
        fast, slow = (
            half * math.log(scaling.original_length / (rotations * 2 * math.pi)) / math.log(base)
            for rotations in (scaling.fast_rotations, scaling.slow_rotations)
        )
        if scaling.truncate:
            fast, slow = math.floor(fast), math.ceil(slow)
        fast, slow = max(fast, 0), min(slow, 2 * half - 1)
        kept = 1.0 - np.clip((index - fast) / max(slow - fast, 1e-3), 0.0, 1.0)
    return (kept + (1.0 - kept) / scaling.factor).astype(np.float32)
