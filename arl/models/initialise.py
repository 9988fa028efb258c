"""Initialisation: standard deviations of the weights.

A matrix of `n` inputs has standard deviation `1 / sqrt(n)`, which keeps unit variance (LeCun et al. 1998, "Efficient BackProp", section
4.6). The `2 L` matrices that write to the residual stream are smaller by `1 / sqrt(2 L)` (Radford et al. 2019, "Language Models are
Unsupervised Multitask Learners", section 2.3). The initial policy should be nearly uniform and initial values near 0 (Andrychowicz et al.
2021, "What Matters for On-Policy Deep Actor-Critic Methods?", section 3.2), so the value head is scaled by 0.01. The output head is scaled
by 0.3 instead of their 0.01: gradients reach the trunk through it, and the larger scale helped agents to learn to write notes.

A tied embedding has the standard deviation of the output head. The matrices that write to the residual stream are then scaled by the same
factor: RMSNorm ignores the scale of the stream, so the initial function equals that of an untied model. So it is with an embedding that is
multiplied by a scale of its own.
"""

import math

from arl.models.config import ModelConfig

_HEAD_SCALE = 0.3
_VALUE_SCALE = 0.01


def head_deviation(config: ModelConfig) -> float:
    """Returns the standard deviation of the output head's weights."""
    return _HEAD_SCALE / math.sqrt(config.width)


def value_deviation(config: ModelConfig) -> float:
    """Returns the standard deviation of the value head's weights."""
    return _VALUE_SCALE / math.sqrt(config.width)


def embedding_deviation(config: ModelConfig) -> float:
    """Returns the standard deviation of the embedding, which sets the scale of the residual stream."""
    return head_deviation(config) if config.tie_embeddings else 1.0 / config.embedding_scale


def inner_deviation(config: ModelConfig) -> float:
    """Returns the standard deviation of matrices that read the normalised residual stream."""
    return 1.0 / math.sqrt(config.width)


def branch_deviation(config: ModelConfig, num_inputs: int) -> float:
    """Returns the standard deviation of a matrix of `num_inputs` inputs that writes to the residual stream."""
    stream = embedding_deviation(config) * config.embedding_scale
    return stream / math.sqrt(2 * config.num_layers * num_inputs)
