"""Standard deviations of the weights at the start.

A matrix of `n` inputs has deviation `1 / sqrt(n)` (LeCun et al. 1998, "Efficient BackProp", section 4.6), so that what is normalised goes
in and comes out at unit size. A branch that ends on the residual stream is smaller by `1 / sqrt(2 L)`, for there are `2 L` of them
(Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3). First choices should be nearly uniform and
first values near 0 (Andrychowicz et al. 2021, "What Matters for On-Policy Deep Actor-Critic Methods?", section 3.2): the value head is at
0.01 of its deviation. The output head is at 0.3 of it, not at the 0.01 that they advise: the trunk learns through it, and the larger one
helped agents to learn to write notes to themselves.

A tied embedding has the output head's deviation. The branches are then scaled by the same number: RMSNorm does not see the scale of the
residual stream, so that the model starts as the same function as an untied one.
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
    """Returns the standard deviation of the embedding, which is the size of the residual stream where it begins."""
    return head_deviation(config) if config.tie_embeddings else 1.0


def inner_deviation(config: ModelConfig) -> float:
    """Returns the standard deviation of matrices that read the normalised residual stream."""
    return 1.0 / math.sqrt(config.width)


def branch_deviation(config: ModelConfig, num_inputs: int) -> float:
    """Returns the standard deviation of a matrix of `num_inputs` inputs that writes to the residual stream."""
    return embedding_deviation(config) / math.sqrt(2 * config.num_layers * num_inputs)
