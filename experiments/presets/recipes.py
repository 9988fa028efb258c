"""What presets share: the length of trajectories, and learning with and without a warm start."""

from arl.rollout import RolloutConfig
from arl.training import LearnerConfig, Schedule


def whole_episodes() -> RolloutConfig:
    """Trajectories and contexts as long as the longest episode."""
    return RolloutConfig(widths=((1, 6),))


def refining(num_updates: int, num_lanes: int, *, entropy: float, **options) -> LearnerConfig:
    """Learning after a warm start: a small learning rate, advantages that are not standardised, and a large Adam epsilon.

    When most episodes succeed, advantages and gradients are small and mostly noise. Standardised advantages, or Adam with a small epsilon,
    would scale that noise up to full steps, and the cloned behaviour would be lost.
    """
    options = {"learning_rate": Schedule(3e-4, 0.0, since=0.4), "normalize": False, "adam_epsilon": 1e-3, **options}
    return learning(num_updates, num_lanes, entropy=entropy, **options)


def learning(num_updates: int, num_lanes: int, *, entropy: float, **options) -> LearnerConfig:
    """Learning in the presets of cognition."""
    options = {"learning_rate": Schedule(1e-3, 0.0, since=0.4), **options}
    return LearnerConfig(
        num_updates=num_updates,
        num_lanes=num_lanes,
        microbatch_size=min(40, num_lanes // 4),
        entropy_weight=Schedule(entropy, 0.0, until=0.9),
        **options,
    )
