"""What presets share: how long trajectories are, and how agents learn that have seen an expert, or none."""

from arl.rollout import RolloutConfig
from arl.training import LearnerConfig, Schedule


def whole_episodes() -> RolloutConfig:
    """Trajectories and contexts as long as an episode can be."""
    return RolloutConfig(widths=((1, 6),))


def refining(num_updates: int, num_lanes: int, *, entropy: float, **options) -> LearnerConfig:
    """What agents share that have seen an expert: small steps, and advantages and gradients as they are.

    Where most episodes succeed both are small and mostly noise; to standardise the ones, or to divide the others by their own size, as Adam
    does with a small epsilon, makes steps of that noise as large as any, and what was cloned is lost.
    """
    options = {"learning_rate": Schedule(3e-4, 0.0, since=0.4), "normalize": False, "adam_epsilon": 1e-3, **options}
    return learning(num_updates, num_lanes, entropy=entropy, **options)


def learning(num_updates: int, num_lanes: int, *, entropy: float, **options) -> LearnerConfig:
    """What the presets of cognition share."""
    options = {"learning_rate": Schedule(1e-3, 0.0, since=0.4), **options}
    return LearnerConfig(
        num_updates=num_updates,
        num_lanes=num_lanes,
        microbatch=min(40, num_lanes // 4),
        entropy=Schedule(entropy, 0.0, until=0.9),
        **options,
    )
